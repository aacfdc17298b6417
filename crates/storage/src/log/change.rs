//! Changes below a log's end: a new beginning, a truncation, repairs. They have to be prepared before they can be submitted.
//!
//! ```text
//! prepare: wait until all frames of the log are durable and no checkpoint writes it; read, and for a repair write, what has to be
//! submit:  the log ends at its new end for appends and readers; frames are in the WAL's queue
//! durable: tail and segments are changed, too; the next checkpoint says so in the manifest
//! ```
//!
//! A crash before the manifest says so makes recovery do it again, from the frames.
//!
//! Invariant: no byte of a segment that the manifest counts is overwritten or removed before the manifest says otherwise: what is
//! appended after a truncation, and what is repaired, goes to a new file, under a new name.
//!
//! Not here: what becomes of segments (`truncate`, `repair`).

use core::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{Offset, Timestamp};
use quipu_env::{Clock, Env, Probe, Segment};
use quipu_records::{BatchHeader, HEADER_BYTES};

use super::{
    Log, LogShared, LogState,
    repair::{producers_after, repair_state},
    state::{Change, Cut, Repair, RepairedSegments},
    step::{BadStep, Placed, check_not_deleted},
    truncate::{CutState, cut_state},
};
use crate::{
    ChangeError, damage::Damaged, error::CheckpointError, lock, partition::PartitionState, producers::Producers,
    tail::TailEntry, wal::FrameKind,
};

/// What is to be done, in this order.
pub(super) struct Wanted {
    pub(super) begin_anew: Option<Offset>,
    pub(super) truncate: Option<Offset>,
    pub(super) repair: Vec<Placed>,
}

/// What it comes to.
#[derive(Default)]
pub(super) struct Prepared {
    begin_anew: Option<(Offset, Arc<PartitionState>)>,
    cut: Option<(Cut, CutEnd)>,
    repairs: Vec<(Repair, Placed)>,
    /// What a truncation has taken too much, of a gap that it cuts.
    refill: Option<Placed>,
    /// Of the whole log after the repairs, if they are known only now.
    producers: Option<Producers>,
}

/// What a truncation leaves.
struct CutEnd {
    /// Where the first batch begins that goes.
    boundary: Offset,
    producers: Producers,
}

/// The log as it was when something was prepared for it.
struct Seen {
    base: Arc<PartitionState>,
    log_start: Offset,
    log_end: Offset,
    damaged: Damaged,
    is_faulty: bool,
    abandoned: u32,
}

impl Seen {
    fn of(state: &LogState) -> Self {
        Self {
            base: Arc::clone(&state.base),
            log_start: state.log_start,
            log_end: state.log_end,
            damaged: state.damaged.clone(),
            is_faulty: state.fault.is_some(),
            abandoned: state.abandoned,
        }
    }

    /// Whether nobody has appended, cut or found damage meanwhile: else what was prepared does not fit any more.
    fn is_current(&self, state: &LogState) -> bool {
        let is_same = state.log_end == self.log_end && state.log_start == self.log_start;
        is_same && state.changes.is_empty() && Arc::ptr_eq(&state.base, &self.base) && state.damaged == self.damaged
    }
}

impl<E: Env> Log<E> {
    /// Prepares `wanted` and hands it to `submit`, under the log's lock.
    pub(super) async fn prepare<T>(
        &self,
        wanted: Wanted,
        submit: impl FnOnce(&mut LogState, Prepared) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let _preparing = Preparing(&self.log);
        loop {
            wanted.check(&self.state())?;
            self.settle().await?;
            let seen = {
                let state = self.state();
                wanted.check(&state)?;
                Seen::of(&state)
            };
            let prepared = self.plan(&wanted, &seen).await?;
            let mut state = self.state();
            check_not_deleted(&state)?;
            if seen.is_current(&state) {
                return submit(&mut state, prepared);
            }
            drop(state);
            self.store.env.probe().sometimes("change.prepared-again");
        }
    }

    /// Waits until every frame of the log is durable and no checkpoint is writing it, and keeps checkpoints off.
    async fn settle(&self) -> Result<(), ChangeError> {
        let mut rounds = self.store.rounds.subscribe();
        let mut durable = self.store.wal().durable();
        loop {
            rounds.borrow_and_update();
            let (ticket, flushing, changes) = {
                let mut state = self.state();
                check_not_deleted(&state)?;
                state.cutting = !state.flushing;
                (state.last_ticket, state.flushing, !state.changes.is_empty())
            };
            let is_durable = *durable.borrow_and_update() >= ticket;
            if !flushing && !changes && is_durable {
                return Ok(());
            }
            self.store.env.probe().sometimes("truncate.waits");
            let ended = if flushing {
                rounds.changed().await.is_err()
            } else {
                durable.wait_for(|done| *done >= ticket).await.is_err()
            };
            if ended {
                return Err(ChangeError::Deleted);
            }
        }
    }

    async fn plan(&self, wanted: &Wanted, seen: &Seen) -> Result<Prepared, ChangeError> {
        let now = self.store.env.clock().wall();
        let mut prepared = Prepared::default();
        let mut base = Arc::clone(&seen.base);
        let mut damaged = seen.damaged.clone();
        if let Some(at) = wanted.begin_anew {
            self.store.env.probe().sometimes("log.began-anew");
            base = Arc::new(fresh_state(&base, at));
            damaged = Damaged::default();
            prepared.begin_anew = Some((at, Arc::clone(&base)));
        } else if let Some(to) = wanted.truncate.filter(|to| *to < seen.log_end) {
            let (cut, end) = self.plan_cut(&base, seen.log_start, to, now).await?;
            base = cut.base.clone().unwrap_or(base);
            prepared.refill = self.rest_of_gap(cut.to, to).await;
            damaged.truncate(cut.to);
            if let Some((lost, _)) = &cut.lost {
                damaged.add(lost.clone());
            }
            prepared.cut = Some((cut, end));
        }
        let repair = wanted.repair.iter().filter(|batch| damaged.meets(&batch.range()));
        let repair: Vec<Placed> = repair.cloned().collect();
        if !repair.is_empty() {
            self.plan_repair(&mut prepared, base, damaged, seen, repair, now).await?;
        }
        Ok(prepared)
    }

    /// What lies below `to` of the gap that begins at `from`, if a gap does: it stands for offsets that may be cut one by one.
    async fn rest_of_gap(&self, from: Offset, to: Offset) -> Option<Placed> {
        if from >= to {
            return None;
        }
        let read = self.read(from, to, HEADER_BYTES, true).await.ok()?;
        let Some(Segment::Bytes(bytes)) = read.segments.into_iter().next() else { return None };
        let rest = Placed::parse(bytes).filter(|rest| rest.header.is_gap() && rest.range() == (from..to))?;
        self.store.env.probe().sometimes("truncate.inside-a-gap");
        Some(rest)
    }

    async fn plan_cut(
        &self,
        base: &Arc<PartitionState>,
        log_start: Offset,
        to: Offset,
        now: Timestamp,
    ) -> Result<(Cut, CutEnd), ChangeError> {
        if to < base.end {
            self.store.env.probe().sometimes("truncate.segments");
            let cut = cut_state(&self.store, self.log.partition, base, to, now).await.map_err(ChangeError::Read)?;
            let CutState { mut state, boundary, lost } = cut;
            // A repaired batch may begin below what the segments reach to, and lie in the tail.
            state.end = self.state().tail_boundary(to).min(state.end);
            let end = CutEnd { boundary: boundary.min(state.end), producers: state.producers.clone() };
            let to = state.end.max(log_start);
            return Ok((Cut { to, base: Some(Arc::new(state)), lost }, end));
        }
        self.store.env.probe().sometimes("truncate.tail");
        let state = self.state();
        let boundary = state.tail_boundary(to);
        let producers = if self.store.env.probe().planted("truncate.producers-kept") {
            state.producers.clone()
        } else {
            state.producers_at(boundary, now)
        };
        let to = boundary.max(log_start);
        Ok((Cut { to, base: None, lost: None }, CutEnd { boundary, producers }))
    }

    async fn plan_repair(
        &self,
        prepared: &mut Prepared,
        mut base: Arc<PartitionState>,
        mut damaged: Damaged,
        seen: &Seen,
        repair: Vec<Placed>,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let log_end = prepared.log_end().unwrap_or(seen.log_end);
        let (in_segments, in_tail) = repair.split_at(repairs_of_segments(&base, &repair));
        let mut lost = Vec::new();
        if !in_segments.is_empty() {
            let (store, partition) = (&self.store, self.log.partition);
            let made = repair_state(store, partition, &base, in_segments, seen.abandoned, seen.is_faulty).await;
            let repaired = made.map_err(|error| self.give_up_repair(error))?;
            (base, lost) = (Arc::new(repaired.state), repaired.lost);
        }
        for range in &lost {
            damaged.add(range.clone());
        }
        for batch in &repair {
            damaged.remove(&batch.range());
        }
        // What was missing hid something of the producers, which is known when all of it is back.
        if seen.is_faulty && !damaged.is_below(log_end) {
            let headers = headers_in_tail(&self.state(), in_tail, log_end);
            let made = producers_after(&self.store, self.log.partition, &base, &headers, now).await;
            let (of_segments, all) = made.map_err(ChangeError::Read)?;
            base = Arc::new(PartitionState { producers: of_segments, ..(*base).clone() });
            prepared.producers = Some(all);
        }
        let repaired = match (in_segments.first(), in_segments.last()) {
            (Some(first), Some(last)) => first.header.base_offset..last.header.next_offset(),
            _ => log_end..log_end,
        };
        let mut segments = Some(RepairedSegments { base, repaired, lost });
        let (tail_from, count) = (in_segments.len(), repair.len());
        for (index, batch) in repair.into_iter().enumerate() {
            let segments = segments.take_if(|_| index + 1 == count);
            prepared.repairs.push((Repair { range: batch.range(), to_tail: index >= tail_from, segments }, batch));
        }
        Ok(())
    }

    /// A name that was tried is not to be tried again: see `abandoned`.
    fn give_up_repair(&self, error: CheckpointError) -> ChangeError {
        self.store.env.probe().sometimes("repair.given-up");
        if !matches!(error, CheckpointError::Read(_)) {
            self.state().abandoned += 1;
        }
        match error {
            CheckpointError::Read(error) => ChangeError::Read(error),
            error => ChangeError::Write(error.to_string()),
        }
    }
}

/// How many of the batches go to segments, the others to the tail. Of a partition without any segment nothing goes there: it may not
/// have a directory.
pub(crate) fn repairs_of_segments(base: &PartitionState, batches: &[Placed]) -> usize {
    if base.segments.is_empty() { 0 } else { batches.partition_point(|batch| batch.header.next_offset() <= base.end) }
}

/// Of the batches in the tail once `repaired` are there, too, and what reaches `log_end` is not.
pub(crate) fn headers_in_tail(state: &LogState, repaired: &[Placed], log_end: Offset) -> Vec<BatchHeader> {
    let is_replaced = |header: &BatchHeader| {
        let meets = |range: &Range<Offset>| header.base_offset < range.end && range.start < header.next_offset();
        repaired.iter().any(|batch| meets(&batch.range()))
    };
    let tail = state.tail.iter().map(TailEntry::header);
    let kept = tail.filter(|header| header.last_offset() < log_end && !is_replaced(header));
    let mut headers: Vec<_> = kept.chain(repaired.iter().map(|batch| batch.header)).collect();
    headers.sort_by_key(|header| header.base_offset);
    headers
}

/// An empty log that begins at `at`.
pub(crate) fn fresh_state(before: &PartitionState, at: Offset) -> PartitionState {
    PartitionState { log_start: at, end: at, generation: before.generation + 1, ..PartitionState::default() }
}

impl Wanted {
    fn check(&self, state: &LogState) -> Result<(), ChangeError> {
        check_not_deleted(state)?;
        let (mut log_start, mut log_end) = (state.log_start, state.log_end);
        let out_of_range = |log_start, log_end| Err(ChangeError::OutOfRange { log_start, log_end });
        if let Some(at) = self.begin_anew {
            (log_start, log_end) = (at, at);
            if at < Offset::ZERO {
                return out_of_range(state.log_start, state.log_end);
            }
        }
        if self.truncate.is_some_and(|to| to < log_start) {
            return out_of_range(log_start, log_end);
        }
        log_end = self.truncate.map_or(log_end, |to| to.min(log_end));
        let mut expected = self.repair.first().map_or(log_end, |first| first.header.base_offset);
        for batch in &self.repair {
            let found = batch.header.base_offset;
            if found != expected {
                return Err(ChangeError::BadStep(BadStep::NotNext { expected, found }));
            }
            expected = batch.header.next_offset();
        }
        if !self.repair.is_empty() && expected > log_end { out_of_range(log_start, log_end) } else { Ok(()) }
    }
}

impl Prepared {
    /// Where the log ends after it; none if that does not change.
    pub(super) fn log_end(&self) -> Option<Offset> {
        let cut = self.cut.as_ref().map(|(cut, _)| cut.to);
        cut.or(self.begin_anew.as_ref().map(|(at, _)| *at))
    }

    /// What is to be appended first.
    pub(super) const fn take_refill(&mut self) -> Option<Placed> {
        self.refill.take()
    }

    pub(super) fn frame_count(&self) -> usize {
        usize::from(self.begin_anew.is_some()) + usize::from(self.cut.is_some()) + self.repairs.len()
    }

    /// Carries it out on what has been submitted. Answers the frames: kind, offset and payload.
    pub(super) fn submit(self, state: &mut LogState) -> Vec<(FrameKind, Offset, Bytes)> {
        let mut frames = Vec::with_capacity(self.frame_count());
        if let Some((at, base)) = self.begin_anew {
            state.log_start = at;
            state.log_end = at;
            state.epochs = Default::default();
            state.producers = Producers::default();
            state.high_watermark = at;
            state.changes.push_back(Change::BeginAnew { at, base });
            frames.push((FrameKind::BeginAnew, at, Bytes::new()));
        }
        if let Some((cut, end)) = self.cut {
            state.log_end = cut.to;
            state.epochs.truncate(end.boundary);
            state.producers = end.producers;
            frames.push((FrameKind::Truncate, cut.to, Bytes::new()));
            state.changes.push_back(Change::Cut(cut));
        }
        for (repair, Placed { header, bytes }) in self.repairs {
            state.epochs.insert(header.leader_epoch, header.base_offset);
            frames.push((FrameKind::Repair, repair.range.start, bytes));
            state.changes.push_back(Change::Repair(repair));
        }
        if let Some(producers) = self.producers {
            state.producers = producers;
        }
        frames
    }
}

/// Lets checkpoints take the log again.
struct Preparing<'a>(&'a LogShared);

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).cutting = false;
    }
}
