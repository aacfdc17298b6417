//! `worker`: a process that runs what it reads, one request a line, and answers in a line of JSON each. A hunt has one for each
//! core, so that a world that never ends, or takes its process with it, costs only itself.

use core::fmt::Write as _;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, Write as _},
    path::PathBuf,
};

use clap::Args;
use quipu_hunt::{Outcome, Plan, swarm};
use quipu_sim::fault::FaultCount;
use serde::{Deserialize, Serialize};

use super::{
    Done, Failed, run,
    source::{Bugs, write},
};

/// A tick of Linux's accounts.
const TICK_MS: u64 = 10;

/// Runs what it reads.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    bugs: Bugs,
}

/// What to run.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Request {
    pub(super) seed: u64,
    /// A file with a plan, instead of the seed's.
    pub(super) plan: Option<PathBuf>,
    /// Where every event goes.
    pub(super) trace: Option<PathBuf>,
}

/// What came of it.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(super) struct Answer {
    pub(super) seed: u64,
    /// The check that failed.
    pub(super) checker: Option<String>,
    /// What is wrong, for people.
    pub(super) failure: String,
    pub(super) hash: u64,
    pub(super) event_count: u64,
    pub(super) virtual_ms: u64,
    pub(super) operations: u64,
    pub(super) acknowledged: u64,
    pub(super) marks: BTreeMap<String, u64>,
    pub(super) crash_points: BTreeMap<String, u64>,
    pub(super) buggified: BTreeMap<String, u64>,
    /// By kind: begun, happened.
    pub(super) faults: BTreeMap<String, (u64, u64)>,
    /// Kafka's error codes that clients met.
    pub(super) codes: BTreeMap<i16, u64>,
    /// Requests that clients had an answer to, by Kafka's number.
    pub(super) apis: BTreeMap<i16, u64>,
    /// The most memory that the process has had, KiB.
    pub(super) memory_kib: u64,
    /// What the process has used of a processor until then, milliseconds. 0: it is gone.
    pub(super) cpu_ms: u64,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let stdout = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Failed::io("stdin"))?;
        let request: Request = serde_json::from_str(&line).map_err(|error| Failed::Usage(error.to_string()))?;
        let answer = answer(&request, &arguments.bugs)?;
        let json = serde_json::to_string(&answer).map_err(|error| Failed::Other(error.to_string()))?;
        writeln!(stdout.lock(), "{json}").map_err(Failed::io("stdout"))?;
    }
    Ok(())
}

fn answer(request: &Request, bugs: &Bugs) -> Result<Answer, Failed> {
    let plan = match &request.plan {
        None => swarm::plan(request.seed),
        Some(file) => {
            let text = fs::read_to_string(file).map_err(Failed::io(file.display()))?;
            Plan::parse(&text).map_err(|error| Failed::Usage(format!("{}: {error}", file.display())))?
        }
    };
    let mut options = bugs.options();
    options.keep_trace = request.trace.is_some();
    let outcome = quipu_hunt::run(&plan, &options);
    if let Some(file) = &request.trace {
        write(file, &run::trace_text(&outcome))?;
    }
    Ok(Answer::new(request.seed, &outcome))
}

impl Answer {
    fn new(seed: u64, outcome: &Outcome) -> Self {
        let names = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let mut failure = String::new();
        if !outcome.violations.is_empty() {
            let _infallible = write!(failure, "{}", run::failure(outcome));
        }
        let counts = |(kind, FaultCount { begun, happened }): (&&'static str, &FaultCount)| {
            ((*kind).to_owned(), (*begun, *happened))
        };
        Self {
            seed,
            checker: outcome.failed_checker().map(str::to_owned),
            failure,
            hash: outcome.hash,
            event_count: outcome.event_count,
            virtual_ms: u64::try_from(outcome.virtual_time.as_millis()).unwrap_or(u64::MAX),
            operations: outcome.tally.operations,
            acknowledged: outcome.tally.acknowledged,
            marks: names(&outcome.marks),
            crash_points: names(&outcome.crash_points),
            buggified: names(&outcome.buggified),
            faults: outcome.faults.iter().map(counts).collect(),
            codes: outcome.tally.codes.clone(),
            apis: outcome.tally.apis.clone(),
            memory_kib: memory_kib(),
            cpu_ms: cpu_ms("self").max(1),
        }
    }
}

/// The most memory that this process has had, as Linux counts it; 0 elsewhere.
fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a process ("self", or its number) has used of a processor, milliseconds, as Linux counts it; 0 elsewhere.
pub(super) fn cpu_ms(process: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field, a name in parentheses, may hold anything. Behind it, user and system time are the 12th and 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks * TICK_MS
}
