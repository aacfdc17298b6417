//! The servers under test as one type: start on a fresh directory, what they cost, where their data lies.
//!
//! Invariant: a server that is dropped is killed. Read [`super::round`] next.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::broker::{Broker, Options};
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
    Kafka(Kafka),
    Sink(Process, SocketAddr),
}

/// A running server.
pub(crate) struct Server {
    running: Running,
    data: PathBuf,
    started_in: Duration,
}

impl Server {
    /// Starts one on `directory`, which is empty.
    pub(crate) fn start(programs: &Programs, kind: Kind, directory: &Path) -> Result<Self> {
        let data = directory.join("data");
        let begin = Instant::now();
        let (running, started_in) = match kind {
            Kind::Quipu => {
                let binary = programs.quipu.clone().ok_or_else(|| Failure::new("no quipu binary was built"))?;
                let broker = Broker::start_with(Options::with_binary(binary, &data))?;
                (Running::Quipu(broker), begin.elapsed())
            }
            Kind::Kafka | Kind::KafkaFlush => {
                let settings: &[&str] = if kind == Kind::Kafka { &[] } else { &["log.flush.interval.messages=1"] };
                let jars = programs.jars.as_ref().ok_or_else(|| Failure::new("Apache Kafka was not fetched"))?;
                let kafka = Kafka::start(jars, directory, settings)?;
                // Without the time that formatting the directory took.
                let started_in = kafka.started_in();
                (Running::Kafka(kafka), started_in)
            }
            Kind::Sink => {
                let (process, address) = start_sink(&programs.load, directory)?;
                (Running::Sink(process, address), begin.elapsed())
            }
        };
        Ok(Self { running, data, started_in })
    }

    /// From its start until it was ready.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Where it listens.
    pub(crate) fn bootstrap(&self) -> String {
        match &self.running {
            Running::Quipu(broker) => broker.bootstrap(),
            Running::Kafka(kafka) => kafka.address().to_string(),
            Running::Sink(_, address) => address.to_string(),
        }
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_seconds(&mut self) -> Result<f64> {
        self.process().cpu_seconds()
    }

    /// Its memory.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        self.process().memory()
    }

    fn process(&mut self) -> &mut Process {
        match &mut self.running {
            Running::Quipu(broker) => broker.process(),
            Running::Kafka(kafka) => kafka.process(),
            Running::Sink(process, _) => process,
        }
    }

    /// Ends it in good order.
    pub(crate) fn stop(self) -> Result<()> {
        match self.running {
            Running::Quipu(mut broker) => {
                let status = broker.stop()?;
                if status.success() { Ok(()) } else { Err(Failure::new(format!("quipu ended with {status}"))) }
            }
            Running::Kafka(mut kafka) => kafka.stop(),
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
