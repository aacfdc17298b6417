//! Who is better not elected, though the metadata says that he may be: what the active controller has heard, and writes nowhere.
//!
//! Invariants
//! - Doubts only choose among those who may lead: forgetting all of them costs time, never records.
//! - At most [`UNFIT_MAX`] are remembered.
//!
//! Not here: who is heard of at all (`sessions`, which keeps the silent ones up to date). Read `election` next.

use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{BrokerId, TopicIdPartition};
use quipu_env::Instant;

use crate::limits::{UNFIT_MAX, UNFIT_TIME};

/// What speaks against electing a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doubts {
    now: Instant,
    silent: BTreeSet<BrokerId>,
    /// Until when.
    unfit: BTreeMap<(TopicIdPartition, BrokerId), Instant>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self { now: Instant::ZERO, silent: BTreeSet::new(), unfit: BTreeMap::new() }
    }
}

impl Doubts {
    /// No doubts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn refresh(&mut self, now: Instant, silent: BTreeSet<BrokerId>) {
        (self.now, self.silent) = (now, silent);
        self.unfit.retain(|_, until| *until > now);
    }

    /// Whether nothing was heard of the broker for longer than is usual.
    pub(crate) fn is_silent(&self, broker: BrokerId) -> bool {
        self.silent.contains(&broker)
    }

    /// Whether the broker said a short while ago that it can't lead the partition.
    pub(crate) fn is_unfit(&self, partition: TopicIdPartition, broker: BrokerId) -> bool {
        self.unfit.get(&(partition, broker)).is_some_and(|until| *until > self.now)
    }

    pub(crate) fn note_unfit(&mut self, partition: TopicIdPartition, broker: BrokerId) {
        if self.unfit.len() < UNFIT_MAX {
            self.unfit.insert((partition, broker), self.now + UNFIT_TIME);
        }
    }

    /// The broker's process started anew: what it said before is void.
    pub(crate) fn forget(&mut self, broker: BrokerId) {
        self.unfit.retain(|(_, unfit), _| *unfit != broker);
    }
}
