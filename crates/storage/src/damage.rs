//! Which offsets of a log are known to be damaged: unreadable in a segment, or lost with frames of the WAL.
//!
//! ```text
//! added      by recovery, where frames are missing or bad; by a read that meets bytes that fail their checksum
//! goes       with a repair, a truncation, a new log start, a new beginning
//! the open end: a range up to `i64::MAX` says that an unknown number of records is missing behind the log's end; what is appended
//!            there, or the owner's word that nothing was there, ends it ([`Damaged::close`])
//! ```
//!
//! Invariants
//! - Ranges are not empty, do not touch each other and stand in offset order; there are at most [`RANGES_MAX`].
//!
//! Not here: where in files damage is ([`crate::Fault`], `segment`).

use core::ops::Range;

use quipu_base::Offset;
use serde::{Deserialize, Serialize};

/// Ranges kept of one log. Beyond it the two closest become one, with what is sound between them: more is repaired than need be.
const RANGES_MAX: usize = 256;

/// The damaged ranges of one log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Damaged(Vec<Range<Offset>>);

/// Behind every offset.
pub(crate) const OPEN_END: Offset = Offset(i64::MAX);

impl Damaged {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn ranges(&self) -> &[Range<Offset>] {
        &self.0
    }

    /// Whether anything below `end` is damaged.
    pub(crate) fn is_below(&self, end: Offset) -> bool {
        self.0.first().is_some_and(|first| first.start < end)
    }

    /// Whether anything of `range` is damaged.
    pub(crate) fn meets(&self, range: &Range<Offset>) -> bool {
        self.0.iter().any(|damaged| damaged.start < range.end && range.start < damaged.end)
    }

    /// Whether all of `range` is damaged.
    pub(crate) fn holds(&self, range: &Range<Offset>) -> bool {
        self.0.iter().any(|damaged| damaged.start <= range.start && range.end <= damaged.end)
    }

    pub(crate) fn add(&mut self, range: Range<Offset>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let behind = self.0.partition_point(|known| known.start <= range.end);
        let touched = &self.0[first..behind];
        let start = touched.first().map_or(range.start, |known| known.start.min(range.start));
        let end = touched.last().map_or(range.end, |known| known.end.max(range.end));
        self.0.splice(first..behind, [start..end]);
        if self.0.len() > RANGES_MAX {
            self.merge_closest();
        }
    }

    /// What is in `range` is sound, or not there.
    pub(crate) fn remove(&mut self, range: &Range<Offset>) {
        if range.is_empty() || !self.meets(range) {
            return;
        }
        let parts = self.0.iter().flat_map(|known| {
            let sound = range.start.clamp(known.start, known.end)..range.end.clamp(known.start, known.end);
            [known.start..sound.start, sound.end.max(sound.start)..known.end]
        });
        self.0 = parts.filter(|part| !part.is_empty()).collect();
        if self.0.len() > RANGES_MAX {
            self.merge_closest();
        }
    }

    /// The log ends at `end`; nothing is missing behind it.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.remove(&(end..OPEN_END));
    }

    /// The log begins at `log_start`.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        self.remove(&(Offset::ZERO..log_start));
    }

    /// Nothing is missing from `end` on.
    pub(crate) fn close(&mut self, end: Offset) {
        if self.0.last().is_some_and(|last| last.end == OPEN_END) {
            self.truncate(end);
        }
    }

    fn merge_closest(&mut self) {
        let gap = |index: &usize| self.0[index + 1].start.0 - self.0[*index].end.0;
        let Some(index) = (0..self.0.len() - 1).min_by_key(gap) else { return };
        let second = self.0.remove(index + 1);
        self.0[index].end = second.end;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(start: i64, end: i64) -> Range<Offset> {
        Offset(start)..Offset(end)
    }

    #[test]
    fn the_open_end_is_closed_and_the_rest_stays() {
        let mut damaged = Damaged::default();
        damaged.add(range(3, 5));
        damaged.add(range(10, i64::MAX));
        damaged.close(Offset(20));
        assert_eq!(damaged.ranges(), [range(3, 5), range(10, 20)]);
        damaged.close(Offset(15));
        assert_eq!(damaged.ranges(), [range(3, 5), range(10, 20)], "it has no open end any more");
        damaged.add(range(20, i64::MAX));
        damaged.close(Offset(10));
        assert_eq!(damaged.ranges(), [range(3, 5)]);
        assert!(damaged.is_below(Offset(4)) && !damaged.is_below(Offset(3)));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut damaged = Damaged::default();
        for number in 0..2_000 {
            damaged.add(range(number * 10, number * 10 + 1));
        }
        assert_eq!(damaged.ranges().len(), RANGES_MAX);
        assert!((0..2_000).all(|number| damaged.meets(&range(number * 10, number * 10 + 1))));
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_offsets(changes in prop::collection::vec((0_u8..4, 0_i64..40, 0_i64..12), 0..30)) {
            let mut damaged = Damaged::default();
            let mut model = BTreeSet::new();
            for (kind, start, length) in changes {
                let end = start + length;
                match kind {
                    0 | 1 => {
                        damaged.add(range(start, end));
                        model.extend(start..end);
                    }
                    2 => {
                        damaged.remove(&range(start, end));
                        model.retain(|offset| !(start..end).contains(offset));
                    }
                    _ => {
                        damaged.truncate(Offset(start + 20));
                        damaged.trim(Offset(length / 4));
                        model.retain(|offset| (length / 4..start + 20).contains(offset));
                    }
                }
                let listed: Vec<i64> = damaged.ranges().iter().flat_map(|range| range.start.0..range.end.0).collect();
                prop_assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
                prop_assert!(damaged.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
