//! One pass over one log.
//!
//! Invariants
//! - While a pass runs over a log no other does, and no start's search for left files looks at it.
//! - A new segment is synced, and its name, before the checkpoint hears of it.
//! - Segments go from the oldest to the newest: a tombstone gets its horizon when all older records of its key have gone.
//!
//! Not here: what is left of a batch (`filter`); the edit that makes it count (`checkpoint`).

use core::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, Timestamp};
use quipu_env::{Disk, Env, Probe};
use quipu_records::{
    BatchHeader,
    compact::{GAP_OFFSETS_MAX, gap},
};
use rand::RngExt;

use super::{
    CleanError, Cleaned, Swap, Throttle, Work,
    filter::{Filter, Left, Planted, add_keys},
    keys::Keys,
};
use crate::{
    Log, lock,
    log::{LogShared, SegmentWriter},
    partition::{PartitionState, SegmentId, SegmentMeta},
    segment::{FileOf, OpenSegment, partition_dir},
    store::{Shared, catalog::Catalog},
};

/// Time to look through a mebibyte of records, for the simulator.
const FILTER_COST: core::time::Duration = core::time::Duration::from_millis(2);
/// Offsets in one segment, as in Kafka.
const SEGMENT_OFFSETS_MAX: u64 = i32::MAX as u64;

/// Makes a pass.
pub(super) async fn run<E: Env>(
    store: &Arc<Shared<E>>,
    work: Work,
    memory_bytes: usize,
    throttle: Throttle<'_, E>,
    now: Timestamp,
) -> Result<Cleaned, CleanError> {
    store.env.probe().sometimes("compact.pass");
    let Some(_cleaning) = Cleaning::begin(&work) else { return Err(CleanError::Overtaken) };
    let Work { log, base, compaction, dirty, .. } = work;
    let mut pass = Pass { store, log: Log { log, store: Arc::clone(store) }, throttle };
    let secret = store.env.rng("storage.compaction").random();
    let keys = Keys::new(memory_bytes, dirty.end.records_since(dirty.start), secret);
    let (keys, end) = pass.read_keys(&base, keys, &dirty).await?;
    let mut producers: Vec<Offset> =
        base.producers.states().filter_map(|state| Some(state.batches.last()?.last_offset)).collect();
    producers.sort_unstable();
    let probe = store.env.probe();
    let filter = Filter {
        keys: Arc::new(keys),
        end,
        producers: Arc::new(producers),
        now,
        horizon: Timestamp(now.0.saturating_add(compaction.tombstone_retention_ms)),
        border: Offset::ZERO,
        planted: Planted {
            tombstone_dropped_early: probe.planted("compact.tombstone-dropped-early"),
            value_lost_at_border: probe.planted("compact.value-lost-at-segment-border"),
        },
    };
    let mut cleaned = Cleaned { partition: pass.log.partition(), end, bytes_before: 0, bytes_after: 0 };
    let segment_bytes = pass.log.options().segment_bytes;
    let mut groups = groups(&base.segments, end, segment_bytes).peekable();
    while let Some(group) = groups.next() {
        let id = SegmentId::cleaned(group[0].id.base, pass.next_number(&base));
        let new = match pass.rewrite(group, &filter, id).await {
            Err(error) => {
                pass.remove(id).await;
                return Err(error);
            }
            new => new?,
        };
        let bytes = |meta: &SegmentMeta| u64::from(meta.data_bytes());
        cleaned.bytes_before += group.iter().map(bytes).sum::<u64>();
        cleaned.bytes_after += bytes(&new);
        let is_last = groups.peek().is_none();
        pass.swap(Swap { old: group.to_vec(), new, cleaned: is_last.then_some(end) }).await?;
    }
    tracing::debug!(
        partition = %cleaned.partition, %end, before = cleaned.bytes_before, after = cleaned.bytes_after, "compacted"
    );
    Ok(cleaned)
}

/// The segments that begin below `end`, put together as long as one segment can hold them.
fn groups(segments: &[SegmentMeta], end: Offset, segment_bytes: u32) -> impl Iterator<Item = &[SegmentMeta]> {
    let count = segments.partition_point(|segment| segment.id.base < end);
    let mut rest = &segments[..count];
    core::iter::from_fn(move || {
        let first = rest.first()?;
        let mut bytes = 0_u64;
        let fits = |segment: &&SegmentMeta| {
            bytes += u64::from(segment.data_bytes());
            bytes <= u64::from(segment_bytes) && segment.end.records_since(first.id.base) <= SEGMENT_OFFSETS_MAX
        };
        let (group, behind) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = behind;
        Some(group)
    })
}

/// Keeps others off a log, until it is dropped.
struct Cleaning(Arc<LogShared>);

impl Cleaning {
    fn begin(work: &Work) -> Option<Self> {
        let mut state = lock(&work.log.state);
        // A flush, or a search for left files, is about to change or to look at its directory.
        if state.cleaning || state.flushing || state.cutting || !Arc::ptr_eq(&state.base, &work.base) {
            return None;
        }
        state.cleaning = true;
        Some(Self(Arc::clone(&work.log)))
    }
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        lock(&self.0.state).cleaning = false;
    }
}

struct Pass<'a, E: Env> {
    store: &'a Arc<Shared<E>>,
    log: Log<E>,
    throttle: Throttle<'a, E>,
}

impl<E: Env> Pass<'_, E> {
    /// The newest offset of each key of what is dirty, and up to where that is known.
    async fn read_keys(
        &mut self,
        base: &Arc<PartitionState>,
        mut keys: Keys,
        dirty: &Range<Offset>,
    ) -> Result<(Keys, Offset), CleanError> {
        for meta in base.segments.iter().filter(|meta| meta.end > dirty.start && meta.id.base < dirty.end) {
            let segment = self.open(meta).await?;
            let mut at = 0;
            while let Some(bytes) = self.next_run(base, meta, &segment, &mut at).await? {
                let dirty = dirty.clone();
                let (back, full_at) = self
                    .store
                    .env
                    .offload(FILTER_COST, move || {
                        let full_at = add_keys(&mut keys, bytes, &dirty);
                        (keys, full_at)
                    })
                    .await;
                keys = back;
                if let Some(full_at) = full_at.map_err(|why| segment.damage(at, &why))? {
                    self.store.env.probe().sometimes("compact.keys-full");
                    return Ok((keys, full_at));
                }
            }
        }
        Ok((keys, dirty.end))
    }

    async fn open(&self, meta: &SegmentMeta) -> Result<Arc<OpenSegment<FileOf<E>>>, CleanError> {
        Ok(self.store.segments.get(self.log.partition(), meta.id).await?)
    }

    /// The next batches of a segment, checked; none at its end. Damage is noted as if a reader had met it.
    async fn next_run(
        &mut self,
        base: &Arc<PartitionState>,
        meta: &SegmentMeta,
        segment: &OpenSegment<FileOf<E>>,
        at: &mut u32,
    ) -> Result<Option<Bytes>, CleanError> {
        if *at >= meta.data_bytes() {
            return Ok(None);
        }
        let run = segment.next_run(&self.store.env, meta, *at, self.store.options.index_interval_bytes).await?;
        let Some(run) = run.filter(|run| run.end - u32::try_from(run.bytes.len()).unwrap_or(u32::MAX) == *at) else {
            let error = segment.damage(*at, "compaction can't read it");
            self.log.note_damage(base, meta, &error);
            return Err(CleanError::Read(error));
        };
        *at = run.end;
        self.throttle.take(run.bytes.len() as u64).await;
        Ok(Some(run.bytes))
    }

    /// The number of the next segment that compaction makes.
    fn next_number(&self, base: &PartitionState) -> u32 {
        let mut state = lock(&self.log.log.state);
        let known = base.segments.iter().filter_map(|segment| segment.id.cleaned_number()).max().unwrap_or(0);
        state.cleaned_names = state.cleaned_names.max(known) + 1;
        state.cleaned_names
    }

    /// Writes what is left of `group` to a new segment. Its file and its name are durable when this returns.
    async fn rewrite(
        &mut self,
        group: &[SegmentMeta],
        filter: &Filter,
        id: SegmentId,
    ) -> Result<SegmentMeta, CleanError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { unreachable!("a group is not empty") };
        let (store, partition) = (self.store, self.log.partition());
        {
            let state = lock(&self.log.log.state);
            if state.deleted || state.gone {
                return Err(CleanError::Overtaken);
            }
        }
        let base = Arc::clone(&lock(&self.log.log.state).base);
        let writer = SegmentWriter::create(store, partition, id).await?;
        let mut output = Output { writer, gap: None, next: first.id.base };
        for meta in group {
            let filter = Filter { border: meta.end, ..filter.clone() };
            let segment = self.open(meta).await?;
            let mut at = 0;
            while let Some(bytes) = self.next_run(&base, meta, &segment, &mut at).await? {
                let filter = filter.clone();
                let left = store.env.offload(FILTER_COST, move || filter.left_of(bytes)).await;
                let before = output.writer.bytes();
                for left in left.map_err(|why| segment.damage(at, &why))? {
                    output.add(left).await?;
                }
                self.throttle.take(output.writer.bytes() - before).await;
            }
            if output.next != meta.end {
                // Something is missing in it of which nobody knows.
                return Err(CleanError::Read(segment.damage(at, "it does not end where it should")));
            }
        }
        output.close_gap().await?;
        let footer = self.open(last).await?.read_footer(last).await?;
        let kept = footer.map(|footer| (footer.epochs, footer.producers));
        store.env.probe().crash_point("compact.filtered");
        let mut meta = output.writer.seal(kept).await?;
        meta.first_timestamp = first.first_timestamp;
        store.env.probe().crash_point("compact.written");
        store
            .env
            .disk()
            .sync_dir(&partition_dir(&store.options.directory, partition))
            .await
            .map_err(|error| CleanError::Write(error.to_string()))?;
        store.env.probe().crash_point("compact.named");
        Ok(meta)
    }

    /// Removes a segment that is part of no log. What can't be removed the next start finds.
    async fn remove(&self, id: SegmentId) {
        let partition = self.log.partition();
        self.store.segments.forget(partition, id);
        drop(self.store.env.disk().remove(&self.store.segments.path(partition, id)).await);
    }

    /// Has the next checkpoint put a segment in the place of others, and waits for it.
    async fn swap(&self, swap: Swap) -> Result<(), CleanError> {
        let log = &self.log.log;
        let (id, swap) = (swap.new.id, Arc::new(swap));
        {
            let mut state = lock(&log.state);
            if state.deleted || state.gone {
                return Err(CleanError::Overtaken);
            }
            state.swap = Some(swap);
        }
        loop {
            Catalog::mark_dirty(&mut lock(&self.store.catalog.apply), log);
            // It stays to be done by the next checkpoint that succeeds.
            self.store.requests.checkpoint().await.map_err(CleanError::Write)?;
            let (is_pending, is_in_place) = {
                let state = lock(&log.state);
                let is_in_place = state.committed.segments.iter().any(|segment| segment.id == id);
                (state.swap.is_some() && !state.gone, is_in_place)
            };
            if is_in_place && !is_pending {
                return Ok(());
            }
            if !is_pending {
                self.store.env.probe().sometimes("compact.overtaken");
                // No manifest has it: one that may have had it has been replaced since.
                self.remove(id).await;
                return Err(CleanError::Overtaken);
            }
        }
    }
}

/// A new segment, with the gap that is about to be written.
struct Output<'a, E: Env> {
    writer: SegmentWriter<'a, E>,
    gap: Option<(Range<Offset>, LeaderEpoch)>,
    /// Where the next batch has to begin.
    next: Offset,
}

impl<E: Env> Output<'_, E> {
    async fn add(&mut self, left: Left) -> Result<(), CleanError> {
        let offsets = match &left {
            Left::Batch(header, _) => header.base_offset..header.next_offset(),
            Left::Gap(offsets, _) => offsets.clone(),
        };
        if offsets.start != self.next || offsets.end <= offsets.start {
            let why = format!("a batch begins at offset {} instead of {}", offsets.start, self.next);
            return Err(CleanError::Write(why));
        }
        self.next = offsets.end;
        match left {
            Left::Batch(header, bytes) => {
                self.close_gap().await?;
                self.write(&header, bytes).await
            }
            Left::Gap(offsets, epoch) => {
                match &mut self.gap {
                    Some((known, of)) if *of == epoch && offsets.end.records_since(known.start) <= GAP_OFFSETS_MAX => {
                        known.end = offsets.end;
                    }
                    _ => {
                        self.close_gap().await?;
                        self.gap = Some((offsets, epoch));
                    }
                }
                Ok(())
            }
        }
    }

    async fn close_gap(&mut self) -> Result<(), CleanError> {
        let Some((offsets, epoch)) = self.gap.take() else { return Ok(()) };
        let batch = gap(&offsets, epoch);
        let header = *batch.header();
        self.write(&header, batch.into_bytes()).await
    }

    async fn write(&mut self, header: &BatchHeader, bytes: Bytes) -> Result<(), CleanError> {
        Ok(self.writer.add(header, bytes).await?)
    }
}
