//! The segments that are open: at most so many files, and at most so much memory for their indexes.
//!
//! Invariant: dropping one from here loses nothing; it is opened, and its index built, again when needed. Whoever holds it goes
//! on using it.
//!
//! Not here: what an open segment can do (`read`, `check`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use quipu_base::{TopicIdPartition, limits::MIB};
use quipu_env::{Clock, Disk, Env, File, OpenOptions};

use super::{Contents, FileOf, OpenSegment, partition_dir};
use crate::{ReadError, lock, partition::SegmentId};

/// Memory for indexes. A full segment of 1 GiB has one of 3 MiB.
const INDEX_BYTES_MAX: usize = 32 * MIB;

type Key = (TopicIdPartition, SegmentId);

/// The segment files of a store.
pub(crate) struct SegmentFiles<E: Env> {
    env: E,
    dir: PathBuf,
    files_max: usize,
    slots: Mutex<Slots<E>>,
}

struct Slots<E: Env> {
    by_key: BTreeMap<Key, Slot<E>>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    index_bytes: usize,
}

struct Slot<E: Env> {
    segment: Arc<OpenSegment<FileOf<E>>>,
    last_use: u64,
    index_bytes: usize,
}

impl<E: Env> SegmentFiles<E> {
    pub(crate) fn new(env: E, dir: &Path, files_max: usize) -> Self {
        let slots = Slots { by_key: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0, index_bytes: 0 };
        Self { env, dir: dir.to_owned(), files_max: files_max.max(1), slots: Mutex::new(slots) }
    }

    pub(crate) fn path(&self, partition: TopicIdPartition, id: SegmentId) -> PathBuf {
        partition_dir(&self.dir, partition).join(id.file_name())
    }

    /// A segment that the manifest has.
    pub(crate) async fn get(
        &self,
        partition: TopicIdPartition,
        id: SegmentId,
    ) -> Result<Arc<OpenSegment<FileOf<E>>>, ReadError> {
        let known = lock(&self.slots).touch((partition, id));
        if let Some(segment) = known {
            if !lock(&segment.contents).is_stale(self.env.clock().now()) {
                return Ok(segment);
            }
            self.forget(partition, id);
        }
        let path = self.path(partition, id);
        let opened = self.env.disk().open(&path, OpenOptions::WRITE).await;
        let file = opened.map_err(|error| ReadError::io(&path, &error))?;
        Ok(self.insert(partition, id, file))
    }

    /// A segment, if it is open.
    pub(crate) fn find(&self, partition: TopicIdPartition, id: SegmentId) -> Option<Arc<OpenSegment<FileOf<E>>>> {
        lock(&self.slots).touch((partition, id))
    }

    /// Makes an empty file for a new segment. Its name becomes durable with the directory's sync, which is the caller's.
    pub(crate) async fn create(
        &self,
        partition: TopicIdPartition,
        id: SegmentId,
    ) -> std::io::Result<Arc<OpenSegment<FileOf<E>>>> {
        self.forget(partition, id);
        let path = self.path(partition, id);
        // One that an earlier process has left may have lost its name to a sync that failed, and then gets none that is durable.
        match self.env.disk().remove(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.env.disk().open(&path, OpenOptions::CREATE_NEW).await?;
        Ok(self.insert(partition, id, file))
    }

    /// Closes a segment whose file has gone, or whose contents are not what they were taken for.
    pub(crate) fn forget(&self, partition: TopicIdPartition, id: SegmentId) {
        let removed = lock(&self.slots).remove((partition, id));
        drop(removed);
    }

    /// Closes all segments of a partition.
    pub(crate) fn forget_partition(&self, partition: TopicIdPartition) {
        let mut slots = lock(&self.slots);
        let keys: Vec<Key> = slots.by_key.keys().filter(|(of, _)| *of == partition).copied().collect();
        let removed: Vec<_> = keys.into_iter().map(|key| slots.remove(key)).collect();
        drop(slots);
        drop(removed);
    }

    /// Forgets what was checked of the segment in this file, if it is open.
    pub(crate) fn distrust(&self, path: &Path) {
        let slots = lock(&self.slots);
        let slot = slots.by_key.values().find(|slot| slot.segment.file.path() == path);
        if let Some(slot) = slot {
            slot.segment.distrust();
        }
    }

    /// Files held open here, for statistics.
    pub(crate) fn open_count(&self) -> usize {
        lock(&self.slots).by_key.len()
    }

    fn insert(&self, partition: TopicIdPartition, id: SegmentId, file: FileOf<E>) -> Arc<OpenSegment<FileOf<E>>> {
        debug_assert!(!file.is_direct(), "segments go through the page cache");
        let contents = Mutex::new(Contents::new(id.base, self.env.clock().now()));
        let segment = Arc::new(OpenSegment { partition, id, file, contents, loading: tokio::sync::Mutex::new(()) });
        let mut slots = lock(&self.slots);
        // Of two that were opened at once the first stays.
        if let Some(known) = slots.touch((partition, id)) {
            return known;
        }
        slots.add((partition, id), Arc::clone(&segment));
        let evicted = slots.shrink(self.files_max);
        drop(slots);
        drop(evicted);
        segment
    }
}

impl<E: Env> Slots<E> {
    fn touch(&mut self, key: Key) -> Option<Arc<OpenSegment<FileOf<E>>>> {
        let slot = self.by_key.get_mut(&key)?;
        self.by_use.remove(&slot.last_use);
        self.uses += 1;
        slot.last_use = self.uses;
        self.by_use.insert(self.uses, key);
        // The index grows while the segment is used: it is measured anew at each use.
        let bytes = lock(&slot.segment.contents).memory_bytes();
        self.index_bytes = self.index_bytes - slot.index_bytes + bytes;
        slot.index_bytes = bytes;
        Some(Arc::clone(&slot.segment))
    }

    fn add(&mut self, key: Key, segment: Arc<OpenSegment<FileOf<E>>>) {
        self.uses += 1;
        let index_bytes = lock(&segment.contents).memory_bytes();
        self.index_bytes += index_bytes;
        self.by_key.insert(key, Slot { segment, last_use: self.uses, index_bytes });
        self.by_use.insert(self.uses, key);
    }

    fn remove(&mut self, key: Key) -> Option<Arc<OpenSegment<FileOf<E>>>> {
        let slot = self.by_key.remove(&key)?;
        self.by_use.remove(&slot.last_use);
        self.index_bytes -= slot.index_bytes;
        Some(slot.segment)
    }

    /// Closes those longest unused until the rest is within the limits; the newest stays.
    fn shrink(&mut self, files_max: usize) -> Vec<Arc<OpenSegment<FileOf<E>>>> {
        let mut evicted = Vec::new();
        while self.by_key.len() > files_max || (self.index_bytes > INDEX_BYTES_MAX && self.by_key.len() > 1) {
            let Some(oldest) = self.by_use.first_key_value().map(|(_, key)| *key) else { break };
            evicted.extend(self.remove(oldest));
        }
        evicted
    }
}
