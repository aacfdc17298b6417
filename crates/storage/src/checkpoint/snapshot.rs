//! What a round takes from a log, and what it gives back.
//!
//! Not here: what happens between (`flush`, `round`).

use std::{collections::BTreeMap, io, sync::Arc};

use quipu_base::Offset;

use crate::{
    Fault,
    cleaner::{Swap, Swapped},
    damage::Damaged,
    error::CheckpointError,
    lock,
    log::{LogOptions, LogShared},
    partition::{PartitionState, SegmentId},
    tail::TailEntry,
};

/// A log as of the end of one group.
pub(super) struct Snapshot {
    pub(super) log: Arc<LogShared>,
    /// What the segments hold.
    pub(super) base: Arc<PartitionState>,
    /// What the manifest says.
    pub(super) committed: Arc<PartitionState>,
    /// What the segments do not hold.
    pub(super) entries: Vec<TailEntry>,
    pub(super) target: Target,
    pub(super) options: LogOptions,
    pub(super) abandoned: u32,
    /// The partition's directory was made before, durably.
    pub(super) has_directory: bool,
    /// A compacted segment to be put in its place.
    pub(super) swap: Option<Arc<Swap>>,
    /// The open segment is to be closed.
    pub(super) seals: bool,
}

/// What the new state is to say besides its segments.
pub(super) struct Target {
    pub(super) log_start: Offset,
    pub(super) end: Offset,
    pub(super) applied: u64,
    pub(super) states: BTreeMap<u8, Vec<u8>>,
    pub(super) fault: Option<Fault>,
    pub(super) damaged: Damaged,
    pub(super) high_watermark: Offset,
}

pub(super) enum Taken {
    Snapshot(Box<Snapshot>),
    /// A truncation or the like is under way, or its directory is still to be removed.
    Busy,
    Deleted,
}

/// What has become of a snapshot.
pub(super) struct Outcome {
    pub(super) snapshot: Snapshot,
    /// To be committed. After an error: what can be said without what could not be written, if that is news.
    pub(super) state: Option<PartitionState>,
    /// What became of the compacted segment, if there was one.
    pub(super) swapped: Option<Swapped>,
    /// The partition's directory was made; its name is not durable yet.
    pub(super) made_dir: bool,
    pub(super) error: Option<CheckpointError>,
}

impl Outcome {
    pub(super) const fn is_done(&self) -> bool {
        self.error.is_none()
    }

    /// Whether segments below the log start are left for the next round.
    pub(super) fn leaves_some(&self) -> bool {
        let first = self.state.as_ref().and_then(|state| Some((state.segments.first()?, state.log_start)));
        self.is_done() && first.is_some_and(|(first, log_start)| first.end <= log_start)
    }

    pub(super) const fn to_commit(&self) -> Option<&PartitionState> {
        self.state.as_ref()
    }

    /// Whether the open segment's file is to be written no more. A full disk says nothing against it.
    pub(super) fn abandons(&self) -> bool {
        self.error.as_ref().is_some_and(|error| !is_full(error))
    }
}

/// Whether the disk has no room.
pub(crate) fn is_full(error: &CheckpointError) -> bool {
    let kind = match error {
        CheckpointError::Io { error, .. } => error.kind(),
        CheckpointError::Sync(error) => error.kind,
        CheckpointError::Read(_) => return false,
    };
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Takes the log off the list of dirty ones. `is_name_taken`: its directory still holds files of a deleted partition.
pub(super) fn take_snapshot(log: &Arc<LogShared>, is_name_taken: bool) -> Taken {
    let mut state = lock(&log.state);
    state.dirty = false;
    if state.gone {
        return Taken::Deleted;
    }
    if is_name_taken || state.cutting || !state.changes.is_empty() {
        return Taken::Busy;
    }
    state.flushing = true;
    Taken::Snapshot(Box::new(Snapshot {
        log: Arc::clone(log),
        base: Arc::clone(&state.base),
        committed: Arc::clone(&state.committed),
        entries: state.tail.iter().cloned().collect(),
        target: Target {
            log_start: state.durable_log_start,
            end: state.durable_end,
            applied: state.applied.0,
            states: state.states.clone(),
            fault: state.fault.clone(),
            damaged: state.damaged.clone(),
            high_watermark: state.high_watermark.min(state.durable_end),
        },
        options: state.options,
        abandoned: state.abandoned,
        has_directory: state.has_directory,
        swap: state.swap.clone(),
        seals: core::mem::take(&mut state.seals),
    }))
}

/// The log takes over what has been committed. Answers the segments that are no longer part of it.
pub(super) fn install(outcome: &Outcome) -> Vec<SegmentId> {
    let snapshot = &outcome.snapshot;
    let mut state = lock(&snapshot.log.state);
    state.flushing = false;
    state.abandoned = if outcome.is_done() { 0 } else { state.abandoned + u32::from(outcome.abandons()) };
    if outcome.swapped.is_some_and(|swapped| swapped != Swapped::Halfway) {
        state.swap = None;
    }
    let Some(new) = &outcome.state else { return Vec::new() };
    let new = Arc::new(new.clone());
    let is_same = |id: SegmentId| new.segments.iter().any(|kept| kept.id == id);
    let gone = snapshot.committed.segments.iter().map(|segment| segment.id).filter(|id| !is_same(*id)).collect();
    if outcome.is_done() || Arc::ptr_eq(&state.base, &state.committed) {
        state.base = Arc::clone(&new);
    }
    state.committed = new;
    let end = state.base.end;
    let flushed = if outcome.is_done() { state.tail.drop_below(end) } else { Default::default() };
    drop(state);
    drop(flushed);
    gone
}
