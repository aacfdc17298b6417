//! `shrink`: a small plan that fails in the same way.

use core::time::Duration;
use std::path::PathBuf;

use clap::Args;
use quipu_hunt::{Plan, shrink};

use super::{
    Done, Failed,
    source::{Source, results_dir, write},
};

/// Makes a failing plan small: fewer faults, clients, operations and partitions; milder, shorter, simpler.
///
/// Writes the small plan to target/sim, or to --out, and ends with one line that says what is left. Exit status 1 if the plan does
/// not fail.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Where to write the small plan.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Stop after so many seconds with the smallest plan found so far.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let plan = arguments.source.read()?;
    let limit = Duration::from_secs(arguments.seconds);
    let options = arguments.source.bugs.options();
    let shrunk = shrink::shrink(&plan, &options, limit, |plan, runs| eprintln!("after {runs} runs: {}", size(plan)));
    let Some(shrunk) = shrunk else {
        return Err(Failed::Other("the plan does not fail: nothing to shrink".to_owned()));
    };
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => results_dir()?.join(format!("seed-{}.min.toml", plan.seed)),
    };
    write(&out, &shrunk.plan.to_text())?;
    println!(
        "shrink: {} fails with {}; after {} runs {} ({})",
        out.display(),
        shrunk.checker,
        shrunk.runs,
        size(&shrunk.plan),
        format_args!("cargo xtask sim run --plan {}{}", out.display(), arguments.source.bugs.words()),
    );
    Ok(())
}

fn size(plan: &Plan) -> String {
    format!(
        "{} faults, {} operations, {} clients",
        plan.faults.len(),
        plan.operation_count(),
        plan.workload.clients.len()
    )
}
