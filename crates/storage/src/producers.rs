//! What a partition remembers of its idempotent producers: the last batches of each, by which duplicates and gaps are seen.
//!
//! Invariants
//! - The state is a function of the batches up to one offset: replaying their headers from an earlier state gives the same
//!   (but for `last_used`, which serves expiry only and takes the time of the replay).
//! - Checking a batch changes nothing; only [`Producers::record`] does.
//! - At most [`PRODUCER_BATCHES_MAX`] batches per producer and [`PRODUCERS_PER_PARTITION_MAX`] producers.
//!
//! Kept as a sorted vector of shared entries: a snapshot is a copy of pointers, and two snapshots share what did not change.
//!
//! Not here: transactions; which producer ids exist (the controller).

use std::{collections::BTreeSet, sync::Arc};

use quipu_base::{
    Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
    limits::{PRODUCER_BATCHES_MAX, PRODUCERS_PER_PARTITION_MAX},
};
use quipu_records::BatchHeader;
use serde::{Deserialize, Serialize};

use crate::AppendError;

/// One remembered batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub first_sequence: Sequence,
    /// Sequence of its last record.
    pub last_sequence: Sequence,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its max timestamp.
    pub timestamp: Timestamp,
}

/// What is remembered of one producer id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerState {
    /// The id.
    pub producer_id: ProducerId,
    /// The newest epoch seen.
    pub epoch: ProducerEpoch,
    /// Wall time of the last append, or of its replay.
    pub last_used: Timestamp,
    /// Batches of that epoch, oldest first, 1 to 5.
    pub batches: Vec<ProducerBatch>,
}

impl ProducerState {
    fn is_expired(&self, now: Timestamp, expiration_ms: i64) -> bool {
        now.0.saturating_sub(self.last_used.0) >= expiration_ms
    }
}

/// What a batch is to its producer's earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The next one, or the first of an unknown producer.
    New,
    /// Appended before, as this.
    Duplicate(ProducerBatch),
}

/// The producers of one partition, sorted by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    entries: Vec<(ProducerId, Arc<ProducerState>)>,
}

/// What changed from one state to a later one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProducersDelta {
    pub(crate) changed: Vec<ProducerState>,
    pub(crate) removed: Vec<ProducerId>,
}

impl Producers {
    pub(crate) fn from_states(states: Vec<ProducerState>) -> Self {
        let mut entries: Vec<_> = states.into_iter().map(|state| (state.producer_id, Arc::new(state))).collect();
        entries.sort_by_key(|(id, _)| *id);
        entries.dedup_by_key(|(id, _)| *id);
        Self { entries }
    }

    pub(crate) fn states(&self) -> impl ExactSizeIterator<Item = &ProducerState> {
        self.entries.iter().map(|(_, state)| &**state)
    }

    fn find(&self, id: ProducerId) -> Option<&ProducerState> {
        let index = self.entries.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.entries[index].1)
    }

    /// What `header` is to what is remembered. Kafka's rules: any first sequence from an unknown (or expired) producer; a new
    /// epoch begins at 0; else the sequence follows the last one's, or the batch is one of the last five.
    ///
    /// Errors: `InvalidProducerEpoch`, `OutOfOrderSequence`.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        now: Timestamp,
        expiration_ms: i64,
    ) -> Result<Verdict, AppendError> {
        if !is_sequenced(header) {
            return Ok(Verdict::New);
        }
        let Some(known) = self.find(header.producer_id).filter(|known| !known.is_expired(now, expiration_ms)) else {
            return Ok(Verdict::New);
        };
        if header.producer_epoch < known.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                current: known.epoch,
            });
        }
        let last = header.last_sequence();
        let expected = if header.producer_epoch > known.epoch {
            Sequence(0)
        } else {
            let is_same =
                |batch: &&ProducerBatch| batch.first_sequence == header.base_sequence && batch.last_sequence == last;
            if let Some(original) = known.batches.iter().find(is_same) {
                return Ok(Verdict::Duplicate(*original));
            }
            known.batches.last().map_or(Sequence(0), |batch| batch.last_sequence.advance(1))
        };
        if header.base_sequence == expected {
            Ok(Verdict::New)
        } else {
            Err(AppendError::OutOfOrderSequence {
                producer_id: header.producer_id,
                expected,
                received: header.base_sequence,
            })
        }
    }

    /// Takes note of an appended batch; `header` has its final base offset. A batch without a sequence changes nothing.
    pub(crate) fn record(&mut self, header: &BatchHeader, now: Timestamp) {
        if !is_sequenced(header) {
            return;
        }
        let batch = ProducerBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        };
        match self.entries.binary_search_by_key(&header.producer_id, |(id, _)| *id) {
            Ok(index) => {
                let state = Arc::make_mut(&mut self.entries[index].1);
                // A batch that does not follow was let in because the producer had expired: the history begins anew.
                let follows = state.epoch == header.producer_epoch
                    && state.batches.last().is_some_and(|last| last.last_sequence.advance(1) == batch.first_sequence);
                if !follows {
                    state.batches.clear();
                } else if state.batches.len() == PRODUCER_BATCHES_MAX {
                    state.batches.remove(0);
                }
                state.epoch = header.producer_epoch;
                state.last_used = now;
                state.batches.push(batch);
            }
            Err(_) => self.insert(header, batch, now),
        }
    }

    fn insert(&mut self, header: &BatchHeader, batch: ProducerBatch, now: Timestamp) {
        if self.entries.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.evict();
        }
        let state = ProducerState {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            last_used: now,
            batches: vec![batch],
        };
        let index = self.entries.partition_point(|(id, _)| *id < header.producer_id);
        self.entries.insert(index, (header.producer_id, Arc::new(state)));
    }

    /// Makes room for new producers: a sixteenth at once, so that a flood of ids does not pay for a search each. The order is
    /// that of last offsets, which a replay repeats exactly.
    fn evict(&mut self) {
        let last_offset = |state: &ProducerState| state.batches.last().map(|batch| batch.last_offset);
        let mut by_age: Vec<_> = self.entries.iter().map(|(id, state)| (last_offset(state), *id)).collect();
        by_age.sort_unstable();
        by_age.truncate((PRODUCERS_PER_PARTITION_MAX / 16).max(1));
        let leaving: BTreeSet<_> = by_age.into_iter().map(|(_, id)| id).collect();
        self.entries.retain(|(id, _)| !leaving.contains(id));
    }

    /// Forgets producers unused for `expiration_ms`. Whether there were any.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, state)| !state.is_expired(now, expiration_ms));
        self.entries.len() < before
    }

    pub(crate) fn has_expired(&self, now: Timestamp, expiration_ms: i64) -> bool {
        self.entries.iter().any(|(_, state)| state.is_expired(now, expiration_ms))
    }

    /// What turns `self` into `newer`.
    pub(crate) fn delta_to(&self, newer: &Self) -> ProducersDelta {
        let mut delta = ProducersDelta::default();
        let mut old = self.entries.iter().peekable();
        for (id, state) in &newer.entries {
            while let Some((gone, _)) = old.next_if(|(old_id, _)| old_id < id) {
                delta.removed.push(*gone);
            }
            let same = old.next_if(|(old_id, _)| old_id == id);
            if !same.is_some_and(|(_, before)| Arc::ptr_eq(before, state) || before == state) {
                delta.changed.push((**state).clone());
            }
        }
        delta.removed.extend(old.map(|(gone, _)| *gone));
        delta
    }

    /// Applies what [`Self::delta_to`] gave.
    pub(crate) fn apply(&mut self, delta: ProducersDelta) {
        if !delta.removed.is_empty() {
            let removed: BTreeSet<_> = delta.removed.into_iter().collect();
            self.entries.retain(|(id, _)| !removed.contains(id));
        }
        for state in delta.changed {
            let id = state.producer_id;
            match self.entries.binary_search_by_key(&id, |(id, _)| *id) {
                Ok(index) => self.entries[index].1 = Arc::new(state),
                Err(index) => self.entries.insert(index, (id, Arc::new(state))),
            }
        }
    }
}

impl PartialEq for Producers {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Producers {}

/// Transaction markers have a producer id but no sequence.
const fn is_sequenced(header: &BatchHeader) -> bool {
    header.has_producer_id() && header.base_sequence.0 >= 0
}

#[cfg(test)]
mod tests;
