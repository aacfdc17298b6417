//! Compaction: of each key below the high watermark the newest record is kept, older ones go, and tombstones after a while.
//!
//! ```text
//!  log start          cleaned              uncleanable                 high watermark
//!     | clean segments   | dirty segments      | too young, or open       |
//!     +------------------+---------------------+--------------------------+
//! pass:  1 the newest offset of each key of the dirty part, as far as memory goes       `keys`
//!        2 segment by segment, from the log start up to there: what is left            `filter`
//!          goes to a new file under a new name, which is synced                        `pass`
//!        3 an edit of the manifest puts it in the place of the old ones                `checkpoint`, which then removes those
//! ```
//!
//! What goes leaves gaps (see [`quipu_records::compact`]), so that a log has a batch for every offset still: epochs, replication and
//! verification need not know of compaction. Rules are Kafka's: which logs and when ([`Compaction`]), delete horizons of tombstones
//! (KIP-534), the last batch of each producer stays, empty if need be; control batches stay as they are.
//!
//! Invariants
//! - Nothing at or above the high watermark is touched, and no segment that may still be appended to.
//! - At most [`CleanerOptions::memory_bytes`] are taken for keys, however many there are: more keys take more passes.
//! - A crash at any point leaves the old segments or the new one; files that no manifest has are removed by the next start.
//! - An older record goes only while the newer one lies in a segment below the high watermark.
//!
//! Not here: who calls for it and how often (`quipu-broker`). Read `pass` next.

mod filter;
mod keys;
mod pass;

use core::{fmt, time::Duration};
use std::sync::Arc;

use quipu_base::{
    Offset, Timestamp, TopicIdPartition,
    limits::{CLEANER_BYTES, CLEANER_BYTES_PER_SECOND},
};
use quipu_env::{Clock, Env, Instant, Probe, yield_now};

use crate::{
    Store,
    error::{CheckpointError, ReadError},
    lock,
    log::{LogShared, LogState},
    partition::{PartitionState, SegmentMeta},
    store::{Shared, catalog::Catalog},
};

/// A log that could not be compacted is left alone for so long.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// A pass may be so far ahead of its rate before it waits.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// When and how a log is compacted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compaction {
    /// Once the dirty part is more than so many millionths of what could be clean (`min.cleanable.dirty.ratio`).
    pub dirty_ratio_min_millionths: u32,
    /// Records younger than this stay (`min.compaction.lag.ms`).
    pub lag_min_ms: i64,
    /// Records older than this are compacted however little is dirty (`max.compaction.lag.ms`).
    pub lag_max_ms: i64,
    /// A tombstone stays for so long after compaction has met it first (`delete.retention.ms`).
    pub tombstone_retention_ms: i64,
}

/// What compaction may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanerOptions {
    /// Memory for keys, bytes.
    pub memory_bytes: usize,
    /// Bytes read and written in a second.
    pub bytes_per_second: u64,
}

impl Default for CleanerOptions {
    fn default() -> Self {
        Self { memory_bytes: CLEANER_BYTES, bytes_per_second: CLEANER_BYTES_PER_SECOND }
    }
}

/// What a pass has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleaned {
    /// Of which log.
    pub partition: TopicIdPartition,
    /// No two records below have the same key now.
    pub end: Offset,
    /// Bytes of the segments that it has read through.
    pub bytes_before: u64,
    /// Bytes of those in their place.
    pub bytes_after: u64,
}

/// Why a pass was given up. What it had not put in place yet is as it was; the log is tried again later.
#[derive(Debug)]
pub enum CleanError {
    /// A segment can't be read.
    Read(ReadError),
    /// A new one can't be written, or the manifest.
    Write(String),
    /// The log was deleted, or its segments are others now.
    Overtaken,
}

impl fmt::Display for CleanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Write(why) => write!(f, "a compacted segment can't be written: {why}; it is tried again"),
            Self::Overtaken => f.write_str("the log's segments have changed meanwhile; it is tried again"),
        }
    }
}

impl core::error::Error for CleanError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Write(_) | Self::Overtaken => None,
        }
    }
}

impl From<ReadError> for CleanError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<CheckpointError> for CleanError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Read(error) => Self::Read(error),
            error => Self::Write(error.to_string()),
        }
    }
}

/// A compacted segment that is to take the place of others, with the next flush of its log.
pub(crate) struct Swap {
    /// As they have to be still.
    pub(crate) old: Vec<SegmentMeta>,
    pub(crate) new: SegmentMeta,
    /// The log is clean up to here then.
    pub(crate) cleaned: Option<Offset>,
}

/// What became of a [`Swap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Swapped {
    Done,
    /// The segments are not the ones that it is for.
    Outdated,
    /// With a planted bug: only the old ones have gone.
    Halfway,
}

impl Swap {
    /// Puts the new segment in the place of the old ones.
    pub(crate) fn apply<P: Probe>(&self, state: &mut PartitionState, probe: &P) -> Swapped {
        let (Some(oldest), count) = (self.old.first(), self.old.len()) else { return Swapped::Outdated };
        let at = state.segments.partition_point(|segment| segment.id.base < oldest.id.base);
        if probe.planted("compact.swap-not-atomic") {
            if state.segments.get(at..at + count).is_some_and(|found| found == self.old) {
                state.segments.drain(at..at + count);
                return Swapped::Halfway;
            }
        } else if state.segments.get(at..at + count).is_none_or(|found| found != self.old) {
            return Swapped::Outdated;
        } else {
            state.segments.drain(at..at + count);
        }
        state.segments.insert(at, self.new.clone());
        state.cleaned = state.cleaned.max(self.cleaned.unwrap_or(Offset::ZERO));
        Swapped::Done
    }
}

/// A log that is to be compacted.
struct Work {
    log: Arc<LogShared>,
    base: Arc<PartitionState>,
    compaction: Compaction,
    /// What is dirty.
    dirty: core::ops::Range<Offset>,
    /// How much of it is, in millionths.
    ratio: u64,
}

/// The part of a log that may be compacted, if there is reason to.
fn work(log: &Arc<LogShared>, state: &LogState, now: Timestamp) -> Option<Work> {
    let compaction = state.options.compaction?;
    let is_fit = !state.deleted && state.fault.is_none() && state.damaged.is_empty() && state.swap.is_none();
    if !is_fit || state.cleaning {
        return None;
    }
    let base = &state.base;
    let age = |timestamp: Timestamp| now.0.saturating_sub(timestamp.0);
    let is_fixed = |segment: &&SegmentMeta| {
        let is_old = compaction.lag_min_ms == 0 || age(segment.max_timestamp) > compaction.lag_min_ms;
        segment.sealed && segment.end <= state.high_watermark.min(state.durable_end) && is_old
    };
    let from = base.cleaned.max(state.durable_log_start);
    let (mut clean_bytes, mut dirty_bytes, mut is_due, mut until) = (0_u64, 0_u64, false, from);
    for segment in base.segments.iter().take_while(is_fixed) {
        if segment.end <= from {
            clean_bytes += u64::from(segment.data_bytes());
            continue;
        }
        dirty_bytes += u64::from(segment.data_bytes());
        is_due |= segment.first_timestamp > Timestamp::NONE && age(segment.first_timestamp) > compaction.lag_max_ms;
        until = segment.end;
    }
    if dirty_bytes == 0 {
        return None;
    }
    let ratio = dirty_bytes.saturating_mul(1_000_000) / (dirty_bytes + clean_bytes);
    let is_worth_it = ratio > u64::from(compaction.dirty_ratio_min_millionths);
    (is_due || is_worth_it).then(|| Work {
        log: Arc::clone(log),
        base: Arc::clone(base),
        compaction,
        dirty: from..until,
        ratio,
    })
}

/// Whether the open segment is to be closed, so that what is in it can be compacted.
fn is_to_be_sealed(state: &LogState, now: Timestamp) -> bool {
    let (Some(compaction), Some(last)) = (state.options.compaction, state.base.segments.last()) else { return false };
    let age_ms = now.0.saturating_sub(last.first_timestamp.0);
    let is_due = last.first_timestamp > Timestamp::NONE && age_ms > compaction.lag_max_ms;
    is_due && !last.sealed && !state.deleted && state.fault.is_none()
}

impl<E: Env> Store<E> {
    /// Compacts the log that needs it most, one pass. None if no log needs it.
    ///
    /// Errors: see [`CleanError`]; after `Read` and `Write` that log is left alone for a minute.
    pub async fn clean(&self, options: &CleanerOptions) -> Result<Option<Cleaned>, CleanError> {
        let store = self.shared();
        let (wall, now) = (store.env.clock().wall(), store.env.clock().now());
        let logs = store.catalog.all().into_iter();
        let logs: Vec<_> = logs.filter(|log| is_compacted(&lock(&log.state), now)).collect();
        self.seal_old(&logs, wall).await?;
        let found = logs.iter().filter_map(|log| work(log, &lock(&log.state), wall));
        let filthiest = found.max_by_key(|work| work.ratio);
        let Some(work) = filthiest else { return Ok(None) };
        let log = Arc::clone(&work.log);
        let throttle = Throttle::new(store, options.bytes_per_second);
        let result = pass::run(store, work, options.memory_bytes, throttle, wall).await;
        if matches!(result, Err(CleanError::Read(_) | CleanError::Write(_))) {
            lock(&log.state).cleans_from = store.env.clock().now() + PAUSE_AFTER_FAILURE;
        }
        result.map(Some)
    }
}

fn is_compacted(state: &LogState, now: Instant) -> bool {
    state.options.compaction.is_some() && now >= state.cleans_from
}

impl<E: Env> Store<E> {
    /// Has the open segments closed that are older than compaction may leave them.
    async fn seal_old(&self, logs: &[Arc<LogShared>], wall: Timestamp) -> Result<(), CleanError> {
        let store = self.shared();
        let mut is_any = false;
        for log in logs {
            let mut state = lock(&log.state);
            state.seals = is_to_be_sealed(&state, wall);
            let seals = state.seals;
            drop(state);
            if seals {
                Catalog::mark_dirty(&mut lock(&store.catalog.apply), log);
                is_any = true;
            }
        }
        if is_any {
            store.env.probe().sometimes("compact.sealed-for-age");
            store.requests.checkpoint().await.map_err(CleanError::Write)?;
        }
        Ok(())
    }
}

/// Keeps a pass to its rate.
struct Throttle<'a, E: Env> {
    store: &'a Shared<E>,
    bytes_per_second: u64,
    /// When what has been taken so far would be done at that rate.
    due: Instant,
}

impl<'a, E: Env> Throttle<'a, E> {
    fn new(store: &'a Shared<E>, bytes_per_second: u64) -> Self {
        Self { store, bytes_per_second: bytes_per_second.max(1), due: store.env.clock().now() }
    }

    async fn take(&mut self, bytes: u64) {
        const SECOND_NANOS: u128 = 1_000_000_000;
        let clock = self.store.env.clock();
        let now = clock.now();
        let nanos = u128::from(bytes) * SECOND_NANOS / u128::from(self.bytes_per_second);
        self.due = self.due.max(now) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        if self.due.since(now) > AHEAD_MAX {
            clock.sleep_until(self.due).await;
        } else {
            yield_now().await;
        }
    }
}
