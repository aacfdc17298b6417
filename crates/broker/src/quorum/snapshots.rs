//! Snapshots of the metadata: `<data directory>/metadata/<end offset>-<epoch>.snapshot`, the bytes of an image
//! ([`quipu_metadata::SnapshotReader`] tells their layout).
//!
//! The checksum, a CRC-32C of all bytes, the size, and what is covered stand in the snapshot's meta, which the log's step stores:
//! a file that no meta names is of no account and is removed.
//!
//! Invariants
//! - A file has its name only when all of it and the name are durable.
//! - The same image gives the same bytes on every node.
//!
//! Not here: when a snapshot is taken, and who needs one.

use core::fmt;
use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quipu_base::{checksum::Crc32c, limits};
use quipu_env::{Disk, Env, File, OpenOptions, Probe, SyncError};
use quipu_metadata::{Image, SnapshotReader};
use quipu_raft::{LogPoint, SnapshotMeta};

/// Bytes read and written at once.
const PIECE_BYTES: usize = 256 * limits::KIB;
/// What arrives from a leader lies here until it is whole.
const INCOMING: &str = "incoming.part";
/// What is being written.
const OUTGOING: &str = "outgoing.part";
const EXTENSION: &str = ".snapshot";

/// A snapshot can't be read or written.
#[derive(Debug)]
pub(crate) enum SnapshotError {
    /// The system says no.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// A sync failed.
    Sync(SyncError),
    /// The bytes are not those of the snapshot.
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are not an image that this build can read.
    Image(quipu_metadata::SnapshotError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Sync(error) => error.fmt(f),
            Self::Damaged { path } => write!(
                f,
                "the metadata snapshot {} is damaged: empty the data directory, and let this node fetch everything from the \
                 others",
                path.display()
            ),
            Self::Image(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<SyncError> for SnapshotError {
    fn from(error: SyncError) -> Self {
        Self::Sync(error)
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + use<> {
    let path = path.to_owned();
    move |error| SnapshotError::Io { path, error }
}

/// The bytes of an image, in pieces.
pub(super) fn encode(image: &Image) -> Vec<Bytes> {
    image.to_pieces(PIECE_BYTES).collect()
}

/// The image of the newest snapshot that a data directory holds, whether or not the log in it names that; none if it holds none that
/// can be read. For tools: no checksum is compared.
pub async fn newest_metadata_snapshot<E: Env>(env: &E, data_directory: &Path) -> Option<Image> {
    let Snapshots { directory, .. } = Snapshots::new(env, data_directory);
    let names = env.disk().list(&directory).await.ok()?;
    for name in names.iter().rev().filter(|name| name.ends_with(EXTENSION)) {
        if let Some(image) = image_of(env, &directory.join(name)).await {
            return Some(image);
        }
    }
    None
}

async fn image_of<E: Env>(env: &E, path: &Path) -> Option<Image> {
    let file = env.disk().open(path, OpenOptions::READ).await.ok()?;
    let mut reader = SnapshotReader::new();
    let mut position = 0;
    loop {
        let piece = file.read_at(position, PIECE_BYTES).await.ok()?;
        if piece.is_empty() {
            return reader.finish().ok();
        }
        reader.push(&piece).ok()?;
        position += piece.len() as u64;
    }
}

/// The directory with the snapshots. A clone is the same.
pub(super) struct Snapshots<E: Env> {
    env: E,
    directory: PathBuf,
}

impl<E: Env> Clone for Snapshots<E> {
    fn clone(&self) -> Self {
        Self { env: self.env.clone(), directory: self.directory.clone() }
    }
}

impl<E: Env> Snapshots<E> {
    pub(super) fn new(env: &E, data_directory: &Path) -> Self {
        Self { env: env.clone(), directory: data_directory.join("metadata") }
    }

    fn path(&self, end: LogPoint) -> PathBuf {
        self.directory.join(format!("{:020}-{:010}{EXTENSION}", end.offset.get(), end.epoch.get()))
    }

    /// Makes a snapshot of an image durable. Its size and checksum.
    pub(super) async fn write(&self, end: LogPoint, pieces: Vec<Bytes>) -> Result<(u64, u32), SnapshotError> {
        let mut crc = Crc32c::new();
        pieces.iter().for_each(|piece| crc.update(piece));
        let (size, checksum) = (pieces.iter().map(|piece| piece.len() as u64).sum(), crc.finish());
        self.make_directory().await?;
        let part = self.directory.join(OUTGOING);
        let options = OpenOptions { truncate: true, ..OpenOptions::CREATE };
        let file = self.env.disk().open(&part, options).await.map_err(io_error(&part))?;
        file.write_sync(0, pieces).await.map_err(io_error(&part))??;
        self.env.probe().crash_point("snapshot.written");
        self.name(&part, end).await?;
        Ok((size, checksum))
    }

    async fn make_directory(&self) -> Result<(), SnapshotError> {
        let disk = self.env.disk();
        disk.create_dir_all(&self.directory).await.map_err(io_error(&self.directory))?;
        let parent = self.directory.parent().expect("it was joined to one");
        Ok(disk.sync_dir(parent).await?)
    }

    async fn name(&self, part: &Path, end: LogPoint) -> Result<(), SnapshotError> {
        let path = self.path(end);
        self.env.disk().rename(part, &path).await.map_err(io_error(&path))?;
        self.env.probe().crash_point("snapshot.renamed");
        self.env.disk().sync_dir(&self.directory).await?;
        self.env.probe().crash_point("snapshot.named");
        Ok(())
    }

    /// The image of a snapshot.
    pub(super) async fn read(&self, meta: &SnapshotMeta) -> Result<Image, SnapshotError> {
        let path = self.path(meta.base.point);
        let mut reader = SnapshotReader::new();
        let mut failed = None;
        let is_whole =
            self.read_whole(&path, meta, |piece| failed = failed.take().or(reader.push(piece).err())).await?;
        if !is_whole {
            return Err(SnapshotError::Damaged { path });
        }
        match failed {
            Some(error) => Err(SnapshotError::Image(error)),
            None => reader.finish().map_err(SnapshotError::Image),
        }
    }

    /// Reads a file from its beginning to its end. Whether it is what the meta says.
    async fn read_whole(
        &self,
        path: &Path,
        meta: &SnapshotMeta,
        mut take: impl FnMut(&[u8]) + Send,
    ) -> Result<bool, SnapshotError> {
        let file = self.env.disk().open(path, OpenOptions::READ).await.map_err(io_error(path))?;
        let mut crc = Crc32c::new();
        let mut position = 0;
        loop {
            let piece = file.read_at(position, PIECE_BYTES).await.map_err(io_error(path))?;
            if piece.is_empty() || position > meta.size_bytes {
                return Ok(position == meta.size_bytes && crc.finish() == meta.checksum);
            }
            crc.update(&piece);
            take(&piece);
            position += piece.len() as u64;
        }
    }

    /// Some bytes of a snapshot; none if it is gone.
    pub(super) async fn read_piece(&self, end: LogPoint, position: u64, length: usize) -> Option<Bytes> {
        let file = self.env.disk().open(&self.path(end), OpenOptions::READ).await.ok()?;
        let bytes = file.read_at(position, length).await.ok()?;
        (bytes.len() == length).then_some(bytes)
    }

    /// Writes a piece of a snapshot that a leader sends; with the last one the snapshot is durable under its name. False if it turns
    /// out not to be what it should be.
    pub(super) async fn write_piece(
        &self,
        meta: &SnapshotMeta,
        position: u64,
        bytes: Bytes,
    ) -> Result<bool, SnapshotError> {
        let part = self.directory.join(INCOMING);
        if position == 0 {
            self.make_directory().await?;
        }
        let options = OpenOptions { truncate: position == 0, ..OpenOptions::CREATE };
        let file = self.env.disk().open(&part, options).await.map_err(io_error(&part))?;
        let end = position + bytes.len() as u64;
        file.write_at(position, vec![bytes]).await.map_err(io_error(&part))?;
        self.env.probe().crash_point("snapshot.piece-written");
        if end < meta.size_bytes {
            return Ok(true);
        }
        file.sync_data().await?;
        if !self.read_whole(&part, meta, |_| {}).await? {
            return Ok(false);
        }
        self.name(&part, meta.base.point).await?;
        Ok(true)
    }

    /// Removes what is older than the snapshot in use.
    pub(super) async fn clean(&self, in_use: &SnapshotMeta) {
        let kept = self.path(in_use.base.point);
        let Ok(names) = self.env.disk().list(&self.directory).await else { return };
        let names = names.iter().filter(|name| name.ends_with(EXTENSION));
        for path in names.map(|name| self.directory.join(name)).filter(|path| *path < kept) {
            self.env.probe().crash_point("snapshot.cleaning");
            // It is tried again after the next snapshot.
            if let Err(error) = self.env.disk().remove(&path).await {
                tracing::warn!(path = %path.display(), %error, "a metadata snapshot that is of no use any more stays");
            }
        }
    }
}
