//! System calls on files, with what the kernel may do half done completely: interrupted calls, short reads, short writes.
//!
//! All of it blocks, so all of it runs on the disk's threads.

use std::{io, io::IoSlice, os::fd::OwnedFd, path::Path};

use bytes::Bytes;
use quipu_base::limits::WAL_ALIGN_BYTES;
use quipu_env::AlignedBuf;
use rustix::{
    buffer::spare_capacity,
    fs::{Mode, OFlags},
    io::{Errno, retry_on_intr},
};

/// Slices given to one `pwritev`; the kernel refuses more than 1024.
const SLICES_MAX: usize = 1024;

/// An error of the system. A full quota is a full disk to whoever writes.
pub(super) fn error(errno: Errno) -> io::Error {
    plain(errno.into())
}

/// The same for errors that come from the standard library.
pub(super) fn plain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => error,
    }
}

/// Opens `path`; new files are readable by everyone, as the process's umask allows.
pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))).map_err(error)
}

/// Up to `length` bytes from `position`; fewer only at the end of the file.
pub(super) fn read_up_to(file: &OwnedFd, position: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let from = position + buffer.len() as u64;
        // The allocator may have given more room than was asked for.
        let wanted = length - buffer.len();
        let room = buffer.capacity() - buffer.len();
        let count = if room == wanted {
            retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut buffer), from)).map_err(error)?
        } else {
            let start = buffer.len();
            buffer.resize(length, 0);
            let read = retry_on_intr(|| rustix::io::pread(file, &mut buffer[start..], from)).map_err(error);
            buffer.truncate(start + *read.as_ref().unwrap_or(&0));
            read?
        };
        if count == 0 {
            break;
        }
    }
    Ok(buffer)
}

/// The same into aligned memory, for files that bypass the page cache. `length` is a multiple of 4 KiB.
pub(super) fn read_aligned(file: &OwnedFd, position: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = AlignedBuf::zeroed(length);
    let mut filled = 0;
    while filled < length {
        let rest = &mut buffer.as_mut()[filled..];
        let count = retry_on_intr(|| rustix::io::pread(file, &mut *rest, position + filled as u64)).map_err(error)?;
        filled += count;
        // Off the grid only at the end of the file, beyond which no aligned read can ask.
        if count == 0 || !filled.is_multiple_of(WAL_ALIGN_BYTES) {
            break;
        }
    }
    Ok(buffer.freeze().slice(..filled))
}

/// Writes all of `chunks`, one after the other, from `position`.
pub(super) fn write_all(file: &OwnedFd, position: u64, chunks: &[Bytes]) -> io::Result<()> {
    let mut position = position;
    for group in chunks.chunks(SLICES_MAX) {
        let mut storage: Vec<IoSlice<'_>> = group.iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut slices = &mut storage[..];
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let count = retry_on_intr(|| rustix::io::pwritev(file, slices, position)).map_err(error)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            position += count as u64;
            IoSlice::advance_slices(&mut slices, count);
        }
    }
    Ok(())
}
