//! Which leader epoch begins at which offset, and where two logs part.
//!
//! Invariants
//! - Epochs and start offsets rise strictly.
//! - The epoch of the last record below the log start stays known as long as the log begins there by deletion, so that "the epoch of
//!   the previous record" can be told at the log start, and after compaction.
//!
//! Not here: the durable table, which storage keeps by the same rules. Read `log` next.

use quipu_base::{LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

/// One epoch and the offset of its first record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Where it begins.
    pub start: Offset,
}

/// The epochs of one log, oldest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct EpochTable(Vec<EpochStart>);

impl EpochTable {
    /// None unless epochs and offsets rise strictly from entry to entry and none is negative.
    #[must_use]
    pub fn new(entries: Vec<EpochStart>) -> Option<Self> {
        let rises = entries.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start);
        let starts = entries.first().is_none_or(|first| first.epoch >= LeaderEpoch(0) && first.start >= Offset::ZERO);
        (rises && starts).then_some(Self(entries))
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochStart] {
        &self.0
    }

    /// The epoch of the record at `offset`; [`LeaderEpoch::NONE`] below the first epoch known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let later = self.0.partition_point(|entry| entry.start <= offset);
        later.checked_sub(1).map_or(LeaderEpoch::NONE, |index| self.0[index].epoch)
    }

    /// The epoch of the record before `offset`.
    #[must_use]
    pub fn epoch_before(&self, offset: Offset) -> LeaderEpoch {
        self.epoch_at(Offset(offset.0.saturating_sub(1)))
    }

    /// The newest epoch.
    #[must_use]
    pub fn latest(&self) -> LeaderEpoch {
        self.0.last().map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    /// The epochs of the records in `from..to`; the first one begins at `from`.
    #[must_use]
    pub fn between(&self, from: Offset, to: Offset) -> Self {
        if from >= to {
            return Self::default();
        }
        let mut entries = Vec::new();
        let first = self.epoch_at(from);
        if first > LeaderEpoch::NONE {
            entries.push(EpochStart { epoch: first, start: from });
        }
        entries.extend(self.0.iter().filter(|entry| entry.start > from && entry.start < to).copied());
        Self(entries)
    }

    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest() < epoch {
            self.0.push(EpochStart { epoch, start });
        }
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        for entry in &more.0 {
            self.assign(entry.epoch, entry.start);
        }
    }

    /// Forgets what begins at or above the log's new end.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.0.retain(|entry| entry.start < end);
    }

    /// Forgets what ends below the record before `log_start`.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        let known = self.0.partition_point(|entry| entry.start < log_start);
        self.0.drain(..known.saturating_sub(1));
    }

    /// The first offset in `from..to` at which the epochs of two logs differ; none if they are the same.
    #[must_use]
    pub fn first_difference(&self, other: &Self, from: Offset, to: Offset) -> Option<Offset> {
        let (mine, others) = (self.between(from, to), other.between(from, to));
        let mut edges: Vec<Offset> = mine.0.iter().chain(&others.0).map(|entry| entry.start).collect();
        if from < to {
            edges.push(from);
        }
        edges.sort_unstable();
        edges.into_iter().find(|offset| mine.epoch_at(*offset) != others.epoch_at(*offset))
    }
}

/// The bounds of a log and its epochs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LogShape {
    /// The first offset there is.
    pub log_start: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
    /// Its epochs.
    pub epochs: EpochTable,
}

impl LogShape {
    /// Whether the bounds and the epochs are those of some log.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let entries = self.epochs.entries();
        Offset::ZERO <= self.log_start
            && self.log_start <= self.log_end
            && EpochTable::new(entries.to_vec()).is_some()
            && entries.last().is_none_or(|last| last.start < self.log_end || last.start <= self.log_start)
    }

    /// The first offset from which this log and another part, or the lower of their ends. What either has deleted was
    /// committed, so it is no difference.
    #[must_use]
    pub fn common_end(&self, other: &Self) -> Offset {
        let from = self.log_start.max(other.log_start);
        let to = self.log_end.min(other.log_end);
        if from >= to {
            return to;
        }
        self.epochs.first_difference(&other.epochs, from, to).unwrap_or(to)
    }

    pub(crate) fn truncate(&mut self, end: Offset) {
        self.log_end = end;
        self.epochs.truncate(end);
    }

    pub(crate) fn append(&mut self, end: Offset, epochs: &EpochTable) {
        self.epochs.extend(epochs);
        self.log_end = end;
    }

    pub(crate) fn begin_anew(&mut self, at: Offset) {
        *self = Self { log_start: at, log_end: at, epochs: EpochTable::default() };
    }

    pub(crate) fn raise_log_start(&mut self, to: Offset) {
        self.log_start = to;
        self.epochs.trim(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(i32, i64)]) -> EpochTable {
        EpochTable::new(
            entries
                .iter()
                .map(|(epoch, start)| EpochStart { epoch: LeaderEpoch(*epoch), start: Offset(*start) })
                .collect(),
        )
        .unwrap()
    }

    fn shape(start: i64, end: i64, entries: &[(i32, i64)]) -> LogShape {
        LogShape { log_start: Offset(start), log_end: Offset(end), epochs: table(entries) }
    }

    #[test]
    fn two_logs_part_where_their_epochs_do() {
        for (a, b, expected) in [
            (shape(0, 10, &[(0, 0)]), shape(0, 8, &[(0, 0)]), 8),
            (shape(0, 10, &[(0, 0), (1, 6)]), shape(0, 10, &[(0, 0)]), 6),
            (shape(0, 10, &[(0, 0), (1, 6)]), shape(0, 10, &[(0, 0), (2, 4)]), 4),
            (shape(0, 10, &[(1, 0)]), shape(0, 10, &[(0, 0)]), 0),
            (shape(5, 10, &[(0, 0), (1, 6)]), shape(0, 10, &[(0, 0), (1, 6), (2, 9)]), 9),
            (shape(8, 10, &[(0, 0)]), shape(0, 4, &[(0, 0)]), 4),
        ] {
            assert_eq!(a.common_end(&b), Offset(expected), "{a:?} {b:?}");
            assert_eq!(b.common_end(&a), Offset(expected), "{b:?} {a:?}");
        }
    }

    #[test]
    fn the_epoch_before_the_log_start_stays_known() {
        let mut trimmed = table(&[(0, 0), (1, 10), (2, 20)]);
        trimmed.trim(Offset(20));
        assert_eq!(trimmed.epoch_before(Offset(20)), LeaderEpoch(1));
        assert_eq!(trimmed.epoch_at(Offset(20)), LeaderEpoch(2));
        trimmed.trim(Offset(21));
        assert_eq!(trimmed.epoch_before(Offset(20)), LeaderEpoch::NONE);
    }

    #[test]
    fn impossible_tables_are_refused() {
        for entries in [[(1, 5), (1, 6)], [(1, 5), (2, 5)], [(2, 5), (1, 6)], [(-1, 0), (1, 6)], [(0, -1), (1, 6)]] {
            let entries = entries.map(|(epoch, start)| EpochStart { epoch: LeaderEpoch(epoch), start: Offset(start) });
            assert_eq!(EpochTable::new(entries.to_vec()), None);
        }
    }
}
