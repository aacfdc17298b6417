//! Doing repairs again that the manifest does not have yet.
//!
//! Invariant: after the same frames a log is what it was when they became durable, its producers included.
//!
//! Not here: how a repair is made (`log::repair`).

use std::sync::Arc;

use quipu_env::{Clock, Env, Probe};

use super::{
    Shared,
    recovery::{FramePlace, add_fault},
};
use crate::{
    damage::OPEN_END,
    error::CheckpointError,
    lock,
    log::{
        LogShared, Placed, Repair, RepairedSegments, headers_in_tail, producers_after, repair_state,
        repairs_of_segments,
    },
    partition::PartitionState,
    producers::Producers,
    tail::TailPermit,
};

/// Does a repair again.
pub(super) async fn repair<E: Env>(
    store: &Shared<E>,
    log: &LogShared,
    payload: bytes::Bytes,
    place: &FramePlace<'_>,
    buffer: &Arc<TailPermit>,
) {
    let (base, log_end, is_faulty) = {
        let state = lock(&log.state);
        (Arc::clone(&state.base), state.log_end, state.fault.is_some())
    };
    let Some(batch) = Placed::parse(payload.clone()).filter(|batch| batch.range().end <= log_end) else {
        store.env.probe().sometimes("recovery.repair-misplaced");
        let mut state = lock(&log.state);
        let fault = place.fault(log_end, payload.len(), "a repair of what the log does not have".to_owned());
        return add_fault(&mut state, log.partition, fault, log_end..OPEN_END);
    };
    store.env.probe().sometimes("recovery.repair");
    let (range, epoch) = (batch.range(), batch.header.leader_epoch);
    match again(store, log, &base, batch, is_faulty).await {
        Ok(Again { segments, producers }) => {
            let mut state = lock(&log.state);
            state.epochs.insert(epoch, range.start);
            if let Some(producers) = producers {
                state.producers = producers;
            }
            let repair = Repair { range, to_tail: segments.repaired.is_empty(), segments: Some(segments) };
            drop(state.repair_durable(repair, payload, buffer));
        }
        Err(error) => {
            store.env.probe().sometimes("recovery.repair-failed");
            let why = format!("a repair at offset {} cannot be repeated: {error}", range.start);
            let fault = place.fault(range.start, payload.len(), why);
            add_fault(&mut lock(&log.state), log.partition, fault, range);
        }
    }
}

/// What a repair comes to.
struct Again {
    segments: RepairedSegments,
    /// Of the whole log, if nothing is missing any more.
    producers: Option<Producers>,
}

async fn again<E: Env>(
    store: &Shared<E>,
    log: &LogShared,
    base: &Arc<PartitionState>,
    batch: Placed,
    is_faulty: bool,
) -> Result<Again, CheckpointError> {
    let range = batch.range();
    let batches = [batch];
    let mut segments =
        RepairedSegments { base: Arc::clone(base), repaired: range.start..range.start, lost: Vec::new() };
    if repairs_of_segments(base, &batches) > 0 {
        let made = repair_state(store, log.partition, base, &batches, 0, is_faulty).await?;
        segments = RepairedSegments { base: Arc::new(made.state), repaired: range.clone(), lost: made.lost };
    }
    let in_tail = if segments.repaired.is_empty() { &batches[..] } else { &[] };
    let (mut damaged, log_end, headers) = {
        let state = lock(&log.state);
        (state.damaged.clone(), state.log_end, headers_in_tail(&state, in_tail, state.log_end))
    };
    for lost in &segments.lost {
        damaged.add(lost.clone());
    }
    damaged.remove(&range);
    let mut producers = None;
    if is_faulty && !damaged.is_below(log_end) {
        let now = store.env.clock().wall();
        let (of_segments, all) = producers_after(store, log.partition, &segments.base, &headers, now).await?;
        segments.base = Arc::new(PartitionState { producers: of_segments, ..(*segments.base).clone() });
        producers = Some(all);
    }
    Ok(Again { segments, producers })
}
