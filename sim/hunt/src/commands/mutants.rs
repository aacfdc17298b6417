//! `mutants`: hunts for every planted bug of the catalogue, and tells what it takes to find them.
//!
//! Each hunt of a bug has its own seeds and one worker; as many hunts run at once as there are cores. What is counted is the
//! processor's time, all worlds up to the first that fails.
//!
//! Not here: the bugs and their stories (`quipu_hunt::mutants`).

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Instant,
};

use clap::Args;
use quipu_hunt::{
    Options, Plan,
    mutants::{self, Mutant},
    plan::Loss,
    shrink, swarm,
};

use super::{
    Done, Failed,
    pool::Pool,
    source::{Bugs, write},
};

/// Between the first seeds of two hunts.
const HUNT_SEEDS: u64 = 1_000_000;
/// What the median over all bugs may take, seconds.
const MEDIAN_MAX: f64 = 120.0;
/// Real time for shrinking the plan that is kept of a bug.
const SHRINK_TIME: Duration = Duration::from_secs(60);

/// Hunts for the bugs that are planted in the broker, one after the other.
///
/// They are broken variants of product code that only simulations can switch on. A simulator that no longer finds one of them has
/// lost its sight. Prints for each how many seeds and how much of a processor's time each hunt took, which checks failed, and how
/// many faults it takes. Ends with one summary line; exit status 1 if a hunt has found nothing within its budget.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Print the bugs and the real failures that they copy, and stop.
    #[arg(long)]
    list: bool,
    /// Only these (may be given more than once).
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only bugs that show with so many brokers: 1 leaves out those that take a cluster, any more leaves out all others.
    #[arg(long, value_name = "N", conflicts_with = "only", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
    /// Processor time that one hunt may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    budget: u64,
    /// Hunts for each bug.
    #[arg(long, value_name = "N", default_value_t = 5)]
    hunts: u64,
    /// Hunts at once; as many as there are cores if not given.
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Seconds of a processor that one world may take.
    #[arg(long, value_name = "N", default_value_t = 20)]
    world_seconds: u64,
    /// Shrink what each bug's hunts find, and keep it in sim/mutants, from where the tests take it.
    #[arg(long)]
    keep: bool,
}

/// What one hunt came to.
#[derive(Clone, Debug)]
struct Hunt {
    number: u64,
    /// Worlds, the failing one included.
    seeds: u64,
    cpu: Duration,
    found: Option<Found>,
}

#[derive(Clone, Debug)]
struct Found {
    seed: u64,
    checker: String,
    /// How few of its faults are enough.
    faults: usize,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let chosen = choose(arguments)?;
    if arguments.list {
        chosen.iter().for_each(|mutant| list(mutant));
        return Ok(());
    }
    let begin = Instant::now();
    let jobs =
        arguments.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, core::num::NonZero::get)).max(1);
    let tasks = chosen.iter().flat_map(|mutant| (0..arguments.hunts).map(move |number| (*mutant, number)));
    let tasks: Mutex<VecDeque<(&Mutant, u64)>> = Mutex::new(tasks.collect());
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let (sender, results) = mpsc::channel();
    let all = thread::scope(|scope| {
        for _ in 0..jobs {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some((mutant, number)) = next() {
                    if sender.send((mutant, hunt(mutant, number, arguments))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut all: BTreeMap<&str, Vec<Hunt>> = BTreeMap::new();
        for (mutant, hunted) in results {
            let hunts = all.entry(mutant.name).or_default();
            hunts.push(hunted?);
            if hunts.len() as u64 == arguments.hunts {
                hunts.sort_by_key(|hunt| hunt.number);
                tell(mutant, hunts);
                if arguments.keep {
                    keep(mutant, hunts)?;
                }
            }
        }
        Ok(all)
    })?;
    summary(&all, begin.elapsed())
}

fn choose(arguments: &Arguments) -> Result<Vec<&'static Mutant>, Failed> {
    if arguments.only.is_empty() {
        let is_chosen = |mutant: &&Mutant| arguments.nodes.is_none_or(|nodes| mutant.needs_cluster() == (nodes > 1));
        let is_beyond = |mutant: &&Mutant| {
            mutant.by_models().is_some() || mutants::NOT_HUNTED.iter().any(|area| mutant.name.starts_with(area))
        };
        let is_hunted = |mutant: &&Mutant| arguments.list || !is_beyond(mutant);
        return Ok(mutants::catalogue().filter(is_chosen).filter(is_hunted).collect());
    }
    let find = |name: &String| {
        mutants::find(name)
            .ok_or_else(|| Failed::Usage(format!("--only {name}: there is no such bug; --list names them")))
    };
    arguments.only.iter().map(find).collect()
}

fn list(mutant: &Mutant) {
    println!("{}\n    {}\n    {}", mutant.name, mutant.bug, mutant.story);
    if let Some(why) = mutant.by_models() {
        println!("    Not hunted for: {why}");
    }
    println!();
}

fn hunt(mutant: &Mutant, number: u64, arguments: &Arguments) -> Result<Hunt, Failed> {
    let bugs = Bugs { planted: vec![mutant.name.to_owned()] };
    let limit = Duration::from_secs(arguments.world_seconds);
    let pool = Pool { jobs: 1, limit, bugs: &bugs, is_fresh: false };
    let budget = Duration::from_secs(arguments.budget);
    let begin = Instant::now();
    let mut seed = number * HUNT_SEEDS;
    let next = move || {
        seed += 1;
        while !mutant.may_show_in(&swarm::plan(seed - 1)) {
            seed += 1;
        }
        // Real time bounds what the processor's does not; others may be busy, too.
        (begin.elapsed() < budget * 8).then_some((seed - 1, None))
    };
    let mut hunt = Hunt { number, seeds: 0, cpu: Duration::ZERO, found: None };
    let mut last_cpu_ms = 0;
    pool.run(next, &mut |answer| {
        hunt.seeds += 1;
        if answer.cpu_ms == 0 {
            // Its process is gone, with what it has used: at most all of its time.
            hunt.cpu += limit;
            last_cpu_ms = 0;
        } else {
            // Another process begins anew.
            let spent_ms = answer.cpu_ms.checked_sub(last_cpu_ms).unwrap_or(answer.cpu_ms);
            hunt.cpu += Duration::from_millis(spent_ms);
            last_cpu_ms = answer.cpu_ms;
        }
        if let Some(checker) = answer.checker {
            // Of one that took its process with it, or only its time, nobody knows what it showed.
            let is_gone = answer.cpu_ms == 0;
            if is_gone {
                println!("seed {} is not judged: {}", answer.seed, answer.failure.trim());
            } else if !fails(&swarm::plan(answer.seed), &Options::default()) {
                let faults = faults_needed(mutant, answer.seed);
                hunt.found = Some(Found { seed: answer.seed, checker, faults });
            } else {
                println!("seed {} fails without any planted bug: that one is real", answer.seed);
            }
        }
        hunt.found.is_none() && hunt.cpu < budget
    })?;
    Ok(hunt)
}

/// Whether a run fails. Every world begins in a fresh thread.
fn fails(plan: &Plan, options: &Options) -> bool {
    let (plan, options) = (plan.clone(), options.clone());
    let world = thread::spawn(move || quipu_hunt::run(&plan, &options).failed_checker().is_some());
    world.join().unwrap_or(true)
}

/// How few of the faults of a seed's plan are enough for the bug to show: none, one, or all.
fn faults_needed(mutant: &Mutant, seed: u64) -> usize {
    let plan = swarm::plan(seed);
    let options = mutant.options();
    let mut fewer = plan.clone();
    fewer.faults.clear();
    fewer.budget.loss = Loss::None;
    if fails(&fewer, &options) {
        return 0;
    }
    let one = plan.faults.iter().any(|fault| {
        let mut fewer = plan.clone();
        fewer.faults = vec![fault.clone()];
        fails(&fewer, &options)
    });
    if one { 1 } else { plan.faults.len() }
}

fn median<T: Copy + PartialOrd>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = values.collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(core::cmp::Ordering::Equal));
    all.get(all.len() / 2).copied()
}

fn tell(mutant: &Mutant, hunts: &[Hunt]) {
    let words = |each: &dyn Fn(&Hunt) -> String| hunts.iter().map(each).collect::<Vec<_>>().join(" ");
    let found: Vec<&Found> = hunts.iter().filter_map(|hunt| hunt.found.as_ref()).collect();
    let checkers: BTreeSet<&str> = found.iter().map(|found| found.checker.as_str()).collect();
    println!(
        "{}: found in {} of {} hunts; seeds {}; CPU seconds {}; by {}; faults {}",
        mutant.name,
        found.len(),
        hunts.len(),
        words(&|hunt| hunt.seeds.to_string()),
        words(&|hunt| format!("{:.1}", hunt.cpu.as_secs_f64())),
        checkers.into_iter().collect::<Vec<_>>().join(", "),
        found.iter().map(|found| faults_word(found.faults)).collect::<Vec<_>>().join(" "),
    );
    if let Some(first) = found.first() {
        println!("    cargo xtask sim run --seed {} --planted {}", first.seed, mutant.name);
    }
}

fn faults_word(faults: usize) -> String {
    match faults {
        0 | 1 => faults.to_string(),
        _ => "2+".to_owned(),
    }
}

/// Shrinks what the hunts have found until a small plan passes without the bug, and writes it where tests look for it.
fn keep(mutant: &Mutant, hunts: &[Hunt]) -> Done {
    let found = hunts.iter().filter_map(|hunt| hunt.found.as_ref());
    for found in found {
        let (plan, options) = (swarm::plan(found.seed), mutant.options());
        let Some(shrunk) = shrink::shrink(&plan, &options, SHRINK_TIME, |_, _| {}) else { continue };
        if !fails(&shrunk.plan, &Options::default()) {
            let text =
                format!("# Shows the planted bug {}, by {}.\n{}", mutant.name, shrunk.checker, shrunk.plan.to_text());
            return write(&mutant.plan_file(), &text);
        }
    }
    println!("    no plan of it is kept");
    Ok(())
}

fn summary(all: &BTreeMap<&str, Vec<Hunt>>, took: Duration) -> Done {
    let missed: Vec<&str> =
        all.iter().filter(|(_, hunts)| hunts.iter().any(|hunt| hunt.found.is_none())).map(|(name, _)| *name).collect();
    let of_bug = |hunts: &Vec<Hunt>| median(hunts.iter().map(|hunt| hunt.cpu.as_secs_f64()));
    let middle = median(all.values().filter_map(of_bug)).unwrap_or(0.0);
    let worst = all.values().flatten().map(|hunt| hunt.cpu.as_secs_f64()).fold(0.0, f64::max);
    let needing = |least: usize| {
        let needs = |hunts: &&Vec<Hunt>| {
            let found = hunts.iter().filter_map(|hunt| hunt.found.as_ref());
            found.map(|found| found.faults).min().is_some_and(|faults| faults >= least)
        };
        all.values().filter(needs).count()
    };
    if !missed.is_empty() {
        println!("not found in every hunt: {}", missed.join(", "));
    }
    println!(
        "summary: {} bugs, {} found in every hunt; CPU seconds to find one: {middle:.1} in the median, {worst:.1} at most; \
         {} need a fault, {} more than one; {:.0} s",
        all.len(),
        all.len() - missed.len(),
        needing(1),
        needing(2),
        took.as_secs_f64(),
    );
    if missed.is_empty() && middle <= MEDIAN_MAX { Ok(()) } else { Err(Failed::Told) }
}
