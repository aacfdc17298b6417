//! The whole CI, in the order in which it fails fastest.

use clap::Args;
use quipu_testkit::Result;

use crate::step::{self, cargo, step};
use crate::{dependencies, floors, layout, replay, shipped, test};

/// The whole CI: layout, floors, dependencies, formatting, lints, documentation, tests, fuzz corpus, replays, the shipped binary.
///
/// Dependencies are checked offline: licences, sources, duplicate versions, and a list of advisories kept by hand. There is no
/// advisory database to be had where CI runs; yanked versions show on `cargo update`. Run `cargo deny` too where you can.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Leave out the tests: only what takes a minute.
    #[arg(long)]
    no_tests: bool,
}

/// Runs every step; the first that fails ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    step("layout", layout::check)?;
    step("floors", floors::check)?;
    step("dependencies", dependencies::check)?;
    step("formatting", || step::run(cargo(&["fmt", "--all", "--check"])))?;
    step("lints", || {
        step::run(cargo(&["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("documentation", || {
        let mut doc = cargo(&["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
        // It replaces what .cargo/config.toml sets, without which `sim` does not build.
        doc.env("RUSTDOCFLAGS", "--cfg madsim -D warnings -A rustdoc::private_intra_doc_links");
        step::run(doc)
    })?;
    if arguments.no_tests {
        return Ok(());
    }
    // The fuzz corpus is run by an ordinary test of the `fuzz` package.
    step("tests", || test::run(&test::Arguments::default()))?;
    step("replay", || replay::run(&replay::Arguments::default()))?;
    step("shipped binary", shipped::check)
}
