//! All tests of the workspace, with the real clients made ready before.

use std::ffi::OsString;

use clap::Args;
use quipu_testkit::clients::{Client, in_ci};
use quipu_testkit::{Failure, Result, broker};

use crate::step::{self, cargo};

/// What property tests draw their cases from.
const PROPERTY_SEED: &str = "PROPTEST_RNG_SEED";

/// All tests: the workspace's own and those with real clients against the real binary.
///
/// Needs Rust, a C toolchain, Python 3 and Java with Maven; kcat and strace come from the system. What is missing is named, and
/// its tests are skipped visibly; with CI=true a missing client is a failure. Python packages and Java artifacts are fetched into
/// the target directory once.
///
/// Property tests draw the same cases in every run, so that what fails once fails again: `PROPTEST_RNG_SEED` gives others,
/// `PROPTEST_CASES` more of them.
#[derive(Args, Debug, Default)]
pub(crate) struct Arguments {
    /// Only this package.
    #[arg(long, short)]
    package: Option<String>,
    /// Runs the tests with clusters of processes for ten minutes each.
    #[arg(long)]
    long: bool,
    /// Passed to `cargo test` (a filter, and after `--` to the test runner).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

impl Arguments {
    /// Whether tests of clusters of processes are among them.
    fn is_with_clusters(&self) -> bool {
        self.package.as_deref().is_none_or(|package| package == "quipu-e2e")
    }
}

/// Prepares the clients, builds the binary, runs the tests.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    prepare_clients()?;
    let mut tests = cargo(&["test", "--locked", "--no-fail-fast"]);
    if std::env::var_os("QUIPU_BIN").is_none() {
        tests.env("QUIPU_BIN", broker::build_binary(false)?);
    }
    if std::env::var_os("QUIPU_NEXT_BIN").is_none() && arguments.is_with_clusters() {
        tests.env("QUIPU_NEXT_BIN", broker::build_next_binary()?);
    }
    if std::env::var_os(PROPERTY_SEED).is_none() {
        tests.env(PROPERTY_SEED, "1");
    }
    if arguments.long {
        tests.env("QUIPU_E2E_LONG", "1");
    }
    match &arguments.package {
        Some(package) => tests.arg("--package").arg(package),
        None => tests.arg("--workspace"),
    };
    tests.args(&arguments.rest);
    step::run(tests)
}

fn prepare_clients() -> Result<()> {
    let mut missing = Vec::new();
    for client in Client::ALL {
        match client.prepare() {
            Ok(()) => println!("client: {} is there", client.name()),
            Err(error) => {
                println!("client: {} is MISSING, its tests will be skipped: {error}", client.name());
                missing.push(client.name());
            }
        }
    }
    if in_ci() && !missing.is_empty() {
        return Err(Failure::new(format!("CI=true, and clients are missing: {}", missing.join(", "))));
    }
    Ok(())
}
