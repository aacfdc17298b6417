//! Records that were taken and are not yet on their way: one open batch for each partition, behind it those that are full.
//!
//! Invariants
//! - Records of a partition leave in the order in which they were taken.
//! - A batch is ready when it is full, when it has lingered, or when somebody waits: for memory, for a flush, for the end.
//!
//! Not here: memory (the caller has reserved it), what becomes of a batch that has left (`state`).

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use quipu_base::{PartitionIndex, Timestamp};
use quipu_env::{Instant, Rng};
use quipu_records::{BatchBuilder, BuildError, Codec};

use super::{
    delivery::{Delivery, Settler},
    partitioner::{Sticky, partition_for_key},
    record::ProducerRecord,
};
use crate::cluster::Topic;

/// A partition by its topic's place in the accumulator's list, and its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Slot {
    pub(crate) topic_index: usize,
    pub(crate) partition_index: usize,
}

impl Slot {
    pub(crate) fn partition(self) -> PartitionIndex {
        PartitionIndex(i32::try_from(self.partition_index).expect("a partition's number has 31 bits"))
    }
}

/// A batch that takes records.
pub(crate) struct OpenBatch {
    pub(crate) builder: BatchBuilder,
    pub(crate) settler: Settler,
    pub(crate) created_at: Instant,
    /// Bytes reserved for its records.
    pub(crate) reserved_bytes: usize,
    /// In the order in which batches were begun, over all partitions.
    pub(crate) birth: u64,
}

#[derive(Default)]
struct Buffer {
    full: VecDeque<OpenBatch>,
    open: Option<OpenBatch>,
}

impl Buffer {
    fn first(&self) -> Option<&OpenBatch> {
        self.full.front().or(self.open.as_ref())
    }
}

struct TopicBuffer {
    name: Arc<str>,
    sticky: Sticky,
    partitions: Vec<Buffer>,
}

/// What decides about batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) codec: Codec,
    pub(crate) level: Option<i32>,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The topic has fewer partitions.
    NoPartition(PartitionIndex),
    /// The record can't be encoded.
    Build(BuildError),
    /// Nobody sends any more.
    Closed,
}

/// A record that was taken.
pub(crate) struct Taken {
    pub(crate) delivery: Delivery,
    /// Whether whoever sends should look: a batch was begun or filled.
    pub(crate) wakes: bool,
}

/// See the module.
pub(crate) struct Accumulator {
    sizes: Sizes,
    rng: Rng,
    topics: Vec<TopicBuffer>,
    index: BTreeMap<Arc<str>, usize>,
    /// Partitions that have anything.
    active: BTreeSet<Slot>,
    next_birth: u64,
    /// Batches not settled, by birth; a split has several of one birth.
    unsettled: BTreeMap<u64, u32>,
    /// Batches born before this one are wanted out.
    flush_before: u64,
    is_closed: bool,
}

impl Accumulator {
    pub(crate) fn new(sizes: Sizes, rng: Rng) -> Self {
        Self {
            sizes,
            rng,
            topics: Vec::new(),
            index: BTreeMap::new(),
            active: BTreeSet::new(),
            next_birth: 0,
            unsettled: BTreeMap::new(),
            flush_before: 0,
            is_closed: false,
        }
    }

    /// Takes no more records.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Takes a record of at most `bytes`, for which memory is reserved.
    pub(crate) fn append(
        &mut self,
        now: Instant,
        wall: Timestamp,
        topic: &Topic,
        record: &ProducerRecord,
        bytes: usize,
    ) -> Result<Taken, AppendError> {
        if self.is_closed {
            return Err(AppendError::Closed);
        }
        let topic_index = self.topic_index(topic);
        let partition_index = self.choose(topic_index, topic, record, bytes)?;
        let slot = Slot { topic_index, partition_index };
        let timestamp = record.timestamp.unwrap_or(wall);
        let headers = record.header_views();
        let view = record.view(timestamp, &headers);
        let Sizes { batch_bytes, codec, level, .. } = self.sizes;
        let topic = &mut self.topics[topic_index];
        let buffer = &mut topic.partitions[partition_index];
        let mut wakes = false;
        if let Some(open) = buffer.open.take_if(|open| open.builder.size_bytes() + bytes > batch_bytes) {
            buffer.full.push_back(open);
            wakes = true;
        }
        let mut open = match buffer.open.take() {
            Some(open) => open,
            None => {
                wakes = true;
                let settler = Settler::new(Arc::clone(&topic.name), slot.partition());
                let builder = BatchBuilder::new().codec(codec, level);
                OpenBatch { builder, settler, created_at: now, reserved_bytes: 0, birth: self.next_birth }
            }
        };
        let pushed = open.builder.push(&view);
        if open.builder.is_empty() {
            // Born for a record that can't be: nothing refers to it.
            return pushed.map_err(AppendError::Build).map(|()| unreachable!("a record was pushed"));
        }
        if open.birth == self.next_birth {
            self.next_birth += 1;
            self.unsettled.insert(open.birth, 1);
            self.active.insert(slot);
        }
        let index = open.builder.record_count() - 1;
        let taken = pushed.map_err(AppendError::Build).map(|()| {
            open.reserved_bytes += bytes;
            wakes |= open.builder.size_bytes() >= batch_bytes;
            Taken { delivery: open.settler.delivery(index, timestamp), wakes }
        });
        buffer.open = Some(open);
        taken
    }

    fn topic_index(&mut self, topic: &Topic) -> usize {
        let at = match self.index.get(&*topic.name) {
            Some(at) => *at,
            None => {
                let name = Arc::clone(&topic.name);
                self.index.insert(Arc::clone(&name), self.topics.len());
                self.topics.push(TopicBuffer { name, sticky: Sticky::default(), partitions: Vec::new() });
                self.topics.len() - 1
            }
        };
        let partitions = &mut self.topics[at].partitions;
        if partitions.len() < topic.partitions.len() {
            partitions.resize_with(topic.partitions.len(), Buffer::default);
        }
        at
    }

    fn choose(
        &mut self,
        topic_index: usize,
        topic: &Topic,
        record: &ProducerRecord,
        bytes: usize,
    ) -> Result<usize, AppendError> {
        let count = topic.partitions.len();
        let chosen = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, u32::try_from(count).unwrap_or(u32::MAX)),
            (None, None) => {
                let usable = |at: usize| topic.partitions[at].leader.is_some();
                let sticky = &mut self.topics[topic_index].sticky;
                return Ok(sticky.choose(bytes, self.sizes.batch_bytes, count, usable, &mut self.rng));
            }
        };
        let index = usize::try_from(chosen.0).ok().filter(|index| *index < count);
        index.ok_or(AppendError::NoPartition(chosen))
    }

    /// The name of a slot's topic.
    pub(crate) fn topic_name(&self, topic_index: usize) -> &Arc<str> {
        &self.topics[topic_index].name
    }

    /// Partitions that have anything.
    pub(crate) fn active(&self) -> impl Iterator<Item = Slot> {
        self.active.iter().copied()
    }

    fn buffer(&self, slot: Slot) -> &Buffer {
        &self.topics[slot.topic_index].partitions[slot.partition_index]
    }

    /// When the partition's first batch is to leave: at once, or when it has lingered.
    pub(crate) fn ready_at(&self, slot: Slot, is_urgent: bool) -> Option<Instant> {
        let buffer = self.buffer(slot);
        let first = buffer.first()?;
        let is_ready = is_urgent
            || !buffer.full.is_empty()
            || first.birth < self.flush_before
            || first.builder.size_bytes() >= self.sizes.batch_bytes;
        Some(if is_ready { Instant::ZERO } else { first.created_at + self.sizes.linger })
    }

    /// When the partition's first batch was begun.
    pub(crate) fn first_created_at(&self, slot: Slot) -> Option<Instant> {
        self.buffer(slot).first().map(|first| first.created_at)
    }

    /// Takes out the partition's first batch.
    pub(crate) fn pop(&mut self, slot: Slot) -> Option<OpenBatch> {
        let buffer = &mut self.topics[slot.topic_index].partitions[slot.partition_index];
        let first = buffer.full.pop_front().or_else(|| buffer.open.take());
        if buffer.first().is_none() {
            self.active.remove(&slot);
        }
        first
    }

    /// One more batch of this birth: the whole was cut.
    pub(crate) fn add_part(&mut self, birth: u64) {
        *self.unsettled.entry(birth).or_insert(0) += 1;
    }

    /// A batch of this birth is settled.
    pub(crate) fn settled(&mut self, birth: u64) {
        if let Some(count) = self.unsettled.get_mut(&birth) {
            *count -= 1;
            if *count == 0 {
                self.unsettled.remove(&birth);
            }
        }
    }

    /// Makes everything taken so far ready, and answers up to which birth that is.
    pub(crate) fn flush(&mut self) -> u64 {
        self.flush_before = self.next_birth;
        self.flush_before
    }

    /// Whether all batches born before this one are settled.
    pub(crate) fn is_flushed(&self, before: u64) -> bool {
        self.unsettled.first_key_value().is_none_or(|(birth, _)| *birth >= before)
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{BrokerId, LeaderEpoch, TopicId};
    use rand::SeedableRng;

    use super::*;
    use crate::cluster::Partition;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn accumulator(batch_bytes: usize) -> Accumulator {
        let sizes = Sizes { batch_bytes, linger: Duration::from_millis(5), codec: Codec::None, level: None };
        Accumulator::new(sizes, Rng::seed_from_u64(1))
    }

    fn topic(count: i32) -> Topic {
        let partition = |index| Partition {
            index: PartitionIndex(index),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            replicas: vec![],
            isr: vec![],
            eligible: None,
            offline: vec![],
            error: None,
        };
        let partitions = (0..count).map(partition).collect();
        Topic { name: "knots".into(), id: TopicId::ZERO, is_internal: false, partitions }
    }

    fn append(accumulator: &mut Accumulator, partition: i32, bytes: usize) -> Result<bool, AppendError> {
        let record = ProducerRecord::new("knots", vec![7; bytes]).with_partition(PartitionIndex(partition));
        let size = BatchBuilder::record_bytes_max(&record.view(Timestamp(1), &[]));
        accumulator.append(NOW, Timestamp(1), &topic(2), &record, size).map(|taken| taken.wakes)
    }

    const SLOT: Slot = Slot { topic_index: 0, partition_index: 1 };

    #[test]
    fn a_batch_is_ready_when_it_is_full_or_has_lingered() {
        let mut accumulator = accumulator(300);
        assert!(append(&mut accumulator, 1, 50).unwrap());
        assert!(!append(&mut accumulator, 1, 50).unwrap());
        let lingered = NOW + Duration::from_millis(5);
        assert_eq!(accumulator.ready_at(SLOT, false), Some(lingered));
        assert_eq!(accumulator.ready_at(SLOT, true), Some(Instant::ZERO));
        assert!(append(&mut accumulator, 1, 150).unwrap());
        assert_eq!(accumulator.ready_at(SLOT, false), Some(Instant::ZERO));
        let counts = || accumulator.pop(SLOT).map(|batch| batch.builder.record_count());
        let counts: Vec<_> = core::iter::from_fn(counts).collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!((accumulator.active().count(), accumulator.ready_at(SLOT, true)), (0, None));
    }

    #[test]
    fn a_record_larger_than_a_batch_goes_alone() {
        let mut accumulator = accumulator(100);
        for bytes in [10, 500, 10] {
            append(&mut accumulator, 1, bytes).unwrap();
        }
        let counts = || accumulator.pop(SLOT).map(|batch| batch.builder.record_count());
        assert_eq!(core::iter::from_fn(counts).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn a_record_that_cannot_be_leaves_nothing_behind() {
        let mut accumulator = accumulator(100);
        let record = ProducerRecord { timestamp: Some(Timestamp(-7)), ..ProducerRecord::new("knots", "x") };
        let error = accumulator.append(NOW, Timestamp(1), &topic(2), &record, 20).err();
        assert!(matches!(error, Some(AppendError::Build(BuildError::Timestamp(Timestamp(-7))))));
        assert!(matches!(append(&mut accumulator, 2, 1), Err(AppendError::NoPartition(PartitionIndex(2)))));
        assert_eq!(accumulator.active().count(), 0);
        assert!(accumulator.is_flushed(u64::MAX));
    }

    #[test]
    fn nothing_is_taken_behind_the_end() {
        let mut accumulator = accumulator(100);
        accumulator.close();
        assert!(matches!(append(&mut accumulator, 1, 1), Err(AppendError::Closed)));
        assert_eq!(accumulator.active().count(), 0);
    }

    #[test]
    fn a_flush_is_over_when_all_parts_of_what_was_there_are_settled() {
        let mut accumulator = accumulator(100);
        append(&mut accumulator, 0, 1).unwrap();
        append(&mut accumulator, 1, 1).unwrap();
        let before = accumulator.flush();
        append(&mut accumulator, 1, 200).unwrap();
        assert_eq!(accumulator.ready_at(SLOT, false), Some(Instant::ZERO));
        accumulator.add_part(0);
        accumulator.settled(0);
        accumulator.settled(1);
        assert!(!accumulator.is_flushed(before));
        accumulator.settled(0);
        assert!(accumulator.is_flushed(before) && !accumulator.is_flushed(before + 1));
    }
}
