//! Removing files: those that an edit of the manifest has dropped, and those that a crash has left behind.
//!
//! Invariants
//! - Only files are removed that the durable manifest does not have.
//! - Done by the checkpoint's task, between rounds, and while neither a repair nor compaction of the partition is under way: no file is being made
//!   meanwhile.
//!
//! Not here: WAL files, which are used again, and what lies outside `seg`.

use std::{collections::BTreeSet, io, path::Path};

use quipu_base::TopicIdPartition;
use quipu_env::{Disk, Env, Probe};

use crate::{
    lock,
    segment::{parse_partition_dir, partition_dir, segments_dir},
    store::Shared,
};

/// Removes a file; one that is not there is as good. Whether it is gone.
pub(super) async fn remove_file<E: Env>(store: &Shared<E>, path: &Path) -> bool {
    match store.env.disk().remove(path).await {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a file that is no longer needed could not be removed");
            false
        }
    }
}

/// Removes a partition's directory with all its files. Whether it is gone.
pub(super) async fn remove_partition<E: Env>(store: &Shared<E>, partition: TopicIdPartition) -> bool {
    let dir = partition_dir(&store.options.directory, partition);
    let names = match store.env.disk().list(&dir).await {
        Ok(names) => names,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    for name in names {
        if !remove_file(store, &dir.join(name)).await {
            return false;
        }
    }
    match store.env.disk().remove_dir(&dir).await {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// What a crash may have left behind, to be looked through piece by piece.
#[derive(Default)]
pub(crate) struct OrphanSearch {
    is_begun: bool,
    dirs: Vec<TopicIdPartition>,
    /// Those that could not be listed, or not be emptied: they are looked through again.
    stuck: Vec<TopicIdPartition>,
}

/// How a search goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// There is more to look through.
    More,
    /// What is left can't be looked through just now.
    Stuck,
    /// All has been looked through.
    Done,
}

impl OrphanSearch {
    /// Looks through the next `count` directories.
    pub(crate) async fn advance<E: Env>(&mut self, store: &Shared<E>, count: usize) -> Progress {
        if !self.is_begun {
            let Some(names) = list(store, &segments_dir(&store.options.directory)).await else {
                return Progress::Stuck;
            };
            self.is_begun = true;
            // What is not named as ours is not ours to remove.
            self.dirs = names.iter().rev().filter_map(|name| parse_partition_dir(name)).collect();
        }
        for _ in 0..count {
            let Some(partition) = self.dirs.pop() else { break };
            if !clean(store, partition).await {
                self.stuck.push(partition);
            }
        }
        if !self.dirs.is_empty() {
            return Progress::More;
        }
        self.dirs = core::mem::take(&mut self.stuck);
        if self.dirs.is_empty() { Progress::Done } else { Progress::Stuck }
    }
}

/// Names in a directory, none if it is not there; `None` if that can't be told.
async fn list<E: Env>(store: &Shared<E>, dir: &Path) -> Option<Vec<String>> {
    match store.env.disk().list(dir).await {
        Ok(names) => Some(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(error) => {
            store.env.probe().sometimes("checkpoint.orphans-not-listed");
            tracing::warn!(directory = %dir.display(), %error, "a directory can't be looked through for files that are no longer needed");
            None
        }
    }
}

/// Removes what the manifest does not have of a partition. Whether nothing of it is left.
async fn clean<E: Env>(store: &Shared<E>, partition: TopicIdPartition) -> bool {
    let Some(log) = store.catalog.find(partition) else {
        return remove_unknown(store, partition, &BTreeSet::new()).await;
    };
    let known = {
        let mut state = lock(&log.state);
        if state.cutting || state.cleaning || !state.changes.is_empty() {
            return false;
        }
        // This process has emptied it and made it anew: what lies there is its own, and the next round goes on in it.
        if state.has_directory {
            return true;
        }
        state.flushing = true;
        let segments = state.committed.segments.iter().chain(&state.base.segments);
        let swap = state.swap.iter().map(|swap| &swap.new);
        segments.chain(swap).map(|segment| segment.id.file_name()).collect()
    };
    let is_clean = remove_unknown(store, partition, &known).await;
    lock(&log.state).flushing = false;
    store.rounds.send_modify(|round| *round += 1);
    is_clean
}

async fn remove_unknown<E: Env>(store: &Shared<E>, partition: TopicIdPartition, known: &BTreeSet<String>) -> bool {
    if known.is_empty() {
        let is_gone = remove_partition(store, partition).await;
        if is_gone {
            tracing::info!(%partition, "removed what a stopped start has left of a partition");
        }
        return is_gone;
    }
    let dir = partition_dir(&store.options.directory, partition);
    let Some(names) = list(store, &dir).await else { return false };
    let mut is_clean = true;
    for name in names.iter().filter(|name| !known.contains(*name)) {
        if remove_file(store, &dir.join(name)).await {
            tracing::info!(%partition, name, "removed a segment file that the manifest does not have");
        } else {
            is_clean = false;
        }
    }
    is_clean
}
