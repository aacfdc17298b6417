//! One checkpoint: what is durable in the WAL goes to segments, the manifest says so, and the WAL's space is used again.
//!
//! ```text
//! 1 take the lists of dirty logs and deleted partitions, and the number of the group they are as of
//! 2 flush every log: segments written and synced, new files' directories synced
//! 3 one edit of the manifest, durable
//! 4 logs take over their new states, the tails shrink
//! 5 the WAL recycles what the edit covers
//! 6 files that the edit has dropped are removed
//! ```
//!
//! Invariants
//! - The edit covers a group only if everything of that group, of every log, is in it or in an earlier one.
//! - A log that can't be flushed holds back what is covered, not the other logs.
//! - Nothing of an edit is relied on before it is durable; a failed round leaves everything as it was, and can be tried again.
//!
//! Not here: when rounds are made (`task`); how one log is written (`flush`); files left behind by a crash (`orphans`).

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{Timestamp, TopicIdPartition};
use quipu_env::{Clock, Disk, Env, Instant, Probe};

use super::{
    flush::{Flushed, flush, without_tail},
    snapshot::{Outcome, Snapshot, Taken, install, is_full, take_snapshot},
};
use crate::{
    concurrent::join_bounded,
    error::CheckpointError,
    lock,
    log::LogShared,
    manifest::{Contents, Edit, Manifest, Tombstones},
    partition::SegmentId,
    segment::segments_dir,
    store::{
        Shared,
        catalog::{Deleted, put_back},
    },
    wal::GroupSequence,
};

/// Logs flushed at once. The pool that serves their files has four threads.
const FLUSHES_AT_ONCE: usize = 8;

/// Makes checkpoints. There is one per store.
pub(crate) struct Checkpointer<E: Env> {
    pub(crate) store: Arc<Shared<E>>,
    pub(crate) manifest: Manifest<E>,
    /// The manifest covers the WAL up to this group.
    pub(crate) covered: GroupSequence,
    pub(crate) tombstones: Tombstones,
    /// Partitions that are deleted in the manifest, whose files are still to be removed.
    pub(crate) removals: Vec<TopicIdPartition>,
    /// Files of segments that are no part of their logs any more, with the time when they are to go (`file.delete.delay.ms`).
    pub(crate) later: Vec<(Instant, TopicIdPartition, SegmentId)>,
}

/// Whether a round may say that whole groups are covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Covering {
    /// Yes: all there is has been taken in.
    Groups,
    /// No: a scan of the WAL is under way, and may still find damage in what has been read.
    LogsOnly,
}

/// What a round begins with.
struct Work {
    group: GroupSequence,
    snapshots: Vec<Snapshot>,
    /// Dirty, but not to be flushed now.
    busy: Vec<Arc<LogShared>>,
    deleted: Vec<Deleted>,
}

/// What a round is about to commit.
struct Round {
    covered: GroupSequence,
    outcomes: Vec<Outcome>,
    busy: Vec<Arc<LogShared>>,
    deleted: Vec<Deleted>,
}

impl<E: Env> Checkpointer<E> {
    /// Makes one checkpoint.
    ///
    /// Errors: the first one met; what could be done has been done, and the rest stays to be done.
    pub(crate) async fn round(&mut self, covering: Covering) -> Result<(), CheckpointError> {
        let store = Arc::clone(&self.store);
        store.env.probe().crash_point("checkpoint.begin");
        self.tell("checkpoint.begun");
        self.remove_deleted().await;
        let Work { group, snapshots, busy, deleted } = self.take_work();
        if let Some(wal) = store.wal.get().filter(|_| store.env.probe().planted("checkpoint.recycled-early")) {
            wal.recycle_below(group.next());
        }
        let now = store.env.clock().wall();
        let jobs = snapshots.into_iter().map(|snapshot| flush_one(&store, snapshot, now));
        let outcomes = join_bounded(FLUSHES_AT_ONCE, jobs).await;
        let all_done = (busy.is_empty() && outcomes.iter().all(Outcome::is_done))
            || store.env.probe().planted("checkpoint.covers-unflushed");
        let covered = if all_done && covering == Covering::Groups { self.covered.max(group) } else { self.covered };
        let round = Round { covered, outcomes, busy, deleted };
        if let Err(error) = self.sync_names(&round).await {
            self.remake_directories(&round).await;
            self.give_up(round);
            return Err(error);
        }
        if let Err(error) = self.commit(&round).await {
            self.give_up(round);
            return Err(error);
        }
        store.env.probe().crash_point("checkpoint.committed");
        self.finish(round).await
    }

    fn take_work(&self) -> Work {
        let (group, dirty, deleted) = {
            let mut applied = lock(&self.store.catalog.apply);
            applied.bytes = 0;
            (applied.group, std::mem::take(&mut applied.dirty), std::mem::take(&mut applied.deleted))
        };
        let mut work = Work { group, snapshots: Vec::new(), busy: Vec::new(), deleted };
        for log in dirty {
            // Files of a deleted partition with the same name go first.
            let is_name_taken = work.deleted.iter().any(|deleted| deleted.partition == log.partition)
                || self.removals.contains(&log.partition);
            // One log after the other, each as of the end of a group.
            let _applied = lock(&self.store.catalog.apply);
            match take_snapshot(&log, is_name_taken) {
                Taken::Snapshot(snapshot) => work.snapshots.push(*snapshot),
                Taken::Busy => {
                    self.store.env.probe().sometimes("checkpoint.log-busy");
                    work.busy.push(log);
                }
                Taken::Deleted => self.store.env.probe().sometimes("checkpoint.log-deleted"),
            }
        }
        work
    }

    /// Makes the names of new directories durable.
    async fn sync_names(&self, round: &Round) -> Result<(), CheckpointError> {
        let store = &self.store;
        let made: Vec<_> = round.outcomes.iter().filter(|outcome| outcome.made_dir).collect();
        if made.is_empty() {
            return Ok(());
        }
        if !store.env.probe().planted("checkpoint.directory-name-unsynced") {
            store.env.disk().sync_dir(&segments_dir(&store.options.directory)).await?;
        }
        for outcome in made {
            lock(&outcome.snapshot.log.state).has_directory = true;
        }
        Ok(())
    }

    /// If it was the sync of its name that failed, only another directory can get a durable name. No manifest has its files yet.
    async fn remake_directories(&self, round: &Round) {
        if self.store.env.probe().planted("checkpoint.directory-name-trusted") {
            return;
        }
        for outcome in round.outcomes.iter().filter(|outcome| outcome.made_dir) {
            self.store.env.probe().sometimes("checkpoint.directory-made-anew");
            self.store.segments.forget_partition(outcome.snapshot.log.partition);
            super::orphans::remove_partition(&self.store, outcome.snapshot.log.partition).await;
        }
    }

    async fn commit(&mut self, round: &Round) -> Result<(), CheckpointError> {
        let store = Arc::clone(&self.store);
        store.env.probe().crash_point("checkpoint.flushed");
        if self.manifest.should_replace() {
            match self.replace_manifest(round).await {
                // An edit goes to where space is allocated already, so it may free some.
                Err(error) if is_full(&error) && self.manifest.can_append() => {
                    store.env.probe().sometimes("checkpoint.edit-for-want-of-room");
                }
                result => return result,
            }
        }
        let updates: Vec<_> = round
            .outcomes
            .iter()
            .filter_map(|outcome| {
                let state = outcome.to_commit()?;
                Some((outcome.snapshot.log.partition, outcome.snapshot.committed.update_to(state)))
            })
            .collect();
        if updates.is_empty() && round.deleted.is_empty() && round.covered == self.covered {
            store.env.probe().sometimes("checkpoint.nothing-new");
            return Ok(());
        }
        let deleted = round.deleted.iter().map(|deleted| (deleted.partition, deleted.group.0)).collect();
        self.manifest.append(&Edit { covered: round.covered.0, updates, deleted }).await
    }

    async fn replace_manifest(&mut self, round: &Round) -> Result<(), CheckpointError> {
        let mut partitions = self.store.catalog.committed();
        for outcome in &round.outcomes {
            if let Some(state) = outcome.to_commit() {
                partitions.insert(outcome.snapshot.log.partition, Arc::new(state.clone()));
            }
        }
        let mut tombstones = self.tombstones.clone();
        tombstones.extend(round.deleted.iter().map(|deleted| (deleted.partition, deleted.group)));
        tombstones.retain(|_, group| *group > round.covered);
        let contents = Contents { covered: round.covered, tombstones: &tombstones, partitions: &partitions };
        self.manifest.replace(&contents).await
    }

    /// Nothing of the round counts: everything goes back on the lists. But if it was the manifest that failed, a later start may find
    /// what was to be said: no file goes.
    fn give_up(&self, round: Round) {
        self.store.env.probe().sometimes("checkpoint.given-up");
        let mut logs = round.busy;
        for outcome in round.outcomes {
            // Its index may have taken in what does not count.
            self.forget_open_segment(&outcome.snapshot);
            let mut state = lock(&outcome.snapshot.log.state);
            state.flushing = false;
            state.abandoned += u32::from(outcome.abandons());
            drop(state);
            logs.push(outcome.snapshot.log);
        }
        lock(&self.store.catalog.apply).deleted.extend(round.deleted);
        if !self.store.env.probe().planted("checkpoint.failed-round-forgotten") {
            put_back(&self.store.catalog, logs);
        }
        self.store.rounds.send_modify(|round| *round += 1);
    }

    /// The commit takes effect. Error: that of the first log that could not be flushed.
    async fn finish(&mut self, round: Round) -> Result<(), CheckpointError> {
        let store = Arc::clone(&self.store);
        let mut unfinished = round.busy;
        let mut removed = Vec::new();
        let mut result = Ok(());
        for outcome in round.outcomes {
            let leaves_some = outcome.leaves_some();
            let due = store.env.clock().now() + Duration::from_millis(outcome.snapshot.options.file_delete_delay_ms);
            removed.extend(install(&outcome).into_iter().map(|id| (due, outcome.snapshot.log.partition, id)));
            if let Some(error) = outcome.error {
                store.env.probe().sometimes("checkpoint.log-not-flushed");
                tracing::warn!(partition = %outcome.snapshot.log.partition, %error, "a log could not be flushed; it stays in the WAL");
                self.forget_open_segment(&outcome.snapshot);
                unfinished.push(outcome.snapshot.log);
                result = result.and(Err(error));
            } else if leaves_some {
                store.env.probe().sometimes("checkpoint.segments-left");
                unfinished.push(outcome.snapshot.log);
            }
        }
        put_back(&store.catalog, unfinished);
        self.covered = round.covered;
        self.tombstones.extend(round.deleted.iter().map(|deleted| (deleted.partition, deleted.group)));
        self.tombstones.retain(|_, group| *group > round.covered);
        if let Some(wal) = store.wal.get() {
            wal.recycle_below(round.covered.next());
        }
        store.rounds.send_modify(|round| *round += 1);
        store.env.probe().crash_point("checkpoint.recycled");
        self.later.extend(removed);
        self.remove_due(false).await;
        // One that comes back under the same name has files with these names, too.
        self.later.retain(|(_, partition, _)| round.deleted.iter().all(|deleted| deleted.partition != *partition));
        self.removals.extend(round.deleted.iter().map(|deleted| deleted.partition));
        self.remove_deleted().await;
        store.env.probe().crash_point("checkpoint.finished");
        self.tell("checkpoint.done");
        result
    }

    /// For whoever watches: how much of the memory for what is in no segment is used.
    fn tell(&self, name: &'static str) {
        let Shared { env, options, catalog, .. } = &*self.store;
        let number = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        env.probe().event(name, &[("tail", number(catalog.tail.used())), ("tail-limit", number(options.tail_bytes))]);
    }

    fn forget_open_segment(&self, snapshot: &Snapshot) {
        if let Some(last) = snapshot.base.segments.last().filter(|last| !last.sealed) {
            self.store.segments.forget(snapshot.log.partition, last.id);
        }
    }

    /// Removes the files of segments that have waited long enough, or all that wait. The next start removes what is left.
    pub(crate) async fn remove_due(&mut self, all: bool) {
        let store = Arc::clone(&self.store);
        let now = store.env.clock().now();
        let due: Vec<_> = self.later.extract_if(.., |(due, ..)| all || *due <= now).collect();
        for (_, partition, id) in due {
            store.segments.forget(partition, id);
            super::orphans::remove_file(&store, &store.segments.path(partition, id)).await;
        }
    }

    /// Removes the files of deleted partitions. What can't be removed is tried again in the next round.
    async fn remove_deleted(&mut self) {
        for partition in std::mem::take(&mut self.removals) {
            self.store.segments.forget_partition(partition);
            if !super::orphans::remove_partition(&self.store, partition).await {
                self.store.env.probe().sometimes("checkpoint.files-stay");
                self.removals.push(partition);
            }
        }
    }
}

async fn flush_one<E: Env>(store: &Shared<E>, snapshot: Snapshot, now: Timestamp) -> Outcome {
    let mut made_dir = false;
    match flush(store, &snapshot, now, &mut made_dir).await {
        Ok(Flushed { state, swapped }) => Outcome { snapshot, state: Some(state), swapped, made_dir, error: None },
        Err(error) => {
            let state = without_tail(store, &snapshot, now).await;
            Outcome { snapshot, state, swapped: None, made_dir, error: Some(error) }
        }
    }
}
