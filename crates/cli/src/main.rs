//! `quipu`: the one binary.
//!
//! Exit status of every command: 0 done, 1 failed or damage found, 2 usage or configuration, 65 data damaged at start,
//! 69 directory held by another process, 74 sync of the write-ahead log failed, 78 another cluster's directory or a newer
//! format.
//!
//! Read `broker`, `config`, `log`, `topic`, `group`, `produce`, `consume` next: one file for each command.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

mod broker;
mod client;
mod cluster;
mod config;
mod consume;
mod dev;
mod escape;
mod group;
mod log;
mod output;
mod produce;
mod time;
mod topic;

use std::process::ExitCode;

use clap::Command;

/// Failed, or damage found.
const FAILED: u8 = 1;
/// Usage and configuration errors.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("broker", matches)) => broker::run(matches),
        Some(("cluster", matches)) => cluster::run(matches),
        Some(("config", matches)) => config::run(matches),
        Some(("consume", matches)) => consume::run(matches),
        Some(("dev", matches)) => dev::run(matches),
        Some(("group", matches)) => group::run(matches),
        Some(("log", matches)) => log::run(matches),
        Some(("produce", matches)) => produce::run(matches),
        Some(("topic", matches)) => topic::run(matches),
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
        .subcommand(topic::command())
        .subcommand(produce::command())
        .subcommand(consume::command())
        .subcommand(group::command())
        .subcommand(cluster::command())
        .subcommand(dev::command())
        .subcommand(log::command())
        .subcommand(config::command())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
