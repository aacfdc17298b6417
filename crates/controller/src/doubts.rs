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
    unfit: BTreeMap<(TopicIdPartition, BrokerId), Unfit>,
}

/// Who said that it can't lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unfit {
    until: Instant,
    /// Time alone does not help: until it reports a sound log.
    is_damaged: bool,
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
        self.unfit.retain(|_, unfit| unfit.is_damaged || unfit.until > now);
    }

    /// Whether nothing was heard of the broker for longer than is usual.
    pub(crate) fn is_silent(&self, broker: BrokerId) -> bool {
        self.silent.contains(&broker)
    }

    /// Whether the broker said that it can't lead the partition: a short while ago, or because of its log and it has not reported a
    /// sound one since.
    pub(crate) fn is_unfit(&self, partition: TopicIdPartition, broker: BrokerId) -> bool {
        self.unfit.get(&(partition, broker)).is_some_and(|unfit| unfit.is_damaged || unfit.until > self.now)
    }

    pub(crate) fn note_unfit(&mut self, partition: TopicIdPartition, broker: BrokerId, is_damaged: bool) {
        if self.unfit.len() < UNFIT_MAX {
            self.unfit.insert((partition, broker), Unfit { until: self.now + UNFIT_TIME, is_damaged });
        }
    }

    /// Who is not elected before it reports a sound log, by partition.
    pub fn damaged(&self) -> impl Iterator<Item = (TopicIdPartition, BrokerId)> {
        self.unfit.iter().filter(|(_, unfit)| unfit.is_damaged).map(|(key, _)| *key)
    }

    /// The broker reports a sound log of the partition. What it said less than [`UNFIT_TIME`] ago holds until then.
    pub fn note_sound(&mut self, partition: TopicIdPartition, broker: BrokerId) {
        if let Some(unfit) = self.unfit.get_mut(&(partition, broker)) {
            unfit.is_damaged = false;
        }
    }

    /// Forgets partitions that are gone.
    pub fn retain_partitions(&mut self, mut is_there: impl FnMut(TopicIdPartition) -> bool) {
        self.unfit.retain(|(partition, _), _| is_there(*partition));
    }

    /// The broker's process started anew: what it said before is void.
    pub(crate) fn forget(&mut self, broker: BrokerId) {
        self.unfit.retain(|(_, unfit), _| *unfit != broker);
    }
}
