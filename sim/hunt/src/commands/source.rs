//! Where a plan comes from: a seed or a file; and where results go.

use std::{fs, path::PathBuf, process::Command};

use clap::Args;
use quipu_hunt::{Options, Plan, swarm};

use super::Failed;

/// What to run.
#[derive(Args, Debug)]
pub(super) struct Source {
    /// The seed to make a plan from.
    #[arg(long, value_name = "N", required_unless_present = "plan")]
    pub(super) seed: Option<u64>,
    /// A file with a plan. With --seed, the plan is run with that seed beneath it.
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(super) bugs: Bugs,
}

/// Bugs on purpose.
#[derive(Args, Clone, Debug)]
pub(super) struct Bugs {
    /// Switch a planted bug on (may be given more than once).
    #[arg(long, value_name = "NAME")]
    pub(super) planted: Vec<String>,
}

impl Bugs {
    pub(super) fn options(&self) -> Options {
        Options::with_planted(&self.planted)
    }

    /// As arguments of a command line.
    pub(super) fn words(&self) -> String {
        self.planted.iter().map(|name| format!(" --planted {name}")).collect()
    }
}

impl Source {
    /// Reads or makes the plan. Errors: usage, with line and field.
    pub(super) fn read(&self) -> Result<Plan, Failed> {
        let Some(file) = &self.plan else {
            return Ok(swarm::plan(self.seed.unwrap_or(0)));
        };
        let text = fs::read_to_string(file).map_err(|error| Failed::Usage(format!("{}: {error}", file.display())))?;
        let mut plan = Plan::parse(&text).map_err(|error| Failed::Usage(format!("{}: {error}", file.display())))?;
        if let Some(seed) = self.seed {
            plan.seed = seed;
        }
        Ok(plan)
    }

    /// The command that runs the same again.
    pub(super) fn replay(&self) -> String {
        let plan = self.plan.as_ref().map_or_else(String::new, |file| format!(" --plan {}", file.display()));
        let seed = self.seed.map_or_else(String::new, |seed| format!(" --seed {seed}"));
        format!("cargo xtask sim run{seed}{plan}{}", self.bugs.words())
    }
}

/// The directory for what is found, made if need be.
pub(super) fn results_dir() -> Result<PathBuf, Failed> {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    let dir = target.map_or_else(|| PathBuf::from("target"), PathBuf::from).join("sim");
    fs::create_dir_all(&dir).map_err(Failed::io(dir.display()))?;
    Ok(dir)
}

/// The commit that is built from, as far as git knows.
pub(super) fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Writes a file.
pub(super) fn write(path: &std::path::Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text).map_err(Failed::io(path.display()))
}
