//! Which leader epoch begins at which offset: the table behind `OffsetForLeaderEpoch` (KIP-101).
//!
//! Invariants
//! - Epochs and start offsets rise strictly from entry to entry.
//! - The table is a function of the batches that are left and of the log start, whatever the order in which the log was written,
//!   cut and trimmed: so what is recovered equals what was. For that, two epochs that begin below the log start are kept, though
//!   one is shown at most: a truncation to a log start inside a batch takes the whole batch, and the epoch that began with it.
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
    /// What is kept.
    pub(crate) fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// What is told of a log that begins at `log_start`: the epoch in force there begins there.
    pub(crate) fn view(&self, log_start: Offset) -> Vec<EpochStart> {
        let later = self.entries.partition_point(|entry| entry.start <= log_start);
        let mut view = self.entries[later.saturating_sub(1)..].to_vec();
        if let Some(first) = view.first_mut() {
            first.start = first.start.max(log_start);
        }
        view
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

    /// Takes note of a batch of `epoch` at `offset` that was missing so far: the epoch begins there, or earlier.
    pub(crate) fn insert(&mut self, epoch: LeaderEpoch, offset: Offset) {
        let mut first = self.entries.partition_point(|entry| entry.start <= offset);
        if first.checked_sub(1).is_some_and(|before| self.entries[before].epoch >= epoch) {
            return;
        }
        if first.checked_sub(1).is_some_and(|before| self.entries[before].start == offset) {
            first -= 1;
        }
        let behind = self.entries.partition_point(|entry| entry.epoch <= epoch).max(first);
        self.entries.splice(first..behind, [EpochStart { epoch, start: offset }]);
    }

    /// Forgets what begins at or above the log's new end.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.entries.retain(|entry| entry.start < end);
    }

    /// Forgets what is not needed any more when the log begins at `log_start`.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        let below = self.entries.partition_point(|entry| entry.start < log_start);
        self.entries.drain(..below.saturating_sub(2));
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The epoch of the record at `offset`; none below the first epoch.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let later = self.entries.partition_point(|entry| entry.start <= offset);
        later.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// Kafka's answer to "where does `epoch` end" in a log from `log_start` to `upper`: the largest epoch not above it and that
    /// epoch's end. For an epoch before the first: that epoch and the first one's start. For one after the latest, or with nothing
    /// known: `(LeaderEpoch::NONE, Offset(-1))`.
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, log_start: Offset, upper: Offset) -> (LeaderEpoch, Offset) {
        const UNDEFINED: (LeaderEpoch, Offset) = (LeaderEpoch::NONE, Offset(-1));
        let Some(latest) = self.latest() else { return UNDEFINED };
        if epoch == latest {
            return (epoch, upper);
        }
        if epoch > latest || epoch < LeaderEpoch(0) {
            return UNDEFINED;
        }
        let view = self.view(log_start);
        let later = view.partition_point(|entry| entry.epoch <= epoch);
        let answered = later.checked_sub(1).map_or(epoch, |index| view[index].epoch);
        (answered, view[later].start.min(upper))
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
            let (epoch, offset) = table.end_of(LeaderEpoch(epoch), Offset(0), Offset(40));
            (epoch.0, offset.0)
        };
        assert_eq!(end(7), (7, 40));
        assert_eq!(end(5), (4, 30));
        assert_eq!(end(4), (4, 30));
        assert_eq!(end(2), (2, 20));
        assert_eq!(end(1), (1, 10));
        assert_eq!(end(8), (-1, -1));
        assert_eq!(end(-1), (-1, -1));
        assert_eq!(table.end_of(LeaderEpoch(2), Offset(0), Offset(15)), (LeaderEpoch(2), Offset(15)));
        assert_eq!(table.epoch_at(Offset(9)), None);
        assert_eq!(table.epoch_at(Offset(29)), Some(LeaderEpoch(4)));
    }

    fn shown(table: &EpochTable, log_start: i64) -> Vec<(i32, i64)> {
        table.view(Offset(log_start)).into_iter().map(|entry| (entry.epoch.0, entry.start.0)).collect()
    }

    #[test]
    fn the_view_begins_at_the_log_start() {
        let mut table = table(&[(0, 0), (1, 10), (2, 20), (3, 30)]);
        assert_eq!(shown(&table, 0), [(0, 0), (1, 10), (2, 20), (3, 30)]);
        table.trim(Offset(25));
        assert_eq!(shown(&table, 25), [(2, 25), (3, 30)]);
        assert_eq!(table.entries().len(), 3, "one more than is shown is kept");
        assert_eq!(table.end_of(LeaderEpoch(0), Offset(25), Offset(40)), (LeaderEpoch(0), Offset(25)));
        assert_eq!(table.end_of(LeaderEpoch(1), Offset(25), Offset(40)), (LeaderEpoch(1), Offset(25)));
        table.trim(Offset(100));
        assert_eq!(shown(&table, 100), [(3, 100)]);
        assert_eq!(table.end_of(LeaderEpoch(3), Offset(100), Offset(100)), (LeaderEpoch(3), Offset(100)));
    }

    #[test]
    fn trimming_and_truncating_commute() {
        for log_start in 0..=30 {
            // The log start may lie inside the batch that is cut, which begins up to five offsets below it.
            for end in (log_start - 5).max(0)..=40 {
                let (mut trimmed, mut cut) = (table(&[(0, 0), (1, 10), (2, 15), (3, 30)]), table(&[(0, 0), (1, 10)]));
                cut.assign(LeaderEpoch(2), Offset(15));
                cut.assign(LeaderEpoch(3), Offset(30));
                trimmed.trim(Offset(log_start));
                trimmed.truncate(Offset(end));
                cut.truncate(Offset(end));
                cut.trim(Offset(log_start));
                assert_eq!(shown(&trimmed, log_start), shown(&cut, log_start), "log start {log_start}, end {end}");
            }
        }
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
