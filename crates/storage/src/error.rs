//! What can go wrong for a user of the store. Each message says what happened, where, and what to do.
//!
//! Not here: the errors of the superblock and the WAL, which [`OpenError`](crate::OpenError) carries.

use core::fmt;
use std::{
    io,
    path::{Path, PathBuf},
};

use quipu_base::{Offset, ProducerEpoch, ProducerId, Sequence, TopicIdPartition};
use quipu_env::SyncError;

use crate::BadStep;

/// What to say of a file that was written in another data directory.
pub(crate) struct Mixed<'a>(pub(crate) &'a Path);

impl fmt::Display for Mixed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} belongs to another data directory than the superblock beside it, so to another node or cluster: put back the \
             file that belongs here, or use a directory whose files belong together",
            self.0.display()
        )
    }
}

/// The disk (or what is allowed of it) is full, and nothing is being freed. Reads and deletes go on; writing resumes when space
/// returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreFull;

impl fmt::Display for StoreFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the data directory's disk is full; free space on it or delete topics, and writing resumes")
    }
}

impl core::error::Error for StoreFull {}

/// Why a batch was not appended. It left no trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// The producer's sequence has a gap, or repeats what is no longer remembered.
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// What would have followed.
        expected: Sequence,
        /// What came.
        received: Sequence,
    },
    /// A newer instance of the same producer has written.
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        producer_epoch: ProducerEpoch,
        /// The newest epoch seen.
        current: ProducerEpoch,
    },
    /// The partition's stored data is damaged; it is offline until repaired.
    Faulty(Fault),
    /// The partition was deleted.
    Deleted,
    /// The offset would pass `i64::MAX`.
    OffsetOverflow,
    /// The bytes are not one batch with this header. The caller's fault: batches are validated before they are appended.
    NotOneBatch,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrderSequence { producer_id, expected, received } => write!(
                f,
                "producer {producer_id} sent sequence {received} where {expected} was expected; it must start a new epoch"
            ),
            Self::InvalidProducerEpoch { producer_id, producer_epoch, current } => write!(
                f,
                "producer {producer_id} has epoch {producer_epoch}, but epoch {current} has written; stop the older instance"
            ),
            Self::Faulty(fault) => fault.fmt(f),
            Self::Deleted => f.write_str("the partition was deleted"),
            Self::OffsetOverflow => f.write_str("the partition has used up all 64-bit offsets; create a new topic"),
            Self::NotOneBatch => f.write_str("the bytes are not exactly the batch that the header describes"),
        }
    }
}

impl core::error::Error for AppendError {}

/// Damage that takes a whole partition offline: a part of its log is gone, and what follows can't be trusted to be next.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// The file that is damaged.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
    /// Offset from which the partition is incomplete.
    pub offset: Offset,
    /// What is wrong with them.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, length, offset, why } = self;
        write!(
            f,
            "damaged: {} at byte {position} ({length} bytes): {why}; offline from offset {offset} until repaired or deleted",
            file.display()
        )
    }
}

/// Why nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The offset lies outside the log.
    OutOfRange {
        /// The first offset there is.
        log_start: Offset,
        /// The offset of the next record.
        log_end: Offset,
    },
    /// Bytes at the offset fail their checksum. Other offsets can be read.
    Damaged {
        /// The partition.
        partition: TopicIdPartition,
        /// The segment file.
        file: PathBuf,
        /// Where in it the damage begins, in bytes.
        position: u64,
        /// The first offset affected.
        offset: Offset,
        /// Which check failed.
        why: String,
    },
    /// The records at the offset were lost, and are still to be fetched from another replica.
    Missing {
        /// The first of them that was asked for.
        offset: Offset,
    },
    /// The whole partition is offline.
    Faulty(Fault),
    /// The partition was deleted.
    Deleted,
    /// The system refused to open or read a segment file.
    Io {
        /// The segment file.
        file: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A record in a stored batch can't be decoded, although the batch's checksum is right.
    BadBatch {
        /// The batch's base offset.
        base_offset: Offset,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { log_start, log_end } => write!(f, "the log holds offsets {log_start} to {log_end}"),
            Self::Damaged { partition, file, position, offset, why } => write!(
                f,
                "partition {partition}: {} is damaged at byte {position}, offset {offset}: {why}; check the disk, and restore \
                 the file from a copy or skip the range",
                file.display()
            ),
            Self::Missing { offset } => {
                write!(
                    f,
                    "the records from offset {offset} on were lost, and are still to be fetched from another replica"
                )
            }
            Self::Faulty(fault) => fault.fmt(f),
            Self::Deleted => f.write_str("the partition was deleted"),
            Self::Io { file, kind } => write!(f, "cannot read {}: {kind}", file.display()),
            Self::BadBatch { base_offset, why } => {
                write!(f, "the batch at offset {base_offset} has records that cannot be decoded: {why}")
            }
        }
    }
}

impl core::error::Error for ReadError {}

impl ReadError {
    pub(crate) fn io(file: &Path, error: &io::Error) -> Self {
        Self::Io { file: file.to_owned(), kind: error.kind() }
    }
}

/// Why a log start, a truncation, a state or a step was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// The offset lies outside what the change allows.
    OutOfRange {
        /// The first offset there is.
        log_start: Offset,
        /// The offset of the next record.
        log_end: Offset,
    },
    /// The partition's stored data is damaged.
    Faulty(Fault),
    /// The partition was deleted.
    Deleted,
    /// What has to be read for the change can't be.
    Read(ReadError),
    /// What has to be written for the change can't be: why, for people.
    Write(String),
    /// It is not a step that the log can make. The caller's fault.
    BadStep(BadStep),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { log_start, log_end } => write!(f, "the log holds offsets {log_start} to {log_end}"),
            Self::Faulty(fault) => fault.fmt(f),
            Self::Deleted => f.write_str("the partition was deleted"),
            Self::Read(error) => error.fmt(f),
            Self::Write(why) => f.write_str(why),
            Self::BadStep(bad) => bad.fmt(f),
        }
    }
}

impl core::error::Error for ChangeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::BadStep(bad) => Some(bad),
            _ => None,
        }
    }
}

/// Why a checkpoint could not be completed. It is tried again by itself; everything durable stays in the WAL meanwhile.
#[derive(Debug)]
pub(crate) enum CheckpointError {
    /// The system refused a write, an open or a rename.
    Io { file: PathBuf, error: io::Error },
    /// A sync failed.
    Sync(SyncError),
    /// What has to be read for it can't be.
    Read(ReadError),
}

impl CheckpointError {
    pub(crate) fn io(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { file: file.to_owned(), error }
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, error } => write!(f, "cannot write {}: {error}", file.display()),
            Self::Sync(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CheckpointError {}

impl From<SyncError> for CheckpointError {
    fn from(error: SyncError) -> Self {
        Self::Sync(error)
    }
}

impl From<ReadError> for CheckpointError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}
