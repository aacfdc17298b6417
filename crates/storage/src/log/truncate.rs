//! What a truncation makes of segments, with everything that depends on it.
//!
//! Only whole batches go: those that reach the target. Producer state and epochs are then those of the batches that are left,
//! by replay from the newest state that is exact at or below the target. What is damaged just below the target goes, too, and is
//! told as lost: a log must be cut wherever its owner wants.
//!
//! Not here: when segments may be cut (`change`).

use core::ops::Range;

use quipu_base::{Offset, Timestamp, TopicIdPartition, checksum::Crc32c};
use quipu_env::{Env, Probe};

use super::read::is_gone;
use crate::{
    Fault, ReadError,
    partition::{Flush, PartitionState, SegmentMeta},
    producers::Producers,
    segment::Scanned,
    store::Shared,
};

/// A partition that was cut.
pub(crate) struct CutState {
    pub(crate) state: PartitionState,
    /// Where the first batch begins that goes.
    pub(crate) boundary: Offset,
    /// What can't be read any more of what was to be kept, and why.
    pub(crate) lost: Option<(Range<Offset>, Fault)>,
}

/// The partition without the batches that reach `to`, which lies below `state.end`. It ends where the first of them began.
pub(crate) async fn cut_state<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    state: &PartitionState,
    to: Offset,
    now: Timestamp,
) -> Result<CutState, ReadError> {
    let mut cut = state.clone();
    let mut lost = None;
    cut.generation += 1;
    cut.segments.retain(|segment| segment.id.base < to);
    cut.end = to;
    if let Some(last) = cut.segments.last_mut()
        && last.end > to
    {
        store.segments.forget(partition, last.id);
        let kept = match cut_segment(store, partition, last, to).await {
            Err(error) if is_damage(&error) || is_gone(&error) => {
                store.env.probe().sometimes("truncate.segment-damaged");
                let kept = sound_prefix(store, partition, last, to).await?;
                lost = Some((kept.end..to, fault_of(kept.end, error)));
                kept
            }
            kept => {
                let kept = kept?;
                cut.end = kept.end;
                kept
            }
        };
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
    cut.cleaned = cut.cleaned.min(cut.end);
    // Batches that are lost may have begun epochs that are known from elsewhere: the epochs of what is to be kept stay.
    let boundary = cut.end;
    cut.epochs.truncate(boundary);
    cut.producers = match lost {
        None => producers_at(store, partition, state, cut.end, now).await?,
        Some(_) => replay(store, partition, &cut, cut.end, Damage::PassedOver, now).await?,
    };
    if cut.segments.is_empty() {
        cut.base_producers = cut.producers.clone();
    }
    Ok(CutState { state: cut, boundary, lost })
}

/// The segment up to `to`, or up to where it can't be read; without any flush if nothing is left.
pub(crate) async fn sound_prefix<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    meta: &SegmentMeta,
    to: Offset,
) -> Result<SegmentMeta, ReadError> {
    let mut kept = without_batches(meta);
    let segment = match store.segments.get(partition, meta.id).await {
        Err(error) if is_gone(&error) => return Ok(kept),
        segment => segment?,
    };
    let good = segment.good_bytes(&store.env, meta, store.options.index_interval_bytes).await?;
    let mut flush = Flush { end_position: 0, batches: 0, headers_crc: 0 };
    let mut headers = Crc32c::new();
    let mut scan = segment.scan(0..good);
    while let Some(batch) = segment.next(&mut scan).await? {
        if batch.header.last_offset() >= to {
            break;
        }
        headers.update(&batch.bytes);
        keep(&mut kept, &mut flush, &batch);
    }
    flush.headers_crc = headers.finish();
    if flush.batches > 0 {
        kept.flushes.push(flush);
    }
    Ok(kept)
}

/// The segment with nothing in it yet, and nothing to be added by appends.
fn without_batches(meta: &SegmentMeta) -> SegmentMeta {
    SegmentMeta {
        flushes: Vec::new(),
        footer_bytes: 0,
        sealed: true,
        end: meta.id.base,
        max_timestamp: Timestamp::NONE,
        ..meta.clone()
    }
}

fn keep(kept: &mut SegmentMeta, flush: &mut Flush, batch: &Scanned) {
    kept.end = batch.header.next_offset();
    kept.max_timestamp = kept.max_timestamp.max(batch.header.max_timestamp);
    flush.batches += 1;
    flush.end_position = batch.position + u32::try_from(batch.header.total_bytes()).expect("scanned: it fits");
}

/// The segment without the batches that reach `to`; without any flush if none is left.
async fn cut_segment<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    meta: &SegmentMeta,
    to: Offset,
) -> Result<SegmentMeta, ReadError> {
    let segment = store.segments.get(partition, meta.id).await?;
    let mut kept = without_batches(meta);
    let mut flush = Flush { end_position: 0, batches: 0, headers_crc: 0 };
    let (mut all, mut all_count) = (Crc32c::new(), 0);
    let mut is_cut = false;
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
        keep(&mut kept, &mut flush, &batch);
        flush.headers_crc = all.finish();
    }
    if (all_count, all.finish()) != meta.headers() {
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
    replay(store, partition, state, target, Damage::Refused, now).await
}

/// What a replay does with bytes that can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// It fails.
    Refused,
    /// It goes on with the next segment: the answer is good enough for a log that is not whole.
    PassedOver,
}

/// The same without regard to what is exact at the partition's end.
pub(crate) async fn replay<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    state: &PartitionState,
    target: Offset,
    damage: Damage,
    now: Timestamp,
) -> Result<Producers, ReadError> {
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
        match replay_segment(store, partition, meta, target, &mut producers, now).await {
            Err(error) if damage == Damage::PassedOver && (is_damage(&error) || is_gone(&error)) => {
                store.env.probe().sometimes("truncate.damage-passed-over");
            }
            replayed => replayed?,
        }
    }
    Ok(producers)
}

async fn replay_segment<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    meta: &SegmentMeta,
    target: Offset,
    producers: &mut Producers,
    now: Timestamp,
) -> Result<(), ReadError> {
    let segment = store.segments.get(partition, meta.id).await?;
    let mut scan = segment.scan(0..meta.data_bytes());
    while let Some(batch) = segment.next(&mut scan).await? {
        if batch.header.last_offset() >= target {
            break;
        }
        producers.record(&batch.header, now);
    }
    Ok(())
}

const fn is_damage(error: &ReadError) -> bool {
    matches!(error, ReadError::Damaged { .. })
}

/// Why the partition is not whole from `offset` on.
fn fault_of(offset: Offset, error: ReadError) -> Fault {
    match error {
        ReadError::Damaged { file, position, why, .. } => Fault { file, position, length: 0, offset, why },
        ReadError::Io { file, kind } => Fault { file, position: 0, length: 0, offset, why: kind.to_string() },
        error => Fault { file: Default::default(), position: 0, length: 0, offset, why: error.to_string() },
    }
}
