//! Reading batches: from the tail, and from segments.
//!
//! Invariants
//! - Nothing at or above the upper bound or the durable end is handed out, and nothing of a batch that reaches there.
//! - A read never skips: it ends before what can't be read, and fails only if it begins there.
//!
//! Not here: which upper bound a reader has; waiting for more.

use std::{io, sync::Arc};

use quipu_base::Offset;
use quipu_env::{Env, Segment};

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

    /// Adds what the tail has. Answers whether everything fitted.
    fn add_tail(&mut self, state: &LogState, bounds: &Bounds) {
        for entry in state.tail.from(self.next_offset) {
            let bytes = entry.bytes().len();
            let fits = self.bytes + bytes <= bounds.max_bytes || (self.segments.is_empty() && bounds.at_least_one);
            if entry.last >= bounds.upper || !fits {
                break;
            }
            self.segments.push(Segment::Bytes(entry.share()));
            self.bytes += bytes;
            self.next_offset = entry.last.next();
        }
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
            Ok(Place::Segment(..)) => TailRead::Cold,
            Err(ReadError::Faulty(fault)) => TailRead::Faulty(fault),
            Err(ReadError::Deleted) => TailRead::Deleted,
            Err(_) => TailRead::OutOfRange { log_start: state.log_start, log_end: state.log_end },
        }
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
                    result.bytes += segment.len();
                    result.segments.push(segment);
                    result.next_offset = part.next_offset;
                }
                Ok(None) => return Ok(result),
                Err(error) if is_gone(&error) && self.has_moved_on(&base) => {}
                Err(error) => return or_what_there_is(result, error),
            }
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
    if bounds.offset >= state.base.end {
        return Ok(Place::Tail);
    }
    Ok(match state.base.segment_from(bounds.offset) {
        Some(index) => Place::Segment(Arc::clone(&state.base), index),
        None => Place::Tail,
    })
}

fn or_what_there_is<E: Env>(result: ReadResult<E>, error: ReadError) -> Result<ReadResult<E>, ReadError> {
    if result.segments.is_empty() { Err(error) } else { Ok(result) }
}

pub(super) fn is_gone(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { kind: io::ErrorKind::NotFound, .. })
}
