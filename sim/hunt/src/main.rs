//! `quipu-hunt`: the commands behind `cargo xtask sim`. One module for each.
//!
//! Exit status: 0 all is well, 1 something failed, 2 usage.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool answers on stdout and complains on stderr"
)]

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
