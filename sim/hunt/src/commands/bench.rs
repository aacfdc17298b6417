//! `bench`: how fast worlds run. What it prints has a goal beside it; a missed goal is told, and is no error.

use core::time::Duration;
use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use quipu_hunt::{
    Options, Outcome, Plan,
    plan::{
        Client, Config, TimedFault, Topic, Workload,
        operation::{BatchSpec, Operation},
    },
};
use quipu_sim::{Share, fault::Fault};
use serde::Serialize;

use super::{
    Done, Failed,
    pool::Pool,
    source::{Bugs, write},
    worker::cpu_ms,
};

/// Parts that are told of each world.
const PARTS_MAX: usize = 12;
/// What seconds are: on a machine that does other work as well, real time says little.
const CLOCK: &str = "s of one core";

/// Measures the simulator on one core, by the time of the processor that it takes.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// A fifth of the work: to see whether it works.
    #[arg(long)]
    quick: bool,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One figure.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// None: for comparison only.
    goal: Option<f64>,
    /// Whether more is better.
    is_rate: bool,
    is_met: bool,
}

/// Where the time of one kind of world goes.
#[derive(Serialize)]
struct Breakdown {
    what: &'static str,
    seconds: f64,
    parts: Vec<PartShare>,
}

/// A task by its name, or a part of the world.
#[derive(Serialize)]
struct PartShare {
    part: String,
    share: f64,
    count: u64,
}

/// All that is measured.
#[derive(Serialize)]
struct Results {
    clock: &'static str,
    figures: Vec<Figure>,
    time: Vec<Breakdown>,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let scale = if arguments.quick { 1 } else { 5 };
    let [alone, clusters] = short_worlds(scale);
    let figures = vec![steady(scale)?, flat_out(scale)?, alone, clusters, idle()?, memory(scale)?];
    let time = vec![
        breakdown("a steady world with faults", [steady_plan(scale)]),
        breakdown("flat out", [flat_out_plan(scale)]),
        breakdown("worlds of a hunt", (0..20 * scale as u64).map(quipu_hunt::swarm::plan)),
    ];
    let results = Results { clock: CLOCK, figures, time };
    for Figure { what, value, unit, goal, is_rate, is_met, .. } in &results.figures {
        let relation = if *is_rate { "at least" } else { "at most" };
        let verdict = if *is_met { "met" } else { "MISSED" };
        let goal = goal.map_or_else(String::new, |goal| format!("goal {relation} {goal}: {verdict}"));
        println!("{what:<44} {value:>12.2} {unit:<32} {goal}");
    }
    for Breakdown { what, seconds, parts } in &results.time {
        println!("where the time goes: {what} ({seconds:.2} s)");
        for PartShare { part, share, count } in parts.iter().take(PARTS_MAX) {
            println!("    {:>5.1} %  {part} ({count} times)", share * 100.0);
        }
    }
    if let Some(file) = &arguments.json {
        let json = serde_json::to_string_pretty(&results).map_err(|error| Failed::Other(error.to_string()))?;
        write(file, &json)?;
    }
    let missed = results.figures.iter().filter(|figure| !figure.is_met).count();
    println!("bench sim: {} figures, {missed} goals missed", results.figures.len());
    Ok(())
}

impl Figure {
    fn rate(name: &'static str, what: &'static str, value: f64, unit: &'static str, goal: Option<f64>) -> Self {
        Self { name, what, value, unit, goal, is_rate: true, is_met: goal.is_none_or(|goal| value >= goal) }
    }

    fn cost(name: &'static str, what: &'static str, value: f64, unit: &'static str, goal: f64) -> Self {
        Self { name, what, value, unit, goal: Some(goal), is_rate: false, is_met: value <= goal }
    }
}

/// Runs a plan; what came of it, and the seconds of a processor that it took.
fn measure(plan: &Plan) -> Result<(Outcome, f64), Failed> {
    let begin = cpu_ms("self");
    let outcome = quipu_hunt::run(plan, &Options { event_limit: Some(u64::MAX), ..Options::default() });
    if let Some(violation) = outcome.violations.first() {
        return Err(Failed::Other(format!("a measured world fails: {violation}")));
    }
    Ok((outcome, seconds_since(begin)))
}

/// Of a processor. What takes no time that can be counted takes the least that can.
fn seconds_since(begin_ms: u64) -> f64 {
    cpu_ms("self").saturating_sub(begin_ms).max(1) as f64 / 1000.0
}

fn breakdown(what: &'static str, plans: impl IntoIterator<Item = Plan>) -> Breakdown {
    let mut parts: BTreeMap<String, Share> = BTreeMap::new();
    for plan in plans {
        // A world that fails is the hunt's business.
        let options = Options { event_limit: Some(u64::MAX), profile: true, ..Options::default() };
        for ((part, machine), share) in quipu_hunt::run(&plan, &options).profile {
            let part = part_name(part, &machine);
            let sum = parts.entry(part).or_default();
            (sum.time, sum.count) = (sum.time + share.time, sum.count + share.count);
        }
    }
    let all: Duration = parts.values().map(|share| share.time).sum();
    let mut parts: Vec<PartShare> = parts
        .into_iter()
        .map(|(part, share)| {
            let count = share.count;
            PartShare { part, share: share.time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE), count }
        })
        .collect();
    parts.sort_by(|a, b| b.share.total_cmp(&a.share));
    Breakdown { what, seconds: all.as_secs_f64(), parts }
}

/// Tasks by what runs them: brokers, the copies' machine, clients.
fn part_name(part: &str, machine: &str) -> String {
    match machine {
        "" => part.to_owned(),
        "mirror" => "comparisons of whole logs".to_owned(),
        "auditor" => "the last reader".to_owned(),
        machine if machine.starts_with("broker") || machine.starts_with("controller") => format!("broker: {part}"),
        _ => "clients".to_owned(),
    }
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

/// A broker with ten producer and ten consumer operations a second (a fetch of four partitions is four), and a fault every few seconds.
fn steady_plan(scale: usize) -> Plan {
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
    base(vec![producer(0, seconds * 10, 100, 1), follower], faults)
}

fn steady(scale: usize) -> Result<Figure, Failed> {
    let (outcome, took) = measure(&steady_plan(scale))?;
    let value = outcome.virtual_time.as_secs_f64() / took;
    Ok(Figure::rate("steady", "a steady world with faults", value, "simulated s per s of one core", Some(1000.0)))
}

/// Producers and a consumer as fast as they can.
fn flat_out_plan(scale: usize) -> Plan {
    let mut clients: Vec<Client> = (0..4).map(|number| producer(number, 4000 * scale, 0, 5)).collect();
    clients.push(Client {
        name: "consumer".to_owned(),
        operations: vec![Operation::Follow { topic: "knots".to_owned() }],
        ..Client::default()
    });
    base(clients, Vec::new())
}

fn flat_out(scale: usize) -> Result<Figure, Failed> {
    let (outcome, took) = measure(&flat_out_plan(scale))?;
    let value = outcome.tally.operations as f64 / took;
    Ok(Figure::rate("flat-out", "flat out", value, "operations per s of one core", Some(20_000.0)))
}

/// Worlds as a hunt draws them, one after the other: those of one broker, and those of several.
fn short_worlds(scale: usize) -> [Figure; 2] {
    let rate = |are_clusters: bool, count: usize| {
        let plans = (0..).map(quipu_hunt::swarm::plan).filter(|plan| plan.config.is_cluster() == are_clusters);
        let begin = cpu_ms("self");
        for plan in plans.take(count) {
            let _outcome = quipu_hunt::run(&plan, &Options::default());
        }
        count as f64 * 60.0 / seconds_since(begin)
    };
    let unit = "worlds per minute of one core";
    [
        Figure::rate("worlds", "worlds of a hunt with one broker", rate(false, 60 * scale), unit, Some(2000.0)),
        Figure::rate("clusters", "worlds of a hunt with several", rate(true, 20 * scale), unit, None),
    ]
}

/// A broker that nobody asks anything for an hour.
fn idle() -> Result<Figure, Failed> {
    let sleeper = Client { operations: vec![Operation::Sleep { ms: 3_600_000 }], ..Client::default() };
    let (_outcome, took) = measure(&base(vec![sleeper], Vec::new()))?;
    Ok(Figure::cost("idle", "an idle hour", took, "s of one core", 1.0))
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
    Ok(Figure::cost("memory", "memory of a process with one world, median", median as f64 / 1024.0, "MiB", 64.0))
}
