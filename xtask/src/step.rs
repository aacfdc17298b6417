//! Running commands where the user sees them, one announced step at a time.

use std::process::Command;
use std::time::Instant;

use quipu_testkit::{Failure, Result, paths};

/// A cargo command in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(paths::cargo());
    command.current_dir(paths::workspace_root()).args(arguments);
    command
}

/// Runs `command` with our own stdin, stdout and stderr. Errors: it cannot start, or its status isn't 0.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let line = describe(&command);
    let status = command.status().map_err(Failure::context(format!("cannot run `{line}`")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{line}` failed ({status})"))) }
}

/// Announces and does one step; says how long it took.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n==> {name}");
    let begin = Instant::now();
    let done = work();
    let verdict = if done.is_ok() { "ok" } else { "FAILED" };
    println!("<== {name}: {verdict} in {:.1} s", begin.elapsed().as_secs_f64());
    done
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
