//! The fuzz targets, one after the other, for a given time each.

use clap::Args;
use quipu_testkit::{Failure, Result, paths};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::step::{self, step};

/// Runs the fuzz targets with cargo-fuzz, one after the other.
///
/// Needs a nightly toolchain and cargo-fuzz (`rustup toolchain install nightly`, `cargo install cargo-fuzz`). It begins with
/// fuzz/corpus, which an ordinary test on stable runs too, and with what earlier runs have left in fuzz-corpus in the target
/// directory, where inputs that reach new code go. What it finds is kept in fuzz/artifacts: put it into fuzz/corpus with the fix.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
}

/// Runs the targets; the first that finds something ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let answers = |program: &str, words: &[&str]| {
        let quiet = Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    if !answers("cargo", &["+nightly", "--version"]) {
        return Err(Failure::new("fuzzing needs a nightly toolchain: rustup toolchain install nightly"));
    }
    if !answers("cargo", &["fuzz", "--version"]) {
        return Err(Failure::new("fuzzing needs cargo-fuzz: cargo install cargo-fuzz"));
    }
    for target in targets()? {
        if arguments.target.as_ref().is_some_and(|only| *only != target) {
            continue;
        }
        step(&format!("fuzz {target}"), || {
            let mut fuzz = Command::new("cargo");
            fuzz.current_dir(paths::workspace_root()).args(["+nightly", "fuzz", "run", "--features", "fuzzing"]);
            // With it, each of the targets would be linked for minutes.
            fuzz.env("CARGO_PROFILE_RELEASE_LTO", "off");
            fuzz.arg(&target)
                .arg(grown_corpus(&target)?)
                .arg(paths::workspace_root().join("fuzz/corpus").join(&target));
            fuzz.arg("--").arg(format!("-max_total_time={}", arguments.seconds));
            // libFuzzer's own limits: an input may not take 40 seconds, on a machine that may be busy, or 2 GiB.
            fuzz.args(["-timeout=40", "-rss_limit_mb=2048"]);
            step::run(fuzz)
        })?;
    }
    Ok(())
}

/// Where a target's new inputs go.
fn grown_corpus(target: &str) -> Result<PathBuf> {
    let directory = paths::target_dir().join("fuzz-corpus").join(target);
    std::fs::create_dir_all(&directory).map_err(Failure::context(directory.display()))?;
    Ok(directory)
}

/// The names of the files in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let directory = paths::workspace_root().join("fuzz").join("fuzz_targets");
    let entries = std::fs::read_dir(&directory).map_err(Failure::context(directory.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry.map_err(Failure::context(directory.display()))?.path();
        if let Some(name) = path.file_stem() {
            targets.push(name.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}
