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
//! - `base` is what the segments hold; it differs from `committed`, which the manifest says, only after a truncation.
//! - While a truncation is under way (`cuts`) no checkpoint takes this log, and what is to be cut is not shown to readers.
//!
//! Not here: the operations themselves (`append`, `read`, `truncate`); who owns a log.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use quipu_base::{LeaderEpoch, Offset, Timestamp, TopicIdPartition};
use quipu_records::BatchHeader;

use super::LogOptions;
use crate::{
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

/// A truncation that is submitted and not yet durable.
pub(crate) struct Cut {
    pub(crate) to: Offset,
    /// What the segments hold afterwards, if it reaches into them.
    pub(crate) base: Option<Arc<PartitionState>>,
}

pub(crate) struct LogState {
    pub(crate) options: LogOptions,
    /// A delete is submitted: nobody uses the log any more.
    pub(crate) deleted: bool,
    /// The delete is durable: nothing of the log counts any more.
    pub(crate) gone: bool,
    pub(crate) fault: Option<Fault>,
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
    pub(crate) cuts: VecDeque<Cut>,
    /// A truncation is being prepared.
    pub(crate) cutting: bool,
    /// What promise, label and hard state frames said last.
    pub(crate) states: BTreeMap<u8, Vec<u8>>,
    /// The last group that has a frame of this log.
    pub(crate) applied: GroupSequence,
    /// Something is not in the manifest; the log is on the list of those to be flushed.
    pub(crate) dirty: bool,
    /// A checkpoint is writing it.
    pub(crate) flushing: bool,
    /// So many writes or syncs of the open segment's file, or of its name, have failed since the last good flush: it is not to be
    /// trusted with more, and no name that was tried is to be tried again.
    pub(crate) abandoned: u32,
}

impl LogShared {
    /// A log as the manifest has it; the default state for a new one.
    pub(crate) fn new(partition: TopicIdPartition, committed: Arc<PartitionState>) -> Self {
        let state = LogState {
            options: LogOptions::default(),
            deleted: false,
            gone: false,
            fault: committed.fault.clone(),
            log_start: committed.log_start,
            durable_log_start: committed.log_start,
            log_end: committed.end,
            durable_end: committed.end,
            epochs: committed.epochs.clone(),
            producers: committed.producers.clone(),
            last_ticket: Ticket::NONE,
            base: Arc::clone(&committed),
            tail: Tail::default(),
            cuts: VecDeque::new(),
            cutting: false,
            states: committed.states.clone(),
            applied: GroupSequence(committed.applied),
            committed,
            dirty: false,
            flushing: false,
            abandoned: 0,
        };
        Self { partition, state: Mutex::new(state) }
    }
}

impl LogState {
    /// Everything below is durable and will not be cut by what has been submitted.
    pub(crate) fn readable_end(&self) -> Offset {
        self.cuts.iter().map(|cut| cut.to).fold(self.durable_end, Offset::min)
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
            FrameKind::Truncate => self.finish_cut(frame.base_offset),
            FrameKind::LogStart => self.durable_log_start = self.durable_log_start.max(frame.base_offset),
            FrameKind::PartitionDelete => {
                self.gone = true;
                return self.tail.clear();
            }
            FrameKind::Promise | FrameKind::Label | FrameKind::RaftHardState => {
                self.states.insert(frame.kind as u8, frame.payload.to_vec());
            }
            FrameKind::ProducerSnapshot => unreachable!("this version submits no such frame"),
        }
        VecDeque::new()
    }

    fn push_durable(&mut self, frame: DurableFrame, group: &Arc<TailPermit>) {
        let header = BatchHeader::parse(&frame.payload).expect("the header that append has put there");
        assert_eq!(header.base_offset, self.durable_end, "batches become durable in order");
        self.durable_end = header.next_offset();
        self.tail.push(TailEntry::new(&header, frame.payload, Arc::clone(group)));
    }

    fn finish_cut(&mut self, to: Offset) {
        let cut = self.cuts.pop_front().expect("a truncation is noted before its frame is submitted");
        assert_eq!(cut.to, to, "truncations become durable in order");
        self.cut_durable(&cut);
    }

    /// Carries out a truncation on what is durable.
    pub(crate) fn cut_durable(&mut self, cut: &Cut) {
        self.tail.truncate(cut.to);
        if let Some(base) = &cut.base {
            self.base = Arc::clone(base);
        }
        self.durable_end = self.durable_end.min(cut.to);
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

    /// The newest epoch of a batch, or none.
    pub(crate) fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.latest().unwrap_or(LeaderEpoch::NONE)
    }
}
