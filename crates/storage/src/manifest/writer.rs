//! Writing the manifest: edits behind what is there, and whole files that replace it.
//!
//! Invariant: after a write or sync that failed, nothing is appended to that file any more; the next commit replaces it.
//!
//! Not here: what is committed, and in what order with other files (`checkpoint`).

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use quipu_base::{DirectoryId, limits::MIB};
use quipu_env::{Disk, Env, File, OpenOptions, Probe};
use rand::RngExt;

use super::{
    Edit, FILE_NAME, Loaded, NEW_FILE_NAME, Tombstones,
    record::{Kind, encode_head, encode_record},
};
use crate::{
    error::CheckpointError,
    partition::{PartitionState, Partitions},
    wal::GroupSequence,
};

/// Zeros kept behind the last record.
const SLACK_BYTES: u64 = MIB as u64;
/// Less than this, and more are added.
const SLACK_LOW_BYTES: u64 = SLACK_BYTES / 2;
/// Edits may grow to this, or to twice the snapshot, before the file is replaced.
const EDITS_BYTES: u64 = 8 * MIB as u64;
/// Partitions in one record of a snapshot.
const SNAPSHOT_PARTITIONS: usize = 512;

/// All that a manifest says.
pub(crate) struct Contents<'a> {
    pub(crate) covered: GroupSequence,
    pub(crate) tombstones: &'a Tombstones,
    pub(crate) partitions: &'a Partitions,
}

/// The manifest file, open for edits.
pub(crate) struct Manifest<E: Env> {
    env: E,
    dir: PathBuf,
    directory_id: DirectoryId,
    /// None before the first file is there, and after a failure that leaves a file's contents unknown.
    open: Option<OpenManifest<<E::Disk as Disk>::File>>,
    /// The file has something that is better left behind.
    is_worn: bool,
}

struct OpenManifest<F> {
    file: F,
    file_id: u64,
    next_sequence: u64,
    /// Where the next record goes.
    end: u64,
    /// Up to where the file is allocated.
    allocated: u64,
    snapshot_bytes: u64,
}

impl<E: Env> Manifest<E> {
    /// Of a directory that has none.
    pub(crate) fn new(env: E, dir: &Path, directory_id: DirectoryId) -> Self {
        Self { env, dir: dir.to_owned(), directory_id, open: None, is_worn: false }
    }

    /// Goes on with the one that was loaded. Behind a torn record, too: the next one takes its place, and what may be left of it
    /// behind that has a sequence that will not be looked for.
    pub(crate) async fn resume(
        env: E,
        dir: &Path,
        directory_id: DirectoryId,
        loaded: &Loaded,
    ) -> Result<Self, CheckpointError> {
        let path = dir.join(FILE_NAME);
        let file = env.disk().open(&path, OpenOptions::WRITE).await.map_err(CheckpointError::io(&path))?;
        let allocated = file.size().await.map_err(CheckpointError::io(&path))?;
        let open = OpenManifest {
            file,
            file_id: loaded.file_id,
            next_sequence: loaded.next_sequence,
            end: loaded.end,
            allocated,
            snapshot_bytes: loaded.snapshot_end,
        };
        let is_worn = loaded.torn.is_some()
            || loaded.half_written.is_some()
            || !loaded.damaged.is_empty()
            || loaded.directory_id != directory_id;
        Ok(Self { env, dir: dir.to_owned(), directory_id, open: Some(open), is_worn })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Whether the file is better replaced than added to.
    pub(crate) fn should_replace(&self) -> bool {
        self.is_worn
            || self
                .open
                .as_ref()
                .is_none_or(|open| open.end - open.snapshot_bytes > EDITS_BYTES.max(2 * open.snapshot_bytes))
    }

    /// Whether an edit can be added to the file.
    pub(crate) const fn can_append(&self) -> bool {
        self.open.is_some()
    }

    /// Adds an edit; durable when it returns. After an error the edit may or may not be found by a later start, and unless
    /// [`Self::can_append`] the next commit must be [`Self::replace`].
    pub(crate) async fn append(&mut self, edit: &Edit) -> Result<(), CheckpointError> {
        let path = self.path();
        let Some(open) = &mut self.open else { unreachable!("the caller replaces the file after a failure") };
        let mut record = BytesMut::new();
        encode_record(&mut record, open.file_id, Kind::Edit, open.next_sequence, edit);
        let record = record.freeze();
        let length = record.len() as u64;
        // Only zeros may hit a full disk: the record itself goes to where space is allocated.
        if open.end + length > open.allocated {
            open.grow(length).await.map_err(CheckpointError::io(&path))?;
        }
        self.env.probe().crash_point("manifest.edit");
        match open.file.write_sync(open.end, vec![record]).await {
            Ok(Ok(())) => {
                open.end += length;
                open.next_sequence += 1;
            }
            Ok(Err(error)) => {
                self.open = None;
                return Err(error.into());
            }
            Err(error) => {
                self.open = None;
                return Err(CheckpointError::Io { file: path, error });
            }
        }
        self.env.probe().crash_point("manifest.edit.synced");
        if open.allocated - open.end < SLACK_LOW_BYTES
            && let Err(error) = open.grow(0).await
        {
            tracing::debug!(path = %path.display(), %error, "the manifest could not be extended ahead of need");
        }
        Ok(())
    }

    /// Writes a new file with these contents and puts it in the place of the old one; durable when it returns.
    pub(crate) async fn replace(&mut self, contents: &Contents<'_>) -> Result<(), CheckpointError> {
        let new = self.dir.join(NEW_FILE_NAME);
        let successor = self.write_successor(&new, contents).await;
        if successor.is_err() {
            // On a full disk its space is needed.
            drop(self.env.disk().remove(&new).await);
        }
        let successor = successor?;
        // From here on it is not known which of the two a later start finds.
        self.open = None;
        let path = self.path();
        let probe = self.env.probe();
        self.env.disk().rename(&new, &path).await.map_err(CheckpointError::io(&path))?;
        probe.crash_point("manifest.renamed");
        if !probe.planted("manifest.name-unsynced") {
            self.env.disk().sync_dir(&self.dir).await?;
        }
        probe.crash_point("manifest.replaced");
        probe.sometimes("manifest.replaced");
        self.open = Some(successor);
        self.is_worn = false;
        Ok(())
    }

    async fn write_successor(
        &self,
        new: &Path,
        contents: &Contents<'_>,
    ) -> Result<OpenManifest<<E::Disk as Disk>::File>, CheckpointError> {
        let file_id: u64 = self.env.rng("storage.manifest").random();
        let (bytes, next_sequence) = encode_snapshot(file_id, self.directory_id, contents);
        let snapshot_bytes = bytes.len() as u64;
        let options = OpenOptions { truncate: true, ..OpenOptions::CREATE };
        let file = self.env.disk().open(new, options).await.map_err(CheckpointError::io(new))?;
        file.write_at(0, vec![bytes, zeros(SLACK_BYTES)]).await.map_err(CheckpointError::io(new))?;
        self.env.probe().crash_point("manifest.written");
        if !self.env.probe().planted("manifest.renamed-unsynced") {
            file.sync_data().await?;
        }
        self.env.probe().crash_point("manifest.synced");
        Ok(OpenManifest {
            file,
            file_id,
            next_sequence,
            end: snapshot_bytes,
            allocated: snapshot_bytes + SLACK_BYTES,
            snapshot_bytes,
        })
    }
}

impl<F: File> OpenManifest<F> {
    /// Allocates room for `length` more bytes behind the last record, and slack.
    async fn grow(&mut self, length: u64) -> std::io::Result<()> {
        let wanted = self.end + length + SLACK_BYTES;
        self.file.write_at(self.allocated, vec![zeros(wanted.saturating_sub(self.allocated))]).await?;
        self.allocated = self.allocated.max(wanted);
        Ok(())
    }
}

fn zeros(length: u64) -> Bytes {
    BytesMut::zeroed(usize::try_from(length).expect("slack and one edit fit memory")).freeze()
}

pub(super) fn encode_snapshot(file_id: u64, directory_id: DirectoryId, contents: &Contents<'_>) -> (Bytes, u64) {
    let empty = PartitionState::default();
    let mut bytes = encode_head(file_id, directory_id);
    let mut sequence = 1;
    let mut updates = Vec::new();
    for (partition, state) in contents.partitions {
        updates.push((*partition, empty.update_to(state)));
        if updates.len() == SNAPSHOT_PARTITIONS {
            let edit = Edit { covered: 0, updates: std::mem::take(&mut updates), deleted: Vec::new() };
            encode_record(&mut bytes, file_id, Kind::SnapshotPart, sequence, &edit);
            sequence += 1;
        }
    }
    let deleted = contents.tombstones.iter().map(|(partition, group)| (*partition, group.0)).collect();
    let last = Edit { covered: contents.covered.0, updates, deleted };
    encode_record(&mut bytes, file_id, Kind::SnapshotEnd, sequence, &last);
    (bytes.freeze(), sequence + 1)
}
