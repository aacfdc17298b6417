//! The superblock: who this data directory is, and what of its WAL counts.
//!
//! ```text
//! <data-dir>/superblock: four copies of 4 KiB; all numbers little-endian
//!
//!      0  8  magic "QuipuSup"
//!      8  2  version, 1
//!     10  2  copy, 0 to 3
//!     12  4  CRC-32C over the copy's other 4,092 bytes
//!     16  8  sequence: rises with every write
//!     24  4  flags: 1 cluster id is set, 2 broker epoch is set, 4 stopped cleanly, 8 files have an id of their own
//!     28  4  node id
//!     32 16  directory id
//!     48 16  cluster id, or zeros
//!     64  8  broker epoch, or 0
//!     72  8  synced-up-to: every WAL group up to this one had been synced when this was written
//!     80  2  number of WAL generations, at most 248
//!     82  6  zeros
//!     88 16  each: generation, sequence of its first group; oldest first
//!        ..  zeros
//!   4080 16  the directory id that its files name, if it was given another one since, or zeros
//! ```
//!
//! Invariants
//! - Copies 0 and 1 are written and synced before copies 2 and 3 are touched, so that two whole copies of the old or of the new
//!   state exist at every moment. The readable copy with the highest sequence counts.
//! - A WAL generation stands here, durably, before the first group of it is written, and with the sequence at which it begins:
//!   a group counts only if its sequence lies in its generation's range. So what recovery has cut can never come back, however
//!   whole it is.
//! - Magic, version, copy and CRC stay where they are in every later version, so that a newer format is told from damage.
//!
//! Version history: 1, the first.
//!
//! Not here: the lock on the directory; who decides on the values (`store`). Read `wal` next.

use core::fmt;
use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use quipu_base::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, checksum::Crc32c};
use quipu_env::{Disk, File, OpenOptions, SyncError};

use crate::wal::{GroupSequence, WalGeneration};

/// The version that this code writes, and the newest it reads.
pub const VERSION: u16 = 1;
/// WAL generations that a superblock has room for.
pub const GENERATIONS_MAX: usize = (COPY_BYTES - GENERATIONS_AT) / GENERATION_BYTES - 2;

/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "superblock";
const NEW_FILE_NAME: &str = "superblock.new";
const MAGIC: [u8; 8] = *b"QuipuSup";
/// Bytes of one copy.
pub(crate) const COPY_BYTES: usize = 4096;
/// Copies in the file.
pub(crate) const COPY_COUNT: u16 = 4;
const GENERATIONS_AT: usize = 88;
const GENERATION_BYTES: usize = 16;
const HAS_CLUSTER_ID: u32 = 1;
const HAS_BROKER_EPOCH: u32 = 2;
const CLEAN: u32 = 4;
const HAS_FILES_ID: u32 = 8;
const FILES_ID_AT: usize = COPY_BYTES - 16;

const _: () = assert!(GENERATIONS_MAX == 248, "the module documentation says so");

/// The contents of a superblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The cluster that the directory belongs to, once it has joined one.
    pub cluster_id: Option<ClusterId>,
    /// The node that the directory belongs to.
    pub node_id: BrokerId,
    /// The directory itself.
    pub directory_id: DirectoryId,
    /// The same as its files name it: its first id.
    pub files_id: DirectoryId,
    /// The broker's last registration.
    pub broker_epoch: Option<BrokerEpoch>,
    /// Generations of the WAL groups that are still needed, oldest first, at most [`GENERATIONS_MAX`].
    pub wal_generations: Vec<WalGeneration>,
    /// Every WAL group up to this one had been synced when this was written.
    pub synced_up_to: GroupSequence,
    /// Nothing was written to the WAL after `synced_up_to`.
    pub clean: bool,
    sequence: u64,
}

/// Why a superblock can't be read or written.
#[derive(Debug)]
pub enum SuperblockError {
    /// Written by a later release.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The file is there, but none of its copies is whole.
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// More WAL generations than there is room for: starts without a checkpoint between them.
    TooManyGenerations {
        /// How many.
        count: usize,
    },
    /// Reading or writing failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed.
    Sync(SyncError),
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { path, found } => write!(
                f,
                "{} has format version {found}, this release knows up to {VERSION}: start a later release on this directory",
                path.display()
            ),
            Self::Damaged { path } => write!(
                f,
                "none of the {COPY_COUNT} copies in {} is whole: restore the directory from a replica or a backup",
                path.display()
            ),
            Self::TooManyGenerations { count } => write!(
                f,
                "the write-ahead log holds groups of {count} starts, {GENERATIONS_MAX} is the limit: a checkpoint must succeed first"
            ),
            Self::Io { path, source } => write!(f, "cannot access {}: {source}", path.display()),
            Self::Sync(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SuperblockError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Sync(error) => Some(error),
            Self::Newer { .. } | Self::Damaged { .. } | Self::TooManyGenerations { .. } => None,
        }
    }
}

impl Superblock {
    /// Of a new directory.
    #[must_use]
    pub const fn new(node_id: BrokerId, directory_id: DirectoryId) -> Self {
        Self {
            cluster_id: None,
            node_id,
            directory_id,
            files_id: directory_id,
            broker_epoch: None,
            wal_generations: Vec::new(),
            synced_up_to: GroupSequence::NONE,
            clean: true,
            sequence: 0,
        }
    }

    /// The directory as WAL groups name it: the first eight bytes of its first id.
    #[must_use]
    pub const fn tag(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.files_id.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// What [`write()`] must be given after [`crate::wal::Wal::close`] has answered `synced_up_to`.
    pub const fn mark_clean(&mut self, synced_up_to: GroupSequence) {
        self.synced_up_to = synced_up_to;
        self.clean = true;
    }

    fn has_other_id(&self) -> bool {
        self.files_id != self.directory_id
    }

    fn encode(&self, copy: u16) -> [u8; COPY_BYTES] {
        let mut bytes = [0; COPY_BYTES];
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = flag(self.cluster_id.is_some(), HAS_CLUSTER_ID)
            | flag(self.broker_epoch.is_some(), HAS_BROKER_EPOCH)
            | flag(self.clean, CLEAN)
            | flag(self.has_other_id(), HAS_FILES_ID);
        let count = u16::try_from(self.wal_generations.len()).expect("checked before encoding");
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&copy.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&flags.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.node_id.0.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.directory_id.0);
        bytes[48..64].copy_from_slice(&self.cluster_id.unwrap_or_default().0);
        bytes[64..72].copy_from_slice(&self.broker_epoch.unwrap_or_default().0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.synced_up_to.0.to_le_bytes());
        bytes[80..82].copy_from_slice(&count.to_le_bytes());
        for (entry, generation) in bytes[GENERATIONS_AT..].chunks_exact_mut(GENERATION_BYTES).zip(&self.wal_generations)
        {
            entry[..8].copy_from_slice(&generation.generation.to_le_bytes());
            entry[8..].copy_from_slice(&generation.first.0.to_le_bytes());
        }
        if self.has_other_id() {
            bytes[FILES_ID_AT..].copy_from_slice(&self.files_id.0);
        }
        let crc = copy_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// What one copy turned out to be.
enum CopyReading {
    Valid(Superblock),
    Newer(u16),
    Invalid,
}

fn decode(bytes: &[u8], copy: u16) -> CopyReading {
    let Some(bytes) = bytes.first_chunk::<COPY_BYTES>() else { return CopyReading::Invalid };
    if bytes[0..8] != MAGIC || copy_crc(bytes) != u32::from_le_bytes(field(bytes, 12)) {
        return CopyReading::Invalid;
    }
    let version = u16::from_le_bytes(field(bytes, 8));
    if version > VERSION {
        return CopyReading::Newer(version);
    }
    let flags = u32::from_le_bytes(field(bytes, 24));
    let count = usize::from(u16::from_le_bytes(field(bytes, 80)));
    let sequence = u64::from_le_bytes(field(bytes, 16));
    // None is written so often that its number could not rise any more.
    if count > GENERATIONS_MAX || field(bytes, 10) != copy.to_le_bytes() || sequence == u64::MAX {
        return CopyReading::Invalid;
    }
    let generations = bytes[GENERATIONS_AT..].chunks_exact(GENERATION_BYTES).take(count).map(|entry| WalGeneration {
        generation: u64::from_le_bytes(field(entry, 0)),
        first: GroupSequence(u64::from_le_bytes(field(entry, 8))),
    });
    let directory_id = DirectoryId(field(bytes, 32));
    CopyReading::Valid(Superblock {
        cluster_id: (flags & HAS_CLUSTER_ID != 0).then(|| ClusterId(field(bytes, 48))),
        node_id: BrokerId(i32::from_le_bytes(field(bytes, 28))),
        directory_id,
        files_id: if flags & HAS_FILES_ID == 0 { directory_id } else { DirectoryId(field(bytes, FILES_ID_AT)) },
        broker_epoch: (flags & HAS_BROKER_EPOCH != 0).then(|| BrokerEpoch(i64::from_le_bytes(field(bytes, 64)))),
        wal_generations: generations.collect(),
        synced_up_to: GroupSequence(u64::from_le_bytes(field(bytes, 72))),
        clean: flags & CLEAN != 0,
        sequence,
    })
}

/// Whether `bytes` begin with a whole copy of this number.
pub(crate) fn is_whole_copy(bytes: &[u8], copy: u16) -> bool {
    !matches!(decode(bytes, copy), CopyReading::Invalid)
}

/// Whether a copy that is not whole may be one whose write was cut off. Then the pair that is not being written is whole, and the
/// copy has more than a bit of two states in it. `file` is the whole file.
pub(crate) fn may_be_torn(file: &[u8], copy: u16) -> bool {
    let at = |copy: u16| file.get(usize::from(copy) * COPY_BYTES..).unwrap_or_default();
    let whole = |copy: u16| match decode(at(copy), copy) {
        CopyReading::Valid(superblock) => Some(superblock),
        CopyReading::Newer(_) | CopyReading::Invalid => None,
    };
    let other_pair = if copy < 2 { 2 } else { 0 };
    let (Some(first), Some(second)) = (whole(other_pair), whole(other_pair + 1)) else { return false };
    let Some(found) = at(copy).first_chunk::<COPY_BYTES>() else { return false };
    let differs = |state: &Superblock| {
        let bits = state.encode(copy).iter().zip(found).map(|(byte, found)| (byte ^ found).count_ones()).sum::<u32>();
        bits > 1
    };
    first == second && differs(&first) && whole(copy ^ 1).is_none_or(|twin| differs(&twin))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("fixed positions inside a fixed structure")
}

fn copy_crc(bytes: &[u8; COPY_BYTES]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finish()
}

/// Reads the superblock of the data directory `dir`; none if it has none. What is answered is the readable copy with the
/// highest sequence. After a kill that copy may not be durable yet: who goes on with the directory writes the superblock before
/// relying on it.
///
/// # Errors
/// [`SuperblockError::Newer`] if a whole copy has a later version, even if others are readable.
pub async fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Superblock>, SuperblockError> {
    let path = dir.join(FILE_NAME);
    let failed = |source| SuperblockError::Io { path: path.clone(), source };
    let file = match disk.open(&path, OpenOptions::READ).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // After a failed sync the page cache may hold what the device does not.
    file.forget_cached(0, u64::from(COPY_COUNT) * COPY_BYTES as u64).await;
    let mut best: Option<Superblock> = None;
    for copy in 0..COPY_COUNT {
        let bytes = match file.read_at(copy_position(copy), COPY_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(path = %path.display(), copy, %error, "a copy of the superblock cannot be read");
                continue;
            }
        };
        match decode(&bytes, copy) {
            CopyReading::Newer(found) => return Err(SuperblockError::Newer { path, found }),
            CopyReading::Valid(superblock) if best.as_ref().is_none_or(|best| best.sequence < superblock.sequence) => {
                best = Some(superblock);
            }
            CopyReading::Valid(_) | CopyReading::Invalid => {}
        }
    }
    best.map(Some).ok_or(SuperblockError::Damaged { path })
}

/// Writes the superblock of the data directory `dir`, which must exist; durable when it returns. If it fails, the old or the
/// new contents count.
///
/// # Errors
/// Those of the disk; [`SuperblockError::TooManyGenerations`] before anything is written.
pub async fn write<D: Disk>(disk: &D, dir: &Path, superblock: &mut Superblock) -> Result<(), SuperblockError> {
    let count = superblock.wal_generations.len();
    if count > GENERATIONS_MAX {
        return Err(SuperblockError::TooManyGenerations { count });
    }
    superblock.sequence += 1;
    let path = dir.join(FILE_NAME);
    match disk.open(&path, OpenOptions::WRITE).await {
        Ok(file) => {
            write_pair(&file, superblock, 0).await?;
            write_pair(&file, superblock, 2).await
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(disk, dir, superblock).await,
        Err(source) => Err(SuperblockError::Io { path, source }),
    }
}

/// The first write, or one that is to have a name of its own: under another name, so that a superblock is never seen half made.
pub(crate) async fn create<D: Disk>(disk: &D, dir: &Path, superblock: &Superblock) -> Result<(), SuperblockError> {
    let new = dir.join(NEW_FILE_NAME);
    let failed = |source| SuperblockError::Io { path: new.clone(), source };
    let options = OpenOptions { truncate: true, ..OpenOptions::CREATE };
    let file = disk.open(&new, options).await.map_err(failed)?;
    write_pair(&file, superblock, 0).await?;
    write_pair(&file, superblock, 2).await?;
    disk.rename(&new, &dir.join(FILE_NAME)).await.map_err(failed)?;
    disk.sync_dir(dir).await.map_err(SuperblockError::Sync)
}

async fn write_pair<F: File>(file: &F, superblock: &Superblock, first: u16) -> Result<(), SuperblockError> {
    let mut bytes = BytesMut::with_capacity(2 * COPY_BYTES);
    for copy in [first, first + 1] {
        bytes.extend_from_slice(&superblock.encode(copy));
    }
    let chunks: Vec<Bytes> = vec![bytes.freeze()];
    match file.write_sync(copy_position(first), chunks).await {
        Ok(synced) => synced.map_err(SuperblockError::Sync),
        Err(source) => Err(SuperblockError::Io { path: file.path().to_owned(), source }),
    }
}

fn copy_position(copy: u16) -> u64 {
    u64::from(copy) * COPY_BYTES as u64
}

#[cfg(test)]
mod tests;
