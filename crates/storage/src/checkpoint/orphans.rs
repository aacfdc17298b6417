//! Removing files: those that an edit of the manifest has dropped, and those that a crash has left behind.
//!
//! Invariants
//! - Only files are removed that the durable manifest does not have.
//! - Done by the checkpoint's task, between rounds, and while no repair of the partition is being prepared: no file is being made
//!   meanwhile.
//!
//! Not here: WAL files, which are used again, and what lies outside `seg`.

use std::{collections::BTreeSet, io, path::Path};

use quipu_base::TopicIdPartition;
use quipu_env::{Disk, Env};

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
pub(crate) struct OrphanSearch {
    dirs: std::vec::IntoIter<String>,
}

impl OrphanSearch {
    pub(crate) async fn begin<E: Env>(store: &Shared<E>) -> Self {
        let dir = segments_dir(&store.options.directory);
        let names = store.env.disk().list(&dir).await.unwrap_or_default();
        Self { dirs: names.into_iter() }
    }

    /// Looks through the next `count` directories. Whether there are more.
    pub(crate) async fn advance<E: Env>(&mut self, store: &Shared<E>, count: usize) -> bool {
        for name in self.dirs.by_ref().take(count) {
            // What is not named as ours is not ours to remove.
            if let Some(partition) = parse_partition_dir(&name) {
                clean(store, partition).await;
            }
        }
        self.dirs.len() > 0
    }
}

async fn clean<E: Env>(store: &Shared<E>, partition: TopicIdPartition) {
    let Some(log) = store.catalog.find(partition) else {
        return remove_unknown(store, partition, &BTreeSet::new()).await;
    };
    let known = {
        let mut state = lock(&log.state);
        // What is left of a start that was cut off is looked for again by the next one.
        if state.cutting || !state.changes.is_empty() {
            return;
        }
        state.flushing = true;
        let segments = state.committed.segments.iter().chain(&state.base.segments);
        segments.map(|segment| segment.id.file_name()).collect()
    };
    remove_unknown(store, partition, &known).await;
    lock(&log.state).flushing = false;
    store.rounds.send_modify(|round| *round += 1);
}

async fn remove_unknown<E: Env>(store: &Shared<E>, partition: TopicIdPartition, known: &BTreeSet<String>) {
    if known.is_empty() {
        if remove_partition(store, partition).await {
            tracing::info!(%partition, "removed what a stopped start has left of a partition");
        }
        return;
    }
    let dir = partition_dir(&store.options.directory, partition);
    for name in store.env.disk().list(&dir).await.unwrap_or_default() {
        if !known.contains(&name) && remove_file(store, &dir.join(&name)).await {
            tracing::info!(%partition, name, "removed a segment file that the manifest does not have");
        }
    }
}
