//! `run`: one plan, one verdict.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;
use quipu_hunt::{
    Outcome, Plan,
    check::Violation,
    trace::{
        Timeline,
        text::{self, Filter},
    },
};

use super::{
    Done, Failed,
    source::{Source, commit, write},
};

/// Violations that are told; the rest is counted.
const TOLD_MAX: usize = 3;
/// Operations around a violation that are told.
const OPERATIONS_MAX: usize = 6;

/// Runs one seed or plan, and gives a verdict.
///
/// Ends with three lines: `verdict: ok` or `verdict: FAIL <checker>`, `hash: <16 hex digits>` (equal for equal runs), and
/// `replay: <command>`. Exit status 1 if a check fails.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Write what clients asked and were told to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write all that happened in the world to this file, one line for each event (see `trace`).
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Show what the broker logs, from this level on: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let plan = arguments.source.read()?;
    show_log(arguments.log.as_deref())?;
    let mut options = arguments.source.bugs.options();
    options.keep_trace = arguments.trace.is_some();
    let outcome = quipu_hunt::run(&plan, &options);
    if let Some(file) = &arguments.history {
        let json = serde_json::to_string_pretty(&outcome.history).map_err(|error| Failed::Other(error.to_string()))?;
        write(file, &json)?;
    }
    if let Some(file) = &arguments.trace {
        let all = Filter { all: true, ..Filter::default() };
        write(file, &text::text(&Timeline::new(&plan, &outcome), &all))?;
    }
    print!("{}", counts(&outcome));
    tell_verdict(&plan, &arguments.source, &outcome)
}

/// What failed, if something did, and the last three lines.
pub(super) fn tell_verdict(plan: &Plan, source: &Source, outcome: &Outcome) -> Done {
    let verdict = match outcome.violations.first() {
        None => "ok".to_owned(),
        Some(first) => {
            println!("seed: {}\ncommit: {}", plan.seed, commit());
            print!("{}", failure(outcome));
            format!("FAIL {}", first.checker)
        }
    };
    println!("verdict: {verdict}\nhash: {:016x}\nreplay: {}", outcome.hash, source.replay());
    if outcome.violations.is_empty() { Ok(()) } else { Err(Failed::Told) }
}

fn show_log(level: Option<&str>) -> Done {
    let Some(level) = level else { return Ok(()) };
    let level: tracing_subscriber::filter::LevelFilter =
        level.parse().map_err(|_| Failed::Usage(format!("--log {level}: no such level")))?;
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).without_time().with_writer(std::io::stderr).init();
    Ok(())
}

/// What happened, in a few lines.
fn counts(outcome: &Outcome) -> String {
    let mut text = String::new();
    let tally = &outcome.tally;
    let _infallible = writeln!(
        text,
        "{:.3} simulated seconds, {} events, {} operations, {} batches acknowledged, {} starts ({} cut off), {} orderly stops",
        outcome.virtual_time.as_secs_f64(),
        outcome.event_count,
        tally.operations,
        tally.acknowledged,
        tally.starts,
        tally.failed_starts,
        tally.stops,
    );
    let faults: Vec<String> = outcome
        .faults
        .iter()
        .filter(|(_, count)| count.begun > 0)
        .map(|(kind, count)| format!("{kind} {}/{}", count.happened, count.begun))
        .collect();
    if !faults.is_empty() {
        let _infallible = writeln!(text, "faults (happened/begun): {}", faults.join(", "));
    }
    text
}

/// The violations, with the operations that show them.
pub(super) fn failure(outcome: &Outcome) -> String {
    let mut text = String::new();
    for violation in outcome.violations.iter().take(TOLD_MAX) {
        let _infallible = writeln!(text, "{violation}");
        for line in operations(outcome, violation) {
            let _infallible = writeln!(text, "    {line}");
        }
    }
    let more = outcome.violations.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        let _infallible = writeln!(text, "and {more} more violations");
    }
    text
}

fn operations(outcome: &Outcome, violation: &Violation) -> Vec<String> {
    violation.ops.iter().take(OPERATIONS_MAX).map(|index| outcome.history.tell(*index)).collect()
}

/// Every event as the hash has it, one a line.
pub(super) fn trace_text(outcome: &Outcome) -> String {
    let events = outcome.trace.iter().flatten();
    events.fold(String::new(), |mut text, event| {
        let _infallible = writeln!(text, "{event:?}");
        text
    })
}
