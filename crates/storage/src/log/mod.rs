//! One partition's log: append, read, look up, cut.
//!
//! A [`Log`] is a handle to it, cheap to clone. By convention one shard owns a log and is the only one to change it; any may read.
//!
//! Not here: replication. Read `state` next, then `append` and `read`.

mod append;
mod change;
mod lookup;
mod read;
mod repair;
mod retention;
mod scrub;
pub(crate) mod state;
mod step;
mod truncate;

use core::{fmt, ops::Range};
use std::sync::{Arc, MutexGuard};

use quipu_base::{
    LeaderEpoch, Offset, Timestamp, TopicIdPartition,
    limits::{SEGMENT_BYTES, SEGMENT_MS},
};
use quipu_env::{Env, Probe, Segment};

pub(crate) use change::{fresh_state, headers_in_tail, repairs_of_segments};
pub(crate) use repair::{SegmentWriter, producers_after, repair_state};
pub use retention::Retention;
pub use scrub::{ScrubPlace, Scrubbed};
pub(crate) use state::{Cut, LogShared, LogState, Repair, RepairedSegments};
pub(crate) use step::Placed;
pub use step::{BadStep, Check, Step};
pub(crate) use truncate::{CutState, cut_state, producers_at};

use crate::{
    AppendError, ChangeError, Compaction, EpochStart, Fault, ProducerState, ReadError, lock,
    segment::FileOf,
    store::Shared,
    wal::{Class, FrameKind, SpacePermit, Ticket},
};

/// A handle to one partition's log.
pub struct Log<E: Env> {
    pub(crate) log: Arc<LogShared>,
    pub(crate) store: Arc<Shared<E>>,
}

impl<E: Env> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log), store: Arc::clone(&self.store) }
    }
}

impl<E: Env> fmt::Debug for Log<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("partition", &self.log.partition).finish_non_exhaustive()
    }
}

/// Settings of one log. They take effect with the next batch that is written to a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// A segment is rolled before it would become larger than this, unless by a single batch (`segment.bytes`).
    pub segment_bytes: u32,
    /// A segment is rolled before a batch whose timestamp is later than its first batch's by more than this (`segment.ms`).
    pub segment_ms: i64,
    /// Which old records go by themselves.
    pub retention: Retention,
    /// When and how the log is compacted, if it is (`cleanup.policy=compact`).
    pub compaction: Option<Compaction>,
    /// How long the file of a segment stays that is no longer part of the log (`file.delete.delay.ms`).
    pub file_delete_delay_ms: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            segment_ms: SEGMENT_MS,
            retention: Retention::default(),
            compaction: None,
            file_delete_delay_ms: 0,
        }
    }
}

/// The offsets that bound a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOffsets {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// Everything below is synced.
    pub durable_end: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its max timestamp; under log append time, when it was (for a duplicate: first) appended.
    pub timestamp: Timestamp,
    /// The same batch had been appended before; this is where.
    pub duplicate: bool,
    /// The batch is durable when this ticket is.
    pub ticket: Ticket,
}

/// Whole batches, in order, in memory or in files.
pub struct ReadResult<E: Env> {
    /// The batches. File ranges have been checked.
    pub segments: Vec<Segment<FileOf<E>>>,
    /// Bytes of all of them.
    pub bytes: usize,
    /// The offset from which to read on.
    pub next_offset: Offset,
}

impl<E: Env> fmt::Debug for ReadResult<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadResult")
            .field("segments", &self.segments.len())
            .field("bytes", &self.bytes)
            .field("next_offset", &self.next_offset)
            .finish()
    }
}

/// What memory alone can say about a read.
pub enum TailRead<E: Env> {
    /// The batches, or nothing if there is nothing below the upper bound.
    Hit(ReadResult<E>),
    /// The offset lies in a segment: see [`Log::read`].
    Cold,
    /// The offset lies outside the log.
    OutOfRange {
        /// The first offset there is.
        log_start: Offset,
        /// The offset of the next record.
        log_end: Offset,
    },
    /// The partition is offline.
    Faulty(Fault),
    /// The partition was deleted.
    Deleted,
}

/// Room in the tail and in the WAL for one frame. Given back when dropped unused.
pub struct Reservation<E: Env> {
    pub(crate) tail: crate::tail::TailPermit,
    pub(crate) wal: SpacePermit<E>,
}

impl<E: Env> Reservation<E> {
    /// Whether it is for that much payload.
    fn covers(&self, payload_bytes: usize) -> bool {
        self.wal.covers(payload_bytes)
    }
}

impl<E: Env> fmt::Debug for Reservation<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

/// Small durable facts about a partition besides its batches: the last of each kind counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StateKind {
    /// A promise to a leader about to be elected.
    Promise,
    /// The leader epoch whose log this replica has adopted.
    Label,
    /// Term, vote and commit of a consensus log.
    RaftHardState,
    /// What a replica remembers besides its log.
    Replica,
}

impl StateKind {
    const fn frame(self) -> FrameKind {
        match self {
            Self::Promise => FrameKind::Promise,
            Self::Label => FrameKind::Label,
            Self::RaftHardState => FrameKind::RaftHardState,
            Self::Replica => FrameKind::Replica,
        }
    }
}

impl<E: Env> Log<E> {
    /// Whose log this is.
    #[must_use]
    pub fn partition(&self) -> TopicIdPartition {
        self.log.partition
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        lock(&self.log.state)
    }

    /// The bounds of the log at this moment.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        let state = self.state();
        LogOffsets { log_start: state.log_start, durable_end: state.readable_end(), log_end: state.log_end }
    }

    /// Where an epoch ends, as `OffsetForLeaderEpoch` wants it: the largest epoch not above `epoch` and the offset after its last
    /// record, where the newest epoch ends at `upper`. `(LeaderEpoch(-1), Offset(-1))` if that can't be said.
    #[must_use]
    pub fn epoch_end(&self, epoch: LeaderEpoch, upper: Offset) -> (LeaderEpoch, Offset) {
        let state = self.state();
        state.epochs.end_of(epoch, state.log_start, upper)
    }

    /// The epoch of the record at `offset`; [`LeaderEpoch::NONE`] if no epoch begins at or below it.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.state().epochs.epoch_at(offset).unwrap_or(LeaderEpoch::NONE)
    }

    /// The epoch of the last batch; [`LeaderEpoch::NONE`] if there was none.
    #[must_use]
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.state().latest_epoch()
    }

    /// All epochs of the log.
    #[must_use]
    pub fn epochs(&self) -> Vec<EpochStart> {
        let state = self.state();
        state.epochs.view(state.log_start)
    }

    /// The producers that the log remembers.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerState> {
        self.state().producers.states().cloned().collect()
    }

    /// Bytes of the log, on disk and in memory: of segments and batches of which something is at or above the log start.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let state = self.state();
        state.bytes_from(state.log_start)
    }

    /// The log's settings.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        self.state().options
    }

    /// Bytes of records that a step of another store with the same options takes for sure, and this one's.
    #[must_use]
    pub fn step_bytes_max(&self) -> usize {
        self.store.options.step_bytes_max()
    }

    /// The world that it lives in.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.store.env
    }

    /// Why the partition is offline, if it is.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// The ticket of its deletion, if the partition was deleted.
    #[must_use]
    pub fn deleted_by(&self) -> Option<Ticket> {
        let state = self.state();
        state.deleted.then_some(state.last_ticket)
    }

    /// Sets the log's settings.
    pub fn set_options(&self, options: LogOptions) {
        self.state().options = options;
    }

    /// Moves the log start offset up to `offset`, exactly; at or below the present one nothing changes. Readers see it at once; it
    /// is durable when the ticket is.
    ///
    /// Errors: `OutOfRange` above the durable end, `Faulty`, `Deleted`.
    pub fn set_log_start(&self, reservation: Reservation<E>, offset: Offset) -> Result<Ticket, ChangeError> {
        let mut state = self.state();
        check_changeable(&state)?;
        if offset <= state.log_start {
            return Ok(state.last_ticket);
        }
        if offset > state.readable_end() {
            return Err(ChangeError::OutOfRange { log_start: state.log_start, log_end: state.readable_end() });
        }
        state.move_log_start(offset);
        self.tell_log_start(&state);
        Ok(self.submit(&mut state, reservation, FrameKind::LogStart, offset, bytes::Bytes::new()))
    }

    /// For whoever watches: the log start has moved.
    fn tell_log_start(&self, state: &LogState) {
        self.store.env.probe().event(
            "log.start",
            &[
                ("topic", self.log.partition.topic_id.low()),
                ("partition", i64::from(self.log.partition.partition.0)),
                ("start", state.log_start.0),
                ("end", state.log_end.0),
            ],
        );
    }

    /// Cuts the log back to end at `to`, or, if `to` lies inside a batch, at the beginning of that batch (but not below the log
    /// start). At or above the present end nothing changes. Durable when the ticket is.
    ///
    /// The owner of the log must not append while this is under way; what it appends afterwards follows the cut.
    ///
    /// Errors: `OutOfRange` below the log start, `Faulty`, `Deleted`, `Read` if segments that have to be read can't be.
    pub async fn truncate(&self, reservation: Reservation<E>, to: Offset) -> Result<Ticket, ChangeError> {
        check_changeable(&self.state())?;
        self.step(reservation, Step { truncate: Some(to), ..Step::default() }).await
    }

    /// Takes note of the high watermark, which is within the log. It goes to the disk with the partition's next flush.
    pub fn note_high_watermark(&self, high_watermark: Offset) {
        self.state().high_watermark = high_watermark;
    }

    /// The high watermark as far as it is durable: what was noted before the partition's last flush. Zero if there was none.
    #[must_use]
    pub fn stored_high_watermark(&self) -> Offset {
        self.state().committed.high_watermark
    }

    /// What of the log is known to be damaged, in order: ranges of segments that fail their checksums, and what was lost with the
    /// WAL. A range that ends at `i64::MAX` says that records are missing behind the log's end, nobody knows how many.
    #[must_use]
    pub fn damage(&self) -> Vec<Range<Offset>> {
        self.state().damaged.ranges().to_vec()
    }

    /// The owner knows that nothing is missing behind the log's end: damage with an open end goes, what lies inside the log stays.
    /// With the last of the damage the partition is not faulty any more. To be called before the step that says that a replica is
    /// sound again. (What is appended ends such damage, too.)
    ///
    /// Errors: `Deleted`.
    pub fn clear_damage(&self, reservation: Reservation<E>) -> Result<Ticket, ChangeError> {
        let mut state = self.state();
        step::check_not_deleted(&state)?;
        let end = state.log_end;
        Ok(self.submit(&mut state, reservation, FrameKind::Complete, end, bytes::Bytes::new()))
    }

    /// Replaces the partition's state of `kind`; durable when the ticket is, and to be seen by [`Self::durable_state`] then.
    ///
    /// Errors: `Deleted`. A faulty partition has states, too.
    pub fn set_state(
        &self,
        reservation: Reservation<E>,
        kind: StateKind,
        value: bytes::Bytes,
    ) -> Result<Ticket, ChangeError> {
        let mut state = self.state();
        if state.deleted {
            return Err(ChangeError::Deleted);
        }
        let end = state.log_end;
        Ok(self.submit(&mut state, reservation, kind.frame(), end, value))
    }

    /// The last durable state of `kind`.
    #[must_use]
    pub fn durable_state(&self, kind: StateKind) -> Option<Vec<u8>> {
        self.state().states.get(&(kind.frame() as u8)).cloned()
    }

    fn submit(
        &self,
        state: &mut LogState,
        reservation: Reservation<E>,
        kind: FrameKind,
        base_offset: Offset,
        payload: bytes::Bytes,
    ) -> Ticket {
        let leader_epoch = state.latest_epoch();
        let frame = crate::wal::Frame {
            partition: self.log.partition,
            kind,
            leader_epoch,
            base_offset,
            head: bytes::Bytes::new(),
            body: payload,
        };
        reservation.tail.into_frame(crate::tail::frame_cost(frame.payload_bytes()));
        state.last_ticket = self.store.wal().submit(frame);
        state.last_ticket
    }

    /// Tells the WAL of damage. It is small, and it must be known: it goes through whatever is full.
    fn submit_damage(&self, state: &mut LogState, range: &Range<Offset>) {
        let frame = crate::wal::Frame {
            partition: self.log.partition,
            kind: FrameKind::Damaged,
            leader_epoch: state.latest_epoch(),
            base_offset: range.start,
            head: bytes::Bytes::new(),
            body: bytes::Bytes::copy_from_slice(&range.end.0.to_le_bytes()),
        };
        let cost = crate::tail::frame_cost(frame.payload_bytes());
        self.store.catalog.tail.take(cost).into_frame(cost);
        state.last_ticket = self.store.wal().submit(frame);
    }

    /// Room for one frame of `bytes`, see [`crate::Store::reserve`].
    ///
    /// Errors: [`crate::StoreFull`].
    pub async fn reserve(&self, bytes: usize, class: Class) -> Result<Reservation<E>, crate::StoreFull> {
        self.store.reserve(bytes, class).await
    }
}

fn check_changeable(state: &LogState) -> Result<(), ChangeError> {
    if state.deleted {
        return Err(ChangeError::Deleted);
    }
    state.fault.clone().map_or(Ok(()), |fault| Err(ChangeError::Faulty(fault)))
}

fn check_appendable(state: &LogState) -> Result<(), AppendError> {
    if state.deleted {
        return Err(AppendError::Deleted);
    }
    state.fault.clone().map_or(Ok(()), |fault| Err(AppendError::Faulty(fault)))
}

fn check_readable(state: &LogState) -> Result<(), ReadError> {
    if state.deleted {
        return Err(ReadError::Deleted);
    }
    state.fault.clone().map_or(Ok(()), |fault| Err(ReadError::Faulty(fault)))
}
