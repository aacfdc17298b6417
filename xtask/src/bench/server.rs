//! The servers under test as one type: start on a fresh directory, what they cost, where their data lies.
//!
//! Invariant: a server that is dropped is killed. Read [`super::round`] next.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::cluster::Cluster;
use quipu_testkit::kafka::Kafka;
use quipu_testkit::process::{Memory, Process};
use quipu_testkit::{Failure, Result};

use super::Programs;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Ours: fsync before every acknowledgement.
    Quipu,
    /// Apache Kafka as it comes: no fsync.
    Kafka,
    /// Apache Kafka with an fsync for every batch.
    KafkaFlush,
    /// Canned replies: the client's ceiling.
    Sink,
}

impl Kind {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quipu => "quipu",
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka+flush",
            Self::Sink => "sink",
        }
    }
}

enum Running {
    Quipu(Broker),
    QuipuCluster(Cluster),
    /// One node or several.
    Kafka(Vec<Kafka>),
    Sink(Process, SocketAddr),
}

/// A running server: one node, or a cluster.
pub(crate) struct Server {
    running: Running,
    data: PathBuf,
    nodes: usize,
    started_in: Duration,
}

impl Server {
    /// Starts one node on `directory`, which is empty.
    pub(crate) fn start(programs: &Programs, kind: Kind, directory: &Path) -> Result<Self> {
        Self::start_nodes(programs, kind, directory, 1)
    }

    /// Starts one node on `directory` with these broker configs, which both kinds of server know.
    pub(crate) fn start_with(
        programs: &Programs,
        kind: Kind,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_set(programs, kind, directory, 1, settings)
    }

    /// Starts a cluster of `nodes` nodes on `directory`, which is empty; a sink is always one.
    pub(crate) fn start_nodes(programs: &Programs, kind: Kind, directory: &Path, nodes: usize) -> Result<Self> {
        Self::start_set(programs, kind, directory, nodes, &[])
    }

    fn start_set(
        programs: &Programs,
        kind: Kind,
        directory: &Path,
        nodes: usize,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let data = directory.join("data");
        let begin = Instant::now();
        let (running, started_in) = match kind {
            Kind::Quipu => {
                let binary = programs.quipu.clone().ok_or_else(|| Failure::new("no quipu binary was built"))?;
                if nodes == 1 {
                    let file = directory.join("settings.toml");
                    let lines: String = settings.iter().map(|(key, value)| format!("\"{key}\" = {value}\n")).collect();
                    std::fs::write(&file, format!("[defaults]\n{lines}")).map_err(Failure::context(file.display()))?;
                    let options =
                        Options::with_binary(binary, &data).arguments(["--config".into(), file.into_os_string()]);
                    let broker = Broker::start_with(options)?;
                    (Running::Quipu(broker), begin.elapsed())
                } else {
                    std::fs::create_dir_all(&data).map_err(Failure::context(data.display()))?;
                    let cluster = Cluster::start(&binary, &data, nodes)?;
                    let started_in = cluster.started_in();
                    (Running::QuipuCluster(cluster), started_in)
                }
            }
            Kind::Kafka | Kind::KafkaFlush => {
                let mut lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
                lines.extend((kind == Kind::KafkaFlush).then(|| "log.flush.interval.messages=1".to_owned()));
                let settings: Vec<&str> = lines.iter().map(String::as_str).collect();
                let jars = programs.jars.as_ref().ok_or_else(|| Failure::new("Apache Kafka was not fetched"))?;
                let each = |node: usize| if nodes == 1 { directory.into() } else { data.join(format!("n{node}")) };
                let directories: Vec<PathBuf> = (1..=nodes).map(each).collect();
                let kafka = Kafka::start_cluster(jars, &directories, &settings)?;
                // Without the time that formatting the directories took.
                let started_in = kafka.iter().map(Kafka::started_in).max().unwrap_or_default();
                (Running::Kafka(kafka), started_in)
            }
            Kind::Sink => {
                let (process, address) = start_sink(&programs.load, directory)?;
                (Running::Sink(process, address), begin.elapsed())
            }
        };
        let nodes = if kind == Kind::Sink { 1 } else { nodes };
        Ok(Self { running, data, nodes, started_in })
    }

    /// From its start until it was ready.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Where its nodes listen.
    pub(crate) fn addresses(&mut self) -> Vec<SocketAddr> {
        match &mut self.running {
            Running::Quipu(broker) => vec![broker.address()],
            Running::QuipuCluster(cluster) => cluster.nodes().iter().map(Broker::address).collect(),
            Running::Kafka(nodes) => nodes.iter().map(Kafka::address).collect(),
            Running::Sink(_, address) => vec![*address],
        }
    }

    /// The same, as clients take it.
    pub(crate) fn bootstrap(&mut self) -> String {
        self.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Its data directory; a cluster's nodes have theirs in it, `n1`, `n2` and so on.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Its nodes' process ids.
    pub(crate) fn pids(&mut self) -> Vec<u32> {
        self.processes().into_iter().map(|process| process.pid()).collect()
    }

    /// CPU seconds used so far, by all nodes.
    pub(crate) fn cpu_seconds(&mut self) -> Result<f64> {
        self.processes().into_iter().map(|process| process.cpu_seconds()).sum()
    }

    /// Its memory; of several nodes the highest of each figure.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        let mut highest = Memory { resident_bytes: 0, peak_bytes: 0 };
        for process in self.processes() {
            let memory = process.memory()?;
            highest.resident_bytes = highest.resident_bytes.max(memory.resident_bytes);
            highest.peak_bytes = highest.peak_bytes.max(memory.peak_bytes);
        }
        Ok(highest)
    }

    /// The process of the node with this id; ids begin with 1.
    pub(crate) fn node(&mut self, id: usize) -> &mut Process {
        self.processes().swap_remove(id - 1)
    }

    /// Starts the node with this id again, which has ended.
    pub(crate) fn restart(&mut self, id: usize) -> Result<()> {
        match &mut self.running {
            Running::Quipu(broker) => broker.restart(),
            Running::QuipuCluster(cluster) => cluster.nodes()[id - 1].restart(),
            Running::Kafka(nodes) => nodes[id - 1].restart(),
            Running::Sink(..) => Err(Failure::new("a sink is not started again")),
        }
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        match &mut self.running {
            Running::Quipu(broker) => vec![broker.process()],
            Running::QuipuCluster(cluster) => cluster.nodes().iter_mut().map(Broker::process).collect(),
            Running::Kafka(nodes) => nodes.iter_mut().map(Kafka::process).collect(),
            Running::Sink(process, _) => vec![process],
        }
    }

    /// Ends it in good order.
    pub(crate) fn stop(self) -> Result<()> {
        match self.running {
            Running::Quipu(mut broker) => {
                let status = broker.stop()?;
                if status.success() { Ok(()) } else { Err(Failure::new(format!("quipu ended with {status}"))) }
            }
            Running::QuipuCluster(cluster) => cluster.stop(),
            Running::Kafka(mut nodes) => {
                // All at once: a node that cannot hand over waits for the others.
                nodes.iter_mut().try_for_each(|node| node.process().terminate())?;
                nodes.iter_mut().try_for_each(|node| node.process().wait(Duration::from_secs(120)).map(drop))
            }
            Running::Sink(mut process, _) => {
                process.kill();
                Ok(())
            }
        }
    }
}

fn start_sink(load: &Path, directory: &Path) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(load);
    command.arg("sink");
    let mut process = Process::spawn("sink", command, &directory.join("sink.log"))?;
    let ready = |line: &str| line.strip_prefix("sink: ready on ")?.parse().ok();
    let address = process.wait_for_line(Duration::from_secs(10), ready)?;
    Ok((process, address))
}
