//! The store of one data directory: its partitions' logs on one write-ahead log.
//!
//! ```text
//! <data-dir>/lock         held while a process uses the directory
//!            superblock   who the directory is, what of the WAL counts        `superblock`
//!            wal/         the write-ahead log                                 `wal`
//!            seg/         segments, per partition                             `segment`, `footer`
//!            manifest     which segments exist, what the WAL need not say     `manifest`
//!            cut/         what recovery cut from the WAL's end
//!
//! append -> WAL -> durable -> tail -> checkpoint -> segments, manifest -> WAL space used again
//! ```
//!
//! Invariants
//! - What a ticket promises is found again after any crash, in order, once.
//! - Memory is bounded by the tail's budget; who would exceed it waits, or is told that the store is full.
//!
//! Not here: what to delete and when; who may write. Read `open` for the start, `catalog` for what becomes durable,
//! `crate::checkpoint` for what follows.

pub(crate) mod catalog;
mod identity;
mod open;
mod recovery;
mod repair;
mod reserve;

use core::fmt;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use quipu_base::{
    BrokerId, LeaderEpoch, Offset, TopicIdPartition,
    limits::{
        INDEX_INTERVAL_BYTES, MEMORY_TAIL_BYTES, MEMORY_TAIL_RESERVE_BYTES, OPEN_FILES_MAX, PRODUCER_EXPIRATION_MS,
        WAL_FILE_BYTES, WAL_TOTAL_BYTES,
    },
};
use quipu_env::{Disk, Env, ShardId, Task, watch};

use catalog::Catalog;
pub use identity::{Identity, IdentityError, reidentify};
pub(crate) use open::LOCK_FILE_NAME;
pub use open::{OpenError, OpenReport};

use crate::{
    Log, Reservation, StoreFull,
    checkpoint::Requests,
    lock,
    segment::SegmentFiles,
    superblock::{self, Superblock},
    tail::{TailBudget, frame_cost},
    wal::{Class, Frame, FrameKind, Ticket, Wal},
};

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory. Made if there is none.
    pub directory: PathBuf,
    /// The node whose directory it is.
    pub node_id: BrokerId,
    /// Largest size of one WAL file, bytes.
    pub wal_file_bytes: u64,
    /// Largest size of all WAL files together, bytes.
    pub wal_total_bytes: u64,
    /// Memory for batches that are not in a segment yet, bytes.
    pub tail_bytes: usize,
    /// The part of it that only [`Class::Reserve`] may use, bytes.
    pub tail_reserve_bytes: usize,
    /// Whether the WAL bypasses the page cache where the file system can.
    pub direct: bool,
    /// The shard on which the store's tasks run.
    pub shard: ShardId,
    /// A producer id unused for this long is forgotten.
    pub producer_expiration_ms: i64,
    /// Segment files held open at once.
    pub open_files_max: usize,
    /// Bytes of log between two entries of a sparse index.
    pub index_interval_bytes: u32,
}

impl StoreOptions {
    /// The defaults.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, node_id: BrokerId) -> Self {
        Self {
            directory: directory.into(),
            node_id,
            wal_file_bytes: WAL_FILE_BYTES,
            wal_total_bytes: WAL_TOTAL_BYTES,
            tail_bytes: MEMORY_TAIL_BYTES,
            tail_reserve_bytes: MEMORY_TAIL_RESERVE_BYTES,
            direct: true,
            shard: ShardId(0),
            producer_expiration_ms: PRODUCER_EXPIRATION_MS,
            open_files_max: OPEN_FILES_MAX,
            index_interval_bytes: INDEX_INTERVAL_BYTES,
        }
    }

    /// Bytes of records that one step may have wherever these are the options: a WAL file and the tail have room for them, with what
    /// batches take besides, which for the smallest is twice as much.
    pub(crate) fn step_bytes_max(&self) -> usize {
        let wal_file = usize::try_from(self.wal_file_bytes / 4).unwrap_or(usize::MAX);
        wal_file.min(self.tail_bytes / 8)
    }

    /// Bytes after which a checkpoint is due: half of what there is for them.
    fn due_bytes(&self) -> usize {
        let wal = usize::try_from(self.wal_total_bytes / 2).unwrap_or(usize::MAX);
        (self.tail_bytes / 2).min(wal)
    }
}

/// How full a store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreStats {
    /// Memory of batches that are not in a segment yet, or that readers hold, bytes.
    pub tail_bytes: usize,
    /// Bytes of WAL groups that no checkpoint covers yet.
    pub wal_used_bytes: u64,
    /// Bytes that the WAL may have.
    pub wal_total_bytes: u64,
    /// Segment files held open.
    pub open_segments: usize,
    /// The last checkpoint failed; it is tried again.
    pub is_stuck: bool,
}

/// What all parts of a store share.
pub(crate) struct Shared<E: Env> {
    pub(crate) env: E,
    pub(crate) options: StoreOptions,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) segments: SegmentFiles<E>,
    /// Set once recovery has read the old one.
    pub(crate) wal: OnceLock<Wal<E>>,
    /// Counts checkpoints, for those who wait for one to let go of a log.
    pub(crate) rounds: watch::Sender<u64>,
    pub(crate) requests: Requests,
    superblock: tokio::sync::Mutex<Superblock>,
    stuck: Mutex<bool>,
    /// Held until the last handle is gone.
    _lock: <E::Disk as Disk>::Lock,
}

impl<E: Env> Shared<E> {
    pub(crate) fn wal(&self) -> &Wal<E> {
        self.wal.get().expect("handles are given out once the WAL runs")
    }

    pub(crate) fn set_stuck(&self, stuck: bool) {
        *lock(&self.stuck) = stuck;
        self.catalog.tail.set_stuck(stuck);
        if let Some(wal) = self.wal.get() {
            wal.set_stuck(stuck);
        }
    }

    pub(crate) async fn reserve(&self, bytes: usize, class: Class) -> Result<Reservation<E>, StoreFull> {
        let tail = self.catalog.tail.reserve(frame_cost(bytes), class).await?;
        let wal = self.wal().reserve_space(bytes, class).await.map_err(|error| {
            tracing::debug!(%error, bytes, "no WAL space");
            StoreFull
        })?;
        Ok(Reservation { tail, wal })
    }
}

/// The store of one data directory. Clones are handles to the same one.
pub struct Store<E: Env>(Arc<Owner<E>>);

impl<E: Env> Clone for Store<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> fmt::Debug for Store<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("directory", &self.0.shared.options.directory).finish_non_exhaustive()
    }
}

struct Owner<E: Env> {
    shared: Arc<Shared<E>>,
    checkpoints: Mutex<Option<E::Task>>,
}

impl<E: Env> Drop for Owner<E> {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.checkpoints).take() {
            task.abort();
        }
    }
}

impl<E: Env> Store<E> {
    pub(crate) fn shared(&self) -> &Arc<Shared<E>> {
        &self.0.shared
    }

    /// The log of a partition. A new one costs no I/O before its first frame. After a delete, and until that is durable, it answers
    /// `Deleted`.
    #[must_use]
    pub fn log(&self, partition: TopicIdPartition) -> Log<E> {
        Log { log: self.shared().catalog.log(partition), store: Arc::clone(self.shared()) }
    }

    /// Partitions that have data, or had some: those that metadata does not know any more are to be deleted.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicIdPartition> {
        let logs = self.shared().catalog.all();
        logs.iter().filter(|log| lock(&log.state).has_data()).map(|log| log.partition).collect()
    }

    /// Deletes a partition; durable when the ticket is. Its handles answer `Deleted` at once, its files go away in the background.
    #[must_use]
    pub fn delete(&self, partition: TopicIdPartition) -> Ticket {
        let shared = self.shared();
        let log = shared.catalog.log(partition);
        let mut state = lock(&log.state);
        if state.deleted {
            return state.last_ticket;
        }
        state.deleted = true;
        // It is small, and it frees space: it goes through whatever is full.
        shared.catalog.tail.take(0).into_frame(frame_cost(0));
        state.last_ticket = shared.wal().submit(Frame {
            partition,
            kind: FrameKind::PartitionDelete,
            leader_epoch: LeaderEpoch::NONE,
            base_offset: Offset::ZERO,
            head: bytes::Bytes::new(),
            body: bytes::Bytes::new(),
        });
        state.last_ticket
    }

    /// Every frame with a ticket up to this value is durable.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Ticket> {
        self.shared().wal().durable()
    }

    /// Room for one frame with `bytes` of payload, in memory and in the WAL. Waits while a checkpoint makes progress.
    ///
    /// Errors: [`StoreFull`] when waiting is no use: the disk is full.
    pub async fn reserve(&self, bytes: usize, class: Class) -> Result<Reservation<E>, StoreFull> {
        self.shared().reserve(bytes, class).await
    }

    /// Makes a checkpoint of all that is durable now.
    ///
    /// Errors: what went wrong, for people; it is tried again by itself.
    pub async fn checkpoint(&self) -> Result<(), String> {
        self.shared().requests.checkpoint().await
    }

    /// A clean stop, after which the next start has nothing to recover: all that was submitted is made durable, a checkpoint is
    /// made, and the superblock says so. Nothing must be submitted any more.
    ///
    /// The directory's lock is released when the last handle to the store and its logs is dropped.
    ///
    /// If the checkpoint fails, what it would have written is recovered by the next start.
    ///
    /// Errors: [`IdentityError`] if the superblock can't be written; the next start recovers then.
    pub async fn close(&self) -> Result<(), IdentityError> {
        let shared = self.shared();
        let last = shared.wal().last_ticket();
        let reached = shared.wal().durable().wait_for(|durable| *durable >= last).await.is_ok();
        let checkpoint = self.checkpoint().await;
        if let Err(error) = &checkpoint {
            tracing::warn!(error, reached, "no checkpoint at the stop; the next start recovers");
        }
        let task = lock(&self.0.checkpoints).take();
        if let Some(task) = task {
            task.abort();
            task.join().await;
        }
        let synced = shared.wal().close().await;
        let mut superblock = shared.superblock.lock().await;
        let mut next = superblock.clone();
        next.mark_clean(synced);
        // After a checkpoint that failed nobody knows which manifest the device has.
        next.clean = checkpoint.is_ok();
        superblock::write(shared.env.disk(), &shared.options.directory, &mut next).await?;
        *superblock = next;
        Ok(())
    }

    /// A segment file could not be sent: what was checked of it counts no more, and the next read of it says what is wrong.
    pub fn distrust(&self, file: &std::path::Path) {
        self.shared().segments.distrust(file);
    }

    /// How full the store is.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let shared = self.shared();
        let wal = shared.wal().space();
        StoreStats {
            tail_bytes: shared.catalog.tail.used(),
            wal_used_bytes: wal.used,
            wal_total_bytes: wal.total,
            open_segments: shared.segments.open_count(),
            is_stuck: *lock(&shared.stuck),
        }
    }
}

pub(crate) fn new_tail(options: &StoreOptions) -> Arc<TailBudget> {
    let reserve = options.tail_reserve_bytes.min(options.tail_bytes / 2);
    TailBudget::new(options.tail_bytes, reserve, Arc::new(tokio::sync::Notify::new()))
}
