//! `meta`: the same seeds in other processes, in another order, beside other worlds: the same runs, event by event.

use core::time::Duration;
use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::Args;

use super::{
    Done, Failed,
    pool::Pool,
    source::{Bugs, results_dir},
};

/// Runs the same seeds twice, in different processes and at different parallelism, and compares their hashes.
///
/// A difference prints the first event that differs. Ends with one summary line; exit status 1 if anything differs.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 50)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    #[command(flatten)]
    bugs: Bugs,
}

/// By seed: hash, events.
type Hashes = BTreeMap<u64, (u64, u64)>;

pub(super) fn run(arguments: &Arguments) -> Done {
    let seeds: Vec<u64> = (arguments.from..arguments.from.saturating_add(arguments.seeds)).collect();
    let one_by_one = hashes(&seeds, 1, &arguments.bugs)?;
    let backwards: Vec<u64> = seeds.iter().rev().copied().collect();
    let together = hashes(&backwards, 3, &arguments.bugs)?;
    let differing: Vec<u64> = seeds.into_iter().filter(|seed| one_by_one.get(seed) != together.get(seed)).collect();
    if let Some(first) = differing.first() {
        println!("{}", first_difference(*first, &arguments.bugs)?);
    }
    println!("meta: {} seeds, {} differ between two processes", arguments.seeds, differing.len());
    if differing.is_empty() { Ok(()) } else { Err(Failed::Told) }
}

fn hashes(seeds: &[u64], jobs: usize, bugs: &Bugs) -> Result<Hashes, Failed> {
    let pool = Pool { jobs, limit: Duration::from_secs(600), bugs, is_fresh: false };
    let mut left = seeds.iter();
    let mut hashes = Hashes::new();
    pool.run(|| left.next().map(|seed| (*seed, None)), &mut |answer| {
        hashes.insert(answer.seed, (answer.hash, answer.event_count));
        true
    })?;
    Ok(hashes)
}

/// Runs a seed twice more, with all its events, alone and beside others.
fn first_difference(seed: u64, bugs: &Bugs) -> Result<String, Failed> {
    let dir = results_dir()?;
    let files = [dir.join(format!("seed-{seed}.once.trace")), dir.join(format!("seed-{seed}.again.trace"))];
    let traces: Vec<Vec<String>> =
        files.iter().map(|file| trace(seed, file.clone(), bugs)).collect::<Result<_, _>>()?;
    let [once, again] = &traces[..] else { return Err(Failed::Other("two traces were asked for".to_owned())) };
    let common = once.iter().zip(again).take_while(|(left, right)| left == right).count();
    let show = |trace: &[String]| trace.get(common).map_or("nothing", String::as_str).to_owned();
    Ok(if common == once.len().max(again.len()) {
        format!("seed {seed}: the hashes differed, and two more runs were the same: {}", files[0].display())
    } else {
        format!(
            "seed {seed}: event {common} is {:?} once and {:?} another time ({} and {})",
            show(once),
            show(again),
            files[0].display(),
            files[1].display()
        )
    })
}

fn trace(seed: u64, file: PathBuf, bugs: &Bugs) -> Result<Vec<String>, Failed> {
    let pool = Pool { jobs: 1, limit: Duration::from_secs(600), bugs, is_fresh: true };
    let mut request = Some((seed, Some(file.clone())));
    pool.run(|| request.take(), &mut |_| true)?;
    let text = fs::read_to_string(&file).map_err(Failed::io(file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
