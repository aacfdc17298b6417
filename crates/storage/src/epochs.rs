//! Which leader epoch begins at which offset: the table behind `OffsetForLeaderEpoch` (KIP-101).
//!
//! Invariants
//! - Epochs and start offsets rise strictly from entry to entry.
//! - The table says nothing about offsets at or above the log's end, nor about epochs that end at or below its start.
//!
//! Not here: who leads. An epoch enters the table with its first batch.

use quipu_base::{LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

/// One epoch and the offset of its first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Where it begins.
    pub start: Offset,
}

/// The epochs of one partition, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EpochTable {
    entries: Vec<EpochStart>,
}

impl EpochTable {
    pub(crate) fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    pub(crate) const fn from_entries(entries: Vec<EpochStart>) -> Self {
        Self { entries }
    }

    /// Takes note of a batch of `epoch` at `offset`. An epoch already known, or an older one, changes nothing.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        while self.entries.last().is_some_and(|last| last.start >= offset) {
            self.entries.pop();
        }
        self.entries.reserve_exact(1);
        self.entries.push(EpochStart { epoch, start: offset });
    }

    /// Forgets what begins at or above the log's new end.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.entries.retain(|entry| entry.start < end);
    }

    /// Forgets what ends at or below the log's new start; the epoch in force there begins there from now on.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        let later = self.entries.partition_point(|entry| entry.start <= log_start);
        if let Some(in_force) = later.checked_sub(1) {
            self.entries.drain(..in_force);
            self.entries[0].start = log_start;
        }
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The epoch of the record at `offset`; none below the first epoch.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let later = self.entries.partition_point(|entry| entry.start <= offset);
        later.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// Kafka's answer to "where does `epoch` end": the largest epoch not above it and that epoch's end, where the latest epoch
    /// ends at `upper`. For an epoch before the first: that epoch and the first one's start. For one after the latest, or
    /// with nothing known: `(LeaderEpoch::NONE, Offset(-1))`.
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, upper: Offset) -> (LeaderEpoch, Offset) {
        const UNDEFINED: (LeaderEpoch, Offset) = (LeaderEpoch::NONE, Offset(-1));
        let Some(latest) = self.latest() else { return UNDEFINED };
        if epoch == latest {
            return (epoch, upper);
        }
        if epoch > latest || epoch < LeaderEpoch(0) {
            return UNDEFINED;
        }
        let later = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries[later].start.min(upper);
        let answered = later.checked_sub(1).map_or(epoch, |index| self.entries[index].epoch);
        (answered, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(i32, i64)]) -> EpochTable {
        let mut table = EpochTable::default();
        for (epoch, offset) in entries {
            table.assign(LeaderEpoch(*epoch), Offset(*offset));
        }
        table
    }

    #[test]
    fn answers_are_kafkas() {
        let table = table(&[(2, 10), (4, 20), (4, 25), (7, 30)]);
        let end = |epoch| {
            let (epoch, offset) = table.end_of(LeaderEpoch(epoch), Offset(40));
            (epoch.0, offset.0)
        };
        assert_eq!(end(7), (7, 40));
        assert_eq!(end(5), (4, 30));
        assert_eq!(end(4), (4, 30));
        assert_eq!(end(2), (2, 20));
        assert_eq!(end(1), (1, 10));
        assert_eq!(end(8), (-1, -1));
        assert_eq!(end(-1), (-1, -1));
        assert_eq!(table.end_of(LeaderEpoch(2), Offset(15)), (LeaderEpoch(2), Offset(15)));
        assert_eq!(table.epoch_at(Offset(9)), None);
        assert_eq!(table.epoch_at(Offset(29)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn truncation_and_trimming_keep_what_covers_the_log() {
        let full = table(&[(0, 0), (1, 10), (2, 20)]);
        let mut cut = full.clone();
        cut.truncate(Offset(10));
        assert_eq!(cut, table(&[(0, 0)]));
        let mut trimmed = full.clone();
        trimmed.trim(Offset(15));
        assert_eq!(trimmed, table(&[(1, 15), (2, 20)]));
        trimmed.trim(Offset(100));
        assert_eq!(trimmed, table(&[(2, 100)]));
        let mut untouched = table(&[(3, 5)]);
        untouched.trim(Offset(2));
        assert_eq!(untouched, table(&[(3, 5)]));
    }

    #[test]
    fn an_epoch_that_begins_again_lower_replaces_what_lies_above() {
        let mut table = table(&[(1, 10), (2, 20)]);
        table.assign(LeaderEpoch(3), Offset(20));
        assert_eq!(table.entries().len(), 2);
        assert_eq!(table.latest(), Some(LeaderEpoch(3)));
        table.assign(LeaderEpoch(2), Offset(30));
        assert_eq!(table.latest(), Some(LeaderEpoch(3)));
    }
}
