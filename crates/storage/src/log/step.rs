//! Steps: several changes of one log that survive a crash together or not at all.
//!
//! ```text
//! begin_anew, truncate, append, repair, log_start, states      take effect in this order, as frames of one WAL group
//! ```
//!
//! Invariants
//! - A step is checked whole before anything of it is submitted: one that is refused leaves no trace.
//! - Batches of a step have their final offsets and epochs; their producers' sequences have been checked by the leader.
//! - A step with `append`, `log_start` and `states` only never waits, so the order of such steps is the order of the calls.
//!
//! A damaged log takes steps as well: that is how it is rebuilt. See `damage` for what becomes of its damage, and `change` for what
//! has to be prepared before it can be submitted.
//!
//! Not here: when a step is made (`quipu-replication`, `quipu-raft`).

use core::{fmt, ops::Range};

use bytes::Bytes;
use quipu_base::{
    Offset, Timestamp,
    limits::{WAL_STEP_BYTES_MAX, WAL_STEP_FRAMES_MAX},
};
use quipu_env::{Clock, Env, Probe};
use quipu_records::BatchHeader;

use super::{Log, LogState, Reservation, StateKind, change::Prepared, state::Unsynced};
use crate::{
    ChangeError,
    tail::{FRAME_OVERHEAD_BYTES, frame_cost},
    wal::{Frame, FrameKind, Ticket},
};

/// Changes of one log that become durable together. The fields take effect in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Everything but the states goes: the log begins and ends here.
    pub begin_anew: Option<Offset>,
    /// The log is cut back to end here, or at the beginning of the batch that holds this offset. At or above its end nothing changes.
    pub truncate: Option<Offset>,
    /// Whole adjacent batches, with their final offsets and leader epochs, to be put at the log's end: there the first one must begin.
    pub append: Vec<Bytes>,
    /// Whole batches, adjacent, in the place of what is damaged. Those that lie where nothing is damaged are left out.
    pub repair: Vec<Bytes>,
    /// The log begins here; at or below its present start nothing changes.
    pub log_start: Option<Offset>,
    /// New states, see [`Log::set_state`].
    pub states: Vec<(StateKind, Bytes)>,
}

/// Why a step can't be what its caller wants. Nothing of it was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadStep {
    /// It may have to wait, which [`Log::try_step`] does not: see [`Log::step`].
    Waits,
    /// It does not fit one WAL group: more than [`WAL_STEP_FRAMES_MAX`] frames, or more than [`WAL_STEP_BYTES_MAX`] with more than
    /// one batch.
    TooLarge {
        /// Batches, states and other changes.
        frames: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The reservation is for less than [`Step::reservation_bytes`].
    NotReserved {
        /// What it takes.
        bytes: usize,
    },
    /// A piece of `append` or `repair` is not one batch.
    NotOneBatch {
        /// Which, counted from 0, those to append first.
        index: usize,
    },
    /// A batch does not begin where it should.
    NotNext {
        /// Where it should begin.
        expected: Offset,
        /// Where it does.
        found: Offset,
    },
}

impl fmt::Display for BadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits => f.write_str("a step that begins anew, truncates or repairs may have to wait"),
            Self::TooLarge { frames, bytes } => write!(
                f,
                "a step of {frames} frames and {bytes} bytes does not fit one write-ahead log group, which takes {WAL_STEP_FRAMES_MAX} \
                 frames and {WAL_STEP_BYTES_MAX} bytes: split it"
            ),
            Self::NotReserved { bytes } => write!(f, "a step of {bytes} bytes has a smaller reservation"),
            Self::NotOneBatch { index } => write!(f, "number {index} of a step's batches is not exactly one batch"),
            Self::NotNext { expected, found } => write!(f, "a batch begins at offset {found} instead of {expected}"),
        }
    }
}

impl core::error::Error for BadStep {}

impl Step {
    /// What to ask [`crate::Store::reserve`] for.
    #[must_use]
    pub fn reservation_bytes(&self) -> usize {
        self.payload_bytes() + self.frame_count().saturating_sub(1) * FRAME_OVERHEAD_BYTES
    }

    fn frame_count(&self) -> usize {
        let single = [self.begin_anew, self.truncate, self.log_start];
        single.iter().flatten().count() + self.append.len() + self.repair.len() + self.states.len()
    }

    fn payload_bytes(&self) -> usize {
        let batches: usize = self.append.iter().chain(&self.repair).map(Bytes::len).sum();
        batches + self.states.iter().map(|(_, value)| value.len()).sum::<usize>()
    }

    fn must_prepare(&self) -> bool {
        self.begin_anew.is_some() || self.truncate.is_some() || !self.repair.is_empty()
    }

    fn check_size<E: Env>(&self, reservation: &Reservation<E>) -> Result<(), ChangeError> {
        let (frames, bytes) = (self.frame_count(), self.payload_bytes());
        let batches = self.append.len() + self.repair.len();
        if frames > WAL_STEP_FRAMES_MAX || (bytes > WAL_STEP_BYTES_MAX && batches > 1) {
            return Err(ChangeError::BadStep(BadStep::TooLarge { frames, bytes }));
        }
        let needed = self.reservation_bytes();
        if reservation.covers(needed) {
            Ok(())
        } else {
            Err(ChangeError::BadStep(BadStep::NotReserved { bytes: needed }))
        }
    }
}

/// A batch of a step, with what its header says.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

impl Placed {
    /// A batch read back; none if the bytes are not exactly one.
    pub(crate) fn parse(bytes: Bytes) -> Option<Self> {
        let header = BatchHeader::parse(&bytes).ok().filter(|header| is_placed(header, bytes.len()))?;
        Some(Self { header, bytes })
    }

    /// Its offsets.
    pub(crate) const fn range(&self) -> Range<Offset> {
        self.header.base_offset..self.header.next_offset()
    }
}

/// The batches of a step. `before`: how many of the step's others come first, for the error.
fn parse_all(batches: Vec<Bytes>, before: usize) -> Result<Vec<Placed>, ChangeError> {
    let one = |(index, bytes)| {
        Placed::parse(bytes).ok_or(ChangeError::BadStep(BadStep::NotOneBatch { index: before + index }))
    };
    batches.into_iter().enumerate().map(one).collect()
}

/// Whether the header is that of one batch, whose offsets leave room for an end behind them.
fn is_placed(header: &BatchHeader, bytes: usize) -> bool {
    let last = header.base_offset.0.checked_add(i64::from(header.last_offset_delta));
    header.total_bytes() == bytes
        && header.last_offset_delta >= 0
        && header.base_offset >= Offset::ZERO
        && last.is_some_and(|last| last < i64::MAX)
}

impl<E: Env> Log<E> {
    /// Makes a step; durable, all of it at once, when the ticket is. Takes effect before it returns, in the order of the calls. A
    /// faulty log takes steps, too.
    ///
    /// Errors: `BadStep` for a step that may have to wait (`begin_anew`, `truncate`, `repair`), or that isn't one; `OutOfRange` if the
    /// log start would lie above the log's end; `Deleted`.
    pub fn try_step(&self, reservation: Reservation<E>, step: Step) -> Result<Ticket, ChangeError> {
        if step.must_prepare() {
            return Err(ChangeError::BadStep(BadStep::Waits));
        }
        step.check_size(&reservation)?;
        let append = parse_all(step.append, 0)?;
        let now = self.store.env.clock().wall();
        let mut state = self.state();
        check_not_deleted(&state)?;
        let plan = Plan { prepared: Prepared::default(), append, log_start: step.log_start, states: step.states };
        self.submit_plan(&mut state, reservation, plan, now)
    }

    /// Makes any step, like [`Self::try_step`]. If it begins anew, truncates or repairs it waits until all that was submitted for this
    /// log is durable and no checkpoint is writing it, and then for what has to be read or written first; the owner of the log must
    /// submit nothing else before it has returned. A step is submitted when this returns, or not at all.
    ///
    /// Errors: as above; `OutOfRange` for a truncation below the log start or a repair above the log's end; `Read` and `Write` if files
    /// that are concerned can't be read or written.
    pub async fn step(&self, reservation: Reservation<E>, step: Step) -> Result<Ticket, ChangeError> {
        if !step.must_prepare() {
            return self.try_step(reservation, step);
        }
        step.check_size(&reservation)?;
        let appended = step.append.len();
        let append = parse_all(step.append, 0)?;
        let repair = parse_all(step.repair, appended)?;
        let wanted = super::change::Wanted { begin_anew: step.begin_anew, truncate: step.truncate, repair };
        let (log_start, states) = (step.log_start, step.states);
        let now = self.store.env.clock().wall();
        self.prepare(wanted, |state, prepared| {
            let plan = Plan { prepared, append, log_start, states };
            self.submit_plan(state, reservation, plan, now)
        })
        .await
    }

    fn submit_plan(
        &self,
        state: &mut LogState,
        reservation: Reservation<E>,
        mut plan: Plan,
        now: Timestamp,
    ) -> Result<Ticket, ChangeError> {
        let refill = plan.prepared.take_refill();
        plan.append.splice(..0, refill);
        plan.check(state)?;
        let mut frames = Vec::with_capacity(plan.frame_count());
        let make = |kind, leader_epoch, base_offset, body| Frame {
            partition: self.log.partition,
            kind,
            leader_epoch,
            base_offset,
            head: Bytes::new(),
            body,
        };
        let epoch = state.latest_epoch();
        let Plan { prepared, append, log_start, states } = plan;
        let mut appended = Vec::with_capacity(append.len());
        for (kind, offset, body) in prepared.submit(state) {
            frames.push(make(kind, epoch, offset, body));
        }
        let forgets_producers = self.store.env.probe().planted("step.producers-forgotten");
        for Placed { header, bytes } in append {
            let producers = forgets_producers.then(|| state.producers.clone());
            state.record_batch(&header, now);
            state.producers = producers.unwrap_or_else(|| core::mem::take(&mut state.producers));
            state.unsynced.push_back(Unsynced::whole(&header, &bytes));
            frames.push(make(FrameKind::Append, header.leader_epoch, header.base_offset, bytes));
            appended.push((header.base_offset, header.next_offset()));
        }
        let epoch = state.latest_epoch();
        if let Some(to) = log_start.filter(|to| *to > state.log_start) {
            state.move_log_start(to);
            frames.push(make(FrameKind::LogStart, epoch, to, Bytes::new()));
            self.tell_log_start(state);
        }
        for (kind, value) in states {
            frames.push(make(kind.frame(), epoch, state.log_end, value));
        }
        if frames.is_empty() {
            return Ok(state.last_ticket);
        }
        let Reservation { tail, wal } = reservation;
        tail.into_frame(frames.iter().map(|frame| frame_cost(frame.payload_bytes())).sum());
        state.last_ticket = self.store.wal().submit_step(frames);
        // Promised space is given back only now that the frames themselves count.
        drop(wal);
        for (base, end) in appended {
            self.tell_appended(base, end, state.last_ticket);
        }
        Ok(state.last_ticket)
    }
}

/// A step that is ready to be submitted.
struct Plan {
    prepared: Prepared,
    append: Vec<Placed>,
    log_start: Option<Offset>,
    states: Vec<(StateKind, Bytes)>,
}

impl Plan {
    fn frame_count(&self) -> usize {
        self.prepared.frame_count() + self.append.len() + self.states.len() + usize::from(self.log_start.is_some())
    }

    /// Whether it can be carried out on the log as it is now.
    fn check(&self, state: &LogState) -> Result<(), ChangeError> {
        let mut end = self.prepared.log_end().unwrap_or(state.log_end);
        for Placed { header, .. } in &self.append {
            let found = header.base_offset;
            if found != end {
                return Err(ChangeError::BadStep(BadStep::NotNext { expected: end, found }));
            }
            end = header.next_offset();
        }
        if self.log_start.is_some_and(|to| to > end) {
            return Err(ChangeError::OutOfRange { log_start: state.log_start, log_end: end });
        }
        Ok(())
    }
}

pub(super) fn check_not_deleted(state: &LogState) -> Result<(), ChangeError> {
    if state.deleted { Err(ChangeError::Deleted) } else { Ok(()) }
}

/// What a leader's batch is to its producer's earlier ones, see [`Log::check_append`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// The next one, or one without a sequence: to be appended.
    Fresh,
    /// Appended before.
    Duplicate {
        /// Offset of the original's first record.
        base_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
        /// Its max timestamp.
        timestamp: Timestamp,
    },
}

impl<E: Env> Log<E> {
    /// What a batch with this header is to what its producer has appended: for a leader that appends by [`Self::try_step`], which
    /// checks nothing.
    ///
    /// Errors: those of [`Self::append`] about the producer; `Faulty`, `Deleted`.
    pub fn check_append(&self, header: &BatchHeader, now: Timestamp) -> Result<Check, crate::AppendError> {
        let state = self.state();
        super::check_appendable(&state)?;
        let verdict = state.producers.check(header, now, self.store.options.producer_expiration_ms)?;
        Ok(match verdict {
            crate::producers::Verdict::New => Check::Fresh,
            crate::producers::Verdict::Duplicate(original) => Check::Duplicate {
                base_offset: original.base_offset,
                last_offset: original.last_offset,
                timestamp: original.timestamp,
            },
        })
    }
}
