//! The catalogue of planted bugs: broken variants of product code, switched on by [`quipu_env::Probe::planted`], each with the
//! story of a real failure that it copies. They judge the simulator: a hunt that does not find them proves nothing.
//!
//! | file | bugs of |
//! |---|---|
//! | `log_of_writes` | the write-ahead log: writing, filling, scanning |
//! | `checkpoints` | checkpoints and the manifest |
//! | `starts` | what a start takes in |
//! | `serving` | connections, handlers, shards, logs as clients see them |
//! | `consensus` | the metadata quorum |
//! | `replicas` | replicas of a partition on several nodes |
//!
//! Invariants
//! - Every name that product code asks for is here, and every name here is asked for; a test compares.
//! - No checker knows of any of them. Each is found by what the broker does wrong.
//! - For each, but those in [`UNSEEN`], there is a small plan in `sim/mutants` that shows it, and that passes without it.
//!
//! Not here: the command that hunts for them (`commands::mutants`), the switches (`quipu_sim`).

mod checkpoints;
mod consensus;
mod log_of_writes;
mod replicas;
mod serving;
mod starts;

use std::path::{Path, PathBuf};

use crate::Options;

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What product code asks for: `area.what-is-wrong`.
    pub name: &'static str,
    /// What the broken variant does.
    pub bug: &'static str,
    /// The real failure that it copies.
    pub story: &'static str,
}

/// All of them, by area.
pub fn catalogue() -> impl Iterator<Item = &'static Mutant> {
    let areas = [log_of_writes::BUGS, checkpoints::BUGS, starts::BUGS, serving::BUGS, consensus::BUGS, replicas::BUGS];
    areas.into_iter().flatten()
}

/// Bugs of what one broker by itself never does: the crate's own tests find them.
pub const OF_SEVERAL: &[&str] = &["repair.believed-unsynced", "repair.name-unsynced", "wal.step-torn"];

/// Bugs of which no small plan is kept: the crate's own tests find them.
pub const UNSEEN: &[&str] = &["repair.believed-unsynced", "repair.name-unsynced", "wal.step-torn"];

/// The one with that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Mutant> {
    catalogue().find(|mutant| mutant.name == name)
}

impl Mutant {
    /// A run with this bug switched on.
    #[must_use]
    pub fn options(&self) -> Options {
        Options::with_planted(&[self.name.to_owned()])
    }

    /// Whether it takes several nodes: one alone elects itself, and replicates nothing.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        ["raft.", "replication.", "step.", "truncate."].iter().any(|area| self.name.starts_with(area))
    }

    /// The small plan that shows it.
    #[must_use]
    pub fn plan_file(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../mutants").join(format!("{}.toml", self.name))
    }
}
