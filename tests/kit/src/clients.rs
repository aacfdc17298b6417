//! The real clients that the tests drive: which are on this machine, and how to run them.
//!
//! A missing client is named. With `CI=true` it is a failure; elsewhere the tests that need it are skipped, and say so on
//! the terminal, past the test runner's capture. [`Client::check`] is the one place that decides.
//!
//! Read `tests/e2e` next.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::kafka::Jars;
use crate::process::run;
use crate::{Failure, Result, paths};

/// Versions of the Python clients, and of the codecs that kafka-python does not bring along.
pub const PYTHON_PACKAGES: [&str; 6] = [
    "confluent-kafka==2.16.1",
    "kafka-python==3.0.12",
    "cramjam==2.14.0",
    "lz4==4.4.5",
    "python-snappy==0.7.3",
    "zstandard==0.25.0",
];

/// A client, or a tool of the tests, that may be missing on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// kcat, from the PATH.
    Kcat,
    /// Python 3 with the packages [`PYTHON_PACKAGES`].
    Python,
    /// The Java client and console tools.
    Java,
    /// strace, to watch system calls.
    Strace,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kcat, Self::Python, Self::Java, Self::Strace];

    /// Its name, as messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::Python => "Python clients (confluent-kafka, kafka-python)",
            Self::Java => "Java client and console tools",
            Self::Strace => "strace",
        }
    }

    /// Makes it ready: finds it, or fetches what it needs. The error says what is missing.
    pub fn prepare(self) -> Result<()> {
        match self {
            Self::Kcat => on_path("kcat"),
            Self::Strace => on_path("strace"),
            Self::Python => python().map(drop),
            Self::Java => Jars::fetch().map(drop),
        }
    }

    /// Whether a test that needs it can run. False: missing, said so on the terminal. Panics when missing in CI.
    pub fn check(self, test: &str) -> bool {
        let Err(error) = self.prepare() else { return true };
        assert!(!in_ci(), "{test} needs {}: {error}", self.name());
        skip(test, &format!("{} missing: {error}", self.name()));
        false
    }
}

/// Whether this is CI: `CI=true`.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says on the terminal, past the test runner's capture, that `test` is skipped.
pub fn skip(test: &str, why: &str) {
    // A closed terminal is no reason to fail.
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {why}"));
}

fn on_path(program: &str) -> Result<()> {
    match paths::program(program) {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!("`{program}` is not on the PATH (Debian: apt-get install {program})"))),
    }
}

/// A `kcat` command for this broker.
pub fn kcat(bootstrap: &str) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", bootstrap]);
    command
}

/// The interpreter of the virtual environment with the Python clients, made when it isn't there yet.
pub fn python() -> Result<PathBuf> {
    python_with(&[])
}

/// The same of an environment that has these packages (`name==version`) beside [`PYTHON_PACKAGES`]. Each list has its own.
pub fn python_with(more: &[&str]) -> Result<PathBuf> {
    let packages = [&PYTHON_PACKAGES, more].concat();
    let root = paths::target_dir().join("python");
    std::fs::create_dir_all(&root).map_err(Failure::context(root.display()))?;
    let lock = File::create(root.join("lock")).map_err(Failure::context(root.display()))?;
    lock.lock().map_err(Failure::context(format!("cannot lock {}", root.display())))?;
    let environment = root.join(packages.join("-").replace("==", "-"));
    let interpreter = environment.join("bin").join("python");
    let complete = environment.join("complete");
    if complete.is_file() && interpreter.is_file() {
        return Ok(interpreter);
    }
    make_environment(&environment, &packages)?;
    std::fs::write(&complete, packages.join("\n")).map_err(Failure::context(complete.display()))?;
    Ok(interpreter)
}

fn make_environment(environment: &Path, packages: &[&str]) -> Result<()> {
    if paths::program("python3").is_none() {
        return Err(Failure::new("`python3` is not on the PATH (Debian: apt-get install python3 python3-venv)"));
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(environment);
    run("python3 -m venv", venv, &[], Duration::from_secs(300))?;
    let mut pip = Command::new(environment.join("bin").join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    pip.args(packages);
    run("pip install", pip, &[], Duration::from_secs(900)).map(drop)
}
