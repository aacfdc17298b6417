//! Reading segments that nobody reads, to find damage in them while there is somebody to repair it from.
//!
//! Invariants
//! - What is checked comes from the device: the page cache is told to forget it first.
//! - Damage is noted as if a reader had met it.
//!
//! Not here: how fast, and who is told (`quipu-broker`).

use quipu_base::Offset;
use quipu_env::{Env, File, Probe};

use super::{Log, check_readable, read::is_gone};
use crate::{ReadError, partition::SegmentMeta, segment::CHECK_BYTES};

/// How far a log has been scrubbed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubPlace {
    /// No segment that ends at or below it is looked at any more.
    offset: Offset,
    /// Where in the first one behind it.
    position: u32,
    /// That one was open before: it is in use.
    was_open: bool,
}

/// What was looked at.
#[derive(Debug)]
pub struct Scrubbed {
    /// How many bytes.
    pub bytes: u64,
    /// Whether they are sound.
    pub result: Result<(), ReadError>,
}

impl<E: Env> Log<E> {
    /// Checks the next mebibyte or so of the segments that are complete, and moves `place` behind it. None at the log's end, or if it
    /// can't be read at all.
    pub async fn scrub(&self, place: &mut ScrubPlace) -> Option<Scrubbed> {
        let base = {
            let state = self.state();
            check_readable(&state).ok()?;
            std::sync::Arc::clone(&state.base)
        };
        let meta = base.segments.iter().find(|segment| segment.sealed && segment.end > place.offset)?;
        let from = if place.position < meta.data_bytes() { place.position } else { 0 };
        if from == 0 {
            place.was_open = self.store.segments.find(self.log.partition, meta.id).is_some();
        }
        let checked = self.scrub_from(meta, from).await;
        let (end, result) = match checked {
            Ok(end) => (end, Ok(())),
            // It is no longer part of the log.
            Err(error) if is_gone(&error) && self.has_moved_on(&base) => (meta.data_bytes(), Ok(())),
            Err(error) => {
                self.store.env.probe().sometimes("log.scrub-found-damage");
                self.note_damage(&base, meta, &error);
                // All of it is known with the first of it, if it was read whole.
                (meta.data_bytes(), Err(error))
            }
        };
        if end < meta.data_bytes() {
            place.position = end;
        } else {
            // Segments that are in use are not to make room for it.
            if !place.was_open {
                self.store.segments.forget(self.log.partition, meta.id);
            }
            *place = ScrubPlace { offset: meta.end, position: 0, was_open: false };
        }
        Some(Scrubbed { bytes: u64::from(end.saturating_sub(from)), result })
    }

    /// Checks whole blocks from the boundary `from` on. Where they end.
    async fn scrub_from(&self, meta: &SegmentMeta, from: u32) -> Result<u32, ReadError> {
        let (segments, partition) = (&self.store.segments, self.log.partition);
        let segment = segments.get(partition, meta.id).await?;
        let length = CHECK_BYTES.min(meta.data_bytes() - from);
        segment.file.forget_cached(from.into(), length.into()).await;
        let run = segment.next_run(&self.store.env, meta, from, self.store.options.index_interval_bytes).await;
        match run {
            Ok(Some(run)) if usize::try_from(run.end - from).is_ok_and(|length| length == run.bytes.len()) => {
                Ok(run.end)
            }
            Ok(_) => {
                // Blocks further on may be bad, too.
                let mut at = from;
                while let Ok(Some(run)) =
                    segment.next_run(&self.store.env, meta, at, self.store.options.index_interval_bytes).await
                {
                    at = run.end;
                }
                Err(segment.damage(from, "its checksums are wrong"))
            }
            Err(error) => Err(error),
        }
    }
}
