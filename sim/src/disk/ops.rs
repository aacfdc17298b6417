//! Operations on files.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quipu_env::{AlignedBuf, LockError, OpenOptions, SyncError};

use super::{BLOCK_BYTES, Choices, Content, DiskModel, Fault, FileNode, Inode, OpKind, file::Lands, tree::normal_path};

/// An open file. Void after a power cut or a kill. Each is closed once.
#[derive(Debug)]
pub struct FileHandle {
    inode: Inode,
    path: PathBuf,
    epoch: u64,
    read_only: bool,
    direct: bool,
}

impl FileHandle {
    /// Where it was opened, without root and dots.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether positions, lengths and memory must be aligned.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.direct
    }
}

/// A held lock. Void after a power cut or a kill.
#[derive(Debug)]
pub struct LockHandle {
    inode: Inode,
    id: u64,
    file: FileHandle,
}

pub(super) fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

pub(super) fn unreadable() -> io::Error {
    io::Error::other("simulated unreadable sector")
}

impl DiskModel {
    /// Opens or makes a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` (exclusive), `IsADirectory`, `StorageFull` when a file must be made and no block is free.
    pub fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<FileHandle> {
        self.check_power()?;
        let place = self.find(path)?;
        let inode = match place.inode {
            Some(_) if options.create && options.exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(inode) => inode,
            None if !options.create => return Err(io::ErrorKind::NotFound.into()),
            None if self.free_blocks() == 0 => return Err(self.no_room()),
            None => {
                self.operation(OpKind::Change, |disk| Ok(disk.create(place.slot, Content::File(FileNode::default()))))?
            }
        };
        let file = self.file_ref(inode).ok_or(io::ErrorKind::IsADirectory)?;
        if options.truncate && !options.read_only && file.len() > 0 {
            self.operation(OpKind::Change, |disk| disk.change(inode, |file| file.set_len(0)))?;
        }
        self.nodes.get_mut(&inode).expect("it was just found or made").handles += 1;
        Ok(FileHandle {
            inode,
            path: normal_path(path)?,
            epoch: self.epoch,
            read_only: options.read_only,
            direct: options.direct && self.options.direct,
        })
    }

    /// Closes an open file. Nothing happens to a void handle.
    pub fn close(&mut self, handle: FileHandle) {
        if handle.epoch == self.epoch {
            let node = self.nodes.get_mut(&handle.inode).expect("an open file is kept");
            node.handles -= 1;
            self.reap(handle.inode);
        }
    }

    /// Up to `length` bytes from `position`, fewer only at the end of the file. Aligned memory for direct files.
    ///
    /// # Errors
    /// Faults, unreadable sectors, `InvalidInput` for unaligned direct reads.
    pub fn read(&mut self, handle: &FileHandle, position: u64, length: usize) -> io::Result<Bytes> {
        if handle.direct {
            check_aligned(position, length)?;
            self.forget_cached(handle)?;
        }
        self.read_unaligned(handle, position, length)
    }

    /// Like [`Self::read`], but what it gets may end anywhere by a fault: then the flag says so.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_some(&mut self, handle: &FileHandle, position: u64, length: usize) -> io::Result<(Bytes, bool)> {
        let mut bytes = self.read(handle, position, length)?;
        let unit = if handle.direct { BLOCK_BYTES } else { 1 };
        let short = (bytes.len() / 2).next_multiple_of(unit);
        if short >= bytes.len() || !self.faults.strikes(Fault::ReadIsShort, &handle.path) {
            return Ok((bytes, false));
        }
        bytes.truncate(short);
        Ok((bytes, true))
    }

    /// Takes the file's clean pages out of the page cache: what a failed sync lost is seen to be lost from now on. A direct read
    /// does the same, since it asks the device.
    ///
    /// # Errors
    /// If the handle is void.
    pub fn forget_cached(&mut self, handle: &FileHandle) -> io::Result<()> {
        self.check_handle(handle)?;
        self.change(handle.inode, FileNode::drop_clean_cache)
    }

    /// Like [`Self::read`], for whoever needs no alignment though the file is direct: the kernel itself.
    ///
    /// # Errors
    /// Faults, unreadable sectors.
    pub fn read_unaligned(&mut self, handle: &FileHandle, position: u64, length: usize) -> io::Result<Bytes> {
        self.check_handle(handle)?;
        if self.faults.strikes(Fault::ReadFails, &handle.path) {
            return Err(io::Error::other("simulated failure of a read"));
        }
        let file = self.file_ref(handle.inode).expect("an open file is kept");
        let available = file.len().saturating_sub(position).min(length as u64);
        let available = usize::try_from(available).expect("at most `length`");
        if handle.direct {
            let mut buffer = AlignedBuf::zeroed(available.next_multiple_of(BLOCK_BYTES));
            if file.read(position, &mut buffer.as_mut()[..available]).is_none() {
                return Err(self.found_unreadable());
            }
            return Ok(buffer.freeze().slice(..available));
        }
        let mut buffer = vec![0; available];
        if file.read(position, &mut buffer).is_none() {
            return Err(self.found_unreadable());
        }
        Ok(buffer.into())
    }

    /// Writes `chunks`, one after the other, from `position`. A disk that fills up takes what fits, block by block.
    ///
    /// # Errors
    /// `StorageFull`, faults, `PermissionDenied` if opened for reading, `InvalidInput` for unaligned direct writes.
    pub fn write(&mut self, handle: &FileHandle, position: u64, chunks: &[Bytes]) -> io::Result<()> {
        self.check_writable(handle)?;
        if handle.direct {
            let mut at = position;
            for chunk in chunks {
                check_aligned(at, chunk.len())?;
                check_aligned(chunk.as_ptr().addr() as u64, 0)?;
                at += chunk.len() as u64;
            }
        }
        self.operation(OpKind::Change, |disk| {
            if disk.faults.strikes(Fault::WriteFails, &handle.path) {
                return Err(io::Error::other("simulated failure of a write"));
            }
            let fault = disk.faults.write_fault(&handle.path);
            let mut at = position;
            for chunk in chunks {
                disk.write_chunk(handle.inode, at, chunk.clone(), fault)?;
                at += chunk.len() as u64;
            }
            Ok(())
        })
    }

    fn found_unreadable(&mut self) -> io::Error {
        self.faults.happened("unreadable");
        unreadable()
    }

    fn no_room(&mut self) -> io::Error {
        if self.squeezed_to.is_some() {
            self.faults.happened("full-disk");
        }
        io::ErrorKind::StorageFull.into()
    }

    fn write_chunk(&mut self, inode: Inode, position: u64, chunk: Bytes, fault: Option<Fault>) -> io::Result<()> {
        let file = self.file_ref(inode).expect("an open file is kept");
        let fits = self.fitting(file, position, chunk.len());
        let short = fits < chunk.len();
        let lands = match fault {
            Some(Fault::WriteIsLost) => Lands::Nowhere,
            Some(Fault::WriteGoesAstray { by_blocks }) => astray(file.len(), position, by_blocks),
            _ => Lands::Right,
        };
        self.change(inode, |file| file.write(position, chunk.slice(..fits), lands))?;
        if short { Err(self.no_room()) } else { Ok(()) }
    }

    /// How many of `length` bytes at `position` the disk still takes.
    fn fitting(&self, file: &FileNode, position: u64, length: usize) -> usize {
        let free = self.free_blocks();
        if file.blocks_needed(position, length as u64) <= free {
            return length;
        }
        let mut fits = 0;
        while fits < length {
            let block_end = (position + fits as u64 + 1).next_multiple_of(BLOCK_BYTES as u64);
            let next = usize::try_from(block_end - position).expect("at most a block beyond").min(length);
            if file.blocks_needed(position, next as u64) > free {
                break;
            }
            fits = next;
        }
        fits
    }

    /// Makes what was written to the file, and its length, durable. `choices` decide what a failing sync loses.
    ///
    /// # Errors
    /// A [`SyncError`] by a fault or by the power.
    pub fn sync(&mut self, handle: &FileHandle, choices: &mut dyn Choices) -> Result<(), SyncError> {
        let checked = self.check_handle(handle);
        let synced = checked.and_then(|()| {
            self.operation(OpKind::Sync, |disk| {
                if disk.faults.strikes(Fault::SyncFails, &handle.path) {
                    disk.fail_file_sync(handle.inode, choices);
                    return Err(io::Error::other("simulated failure of a sync"));
                }
                if disk.faults.strikes(Fault::SyncLies, &handle.path) {
                    return Ok(());
                }
                disk.change(handle.inode, FileNode::sync)
            })
        });
        synced.map_err(|error| quipu_env::sync_error_kind(&handle.path, &error))
    }

    /// Cuts the file, or extends it with zeros that take no space.
    ///
    /// # Errors
    /// `PermissionDenied` if opened for reading.
    pub fn set_len(&mut self, handle: &FileHandle, length: u64) -> io::Result<()> {
        self.check_writable(handle)?;
        self.operation(OpKind::Change, |disk| disk.change(handle.inode, |file| file.set_len(length)))
    }

    /// The file's length.
    ///
    /// # Errors
    /// If the handle is void.
    pub fn size(&self, handle: &FileHandle) -> io::Result<u64> {
        self.check_handle(handle)?;
        Ok(self.file_ref(handle.inode).expect("an open file is kept").len())
    }

    /// The length of the file at `path`.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn file_size(&self, path: &Path) -> io::Result<u64> {
        self.check_power()?;
        let inode = self.existing(path)?;
        Ok(self.file_ref(inode).ok_or(io::ErrorKind::IsADirectory)?.len())
    }

    /// Takes the lock file at `path`, making it if need be, and writes `pid` into it.
    ///
    /// # Errors
    /// [`LockError::Held`], or what opening and writing a file may fail with.
    pub fn lock(&mut self, path: &Path, pid: u32) -> Result<LockHandle, LockError> {
        let file = self.open(path, OpenOptions::CREATE).map_err(LockError::Io)?;
        if self.locks.contains_key(&file.inode) {
            return Err(self.told_held(file));
        }
        let text = Bytes::from(format!("{pid}\n"));
        let written = self.set_len(&file, 0).and_then(|()| self.write(&file, 0, &[text]));
        // On a full disk it is held without an id.
        if let Err(error) = written
            && error.kind() != io::ErrorKind::StorageFull
        {
            self.close(file);
            return Err(LockError::Io(error));
        }
        let id = self.next_lock;
        self.next_lock += 1;
        self.locks.insert(file.inode, id);
        Ok(LockHandle { inode: file.inode, id, file })
    }

    /// Says whether somebody holds the lock file at `path`; nobody does if there is none.
    ///
    /// # Errors
    /// [`LockError::Held`], or what opening and reading a file may fail with.
    pub fn check_unlocked(&mut self, path: &Path) -> Result<(), LockError> {
        let file = match self.open(path, OpenOptions::READ) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LockError::Io(error)),
        };
        if self.locks.contains_key(&file.inode) {
            return Err(self.told_held(file));
        }
        self.close(file);
        Ok(())
    }

    /// What is told of a lock file that is held.
    fn told_held(&mut self, file: FileHandle) -> LockError {
        let held = self.read(&file, 0, 16);
        self.close(file);
        match held {
            Ok(text) => {
                let pid = core::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
                LockError::Held { pid }
            }
            Err(error) => LockError::Io(error),
        }
    }

    /// Gives a lock back.
    pub fn unlock(&mut self, lock: LockHandle) {
        if self.locks.get(&lock.inode) == Some(&lock.id) && lock.file.epoch == self.epoch {
            self.locks.remove(&lock.inode);
        }
        self.close(lock.file);
    }

    /// Free and total bytes.
    #[must_use]
    pub fn space(&self) -> (u64, u64) {
        const ENDLESS: u64 = 1 << 50;
        let total = self.options.capacity_bytes.unwrap_or(ENDLESS).min(self.squeezed_to.unwrap_or(ENDLESS));
        (total.saturating_sub(self.used_blocks * BLOCK_BYTES as u64), total)
    }

    /// Free and total bytes of the file system that holds `path`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn space_at(&mut self, path: &Path) -> io::Result<(u64, u64)> {
        self.check_power()?;
        self.existing(path)?;
        Ok(self.space())
    }

    fn free_blocks(&self) -> u64 {
        self.space().0 / BLOCK_BYTES as u64
    }

    /// Changes a file and keeps the count of used blocks.
    fn change(&mut self, inode: Inode, work: impl FnOnce(&mut FileNode)) -> io::Result<()> {
        let file = self.file_mut(inode).expect("an open file is kept");
        let before = file.block_count();
        work(file);
        let after = file.block_count();
        self.used_blocks = self.used_blocks + after - before;
        Ok(())
    }

    fn check_handle(&self, handle: &FileHandle) -> io::Result<()> {
        self.check_power()?;
        if handle.epoch == self.epoch {
            Ok(())
        } else {
            Err(io::Error::other("the file was opened in an earlier life"))
        }
    }

    fn check_writable(&self, handle: &FileHandle) -> io::Result<()> {
        self.check_handle(handle)?;
        if handle.read_only { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

/// Where a write lands that goes astray: blocks further on, within the file; nowhere in a file of a single block.
fn astray(file_bytes: u64, position: u64, by_blocks: u64) -> Lands {
    let blocks = file_bytes / BLOCK_BYTES as u64;
    let block = position / BLOCK_BYTES as u64;
    if blocks < 2 {
        return Lands::Nowhere;
    }
    let other = block.wrapping_add(by_blocks) % blocks;
    let other = if other == block { (block + 1) % blocks } else { other };
    Lands::Elsewhere(other * BLOCK_BYTES as u64 + position % BLOCK_BYTES as u64)
}

fn check_aligned(position: u64, length: usize) -> io::Result<()> {
    if position.is_multiple_of(BLOCK_BYTES as u64) && length.is_multiple_of(BLOCK_BYTES) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "direct I/O takes whole, aligned pages"))
}
