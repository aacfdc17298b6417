//! What is measured of three nodes with three replicas of each partition, two of which make a quorum: throughput, latencies, and
//! what the loss of a node costs.
//!
//! Gaps are the longest times between two acknowledgements at 1,000 records a second to one partition, so that nobody else's
//! acknowledgements hide them. Faults are made by `kill -9` and SIGSTOP.
//!
//! Read [`super::metrics`] for the goals.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::process::run as run_process;
use quipu_testkit::scratch::Scratch;
use quipu_testkit::wire::{PartitionMetadata, Wire};
use quipu_testkit::{Failure, Result};
use rustix::process::Signal;
use serde_json::Value;

use super::Programs;
use super::metrics::{Figures, Metric};
use super::round::{
    Done, Plan, Workload, create_topic, idle, load, load_command, load_through, mebibytes, milliseconds,
};
use super::server::{Kind, Server};

/// Nodes, and replicas of each partition.
const NODES: usize = 3;
/// A figure of one second of trouble is the median of this many.
const STALLS: usize = 5;
/// Of a topic of the scale part; there are ten.
const MANY: i32 = 1000;
/// Data of a node that is rebuilt, in records of 1 KB.
const REBUILT_RECORDS: usize = 5_000_000;
/// A partition is in sync again, or is served again, within this time.
const RECOVERY_LIMIT: Duration = Duration::from_secs(600);

/// Runs every workload of the plan that the servers can be asked for.
pub(crate) fn run(programs: &Programs, kind: Kind, plan: &Plan) -> Result<Figures> {
    let scratch = Scratch::new(&format!("bench-cluster-{}", kind.name()))?;
    let server = Server::start_nodes(programs, kind, scratch.path(), NODES)?;
    let mut round = Round { programs, plan, kind, server, figures: Figures::new() };
    if kind == Kind::Sink {
        round.warm_up()?;
        round.produce()?;
        round.latencies()?;
    } else {
        round.all()?;
    }
    let Round { server, figures, .. } = round;
    server.stop()?;
    Ok(figures)
}

/// What is measured once, of ours alone: 10,000 partitions and the loss of a node, and a node that is rebuilt.
pub(crate) fn run_scale(programs: &Programs, plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::new();
    if plan.includes(Workload::Scale) {
        failover(programs, &mut figures)?;
    }
    if plan.includes(Workload::Rebuild) {
        rebuild(programs, plan, &mut figures)?;
    }
    Ok(figures)
}

struct Round<'a> {
    programs: &'a Programs,
    plan: &'a Plan,
    kind: Kind,
    server: Server,
    figures: Figures,
}

impl Round<'_> {
    fn note(&mut self, metric: Metric, figure: f64) {
        self.figures.insert(metric, figure);
    }

    fn all(&mut self) -> Result<()> {
        self.note(Metric::ClusterStart, milliseconds(self.server.started_in()));
        self.idle()?;
        self.warm_up()?;
        self.produce()?;
        self.latencies()?;
        let memory = mebibytes(self.server.memory()?.peak_bytes);
        self.note(Metric::ClusterLoadMemory, memory);
        self.stalls()?;
        self.kills()
    }

    fn idle(&mut self) -> Result<()> {
        if self.plan.includes(Workload::Idle) {
            self.topic("idle", 1000)?;
            let (_, memory) = idle(&mut self.server)?;
            self.note(Metric::ClusterIdleMemory, memory);
        }
        Ok(())
    }

    fn warm_up(&mut self) -> Result<()> {
        let topic = self.topic("warm", 4)?;
        self.load("produce", &topic, 4, 1024, &[("--records", self.plan.records(300_000))])?;
        self.load("sync", &topic, 4, 1024, &[("--clients", 16), ("--seconds", 1)]).map(drop)
    }

    fn produce(&mut self) -> Result<()> {
        if self.plan.includes(Workload::Produce1k) {
            let topic = self.topic("produce", 4)?;
            let done = self.load("produce", &topic, 4, 1024, &[("--records", self.plan.records(1_000_000))])?;
            self.note(Metric::ClusterProduce1k, done.megabytes_per_second()?);
        }
        if self.plan.includes(Workload::Produce100) {
            let topic = self.topic("small", 4)?;
            let done = self.load("produce", &topic, 4, 100, &[("--records", self.plan.records(5_000_000))])?;
            self.note(Metric::ClusterProduce100, done.records_per_second()?);
        }
        Ok(())
    }

    fn latencies(&mut self) -> Result<()> {
        if self.plan.includes(Workload::Sync64) {
            let topic = self.topic("sync", 4)?;
            let numbers = [("--clients", 64), ("--seconds", self.plan.seconds(5))];
            let done = self.load("sync", &topic, 4, 1024, &numbers)?;
            self.note(Metric::ClusterSync64, done.records_per_second()?);
            self.note(Metric::ClusterSync64P99, done.milliseconds("p99_us")?);
        }
        if self.plan.includes(Workload::One) {
            let topic = self.topic("one", 1)?;
            let done = self.load("sync", &topic, 1, 1024, &[("--seconds", self.plan.seconds(5))])?;
            self.note(Metric::ClusterOneP50, done.milliseconds("p50_us")?);
        }
        if self.plan.includes(Workload::OpenLoop) {
            let topic = self.topic("open", 4)?;
            let numbers = [("--rate", 5000), ("--seconds", self.plan.seconds(10)), ("--in-flight", 5)];
            let done = self.load("open-loop", &topic, 4, 1024, &numbers)?;
            self.note(Metric::ClusterOpenP99, done.milliseconds("p99_us")?);
        }
        Ok(())
    }

    fn stalls(&mut self) -> Result<()> {
        if !self.plan.includes(Workload::Stall) && !self.plan.includes(Workload::Kill) {
            return Ok(());
        }
        let topic = self.topic("steady", 1)?;
        let healthy = self.steady(&topic, "healthy", |_| Ok(()))?;
        self.note(Metric::ClusterHealthyP999, healthy.milliseconds("p999_us")?);
        self.note(Metric::ClusterHealthyGap, healthy.milliseconds("gap_max_us")?);
        if self.plan.includes(Workload::Stall) {
            let mut p999: Vec<f64> = (0..STALLS).map(|_| self.stall(&topic)).collect::<Result<_>>()?;
            p999.sort_by(f64::total_cmp);
            self.note(Metric::ClusterStallP999, p999[STALLS / 2]);
        }
        Ok(())
    }

    fn stall(&mut self, topic: &str) -> Result<f64> {
        self.wait_in_sync(topic)?;
        let follower = self.follower(topic)?;
        let done = self.steady(topic, "a follower stopped for 1 s", |server| {
            server.node(follower).signal(Signal::STOP)?;
            std::thread::sleep(Duration::from_secs(1));
            server.node(follower).signal(Signal::CONT)
        })?;
        done.milliseconds("p999_us")
    }

    fn kills(&mut self) -> Result<()> {
        if !self.plan.includes(Workload::Kill) {
            return Ok(());
        }
        let topic = self.topic("killed", 1)?;
        let follower = self.follower(&topic)?;
        let gap = self.kill(&topic, follower, "a follower killed")?;
        self.note(Metric::ClusterFollowerGap, gap);
        let leader = self.leader(&topic)?;
        let gap = self.kill(&topic, leader, "the leader killed")?;
        self.note(Metric::ClusterLeaderGap, gap);
        if self.kind == Kind::Quipu {
            let (topic, leader) = self.led_by_the_controller()?;
            let gap = self.kill(&topic, leader, "the leader killed that is the active controller")?;
            self.note(Metric::ClusterControllerGap, gap);
        }
        Ok(())
    }

    fn kill(&mut self, topic: &str, node: usize, name: &str) -> Result<f64> {
        self.wait_in_sync(topic)?;
        let done = self.steady(topic, name, |server| {
            server.node(node).kill();
            Ok(())
        })?;
        self.server.restart(node)?;
        self.wait_in_sync(topic)?;
        done.milliseconds("gap_max_us")
    }

    /// 1,000 records a second to one partition, with `trouble` in the middle.
    fn steady(&mut self, topic: &str, name: &str, trouble: impl FnOnce(&mut Server) -> Result<()>) -> Result<Done> {
        let seconds = 12;
        let numbers = [("--rate", 1000), ("--seconds", seconds)];
        let command = load_command(self.programs, &mut self.server, "open-loop", topic, 1, 1024, &numbers);
        let server = &mut self.server;
        load_through(name, command, || {
            // The load is the clock of this measurement: trouble comes in its middle.
            std::thread::sleep(Duration::from_secs(4));
            trouble(server)
        })
    }

    /// A topic of one partition whose leader is the active controller, and that leader.
    fn led_by_the_controller(&mut self) -> Result<(String, usize)> {
        for attempt in 0..20 {
            let topic = self.topic(&format!("controller{attempt}"), 1)?;
            let leader = self.leader(&topic)?;
            if leader == self.controller()? {
                return Ok((topic, leader));
            }
        }
        Err(Failure::new("none of twenty topics is led by the active controller"))
    }

    fn controller(&mut self) -> Result<usize> {
        let quipu = self.programs.quipu.as_ref().expect("it is running");
        let mut command = Command::new(quipu);
        command.args(["cluster", "status", "--json", "--bootstrap", &self.server.bootstrap()]);
        let output = run_process("quipu cluster status", command, &[], Duration::from_secs(60))?;
        let status: Value = serde_json::from_slice(&output).map_err(Failure::context("the cluster's status"))?;
        let id = status["controller"].as_u64().and_then(|id| usize::try_from(id).ok());
        id.ok_or_else(|| Failure::new(format!("the cluster's status names no controller: {status}")))
    }

    fn leader(&mut self, topic: &str) -> Result<usize> {
        let partition = self.partition(topic)?;
        usize::try_from(partition.leader).map_err(|_| Failure::new(format!("{topic} has no leader")))
    }

    fn follower(&mut self, topic: &str) -> Result<usize> {
        let leader = self.leader(topic)?;
        Ok(leader % NODES + 1)
    }

    fn partition(&mut self, topic: &str) -> Result<PartitionMetadata> {
        let mut found = Wire::connect(self.server.addresses()[0])?.partitions(topic)?;
        if found.len() == 1 { Ok(found.remove(0)) } else { Err(Failure::new(format!("{topic}: {found:?}"))) }
    }

    fn wait_in_sync(&mut self, topic: &str) -> Result<()> {
        wait_in_sync(self.server.addresses()[0], topic, 1)
    }

    fn topic(&mut self, name: &str, partitions: usize) -> Result<String> {
        create_topic(self.programs, &mut self.server, name, partitions)
    }

    fn load(
        &mut self,
        workload: &str,
        topic: &str,
        partitions: usize,
        record_bytes: usize,
        numbers: &[(&str, usize)],
    ) -> Result<Done> {
        load(self.programs, &mut self.server, workload, topic, partitions, record_bytes, numbers, &[])
    }
}

/// Bytes of the files below `directory`.
pub(super) fn size(directory: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(directory).map_err(Failure::context(directory.display()))? {
        let path = entry.map_err(Failure::context(directory.display()))?.path();
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => bytes += size(&path)?,
            Ok(meta) => bytes += f64::from(u32::try_from(meta.len() / 1024).unwrap_or(u32::MAX)) * 1024.0,
            // It was removed meanwhile.
            Err(_) => {}
        }
    }
    Ok(bytes)
}

/// Waits until every replica of a topic is in sync.
fn wait_in_sync(address: SocketAddr, topic: &str, partitions: usize) -> Result<()> {
    let deadline = Instant::now() + RECOVERY_LIMIT;
    let mut wire = Wire::connect(address)?;
    loop {
        let found = wire.partitions(topic)?;
        if found.len() == partitions && found.iter().all(|partition| partition.in_sync.len() == NODES) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{topic} is not in sync after {RECOVERY_LIMIT:?}: {found:?}")));
        }
        // Nobody tells when a replica is in sync again: asking is all that a client can do.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// 10,000 partitions at rest, and then one node less.
fn failover(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let scratch = Scratch::new("bench-cluster-many")?;
    let mut server = Server::start_nodes(programs, Kind::Quipu, scratch.path(), NODES)?;
    let partitions = usize::try_from(MANY).expect("it is positive");
    let topics: Vec<String> = (0..10)
        .map(|number| create_topic(programs, &mut server, &format!("many{number}"), partitions))
        .collect::<Result<_>>()?;
    let (cpu, memory) = idle(&mut server)?;
    figures.insert(Metric::ClusterManyCpu, cpu / 3.0);
    figures.insert(Metric::ClusterManyMemory, memory);
    let addresses = server.addresses();
    let mut wires = [Wire::connect(addresses[0])?, Wire::connect(addresses[1])?];
    let mut left = not_served(&mut wires, &topics)?;
    let lost = left;
    let begin = Instant::now();
    server.node(NODES).kill();
    let mut first = None;
    while left > 0 {
        left = not_served(&mut wires, &topics)?;
        if left < lost && first.is_none() {
            first = Some(begin.elapsed());
        }
        if begin.elapsed() > RECOVERY_LIMIT {
            return Err(Failure::new(format!("{left} of {lost} partitions are not served after {RECOVERY_LIMIT:?}")));
        }
    }
    let all = begin.elapsed();
    println!("  {lost} of 10,000 partitions failed over in {all:?}, the first after {first:?}");
    figures.insert(Metric::ClusterFailover, milliseconds(all));
    figures.insert(Metric::ClusterFailoverSpread, milliseconds(all.saturating_sub(first.unwrap_or(all))));
    server.restart(NODES)?;
    server.stop()
}

/// How many partitions none of the brokers serves.
fn not_served(wires: &mut [Wire], topics: &[String]) -> Result<usize> {
    let mut missing = 0;
    for topic in topics {
        let mut served = std::collections::BTreeSet::new();
        for wire in &mut *wires {
            served.extend(wire.served(topic, MANY)?);
        }
        missing += usize::try_from(MANY).expect("it is positive") - served.len();
    }
    Ok(missing)
}

/// A node loses its disk, under a light load.
fn rebuild(programs: &Programs, plan: &Plan, figures: &mut Figures) -> Result<()> {
    let scratch = Scratch::new("bench-cluster-rebuild")?;
    let mut server = Server::start_nodes(programs, Kind::Quipu, scratch.path(), NODES)?;
    let records = plan.records(REBUILT_RECORDS);
    let data = create_topic(programs, &mut server, "data", 4)?;
    let light = create_topic(programs, &mut server, "light", 4)?;
    load(programs, &mut server, "produce", &data, 4, 1024, &[("--records", records)], &[])?;
    let numbers = [("--rate", 2000), ("--seconds", plan.seconds(20))];
    let before = load(programs, &mut server, "open-loop", &light, 4, 1024, &numbers, &[])?;
    figures.insert(Metric::ClusterLightP99, before.milliseconds("p99_us")?);
    server.node(NODES).kill();
    let wiped = server.data().join(format!("n{NODES}"));
    std::fs::remove_dir_all(&wiped).map_err(Failure::context(wiped.display()))?;
    let address = server.addresses()[0];
    let command = load_command(programs, &mut server, "open-loop", &light, 4, 1024, &numbers);
    let mut took = Duration::ZERO;
    let during = load_through("while a node is rebuilt", command, || {
        let begin = Instant::now();
        server.restart(NODES)?;
        wait_in_sync(address, &data, 4)?;
        took = begin.elapsed();
        println!("  the node has {:.0} MB when it is in sync", size(&wiped)? / 1e6);
        Ok(())
    })?;
    figures.insert(Metric::ClusterRebuildP99, during.milliseconds("p99_us")?);
    let megabytes = f64::from(u32::try_from(records).expect("few enough")) * 1024.0 / 1e6;
    println!("  {megabytes:.0} MB rebuilt in {took:?}");
    figures.insert(Metric::ClusterRebuild, megabytes / took.as_secs_f64());
    server.stop()
}
