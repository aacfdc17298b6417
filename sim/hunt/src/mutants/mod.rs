//! The catalogue of planted bugs: broken variants of product code, switched on by [`quipu_env::Probe::planted`], each with the
//! story of a real failure that it copies. They judge the simulator: a hunt that does not find them proves nothing.
//!
//! | file | bugs of |
//! |---|---|
//! | `log_of_writes` | the write-ahead log: writing, filling, scanning |
//! | `checkpoints` | checkpoints and the manifest |
//! | `cleaning` | retention and compaction |
//! | `starts` | what a start takes in |
//! | `serving` | connections, handlers, shards, logs as clients see them |
//! | `consensus` | the metadata quorum |
//! | `controllers` | the active controller: when it begins, whom it takes in |
//! | `replicas` | replicas of a partition on several nodes |
//! | `groups` | consumer groups and their coordinators |
//!
//! Invariants
//! - Every name that product code asks for is here, and every name here is asked for; a test compares.
//! - No checker knows of any of them. Each is found by what the broker does wrong.
//! - For each of one broker, but those in [`UNSEEN`], there is a small plan in `sim/mutants` that shows it, and that passes without it;
//!   for those of a cluster, for many.
//! - What no world can show, or hardly ever, stands in [`BY_MODELS`] with the reason: there the crate's own models find it.
//!
//! Not here: the command that hunts for them (`commands::mutants`), the switches (`quipu_sim`).

mod checkpoints;
mod cleaning;
mod consensus;
mod controllers;
mod groups;
mod log_of_writes;
mod replicas;
mod serving;
mod starts;

use std::path::{Path, PathBuf};

use crate::{Options, plan::Plan};

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
    let areas = [
        log_of_writes::BUGS,
        checkpoints::BUGS,
        cleaning::BUGS,
        starts::BUGS,
        serving::BUGS,
        consensus::BUGS,
        controllers::BUGS,
        replicas::BUGS,
        groups::BUGS,
    ];
    areas.into_iter().flatten()
}

/// Areas, and bugs, that are hunted for only by name: no workload has topics that retention or compaction looks at, yet, and no
/// member of a group says what is not its to say, or says that it lives and does not answer.
pub const NOT_HUNTED: &[&str] = &[
    "compact.",
    "groups.follower-assigns",
    "groups.owners-forgotten",
    "groups.rebalance-unbounded",
    "groups.revocation-unbounded",
    "retention.",
];

/// Bugs of which no small plan is kept: the crate's own tests find them.
pub const UNSEEN: &[&str] = &[
    "compact.swap-not-atomic",
    "compact.tombstone-dropped-early",
    "compact.value-lost-at-segment-border",
    "groups.follower-assigns",
    "groups.owners-forgotten",
    "groups.rebalance-unbounded",
    "groups.revocation-unbounded",
    "groups.static-fenced-wrongly",
    "groups.wake-up-lost",
    "repair.name-unsynced",
    "retention.above-high-watermark",
    "retention.future-timestamp",
    "wal.step-torn",
];

/// Bugs that hunts are not asked for, each with the reason. Scripts that are aimed at them, and model checkers, which run the same code,
/// find them: `planted` among the tests of `quipu-raft` and `quipu-replication`.
pub const BY_MODELS: &[(&str, &str)] = &[
    ("raft.commit-old-epoch", RARE),
    ("raft.no-check-quorum", HEALED),
    ("raft.prevote-raises-epoch", HEALED),
    ("raft.snapshot-no-voters", RARE),
    ("raft.voters-before-own-entry", RARE),
    ("raft.voters-kept", RARE),
    ("replication.acknowledge-without-label", RARE),
    ("replication.answers-before-unfenced", RARE),
    ("replication.cleared-without-stamp", RARE),
    ("replication.compare-by-last-epoch", RARE),
    ("replication.damaged-promise-kept", RARE),
    ("replication.delete-forgotten-by-change", RARE),
    ("replication.label-early", RARE),
    ("replication.lost-source-counted", RARE),
    ("replication.pending-dropped-on-refusal", RARE),
    ("replication.piece-from-moved-source", RARE),
    ("replication.promise-and-report-apart", RARE),
    (
        "replication.same-epoch-resume",
        "the controller raises the epoch at each registration, and before it nobody leads.",
    ),
];

const RARE: &str =
    "even drawn schedules of its state machine alone do not find it, only a script that is aimed at it does.";
const HEALED: &str = "it costs elections and no data, and once faults have healed nothing of it is left.";

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
        let areas = ["raft.", "replication.", "repair.", "step.", "truncate."];
        let others = [
            "controller.begins-before-replay",
            "controller.node-id-in-use-accepted",
            "start.epoch-not-stored",
            "start.moved-replica-kept",
            "start.replaced-goes-on",
            "wal.step-torn",
        ];
        areas.iter().any(|area| self.name.starts_with(area)) || others.contains(&self.name)
    }

    /// Whether a world can show it.
    #[must_use]
    pub fn may_show_in(&self, plan: &Plan) -> bool {
        // What takes several nodes is not looked for where there is one, nor the other way round: there it takes longer.
        self.needs_cluster() == plan.config.is_cluster() && (plan.has_groups() || !self.name.starts_with("groups."))
    }

    /// Why hunts are not asked for it, if they are not.
    #[must_use]
    pub fn by_models(&self) -> Option<&'static str> {
        BY_MODELS.iter().find(|(name, _)| *name == self.name).map(|(_, why)| *why)
    }

    /// The small plan that shows it.
    #[must_use]
    pub fn plan_file(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../mutants").join(format!("{}.toml", self.name))
    }
}
