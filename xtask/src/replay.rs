//! The same seed is the same run: in another process beside others (`meta`), and from a second clone at another path, under
//! another user and environment.
//!
//! Not here: what a run is (`sim/hunt`).

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use quipu_testkit::process::run as output_of;
use quipu_testkit::{Failure, Result, paths};

use crate::step::{self, cargo};

/// Nobody, on Debian and elsewhere.
const ANOTHER_USER: u32 = 65_534;
/// A world takes a fraction of a second.
const RUN_MAX: Duration = Duration::from_secs(120);
/// All files of the tree fit many times.
const LIST_MAX: Duration = Duration::from_secs(60);

/// Whether a seed is the same run wherever it runs: two processes, and a second clone under another user and environment.
///
/// The second clone is a copy of the working tree in the system's temporary directory, built there and removed at the end.
/// The user is changed only if this runs as root; it says so if not.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { seeds: 20 }
    }
}

/// Compares; the first difference ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let here = build(&paths::workspace_root(), &paths::target_dir())?;
    let mut meta = Command::new(&here);
    meta.current_dir(paths::workspace_root()).args(["meta", "--seeds", &arguments.seeds.to_string()]);
    step::run(meta)?;

    let clone = SecondClone::make()?;
    let there = build(&clone.0, &clone.0.join("target"))?;
    for seed in 0..arguments.seeds {
        let mut once = run_of(&here, seed);
        once.current_dir(paths::workspace_root());
        let (once, again) = (verdict(once)?, verdict(elsewhere(run_of(&there, seed), &clone.0))?);
        if once != again {
            return Err(Failure::new(format!(
                "seed {seed} is one run here:\n{once}\nand another in a second clone:\n{again}"
            )));
        }
    }
    println!("replay: {} seeds are the same runs in {}", arguments.seeds, clone.0.display());
    Ok(())
}

fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--quiet", "--locked", "--package", "quipu-hunt"]);
    build.current_dir(root).env("CARGO_TARGET_DIR", target);
    step::run(build)?;
    Ok(target.join("debug").join("quipu-hunt"))
}

fn run_of(binary: &Path, seed: u64) -> Command {
    let mut command = Command::new(binary);
    command.args(["run", "--seed", &seed.to_string()]);
    command
}

fn elsewhere(mut command: Command, directory: &Path) -> Command {
    command.current_dir(directory).env_clear();
    command.envs([
        ("HOME", "/nonexistent"),
        ("TZ", "Pacific/Chatham"),
        ("LANG", "tr_TR.UTF-8"),
        ("PATH", "/usr/bin:/bin"),
    ]);
    if rustix::process::geteuid().is_root() {
        command.uid(ANOTHER_USER).gid(ANOTHER_USER);
    } else {
        println!("replay: not root, so the second clone runs as the same user");
    }
    command
}

/// What a run says of itself, without what may differ: where it is.
fn verdict(command: Command) -> Result<String> {
    let text = output_of("quipu-hunt run", command, &[], RUN_MAX)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("commit: ") && !line.starts_with("replay: ")).collect();
    if lines.iter().any(|line| line.starts_with("hash: ")) {
        Ok(lines.join("\n"))
    } else {
        Err(Failure::new(format!("a run has no hash:\n{text}")))
    }
}

/// A copy of the working tree, removed when dropped.
struct SecondClone(PathBuf);

impl SecondClone {
    fn make() -> Result<Self> {
        let clone = Self(std::env::temp_dir().join(format!("quipu-second-clone-{}", std::process::id())));
        let root = paths::workspace_root();
        let mut list = Command::new("git");
        list.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let files = output_of("git ls-files", list, &[], LIST_MAX)?;
        for file in String::from_utf8_lossy(&files).split_terminator('\0').map(Path::new) {
            let (from, to) = (root.join(file), clone.0.join(file));
            // Listed and deleted since: part of no build.
            if from.is_file() {
                copy(&from, &to).map_err(Failure::context(format!("cannot copy {}", from.display())))?;
            }
        }
        Ok(clone)
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::copy(from, to).map(drop)
}

impl Drop for SecondClone {
    fn drop(&mut self) {
        // What stays behind is in the system's temporary directory, named after us.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
