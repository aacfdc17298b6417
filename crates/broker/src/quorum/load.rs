//! What a start finds: the metadata log, what is kept beside it, the newest snapshot.
//!
//! | found | then |
//! |---|---|
//! | a log, and what is kept beside it | as stored |
//! | a log alone: a release before the quorum wrote it | the epoch of its last batch, no vote; its one voter is in its records |
//! | nothing | nobody has founded this replica yet |
//!
//! The whole log is read and applied once, so that damage, or records of a later release, are told at the start. Whose vote is the
//! only one has committed all that it holds; others learn from their leader how far that is.
//!
//! Not here: founding (`found`), running (`mod`).

use core::fmt;

use bytes::{Bytes, BytesMut};
use quipu_base::{Offset, TopicIdPartition, limits};
use quipu_env::{Env, File, Segment};
use quipu_metadata::{ApplyError, Delta, Image, codec::DecodeError};
use quipu_raft::{Entry, HardState, LogSummary, ReplicaKey, Stored, VoterSet, VoterSetError};
use quipu_records::Batches;
use quipu_storage::{Log, ReadError, ReadResult, StateKind, Store};

use super::{
    entries::{EntryError, RecordsError, of_batch, records_of},
    kept::{Kept, KeptError},
    snapshots::{SnapshotError, Snapshots},
};

/// Bytes of the log read at a time.
pub(super) const READ_BYTES: usize = 8 * limits::MIB;

/// Why the metadata can't be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The log can't be read.
    Read(ReadError),
    /// A batch of it is no entry.
    Entry(EntryError),
    /// A record is unknown: written by a newer release, or damaged.
    Record(DecodeError),
    /// Its records contradict each other.
    Apply(ApplyError),
    /// What is kept beside the log can't be read.
    Kept(KeptError),
    /// The snapshot can't be used.
    Snapshot(SnapshotError),
    /// The log's records name voters that can't be.
    Voters(VoterSetError),
    /// Log, snapshot and what is kept don't belong together.
    Raft(quipu_raft::StartError),
    /// The log begins elsewhere than it should.
    Start {
        /// Where it should begin.
        expected: Offset,
        /// Where it does.
        found: Offset,
    },
}

impl LoadError {
    /// Whether a later release is needed, and nothing is wrong.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(
            self,
            Self::Record(DecodeError::NewerVersion { .. })
                | Self::Kept(KeptError::Newer { .. })
                | Self::Snapshot(SnapshotError::Image(
                    quipu_metadata::SnapshotError::Version { .. }
                        | quipu_metadata::SnapshotError::Record(DecodeError::NewerVersion { .. })
                ))
        )
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata log can't be used: ")?;
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Entry(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Kept(error) => error.fmt(f),
            Self::Snapshot(error) => error.fmt(f),
            Self::Voters(error) => error.fmt(f),
            Self::Raft(error) => error.fmt(f),
            Self::Start { expected, found } => {
                write!(f, "it begins at offset {found}, and what is kept beside it says {expected}")
            }
        }
    }
}

impl core::error::Error for LoadError {}

impl From<RecordsError> for LoadError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Entry(error) => Self::Entry(error),
            RecordsError::Record(error) => Self::Record(error),
        }
    }
}

/// What a start found.
pub(super) struct Loaded<E: Env> {
    pub(super) log: Log<E>,
    /// None: nobody has founded this replica yet.
    pub(super) kept: Option<Kept>,
    summary: LogSummary,
    /// The state behind what is applied.
    pub(super) image: Image,
    /// Everything before is in the image.
    pub(super) applied: Offset,
    damage: Option<String>,
}

/// Reads everything.
pub(super) async fn load<E: Env>(
    store: &Store<E>,
    snapshots: &Snapshots<E>,
    me: ReplicaKey,
) -> Result<Loaded<E>, LoadError> {
    let log = store.log(TopicIdPartition::METADATA);
    let kept = log.durable_state(StateKind::RaftHardState).map(|bytes| Kept::decode(&bytes)).transpose();
    let kept = kept.map_err(LoadError::Kept)?;
    let (begin, begin_at) = match kept.as_ref().and_then(|kept| kept.snapshot.as_ref()) {
        Some(meta) => (snapshots.read(meta).await.map_err(LoadError::Snapshot)?, meta.base.point.offset),
        None => (Image::new(), Offset::ZERO),
    };
    if let Some(fault) = log.fault() {
        let summary = LogSummary::empty(VoterSet::EMPTY);
        return Ok(Loaded { log, kept, summary, image: begin, applied: begin_at, damage: Some(fault.to_string()) });
    }
    let summary = kept
        .as_ref()
        .map_or_else(|| LogSummary::empty(VoterSet::EMPTY), |kept| LogSummary::from_base(kept.base.clone()));
    let mut replay = Replay { summary, image: begin.clone(), applied: begin_at };
    let (found, end) = (log.offsets().log_start, log.offsets().durable_end);
    if found != replay.summary.end {
        return Err(LoadError::Start { expected: replay.summary.end, found });
    }
    let mut offset = found;
    while offset < end {
        let entries = read_entries(&log, offset, end, READ_BYTES).await?;
        for entry in &entries {
            replay.push(entry)?;
        }
        offset = replay.summary.end;
    }
    let Replay { mut summary, image, applied } = replay;
    let kept = match kept {
        None if found < end => {
            let voters = voters_of(&image)?;
            summary.base.voters = voters.clone();
            Some(Kept::new(HardState { epoch: log.latest_epoch(), vote: None }, voters))
        }
        kept => kept,
    };
    let voters = summary.voter_sets.last().map_or(&summary.base.voters, |(_, voters)| voters);
    let is_alone = voters.len() == 1 && voters.contains(me);
    let (image, applied) = if is_alone { (image, applied) } else { (begin, begin_at) };
    Ok(Loaded { log, kept, summary, image, applied, damage: None })
}

/// The voters that the records name: those of a release before the quorum.
fn voters_of(image: &Image) -> Result<VoterSet, LoadError> {
    let voters = image.controller().map(|controller| controller.voters.iter()).into_iter().flatten();
    let voters = voters.map(|voter| ReplicaKey { id: voter.node, directory: voter.directory_id });
    VoterSet::new(voters).map_err(LoadError::Voters)
}

struct Replay {
    summary: LogSummary,
    image: Image,
    applied: Offset,
}

impl Replay {
    fn push(&mut self, entry: &Entry) -> Result<(), LoadError> {
        let base = self.summary.end;
        self.summary.push(entry).map_err(LoadError::Raft)?;
        if base < self.applied {
            return Ok(());
        }
        // The log is read, not changed: there is nobody to tell yet.
        let mut delta = Delta::default();
        for (offset, record) in records_of(entry)? {
            self.image.apply(offset, &record, &mut delta).map_err(LoadError::Apply)?;
        }
        self.applied = self.summary.end;
        Ok(())
    }
}

impl<E: Env> Loaded<E> {
    /// As Raft wants it. `kept` is what stands beside the log, or will.
    pub(super) fn stored(&self, kept: &Kept) -> Stored {
        let mut log = self.summary.clone();
        log.base = kept.base.clone();
        Stored { hard_state: kept.hard, log, snapshot: kept.snapshot.clone(), damage: self.damage.clone() }
    }
}

/// Entries of the log from `from` on, which is where one begins; at least one, if there is one before `until`.
pub(super) async fn read_entries<E: Env>(
    log: &Log<E>,
    from: Offset,
    until: Offset,
    bytes_max: usize,
) -> Result<Vec<Entry>, LoadError> {
    let read = log.read(from, until, bytes_max, true).await.map_err(LoadError::Read)?;
    let bytes = gather(read).await.map_err(LoadError::Read)?;
    let mut entries = Vec::new();
    let mut next = from;
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(EntryError::Batch).map_err(LoadError::Entry)?;
        batch.check_crc().map_err(EntryError::Batch).map_err(LoadError::Entry)?;
        // Neither is in the batch's own checksum, and the disk may have changed since the range was checked.
        let header = batch.header();
        if header.base_offset != next || header.leader_epoch != log.epoch_at(next) {
            return Err(LoadError::Entry(EntryError::Place));
        }
        next = batch.header().next_offset();
        entries.push(of_batch(&batch).map_err(LoadError::Entry)?);
    }
    if entries.is_empty() { Err(LoadError::Entry(EntryError::Place)) } else { Ok(entries) }
}

/// All bytes of a read in one piece.
async fn gather<E: Env>(read: ReadResult<E>) -> Result<Bytes, ReadError> {
    let mut bytes = BytesMut::with_capacity(read.bytes);
    for segment in read.segments {
        match segment {
            Segment::Bytes(piece) => bytes.extend_from_slice(&piece),
            Segment::File { file, position, length } => {
                let piece = file.read_at(position, length).await;
                let piece =
                    piece.map_err(|error| ReadError::Io { file: file.path().to_owned(), kind: error.kind() })?;
                bytes.extend_from_slice(&piece);
            }
        }
    }
    Ok(bytes.freeze())
}
