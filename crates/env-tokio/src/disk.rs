//! Files of the operating system, served by threads: two for the WAL, four for everything else.
//!
//! Invariants
//! - A WAL write waits for other WAL operations only. Opening, closing, names and directories always go to the pool of four.
//! - A sync that failed is never tried again: the file remembers, and every later sync of it fails the same way.
//! - A full disk, or a full quota, is always [`io::ErrorKind::StorageFull`].
//!
//! Not here: the loops around the system calls (`disk::calls`), the threads (`workers`). Read `disk::file` next.

mod calls;
mod file;

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use quipu_env::{Disk, DiskLock, Lane, LockError, OpenOptions, SyncError, sync_error_kind};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

pub use file::TokioFile;

use crate::workers::Workers;

/// WAL threads: as many as WAL groups may be in flight.
const WAL_THREADS: usize = quipu_base::limits::WAL_GROUPS_INFLIGHT_MAX;
/// Threads for everything else.
const POOL_THREADS: usize = 4;

/// The operating system's files.
#[derive(Clone)]
pub struct TokioDisk {
    lanes: Arc<Lanes>,
}

/// The threads, started when first needed.
struct Lanes {
    wal: Workers,
    pool: Workers,
}

impl Lanes {
    const fn of(&self, lane: Lane) -> &Workers {
        match lane {
            Lane::Wal => &self.wal,
            Lane::Pool => &self.pool,
        }
    }
}

impl TokioDisk {
    pub(crate) fn new() -> Self {
        let (wal, pool) = (Workers::new("wal", WAL_THREADS), Workers::new("io", POOL_THREADS));
        Self { lanes: Arc::new(Lanes { wal, pool }) }
    }

    /// Finishes what is under way and ends the threads.
    pub(crate) fn close(&self) {
        self.lanes.wal.close();
        self.lanes.pool.close();
    }

    /// Runs a job about one path on the pool.
    async fn on_path<T, F>(&self, path: &Path, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(PathBuf) -> T + Send + 'static,
    {
        let path = path.to_owned();
        self.lanes.pool.run(move || job(path)).await
    }
}

impl Disk for TokioDisk {
    type File = TokioFile;
    type Lock = TokioLock;

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<TokioFile> {
        let lanes = Arc::clone(&self.lanes);
        self.on_path(path, move |path| TokioFile::open(path, options, lanes)).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.on_path(path, |path| fs::create_dir_all(path).map_err(calls::plain)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.on_path(from, move |from| fs::rename(from, to).map_err(calls::plain)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.on_path(path, fs::remove_file).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.on_path(path, fs::remove_dir).await
    }

    /// A name that is no UTF-8 appears with replacement characters: it is none of ours, whatever it is.
    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.on_path(path, |path| {
            let mut names = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    async fn file_size(&self, path: &Path) -> io::Result<u64> {
        self.on_path(path, |path| Ok(fs::metadata(path)?.len())).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), SyncError> {
        self.on_path(path, |path| {
            let synced = calls::open(&path, OFlags::RDONLY | OFlags::DIRECTORY)
                .and_then(|directory| rustix::fs::fsync(directory).map_err(calls::error));
            synced.map_err(|error| sync_error_kind(&path, &error))
        })
        .await
    }

    async fn lock(&self, path: &Path) -> Result<TokioLock, LockError> {
        self.on_path(path, |path| TokioLock::take(&path)).await
    }

    async fn check_unlocked(&self, path: &Path) -> Result<(), LockError> {
        self.on_path(path, |path| TokioLock::check(&path)).await
    }

    async fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.on_path(path, |path| {
            let stat = rustix::fs::statvfs(path).map_err(calls::error)?;
            Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
        })
        .await
    }
}

/// An exclusive `flock` on a lock file that holds this process's id, in decimal with a newline.
///
/// The lock belongs to the open file and not to the process, so a second instance inside one process is refused as well; the
/// kernel releases it when the process ends in whatever way.
#[derive(Debug)]
pub struct TokioLock {
    file: OwnedFd,
}

impl TokioLock {
    fn take(path: &Path) -> Result<Self, LockError> {
        let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))
            .map_err(|errno| LockError::Io(calls::error(errno)))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: holder(&file) }),
            Err(errno) => return Err(LockError::Io(calls::error(errno))),
        }
        let written = rustix::fs::ftruncate(&file, 0)
            .map_err(calls::error)
            .and_then(|()| calls::write_all(&file, 0, &[format!("{}\n", process::id()).into()]));
        match written {
            // On a full disk it is held without an id: only who starts can make room.
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(LockError::Io(error)),
            _ => Ok(Self { file }),
        }
    }

    /// Takes a shared lock and gives it back at once. A process that wants the lock in that very moment is refused; several that
    /// only check do not disturb each other.
    fn check(path: &Path) -> Result<(), LockError> {
        let file = match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(LockError::Io(calls::error(errno))),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held { pid: holder(&file) }),
            Err(errno) => Err(LockError::Io(calls::error(errno))),
        }
    }
}

/// The process id in a lock file.
fn holder(file: &OwnedFd) -> Option<u32> {
    let text = calls::read_up_to(file, 0, 32).ok()?;
    str::from_utf8(&text).ok()?.trim().parse().ok()
}

impl Drop for TokioLock {
    fn drop(&mut self) {
        // So that nobody who comes between this holder and the next is told of a process that is gone. If it fails, the
        // message to that one is old, and nothing else.
        rustix::fs::ftruncate(&self.file, 0).ok();
    }
}

impl DiskLock for TokioLock {}
