//! A disk: records that carry their identity, and the replica's durable state. Steps are carried out here by rules of their own, which
//! are compared with what the replica believes.

use core::ops::Range;
use std::collections::{BTreeMap, VecDeque};

use quipu_base::{BrokerEpoch, DirectoryId, LeaderEpoch, Offset};
use quipu_replication::{DurableState, EpochStart, EpochTable, LogShape, Source, Write};

/// One record. Two records are the same only if both agree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Rec {
    pub(crate) id: u32,
    pub(crate) epoch: i32,
}

/// Records by offset.
pub(crate) type Records = BTreeMap<i64, Rec>;

/// What a disk holds of the partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stored {
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    /// Those in `log_start..log_end`, but for damaged ones.
    pub(crate) records: Records,
    /// The epoch of the record before the log start, if it was deleted here.
    pub(crate) epoch_before: Option<i32>,
    pub(crate) promised: LeaderEpoch,
    pub(crate) label: LeaderEpoch,
    pub(crate) high_watermark: i64,
    pub(crate) is_faulty: bool,
    /// Epochs of damaged records: an index that survived.
    pub(crate) damaged: BTreeMap<i64, i32>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            log_start: 0,
            log_end: 0,
            records: BTreeMap::new(),
            epoch_before: None,
            promised: LeaderEpoch::NONE,
            label: LeaderEpoch::NONE,
            high_watermark: 0,
            is_faulty: false,
            damaged: BTreeMap::new(),
        }
    }
}

impl Stored {
    fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.records.get(&offset).map(|record| record.epoch).or_else(|| self.damaged.get(&offset).copied())
    }

    pub(crate) fn shape(&self) -> LogShape {
        let mut entries: Vec<EpochStart> = Vec::new();
        let mut add = |epoch: i32, start: i64| {
            if entries.last().is_none_or(|last| last.epoch.0 != epoch) {
                entries.push(EpochStart { epoch: LeaderEpoch(epoch), start: Offset(start) });
            }
        };
        if let Some(epoch) = self.epoch_before {
            add(epoch, self.log_start - 1);
        }
        for offset in self.log_start..self.log_end {
            add(self.epoch_at(offset).unwrap(), offset);
        }
        let epochs = EpochTable::new(entries).unwrap_or_else(|| panic!("epochs of a log are out of order: {self:?}"));
        LogShape { log_start: Offset(self.log_start), log_end: Offset(self.log_end), epochs }
    }

    pub(crate) fn durable_state(&self) -> DurableState {
        let damaged: Vec<Range<Offset>> = self.damaged.keys().map(|at| Offset(*at)..Offset(*at + 1)).collect();
        DurableState {
            log: self.shape(),
            promised: self.promised,
            label: self.label,
            high_watermark: Offset(self.high_watermark),
            is_faulty: self.is_faulty,
            damaged,
        }
    }

    pub(crate) fn damage(&mut self, offset: i64) {
        if let Some(record) = self.records.remove(&offset) {
            self.damaged.insert(offset, record.epoch);
        }
    }

    fn truncate(&mut self, end: i64) {
        self.log_end = end;
        self.records.split_off(&end);
        self.damaged.split_off(&end);
    }

    /// Carries out a step with the bytes that belong to it.
    pub(crate) fn apply(&mut self, write: &Write, bytes: &Records) {
        if let Some(at) = write.begin_anew {
            self.truncate(0);
            (self.log_start, self.log_end, self.epoch_before) = (at.0, at.0, None);
        }
        if let Some(end) = write.truncate {
            assert!(self.log_start <= end.0 && end.0 <= self.log_end, "cut within the log: {write:?}");
            self.truncate(end.0);
        }
        if let Some((_, range)) = &write.append {
            assert_eq!(range.start.0, self.log_end, "appended at the end: {write:?}");
            for offset in range.start.0..range.end.0 {
                let record = bytes[&offset];
                assert_eq!(write.epochs.epoch_at(Offset(offset)).0, record.epoch, "the epochs are those of the bytes");
                self.records.insert(offset, record);
            }
            self.log_end = range.end.0;
        }
        if let Some(range) = &write.repair {
            for offset in range.start.0..range.end.0 {
                if let Some(epoch) = self.damaged.remove(&offset) {
                    assert_eq!(epoch, bytes[&offset].epoch, "a repair does not change epochs");
                    self.records.insert(offset, bytes[&offset]);
                }
            }
        }
        if let Some(log_start) = write.log_start {
            assert!(self.log_start <= log_start.0 && log_start.0 <= self.log_end, "deleted within the log: {write:?}");
            if log_start.0 > self.log_start {
                self.epoch_before = self.epoch_at(log_start.0 - 1);
            }
            self.log_start = log_start.0;
            self.records = self.records.split_off(&log_start.0);
            self.damaged = self.damaged.split_off(&log_start.0);
        }
        self.promised = write.promise.unwrap_or(self.promised);
        self.label = write.label.unwrap_or(self.label);
        self.is_faulty = write.faulty.unwrap_or(self.is_faulty);
        self.high_watermark = write.high_watermark.0;
    }
}

/// A node's disk, and the steps on their way to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Disk {
    pub(crate) directory_id: DirectoryId,
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    /// What a power cut leaves.
    pub(crate) durable: Stored,
    /// With the steps that are not synced.
    pub(crate) written: Stored,
    pub(crate) under_way: VecDeque<(Write, Records)>,
}

impl Disk {
    pub(crate) fn new(directory_id: DirectoryId) -> Self {
        Self {
            directory_id,
            broker_epoch: None,
            durable: Stored::default(),
            written: Stored::default(),
            under_way: VecDeque::new(),
        }
    }

    pub(crate) fn write(&mut self, write: Write, in_hand: &Records) {
        let bytes = match (&write.append, &write.repair) {
            (Some((Source::Message | Source::Request, range)), _) | (None, Some(range)) => {
                in_hand.range(range.start.0..range.end.0).map(|(at, record)| (*at, *record)).collect()
            }
            (None, None) => Records::new(),
        };
        self.written.apply(&write, &bytes);
        self.under_way.push_back((write, bytes));
    }

    /// Makes the first `count` steps durable; answers the last one.
    pub(crate) fn sync(&mut self, count: usize) -> Option<Write> {
        let mut last = None;
        for _ in 0..count {
            let Some((write, bytes)) = self.under_way.pop_front() else { break };
            self.durable.apply(&write, &bytes);
            last = Some(write);
        }
        last
    }

    /// What is not durable is gone.
    pub(crate) fn cut_power(&mut self) {
        self.under_way.clear();
        self.written = self.durable.clone();
    }
}
