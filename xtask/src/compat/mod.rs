//! `cargo xtask compat`: other people's clients, and their own suites, against our binary; what passes, what fails and why.
//!
//! - [`suites`]: what is run, and how each suite is made ready. [`console`]: the flows of kcat and of Kafka's console tools.
//! - [`report`]: `tests/COMPATIBILITY.md`, which nobody edits by hand.
//!
//! A suite is a program that prints a line for each thing it tries: `ok NAME`, `FAIL NAME: WHY` or `excluded NAME: WHY`, and
//! `version WHAT` if it knows. Each runs against a broker of its own on a fresh directory. A failure is a line of the report and no
//! error of this command. Suites that others wrote are fetched below the target directory, never copied into the repository.
//!
//! Read [`suites`] next, then `tests/compat`.

mod console;
mod report;
mod suites;

use std::path::{Path, PathBuf};

use clap::Args;
use quipu_testkit::broker::{self, Broker, Options};
use quipu_testkit::scratch::Scratch;
use quipu_testkit::{Failure, Result, paths};

/// Runs the suites of many clients against our broker, and writes tests/COMPATIBILITY.md.
///
/// What a suite needs and isn't there (node, go, Java, ...) is fetched through its language's own packages below the target directory,
/// or the suite is told as not run.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only suites whose client or name contains this; the page keeps what the others came to when they were run last.
    #[arg(long)]
    only: Option<String>,
    /// Run this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// How one thing that a suite tries went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passes,
    Fails,
    /// The suite asks for what this release does not have, or for what is no broker's affair.
    Excluded,
}

/// One line of a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    verdict: Verdict,
    name: String,
    /// Why it fails or is excluded.
    why: String,
}

/// What a suite came to.
#[derive(Debug)]
struct Outcome {
    client: &'static str,
    suite: &'static str,
    /// When it was run; empty if it was not.
    date: String,
    version: String,
    /// Or why it was not run.
    lines: std::result::Result<Vec<Line>, String>,
}

/// Runs everything, and writes the page after each suite: who ends a run early has what was done until then.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let binary = arguments.binary.clone().map_or_else(|| broker::build_binary(true), Ok)?;
    let wanted = |suite: &&suites::Suite| {
        arguments.only.as_ref().is_none_or(|only| suite.client.contains(only) || suite.name.contains(only))
    };
    for suite in suites::ALL.iter().filter(wanted) {
        println!("{}: {}", suite.client, suite.name);
        let told = one(suite, &binary)?;
        keep(suite, &told)?;
        let outcome = outcome(suite, &told);
        if let Err(why) = &outcome.lines {
            println!("  not run: {why}");
        }
        for line in outcome.lines.iter().flatten() {
            println!("  {:?} {} {}", line.verdict, line.name, line.why);
        }
        write_page(&binary)?;
    }
    Ok(())
}

/// Runs a suite; gives its lines, with its date and version before them, or why it was not run.
fn one(suite: &suites::Suite, binary: &Path) -> Result<String> {
    let date = today()?;
    let output = match try_one(suite, binary) {
        Ok(output) => output,
        Err(error) => format!("not run: {}", error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
    };
    Ok(format!("date {date}\nversion {}\n{output}\n", (suite.version)()))
}

/// Where a suite's last lines are kept, for the page of a later run.
fn kept(suite: &suites::Suite) -> PathBuf {
    let name: String = format!("{} {}", suite.client, suite.name)
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    paths::target_dir().join("compat/outcomes").join(name)
}

fn keep(suite: &suites::Suite, told: &str) -> Result<()> {
    let file = kept(suite);
    let directory = file.parent().expect("the file is in a directory");
    std::fs::create_dir_all(directory).map_err(Failure::context(directory.display()))?;
    std::fs::write(&file, told).map_err(Failure::context(file.display()))
}

fn write_page(binary: &Path) -> Result<()> {
    let outcomes: Vec<Outcome> = suites::ALL
        .iter()
        .map(|suite| outcome(suite, &std::fs::read_to_string(kept(suite)).unwrap_or_default()))
        .collect();
    let page = report::page(&outcomes, &broker_version(binary)?, &today()?);
    let file = paths::workspace_root().join("tests/COMPATIBILITY.md");
    std::fs::write(&file, page).map_err(Failure::context(file.display()))
}

fn try_one(suite: &suites::Suite, binary: &Path) -> Result<String> {
    let ready = (suite.prepare)()?;
    let scratch = Scratch::new("compat")?;
    let settings = scratch.join("settings.toml");
    std::fs::write(&settings, suite.settings).map_err(Failure::context(settings.display()))?;
    let options =
        Options::with_binary(binary, scratch.join("data")).arguments(["--config".into(), settings.into_os_string()]);
    let mut broker = Broker::start_with(options)?;
    let output = (suite.run)(&ready, &broker.bootstrap(), scratch.path())?;
    let status = broker.stop()?;
    if status.success() { Ok(output) } else { Err(Failure::new(format!("the broker ended with {status}"))) }
}

/// What a suite's lines come to.
fn outcome(suite: &suites::Suite, told: &str) -> Outcome {
    let (mut date, mut version) = (String::new(), String::new());
    let mut lines = Vec::new();
    let mut why = if told.is_empty() { "nobody has run it here" } else { "it printed no result" }.to_owned();
    for line in told.lines() {
        let split = |rest: &str| match rest.split_once(": ") {
            Some((name, why)) => (name.to_owned(), why.to_owned()),
            None => (rest.to_owned(), String::new()),
        };
        if let Some(told) = line.strip_prefix("date ") {
            told.clone_into(&mut date);
        } else if let Some(told) = line.strip_prefix("version ") {
            told.clone_into(&mut version);
        } else if let Some(told) = line.strip_prefix("not run: ") {
            told.clone_into(&mut why);
        } else if let Some(name) = line.strip_prefix("ok ") {
            lines.push(Line { verdict: Verdict::Passes, name: name.to_owned(), why: String::new() });
        } else if let Some(rest) = line.strip_prefix("FAIL ") {
            let (name, why) = split(rest);
            lines.push(Line { verdict: Verdict::Fails, name, why });
        } else if let Some(rest) = line.strip_prefix("excluded ") {
            let (name, why) = split(rest);
            lines.push(Line { verdict: Verdict::Excluded, name, why });
        }
    }
    let lines = if lines.is_empty() { Err(why) } else { Ok(lines) };
    Outcome { client: suite.client, suite: suite.name, date, version, lines }
}

fn broker_version(binary: &Path) -> Result<String> {
    let mut command = std::process::Command::new(binary);
    command.arg("--version");
    suites::told(command)
}

fn today() -> Result<String> {
    let mut command = std::process::Command::new("date");
    command.args(["-u", "+%F"]);
    suites::told(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_noise_is_not() {
        let suite = &suites::ALL[0];
        let told = "date 2001-02-03\nversion 0\nversion 1.2\nok a: b\nnoise\nFAIL c: why: so\nexcluded d: later\n";
        let Outcome { date, version, lines, .. } = outcome(suite, told);
        assert_eq!((date.as_str(), version.as_str()), ("2001-02-03", "1.2"));
        let line = |verdict, name: &str, why: &str| Line { verdict, name: name.into(), why: why.into() };
        let expected = [
            line(Verdict::Passes, "a: b", ""),
            line(Verdict::Fails, "c", "why: so"),
            line(Verdict::Excluded, "d", "later"),
        ];
        assert_eq!(lines.unwrap(), expected);
        assert!(outcome(suite, "nothing\n").lines.is_err());
        assert_eq!(outcome(suite, "date 2001-02-03\nnot run: no node\n").lines.unwrap_err(), "no node");
    }
}
