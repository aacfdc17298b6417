//! Reading batches: from the tail, and from segments.
//!
//! Invariants
//! - Nothing at or above the upper bound or the durable end is handed out, and nothing of a batch that reaches there.
//! - A read never skips: it ends before what can't be read, and fails only if it begins there.
//! - A gap that compaction has left comes cut to the offsets that are wanted.
//!
//! Not here: which upper bound a reader has; waiting for more.

use core::ops::Range;
use std::{io, sync::Arc};

use bytes::Bytes;
use quipu_base::Offset;
use quipu_env::{Env, Probe, Segment};
use quipu_records::BatchHeader;

use super::{Log, LogState, ReadResult, TailRead, check_readable};
use crate::{
    ReadError,
    partition::{PartitionState, SegmentMeta},
    segment::{Bounds, Part},
};

/// Where an offset is to be read.
enum Place {
    /// Nothing is there yet.
    End,
    Tail,
    Segment(Arc<PartitionState>, usize),
}

impl<E: Env> ReadResult<E> {
    const fn empty(next_offset: Offset) -> Self {
        Self { segments: Vec::new(), bytes: 0, next_offset }
    }

    fn rest(&self, bounds: &Bounds) -> Bounds {
        Bounds {
            offset: self.next_offset,
            max_bytes: bounds.max_bytes.saturating_sub(self.bytes),
            at_least_one: bounds.at_least_one && self.segments.is_empty(),
            ..*bounds
        }
    }

    /// Adds what the tail has.
    fn add_tail(&mut self, state: &LogState, bounds: &Bounds) {
        for entry in state.tail.from(self.next_offset) {
            if self.add_gap(bounds, (entry.base, entry.last), || Some(entry.header())) {
                continue;
            }
            if entry.base > self.next_offset || !self.takes(entry.last, entry.bytes().len(), bounds) {
                break;
            }
            self.segments.push(Segment::Bytes(entry.share()));
            self.bytes += entry.bytes().len();
            self.next_offset = entry.last.next();
        }
    }

    /// Adds what is submitted and not yet durable.
    fn add_unsynced(&mut self, state: &LogState, bounds: &Bounds) {
        let first = state.unsynced.partition_point(|batch| batch.last < self.next_offset);
        for batch in state.unsynced.range(first..) {
            if self.add_gap(bounds, (batch.base, batch.last), || BatchHeader::parse(&batch.rest).ok()) {
                continue;
            }
            if batch.base > self.next_offset || !self.takes(batch.last, batch.len(), bounds) {
                break;
            }
            if let Some(header) = &batch.header {
                self.segments.push(Segment::Bytes(Bytes::copy_from_slice(header)));
            }
            self.segments.push(Segment::Bytes(batch.rest.clone()));
            self.bytes += batch.len();
            self.next_offset = batch.last.next();
        }
    }

    /// Adds the part that is wanted of a batch that begins below what is wanted or reaches the upper bound, if it is a gap.
    fn add_gap(
        &mut self,
        bounds: &Bounds,
        (base, last): (Offset, Offset),
        header: impl FnOnce() -> Option<BatchHeader>,
    ) -> bool {
        let is_inside = base >= self.next_offset && last < bounds.upper;
        if is_inside || base > self.next_offset {
            return false;
        }
        let part = header().and_then(|header| header.gap_within(&(self.next_offset..bounds.upper)));
        let Some(part) = part else { return false };
        self.next_offset = part.header().next_offset();
        self.add_bytes(part.into_bytes());
        true
    }

    fn add_bytes(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.segments.push(Segment::Bytes(bytes));
    }

    fn takes(&self, last: Offset, bytes: usize, bounds: &Bounds) -> bool {
        let fits = self.bytes + bytes <= bounds.max_bytes || (self.segments.is_empty() && bounds.at_least_one);
        last < bounds.upper && fits
    }
}

impl<E: Env> Log<E> {
    /// Whole batches from `offset` on, from memory only; the first may begin below `offset`. At most `max_bytes`, but, if
    /// `at_least_one`, the first batch however large; none of them reaches `upper` or the durable end.
    #[must_use]
    pub fn read_tail(&self, offset: Offset, upper: Offset, max_bytes: usize, at_least_one: bool) -> TailRead<E> {
        let state = self.state();
        let mut bounds = Bounds { offset, upper, max_bytes, at_least_one };
        match place(&state, &mut bounds) {
            Ok(Place::End) => TailRead::Hit(ReadResult::empty(offset)),
            Ok(Place::Tail) => {
                let mut result = ReadResult::empty(offset);
                result.add_tail(&state, &bounds);
                TailRead::Hit(result)
            }
            other => tail_read(&state, other.err()),
        }
    }

    /// Like [`Self::read_tail`], but with what is submitted and not yet durable: for sends to followers, which run beside the leader's
    /// own sync. Not for consumers. A batch may come in two segments, its header and the rest.
    #[must_use]
    pub fn read_tail_unsynced(
        &self,
        offset: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> TailRead<E> {
        let state = self.state();
        let bounds = Bounds { offset, upper, max_bytes, at_least_one };
        let mut durable = bounds;
        let mut result = ReadResult::empty(offset);
        match place(&state, &mut durable) {
            Ok(Place::End) => {}
            Ok(Place::Tail) => result.add_tail(&state, &durable),
            other => return tail_read(&state, other.err()),
        }
        // While something is being cut, nothing behind it counts.
        if state.changes.is_empty() && result.next_offset >= state.durable_end {
            result.add_unsynced(&state, &bounds);
        }
        TailRead::Hit(result)
    }

    /// Like [`Self::read_tail`], from wherever the batches are. File ranges have been checked when this returns, and stay readable
    /// through their handles whatever becomes of the partition.
    ///
    /// Errors: `OutOfRange`, `Faulty`, `Deleted`; `Damaged` and `Io` only if the damage or the trouble begins at `offset`.
    pub async fn read(
        &self,
        offset: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadResult<E>, ReadError> {
        let wanted = Bounds { offset, upper, max_bytes, at_least_one };
        let mut result = ReadResult::empty(offset);
        loop {
            let mut bounds = result.rest(&wanted);
            let found = {
                let state = self.state();
                let found = place(&state, &mut bounds);
                if matches!(found, Ok(Place::Tail)) {
                    result.add_tail(&state, &Bounds { upper: bounds.upper, ..wanted });
                }
                found
            };
            let (base, index) = match found {
                Ok(Place::Segment(base, index)) => (base, index),
                Ok(Place::End | Place::Tail) => return Ok(result),
                Err(error) => return or_what_there_is(result, error),
            };
            if bounds.max_bytes == 0 && !bounds.at_least_one {
                return Ok(result);
            }
            match self.read_segment(&base.segments[index], bounds).await {
                Ok(Some((segment, part))) => {
                    part.head.into_iter().for_each(|gap| result.add_bytes(gap));
                    if part.length > 0 {
                        result.bytes += segment.len();
                        result.segments.push(segment);
                    }
                    part.tail.into_iter().for_each(|gap| result.add_bytes(gap));
                    result.next_offset = part.next_offset;
                }
                Ok(None) => return Ok(result),
                Err(error) if is_gone(&error) && self.has_moved_on(&base) => {}
                Err(error) => {
                    self.note_damage(&base, &base.segments[index], &error);
                    return or_what_there_is(result, error);
                }
            }
        }
    }

    /// Somebody may have found what was read of these offsets damaged: what was checked of their segments counts no more, and the
    /// next read says what is wrong with them.
    pub fn distrust(&self, range: Range<Offset>) {
        let base = Arc::clone(&self.state().base);
        let Some(first) = base.segment_from(range.start) else { return };
        let segments = base.segments[first..].iter().take_while(|segment| segment.id.base < range.end);
        for open in segments.filter_map(|segment| self.store.segments.find(self.log.partition, segment.id)) {
            open.distrust();
        }
    }

    async fn read_segment(
        &self,
        meta: &SegmentMeta,
        bounds: Bounds,
    ) -> Result<Option<(Segment<crate::segment::FileOf<E>>, Part)>, ReadError> {
        let segment = self.store.segments.get(self.log.partition, meta.id).await?;
        let part = segment.read(&self.store.env, meta, bounds, self.store.options.index_interval_bytes).await?;
        Ok(part.map(|part| {
            let length = usize::try_from(part.length).expect("a segment fits memory");
            let file = segment.file.clone();
            (Segment::File { file, position: part.position.into(), length }, part)
        }))
    }

    /// Takes note of what a read has found damaged, durably, so that the next start knows of it, too.
    pub(crate) fn note_damage(&self, base: &Arc<PartitionState>, meta: &SegmentMeta, error: &ReadError) {
        let found = match error {
            ReadError::Damaged { .. } => self
                .store
                .segments
                .find(self.log.partition, meta.id)
                .map_or_else(Vec::new, |open| open.bad_offsets(meta)),
            error if is_gone(error) => vec![meta.id.base..meta.end],
            _ => return,
        };
        let mut state = self.state();
        // What was read may be gone, or changed: then the damage is as well.
        if state.deleted || !Arc::ptr_eq(&state.base, base) || !state.changes.is_empty() {
            return;
        }
        for mut range in found {
            if range.start < base.cleaned {
                // A tombstone that has gone here may have taken with it what a peer still has: all that is compacted is fetched
                // again, or a record that was deleted would come back.
                range = base.segments[0].id.base.min(range.start)..base.cleaned.max(range.end);
            }
            if state.damaged.holds(&range) {
                continue;
            }
            self.store.env.probe().sometimes("log.damage-noted");
            state.damaged.add(range.clone());
            self.submit_damage(&mut state, &range);
        }
    }

    /// Whether the segments have changed since `base`: a file that is missing may have been removed with reason.
    pub(super) fn has_moved_on(&self, base: &Arc<PartitionState>) -> bool {
        !Arc::ptr_eq(base, &self.state().base)
    }
}

/// Where `bounds.offset` is to be read. Lowers the upper bound to what is durable.
fn place(state: &LogState, bounds: &mut Bounds) -> Result<Place, ReadError> {
    check_readable(state)?;
    let (log_start, log_end) = (state.log_start, state.log_end);
    if bounds.offset < log_start || bounds.offset > log_end {
        return Err(ReadError::OutOfRange { log_start, log_end });
    }
    bounds.upper = bounds.upper.min(state.readable_end());
    if bounds.offset >= bounds.upper {
        return Ok(Place::End);
    }
    let index = (bounds.offset < state.base.end).then(|| state.base.segment_from(bounds.offset)).flatten();
    // Only a log of which something is damaged has holes.
    if !state.damaged.is_empty() {
        let found = match index {
            Some(index) => Some(state.base.segments[index].id.base),
            None => state.tail.from(bounds.offset).next().map(|entry| entry.base),
        };
        if found.is_none_or(|base| base > bounds.offset) {
            return Err(ReadError::Missing { offset: bounds.offset });
        }
    }
    Ok(index.map_or(Place::Tail, |index| Place::Segment(Arc::clone(&state.base), index)))
}

/// What a read from memory answers that finds nothing there.
fn tail_read<E: Env>(state: &LogState, error: Option<ReadError>) -> TailRead<E> {
    match error {
        // That it is missing only a full read tells.
        None | Some(ReadError::Missing { .. }) => TailRead::Cold,
        Some(ReadError::Faulty(fault)) => TailRead::Faulty(fault),
        Some(ReadError::Deleted) => TailRead::Deleted,
        Some(_) => TailRead::OutOfRange { log_start: state.log_start, log_end: state.log_end },
    }
}

fn or_what_there_is<E: Env>(result: ReadResult<E>, error: ReadError) -> Result<ReadResult<E>, ReadError> {
    if result.segments.is_empty() { Err(error) } else { Ok(result) }
}

pub(super) fn is_gone(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { kind: io::ErrorKind::NotFound, .. })
}
