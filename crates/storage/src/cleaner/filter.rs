//! What compaction leaves of a run of batches. Pure: it runs on the pool.
//!
//! | record | stays |
//! |---|---|
//! | at or behind the end of what the keys are known of | yes |
//! | without a key | no |
//! | with a newer one of its key | no |
//! | a tombstone, its batch's delete horizon reached | no |
//! | any other | yes |

use std::sync::Arc;

use bytes::Bytes;
use core::ops::Range;
use quipu_base::{LeaderEpoch, Offset, Timestamp, limits::DECOMPRESSED_BYTES_MAX};
use quipu_records::{
    Batch, BatchHeader, Batches, Record,
    compact::{Retained, retain, without_records},
};

use super::keys::Keys;

/// What is left of a batch.
pub(super) enum Left {
    Batch(BatchHeader, Bytes),
    Gap(Range<Offset>, LeaderEpoch),
}

/// By what it is decided. One for each segment.
#[derive(Clone)]
pub(super) struct Filter {
    pub(super) keys: Arc<Keys>,
    /// The keys of all records below are known.
    pub(super) end: Offset,
    /// The last offset of each producer, sorted.
    pub(super) producers: Arc<Vec<Offset>>,
    pub(super) now: Timestamp,
    /// The delete horizon of tombstones that are met for the first time.
    pub(super) horizon: Timestamp,
    /// Where the segment ends.
    pub(super) border: Offset,
    pub(super) planted: Planted,
}

/// The bugs that are switched on.
#[derive(Clone, Copy)]
pub(super) struct Planted {
    pub(super) tombstone_dropped_early: bool,
    pub(super) value_lost_at_border: bool,
}

impl Filter {
    /// What is left of each batch in `bytes`.
    ///
    /// Errors: the bytes are no batches.
    pub(super) fn left_of(&self, bytes: Bytes) -> Result<Vec<Left>, String> {
        let one = |batch: Result<Batch, quipu_records::BatchError>| {
            batch.map(|batch| self.left_of_batch(batch)).map_err(|error| error.to_string())
        };
        Batches::new(bytes).map(one).collect()
    }

    fn left_of_batch(&self, batch: Batch) -> Left {
        let header = *batch.header();
        if header.is_control() || header.base_offset >= self.end {
            return Left::Batch(header, batch.into_bytes());
        }
        if header.record_count == 0 {
            return self.without_records(&batch);
        }
        let is_past = header.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        let is_past = is_past || self.planted.tombstone_dropped_early;
        let horizon = (header.last_offset() < self.end).then_some(self.horizon);
        match retain(&batch, DECOMPRESSED_BYTES_MAX, horizon, |record| self.stays(record, is_past)) {
            Ok(Retained::All) => Left::Batch(header, batch.into_bytes()),
            Ok(Retained::Some(left)) => Left::Batch(*left.header(), left.into_bytes()),
            Ok(Retained::None) => self.without_records(&batch),
            Err(error) => {
                // Its checksum is right: it was written like this. What nobody can read does no harm either.
                tracing::warn!(base_offset = %header.base_offset, %error, "a batch is left as it is by compaction");
                Left::Batch(header, batch.into_bytes())
            }
        }
    }

    fn stays(&self, record: &Record<'_>, is_past: bool) -> bool {
        if record.offset >= self.end {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_newest = self.keys.newest(key).is_none_or(|newest| newest <= record.offset);
        if self.planted.value_lost_at_border && record.offset.next() == self.border {
            return false;
        }
        is_newest && (record.value.is_some() || !is_past)
    }

    /// The last batch of a producer is needed to know its state.
    fn without_records(&self, batch: &Batch) -> Left {
        let header = batch.header();
        let is_last = header.has_producer_id() && self.producers.binary_search(&header.last_offset()).is_ok();
        if is_last {
            let left = without_records(batch);
            return Left::Batch(*left.header(), left.into_bytes());
        }
        Left::Gap(header.base_offset..header.next_offset(), header.leader_epoch)
    }
}

/// Adds the keys in `bytes` from `from` on. Where there was no room for one, if there was not.
pub(super) fn add_keys(keys: &mut Keys, bytes: Bytes, dirty: &Range<Offset>) -> Result<Option<Offset>, String> {
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        let header = batch.header();
        if header.is_control() || header.next_offset() <= dirty.start {
            continue;
        }
        let Ok(records) = batch.records(DECOMPRESSED_BYTES_MAX) else { continue };
        for record in &records {
            let Ok(record) = record else { break };
            let is_dirty = dirty.contains(&record.offset);
            if let Some(key) = record.key.filter(|_| is_dirty)
                && !keys.add(key, record.offset)
            {
                return Ok(Some(record.offset));
            }
        }
    }
    Ok(None)
}
