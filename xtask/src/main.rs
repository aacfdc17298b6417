//! `cargo xtask`: everything that is done to this workspace beside building it.
//!
//! - [`ci`]: the whole CI; [`mod@test`]: the tests with real clients; [`fuzz`]: the fuzz targets; [`sim`]: the simulator;
//!   [`mod@bench`]: measurements; [`compat`]: other clients' suites.
//! - [`replay`]: whether a seed is the same run elsewhere; [`layout`], [`floors`], [`dependencies`], [`shipped`]: other checks
//!   of `ci`.
//!
//! Exit status: 0 done, 1 something failed, 2 usage. Not here: what the tests do (`tests/`). Read [`ci`] next.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool answers on stdout and complains on stderr"
)]

mod bench;
mod ci;
mod compat;
mod dependencies;
mod floors;
mod fuzz;
mod layout;
mod metadata;
mod replay;
mod shipped;
mod sim;
mod step;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The workspace's commands. Each has its own --help.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Ci(ci::Arguments),
    Test(test::Arguments),
    Fuzz(fuzz::Arguments),
    Sim(sim::Arguments),
    Replay(replay::Arguments),
    Bench(bench::Arguments),
    Compat(compat::Arguments),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Ci(arguments) => ci::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Compat(arguments) => compat::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
