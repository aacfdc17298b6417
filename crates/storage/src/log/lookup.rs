//! Finding records by their timestamps, as ListOffsets asks for them.
//!
//! Segments and batches are passed over by their max timestamps; only the batch that decides is decompressed.
//!
//! Not here: the special timestamps for a log's ends, which need no search.

use core::ops::Range;
use std::sync::Arc;

use quipu_base::{Offset, Timestamp, limits::DECOMPRESSED_BYTES_MAX};
use quipu_env::{Env, Probe};
use quipu_records::Batch;

use super::{Log, check_readable, read::is_gone};
use crate::{ReadError, partition::PartitionState};

/// A record's time and place.
type Found = Option<(Timestamp, Offset)>;

/// What of a log is searched: its segments, and the offsets that count.
struct Scope {
    base: Arc<PartitionState>,
    offsets: Range<Offset>,
}

impl<E: Env> Log<E> {
    /// The first record whose timestamp is `timestamp` or later, among those from the log start up to `upper`. None if there is
    /// none.
    ///
    /// Errors: those of [`Log::read`] for the batches that have to be looked at.
    pub async fn offset_for_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Found, ReadError> {
        let mut scope = self.scope(upper)?;
        let mut next = scope.offsets.start;
        while let Some(batch) = self.batch_since(&mut scope, next, timestamp).await? {
            if let Some(found) = first_record(&batch, next, |time| time >= timestamp)? {
                return Ok(Some(found));
            }
            next = batch.header().next_offset();
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of several, among those from the log start up to `upper`. None in an
    /// empty log.
    ///
    /// Errors: those of [`Log::read`] for the batches that have to be looked at.
    pub async fn max_timestamp(&self, upper: Offset) -> Result<Found, ReadError> {
        let mut scope = self.scope(upper)?;
        let Some(largest) = self.largest_timestamp(&mut scope).await? else { return Ok(None) };
        let mut next = scope.offsets.start;
        let mut best: Found = None;
        // A batch that begins below the log start may have its largest timestamp there: then the search goes on.
        while let Some(batch) =
            self.batch_since(&mut scope, next, best.map_or(largest, |(time, _)| Timestamp(time.0 + 1))).await?
        {
            let mut within = None;
            for record in &batch.records(DECOMPRESSED_BYTES_MAX).map_err(|error| bad(&batch, &error))? {
                let record = record.map_err(|error| bad(&batch, &error))?;
                if record.offset >= next && within.is_none_or(|(time, _)| record.timestamp > time) {
                    within = Some((record.timestamp, record.offset));
                }
            }
            if within.is_some_and(|(time, _)| time >= largest) {
                return Ok(within);
            }
            if within.map(|(time, _)| time) > best.map(|(time, _)| time) {
                best = within;
            }
            next = batch.header().next_offset();
        }
        Ok(best)
    }

    fn scope(&self, upper: Offset) -> Result<Scope, ReadError> {
        let state = self.state();
        check_readable(&state)?;
        let offsets = state.log_start..upper.min(state.readable_end());
        Ok(Scope { base: Arc::clone(&state.base), offsets })
    }

    /// The first batch with a record at or above `from` and a max timestamp of at least `timestamp`, that lies whole below the
    /// scope's end.
    async fn batch_since(
        &self,
        scope: &mut Scope,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<Batch>, ReadError> {
        let range = from..scope.offsets.end;
        let interval = self.store.options.index_interval_bytes;
        let (mut base, mut index) = (Arc::clone(&scope.base), 0);
        while let Some(meta) = base.segments.get(index) {
            index += 1;
            if meta.end <= from || meta.max_timestamp < timestamp {
                continue;
            }
            if meta.id.base >= range.end {
                return Ok(None);
            }
            let segment = match self.store.segments.get(self.log.partition, meta.id).await {
                Err(error) if self.is_outdated(scope, &error) => {
                    (base, index) = (Arc::clone(&scope.base), 0);
                    continue;
                }
                other => other?,
            };
            let found = segment.batch_since(&self.store.env, meta, timestamp, range.clone(), interval).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let bytes = {
            let state = self.state();
            let mut entries =
                state.tail.from(from.max(scope.base.tail_start())).take_while(|entry| entry.last < range.end);
            entries.find(|entry| entry.max_timestamp >= timestamp).map(|entry| entry.bytes().clone())
        };
        Ok(bytes.map(|bytes| Batch::parse(bytes).expect("the tail holds whole batches")))
    }

    /// Whether a segment is gone because its log start has passed it, or because compaction has put another in its place: then
    /// `scope` has the segments of this moment.
    fn is_outdated(&self, scope: &mut Scope, error: &ReadError) -> bool {
        let is_outdated = is_gone(error) && self.has_moved_on(&scope.base);
        if is_outdated {
            self.store.env.probe().sometimes("log.segments-moved-on");
            scope.base = Arc::clone(&self.state().base);
        }
        is_outdated
    }

    async fn largest_timestamp(&self, scope: &mut Scope) -> Result<Option<Timestamp>, ReadError> {
        let mut best = None;
        let (mut base, mut index) = (Arc::clone(&scope.base), 0);
        while let Some(meta) = base.segments.get(index) {
            index += 1;
            let is_beside = meta.end <= scope.offsets.start || meta.id.base >= scope.offsets.end;
            if is_beside || Some(meta.max_timestamp) <= best {
                continue;
            }
            if meta.id.base >= scope.offsets.start && meta.end <= scope.offsets.end {
                best = Some(meta.max_timestamp);
                continue;
            }
            let interval = self.store.options.index_interval_bytes;
            let segment = match self.store.segments.get(self.log.partition, meta.id).await {
                Err(error) if self.is_outdated(scope, &error) => {
                    (best, base, index) = (None, Arc::clone(&scope.base), 0);
                    continue;
                }
                other => other?,
            };
            let found = segment.max_timestamp(&self.store.env, meta, scope.offsets.clone(), interval).await?;
            best = best.max(found);
        }
        let state = self.state();
        let entries = state.tail.from(scope.base.tail_start().max(scope.offsets.start));
        let in_tail = entries.take_while(|entry| entry.last < scope.offsets.end).map(|entry| entry.max_timestamp).max();
        Ok(best.max(in_tail))
    }
}

fn first_record(batch: &Batch, from: Offset, matches: impl Fn(Timestamp) -> bool) -> Result<Found, ReadError> {
    for record in &batch.records(DECOMPRESSED_BYTES_MAX).map_err(|error| bad(batch, &error))? {
        let record = record.map_err(|error| bad(batch, &error))?;
        if record.offset >= from && matches(record.timestamp) {
            return Ok(Some((record.timestamp, record.offset)));
        }
    }
    Ok(None)
}

fn bad(batch: &Batch, error: &quipu_records::BatchError) -> ReadError {
    ReadError::BadBatch { base_offset: batch.header().base_offset, why: error.to_string() }
}
