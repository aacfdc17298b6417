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

use std::path::PathBuf;

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
    /// Only suites whose client or name contains this; the page is printed and not written.
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
    version: String,
    /// Or why it was not run.
    lines: std::result::Result<Vec<Line>, String>,
}

/// Runs everything and writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let binary = arguments.binary.clone().map_or_else(|| broker::build_binary(true), Ok)?;
    let wanted = |suite: &&suites::Suite| {
        arguments.only.as_ref().is_none_or(|only| suite.client.contains(only) || suite.name.contains(only))
    };
    let mut outcomes = Vec::new();
    for suite in suites::ALL.iter().filter(wanted) {
        println!("{}: {}", suite.client, suite.name);
        let outcome = one(suite, &binary);
        if let Err(why) = &outcome.lines {
            println!("  not run: {why}");
        }
        for line in outcome.lines.iter().flatten() {
            println!("  {:?} {} {}", line.verdict, line.name, line.why);
        }
        outcomes.push(outcome);
    }
    let page = report::page(&outcomes, &broker_version(&binary)?, &today()?);
    if arguments.only.is_some() {
        print!("{page}");
        return Ok(());
    }
    let file = paths::workspace_root().join("tests/COMPATIBILITY.md");
    std::fs::write(&file, page).map_err(Failure::context(file.display()))
}

fn one(suite: &suites::Suite, binary: &std::path::Path) -> Outcome {
    let (mut version, lines) = match try_one(suite, binary) {
        Ok(output) => parse(&output),
        Err(error) => (String::new(), Err(error.to_string())),
    };
    if version.is_empty() {
        version = (suite.version)();
    }
    Outcome { client: suite.client, suite: suite.name, version, lines }
}

fn try_one(suite: &suites::Suite, binary: &std::path::Path) -> Result<String> {
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

/// The version that a suite tells, and its lines.
fn parse(output: &str) -> (String, std::result::Result<Vec<Line>, String>) {
    let mut version = String::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        let split = |rest: &str| match rest.split_once(": ") {
            Some((name, why)) => (name.to_owned(), why.to_owned()),
            None => (rest.to_owned(), String::new()),
        };
        if let Some(told) = line.strip_prefix("version ") {
            told.clone_into(&mut version);
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
    let lines = if lines.is_empty() { Err("it printed no result".to_owned()) } else { Ok(lines) };
    (version, lines)
}

fn broker_version(binary: &std::path::Path) -> Result<String> {
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
        let (version, lines) = parse("version 1.2\nok a: b\nnoise\nFAIL c: why: so\nexcluded d: later\n");
        assert_eq!(version, "1.2");
        let line = |verdict, name: &str, why: &str| Line { verdict, name: name.into(), why: why.into() };
        let expected = [
            line(Verdict::Passes, "a: b", ""),
            line(Verdict::Fails, "c", "why: so"),
            line(Verdict::Excluded, "d", "later"),
        ];
        assert_eq!(lines.unwrap(), expected);
        assert!(parse("nothing\n").1.is_err());
    }
}
