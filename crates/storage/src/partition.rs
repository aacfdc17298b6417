//! One partition as the manifest knows it: its segments up to the flushed offset, and all that is exact at that offset.
//!
//! Invariants
//! - `segments` are in offset order and do not overlap; only the last may be open for appends.
//! - `end` is the flushed offset: at or above the last segment's end, and every batch below it that is at or above the log start is
//!   in a segment, but for the holes of a faulty partition.
//! - `producers` is exact at `end`, `base_producers` at the first segment's base offset (at `end` if there is none).
//! - Whatever the WAL's groups up to `applied` did to the partition is in this state.
//! - `older.update_to(&newer)` applied to `older` gives `newer`.
//!
//! Not here: what is newer than the flushed offset (`log`, `tail`); how states lie on disk (`manifest`).

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{
    Offset, Timestamp, TopicIdPartition,
    checksum::{crc32c, crc32c_combine},
};
use serde::{Deserialize, Serialize};

use crate::{
    damage::{Damaged, OPEN_END},
    epochs::{EpochStart, EpochTable},
    error::Fault,
    index::covered_bytes,
    producers::{ProducerState, Producers, ProducersDelta},
};

/// Flush ranges kept per segment; beyond it neighbours are merged.
const FLUSHES_MAX: usize = 16;

/// Names a segment inside its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentId {
    /// Offset of its first record.
    pub(crate) base: Offset,
    /// The partition's [`PartitionState::generation`] when it was made, so that no name is ever used for two files.
    pub(crate) generation: u32,
}

/// From here on generations are those of segments that compaction has made: counted apart, so that neither side has to know what
/// the other one is about to make.
const CLEANED: u32 = 1 << 31;

impl SegmentId {
    /// Of the `number`th segment that compaction makes at `base`.
    pub(crate) const fn cleaned(base: Offset, number: u32) -> Self {
        Self { base, generation: CLEANED | number }
    }

    /// Which one it is of those that compaction has made there; none if it was made otherwise.
    pub(crate) fn cleaned_number(self) -> Option<u32> {
        self.generation.checked_sub(CLEANED)
    }

    /// The file's name in the partition's directory.
    pub(crate) fn file_name(self) -> String {
        match (self.cleaned_number(), self.generation) {
            (Some(number), _) => format!("{:020}-c{number}.log", self.base.0),
            (None, 0) => format!("{:020}.log", self.base.0),
            (None, generation) => format!("{:020}-{generation}.log", self.base.0),
        }
    }
}

/// A range of a segment that was flushed at once, or several adjacent ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Flush {
    /// Where it ends; it begins where the one before it ends.
    pub(crate) end_position: u32,
    /// Number of batches.
    pub(crate) batches: u32,
    /// CRC-32C over the 61-byte headers of the batches.
    pub(crate) headers_crc: u32,
}

/// One segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentMeta {
    pub(crate) id: SegmentId,
    /// Offset after its last record.
    pub(crate) end: Offset,
    /// Its ranges, at least one; the last one's end is the end of its data. Bytes beyond do not count, but for the footer.
    pub(crate) flushes: Vec<Flush>,
    /// Max timestamp of its first batch, by which it is rolled.
    pub(crate) first_timestamp: Timestamp,
    /// The largest timestamp in it.
    pub(crate) max_timestamp: Timestamp,
    /// Nothing is appended to it any more.
    pub(crate) sealed: bool,
    /// Length of the footer behind the data; 0 if it has none.
    pub(crate) footer_bytes: u32,
}

impl SegmentMeta {
    /// Bytes of batches.
    pub(crate) fn data_bytes(&self) -> u32 {
        self.flushes.last().map_or(0, |flush| flush.end_position)
    }

    /// Number of batches and checksum over their headers, the whole segment.
    pub(crate) fn headers(&self) -> (u32, u32) {
        self.flushes.iter().fold((0, crc32c(b"")), |(count, crc), flush| {
            (count + flush.batches, crc32c_combine(crc, flush.headers_crc, covered_bytes(flush.batches)))
        })
    }

    /// Takes note of a flush behind the data so far.
    pub(crate) fn add_flush(&mut self, flush: Flush) {
        self.flushes.push(flush);
        if self.flushes.len() > FLUSHES_MAX {
            self.merge_smallest();
        }
    }

    /// Makes all ranges one.
    pub(crate) fn merge_all(&mut self) {
        let (batches, headers_crc) = self.headers();
        let end_position = self.data_bytes();
        self.flushes = vec![Flush { end_position, batches, headers_crc }];
    }

    fn merge_smallest(&mut self) {
        let start_of = |index: usize| index.checked_sub(1).map_or(0, |before| self.flushes[before].end_position);
        let merged_bytes = |index: &usize| self.flushes[index + 1].end_position - start_of(*index);
        let Some(index) = (0..self.flushes.len() - 1).min_by_key(merged_bytes) else { return };
        let second = self.flushes.remove(index + 1);
        let first = &mut self.flushes[index];
        first.headers_crc = crc32c_combine(first.headers_crc, second.headers_crc, covered_bytes(second.batches));
        first.batches += second.batches;
        first.end_position = second.end_position;
    }
}

/// One partition up to its flushed offset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    /// The last WAL group that is in this state.
    pub(crate) applied: u64,
    pub(crate) segments: Vec<SegmentMeta>,
    pub(crate) epochs: EpochTable,
    pub(crate) producers: Producers,
    pub(crate) base_producers: Producers,
    /// Raised whenever a name might be needed twice: by truncations and abandoned files.
    pub(crate) generation: u32,
    /// What promise, label and hard state frames said last, by the frame kind's number.
    pub(crate) states: BTreeMap<u8, Vec<u8>>,
    pub(crate) fault: Option<Fault>,
    /// What is known to be damaged. Not empty if there is a fault.
    pub(crate) damaged: Damaged,
    /// As the owner of the log noted it last before the flush.
    pub(crate) high_watermark: Offset,
    /// Compaction has been through what lies below: no two records there have the same key.
    pub(crate) cleaned: Offset,
}

/// What turns one state of a partition into a later one; from the default state: the whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PartitionUpdate {
    first: UpdateV1,
    damaged: Damaged,
    high_watermark: Offset,
    cleaned: Offset,
}

/// The same in manifest records of version 2, which knew of no compaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct UpdateV2 {
    first: UpdateV1,
    damaged: Damaged,
    high_watermark: Offset,
}

/// The same in manifest records of version 1, which had no damaged ranges and no high watermark.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct UpdateV1 {
    log_start: Offset,
    end: Offset,
    applied: u64,
    generation: u32,
    removed: Vec<SegmentId>,
    upserted: Vec<SegmentMeta>,
    epochs: Option<Vec<EpochStart>>,
    producers: ProducersDelta,
    base_producers: Option<Vec<ProducerState>>,
    states: Option<BTreeMap<u8, Vec<u8>>>,
    fault: Option<Fault>,
}

impl From<UpdateV1> for PartitionUpdate {
    fn from(first: UpdateV1) -> Self {
        let mut damaged = Damaged::default();
        if let Some(fault) = &first.fault {
            // Where it ends was not said.
            damaged.add(fault.offset..OPEN_END);
        }
        Self { first, damaged, high_watermark: Offset::ZERO, cleaned: Offset::ZERO }
    }
}

impl From<UpdateV2> for PartitionUpdate {
    fn from(UpdateV2 { first, damaged, high_watermark }: UpdateV2) -> Self {
        Self { first, damaged, high_watermark, cleaned: Offset::ZERO }
    }
}

impl PartitionState {
    /// The first segment that holds `offset` or something above it.
    pub(crate) fn segment_from(&self, offset: Offset) -> Option<usize> {
        let index = self.segments.partition_point(|segment| segment.end <= offset);
        (index < self.segments.len()).then_some(index)
    }

    /// From where on what is in no segment is in the tail. That may be below `end`: when all segments were damaged and cut away, what
    /// they had comes back to the tail.
    pub(crate) fn tail_start(&self) -> Offset {
        if self.segments.is_empty() { Offset::ZERO } else { self.end }
    }

    pub(crate) fn update_to(&self, newer: &Self) -> PartitionUpdate {
        let old: BTreeMap<_, _> = self.segments.iter().map(|segment| (segment.id, segment)).collect();
        let kept: BTreeMap<_, _> = newer.segments.iter().map(|segment| (segment.id, ())).collect();
        let is_new = |segment: &&SegmentMeta| old.get(&segment.id) != Some(segment);
        let first = UpdateV1 {
            log_start: newer.log_start,
            end: newer.end,
            applied: newer.applied,
            generation: newer.generation,
            removed: old.keys().filter(|id| !kept.contains_key(id)).copied().collect(),
            upserted: newer.segments.iter().filter(is_new).cloned().collect(),
            epochs: (self.epochs != newer.epochs).then(|| newer.epochs.entries().to_vec()),
            producers: self.producers.delta_to(&newer.producers),
            base_producers: (self.base_producers != newer.base_producers)
                .then(|| newer.base_producers.states().cloned().collect()),
            states: (self.states != newer.states).then(|| newer.states.clone()),
            fault: newer.fault.clone(),
        };
        PartitionUpdate {
            first,
            damaged: newer.damaged.clone(),
            high_watermark: newer.high_watermark,
            cleaned: newer.cleaned,
        }
    }

    pub(crate) fn apply(&mut self, update: PartitionUpdate) {
        self.damaged = update.damaged;
        self.high_watermark = update.high_watermark;
        self.cleaned = update.cleaned;
        let update = update.first;
        self.log_start = update.log_start;
        self.end = update.end;
        self.applied = update.applied;
        self.generation = update.generation;
        if !update.removed.is_empty() {
            self.segments.retain(|segment| !update.removed.contains(&segment.id));
        }
        self.segments.reserve_exact(update.upserted.len());
        for segment in update.upserted {
            match self.segments.binary_search_by_key(&segment.id, |segment| segment.id) {
                Ok(index) => self.segments[index] = segment,
                Err(index) => self.segments.insert(index, segment),
            }
        }
        if let Some(entries) = update.epochs {
            self.epochs = EpochTable::from_entries(entries);
        }
        self.producers.apply(update.producers);
        if let Some(states) = update.base_producers {
            self.base_producers = Producers::from_states(states);
        }
        if let Some(states) = update.states {
            self.states = states;
        }
        self.fault = update.fault;
    }
}

/// All partitions of a store, as a manifest has them.
pub(crate) type Partitions = BTreeMap<TopicIdPartition, Arc<PartitionState>>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(base: i64, generation: u32, flushes: &[(u32, u32)]) -> SegmentMeta {
        let mut meta = SegmentMeta {
            id: SegmentId { base: Offset(base), generation },
            end: Offset(base + 10),
            flushes: Vec::new(),
            first_timestamp: Timestamp(0),
            max_timestamp: Timestamp(base),
            sealed: false,
            footer_bytes: 0,
        };
        for (end_position, headers_crc) in flushes {
            meta.add_flush(Flush { end_position: *end_position, batches: 1, headers_crc: *headers_crc });
        }
        meta
    }

    #[test]
    fn merged_flushes_have_the_checksum_of_all() {
        let many: Vec<_> = (1..200_u32).map(|n| (n * n, n.wrapping_mul(0x9e37_79b9))).collect();
        let merged = segment(0, 0, &many);
        assert_eq!(merged.flushes.len(), FLUSHES_MAX);
        assert_eq!(merged.data_bytes(), 199 * 199);
        let expected = many.iter().fold((0, crc32c(b"")), |(count, crc), (_, next)| {
            (count + 1, crc32c_combine(crc, *next, covered_bytes(1)))
        });
        assert_eq!(merged.headers(), expected);
        let mut one = merged;
        one.merge_all();
        assert_eq!(one.headers(), expected);
    }

    #[test]
    fn segments_are_found_by_offset() {
        let segments = vec![segment(0, 0, &[(5, 1)]), segment(10, 0, &[(5, 1)]), segment(30, 1, &[(5, 1)])];
        let state = PartitionState { segments, ..PartitionState::default() };
        assert_eq!(state.segment_from(Offset(9)), Some(0));
        assert_eq!(state.segment_from(Offset(10)), Some(1));
        assert_eq!(state.segment_from(Offset(20)), Some(2));
        assert_eq!(state.segment_from(Offset(40)), None);
        assert_eq!(state.segments[0].id.file_name(), "00000000000000000000.log");
        assert_eq!(state.segments[2].id.file_name(), "00000000000000000030-1.log");
        let cleaned = SegmentId::cleaned(Offset(30), 4);
        assert_eq!(cleaned.file_name(), "00000000000000000030-c4.log");
        assert_eq!((cleaned.cleaned_number(), state.segments[2].id.cleaned_number()), (Some(4), None));
    }

    fn any_state() -> impl Strategy<Value = PartitionState> {
        let segments = proptest::collection::btree_map((0_i64..8, 0_u32..2), 0_u32..3, 0..6);
        let states = proptest::collection::btree_map(3_u8..9, proptest::collection::vec(any::<u8>(), 0..4), 0..3);
        (segments, 0_i64..20, 0_i64..20, 0_i32..3, states).prop_map(|(segments, log_start, end, epoch, states)| {
            let mut state = PartitionState { states, generation: 7, applied: 9, ..PartitionState::default() };
            let meta = |((base, generation), crc)| segment(base * 10, generation, &[(100, crc)]);
            state.segments = segments.into_iter().map(meta).collect();
            state.log_start = Offset(log_start);
            state.end = Offset(end);
            state.epochs.assign(quipu_base::LeaderEpoch(epoch), Offset(end));
            state.damaged.add(Offset(log_start)..Offset(end));
            state.high_watermark = Offset(log_start / 2);
            state.cleaned = Offset(end / 3);
            state
        })
    }

    proptest! {
        #[test]
        fn an_update_leads_from_one_state_to_the_other(older in any_state(), newer in any_state()) {
            let update = older.update_to(&newer);
            let bytes = postcard::to_allocvec(&update).expect("encodes");
            let mut state = older.clone();
            state.apply(postcard::from_bytes(&bytes).expect("decodes"));
            prop_assert_eq!(&state, &newer);
            let mut fresh = PartitionState::default();
            fresh.apply(PartitionState::default().update_to(&newer));
            prop_assert_eq!(&fresh, &newer);
        }
    }
}
