//! `hunt`: worlds on all cores until time is up; what fails is shrunk and kept.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal as _, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    Done, Failed,
    pool::Pool,
    source::{Bugs, commit, results_dir, write},
    worker::Answer,
};

/// Failures that are shrunk, each of another check.
const SHRUNK_MAX: usize = 3;
/// Real time for shrinking one failure.
const SHRINK_SECONDS: u64 = 60;
/// Between two lines of progress where there is no terminal.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs seed after seed on all cores, and shrinks what fails first.
///
/// Each seed is another world: other faults, sizes and clients. A failing seed is written to target/sim as a plan, as a smaller plan
/// that fails in the same way, and as a trace of that one: text, and a page to look at. Ends with one summary line; exit status 1
/// if anything failed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// For how long.
    #[arg(long, value_name = "M", default_value_t = 1.0)]
    minutes: f64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Worlds at once; as many as there are cores if not given.
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Stop after so many seeds.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Stop after so many failures.
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures: usize,
    /// Seconds of a processor that one world may take.
    #[arg(long, value_name = "N", default_value_t = 60)]
    world_seconds: u64,
    /// Don't shrink.
    #[arg(long)]
    no_shrink: bool,
    #[command(flatten)]
    bugs: Bugs,
}

/// What all worlds of a hunt came to.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) worlds: u64,
    pub(super) virtual_ms: u64,
    pub(super) operations: u64,
    pub(super) acknowledged: u64,
    pub(super) marks: BTreeMap<String, u64>,
    pub(super) crash_points: BTreeMap<String, u64>,
    pub(super) buggified: BTreeMap<String, u64>,
    pub(super) faults: BTreeMap<String, (u64, u64)>,
    pub(super) codes: BTreeMap<i16, u64>,
    pub(super) apis: BTreeMap<i16, u64>,
}

impl Sum {
    fn add(&mut self, answer: &Answer) {
        fn merge<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            from.iter().for_each(|(key, count)| *into.entry(key.clone()).or_insert(0) += count);
        }
        self.worlds += 1;
        self.virtual_ms += answer.virtual_ms;
        self.operations += answer.operations;
        self.acknowledged += answer.acknowledged;
        merge(&mut self.marks, &answer.marks);
        merge(&mut self.crash_points, &answer.crash_points);
        merge(&mut self.buggified, &answer.buggified);
        merge(&mut self.codes, &answer.codes);
        merge(&mut self.apis, &answer.apis);
        for (kind, (begun, happened)) in &answer.faults {
            let sum = self.faults.entry(kind.clone()).or_insert((0, 0));
            *sum = (sum.0 + begun, sum.1 + happened);
        }
    }
}

/// What a hunt came to.
pub(super) struct Hunted {
    pub(super) sum: Sum,
    pub(super) failures: Vec<Answer>,
    pub(super) took: Duration,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let hunted = hunt(arguments)?;
    let Hunted { sum, failures, took } = &hunted;
    let dir = results_dir()?;
    let json = serde_json::to_string_pretty(sum).map_err(|error| Failed::Other(error.to_string()))?;
    write(&dir.join("coverage.json"), &json)?;
    print_faults(sum);
    let mut checkers = BTreeSet::new();
    for answer in failures {
        let checker = answer.checker.clone().unwrap_or_default();
        println!("seed {} of commit {} fails with {checker}", answer.seed, commit());
        answer.failure.lines().for_each(|line| println!("    {line}"));
        println!("    cargo xtask sim run --seed {}{}", answer.seed, arguments.bugs.words());
        if !arguments.no_shrink && checkers.len() < SHRUNK_MAX && checkers.insert(checker) {
            keep(answer.seed, &arguments.bugs)?;
        }
    }
    println!(
        "hunt: {} worlds, {:.0} simulated seconds, {} operations, {} failures in {:.1} s ({:.0} worlds a minute)",
        sum.worlds,
        sum.virtual_ms as f64 / 1000.0,
        sum.operations,
        failures.len(),
        took.as_secs_f64(),
        sum.worlds as f64 * 60.0 / took.as_secs_f64().max(0.001),
    );
    if failures.is_empty() { Ok(()) } else { Err(Failed::Told) }
}

/// Runs worlds until time is up.
pub(super) fn hunt(arguments: &Arguments) -> Result<Hunted, Failed> {
    if !arguments.minutes.is_finite() || arguments.minutes < 0.0 {
        return Err(Failed::Usage(format!("--minutes {}: not a time", arguments.minutes)));
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(arguments.minutes * 60.0);
    let jobs =
        arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, core::num::NonZero::get));
    let pool =
        Pool { jobs, limit: Duration::from_secs(arguments.world_seconds), bugs: &arguments.bugs, is_fresh: false };
    let last = arguments.seeds.map(|count| arguments.from.saturating_add(count));
    let mut seed = arguments.from;
    let next = move || {
        let is_over = Instant::now() >= end || last.is_some_and(|last| seed >= last);
        seed += 1;
        (!is_over).then_some((seed - 1, None))
    };
    let (mut sum, mut failures) = (Sum::default(), Vec::new());
    let mut progress = Progress::new(begin);
    pool.run(next, &mut |answer| {
        sum.add(&answer);
        if answer.checker.is_some() {
            failures.push(answer);
        }
        progress.tell(&sum, failures.len());
        failures.len() < arguments.failures
    })?;
    progress.end();
    failures.sort_by_key(|answer| answer.seed);
    Ok(Hunted { sum, failures, took: begin.elapsed() })
}

impl Arguments {
    /// A hunt of so many minutes from seed 0, without anything else.
    pub(super) fn plain(minutes: f64, jobs: Option<usize>, bugs: Bugs) -> Self {
        Self { minutes, from: 0, jobs, seeds: None, failures: 20, world_seconds: 60, no_shrink: true, bugs }
    }
}

struct Progress {
    begin: Instant,
    told: Instant,
    is_terminal: bool,
}

impl Progress {
    fn new(begin: Instant) -> Self {
        Self { begin, told: begin, is_terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, sum: &Sum, failures: usize) {
        let pause = if self.is_terminal { Duration::from_millis(200) } else { PROGRESS };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let seconds = self.begin.elapsed().as_secs_f64();
        let happened = sum.faults.values().filter(|(_, happened)| *happened > 0).count();
        let line = format!(
            "{seconds:.0} s: {} worlds ({:.0}/min), {:.0} simulated s, {} operations, {happened} kinds of fault, {} marks, \
             {failures} failures",
            sum.worlds,
            sum.worlds as f64 * 60.0 / seconds.max(0.001),
            sum.virtual_ms as f64 / 1000.0,
            sum.operations,
            sum.marks.len(),
        );
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
            // Only progress is lost if it fails.
            let _flushed = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        if self.is_terminal {
            eprintln!();
        }
    }
}

fn print_faults(sum: &Sum) {
    let counts: Vec<String> =
        sum.faults.iter().map(|(kind, (begun, happened))| format!("{kind} {happened}/{begun}")).collect();
    println!("faults (happened/begun): {}", counts.join(", "));
    let ends: u64 = sum.crash_points.values().sum();
    println!("{} marks reached, {} crash points ended a process {ends} times", sum.marks.len(), sum.crash_points.len());
}

/// Writes a failing seed's plan, its trace, and a smaller plan.
fn keep(seed: u64, bugs: &Bugs) -> Done {
    let dir = results_dir()?;
    let plan = dir.join(format!("seed-{seed}.toml"));
    write(&plan, &quipu_hunt::swarm::plan(seed).to_text())?;
    let this = std::env::current_exe().map_err(Failed::io("this program"))?;
    let mut small = dir.join(format!("seed-{seed}.min.toml"));
    // A world that takes its process with it must not take the hunt.
    let mut shrink = Command::new(&this);
    shrink.args(["shrink", "--seconds", &SHRINK_SECONDS.to_string(), "--plan"]).arg(&plan).arg("--out").arg(&small);
    shrink.stdout(Stdio::null()).stderr(Stdio::null());
    for name in &bugs.planted {
        shrink.args(["--planted", name]);
    }
    if !shrink.status().is_ok_and(|status| status.success()) {
        println!("    shrinking it failed");
        small = plan;
    }
    let trace = dir.join(format!("seed-{seed}.trace"));
    let page = dir.join(format!("seed-{seed}.html"));
    let mut run = Command::new(&this);
    run.arg("trace").arg("--plan").arg(&small).arg("--out").arg(&trace).arg("--html").arg(&page);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    for name in &bugs.planted {
        run.args(["--planted", name]);
    }
    // It fails, since the plan does.
    let _failed = run.status();
    println!("    cargo xtask sim run --plan {}{}", small.display(), bugs.words());
    println!("    trace: {}, {}", trace.display(), page.display());
    Ok(())
}
