//! One round of one server: started on a fresh directory, warmed up, loaded with each workload in turn, stopped.
//!
//! Read [`super::scale`] next, then `tests/load` for the client's side.

use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use quipu_testkit::process::run as run_process;
use quipu_testkit::scratch::Scratch;
use quipu_testkit::{Failure, Result, page_cache};
use serde_json::Value;

use super::Programs;
use super::metrics::{Figures, Metric};
use super::server::{Kind, Server};

/// A workload may take this long before it counts as hung: a server that syncs 50,000 times on a busy disk takes its time.
const WORKLOAD_LIMIT: Duration = Duration::from_secs(2400);

/// What can be asked for with --only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// 1 KB records, 4 partitions.
    #[value(name = "produce-1k")]
    Produce1k,
    /// 100 B records, 4 partitions.
    #[value(name = "produce-100")]
    Produce100,
    /// 64 synchronous producers of 1 KB.
    #[value(name = "sync-64")]
    Sync64,
    /// One record at a time.
    One,
    /// 5,000 records of 1 KB a second, one per request.
    OpenLoop,
    /// Consume from memory, 1 and 4 partitions.
    Consume,
    /// Consume after the page cache was dropped, 1 and 4 partitions.
    Disk,
    /// 1,000 partitions in turn.
    Many,
    /// Start-up, idle memory and CPU.
    Idle,
    /// 10,000 partitions, restart, recovery (of a cluster: failover); ours only.
    Scale,
    /// Clusters: a follower that is stopped for a second.
    Stall,
    /// Clusters: a follower, a leader, a leader that is the active controller, each killed.
    Kill,
    /// Clusters: a node whose directory was wiped; ours only.
    Rebuild,
    /// Groups: members that join one classic group.
    GroupJoin,
    /// Groups: many groups that commit.
    GroupCommit,
    /// Groups: one member more for a group of the consumer protocol.
    GroupGrow,
    /// Groups: a coordinator that is killed; ours only.
    GroupFailover,
    /// Compaction under a light load; ours only.
    Compaction,
    /// Polls of a fetch session of idle partitions.
    IdleFetch,
}

/// Which workloads, and how much.
#[derive(Debug)]
pub(crate) struct Plan {
    only: Vec<Workload>,
    divisor: usize,
}

impl Plan {
    /// All workloads when `only` is empty. `quick` does a fifth of everything.
    pub(crate) fn new(only: &[Workload], quick: bool) -> Self {
        Self { only: only.to_vec(), divisor: if quick { 5 } else { 1 } }
    }

    /// Whether a workload is to be run.
    pub(crate) fn includes(&self, workload: Workload) -> bool {
        self.only.is_empty() || self.only.contains(&workload)
    }

    /// That many records, or a fifth.
    pub(crate) fn records(&self, count: usize) -> usize {
        count / self.divisor
    }

    /// That many seconds, or a fifth.
    pub(crate) fn seconds(&self, count: usize) -> usize {
        (count / self.divisor).max(1)
    }
}

/// Runs every workload of the plan that the server can be asked for.
pub(crate) fn run(programs: &Programs, kind: Kind, plan: &Plan) -> Result<Figures> {
    let scratch = Scratch::new(&format!("bench-{}", kind.name()))?;
    let server = Server::start(programs, kind, scratch.path())?;
    let mut round = Round { programs, kind, plan, server, figures: Figures::new() };
    if kind != Kind::Sink && plan.includes(Workload::Idle) {
        round.idle()?;
    }
    round.warm_up()?;
    round.produce()?;
    round.consume()?;
    round.latencies()?;
    round.many()?;
    if kind != Kind::Sink {
        round.note(Metric::LoadMemory, |server| Ok(mebibytes(server.memory()?.peak_bytes)))?;
    }
    let Round { server, figures, .. } = round;
    server.stop()?;
    Ok(figures)
}

struct Round<'a> {
    programs: &'a Programs,
    kind: Kind,
    plan: &'a Plan,
    server: Server,
    figures: Figures,
}

impl Round<'_> {
    fn idle(&mut self) -> Result<()> {
        self.figures.insert(Metric::Start, milliseconds(self.server.started_in()));
        let (cpu, memory) = idle(&mut self.server)?;
        self.figures.insert(Metric::IdleCpu, cpu);
        self.figures.insert(Metric::IdleMemory, memory);
        Ok(())
    }

    /// A virtual machine compiles its hot paths first; nobody is measured cold.
    fn warm_up(&mut self) -> Result<()> {
        let topic = self.topic("warm", 4)?;
        let records = self.plan.records(300_000);
        self.load("produce", &topic, 4, 1024, &[("--records", records)])?;
        self.load("sync", &topic, 4, 1024, &[("--clients", 16), ("--seconds", 1)])?;
        self.load("consume", &topic, 4, 1024, &[("--records", records)]).map(drop)
    }

    fn produce(&mut self) -> Result<()> {
        let wants_disk = self.plan.includes(Workload::Disk) && self.kind != Kind::Sink;
        let reads = self.plan.includes(Workload::Consume) || wants_disk;
        if self.plan.includes(Workload::Produce1k) || reads {
            let topic = self.topic("produce", 4)?;
            let done = self.load("produce", &topic, 4, 1024, &[("--records", self.plan.records(1_000_000))])?;
            self.figures.insert(Metric::Produce1k, done.megabytes_per_second()?);
            self.figures.insert(Metric::Produce1kCpu, done.cpu_per_gigabyte()?);
        }
        if self.plan.includes(Workload::Produce100) {
            let topic = self.topic("small", 4)?;
            let done = self.load("produce", &topic, 4, 100, &[("--records", self.plan.records(5_000_000))])?;
            self.figures.insert(Metric::Produce100, done.records_per_second()?);
        }
        if reads {
            let topic = self.topic("single", 1)?;
            self.load("produce", &topic, 1, 1024, &[("--records", self.plan.records(1_000_000))])?;
        }
        Ok(())
    }

    fn consume(&mut self) -> Result<()> {
        let records = self.plan.records(1_000_000);
        if self.plan.includes(Workload::Consume) {
            let one = self.load("consume", "single-1", 1, 1024, &[("--records", records)])?;
            self.figures.insert(Metric::Consume1, one.megabytes_per_second()?);
            self.figures.insert(Metric::Consume1Cpu, one.cpu_per_gigabyte()?);
            let four = self.load("consume", "produce-4", 4, 1024, &[("--records", records)])?;
            self.figures.insert(Metric::Consume4, four.megabytes_per_second()?);
        }
        if self.plan.includes(Workload::Disk) && self.kind != Kind::Sink {
            for (metric, topic, partitions) in [(Metric::Disk1, "single-1", 1), (Metric::Disk4, "produce-4", 4)] {
                page_cache::forget(self.server.data())?;
                let done = self.load("consume", topic, partitions, 1024, &[("--records", records)])?;
                self.figures.insert(metric, done.megabytes_per_second()?);
            }
        }
        Ok(())
    }

    fn latencies(&mut self) -> Result<()> {
        if self.plan.includes(Workload::Sync64) {
            let topic = self.topic("sync", 4)?;
            let seconds = self.plan.seconds(5);
            let done = self.load("sync", &topic, 4, 1024, &[("--clients", 64), ("--seconds", seconds)])?;
            self.figures.insert(Metric::Sync64, done.records_per_second()?);
        }
        if self.plan.includes(Workload::One) {
            let topic = self.topic("one", 1)?;
            let done = self.load("sync", &topic, 1, 1024, &[("--seconds", self.plan.seconds(5))])?;
            self.figures.insert(Metric::OneP50, done.milliseconds("p50_us")?);
        }
        if self.plan.includes(Workload::OpenLoop) {
            let topic = self.topic("open", 4)?;
            let seconds = self.plan.seconds(10);
            let done = self.load("open-loop", &topic, 4, 1024, &[("--rate", 5000), ("--seconds", seconds)])?;
            self.figures.insert(Metric::OpenP50, done.milliseconds("p50_us")?);
            self.figures.insert(Metric::OpenP99, done.milliseconds("p99_us")?);
            self.figures.insert(Metric::OpenP999, done.milliseconds("p999_us")?);
        }
        Ok(())
    }

    fn many(&mut self) -> Result<()> {
        if self.plan.includes(Workload::Many) {
            let topic = self.topic("many", 1000)?;
            let records = [("--records", self.plan.records(200_000))];
            let done = load(self.programs, &mut self.server, "produce", &topic, 1000, 1024, &records, &["--in-turn"])?;
            self.figures.insert(Metric::Many, done.records_per_second()?);
        }
        Ok(())
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

    fn note(&mut self, metric: Metric, figure: impl FnOnce(&mut Server) -> Result<f64>) -> Result<()> {
        let figure = figure(&mut self.server)?;
        self.figures.insert(metric, figure);
        Ok(())
    }
}

/// Creates the topic `<name>-<partitions>`; its name is its promise to the sink.
pub(crate) fn create_topic(programs: &Programs, server: &mut Server, name: &str, partitions: usize) -> Result<String> {
    let topic = format!("{name}-{partitions}");
    let mut command = Command::new(&programs.load);
    command.arg("create-topic").arg("--bootstrap").arg(server.addresses()[0].to_string()).args(["--topic", &topic]);
    command.arg("--partitions").arg(partitions.to_string());
    command.arg("--replicas").arg(server.nodes().min(3).to_string());
    run_process(&format!("creating topic {topic}"), command, &[], WORKLOAD_LIMIT)?;
    Ok(topic)
}

/// CPU in per cent of a core and resident MiB of a server that has nothing to do; of several nodes the CPU of all and the highest memory.
pub(crate) fn idle(server: &mut Server) -> Result<(f64, f64)> {
    // Time for what a start leaves behind to end, then time to measure: these sleeps are the measurement.
    std::thread::sleep(Duration::from_secs(5));
    let before = server.cpu_seconds()?;
    let span = Duration::from_secs(5);
    std::thread::sleep(span);
    let cpu = (server.cpu_seconds()? - before) / span.as_secs_f64() * 100.0;
    Ok((cpu, mebibytes(server.memory()?.resident_bytes)))
}

/// What a workload answered, and what it cost the server.
#[derive(Debug)]
pub(crate) struct Done {
    answer: Value,
    cpu_seconds: f64,
}

impl Done {
    pub(super) fn number(&self, field: &str) -> Result<f64> {
        let missing = || Failure::new(format!("the load client's answer has no {field}: {}", self.answer));
        self.answer[field].as_f64().ok_or_else(missing)
    }

    pub(crate) fn megabytes_per_second(&self) -> Result<f64> {
        Ok(self.number("bytes")? / self.number("seconds")? / 1e6)
    }

    pub(crate) fn records_per_second(&self) -> Result<f64> {
        Ok(self.number("records")? / self.number("seconds")?)
    }

    fn cpu_per_gigabyte(&self) -> Result<f64> {
        Ok(self.cpu_seconds / (self.number("bytes")? / 1e9))
    }

    pub(crate) fn milliseconds(&self, field: &str) -> Result<f64> {
        Ok(self.number(field)? / 1e3)
    }
}

/// Runs the load client against `server`, with memory ready for what it is about to store.
#[expect(clippy::too_many_arguments, reason = "the load client's command line, one argument each")]
pub(crate) fn load(
    programs: &Programs,
    server: &mut Server,
    workload: &str,
    topic: &str,
    partitions: usize,
    record_bytes: usize,
    numbers: &[(&str, usize)],
    flags: &[&str],
) -> Result<Done> {
    let mut command = load_command(programs, server, workload, topic, partitions, record_bytes, numbers);
    command.args(flags);
    let count = numbers.iter().find(|(flag, _)| *flag == "--records").map_or(0, |(_, count)| *count);
    let bytes = u64::try_from(count * record_bytes * server.nodes()).map_err(Failure::context("--records"))?;
    page_cache::warm(server.data().parent().expect("it is in a scratch directory"), bytes + bytes / 4)?;
    let before = server.cpu_seconds()?;
    let output = run_process(&format!("{workload} on {topic}"), command, &[], WORKLOAD_LIMIT)?;
    let cpu_seconds = server.cpu_seconds()? - before;
    let done = Done { answer: answer(&output)?, cpu_seconds };
    println!("  {workload} {topic}: {} broker CPU {cpu_seconds:.2} s", done.answer);
    Ok(done)
}

/// Runs the load client while `trouble` is made, which begins when the load does.
pub(crate) fn load_through(name: &str, command: Command, trouble: impl FnOnce() -> Result<()>) -> Result<Done> {
    let (output, troubled) = std::thread::scope(|scope| {
        let load = scope.spawn(|| run_process(name, command, &[], WORKLOAD_LIMIT));
        let troubled = trouble();
        (load.join().expect("running a program does not panic"), troubled)
    });
    troubled?;
    let done = Done { answer: answer(&output?)?, cpu_seconds: 0.0 };
    println!("  {name}: {}", done.answer);
    Ok(done)
}

/// The load client's command line.
pub(crate) fn load_command(
    programs: &Programs,
    server: &mut Server,
    workload: &str,
    topic: &str,
    partitions: usize,
    record_bytes: usize,
    numbers: &[(&str, usize)],
) -> Command {
    let mut command = Command::new(&programs.load);
    command.arg(workload).args(["--bootstrap", &server.bootstrap(), "--topic", topic]);
    let common = [("--partitions", partitions), ("--record-bytes", record_bytes)];
    for (flag, number) in common.iter().chain(numbers) {
        command.arg(flag).arg(number.to_string());
    }
    command
}

fn answer(output: &[u8]) -> Result<Value> {
    serde_json::from_slice(output).map_err(Failure::context("the load client's answer"))
}

/// Milliseconds, with fractions.
pub(crate) fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// MiB, rounded down: what is shown has one digit behind the point at most.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    let kibibytes = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    f64::from(kibibytes) / 1024.0
}
