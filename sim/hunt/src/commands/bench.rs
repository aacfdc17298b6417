//! `bench`: how fast worlds run. What it prints has a goal beside it; a missed goal is told, and is no error.

use core::time::Duration;
use std::{collections::BTreeMap, time::Instant};

use clap::Args;
use quipu_hunt::{
    Options, Outcome, Plan,
    plan::{
        Client, Config, TimedFault, Topic, Workload,
        operation::{BatchSpec, Operation},
    },
};
use quipu_sim::fault::Fault;

use super::{Done, Failed, pool::Pool, source::Bugs};

/// Measures the simulator on one core.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// A fifth of the work: to see whether it works.
    #[arg(long)]
    quick: bool,
}

/// One figure.
struct Figure {
    what: &'static str,
    value: f64,
    unit: &'static str,
    goal: f64,
    /// Whether more is better.
    is_rate: bool,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let scale = if arguments.quick { 1 } else { 5 };
    let figures = [steady(scale)?, flat_out(scale)?, short_worlds(scale)?, idle()?, memory(scale)?];
    for Figure { what, value, unit, goal, is_rate } in figures {
        let is_met = if is_rate { value >= goal } else { value <= goal };
        let relation = if is_rate { "at least" } else { "at most" };
        let verdict = if is_met { "met" } else { "MISSED" };
        println!("{what:<44} {value:>12.2} {unit:<28} goal {relation} {goal}: {verdict}");
    }
    println!("bench sim: done");
    Ok(())
}

fn measure(plan: &Plan) -> Result<(Outcome, f64), Failed> {
    let begin = Instant::now();
    let options = Options { event_limit: Some(u64::MAX), ..Options::default() };
    let outcome = quipu_hunt::run(plan, &options);
    if let Some(violation) = outcome.violations.first() {
        return Err(Failed::Other(format!("a measured world fails: {violation}")));
    }
    Ok((outcome, begin.elapsed().as_secs_f64()))
}

fn producer(number: usize, operations: usize, pace_ms: u64, pipelined: usize) -> Client {
    let batch = |index: usize| BatchSpec { partition: i32::try_from(index % 4).unwrap_or(0), count: 4, bytes: 100 };
    let operation = |index| Operation::Produce { topic: "knots".to_owned(), batches: vec![batch(index)] };
    Client {
        name: format!("producer-{number}"),
        pace_ms,
        pipelined,
        operations: (0..operations).map(operation).collect(),
        ..Client::default()
    }
}

fn base(clients: Vec<Client>, faults: Vec<TimedFault>) -> Plan {
    let topics = vec![Topic { name: "knots".to_owned(), partitions: 4, kafka: BTreeMap::new() }];
    let mut plan = Plan::parse("format = 1").expect("the smallest plan is one");
    plan.config = Config { shards: 2, ..Config::default() };
    plan.workload = Workload { topics, clients };
    plan.faults = faults;
    plan
}

/// A broker with ten producer and ten consumer operations a second, and a fault every few seconds.
fn steady(scale: usize) -> Result<Figure, Failed> {
    let seconds = 200 * scale;
    let follower = Client {
        name: "consumer".to_owned(),
        pace_ms: 400,
        operations: vec![Operation::Follow { topic: "knots".to_owned() }],
        ..Client::default()
    };
    let fault = |number: usize| TimedFault {
        at_ms: 5000 * (number as u64 + 1),
        fault: match number % 3 {
            0 => Fault::Kill { node: "broker".to_owned(), down_ms: 100, times: 1, up_ms: 0 },
            1 => Fault::DiskStall { node: "broker".to_owned(), lasts_ms: 500 },
            _ => Fault::Reset { from: vec!["broker".to_owned()], to: vec!["producer-0".to_owned()], after_bytes: 0 },
        },
    };
    let faults = (0..seconds / 5 - 1).map(fault).collect();
    let (outcome, took) = measure(&base(vec![producer(0, seconds * 10, 100, 1), follower], faults))?;
    Ok(Figure {
        what: "a steady world with faults",
        value: outcome.virtual_time.as_secs_f64() / took,
        unit: "simulated s per s",
        goal: 1000.0,
        is_rate: true,
    })
}

/// Producers and a consumer as fast as they can.
fn flat_out(scale: usize) -> Result<Figure, Failed> {
    let mut clients: Vec<Client> = (0..4).map(|number| producer(number, 4000 * scale, 0, 5)).collect();
    clients.push(Client {
        name: "consumer".to_owned(),
        operations: vec![Operation::Follow { topic: "knots".to_owned() }],
        ..Client::default()
    });
    let (outcome, took) = measure(&base(clients, Vec::new()))?;
    Ok(Figure {
        what: "flat out",
        value: outcome.tally.operations as f64 / took,
        unit: "operations per s",
        goal: 20_000.0,
        is_rate: true,
    })
}

/// Worlds as a hunt draws them, one after the other.
fn short_worlds(scale: usize) -> Result<Figure, Failed> {
    let begin = Instant::now();
    let count = 60 * scale as u64;
    for seed in 0..count {
        let _outcome = quipu_hunt::run(&quipu_hunt::swarm::plan(seed), &Options::default());
    }
    Ok(Figure {
        what: "worlds of a hunt",
        value: count as f64 * 60.0 / begin.elapsed().as_secs_f64(),
        unit: "worlds per minute",
        goal: 2000.0,
        is_rate: true,
    })
}

/// A broker that nobody asks anything for an hour.
fn idle() -> Result<Figure, Failed> {
    let sleeper = Client { operations: vec![Operation::Sleep { ms: 3_600_000 }], ..Client::default() };
    let (_outcome, took) = measure(&base(vec![sleeper], Vec::new()))?;
    Ok(Figure { what: "an idle hour", value: took, unit: "s", goal: 1.0, is_rate: false })
}

/// The memory of processes that run one world each.
fn memory(scale: usize) -> Result<Figure, Failed> {
    let bugs = Bugs { planted: Vec::new() };
    let pool = Pool { jobs: 1, limit: Duration::from_secs(60), bugs: &bugs, is_fresh: true };
    let mut seeds = 0..(8 * scale as u64);
    let mut kib = Vec::new();
    pool.run(|| seeds.next().map(|seed| (seed, None)), &mut |answer| {
        kib.push(answer.memory_kib);
        true
    })?;
    kib.sort_unstable();
    let median = kib.get(kib.len() / 2).copied().unwrap_or(0);
    Ok(Figure {
        what: "memory of a process with one world, median",
        value: median as f64 / 1024.0,
        unit: "MiB",
        goal: 64.0,
        is_rate: false,
    })
}
