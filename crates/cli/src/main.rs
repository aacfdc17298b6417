//! `quipu`: the one binary.
//!
//! Exit status of every command: 0 done, 1 failed or damage found, 2 usage or configuration, 65 data damaged at start,
//! 69 directory held by another process, 74 sync of the write-ahead log failed, 78 another cluster's directory or a newer
//! format.
//!
//! Read `broker`, `config`, `log` next: one file for each command.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

mod broker;
mod config;
mod log;

use std::process::ExitCode;

use clap::Command;

/// Usage and configuration errors.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("broker", matches)) => broker::run(matches),
        Some(("config", matches)) => config::run(matches),
        Some(("log", matches)) => log::run(matches),
        _ => unreachable!("clap requires one of the subcommands"),
    }
}

fn command() -> Command {
    Command::new("quipu")
        .about("A distributed log that speaks the Kafka protocol and keeps what it acknowledges")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(broker::command())
        .subcommand(config::command())
        .subcommand(log::command())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
