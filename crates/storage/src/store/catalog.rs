//! All logs of a store, and the lists of what a checkpoint has to do; the place where durable frames arrive.
//!
//! Invariants
//! - Groups are taken in whole and in order, under one lock: whoever holds that lock sees every log as of the end of one group.
//! - A log that is dirty is on the list exactly once.
//! - Lock order: `apply`, then `logs`, then a log's state. The WAL takes none of them while it holds its own.
//!
//! Not here: what a frame does to its log (`log::state`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use quipu_base::TopicIdPartition;
use quipu_records::HEADER_BYTES;

use crate::{
    lock,
    log::LogShared,
    partition::{PartitionState, Partitions},
    tail::{FRAME_OVERHEAD_BYTES, TailBudget, TailPermit, frame_cost},
    wal::{DurableFrame, FrameKind, GroupSequence, WalSink},
};

/// Logs, and what became durable of them.
pub(crate) struct Catalog {
    logs: Mutex<BTreeMap<TopicIdPartition, Arc<LogShared>>>,
    pub(crate) apply: Mutex<Applied>,
    pub(crate) tail: Arc<TailBudget>,
    /// A checkpoint is due when so many bytes have been taken in.
    due_bytes: usize,
    /// What a log that was never flushed is flushed to: shared by all of them.
    empty: Arc<PartitionState>,
}

/// What has been taken in so far and is not yet in the manifest.
#[derive(Default)]
pub(crate) struct Applied {
    /// The last group taken in.
    pub(crate) group: GroupSequence,
    /// Bytes of groups taken in since the last checkpoint began.
    pub(crate) bytes: usize,
    pub(crate) dirty: Vec<Arc<LogShared>>,
    pub(crate) deleted: Vec<Deleted>,
}

/// A partition that was deleted.
pub(crate) struct Deleted {
    pub(crate) partition: TopicIdPartition,
    /// The group that says so.
    pub(crate) group: GroupSequence,
}

impl Catalog {
    pub(crate) fn new(tail: Arc<TailBudget>, due_bytes: usize) -> Self {
        Self {
            logs: Mutex::new(BTreeMap::new()),
            apply: Mutex::new(Applied::default()),
            tail,
            due_bytes,
            empty: Arc::new(PartitionState::default()),
        }
    }

    /// The log of a partition, made if there is none.
    pub(crate) fn log(&self, partition: TopicIdPartition) -> Arc<LogShared> {
        let mut logs = lock(&self.logs);
        let make = || Arc::new(LogShared::new(partition, Arc::clone(&self.empty)));
        Arc::clone(logs.entry(partition).or_insert_with(make))
    }

    pub(crate) fn find(&self, partition: TopicIdPartition) -> Option<Arc<LogShared>> {
        lock(&self.logs).get(&partition).map(Arc::clone)
    }

    pub(crate) fn insert(&self, log: LogShared) {
        lock(&self.logs).insert(log.partition, Arc::new(log));
    }

    /// All logs, by partition.
    pub(crate) fn all(&self) -> Vec<Arc<LogShared>> {
        lock(&self.logs).values().map(Arc::clone).collect()
    }

    /// What the manifest has of all logs.
    pub(crate) fn committed(&self) -> Partitions {
        let committed = |log: Arc<LogShared>| {
            let committed = Arc::clone(&lock(&log.state).committed);
            (!Arc::ptr_eq(&committed, &self.empty)).then_some((log.partition, committed))
        };
        self.all().into_iter().filter_map(committed).collect()
    }

    /// Whether a checkpoint is due.
    pub(crate) fn is_due(&self) -> bool {
        lock(&self.apply).bytes > self.due_bytes
    }

    /// Takes a deleted log out, unless another has taken its place.
    fn remove(&self, log: &Arc<LogShared>) {
        let mut logs = lock(&self.logs);
        if logs.get(&log.partition).is_some_and(|known| Arc::ptr_eq(known, log)) {
            logs.remove(&log.partition);
        }
    }

    /// Puts a log on the list of those to be flushed, if it is not on it.
    pub(crate) fn mark_dirty(applied: &mut Applied, log: &Arc<LogShared>) {
        let mut state = lock(&log.state);
        if !state.dirty && !state.gone {
            state.dirty = true;
            applied.dirty.push(Arc::clone(log));
        }
    }

    /// Takes a log out that has been deleted by a frame of `group`.
    pub(crate) fn finish_delete(&self, applied: &mut Applied, log: &Arc<LogShared>, group: GroupSequence) {
        self.remove(log);
        applied.deleted.push(Deleted { partition: log.partition, group });
    }

    fn take_in(&self, applied: &mut Applied, frame: DurableFrame, buffer: &Arc<TailPermit>) {
        let log = self.log(frame.partition);
        let (kind, group) = (frame.kind, frame.group);
        let dropped = lock(&log.state).apply_durable(frame, buffer);
        drop(dropped);
        if kind == FrameKind::PartitionDelete {
            self.finish_delete(applied, &log, group);
        } else {
            Self::mark_dirty(applied, &log);
        }
    }
}

impl WalSink for Catalog {
    fn on_durable(&self, group: GroupSequence, group_bytes: usize, frames: Vec<DurableFrame>) {
        if frames.is_empty() {
            lock(&self.apply).group = group;
            return;
        }
        let reserved: usize = frames.iter().map(|frame| frame_cost(frame.payload.len())).sum();
        let buffer = Arc::new(self.tail.take(group_bytes + frames.len() * FRAME_OVERHEAD_BYTES));
        {
            let mut applied = lock(&self.apply);
            for frame in frames {
                debug_assert!(frame.kind != FrameKind::Append || frame.payload.len() >= HEADER_BYTES);
                self.take_in(&mut applied, frame, &buffer);
            }
            applied.group = group;
            applied.bytes += group_bytes;
        }
        drop(buffer);
        self.tail.release(reserved);
        if self.is_due() || self.tail.is_short() {
            self.tail.pressure.notify_one();
        }
    }
}

/// Logs for whom a round could not do everything; they go back on the list.
pub(crate) fn put_back(catalog: &Catalog, logs: impl IntoIterator<Item = Arc<LogShared>>) {
    let mut applied = lock(&catalog.apply);
    for log in logs {
        Catalog::mark_dirty(&mut applied, &log);
    }
}
