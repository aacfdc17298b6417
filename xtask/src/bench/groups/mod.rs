//! What is measured of group coordinators, fetch sessions and compaction, with raw frames: joins, commits, a member more, idle polls.
//!
//! Both servers run with `group.initial.rebalance.delay.ms=0`, so that the coordinator is measured and not its patience.
//!
//! - [`alone`]: what is measured of ours alone, the failover of a coordinator and compaction.
//!
//! Read [`super::metrics`] for the goals, `tests/load/src/groups` for the members.

mod alone;

use std::process::Command;
use std::time::Duration;

use quipu_testkit::Result;
use quipu_testkit::scratch::Scratch;

use super::Programs;
use super::metrics::{Figures, Metric};
use super::round::{Done, Plan, Workload, create_topic, load_through};
use super::server::{Kind, Server};

pub(crate) use alone::run as run_alone;

/// Of both servers.
const SETTINGS: [(&str, &str); 1] = [("group.initial.rebalance.delay.ms", "0")];
/// Partitions for the members of one group.
const PARTITIONS: usize = 303;
/// Idle partitions of one session: few, and many.
const IDLE: [(usize, Metric, Metric); 2] =
    [(10, Metric::IdleFetchBytesFew, Metric::IdleFetchCpuFew), (1000, Metric::IdleFetchBytes, Metric::IdleFetchCpu)];

/// Runs every workload of the plan that both servers know.
pub(crate) fn run(programs: &Programs, kind: Kind, plan: &Plan) -> Result<Figures> {
    let scratch = Scratch::new(&format!("bench-groups-{}", kind.name()))?;
    let server = Server::start_with(programs, kind, scratch.path(), &SETTINGS)?;
    let mut round = Round { programs, plan, server, figures: Figures::new() };
    round.join()?;
    round.commit()?;
    round.grow()?;
    round.idle()?;
    let Round { server, figures, .. } = round;
    server.stop()?;
    Ok(figures)
}

struct Round<'a> {
    programs: &'a Programs,
    plan: &'a Plan,
    server: Server,
    figures: Figures,
}

impl Round<'_> {
    fn join(&mut self) -> Result<()> {
        if self.plan.includes(Workload::GroupJoin) {
            let done = self.load("group-join", None, &[("--members", self.plan.records(1000))])?;
            self.figures.insert(Metric::GroupJoin, done.number("seconds")? * 1e3);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if self.plan.includes(Workload::GroupCommit) {
            let topic = create_topic(self.programs, &mut self.server, "committed", 1)?;
            let numbers = [("--groups", self.plan.records(10_000)), ("--seconds", self.plan.seconds(20))];
            let done = self.load("group-commit", Some(&topic), &numbers)?;
            self.figures.insert(Metric::GroupCommitCpu, 100.0 * done.number("cpu_seconds")? / done.number("seconds")?);
            self.figures.insert(Metric::GroupCommitP50, done.milliseconds("p50_us")?);
            self.figures.insert(Metric::GroupCommitP99, done.milliseconds("p99_us")?);
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<()> {
        if self.plan.includes(Workload::GroupGrow) {
            let topic = create_topic(self.programs, &mut self.server, "grown", PARTITIONS)?;
            let numbers = [("--partitions", PARTITIONS), ("--members", self.plan.records(100))];
            let done = self.load("group-grow", Some(&topic), &numbers)?;
            self.figures.insert(Metric::GroupGrow, done.number("heartbeats")?);
            self.figures.insert(Metric::GroupGrowPaused, done.number("paused")?);
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        if !self.plan.includes(Workload::IdleFetch) {
            return Ok(());
        }
        for (partitions, bytes, cpu) in IDLE {
            let topic = create_topic(self.programs, &mut self.server, "idle", partitions)?;
            let polls = self.plan.records(100_000);
            let done = self.load("idle-fetch", Some(&topic), &[("--partitions", partitions), ("--polls", polls)])?;
            self.figures.insert(bytes, done.number("reply_bytes")? / done.number("polls")?);
            self.figures.insert(cpu, 1e6 * done.number("cpu_seconds")? / done.number("polls")?);
        }
        Ok(())
    }

    fn load(&mut self, workload: &str, topic: Option<&str>, numbers: &[(&str, usize)]) -> Result<Done> {
        let mut command = Command::new(&self.programs.load);
        command.args([workload, "--bootstrap", &self.server.bootstrap()]);
        if let Some(topic) = topic {
            command.args(["--topic", topic]);
        }
        for (flag, number) in numbers {
            command.arg(flag).arg(number.to_string());
        }
        if ["group-commit", "idle-fetch"].contains(&workload) {
            for pid in self.server.pids() {
                command.arg("--pid").arg(pid.to_string());
            }
        }
        load_through(workload, command, || Ok(()))
    }
}

/// Between two looks at something that tells nobody when it is done.
const LOOK: Duration = Duration::from_millis(5);
