//! Which records retention lets go (`cleanup.policy=delete`): where the log is to begin.
//!
//! ```text
//! by time   segments, and behind them batches in memory, from the oldest on, while all their records are older than `ms`
//! by size   whole segments, from the oldest on, as long as `bytes` are left; of what is only in memory as much as a segment at least
//! ```
//!
//! As in Kafka the wall clock is believed, whatever it says, and a record is as old as its timestamp says: one from the future
//! keeps its segment, and all behind it, until its time has come and gone. What bears no timestamp, the marks of compaction among
//! it, goes with what comes behind it.
//!
//! Invariants
//! - Nothing at or above the bound that the owner gives, which is the high watermark, goes.
//! - A record that is not older than `ms` never goes by time; at least `bytes` are left by size.
//!
//! Not here: the move of the log start, which is the leader's (`quipu-broker`), as if a client had asked for it.

use quipu_base::{Offset, Timestamp};
use quipu_env::{Env, Probe};

use super::{Log, LogState};

/// Which old records of a log go by themselves; by default none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Records go when they are older than this (`retention.ms`).
    pub ms: Option<i64>,
    /// Records go beyond this size (`retention.bytes`).
    pub bytes: Option<u64>,
}

/// A run of records that goes as one.
struct Piece {
    end: Offset,
    max_timestamp: Timestamp,
}

impl<E: Env> Log<E> {
    /// Where the log is to begin by its [`Retention`] at the wall clock's `now`, if not where it does. `high_watermark` bounds it.
    #[must_use]
    pub fn retention_start(&self, now: Timestamp, high_watermark: Offset) -> Option<Offset> {
        let state = self.state();
        if state.deleted || state.fault.is_some() {
            return None;
        }
        let probe = self.store.env.probe();
        let is_unbounded = probe.planted("retention.above-high-watermark");
        let bound = if is_unbounded { state.readable_end() } else { high_watermark.min(state.readable_end()) };
        let Retention { ms, bytes } = state.options.retention;
        let is_past = |timestamp: Timestamp, ms: i64| {
            if probe.planted("retention.future-timestamp") {
                return now.0.abs_diff(timestamp.0) > ms.unsigned_abs();
            }
            now.0.saturating_sub(timestamp.0) > ms
        };
        let by_time = ms.map_or(state.log_start, |ms| {
            let start = start_by_time(&state, bound, |timestamp| is_past(timestamp, ms));
            if start > state.log_start {
                probe.sometimes("retention.by-time");
            }
            start
        });
        let by_size = bytes.map_or(by_time, |bytes| start_by_size(&state, by_time, bound, bytes));
        if by_size > by_time {
            probe.sometimes("retention.by-size");
        }
        (by_size > state.log_start).then_some(by_size)
    }
}

fn start_by_time(state: &LogState, bound: Offset, is_past: impl Fn(Timestamp) -> bool) -> Offset {
    let mut start = state.log_start;
    let segments = state.base.segments.iter().filter(|segment| segment.end > state.log_start);
    let segments = segments.map(|segment| Piece { end: segment.end, max_timestamp: segment.max_timestamp });
    let batches = state.tail.from(state.log_start.max(state.base.tail_start()));
    let batches = batches.map(|entry| Piece { end: entry.last.next(), max_timestamp: entry.max_timestamp });
    for piece in segments.chain(batches) {
        if piece.end > bound {
            break;
        }
        match piece.max_timestamp {
            Timestamp::NONE => {}
            timestamp if is_past(timestamp) => start = piece.end,
            _ => break,
        }
    }
    start
}

fn start_by_size(state: &LogState, from: Offset, bound: Offset, bytes: u64) -> Offset {
    let mut start = from;
    let mut excess = state.bytes_from(from).saturating_sub(bytes);
    for segment in state.base.segments.iter().filter(|segment| segment.end > from) {
        let size = u64::from(segment.data_bytes());
        if size > excess || segment.end > bound {
            return start;
        }
        excess -= size;
        start = segment.end;
    }
    if excess < u64::from(state.options.segment_bytes) {
        return start;
    }
    let in_tail = start.max(state.base.tail_start());
    match state.tail.end_within(in_tail, excess) {
        Some(end) if end <= bound => end,
        // The batches below the bound are less than there may be.
        Some(_) => state.tail_boundary(bound).max(start),
        None => start,
    }
}
