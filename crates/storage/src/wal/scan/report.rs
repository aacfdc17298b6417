//! What a scan gives: groups, and at its end what was cut and what is damaged.

use core::fmt;
use std::{io, path::PathBuf};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, TopicIdPartition};
use quipu_env::SyncError;

use crate::{
    error::Mixed,
    wal::{FrameKind, GroupSequence, Resume},
};

/// A group of the log.
#[derive(Clone, Debug)]
pub struct ScannedGroup {
    /// Its number.
    pub sequence: GroupSequence,
    /// The start that wrote it.
    pub generation: u64,
    /// Its file.
    pub file: PathBuf,
    /// Where in it, bytes.
    pub position: u64,
    /// Bytes of the group.
    pub length: u64,
    /// Every group up to this one had been synced when this one was formed.
    pub synced_up_to: GroupSequence,
    /// Its frames, in order. Empty if neither copy of the directory was readable: see [`ScanEnd::damage`].
    pub frames: Vec<ScannedFrame>,
}

/// A frame of the log.
#[derive(Clone, Debug)]
pub struct ScannedFrame {
    /// Whom it concerns.
    pub partition: TopicIdPartition,
    /// What it does.
    pub kind: FrameKind,
    /// The leader epoch it was written under.
    pub leader_epoch: LeaderEpoch,
    /// The offset it is about.
    pub base_offset: Offset,
    /// Its payload; empty if it is bad. Holding it holds the few MiB that were read at once.
    pub payload: Bytes,
    /// The payload does not match its checksum: the partition is faulty.
    pub bad: bool,
}

/// Bytes that no longer belong to the log. None of them had been acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutReport {
    /// The WAL file.
    pub file: PathBuf,
    /// Where in it, bytes.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
    /// Where they (at most the first 16 MiB) were kept; none if that failed, or if nothing was to be written.
    pub kept_as: Option<PathBuf>,
}

/// Whom damage concerns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Affected {
    /// These partitions, sorted; possibly none.
    Only(Vec<TopicIdPartition>),
    /// Every partition of the directory except these, sorted: later frames prove that they were not touched.
    AllBut(Vec<TopicIdPartition>),
}

impl Affected {
    /// Whether `partition` is faulty.
    #[must_use]
    pub fn concerns(&self, partition: &TopicIdPartition) -> bool {
        match self {
            Self::Only(faulty) => faulty.binary_search(partition).is_ok(),
            Self::AllBut(untouched) => untouched.binary_search(partition).is_err(),
        }
    }
}

/// Groups that had been synced and can't be read any more, all or in part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The WAL file where they should be, or the WAL's directory if not even that is known.
    pub file: PathBuf,
    /// Where in it, bytes.
    pub position: u64,
    /// How many bytes; 0 if it is not known.
    pub length: u64,
    /// The first damaged group.
    pub first: GroupSequence,
    /// The last one.
    pub last: GroupSequence,
    /// Whom it concerns.
    pub affected: Affected,
    /// What is wrong with it.
    pub why: String,
}

/// The end of a scan.
#[derive(Debug)]
pub struct ScanEnd {
    /// From where to go on.
    pub resume: Resume,
    /// What was cut.
    pub cut: Vec<CutReport>,
    /// What is damaged, in the order of the log.
    pub damage: Vec<Damage>,
    /// Bytes of groups that no checkpoint covers.
    pub uncovered_bytes: u64,
}

/// Why a scan failed.
#[derive(Debug)]
pub enum ScanError {
    /// A group was written by a later release.
    Newer {
        /// Its file.
        path: PathBuf,
        /// Where in it, bytes.
        position: u64,
        /// What is not known: "format version 2", say.
        what: String,
    },
    /// A file was written in another data directory.
    OtherDirectory {
        /// Which.
        path: PathBuf,
    },
    /// A file or directory can't be read, beyond single pages.
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed: what is in the log can't be told from what only seems to be.
    Sync(SyncError),
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { path, position, what } => write!(
                f,
                "{} has, at position {position}, {what}, which this release does not know: start a later release on this \
                 directory",
                path.display()
            ),
            Self::OtherDirectory { path } => fmt::Display::fmt(&Mixed(path), f),
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Sync(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Newer { .. } | Self::OtherDirectory { .. } => None,
            Self::Io { source, .. } => Some(source),
            Self::Sync(error) => Some(error),
        }
    }
}
