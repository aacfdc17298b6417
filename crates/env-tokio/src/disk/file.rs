//! An open file.
//!
//! Invariants
//! - Every operation that may wait for the device runs on the lane's threads, closing included: the last handle of a removed
//!   file frees its blocks, which can take as long as a sync.
//! - A small read whose bytes all lie in the page cache is answered on the spot, without a thread.
//! - A direct file that turns out not to take direct I/O after all is changed to plain I/O, once.

use std::{
    io::{self, IoSliceMut},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use quipu_base::limits::{KIB, WAL_ALIGN_BYTES};
use quipu_env::{File, Lane, OpenOptions, SyncError, sync_error_kind};
use rustix::{
    fs::{Advice, OFlags},
    io::{Errno, ReadWriteFlags, retry_on_intr},
};

use super::{Lanes, calls};

/// Reads up to this size are first tried on the caller's thread, from the page cache only: copying so much takes less time
/// than waking a thread.
const INLINE_READ_BYTES_MAX: usize = 64 * KIB;

/// An open file of the operating system.
#[derive(Clone)]
pub struct TokioFile {
    open: Arc<Open>,
}

struct Open {
    /// Taken only by `drop`.
    fd: Option<OwnedFd>,
    path: PathBuf,
    lane: Lane,
    direct: AtomicBool,
    /// Whether the file system can tell that bytes are not in the page cache.
    peeks: AtomicBool,
    failed_sync: OnceLock<SyncError>,
    lanes: Arc<Lanes>,
}

impl TokioFile {
    /// Opens on the calling thread.
    pub(super) fn open(path: PathBuf, options: OpenOptions, lanes: Arc<Lanes>) -> io::Result<Self> {
        let fd = calls::open(&path, flags(options))?;
        // Set afterwards, not given to `open`: where it is not supported, that would fail and yet leave a new file behind.
        let direct = options.direct && set_direct(&fd, true).is_ok();
        let open = Open {
            fd: Some(fd),
            path,
            lane: options.lane,
            direct: AtomicBool::new(direct),
            peeks: AtomicBool::new(true),
            failed_sync: OnceLock::new(),
            lanes,
        };
        Ok(Self { open: Arc::new(open) })
    }

    /// The descriptor, for `sendfile`.
    pub(crate) fn fd(&self) -> &OwnedFd {
        self.open.fd()
    }

    async fn run<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Open) -> T + Send + 'static,
    {
        let open = Arc::clone(&self.open);
        self.open.lanes.of(self.open.lane).run(move || job(&open)).await
    }
}

fn flags(options: OpenOptions) -> OFlags {
    let mut flags = if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
    flags.set(OFlags::CREATE, options.create);
    flags.set(OFlags::TRUNC, options.truncate);
    flags.set(OFlags::EXCL, options.create && options.exclusive);
    flags
}

/// Switches direct I/O on or off. Error: the file system has none.
fn set_direct(fd: &OwnedFd, direct: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::fcntl_setfl(fd, flags)
}

impl Open {
    fn fd(&self) -> &OwnedFd {
        self.fd.as_ref().expect("only `drop` takes it")
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Runs `call`; if direct I/O turns out to be refused, once more with plain I/O. To be used where the alignment was
    /// checked, since its lack is reported by the same error.
    fn direct_or_plain<T>(&self, call: impl Fn(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
        let result = call(self.fd());
        match result {
            Err(error) if self.is_direct() && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                tracing::warn!("{} takes no direct I/O; going on through the page cache", self.path.display());
                set_direct(self.fd(), false).map_err(calls::error)?;
                self.direct.store(false, Ordering::Relaxed);
                call(self.fd())
            }
            other => other,
        }
    }

    fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        if self.is_direct() {
            self.check_aligned(position, length)?;
            self.direct_or_plain(|fd| calls::read_aligned(fd, position, length))
        } else {
            calls::read_up_to(self.fd(), position, length).map(Bytes::from)
        }
    }

    /// All of the range, if it lies in the page cache.
    fn read_cached(&self, position: u64, length: usize) -> Option<Bytes> {
        if length > INLINE_READ_BYTES_MAX || self.is_direct() || !self.peeks.load(Ordering::Relaxed) {
            return None;
        }
        let mut buffer = vec![0; length];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match retry_on_intr(|| rustix::io::preadv2(self.fd(), &mut slices, position, ReadWriteFlags::NOWAIT)) {
            Ok(count) if count == length => Some(buffer.into()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.peeks.store(false, Ordering::Relaxed);
                None
            }
            _ => None,
        }
    }

    fn write(&self, position: u64, chunks: &[Bytes]) -> io::Result<()> {
        if !self.is_direct() {
            return calls::write_all(self.fd(), position, chunks);
        }
        for chunk in chunks {
            self.check_aligned(position, chunk.len())?;
            if !chunk.is_empty() && !chunk.as_ptr().addr().is_multiple_of(WAL_ALIGN_BYTES) {
                return Err(self.misaligned("a buffer's address"));
            }
        }
        self.direct_or_plain(|fd| calls::write_all(fd, position, chunks))
    }

    fn sync(&self) -> Result<(), SyncError> {
        if let Some(failed) = self.failed_sync.get() {
            return Err(failed.clone());
        }
        // Interrupted or not: a sync is called once.
        rustix::fs::fdatasync(self.fd()).map_err(|errno| {
            let failed = sync_error_kind(&self.path, &calls::error(errno));
            self.failed_sync.get_or_init(|| failed).clone()
        })
    }

    fn check_aligned(&self, position: u64, length: usize) -> io::Result<()> {
        if !position.is_multiple_of(WAL_ALIGN_BYTES as u64) {
            return Err(self.misaligned("a position"));
        }
        if !length.is_multiple_of(WAL_ALIGN_BYTES) {
            return Err(self.misaligned("a length"));
        }
        Ok(())
    }

    fn misaligned(&self, what: &str) -> io::Error {
        let message = format!("{} bypasses the page cache: {what} must be a multiple of 4 KiB", self.path.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let fd = self.fd.take();
        self.lanes.of(Lane::Pool).run_detached(move || drop(fd));
    }
}

impl File for TokioFile {
    fn path(&self) -> &Path {
        &self.open.path
    }

    fn is_direct(&self) -> bool {
        self.open.is_direct()
    }

    async fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        if let Some(bytes) = self.open.read_cached(position, length) {
            return Ok(bytes);
        }
        self.run(move |open| open.read(position, length)).await
    }

    async fn write_at(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<()> {
        self.run(move |open| open.write(position, &chunks)).await
    }

    async fn write_sync(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<Result<(), SyncError>> {
        self.run(move |open| {
            open.write(position, &chunks)?;
            Ok(open.sync())
        })
        .await
    }

    async fn sync_data(&self) -> Result<(), SyncError> {
        self.run(Open::sync).await
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        self.run(move |open| retry_on_intr(|| rustix::fs::ftruncate(open.fd(), length)).map_err(calls::error)).await
    }

    async fn size(&self) -> io::Result<u64> {
        self.run(|open| {
            let stat = rustix::fs::fstat(open.fd()).map_err(calls::error)?;
            Ok(u64::try_from(stat.st_size).expect("the kernel gives no negative length"))
        })
        .await
    }

    async fn forget_cached(&self, position: u64, length: u64) {
        self.run(move |open| {
            // Zero would mean "to the end of the file".
            if let Some(length) = std::num::NonZeroU64::new(length) {
                // Advice only; the kernel may decline it.
                rustix::fs::fadvise(open.fd(), position, Some(length), Advice::DontNeed).ok();
            }
        })
        .await;
    }
}
