//! Files in memory. What is written is there at once; syncs have nothing to do.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use quipu_env::{Disk, DiskLock, File, LockError, OpenOptions, SyncError};

/// A file may grow to this, in bytes: a position that damage has made up must not take memory.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A file system. Clones are the same one; see [`MemoryDisk::copy`].
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Node>>>);

#[derive(Clone)]
enum Node {
    Directory,
    File(Arc<Mutex<Content>>),
}

/// The first bytes, and how many there are with the zeros behind them.
#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    length: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn index(position: u64) -> usize {
    usize::try_from(position).expect("files are small")
}

/// In large steps: most of what is written are zeros, to have the room.
fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

impl Content {
    fn write(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let end = position.checked_add(bytes.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.length = self.length.max(end);
        if !is_zero(bytes) && self.bytes.len() < index(end) {
            self.bytes.resize(index(end), 0);
        }
        let (from, known) = (index(position), self.bytes.len());
        if from < known {
            let count = bytes.len().min(known - from);
            self.bytes[from..from + count].copy_from_slice(&bytes[..count]);
        }
        Ok(())
    }

    fn read(&self, position: u64, length: usize) -> Bytes {
        let left = self.length.saturating_sub(position);
        let mut read = BytesMut::zeroed(usize::try_from(left).map_or(length, |left| left.min(length)));
        let known = self.bytes.get(index(position.min(self.length))..).unwrap_or_default();
        let count = known.len().min(read.len());
        read[..count].copy_from_slice(&known[..count]);
        read.freeze()
    }

    fn set_len(&mut self, length: u64) {
        self.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        self.length = length;
    }
}

impl MemoryDisk {
    /// Another disk with the same files.
    pub(crate) fn copy(&self) -> Self {
        let copied = |node: &Node| match node {
            Node::Directory => Node::Directory,
            Node::File(content) => Node::File(Arc::new(Mutex::new(lock(content).clone()))),
        };
        let nodes = lock(&self.0).iter().map(|(path, node)| (path.clone(), copied(node))).collect();
        Self(Arc::new(Mutex::new(nodes)))
    }

    /// Paths of all files, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let nodes = lock(&self.0);
        nodes.iter().filter(|(_, node)| matches!(node, Node::File(_))).map(|(path, _)| path.clone()).collect()
    }

    /// A file's bytes, without the zeros at its end.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let content = self.content(path).expect("the caller knows the files");
        let content = lock(&content);
        let zeros = content.bytes.iter().rev().take_while(|byte| **byte == 0).count();
        content.bytes[..content.bytes.len() - zeros].to_vec()
    }

    /// Replaces a file's first bytes, and zeroes the others; it becomes no shorter.
    pub(crate) fn replace(&self, path: &Path, bytes: Vec<u8>) {
        let content = self.content(path).expect("the caller knows the files");
        let mut content = lock(&content);
        content.length = content.length.max(bytes.len() as u64);
        content.bytes = bytes;
    }

    /// Cuts a file.
    pub(crate) fn cut(&self, path: &Path, length: u64) {
        lock(&self.content(path).expect("the caller knows the files")).set_len(length);
    }

    fn content(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        match lock(&self.0).get(path) {
            Some(Node::File(content)) => Ok(Arc::clone(content)),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }

    fn has_directory(&self, path: &Path) -> bool {
        path.parent().is_none() || matches!(lock(&self.0).get(path), Some(Node::Directory))
    }
}

/// A lock that nobody else wants.
pub(crate) struct MemoryLock;

impl DiskLock for MemoryLock {}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = MemoryLock;

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<MemoryFile> {
        let content = match self.content(path) {
            Ok(_) if options.exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.create => {
                if !path.parent().is_some_and(|parent| self.has_directory(parent)) {
                    return Err(not_found());
                }
                let content = Arc::default();
                lock(&self.0).insert(path.to_owned(), Node::File(Arc::clone(&content)));
                content
            }
            Err(error) => return Err(error),
        };
        if options.truncate {
            lock(&content).set_len(0);
        }
        Ok(MemoryFile { path: path.into(), content })
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        for directory in path.ancestors().filter(|directory| directory.parent().is_some()) {
            lock(&self.0).entry(directory.to_owned()).or_insert(Node::Directory);
        }
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut nodes = lock(&self.0);
        let node = nodes.remove(from).ok_or_else(not_found)?;
        nodes.insert(to.to_owned(), node);
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.content(path)?;
        lock(&self.0).remove(path);
        Ok(())
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.has_directory(path) {
            return Err(not_found());
        }
        if !self.list(path).await?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        lock(&self.0).remove(path);
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        if !self.has_directory(path) {
            return Err(not_found());
        }
        let nodes = lock(&self.0);
        let inside = nodes.keys().filter(|node| node.parent() == Some(path)).filter_map(|node| node.file_name());
        Ok(inside.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    async fn file_size(&self, path: &Path) -> io::Result<u64> {
        Ok(lock(&*self.content(path)?).length)
    }

    async fn sync_dir(&self, _path: &Path) -> Result<(), SyncError> {
        Ok(())
    }

    async fn lock(&self, path: &Path) -> Result<MemoryLock, LockError> {
        self.open(path, OpenOptions::CREATE).await.map_err(LockError::Io)?;
        Ok(MemoryLock)
    }

    async fn check_unlocked(&self, _path: &Path) -> Result<(), LockError> {
        Ok(())
    }

    async fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        Ok((1 << 40, 1 << 41))
    }
}

/// An open file.
#[derive(Clone)]
pub(crate) struct MemoryFile {
    path: Arc<Path>,
    content: Arc<Mutex<Content>>,
}

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        false
    }

    async fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        Ok(lock(&self.content).read(position, length))
    }

    async fn write_at(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<()> {
        let mut content = lock(&self.content);
        let mut at = position;
        for chunk in chunks {
            content.write(at, &chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    async fn write_sync(&self, position: u64, chunks: Vec<Bytes>) -> io::Result<Result<(), SyncError>> {
        self.write_at(position, chunks).await.map(Ok)
    }

    async fn sync_data(&self) -> Result<(), SyncError> {
        Ok(())
    }

    async fn set_len(&self, length: u64) -> io::Result<()> {
        if length > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        lock(&self.content).set_len(length);
        Ok(())
    }

    async fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).length)
    }

    async fn forget_cached(&self, _position: u64, _length: u64) {}
}
