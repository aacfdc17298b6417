//! The disk model, with time around it.
//!
//! Every operation takes place in one moment, some time after it was begun, whether its future still exists or not; so
//! operations under way at the same time take place in any order. Large reads and writes take place in two parts.
//!
//! Not here: what operations do (`disk`).

use core::{
    fmt,
    future::{Future, pending},
    time::Duration,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use quipu_env::{Disk, DiskLock, File, LockError, OpenOptions, SyncError, sync_error_kind};
use tokio::sync::oneshot;

use super::{Context, task};
use crate::{
    disk::{BLOCK_BYTES, Choices, DiskModel, FileHandle, LockHandle},
    node::{DiskNote, Tell},
    world::lock,
};

/// Reads and writes longer than this take place in two parts.
const PART_BYTES: usize = 16 * BLOCK_BYTES;

/// What an operation costs.
#[derive(Clone, Copy)]
enum Cost {
    /// Names and lengths.
    Small,
    /// Bytes read or written.
    Bytes(usize),
    Sync,
}

/// What came of an operation, as the trace tells it.
trait Outcome {
    fn failure(&self) -> Option<String>;
}

impl<T, E: fmt::Display> Outcome for Result<T, E> {
    fn failure(&self) -> Option<String> {
        self.as_ref().err().map(ToString::to_string)
    }
}

impl<T: Outcome> Outcome for (SimFile, T) {
    fn failure(&self) -> Option<String> {
        self.1.failure()
    }
}

fn note(operation: &'static str, path: &Path, position: u64, bytes: usize) -> DiskNote {
    DiskNote { operation, path: path.display().to_string(), position, bytes: bytes as u64 }
}

impl Context {
    fn duration(&self, cost: Cost) -> Duration {
        let timing = self.node.config.disk_timing.as_ref().unwrap_or(&self.world.0.config.disk_timing);
        match cost {
            Cost::Small => timing.base,
            Cost::Bytes(count) => {
                let kibibytes = u32::try_from(count.div_ceil(1024)).unwrap_or(u32::MAX);
                timing.base + timing.per_mebibyte * kibibytes / 1024
            }
            Cost::Sync => timing.base + timing.sync,
        }
    }

    /// Has `work` done on the disk. Stays pending when the process ends before.
    async fn on_disk<T: Outcome + Send + 'static>(
        &self,
        cost: Cost,
        note: impl FnOnce() -> DiskNote,
        work: impl FnOnce(&mut DiskModel, &mut dyn Choices) -> T + Send + 'static,
    ) -> T {
        let (sender, outcome) = oneshot::channel();
        if !self.is_over() {
            let keeps_trace = self.world.keeps_trace();
            let work = move |disk: &mut DiskModel, choices: &mut dyn Choices| -> (Tell, Option<String>) {
                let value = work(disk, choices);
                let failure = if keeps_trace { value.failure() } else { None };
                // Told, and dropped if nobody waits any more, when the disk is not locked.
                (Box::new(move || drop(sender.send(value))), failure)
            };
            self.node.begin_disk_work(&self.world, self.duration(cost), note, Box::new(work));
        }
        match outcome.await {
            Ok(value) => value,
            Err(_ended) => pending().await,
        }
    }
}

impl Context {
    /// Has `work`, which takes several steps, go on to its end even if the caller gives up.
    async fn detached<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, outcome) = oneshot::channel();
        drop(task::spawn(self, task::current_shard(), task::SYSTEM_CALL, async move { drop(sender.send(work.await)) }));
        match outcome.await {
            Ok(value) => value,
            Err(_ended) => pending().await,
        }
    }
}

/// A node's file system, as one process sees it.
#[derive(Clone)]
pub struct SimDisk {
    context: Context,
}

impl SimDisk {
    pub(super) const fn new(context: Context) -> Self {
        Self { context }
    }

    async fn on_path<T: Outcome + Send + 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce(&mut DiskModel, &Path) -> T + Send + 'static,
    ) -> T {
        let owned = path.to_owned();
        self.context.on_disk(Cost::Small, || note(operation, path, 0, 0), move |disk, _| work(disk, &owned)).await
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<SimFile> {
        self.context.check_descriptors()?;
        let (context, owned) = (self.context.clone(), path.to_owned());
        let open = move |disk: &mut DiskModel, _: &mut dyn Choices| {
            let handle = disk.open(&owned, options)?;
            Ok(SimFile {
                open: Arc::new(OpenFile { context, path: owned, is_direct: handle.is_direct(), handle: Some(handle) }),
            })
        };
        self.context.on_disk(Cost::Small, || note("open", path, 0, 0), open).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.on_path("create_dir_all", path, DiskModel::create_dir_all).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.on_path("rename", from, move |disk, from| disk.rename(from, &to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.on_path("remove", path, DiskModel::remove).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.on_path("remove_dir", path, DiskModel::remove_dir).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.context.check_descriptors()?;
        self.on_path("list", path, |disk, path| disk.list(path)).await
    }

    async fn file_size(&self, path: &Path) -> io::Result<u64> {
        self.on_path("file_size", path, |disk, path| disk.file_size(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), SyncError> {
        self.context.check_descriptors().map_err(|error| sync_error_kind(path, &error))?;
        let owned = path.to_owned();
        let note = || note("sync_dir", path, 0, 0);
        self.context.on_disk(Cost::Sync, note, move |disk, _| disk.sync_dir(&owned)).await
    }

    async fn lock(&self, path: &Path) -> Result<SimLock, LockError> {
        self.context.check_descriptors().map_err(LockError::Io)?;
        let context = self.context.clone();
        let process_id = context.life.process_id;
        self.on_path("lock", path, move |disk, path| {
            let handle = disk.lock(path, process_id)?;
            Ok(SimLock { context, handle: Some(handle) })
        })
        .await
    }

    async fn check_unlocked(&self, path: &Path) -> Result<(), LockError> {
        self.context.check_descriptors().map_err(LockError::Io)?;
        self.on_path("check_unlocked", path, |disk, path| disk.check_unlocked(path)).await
    }

    async fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.on_path("space", path, DiskModel::space_at).await
    }
}

struct OpenFile {
    context: Context,
    /// As it was given.
    path: PathBuf,
    is_direct: bool,
    /// There until it is dropped.
    handle: Option<FileHandle>,
}

impl OpenFile {
    fn handle(&self) -> &FileHandle {
        self.handle.as_ref().expect("taken only by the drop")
    }

    fn own_path(&self, error: SyncError) -> SyncError {
        SyncError { path: self.path.clone(), ..error }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && !self.context.is_over()
        {
            lock(&self.context.node.disk).close(handle);
        }
    }
}

/// An open file of a simulated disk.
#[derive(Clone)]
pub struct SimFile {
    open: Arc<OpenFile>,
}

impl SimFile {
    async fn on_file<T: Outcome + Send + 'static>(
        &self,
        cost: Cost,
        operation: &'static str,
        position: u64,
        work: impl FnOnce(&mut DiskModel, &FileHandle, &mut dyn Choices) -> T + Send + 'static,
    ) -> T {
        let file = self.clone();
        // The file leaves together with the outcome: it must not be closed while the disk is locked.
        let work = move |disk: &mut DiskModel, choices: &mut dyn Choices| {
            let value = work(disk, file.open.handle(), choices);
            (file, value)
        };
        let bytes = if let Cost::Bytes(count) = cost { count } else { 0 };
        let note = || note(operation, &self.open.path, position, bytes);
        let (file, value) = self.open.context.on_disk(cost, note, work).await;
        drop(file);
        value
    }

    async fn read_some(&self, position: u64, length: usize) -> io::Result<(Bytes, bool)> {
        self.on_file(Cost::Bytes(length), "read_at", position, move |disk, file, _| {
            disk.read_some(file, position, length)
        })
        .await
    }

    async fn write_parts(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<()> {
        let mut at = position;
        for part in parts(position, chunks) {
            let length: usize = part.iter().map(Bytes::len).sum();
            self.on_file(Cost::Bytes(length), "write_at", at, move |disk, file, _| disk.write(file, at, &part)).await?;
            at += length as u64;
        }
        Ok(())
    }

    /// Bytes for the network, as the kernel's `sendfile` reads them: at once, whatever the alignment.
    pub(super) fn read_for_sending(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let Context { world, node, .. } = &self.open.context;
        node.with_disk(world, |disk| disk.read_unaligned(self.open.handle(), position, length))
    }
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.open.path
    }

    fn is_direct(&self) -> bool {
        self.open.is_direct
    }

    async fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let (mut bytes, mut is_short) = self.read_some(position, length).await?;
        // What the system left out is read again, later; what has changed meanwhile is seen there and not before.
        while is_short {
            let done = bytes.len();
            let (rest, more) = self.read_some(position + done as u64, length - done).await?;
            (bytes, is_short) = (joined(&bytes, done, &rest), more);
        }
        if bytes.len() <= PART_BYTES {
            return Ok(bytes);
        }
        // So is the second part of a long read.
        let first = (bytes.len() / 2).next_multiple_of(BLOCK_BYTES);
        let (rest, later) = (length - first, position + first as u64);
        let second =
            self.on_file(Cost::Small, "read_at", later, move |disk, file, _| disk.read(file, later, rest)).await?;
        Ok(joined(&bytes, first, &second))
    }

    async fn write_at(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<()> {
        let file = self.clone();
        self.open.context.detached(async move { file.write_parts(position, chunks).await }).await
    }

    async fn write_sync(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<Result<(), SyncError>> {
        let file = self.clone();
        let work = async move {
            file.write_parts(position, chunks).await?;
            Ok(file.sync_data().await)
        };
        self.open.context.detached(work).await
    }

    async fn sync_data(&self) -> Result<(), SyncError> {
        let synced = self.on_file(Cost::Sync, "sync_data", 0, |disk, file, choices| disk.sync(file, choices)).await;
        synced.map_err(|error| self.open.own_path(error))
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.on_file(Cost::Small, "set_len", length, move |disk, file, _| disk.set_len(file, length)).await
    }

    async fn size(&self) -> io::Result<u64> {
        self.on_file(Cost::Small, "size", 0, |disk, file, _| disk.size(file)).await
    }

    async fn forget_cached(&self, _position: u64, _length: u64) {
        // All of the file, and for certain, though the kernel only takes it as a hint.
        self.on_file(Cost::Small, "forget_cached", 0, |disk, file, _| disk.forget_cached(file))
            .await
            .unwrap_or_default();
    }
}

/// The first `first` bytes of `whole`, then `second`, in memory aligned as `whole` is.
fn joined(whole: &Bytes, first: usize, second: &Bytes) -> Bytes {
    if whole[first..] == second[..] {
        return whole.clone();
    }
    let length = first + second.len();
    let mut buffer = quipu_env::AlignedBuf::zeroed(length.next_multiple_of(BLOCK_BYTES));
    buffer.as_mut()[..first].copy_from_slice(&whole[..first]);
    buffer.as_mut()[first..length].copy_from_slice(second);
    buffer.freeze().slice(..length)
}

/// A write in one part, or in two if it is long, the second of which begins at a whole block.
fn parts(position: u64, chunks: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    if length <= PART_BYTES {
        return vec![chunks];
    }
    let middle = (position + length as u64 / 2).next_multiple_of(BLOCK_BYTES as u64);
    let mut left = usize::try_from(middle - position).expect("within the write");
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for mut chunk in chunks {
        let count = left.min(chunk.len());
        left -= count;
        first.push(chunk.split_to(count));
        second.push(chunk);
    }
    second.retain(|chunk| !chunk.is_empty());
    vec![first, second]
}

/// A held lock of a simulated disk.
pub struct SimLock {
    context: Context,
    /// There until it is dropped.
    handle: Option<LockHandle>,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && !self.context.is_over()
        {
            lock(&self.context.node.disk).unlock(handle);
        }
    }
}
