//! What repairs make of segments: batches from a peer in the place of damaged ones, at the same offsets.
//!
//! ```text
//! before   | segment A: good, bad, good |  hole  | segment B |
//! repair            [ batches .............. ]
//! after    | A, cut | new file with them | new file with what A or B had behind them |
//! ```
//!
//! Invariants
//! - No byte that the manifest counts is written over: batches go to new files, and a segment that is cut keeps its file.
//! - New files are synced, with their names, before the repair is submitted.
//! - Whatever was sound and is in no segment afterwards is told as lost.
//!
//! Not here: where the batches come from (`quipu-replication`); those that go to the tail (`change`).

use core::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{Offset, Timestamp, TopicIdPartition, checksum::Crc32c, limits::MIB};
use quipu_env::{Disk, Env, File, Probe};
use quipu_records::{BatchHeader, BatchSlices};

use super::{
    read::is_gone,
    step::Placed,
    truncate::{Damage, replay, sound_prefix},
};
use crate::{
    ReadError,
    epochs::EpochTable,
    error::CheckpointError,
    footer::Footer,
    index::{COVERED_HEADER_BYTES, SparseIndex},
    partition::{Flush, PartitionState, SegmentId, SegmentMeta},
    producers::Producers,
    segment::{FileOf, OpenSegment, partition_dir},
    store::Shared,
};

/// Batches collected for one write.
const WRITE_BYTES: usize = 4 * MIB;

/// What a repair makes of a partition's segments.
pub(crate) struct Repaired {
    pub(crate) state: PartitionState,
    /// Offsets that were in the segments concerned and are in none any more.
    pub(crate) lost: Vec<Range<Offset>>,
}

/// The partition with `batches`, which are adjacent and lie below `state.end`, in the place of what its segments have there. All
/// files that it needs are durable when this returns. `abandoned`: so many names of the next ones have been tried in vain.
/// `is_incomplete`: batches were missing when those behind them were taken in, so that footers behind them know too little of the
/// producers.
pub(crate) async fn repair_state<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    state: &PartitionState,
    batches: &[Placed],
    abandoned: u32,
    is_incomplete: bool,
) -> Result<Repaired, CheckpointError> {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        unreachable!("there is something to repair")
    };
    let range = first.header.base_offset..last.header.next_offset();
    store.env.probe().sometimes("repair.segments");
    let mut next = PartitionState { generation: state.generation + 1 + abandoned, ..state.clone() };
    // A peer may have compacted less of it.
    next.cleaned = next.cleaned.min(range.start);
    next.segments = Vec::with_capacity(state.segments.len() + 2);
    let mut touched = range.clone();
    let mut behind = Vec::new();
    for meta in &state.segments {
        if meta.end <= range.start || meta.id.base >= range.end {
            next.segments.push(meta.clone());
            continue;
        }
        touched = touched.start.min(meta.id.base)..touched.end.max(meta.end);
        if meta.id.base < range.start {
            let kept = sound_prefix(store, partition, meta, range.start).await?;
            next.segments.extend((!kept.flushes.is_empty()).then_some(kept));
            store.segments.forget(partition, meta.id);
        }
        if meta.end > range.end {
            behind = copy_from(store, partition, meta, range.end, next.generation).await?;
        }
    }
    let mut writer = SegmentWriter::create(
        store,
        partition,
        SegmentId { base: first.header.base_offset, generation: next.generation },
    )
    .await?;
    for Placed { header, bytes } in batches {
        writer.add(header, bytes.clone()).await?;
        next.epochs.insert(header.leader_epoch, header.base_offset);
    }
    next.segments.push(writer.finish().await?);
    next.segments.extend(behind);
    next.segments.sort_by_key(|meta| meta.id);
    if !store.env.probe().planted("repair.name-unsynced") {
        let dir = partition_dir(&store.options.directory, partition);
        store.env.disk().sync_dir(&dir).await?;
    }
    store.env.probe().crash_point("repair.written");
    if is_incomplete {
        for meta in next.segments.iter_mut().filter(|meta| meta.end > range.start) {
            meta.footer_bytes = 0;
        }
    }
    let lost = gaps(&next.segments, &touched);
    Ok(Repaired { state: next, lost })
}

/// What of `range` no segment holds.
fn gaps(segments: &[SegmentMeta], range: &Range<Offset>) -> Vec<Range<Offset>> {
    let mut gaps = Vec::new();
    let mut at = range.start;
    for meta in segments.iter().filter(|meta| meta.end > range.start && meta.id.base < range.end) {
        gaps.push(at..meta.id.base.max(at));
        at = at.max(meta.end);
    }
    gaps.push(at..range.end.max(at));
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

/// New segments with what `meta` has at and behind `from`, as far as it is sound: one, or several with gaps between them.
async fn copy_from<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    meta: &SegmentMeta,
    from: Offset,
    generation: u32,
) -> Result<Vec<SegmentMeta>, CheckpointError> {
    let mut made = Vec::new();
    let segment = match store.segments.get(partition, meta.id).await {
        Err(error) if is_gone(&error) => return Ok(made),
        segment => segment?,
    };
    store.env.probe().sometimes("repair.segment-split");
    let interval = store.options.index_interval_bytes;
    let mut at = 0;
    let mut writer: Option<SegmentWriter<'_, E>> = None;
    while let Some(run) = segment.next_run(&store.env, meta, at, interval).await? {
        at = run.end;
        let batches = BatchSlices::new(&run.bytes).filter_map(Result::ok);
        for (header, slice) in batches.filter(|(header, _)| header.base_offset >= from) {
            let follows = writer.as_ref().is_some_and(|writer| writer.meta.end == header.base_offset);
            if !follows {
                if let Some(done) = writer.take() {
                    made.push(done.finish().await?);
                }
                writer = Some(
                    SegmentWriter::create(store, partition, SegmentId { base: header.base_offset, generation }).await?,
                );
            }
            let writer = writer.as_mut().expect("made above");
            writer.add(&header, run.bytes.slice_ref(slice)).await?;
        }
    }
    if let Some(done) = writer {
        made.push(done.finish().await?);
    }
    Ok(made)
}

/// A segment being written that is never added to later.
pub(crate) struct SegmentWriter<'a, E: Env> {
    store: &'a Shared<E>,
    segment: Arc<OpenSegment<FileOf<E>>>,
    meta: SegmentMeta,
    position: u32,
    chunks: Vec<Bytes>,
    chunk_bytes: usize,
    batches: u32,
    headers: Crc32c,
    index: SparseIndex,
}

impl<'a, E: Env> SegmentWriter<'a, E> {
    pub(crate) async fn create(
        store: &'a Shared<E>,
        partition: TopicIdPartition,
        id: SegmentId,
    ) -> Result<Self, CheckpointError> {
        let path = store.segments.path(partition, id);
        let segment = store.segments.create(partition, id).await.map_err(CheckpointError::io(&path))?;
        let meta = SegmentMeta {
            id,
            end: id.base,
            flushes: Vec::new(),
            first_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            sealed: true,
            footer_bytes: 0,
        };
        let headers = Crc32c::new();
        let index = SparseIndex::new(id.base);
        Ok(Self { store, segment, meta, position: 0, chunks: Vec::new(), chunk_bytes: 0, batches: 0, headers, index })
    }

    /// Bytes of the batches so far.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.position) + self.chunk_bytes as u64
    }

    /// Adds the next batch.
    pub(crate) async fn add(&mut self, header: &BatchHeader, bytes: Bytes) -> Result<(), CheckpointError> {
        if self.batches == 0 {
            self.meta.first_timestamp = header.max_timestamp;
        }
        self.headers.update(&bytes[..COVERED_HEADER_BYTES]);
        self.index.push(header, &bytes, self.store.options.index_interval_bytes);
        self.batches += 1;
        self.meta.end = header.next_offset();
        self.meta.max_timestamp = self.meta.max_timestamp.max(header.max_timestamp);
        self.chunk_bytes += bytes.len();
        self.chunks.push(bytes);
        if self.chunk_bytes >= WRITE_BYTES { self.write_out().await } else { Ok(()) }
    }

    async fn write_out(&mut self) -> Result<(), CheckpointError> {
        let length =
            u32::try_from(self.chunk_bytes).expect("a step's batches, or those of one segment, are below 4 GiB");
        let chunks = std::mem::take(&mut self.chunks);
        let file = &self.segment.file;
        file.write_at(self.position.into(), chunks).await.map_err(CheckpointError::io(file.path()))?;
        self.position += length;
        self.chunk_bytes = 0;
        Ok(())
    }

    /// The same as [`Self::finish`], with a footer if epochs and producers are known.
    pub(crate) async fn seal(mut self, known: Option<(EpochTable, Producers)>) -> Result<SegmentMeta, CheckpointError> {
        let footer = known.map(|(epochs, producers)| {
            let footer = Footer { end: self.meta.end, index: self.index.clone(), epochs, producers };
            footer.encode(self.meta.id.base)
        });
        if let Some(footer) = footer {
            self.write_chunks().await?;
            self.meta.footer_bytes = u32::try_from(footer.len()).expect("an index is far smaller than its segment");
            let file = &self.segment.file;
            let written = file.write_at(self.position.into(), vec![footer]).await;
            written.map_err(CheckpointError::io(file.path()))?;
        }
        self.finish().await
    }

    async fn write_chunks(&mut self) -> Result<(), CheckpointError> {
        if self.chunks.is_empty() { Ok(()) } else { self.write_out().await }
    }

    async fn finish(mut self) -> Result<SegmentMeta, CheckpointError> {
        self.write_chunks().await?;
        if !self.store.env.probe().planted("repair.believed-unsynced") {
            self.segment.file.sync_data().await?;
        }
        let headers_crc = self.headers.finish();
        self.meta.flushes.push(Flush { end_position: self.position, batches: self.batches, headers_crc });
        Ok(self.meta)
    }
}

/// The producers of the segments and of the whole log, once nothing below its end is missing any more. `headers`: of the batches that
/// are in the tail then.
pub(crate) async fn producers_after<E: Env>(
    store: &Shared<E>,
    partition: TopicIdPartition,
    state: &PartitionState,
    headers: &[BatchHeader],
    now: Timestamp,
) -> Result<(Producers, Producers), ReadError> {
    store.env.probe().sometimes("repair.producers-replayed");
    let of_segments = replay(store, partition, state, state.end, Damage::PassedOver, now).await?;
    let mut all = of_segments.clone();
    for header in headers {
        all.record(header, now);
    }
    Ok((of_segments, all))
}
