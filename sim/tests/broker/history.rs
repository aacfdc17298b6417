//! What is known of each partition's log from outside: what was acknowledged and what was read. Checked as it comes in.
//!
//! Invariants, each of which ends the run where it is broken
//! - An offset has one value for ever, whoever says so: acknowledgements and readers agree, before and after every crash.
//! - A reader's high watermark never goes back, nor stays below what was known when it asked.
//! - At the end each partition holds every record of every producer once, in the order of sending, without gaps.
//!
//! Not here: who produces and who reads.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// A record: which producer's, and its number among those that this producer sends to the partition, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct RecordId {
    pub(crate) producer: u32,
    pub(crate) number: u32,
}

impl RecordId {
    /// The record's value: all of it follows from who, where and how long.
    pub(crate) fn value(self, partition: i32, bytes: usize) -> Bytes {
        let label = format!("{}.{}.{}:", self.producer, partition, self.number);
        let filler = label.bytes().cycle().skip(3);
        Bytes::from_iter(label.bytes().chain(filler.take(bytes)))
    }

    /// Which record has this value. None if no record of this partition has: it is somebody else's, or damaged.
    pub(crate) fn of(partition: i32, value: &Bytes) -> Option<Self> {
        let end = value.iter().position(|byte| *byte == b':')?;
        let label = core::str::from_utf8(&value[..end]).ok()?;
        let mut parts = label.split('.');
        let producer = parts.next()?.parse().ok()?;
        parts.next().filter(|text| text.parse() == Ok(partition))?;
        let number = parts.next()?.parse().ok()?;
        let id = Self { producer, number };
        (id.value(partition, value.len() - end - 1) == *value).then_some(id)
    }
}

/// One partition.
#[derive(Default)]
struct Partition {
    /// By offset.
    known: BTreeMap<i64, RecordId>,
    acknowledged: u64,
}

/// A run's history. A clone is the same one.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<BTreeMap<i32, Partition>>>);

impl History {
    fn with<T>(&self, partition: i32, work: impl FnOnce(&mut Partition) -> T) -> T {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(partitions.entry(partition).or_default())
    }

    /// Records were acknowledged, the first of them at `base_offset`.
    pub(crate) fn acknowledged(&self, partition: i32, base_offset: i64, records: impl Iterator<Item = RecordId>) {
        self.with(partition, |known| {
            for (offset, record) in (base_offset..).zip(records) {
                known.learn(partition, offset, record, "acknowledgement");
                known.acknowledged += 1;
            }
        });
    }

    /// A reader got a record.
    pub(crate) fn read(&self, partition: i32, offset: i64, value: &Bytes) {
        let record = RecordId::of(partition, value);
        let record = record.unwrap_or_else(|| panic!("partition {partition} offset {offset}: nobody wrote {value:?}"));
        self.with(partition, |known| known.learn(partition, offset, record, "reader"));
    }

    /// The offset after the last one that is known: whoever asks from now on must find at least this high watermark.
    pub(crate) fn end(&self, partition: i32) -> i64 {
        self.with(partition, |known| known.known.last_key_value().map_or(0, |(offset, _)| offset + 1))
    }

    /// Records acknowledged in all partitions.
    pub(crate) fn acknowledged_count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(|partition| partition.acknowledged).sum()
    }

    /// Compares a partition's whole log, as it was read at the end, with what each producer sent.
    pub(crate) fn check_all(&self, partition: i32, log: &[(i64, Bytes)], sent: &[u32]) {
        for (expected, (offset, value)) in (0..).zip(log) {
            assert_eq!(*offset, expected, "partition {partition}: the log has a gap");
            self.read(partition, *offset, value);
        }
        let mut next = vec![0; sent.len()];
        self.with(partition, |known| {
            assert_eq!(known.known.len(), log.len(), "partition {partition}: records known before are gone");
            for (offset, record) in &known.known {
                let next = &mut next[record.producer as usize];
                assert_eq!(
                    record.number, *next,
                    "partition {partition} offset {offset}: producer {} ",
                    record.producer
                );
                *next += 1;
            }
        });
        assert_eq!(next, sent, "partition {partition}: records of each producer");
    }
}

impl Partition {
    fn learn(&mut self, partition: i32, offset: i64, record: RecordId, from: &str) {
        match self.known.entry(offset) {
            Entry::Vacant(entry) => {
                entry.insert(record);
            }
            Entry::Occupied(entry) => assert_eq!(
                *entry.get(),
                record,
                "partition {partition} offset {offset}: the {from} says something else than what was known"
            ),
        }
    }
}

/// The high watermarks that one reader has seen.
#[derive(Default)]
pub(crate) struct Watermarks(BTreeMap<i32, i64>);

impl Watermarks {
    /// Checks the one of an answer. `known`: [`History::end`] before the request was sent.
    pub(crate) fn check(&mut self, partition: i32, known: i64, high_watermark: i64) {
        let last = self.0.entry(partition).or_insert(0);
        assert!(high_watermark >= *last, "partition {partition}: high watermark {high_watermark} after {last}");
        assert!(high_watermark >= known, "partition {partition}: high watermark {high_watermark}, known up to {known}");
        *last = high_watermark;
    }
}
