//! Files. Positional, with owned buffers (ready for `io_uring`), and with failed syncs that cannot be mistaken for anything
//! else.
//!
//! What is durable when: bytes after [`File::sync_data`] or [`File::write_sync`]; the existence or name of a file or directory
//! after [`Disk::sync_dir`] on the directory that holds it. Until then a power cut may lose any subset of it, in units of
//! 512-byte sectors.

use core::{fmt, future::Future};
use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

/// Which threads serve a file. A WAL write never queues behind anything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// The two WAL threads of the data directory.
    Wal,
    /// The pool of four for everything else.
    Pool,
}

/// How [`Disk::open`] opens a file: for reading and writing, unless `read_only`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    /// Make the file if there is none. Its name is durable only after the directory's sync.
    pub create: bool,
    /// Cut an existing file to nothing.
    pub truncate: bool,
    /// Fail if the file exists. Only with `create`.
    pub exclusive: bool,
    /// For reading only.
    pub read_only: bool,
    /// Bypass the page cache where the file system can; where it can't, the file is opened the plain way. Positions, lengths
    /// and buffers must then be multiples of 4 KiB, see [`crate::AlignedBuf`]. See [`File::is_direct`].
    pub direct: bool,
    /// Which threads serve the file.
    pub lane: Lane,
}

impl OpenOptions {
    /// An existing file, for reading.
    pub const READ: Self =
        Self { create: false, truncate: false, exclusive: false, read_only: true, direct: false, lane: Lane::Pool };
    /// An existing file, for reading and writing.
    pub const WRITE: Self = Self { read_only: false, ..Self::READ };
    /// A file for reading and writing, made if there is none.
    pub const CREATE: Self = Self { create: true, ..Self::WRITE };
    /// A new file; an error if there is one.
    pub const CREATE_NEW: Self = Self { exclusive: true, ..Self::CREATE };
}

/// A sync failed. What was written since the last good sync of this file may or may not be on the device, and trying again
/// proves nothing: the kernel has marked the pages clean.
///
/// Its own type, with no conversion to or from `io::Error`, so that `?` can't hide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub kind: io::ErrorKind,
}

/// The [`SyncError`] for what the system said.
#[must_use]
pub fn sync_error_kind(path: &Path, error: &io::Error) -> SyncError {
    SyncError { path: path.to_owned(), kind: error.kind() }
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sync of {} failed ({}); what was written to it may be lost", self.path.display(), self.kind)
    }
}

impl core::error::Error for SyncError {}

/// Why [`Disk::lock`] failed.
#[derive(Debug)]
pub enum LockError {
    /// Another process (or another instance in this one) holds the lock.
    Held {
        /// The process id that the holder wrote into the lock file, if it can be read.
        pid: Option<u32>,
    },
    /// The lock file can't be made or opened.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { pid: Some(pid) } => write!(f, "held by process {pid}"),
            Self::Held { pid: None } => f.write_str("held by another process"),
            Self::Io(error) => write!(f, "cannot make the lock file: {error}"),
        }
    }
}

impl core::error::Error for LockError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Io(error) => Some(error),
        }
    }
}

/// An exclusive lock on a data directory, released when dropped or when the process ends.
pub trait DiskLock: Send + Sync + 'static {}

/// A file system.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// A held lock.
    type Lock: DiskLock;

    /// Opens or makes a file. Errors: `NotFound`, `AlreadyExists` (exclusive), `PermissionDenied`, `StorageFull`, others of
    /// the system.
    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Makes a directory, and those above it that are missing. No error if it exists. Durable after each parent's `sync_dir`.
    fn create_dir_all(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Renames a file or directory, replacing a file at `to` atomically. Durable after `sync_dir` of both parents.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a file. Handles that are open go on working.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Names (not paths) in a directory, sorted by bytes; directories and files alike.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<String>>> + Send;

    /// A file's length in bytes. Error `NotFound` if there is none.
    fn file_size(&self, path: &Path) -> impl Future<Output = io::Result<u64>> + Send;

    /// Makes names in a directory durable: files made, renamed or removed in it.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = Result<(), SyncError>> + Send;

    /// Takes the lock file at `path`, making it if need be, and writes this process's id into it, unless the disk is full. Never
    /// waits.
    fn lock(&self, path: &Path) -> impl Future<Output = Result<Self::Lock, LockError>> + Send;

    /// Says whether somebody holds the lock file at `path`, and leaves no trace: fit for directories that may not be written to.
    /// Without such a file nobody does. Never waits.
    fn check_unlocked(&self, path: &Path) -> impl Future<Output = Result<(), LockError>> + Send;

    /// Free and total bytes of the file system that holds `path`.
    fn space(&self, path: &Path) -> impl Future<Output = io::Result<(u64, u64)>> + Send;
}

/// An open file; a clone is another handle to the same open file. Closed when the last clone is dropped.
///
/// An operation that was begun goes on when its future is dropped; whether it took place is then unknown.
pub trait File: Clone + Send + Sync + 'static {
    /// Where it was opened.
    fn path(&self) -> &Path;

    /// Whether reads and writes bypass the page cache, and so must be aligned.
    fn is_direct(&self) -> bool;

    /// Reads `length` bytes from `position`, or fewer at the end of the file (never fewer elsewhere). The memory is aligned
    /// for direct files.
    fn read_at(&self, position: u64, length: usize) -> impl Future<Output = io::Result<Bytes>> + Send;

    /// Writes all of `chunks`, one after the other, from `position`; extends the file if need be. On error, any part may have
    /// been written.
    fn write_at(&self, position: u64, chunks: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + Send;

    /// Writes like [`Self::write_at`], then syncs like [`Self::sync_data`], in one step on one thread. A failed write is told
    /// apart from a failed sync.
    fn write_sync(
        &self,
        position: u64,
        chunks: Vec<Bytes>,
    ) -> impl Future<Output = io::Result<Result<(), SyncError>>> + Send;

    /// Makes everything written so far, and the file's length, durable.
    fn sync_data(&self) -> impl Future<Output = Result<(), SyncError>> + Send;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, length: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// The file's length in bytes.
    fn size(&self) -> impl Future<Output = io::Result<u64>> + Send;

    /// Tells the system that a range will not be read again soon, so that its cache may go. No effect on contents.
    fn forget_cached(&self, position: u64, length: u64) -> impl Future<Output = ()> + Send;
}
