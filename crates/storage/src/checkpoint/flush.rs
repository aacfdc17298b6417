//! Writing one log's tail to its segments.
//!
//! ```text
//! swap in what compaction has made -> drop the segments below the log start -> append batches, rolling on the way -> write, footer if sealed -> sync files
//! ```
//!
//! Invariants
//! - The segments that the manifest counts are not changed but behind their committed length, and none of their files is removed
//!   here.
//! - The new state is exact at its end: producers and epochs are recorded batch by batch, written or not.
//! - Offsets have no gap inside a segment: behind what is missing a new one begins.
//!
//! Not here: the commit, directories above the partition's, and what a failure means for the others (`round`).

use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{Timestamp, checksum::Crc32c, limits::MIB};
use quipu_env::{Disk, Env, File, Probe, yield_now};
use quipu_records::BatchHeader;

use crate::{
    cleaner::Swapped,
    error::CheckpointError,
    footer::Footer,
    index::{COVERED_HEADER_BYTES, SparseIndex},
    lock,
    log::producers_at,
    partition::{Flush, PartitionState, SegmentId, SegmentMeta},
    segment::{FileOf, OpenSegment, partition_dir},
    store::Shared,
    tail::TailEntry,
};

use super::snapshot::Snapshot;

/// Batches collected for one write.
const WRITE_BYTES: usize = 4 * MIB;
/// Batches taken before the shard's other tasks get their turn: half a microsecond each.
const ENTRIES_AT_ONCE: usize = 64;
/// Segments of one log dropped at once: their files are removed at the end of the round, which others wait for.
const DROPPED_AT_ONCE: usize = 64;
/// Offsets in one segment, as in Kafka, whose indexes have 31 bits for them.
const SEGMENT_OFFSETS_MAX: u64 = i32::MAX as u64;

/// What a flush has made.
pub(super) struct Flushed {
    pub(super) state: PartitionState,
    pub(super) swapped: Option<Swapped>,
}

/// Writes what `snapshot` has. The new state counts once it is in the manifest. `made_dir` is set, also when this fails, if the
/// partition's directory was made: its name is not durable yet.
pub(super) async fn flush<E: Env>(
    store: &Shared<E>,
    snapshot: &Snapshot,
    now: Timestamp,
    made_dir: &mut bool,
) -> Result<Flushed, CheckpointError> {
    let mut state = (*snapshot.base).clone();
    if snapshot.abandoned > 0 {
        store.env.probe().sometimes("checkpoint.segment-abandoned");
        abandon_open_segment(&mut state, snapshot.abandoned);
    }
    let swapped = snapshot.swap.as_ref().map(|swap| swap.apply(&mut state, store.env.probe()));
    drop_below(store, snapshot, &mut state, now).await;
    let mut flusher = Flusher { store, snapshot, state, now, writing: None, touched: None, made_file: false, made_dir };
    for entries in snapshot.entries.chunks(ENTRIES_AT_ONCE) {
        for entry in entries {
            flusher.add(entry).await?;
        }
        yield_now().await;
    }
    flusher.close_writing().await?;
    if snapshot.seals && flusher.state.segments.last().is_some_and(|last| !last.sealed) {
        flusher.seal().await?;
    }
    store.env.probe().crash_point("checkpoint.segment.written");
    flusher.sync().await?;
    let Flusher { mut state, .. } = flusher;
    state.end = state.end.max(snapshot.target.end);
    state.log_start = snapshot.target.log_start;
    state.epochs.trim(state.log_start);
    state.applied = snapshot.target.applied;
    state.states.clone_from(&snapshot.target.states);
    state.fault.clone_from(&snapshot.target.fault);
    state.damaged.clone_from(&snapshot.target.damaged);
    state.high_watermark = snapshot.target.high_watermark;
    state.producers.expire(now, store.options.producer_expiration_ms);
    if store.env.probe().planted("checkpoint.producers-ahead") {
        state.producers.clone_from(&lock(&snapshot.log.state).producers);
    }
    if store.env.probe().planted("checkpoint.tail-dropped-early") {
        drop(lock(&snapshot.log.state).tail.drop_below(state.end));
    }
    Ok(Flushed { state, swapped })
}

/// What can be said about the log although its tail can't be written: its start, so that what lies below can be removed. None if
/// that is nothing new.
pub(super) async fn without_tail<E: Env>(
    store: &Shared<E>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Option<PartitionState> {
    let mut state = (*snapshot.committed).clone();
    state.log_start = snapshot.target.log_start;
    state.epochs.trim(state.log_start);
    drop_below(store, snapshot, &mut state, now).await;
    let is_new = state != *snapshot.committed;
    if is_new {
        store.env.probe().sometimes("checkpoint.without-tail");
    }
    is_new.then_some(state)
}

/// Nothing more is appended to the open segment, of which a write or sync has failed.
fn abandon_open_segment(state: &mut PartitionState, times: u32) {
    if let Some(last) = state.segments.last_mut() {
        last.sealed = true;
    }
    state.generation += times;
}

async fn drop_below<E: Env>(store: &Shared<E>, snapshot: &Snapshot, state: &mut PartitionState, now: Timestamp) {
    let log_start = snapshot.target.log_start;
    let dropped = state.segments.iter().take_while(|segment| segment.end <= log_start).take(DROPPED_AT_ONCE).count();
    if dropped == 0 {
        return;
    }
    store.env.probe().sometimes("checkpoint.segments-dropped");
    let target = state.segments.get(dropped).map_or(state.end, |kept| kept.id.base);
    match producers_at(store, snapshot.log.partition, state, target, now).await {
        Ok(producers) => state.base_producers = producers,
        // The older state stays: a truncation below the flushed offset would know less of the producers than it could.
        Err(error) => {
            store.env.probe().sometimes("checkpoint.older-producers-kept");
            tracing::error!(
                partition = %snapshot.log.partition, %error,
                "the producer state at the new first segment cannot be read; an older one is kept"
            );
        }
    }
    state.segments.drain(..dropped);
}

struct Flusher<'a, E: Env> {
    store: &'a Shared<E>,
    snapshot: &'a Snapshot,
    state: PartitionState,
    now: Timestamp,
    writing: Option<Writing<E>>,
    /// The open segment, if anything was written to it. Sealed ones are synced at once.
    touched: Option<Arc<OpenSegment<FileOf<E>>>>,
    made_file: bool,
    made_dir: &'a mut bool,
}

/// The last segment, being appended to.
struct Writing<E: Env> {
    segment: Arc<OpenSegment<FileOf<E>>>,
    /// The index of what is added, if the segment's index is in memory.
    fork: Option<SparseIndex>,
    /// Where the collected batches go.
    position: u32,
    chunks: Vec<Bytes>,
    chunk_bytes: usize,
    batches: u32,
    headers: Crc32c,
}

impl<E: Env> Flusher<'_, E> {
    async fn add(&mut self, entry: &TailEntry) -> Result<(), CheckpointError> {
        let header = entry.header();
        // What lies below the log start whole is not written, but its producers are remembered.
        if entry.last >= self.snapshot.target.log_start {
            self.make_room(&header).await?;
            self.collect(entry, &header);
            if self.writing.as_ref().is_some_and(|writing| writing.chunk_bytes >= WRITE_BYTES) {
                self.write_out().await?;
            }
        }
        self.state.producers.record(&header, self.now);
        self.state.epochs.assign(header.leader_epoch, header.base_offset);
        self.state.end = header.next_offset();
        Ok(())
    }

    /// Sees to it that an open segment takes the batch: the last one, or a new one.
    async fn make_room(&mut self, header: &BatchHeader) -> Result<(), CheckpointError> {
        let must_roll = |last: &SegmentMeta| last.end != header.base_offset || self.must_roll(last, header);
        if self.state.segments.last().is_some_and(|last| !last.sealed && must_roll(last)) {
            self.seal().await?;
        }
        if self.state.segments.last().is_none_or(|last| last.sealed) {
            return self.create(header).await;
        }
        if self.writing.is_none() {
            let last = self.state.segments.last().expect("checked above");
            let segment = self.store.segments.get(self.snapshot.log.partition, last.id).await?;
            self.writing = Some(Writing::at(&segment, last.data_bytes()));
            self.touched = Some(segment);
        }
        Ok(())
    }

    fn must_roll(&self, last: &SegmentMeta, header: &BatchHeader) -> bool {
        let data_bytes = self.writing.as_ref().map_or(u64::from(last.data_bytes()), Writing::end);
        let size = header.total_bytes() as u64;
        let age_ms = header.max_timestamp.0.saturating_sub(last.first_timestamp.0);
        data_bytes + size > u64::from(self.snapshot.options.segment_bytes)
            || age_ms > self.snapshot.options.segment_ms
            || header.last_offset().records_since(last.id.base) > SEGMENT_OFFSETS_MAX
    }

    async fn create(&mut self, header: &BatchHeader) -> Result<(), CheckpointError> {
        let partition = self.snapshot.log.partition;
        if self.state.segments.is_empty() {
            self.state.base_producers = self.state.producers.clone();
        }
        let has_directory = self.snapshot.has_directory || !self.snapshot.committed.segments.is_empty();
        if !has_directory && !*self.made_dir {
            let dir = partition_dir(&self.store.options.directory, partition);
            *self.made_dir = true;
            // The same for a directory; nothing in it counts.
            let is_trusted = self.store.env.probe().planted("checkpoint.directory-name-trusted");
            if !is_trusted && !super::orphans::remove_partition(self.store, partition).await {
                return Err(CheckpointError::io(&dir)(std::io::Error::other("what was left there can't be removed")));
            }
            self.store.env.disk().create_dir_all(&dir).await.map_err(CheckpointError::io(&dir))?;
        }
        let id = SegmentId { base: header.base_offset, generation: self.state.generation };
        let path = self.store.segments.path(partition, id);
        let segment = self.store.segments.create(partition, id).await.map_err(CheckpointError::io(&path))?;
        self.state.segments.reserve_exact(1);
        self.state.segments.push(SegmentMeta {
            id,
            end: header.base_offset,
            flushes: Vec::new(),
            first_timestamp: header.max_timestamp,
            max_timestamp: Timestamp::NONE,
            sealed: false,
            footer_bytes: 0,
        });
        self.writing = Some(Writing::at(&segment, 0));
        self.touched = Some(segment);
        self.made_file = true;
        Ok(())
    }

    fn collect(&mut self, entry: &TailEntry, header: &BatchHeader) {
        let writing = self.writing.as_mut().expect("make_room has opened a segment");
        let last = self.state.segments.last_mut().expect("make_room has opened a segment");
        writing.headers.update(&entry.bytes()[..COVERED_HEADER_BYTES]);
        writing.batches += 1;
        if let Some(fork) = &mut writing.fork {
            fork.push(header, entry.bytes(), self.store.options.index_interval_bytes);
        }
        writing.chunk_bytes += entry.bytes().len();
        writing.chunks.push(entry.bytes().clone());
        last.end = header.next_offset();
        last.max_timestamp = last.max_timestamp.max(header.max_timestamp);
    }

    async fn write_out(&mut self) -> Result<(), CheckpointError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        if writing.chunks.is_empty() {
            return Ok(());
        }
        let end = u32::try_from(writing.end()).expect("a segment is rolled below 4 GiB");
        let chunks = std::mem::take(&mut writing.chunks);
        let file = &writing.segment.file;
        file.write_at(writing.position.into(), chunks).await.map_err(CheckpointError::io(file.path()))?;
        writing.position = end;
        writing.chunk_bytes = 0;
        Ok(())
    }

    /// Ends the range that is being written, and lets readers find it in the index.
    async fn close_writing(&mut self) -> Result<(), CheckpointError> {
        self.write_out().await?;
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let last = self.state.segments.last_mut().expect("a segment is being written");
        if writing.batches > 0 {
            let headers_crc = writing.headers.finish();
            last.add_flush(Flush { end_position: writing.position, batches: writing.batches, headers_crc });
        }
        if let Some(fork) = &writing.fork {
            let mut contents = lock(&writing.segment.contents);
            let known = contents.index.join(fork);
            // These bytes have just come from memory.
            for block in known..contents.index.blocks().len() {
                contents.mark_checked(block);
            }
        }
        Ok(())
    }

    /// Ends the last segment with a footer.
    async fn seal(&mut self) -> Result<(), CheckpointError> {
        self.close_writing().await?;
        let partition = self.snapshot.log.partition;
        let last = self.state.segments.last().expect("there is a segment to seal");
        let segment = self.store.segments.get(partition, last.id).await?;
        let interval = self.store.options.index_interval_bytes;
        let index = segment.whole_index::<E>(last, interval).await;
        let last = self.state.segments.last_mut().expect("there is a segment to seal");
        last.sealed = true;
        // Without a readable index there is no footer, and the ranges' checksums stay in the manifest.
        let Some(index) = index else {
            self.store.env.probe().sometimes("checkpoint.no-footer");
            segment.file.sync_data().await?;
            return Ok(());
        };
        self.touched = None;
        let footer =
            Footer { end: last.end, index, epochs: self.state.epochs.clone(), producers: self.state.producers.clone() };
        let bytes = footer.encode(last.id.base);
        let position = u64::from(last.data_bytes());
        last.merge_all();
        last.footer_bytes = u32::try_from(bytes.len()).expect("an index is far smaller than its segment");
        let end = position + bytes.len() as u64;
        let failed = || CheckpointError::io(segment.file.path());
        segment.file.write_at(position, vec![bytes]).await.map_err(failed())?;
        segment.file.set_len(end).await.map_err(failed())?;
        segment.file.sync_data().await?;
        self.store.env.probe().sometimes("checkpoint.sealed");
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), CheckpointError> {
        if let Some(segment) = &self.touched
            && !self.store.env.probe().planted("checkpoint.edit-before-data")
        {
            segment.file.sync_data().await?;
            self.store.env.probe().crash_point("checkpoint.segment.synced");
        }
        if self.made_file && !self.store.env.probe().planted("checkpoint.file-name-unsynced") {
            let dir = partition_dir(&self.store.options.directory, self.snapshot.log.partition);
            self.store.env.disk().sync_dir(&dir).await?;
            self.store.env.probe().crash_point("checkpoint.directory.synced");
        }
        Ok(())
    }
}

impl<E: Env> Writing<E> {
    fn at(segment: &Arc<OpenSegment<FileOf<E>>>, position: u32) -> Self {
        let contents = lock(&segment.contents);
        let is_known = contents.index.end_position() == position;
        let fork = is_known.then(|| contents.index.fork());
        drop(contents);
        Self {
            segment: Arc::clone(segment),
            fork,
            position,
            chunks: Vec::new(),
            chunk_bytes: 0,
            batches: 0,
            headers: Crc32c::new(),
        }
    }

    fn end(&self) -> u64 {
        u64::from(self.position) + self.chunk_bytes as u64
    }
}
