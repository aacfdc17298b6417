//! `cargo xtask bench`: our release binary, Apache Kafka and a sink under the same librdkafka load, in turn.
//!
//! - [`server`]: the servers under test, one at a time on a fresh directory.
//! - [`round`]: everything that is measured of one server in one round.
//! - [`cluster`]: the same for three nodes with three replicas, and what the loss of one costs.
//! - [`groups`]: members, commits, fetch sessions, the failover of a coordinator, compaction.
//! - [`scale`]: what is measured of ours alone: many partitions, restarts, recovery.
//! - [`metrics`]: names, units and goals. [`report`]: medians, ranges, ratios, verdicts.
//!
//! Invariants
//! - One server (or cluster) runs at a time, and rounds alternate between servers: drift of the machine meets all of them alike.
//! - The client is the same process image with the same settings for every server.
//! - A missed goal is reported, never an error: a benchmark is no test.
//!
//! Read [`round`] next.

mod cluster;
mod groups;
mod metrics;
mod report;
mod round;
mod scale;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use quipu_testkit::kafka::Jars;
use quipu_testkit::process::run as run_process;
use quipu_testkit::{Result, broker, paths};

use crate::step::cargo;
use metrics::Results;
use round::{Plan, Workload};
use server::Kind;

/// Measures the broker with librdkafka on the same machine, beside the client's own ceiling.
///
/// Starts our release binary on a fresh directory and, with --against kafka, Apache Kafka twice: as it comes (no fsync) and with
/// log.flush.interval.messages=1. A sink that answers canned replies and stores nothing is measured in the same run: it shows what
/// the client can do at most. Prints medians, ranges and ratios, and for each goal whether it is met.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// What to measure: everything of one node, a cluster of three, groups, only the sink, or the simulator.
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Compare with another broker.
    #[arg(long, value_enum)]
    against: Option<Against>,
    /// Rounds per server; medians settle from 5.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write every figure to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only this workload (may be given more than once).
    #[arg(long, value_enum)]
    only: Vec<Workload>,
    /// A fifth of the records and seconds: to see whether it works.
    #[arg(long)]
    quick: bool,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Don't measure our own binary.
    #[arg(long)]
    without_quipu: bool,
    /// Don't measure the sink.
    #[arg(long)]
    without_sink: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    All,
    Cluster,
    Groups,
    Sink,
    Sim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Against {
    Kafka,
}

/// Builds, measures, prints.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.what == What::Sim {
        warn_of_other_work();
        return crate::sim::bench(arguments.quick, arguments.json.as_deref());
    }
    let kinds = kinds(arguments);
    let programs = programs(&kinds, arguments.binary.as_deref())?;
    let plan = Plan::new(&arguments.only, arguments.quick);
    warn_of_other_work();
    let mut results = Results::new(&kinds);
    for round in 1..=arguments.rounds {
        for &kind in &kinds {
            println!("round {round} of {}: {}", arguments.rounds, kind.name());
            let run = match arguments.what {
                What::Cluster => cluster::run,
                What::Groups => groups::run,
                What::All | What::Sink | What::Sim => round::run,
            };
            results.add(kind, run(&programs, kind, &plan)?);
        }
    }
    if arguments.what == What::Groups {
        if kinds.contains(&Kind::Quipu) {
            println!("alone: {}", Kind::Quipu.name());
            results.add(Kind::Quipu, groups::run_alone(&programs, &plan)?);
        }
    } else if arguments.what == What::Cluster && kinds.contains(&Kind::Quipu) {
        println!("scale: {}", Kind::Quipu.name());
        results.add(Kind::Quipu, cluster::run_scale(&programs, &plan)?);
    } else if plan.includes(Workload::Scale) && kinds.contains(&Kind::Quipu) {
        println!("scale: {}", Kind::Quipu.name());
        results.add(Kind::Quipu, scale::run(&programs, arguments.quick)?);
    }
    print!("{}", report::text(&results));
    if let Some(file) = &arguments.json {
        let json = report::json(&results);
        std::fs::write(file, format!("{json:#}\n"))
            .map_err(quipu_testkit::Failure::context(format!("cannot write {}", file.display())))?;
    }
    Ok(())
}

/// Figures taken beside other work say little.
fn warn_of_other_work() {
    let Ok(loads) = std::fs::read_to_string("/proc/loadavg") else { return };
    let load: f64 = loads.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    if load > 1.0 {
        println!("NOTE: something else has kept this machine busy in the last minute (load average {load})");
    }
}

fn kinds(arguments: &Arguments) -> Vec<Kind> {
    if arguments.what == What::Sink {
        return vec![Kind::Sink];
    }
    let mut kinds = Vec::new();
    if !arguments.without_quipu {
        kinds.push(Kind::Quipu);
    }
    if arguments.against == Some(Against::Kafka) {
        kinds.push(Kind::Kafka);
        // What a flush costs Kafka is known from records.
        kinds.extend((arguments.what != What::Groups).then_some(Kind::KafkaFlush));
    }
    if arguments.what != What::Groups && !arguments.without_sink {
        kinds.push(Kind::Sink);
    }
    kinds
}

/// What the servers and the client are run from.
#[derive(Debug)]
struct Programs {
    load: PathBuf,
    quipu: Option<PathBuf>,
    jars: Option<Jars>,
}

fn programs(kinds: &[Kind], binary: Option<&Path>) -> Result<Programs> {
    println!("building the load client (librdkafka) and the servers");
    let build = cargo(&["build", "--release", "--quiet", "--package", "quipu-load"]);
    run_process("cargo build", build, &[], Duration::from_secs(3600))?;
    let build = || binary.map_or_else(|| broker::build_binary(true), |binary| Ok(binary.to_path_buf()));
    let quipu = kinds.contains(&Kind::Quipu).then(build).transpose()?;
    let needs_jars = kinds.contains(&Kind::Kafka) || kinds.contains(&Kind::KafkaFlush);
    let jars = needs_jars.then(Jars::fetch).transpose()?;
    Ok(Programs { load: paths::target_dir().join("release").join("quipu-load"), quipu, jars })
}
