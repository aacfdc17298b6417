//! The state of one partition's log in memory, and what durable frames do to it.
//!
//! ```text
//!   log start        base.end               durable end             log end
//!      |  segments      |  tail (memory, WAL)   |  in the WAL's queue  |
//!      +----------------+-----------------------+----------------------+
//! ```
//!
//! Invariants
//! - `log_end`, `epochs` and `producers` include every frame submitted; `durable_end`, `tail` and `states` every durable one.
//! - `base` is what the segments hold; it differs from `committed`, which the manifest says, only after such a change.
//! - While a truncation, a repair or a new beginning is under way (`changes`) no checkpoint takes this log, and what is to be cut is
//!   not shown to readers.
//! - `unsynced` holds every batch submitted and not yet durable.
//! - A log is faulty, and offline, only while something of it is damaged; single damaged ranges of segments do not make it faulty.
//!
//! Not here: the operations themselves (`append`, `step`, `change`, `read`); who owns a log.

use core::ops::Range;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, Timestamp, TopicIdPartition};
use quipu_env::Instant;
use quipu_records::{BatchHeader, HEADER_BYTES};

use super::LogOptions;
use crate::{
    cleaner::Swap,
    damage::Damaged,
    epochs::EpochTable,
    error::Fault,
    partition::PartitionState,
    producers::Producers,
    tail::{Tail, TailEntry, TailPermit},
    wal::{DurableFrame, FrameKind, GroupSequence, Ticket},
};

/// One partition's log.
pub(crate) struct LogShared {
    pub(crate) partition: TopicIdPartition,
    pub(crate) state: Mutex<LogState>,
}

/// A change below the log's end that is submitted and not yet durable.
pub(crate) enum Change {
    /// Everything goes.
    BeginAnew {
        at: Offset,
        /// What the segments hold afterwards: nothing.
        base: Arc<PartitionState>,
    },
    Cut(Cut),
    Repair(Repair),
}

/// A truncation.
pub(crate) struct Cut {
    pub(crate) to: Offset,
    /// What the segments hold afterwards, if it reaches into them.
    pub(crate) base: Option<Arc<PartitionState>>,
    /// What can't be read any more of what was to be kept, and why.
    pub(crate) lost: Option<(Range<Offset>, Fault)>,
}

/// One batch in the place of damaged ones.
pub(crate) struct Repair {
    pub(crate) range: Range<Offset>,
    /// Whether it goes to the tail; else it is in a segment.
    pub(crate) to_tail: bool,
    /// What the step's repairs make of the segments; with its last one.
    pub(crate) segments: Option<RepairedSegments>,
}

/// Segments with batches in the place of damaged ones.
pub(crate) struct RepairedSegments {
    /// What they hold.
    pub(crate) base: Arc<PartitionState>,
    /// What is sound now.
    pub(crate) repaired: Range<Offset>,
    /// What is in them no more.
    pub(crate) lost: Vec<Range<Offset>>,
}

/// A batch that is submitted and not yet durable.
pub(crate) struct Unsynced {
    pub(crate) base: Offset,
    /// Offset of its last record.
    pub(crate) last: Offset,
    /// Its header, if that is not in `rest`.
    pub(crate) header: Option<[u8; HEADER_BYTES]>,
    pub(crate) rest: Bytes,
}

impl Unsynced {
    /// A batch whose header has been settled, `rest` being what is behind it.
    pub(crate) fn patched(header: &BatchHeader, encoded: [u8; HEADER_BYTES], rest: &Bytes) -> Self {
        Self { base: header.base_offset, last: header.last_offset(), header: Some(encoded), rest: rest.clone() }
    }

    /// A batch as it is.
    pub(crate) fn whole(header: &BatchHeader, bytes: &Bytes) -> Self {
        Self { base: header.base_offset, last: header.last_offset(), header: None, rest: bytes.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.header.map_or(0, |header| header.len()) + self.rest.len()
    }
}

pub(crate) struct LogState {
    pub(crate) options: LogOptions,
    /// A delete is submitted: nobody uses the log any more.
    pub(crate) deleted: bool,
    /// The delete is durable: nothing of the log counts any more.
    pub(crate) gone: bool,
    pub(crate) fault: Option<Fault>,
    /// What is known to be damaged, as of what is durable.
    pub(crate) damaged: Damaged,
    /// As the owner noted it last.
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) durable_log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) epochs: EpochTable,
    pub(crate) producers: Producers,
    /// Of the last frame submitted for this log.
    pub(crate) last_ticket: Ticket,
    pub(crate) base: Arc<PartitionState>,
    pub(crate) committed: Arc<PartitionState>,
    pub(crate) tail: Tail,
    pub(crate) unsynced: VecDeque<Unsynced>,
    pub(crate) changes: VecDeque<Change>,
    /// A change is being prepared.
    pub(crate) cutting: bool,
    /// What promise, label, hard state and replica frames said last.
    pub(crate) states: BTreeMap<u8, Vec<u8>>,
    /// During recovery: kinds of states whose last frame is bad.
    pub(crate) lost_states: BTreeMap<u8, Fault>,
    /// The last group that has a frame of this log.
    pub(crate) applied: GroupSequence,
    /// Something is not in the manifest; the log is on the list of those to be flushed.
    pub(crate) dirty: bool,
    /// A checkpoint is writing it.
    pub(crate) flushing: bool,
    /// So many writes or syncs of the open segment's file, or of its name, have failed since the last good flush: it is not to be
    /// trusted with more, and no name that was tried is to be tried again.
    pub(crate) abandoned: u32,
    /// Compaction is rewriting segments.
    pub(crate) cleaning: bool,
    /// The number of the last segment that compaction has made, or tried to.
    pub(crate) cleaned_names: u32,
    /// A compacted segment that the next flush puts in its place.
    pub(crate) swap: Option<Arc<Swap>>,
    /// The next flush closes the open segment.
    pub(crate) seals: bool,
    /// Compaction leaves the log alone until then.
    pub(crate) cleans_from: Instant,
    /// This process has made the partition's directory, durably. Whether a manifest has files in it may not be known.
    pub(crate) has_directory: bool,
}

impl LogShared {
    /// A log as the manifest has it; the default state for a new one.
    pub(crate) fn new(partition: TopicIdPartition, committed: Arc<PartitionState>) -> Self {
        let state = LogState {
            options: LogOptions::default(),
            deleted: false,
            gone: false,
            fault: committed.fault.clone(),
            damaged: committed.damaged.clone(),
            high_watermark: committed.high_watermark,
            log_start: committed.log_start,
            durable_log_start: committed.log_start,
            log_end: committed.end,
            durable_end: committed.end,
            epochs: committed.epochs.clone(),
            producers: committed.producers.clone(),
            last_ticket: Ticket::NONE,
            base: Arc::clone(&committed),
            tail: Tail::default(),
            unsynced: VecDeque::new(),
            changes: VecDeque::new(),
            cutting: false,
            states: committed.states.clone(),
            lost_states: BTreeMap::new(),
            applied: GroupSequence(committed.applied),
            committed,
            dirty: false,
            flushing: false,
            abandoned: 0,
            cleaning: false,
            cleaned_names: 0,
            swap: None,
            seals: false,
            cleans_from: Instant::ZERO,
            has_directory: false,
        };
        Self { partition, state: Mutex::new(state) }
    }
}

impl LogState {
    /// Everything below is durable and will not be cut by what has been submitted.
    pub(crate) fn readable_end(&self) -> Offset {
        let end_of = |change: &Change| match change {
            Change::BeginAnew { at, .. } => Some(*at),
            Change::Cut(cut) => Some(cut.to),
            Change::Repair(_) => None,
        };
        self.changes.iter().filter_map(end_of).fold(self.durable_end, Offset::min)
    }

    /// Whether anything was ever written to it.
    pub(crate) fn has_data(&self) -> bool {
        self.log_end > Offset::ZERO || self.applied > GroupSequence::NONE || self.fault.is_some()
    }

    /// Takes in a durable frame that this process submitted. Answers what is to be dropped outside the lock.
    pub(crate) fn apply_durable(&mut self, frame: DurableFrame, group: &Arc<TailPermit>) -> VecDeque<TailEntry> {
        assert!(!self.gone, "nothing is submitted behind a delete");
        self.applied = frame.group;
        match frame.kind {
            FrameKind::Append => self.push_durable(frame, group),
            FrameKind::Truncate | FrameKind::BeginAnew | FrameKind::Repair => return self.finish_change(frame, group),
            FrameKind::LogStart => {
                self.durable_log_start = self.durable_log_start.max(frame.base_offset);
                self.damaged.trim(self.durable_log_start);
                self.clear_fault();
            }
            FrameKind::Complete => {
                self.damaged.close(frame.base_offset);
                self.clear_fault();
            }
            // It is known since it was found.
            FrameKind::Damaged => {}
            FrameKind::PartitionDelete => {
                self.gone = true;
                return self.tail.clear();
            }
            FrameKind::Promise | FrameKind::Label | FrameKind::RaftHardState | FrameKind::Replica => {
                self.states.insert(frame.kind as u8, frame.payload.to_vec());
            }
            FrameKind::ProducerSnapshot => unreachable!("this version submits no such frame"),
        }
        VecDeque::new()
    }

    fn push_durable(&mut self, frame: DurableFrame, group: &Arc<TailPermit>) {
        let header = BatchHeader::parse(&frame.payload).expect("the header that append has put there");
        assert_eq!(header.base_offset, self.durable_end, "batches become durable in order");
        let sent = self.unsynced.pop_front();
        debug_assert!(
            sent.is_some_and(|sent| sent.base == header.base_offset),
            "what is submitted is kept until it is durable"
        );
        if !self.damaged.is_empty() {
            self.damaged.close(header.base_offset);
            self.clear_fault();
        }
        self.durable_end = header.next_offset();
        self.tail.push(TailEntry::new(&header, frame.payload, Arc::clone(group)));
    }

    fn finish_change(&mut self, frame: DurableFrame, group: &Arc<TailPermit>) -> VecDeque<TailEntry> {
        match self.changes.pop_front().expect("a change is noted before its frame is submitted") {
            Change::BeginAnew { at, base } => {
                assert_eq!(at, frame.base_offset, "changes become durable in order");
                self.begin_durable(at, base)
            }
            Change::Cut(cut) => {
                assert_eq!(cut.to, frame.base_offset, "changes become durable in order");
                self.cut_durable(&cut);
                VecDeque::new()
            }
            Change::Repair(repair) => {
                assert_eq!(repair.range.start, frame.base_offset, "changes become durable in order");
                self.repair_durable(repair, frame.payload, group)
            }
        }
    }

    /// Carries out a new beginning on what is durable. Answers what is to be dropped outside the lock.
    pub(crate) fn begin_durable(&mut self, at: Offset, base: Arc<PartitionState>) -> VecDeque<TailEntry> {
        self.base = base;
        self.durable_end = at;
        self.durable_log_start = at;
        self.damaged = Damaged::default();
        self.clear_fault();
        self.tail.clear()
    }

    /// Carries out a truncation on what is durable.
    pub(crate) fn cut_durable(&mut self, cut: &Cut) {
        self.tail.truncate(cut.to);
        if let Some(base) = &cut.base {
            self.base = Arc::clone(base);
        }
        self.durable_end = self.durable_end.min(cut.to);
        // What follows may be something else.
        self.high_watermark = self.high_watermark.min(self.durable_end);
        self.damaged.truncate(cut.to);
        if let Some((lost, fault)) = &cut.lost {
            self.damaged.add(lost.clone());
            self.fault.get_or_insert_with(|| fault.clone());
        }
        self.clear_fault();
    }

    /// Carries out a repair on what is durable. Answers what is to be dropped outside the lock.
    pub(crate) fn repair_durable(
        &mut self,
        repair: Repair,
        payload: Bytes,
        group: &Arc<TailPermit>,
    ) -> VecDeque<TailEntry> {
        let Repair { range, to_tail, segments } = repair;
        let mut dropped = VecDeque::new();
        if to_tail {
            let header = BatchHeader::parse(&payload).expect("the header that was looked at before");
            let entry = TailEntry::new(&header, payload, Arc::clone(group));
            for lost in self.tail.replace(entry, &mut dropped) {
                self.damaged.add(lost);
            }
            self.damaged.remove(&range);
        }
        if let Some(RepairedSegments { base, repaired, lost }) = segments {
            for lost in lost {
                self.damaged.add(lost);
            }
            self.damaged.remove(&repaired);
            self.base = base;
        }
        self.clear_fault();
        dropped
    }

    /// Takes the partition back online if nothing of it is damaged.
    pub(crate) fn clear_fault(&mut self) {
        if self.damaged.is_empty() {
            self.fault = None;
        }
    }

    /// Takes note of a batch whose place in the log is settled.
    pub(crate) fn record_batch(&mut self, placed: &BatchHeader, now: Timestamp) {
        self.producers.record(placed, now);
        self.epochs.assign(placed.leader_epoch, placed.base_offset);
        self.log_end = placed.next_offset();
    }

    /// Takes in a log start that is submitted.
    pub(crate) fn move_log_start(&mut self, to: Offset) {
        self.log_start = to;
        self.epochs.trim(to);
    }

    /// The producers of the batches that lie whole below `end`, which lies in the tail or at its start.
    pub(crate) fn producers_at(&self, end: Offset, now: Timestamp) -> Producers {
        let mut producers = self.base.producers.clone();
        for entry in self.tail.iter().take_while(|entry| entry.last < end) {
            producers.record(&entry.header(), now);
        }
        producers
    }

    /// Where the first batch begins that reaches `end`, in the tail; `end` if none does.
    pub(crate) fn tail_boundary(&self, end: Offset) -> Offset {
        self.tail.from(end).next().map_or(end, |entry| entry.base.min(end))
    }

    /// Bytes of the segments and batches of which something is at or above `offset`.
    pub(crate) fn bytes_from(&self, offset: Offset) -> u64 {
        let segments = self.base.segments.iter().filter(|segment| segment.end > offset);
        let in_segments: u64 = segments.map(|segment| u64::from(segment.data_bytes())).sum();
        in_segments + self.tail.bytes_from(offset.max(self.base.tail_start()))
    }

    /// The newest epoch of a batch, or none.
    pub(crate) fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.latest().unwrap_or(LeaderEpoch::NONE)
    }
}
