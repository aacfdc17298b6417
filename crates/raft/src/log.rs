//! What a replica remembers of its log: where epochs begin, which voter sets it holds, and its most recent entries.
//!
//! Invariants
//! - `base.point.offset <= end`; epochs ascend strictly, and so do their starts; the first start is the base's offset.
//! - `voter_sets` ascends, between base and end. The last one, or the base's, is in force.
//! - The cache is a contiguous end of the log, possibly empty.
//!
//! Not here: the bytes on disk (the shell's), what is durable and what is committed (`node`).

use core::hash::{Hash, Hasher};
use std::collections::VecDeque;

use quipu_base::{LeaderEpoch, Offset};

use crate::{
    entry::{Entry, LogBase, LogPoint, Payload},
    error::StartError,
    limits::{CACHE_BYTES_MAX, LOG_EPOCHS_MAX, LOG_VOTER_SETS_MAX},
    voters::VoterSet,
};

/// What the shell found in its log when it started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSummary {
    /// The state before the first entry: of a snapshot, or of a new log.
    pub base: LogBase,
    /// Where leader epochs begin, in order.
    pub epochs: Vec<LogPoint>,
    /// The voter sets in the log and the offsets of their entries, in order.
    pub voter_sets: Vec<(Offset, VoterSet)>,
    /// The log end offset.
    pub end: Offset,
}

impl LogSummary {
    /// An empty log. `voters` is the founders' set, or empty for an observer that does not know them.
    #[must_use]
    pub fn empty(voters: VoterSet) -> Self {
        Self::from_base(LogBase { point: LogPoint::START, voters })
    }

    /// A log that begins, empty, at `base`.
    #[must_use]
    pub fn from_base(base: LogBase) -> Self {
        Self { end: base.point.offset, base, epochs: Vec::new(), voter_sets: Vec::new() }
    }

    /// Counts one more entry of the log, in order: how a shell makes a summary from what it reads.
    ///
    /// Errors: `BadLog` if the entry cannot follow.
    pub fn push(&mut self, entry: &Entry) -> Result<(), StartError> {
        let last = self.epochs.last().map_or(self.base.point.epoch, |point| point.epoch);
        let end = entry.end(self.end).ok_or(StartError::BadLog { what: "its offsets end beyond the last one" })?;
        if entry.epoch < last || entry.epoch.get() < 0 {
            return Err(StartError::BadLog { what: "its leader epochs fall" });
        }
        if self.epochs.is_empty() || entry.epoch > last {
            self.epochs.push(LogPoint { offset: self.end, epoch: entry.epoch });
        }
        if let Payload::Voters(voters) = &entry.payload {
            self.voter_sets.push((self.end, voters.clone()));
        }
        self.end = end;
        Ok(())
    }

    fn check(&self) -> Result<(), StartError> {
        let bad = |what| Err(StartError::BadLog { what });
        let base = self.base.point;
        if base != LogPoint::START && (base.offset.get() <= 0 || base.epoch.get() < 0) {
            return bad("it begins at an impossible place");
        }
        if self.end < base.offset || self.epochs.is_empty() != (self.end == base.offset) {
            return bad("its end and its leader epochs contradict each other");
        }
        if self.epochs.first().is_some_and(|first| first.offset != base.offset || first.epoch < base.epoch) {
            return bad("its first leader epoch does not begin where it begins");
        }
        let ascends = |pair: &[LogPoint]| pair[0].offset < pair[1].offset && pair[0].epoch < pair[1].epoch;
        if !self.epochs.windows(2).all(ascends) || self.epochs.last().is_some_and(|last| last.offset >= self.end) {
            return bad("its leader epochs do not ascend");
        }
        let inside =
            |(offset, voters): &(Offset, VoterSet)| (base.offset..self.end).contains(offset) && !voters.is_empty();
        if !self.voter_sets.iter().all(inside) || !self.voter_sets.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return bad("its voter sets do not ascend");
        }
        if self.epochs.len() > LOG_EPOCHS_MAX || self.voter_sets.len() > LOG_VOTER_SETS_MAX {
            return bad("it holds more leader epochs or voter sets than it can");
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: LogBase,
    epochs: Vec<LogPoint>,
    voter_sets: VecDeque<(Offset, VoterSet)>,
    end: Offset,
    cache: VecDeque<(Offset, Entry)>,
    cache_bytes: usize,
}

/// Of what decides: the cache is only a copy.
impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.base, &self.epochs, &self.voter_sets, self.end).hash(state);
    }
}

impl Log {
    /// Errors: `BadLog`.
    pub(crate) fn new(summary: LogSummary) -> Result<Self, StartError> {
        summary.check()?;
        let LogSummary { base, epochs, voter_sets, end } = summary;
        Ok(Self { base, epochs, voter_sets: voter_sets.into(), end, cache: VecDeque::new(), cache_bytes: 0 })
    }

    pub(crate) fn start(&self) -> Offset {
        self.base.point.offset
    }

    pub(crate) fn end(&self) -> LogPoint {
        let epoch = self.epochs.last().map_or(self.base.point.epoch, |last| last.epoch);
        LogPoint { offset: self.end, epoch }
    }

    /// The voters in force.
    pub(crate) fn voters(&self) -> &VoterSet {
        self.voter_sets.back().map_or(&self.base.voters, |(_, voters)| voters)
    }

    /// The offset of the entry that put them in force; none if that is before the log.
    pub(crate) fn voters_offset(&self) -> Option<Offset> {
        self.voter_sets.back().map(|(offset, _)| *offset)
    }

    /// Whether the voters in force stand neither in an entry nor in a snapshot: only who founded the log knows them.
    pub(crate) fn lacks_founders(&self) -> bool {
        self.start() == Offset::ZERO && self.voter_sets.is_empty()
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.epochs.len() >= LOG_EPOCHS_MAX / 4 * 3 || self.voter_sets.len() >= LOG_VOTER_SETS_MAX / 4 * 3
    }

    pub(crate) fn has_room_for_epoch(&self) -> bool {
        self.epochs.len() < LOG_EPOCHS_MAX
    }

    pub(crate) fn has_room_for_voters(&self) -> bool {
        self.voter_sets.len() < LOG_VOTER_SETS_MAX
    }

    /// The epoch of the record before `offset`; none if that is outside the log.
    pub(crate) fn epoch_before(&self, offset: Offset) -> Option<LeaderEpoch> {
        if offset == self.start() {
            return Some(self.base.point.epoch);
        }
        if offset < self.start() || offset > self.end {
            return None;
        }
        let next = self.epochs.partition_point(|point| point.offset < offset);
        next.checked_sub(1).map(|index| self.epochs[index].epoch)
    }

    /// The epoch of the record at `offset`; none if that is outside the log.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        if (self.start()..self.end).contains(&offset) { self.epoch_before(offset.next()) } else { None }
    }

    pub(crate) fn contains(&self, point: LogPoint) -> bool {
        self.epoch_before(point.offset) == Some(point.epoch)
    }

    /// The state at `offset`; none if that is outside the log.
    pub(crate) fn base_at(&self, offset: Offset) -> Option<LogBase> {
        let epoch = self.epoch_before(offset)?;
        let later = self.voter_sets.partition_point(|(at, _)| *at < offset);
        let voters = later.checked_sub(1).map_or(&self.base.voters, |index| &self.voter_sets[index].1);
        Some(LogBase { point: LogPoint { offset, epoch }, voters: voters.clone() })
    }

    /// The last place at or before `limit`, of an epoch at or before its epoch: where a log that has not `limit` may still
    /// agree with one that has. The start of the log if there is none.
    pub(crate) fn last_before(&self, limit: LogPoint) -> LogPoint {
        let later = self.epochs.partition_point(|point| point.epoch <= limit.epoch && point.offset < limit.offset);
        let Some(index) = later.checked_sub(1) else { return self.base.point };
        let end = self.epochs.get(later).map_or(self.end, |next| next.offset);
        LogPoint { offset: end.min(limit.offset), epoch: self.epochs[index].epoch }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let base = self.end;
        let last = self.end().epoch;
        assert!(entry.epoch >= last, "epochs never fall along a log");
        if self.epochs.is_empty() || entry.epoch > last {
            self.epochs.push(LogPoint { offset: base, epoch: entry.epoch });
        }
        if let Payload::Voters(voters) = &entry.payload {
            self.voter_sets.push_back((base, voters.clone()));
        }
        self.end = entry.end(base).expect("checked before it was taken");
        self.cache_bytes += entry.cost();
        self.cache.push_back((base, entry));
    }

    /// Drops everything from `offset` on; `keep_voters` leaves the voter sets (a planted bug).
    pub(crate) fn truncate(&mut self, offset: Offset, keep_voters: bool) {
        assert!((self.start()..=self.end).contains(&offset), "only what is in the log can be cut off");
        self.end = offset;
        let kept = self.epochs.partition_point(|point| point.offset < offset);
        self.epochs.truncate(kept);
        while !keep_voters && self.voter_sets.back().is_some_and(|(at, _)| *at >= offset) {
            self.voter_sets.pop_back();
        }
        while let Some((base, entry)) = self.cache.back() {
            let end = entry.end(*base).expect("it was in the log");
            if end == offset {
                return;
            }
            let is_whole = end > offset;
            self.cache_bytes -= entry.cost();
            self.cache.pop_back();
            if !is_whole {
                self.clear_cache();
            }
        }
    }

    /// Drops everything before `offset`, the state of which the shell keeps.
    pub(crate) fn trim(&mut self, offset: Offset) {
        let base = self.base_at(offset).expect("only to a place in the log");
        let later = self.epochs.partition_point(|point| point.offset <= offset);
        self.epochs.drain(..later.saturating_sub(1));
        if offset == self.end {
            self.epochs.clear();
        } else if let Some(first) = self.epochs.first_mut() {
            first.offset = offset;
        }
        while self.voter_sets.front().is_some_and(|(at, _)| *at < offset) {
            self.voter_sets.pop_front();
        }
        self.base = base;
        while self.cache.front().is_some_and(|(base, _)| *base < offset) {
            self.pop_cache();
        }
    }

    /// Begins anew, empty, at `base`.
    pub(crate) fn reset(&mut self, base: LogBase) {
        self.end = base.point.offset;
        self.base = base;
        self.epochs.clear();
        self.voter_sets.clear();
        self.clear_cache();
    }

    /// Forgets old entries above the cache's budget; never what is not yet durable, since nobody else has it.
    pub(crate) fn shrink_cache(&mut self, persisted_end: Offset) {
        while self.cache_bytes > CACHE_BYTES_MAX {
            let is_durable = |(base, entry): &(Offset, Entry)| entry.end(*base).is_some_and(|end| end <= persisted_end);
            if !self.cache.front().is_some_and(is_durable) {
                return;
            }
            self.pop_cache();
        }
    }

    /// Where the cache begins: the log end if it is empty.
    pub(crate) fn cache_start(&self) -> Offset {
        self.cache.front().map_or(self.end, |(base, _)| *base)
    }

    /// Entries from `from` on, at least one, and no more than fit. None if the cache does not hold an entry that begins there.
    pub(crate) fn cached(&self, from: Offset, bytes_max: usize, entries_max: usize) -> Option<Vec<Entry>> {
        let first = self.cache.partition_point(|(base, _)| *base < from);
        if self.cache.get(first).is_none_or(|(base, _)| *base != from) {
            return None;
        }
        let mut bytes = 0;
        let fits = |(_, entry): &&(Offset, Entry)| {
            let before = bytes;
            bytes += entry.cost();
            before == 0 || bytes <= bytes_max
        };
        Some(self.cache.range(first..).take(entries_max).take_while(fits).map(|(_, entry)| entry.clone()).collect())
    }

    fn pop_cache(&mut self) {
        if let Some((_, entry)) = self.cache.pop_front() {
            self.cache_bytes -= entry.cost();
        }
    }

    fn clear_cache(&mut self) {
        self.cache.clear();
        self.cache_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
