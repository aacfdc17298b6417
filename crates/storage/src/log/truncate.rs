//! Truncation: cutting a log's end back, with everything that depends on it.
//!
//! Only whole batches go: those that reach the target. Producer state and epochs are then those of the batches that are left,
//! by replay from the newest state that is exact at or below the target.
//!
//! ```text
//! prepare: wait until all frames of the log are durable and no checkpoint writes it; read what has to be read
//! submit:  the log ends at the target for appends and readers; a Truncate frame is in the WAL's queue
//! durable: tail and segments end there, too; the next checkpoint says so in the manifest
//! ```
//!
//! Invariant: no byte of a segment that the manifest counts is overwritten or removed before the manifest says otherwise: what is
//! appended after a truncation goes to a new file, under a new name.
//!
//! Not here: who decides to truncate (`quipu-replication`).

use std::sync::Arc;

use quipu_base::{Offset, Timestamp, TopicIdPartition, checksum::Crc32c};
use quipu_env::{Clock, Env, Probe};

use super::{Cut, Log, LogShared, LogState, Reservation, check_changeable};
use crate::{
    ChangeError, ReadError, lock,
    partition::{Flush, PartitionState, SegmentMeta},
    producers::Producers,
    store::Shared,
    wal::{FrameKind, Ticket},
};

/// What a truncation will have made of a log.
struct Plan {
    to: Offset,
    /// Where the first batch begins that goes.
    boundary: Offset,
    base: Option<Arc<PartitionState>>,
    producers: Producers,
}

impl<E: Env> Log<E> {
    /// Cuts the log back to end at `to`, or, if `to` lies inside a batch, at the beginning of that batch (but not below the log
    /// start). At or above the present end nothing changes. Durable when the ticket is.
    ///
    /// The owner of the log must not append while this is under way; what it appends afterwards follows the cut.
    ///
    /// Errors: `OutOfRange` below the log start, `Faulty`, `Deleted`, `Read` if segments that have to be read can't be.
    pub async fn truncate(&self, reservation: Reservation<E>, to: Offset) -> Result<Ticket, ChangeError> {
        let _cutting = Cutting(&self.log);
        self.prepare_and_submit(reservation, to).await
    }

    async fn prepare_and_submit(&self, reservation: Reservation<E>, to: Offset) -> Result<Ticket, ChangeError> {
        loop {
            self.settle(to).await?;
            let (base, log_start, seen_end) = {
                let state = self.state();
                if to >= state.log_end {
                    self.store.env.probe().sometimes("truncate.nothing");
                    return Ok(state.last_ticket);
                }
                (Arc::clone(&state.base), state.log_start, state.log_end)
            };
            let now = self.store.env.clock().wall();
            let plan = if to < base.end {
                self.store.env.probe().sometimes("truncate.segments");
                let cut =
                    cut_state(&self.store, self.log.partition, &base, to, now).await.map_err(ChangeError::Read)?;
                let (boundary, producers) = (cut.end, cut.producers.clone());
                Plan { to: boundary.max(log_start), boundary, producers, base: Some(Arc::new(cut)) }
            } else {
                self.store.env.probe().sometimes("truncate.tail");
                let state = self.state();
                let boundary = state.tail_boundary(to);
                let producers = state.producers_at(boundary, now);
                Plan { to: boundary.max(log_start), boundary, producers, base: None }
            };
            let mut state = self.state();
            check_changeable(&state)?;
            // Somebody has appended or cut meanwhile: what was prepared does not fit any more.
            let is_same = state.log_end == seen_end && state.log_start == log_start;
            if is_same && state.cuts.is_empty() && Arc::ptr_eq(&state.base, &base) {
                return Ok(self.submit_cut(&mut state, reservation, plan));
            }
            self.store.env.probe().sometimes("truncate.prepared-again");
        }
    }

    /// Waits until every frame of the log is durable and no checkpoint is writing it, and keeps checkpoints off.
    async fn settle(&self, to: Offset) -> Result<(), ChangeError> {
        let mut rounds = self.store.rounds.subscribe();
        let mut durable = self.store.wal().durable();
        loop {
            rounds.borrow_and_update();
            let (ticket, flushing, cuts) = {
                let mut state = self.state();
                check_changeable(&state)?;
                if to < state.log_start {
                    self.store.env.probe().sometimes("truncate.out-of-range");
                    let (log_start, log_end) = (state.log_start, state.log_end);
                    return Err(ChangeError::OutOfRange { log_start, log_end });
                }
                state.cutting = !state.flushing;
                (state.last_ticket, state.flushing, !state.cuts.is_empty())
            };
            let is_durable = *durable.borrow_and_update() >= ticket;
            if !flushing && !cuts && is_durable {
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

    fn submit_cut(&self, state: &mut LogState, reservation: Reservation<E>, plan: Plan) -> Ticket {
        state.log_end = plan.to;
        state.epochs.truncate(plan.boundary);
        state.producers = plan.producers;
        state.cuts.push_back(Cut { to: plan.to, base: plan.base });
        self.submit(state, reservation, FrameKind::Truncate, plan.to, bytes::Bytes::new())
    }
}

/// The partition without the batches that reach `to`, which lies below `state.end`. It ends where the first of them began.
pub(crate) async fn cut_state<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    state: &PartitionState,
    to: Offset,
    now: Timestamp,
) -> Result<PartitionState, ReadError> {
    let mut cut = state.clone();
    cut.generation += 1;
    cut.segments.retain(|segment| segment.id.base < to);
    cut.end = to;
    if let Some(last) = cut.segments.last_mut()
        && last.end > to
    {
        store.segments.forget(partition, last.id);
        let kept = cut_segment(store, partition, last, to).await?;
        cut.end = kept.end;
        if kept.flushes.is_empty() {
            store.env.probe().sometimes("truncate.segment-dropped");
            cut.segments.pop();
        } else {
            store.env.probe().sometimes("truncate.segment-cut");
            *last = kept;
        }
    }
    if let Some(last) = cut.segments.last_mut() {
        last.sealed = true;
    }
    cut.epochs.truncate(cut.end);
    cut.producers = producers_at(store, partition, state, cut.end, now).await?;
    if cut.segments.is_empty() {
        cut.base_producers = cut.producers.clone();
    }
    Ok(cut)
}

/// The segment without the batches that reach `to`; without any flush if none is left.
async fn cut_segment<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    meta: &SegmentMeta,
    to: Offset,
) -> Result<SegmentMeta, ReadError> {
    let segment = store.segments.get(partition, meta.id).await?;
    let mut kept =
        SegmentMeta { flushes: Vec::new(), footer_bytes: 0, sealed: true, end: meta.id.base, ..meta.clone() };
    let mut flush = Flush { end_position: 0, batches: 0, headers_crc: 0 };
    let (mut all, mut all_count) = (Crc32c::new(), 0);
    let mut is_cut = false;
    kept.max_timestamp = Timestamp::NONE;
    let mut scan = segment.scan(0..meta.data_bytes());
    while let Some(batch) = segment.next(&mut scan).await? {
        all.update(&batch.bytes);
        all_count += 1;
        if is_cut || batch.header.last_offset() >= to {
            if !is_cut {
                kept.end = batch.header.base_offset.min(to);
            }
            is_cut = true;
            continue;
        }
        kept.end = batch.header.next_offset();
        kept.max_timestamp = kept.max_timestamp.max(batch.header.max_timestamp);
        flush.batches += 1;
        flush.end_position = batch.position + u32::try_from(batch.header.total_bytes()).expect("scanned: it fits");
        flush.headers_crc = all.finish();
    }
    if (all_count, all.finish()) != meta.headers() {
        store.env.probe().sometimes("truncate.segment-damaged");
        return Err(segment.damage(0, "the checksum over all its batch headers is wrong"));
    }
    if flush.batches > 0 {
        kept.flushes.push(flush);
    }
    Ok(kept)
}

/// The producers exactly at `target`, by replay from the newest state at or below it: the footer of a segment that ends there, or
/// what the manifest keeps for the first segment.
pub(crate) async fn producers_at<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    state: &PartitionState,
    target: Offset,
    now: Timestamp,
) -> Result<Producers, ReadError> {
    if target >= state.end {
        return Ok(state.producers.clone());
    }
    let needed = state.segments.partition_point(|segment| segment.id.base < target);
    let mut first = needed;
    let mut producers = state.base_producers.clone();
    while let Some(before) = first.checked_sub(1) {
        let meta = &state.segments[before];
        if meta.end <= target
            && let Some(footer) = store.segments.get(partition, meta.id).await?.read_footer(meta).await?
        {
            producers = footer.producers;
            break;
        }
        first = before;
    }
    for meta in &state.segments[first..needed] {
        let segment = store.segments.get(partition, meta.id).await?;
        let mut scan = segment.scan(0..meta.data_bytes());
        while let Some(batch) = segment.next(&mut scan).await? {
            if batch.header.last_offset() >= target {
                return Ok(producers);
            }
            producers.record(&batch.header, now);
        }
    }
    Ok(producers)
}

/// Lets checkpoints take the log again.
struct Cutting<'a>(&'a LogShared);

impl Drop for Cutting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).cutting = false;
    }
}
