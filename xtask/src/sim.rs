//! The simulator's commands: built with the profile `sim`, then run with the arguments as they were given.
//!
//! Not here: what the commands do (`sim/hunt`).

use std::{ffi::OsString, path::Path, process::Command};

use clap::Args;
use quipu_testkit::{Failure, Result, paths};

use crate::step::{self, cargo};

/// Runs the broker in simulated worlds: run, plan, hunt, shrink, trace, meta, cover, mutants. `cargo xtask sim --help` tells of each.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// A command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Builds, runs, and ends with the same status: 0, 1 or 2.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let status = hunt(&arguments.words)?.status().map_err(Failure::context("cannot run quipu-hunt"))?;
    if status.success() {
        return Ok(());
    }
    // It has told why.
    std::process::exit(status.code().unwrap_or(1));
}

/// Prints how fast worlds run, and writes it to a file.
pub(crate) fn bench(quick: bool, json: Option<&Path>) -> Result<()> {
    let mut words = vec![OsString::from("bench")];
    words.extend(quick.then(|| OsString::from("--quick")));
    if let Some(file) = json {
        let file = std::path::absolute(file).map_err(Failure::context(format!("cannot write {}", file.display())))?;
        words.extend([OsString::from("--json"), file.into()]);
    }
    step::run(hunt(&words)?)
}

fn hunt(words: &[OsString]) -> Result<Command> {
    step::run(cargo(&["build", "--quiet", "--profile", "sim", "--package", "quipu-hunt"]))?;
    let mut command = Command::new(paths::target_dir().join("sim").join("quipu-hunt"));
    command.current_dir(paths::workspace_root()).args(words);
    Ok(command)
}
