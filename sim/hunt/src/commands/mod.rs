//! The command line: which commands there are, and what all of them share.
//!
//! | command | module | it |
//! |---|---|---|
//! | `run` | [`mod@run`] | runs one seed or plan and gives a verdict |
//! | `plan` | [`mod@plan`] | prints the plan of a seed |
//! | `hunt` | [`hunt`] | runs seeds on all cores, shrinks what fails |
//! | `shrink` | [`mod@shrink`] | makes a failing plan small |
//! | `trace` | [`mod@trace`] | tells a run as text, or draws it as a page |
//! | `meta` | [`meta`] | runs the same seeds in several ways and compares |
//! | `cover` | [`cover`] | names what a hunt never reached |
//! | `mutants` | [`mutants`] | hunts for the planted bugs |
//! | `bench` | [`bench`] | measures the simulator |
//! | `worker` | [`worker`] | a process of a hunt |

mod bench;
mod cover;
mod hunt;
mod meta;
mod mutants;
mod plan;
mod pool;
mod run;
mod shrink;
mod source;
mod trace;
mod worker;

use std::process::ExitCode;

use clap::Parser;

/// The shipped broker in a world that one seed controls: disks, networks, clocks and power fail, and every promise is checked.
///
/// Begin with `hunt --minutes 1`. What it finds is written to target/sim: a plan that fails, a smaller one that fails in the same
/// way, and its trace. `run` runs one of them again, the same every time; `trace` tells what happened in it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
enum Command {
    Run(run::Arguments),
    Plan(plan::Arguments),
    Hunt(hunt::Arguments),
    Shrink(shrink::Arguments),
    Trace(trace::Arguments),
    Meta(meta::Arguments),
    Cover(cover::Arguments),
    Mutants(mutants::Arguments),
    #[command(hide = true)]
    Bench(bench::Arguments),
    #[command(hide = true)]
    Worker(worker::Arguments),
}

/// Why a command failed.
pub(crate) enum Failed {
    /// What was asked for can't be done: exit status 2.
    Usage(String),
    /// What was run failed, and said so: exit status 1.
    Told,
    /// Something else went wrong: exit status 1.
    Other(String),
}

/// How a command ended.
pub(crate) type Done = Result<(), Failed>;

impl Failed {
    /// What the system said about something.
    pub(crate) fn io(what: impl core::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Other(format!("{what}: {error}"))
    }
}

pub(crate) fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(arguments) => run::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Hunt(arguments) => hunt::run(&arguments),
        Command::Shrink(arguments) => shrink::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Meta(arguments) => meta::run(&arguments),
        Command::Cover(arguments) => cover::run(&arguments),
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Told) => ExitCode::FAILURE,
        Err(Failed::Other(why)) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
        Err(Failed::Usage(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}
