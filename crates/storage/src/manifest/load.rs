//! Reading the manifest back.
//!
//! Not here: what becomes of it (`store::open`), and its reading without a store (`verify`).

use core::fmt;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use quipu_base::{DirectoryId, TopicIdPartition};
use quipu_env::{Disk, File, OpenOptions, SyncError};

use super::{
    Edit, FILE_NAME, Tombstones,
    record::{
        HEAD_BYTES, HeadReading, Kind, RECORD_HEAD_BYTES, RECORD_MAGIC, RECORDS_AT, RecordView, VERSION, decode_head,
    },
};
use crate::{partition::PartitionState, wal::GroupSequence};

/// A range of the manifest's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) position: u64,
    pub(crate) length: u64,
}

/// What a manifest says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) partitions: BTreeMap<TopicIdPartition, PartitionState>,
    pub(crate) tombstones: Tombstones,
    pub(crate) covered: GroupSequence,
    pub(crate) file_id: u64,
    /// Whose it is; zero if it does not say.
    pub(crate) directory_id: DirectoryId,
    /// The next record's sequence.
    pub(crate) next_sequence: u64,
    /// Where the snapshot's last record ends.
    pub(crate) snapshot_end: u64,
    /// Where the last record ends.
    pub(crate) end: u64,
    /// Copies that do not read although their twin does.
    pub(crate) damaged: Vec<Extent>,
    /// The last record, if only one of its copies reads: torn, as far as can be told.
    pub(crate) half_written: Option<Extent>,
    /// What follows the last record, if it is not zeros: an edit that was not finished.
    pub(crate) torn: Option<Extent>,
}

/// Why a manifest can't be read.
#[derive(Debug)]
pub enum ManifestError {
    /// Written by a later release.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// Neither copy of something in the middle of the file reads.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// What was to be there.
        what: &'static str,
    },
    /// The system refused to open or read it.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can't be synced, so what it seems to say may be lost.
    Sync(SyncError),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { path, found } => write!(
                f,
                "{} has format version {found}, this release knows up to {VERSION}: start a later release on this directory",
                path.display()
            ),
            Self::Damaged { path, position, what } => write!(
                f,
                "{} is damaged at byte {position} ({what}): restore the directory from a replica or a backup",
                path.display()
            ),
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Sync(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ManifestError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Sync(error) => Some(error),
            Self::Newer { .. } | Self::Damaged { .. } => None,
        }
    }
}

/// Whether a manifest is read to be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Yes: it is synced first, so that nothing is relied on that a power cut would take away again.
    Open,
    /// No: nothing is written.
    Inspect,
}

/// Reads the manifest of the data directory `dir`; none if it has none.
pub(crate) async fn load<D: Disk>(disk: &D, dir: &Path, purpose: Purpose) -> Result<Option<Loaded>, ManifestError> {
    let path = dir.join(FILE_NAME);
    let failed = |source| ManifestError::Io { path: path.clone(), source };
    let options = if purpose == Purpose::Open { OpenOptions::WRITE } else { OpenOptions::READ };
    let file = match disk.open(&path, options).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if purpose == Purpose::Open {
        file.sync_data().await.map_err(ManifestError::Sync)?;
        disk.sync_dir(dir).await.map_err(ManifestError::Sync)?;
    }
    let size = file.size().await.map_err(failed)?;
    // After a failed sync the page cache may hold what the device does not.
    file.forget_cached(0, size).await;
    let length = usize::try_from(size).map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?;
    let bytes = file.read_at(0, length).await.map_err(failed)?;
    parse(&bytes, &path).map(Some)
}

/// Reads a manifest from its bytes. `path` is for messages.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Loaded, ManifestError> {
    let damaged =
        |position: usize, what| ManifestError::Damaged { path: path.to_owned(), position: position as u64, what };
    let mut loaded = Loaded::default();
    let file_id = read_heads(bytes, path, &mut loaded)?;
    let mut cursor = Cursor { bytes, file_id, position: RECORDS_AT, expected: 1 };
    let mut complete = false;
    loop {
        let at = cursor.position;
        let record = match cursor.next_record() {
            Next::Record(record) => record,
            Next::End { torn } => {
                if !complete {
                    return Err(damaged(at, "the snapshot is not complete"));
                }
                loaded.torn = torn.map(|length| Extent { position: at as u64, length: length as u64 });
                break;
            }
            Next::Damaged => return Err(damaged(at, "a record before the last")),
        };
        // Another bad half shows that the one noted before was not the last write.
        loaded.damaged.extend(loaded.half_written.take());
        loaded.half_written = record.bad_copy;
        match record.view.kind {
            Kind::SnapshotPart | Kind::SnapshotEnd if complete => return Err(damaged(at, "a second snapshot")),
            Kind::Edit if !complete => return Err(damaged(at, "an edit before the snapshot's end")),
            Kind::SnapshotEnd => {
                complete = true;
                loaded.snapshot_end = cursor.position as u64;
            }
            Kind::SnapshotPart | Kind::Edit => {}
        }
        if let Some(found) = record.view.newer_version() {
            return Err(ManifestError::Newer { path: path.to_owned(), found });
        }
        let edit = record.view.edit().ok_or_else(|| damaged(at, "a record that is no edit"))?;
        loaded.apply(edit);
    }
    // The second copy of the last record may be cut off.
    loaded.end = cursor.position.min(bytes.len()) as u64;
    loaded.file_id = file_id;
    loaded.next_sequence = cursor.expected;
    Ok(loaded)
}

impl Loaded {
    /// Whether it is that of this data directory, as far as it says.
    pub(crate) fn belongs_to(&self, directory_id: DirectoryId) -> bool {
        [DirectoryId::ZERO, directory_id].contains(&self.directory_id)
    }

    fn apply(&mut self, edit: Edit) {
        self.covered = GroupSequence(edit.covered);
        for (partition, group) in edit.deleted {
            self.partitions.remove(&partition);
            self.tombstones.insert(partition, GroupSequence(group));
        }
        for (partition, update) in edit.updates {
            self.partitions.entry(partition).or_default().apply(update);
        }
        self.tombstones.retain(|_, group| *group > self.covered);
    }
}

fn read_heads(bytes: &[u8], path: &Path, loaded: &mut Loaded) -> Result<u64, ManifestError> {
    let mut found = None;
    for copy in [0, 1] {
        let at = usize::from(copy) * HEAD_BYTES;
        match decode_head(bytes.get(at..at + HEAD_BYTES).unwrap_or_default(), copy) {
            HeadReading::Valid { file_id, directory_id } => {
                loaded.directory_id = directory_id;
                found = found.or(Some(file_id));
            }
            HeadReading::Newer(found) => return Err(ManifestError::Newer { path: path.to_owned(), found }),
            HeadReading::Invalid => {
                loaded.damaged.push(Extent { position: at as u64, length: HEAD_BYTES as u64 });
            }
        }
    }
    found.ok_or_else(|| ManifestError::Damaged { path: path.to_owned(), position: 0, what: "both copies of the head" })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    file_id: u64,
    position: usize,
    expected: u64,
}

enum Next<'a> {
    Record(Found<'a>),
    /// No record follows; `torn` is the length of what is there instead, if it is not zeros.
    End {
        torn: Option<usize>,
    },
    Damaged,
}

struct Found<'a> {
    view: RecordView<'a>,
    bad_copy: Option<Extent>,
}

impl<'a> Cursor<'a> {
    fn next_record(&mut self) -> Next<'a> {
        let bytes: &'a [u8] = self.bytes;
        let rest = bytes.get(self.position..).unwrap_or_default();
        let front =
            RecordView::decode(rest, self.file_id).filter(|view| view.sequence == self.expected && view.copy == 0);
        let (view, second_at) = match front {
            Some(view) => (view, view.total_bytes()),
            None => match self.find_ahead(rest) {
                Ahead::Twin(view, at) => (view, at),
                Ahead::Later => return Next::Damaged,
                Ahead::Nothing => {
                    return Next::End { torn: Some(used_bytes(rest)).filter(|length| *length > 0) };
                }
            },
        };
        let bad_at = if front.is_none() {
            Some(0)
        } else {
            let twin = rest.get(second_at..).and_then(|rest| RecordView::decode(rest, self.file_id));
            let good = twin.is_some_and(|twin| twin.sequence == view.sequence && twin.copy == 1);
            (!good).then_some(second_at)
        };
        let bad_copy =
            bad_at.map(|at| Extent { position: (self.position + at) as u64, length: view.total_bytes() as u64 });
        self.position += second_at + view.total_bytes();
        self.expected += 1;
        Next::Record(Found { view, bad_copy })
    }

    /// Looks for a readable record behind an unreadable one.
    fn find_ahead(&self, rest: &'a [u8]) -> Ahead<'a> {
        // What a file has been given ahead of its records is zeros, which begin none.
        let used = &rest[..(used_bytes(rest) + RECORD_HEAD_BYTES).min(rest.len())];
        let mut at = 1;
        while let Some(found) = find(used.get(at..).unwrap_or_default(), &RECORD_MAGIC) {
            at += found;
            if let Some(view) = RecordView::decode(&rest[at..], self.file_id) {
                if view.sequence == self.expected && view.copy == 1 && view.total_bytes() == at {
                    return Ahead::Twin(view, at);
                }
                if view.sequence >= self.expected {
                    return Ahead::Later;
                }
            }
            at += 1;
        }
        Ahead::Nothing
    }
}

enum Ahead<'a> {
    /// The second copy of the record that was expected, where it has to be.
    Twin(RecordView<'a>, usize),
    Later,
    Nothing,
}

/// The length without the zeros at the end.
fn used_bytes(bytes: &[u8]) -> usize {
    const CHUNK_BYTES: usize = 256;
    let is_empty = |chunk: &&[u8]| chunk.iter().fold(0, |all, byte| all | byte) == 0;
    let empty: usize = bytes.rchunks(CHUNK_BYTES).take_while(is_empty).map(<[u8]>::len).sum();
    bytes[..bytes.len() - empty].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    if bytes.len() < RECORD_HEAD_BYTES {
        return None;
    }
    bytes.windows(needle.len()).position(|window| window == needle)
}
