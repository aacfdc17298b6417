//! What `verify` answers.

use core::fmt;
use std::{
    io,
    path::{Component, Path, PathBuf},
};

use quipu_base::{Offset, TopicIdPartition};
use quipu_env::LockError;
use serde::Serialize;

use crate::{ManifestError, error::Mixed, superblock::SuperblockError, wal::ScanError};

/// The state of a data directory. Serialised, it is what `quipu log verify --json` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VerifyReport {
    /// Nothing is damaged.
    pub ok: bool,
    /// Every byte that the store relies on, by file and position. Other bytes may be anything.
    pub live: Vec<LiveRange>,
    /// What is not as it was written.
    pub damaged: Vec<DamagedRange>,
    /// What an interrupted write has left: nothing of it had been acknowledged, and the next start leaves it behind.
    pub cut: Vec<CutRange>,
}

/// A range of live bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct LiveRange {
    /// The file, relative to the data directory.
    pub file: String,
    /// Its first byte.
    pub from: u64,
    /// The byte after its last.
    pub to: u64,
    /// What is in there, for people.
    pub what: String,
}

/// A range of bytes that fails a check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DamagedRange {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it the damage begins, bytes.
    pub position: u64,
    /// How many bytes are concerned: no more can be told than which checksum covers them. 0 if not even that is known.
    pub length: u64,
    /// The id of the topic concerned, if it is one; as text, so that it can be replaced by the topic's name.
    pub topic: Option<String>,
    /// The partition concerned, if it is one.
    pub partition: Option<i32>,
    /// Base offset of the first batch affected, as far as can be told.
    pub base_offset: Option<i64>,
    /// Which check failed.
    pub why: String,
}

/// A range of bytes that does not count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CutRange {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it, bytes.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
    /// What it was.
    pub why: String,
}

/// Why a data directory can't be read.
#[derive(Debug)]
pub enum VerifyError {
    /// A process uses it.
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process's id, if it can be read.
        pid: Option<u32>,
    },
    /// There is nothing of a data directory in it.
    NotADataDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// Something in it was written by a later release.
    Newer {
        /// What, and what to do.
        message: String,
    },
    /// It holds a file of another data directory.
    Mixed {
        /// The file.
        path: PathBuf,
    },
    /// The system refused to open or read something.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl VerifyError {
    /// The exit status of a command that ends with this error.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Held { .. } => 69,
            Self::Newer { .. } | Self::Mixed { .. } => 78,
            Self::NotADataDirectory { .. } | Self::Io { .. } => 1,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn newer(what: impl fmt::Display) -> Self {
        Self::Newer { message: what.to_string() }
    }

    pub(super) fn lock(directory: &Path, path: &Path, error: LockError) -> Self {
        match error {
            LockError::Held { pid } => Self::Held { directory: directory.to_owned(), pid },
            LockError::Io(source) => Self::Io { path: path.to_owned(), source },
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { directory, pid } => {
                write!(f, "{} is in use by ", directory.display())?;
                match pid {
                    Some(pid) => write!(f, "process {pid}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str("; stop it, or give a copy of the directory")
            }
            Self::NotADataDirectory { directory } => {
                write!(f, "{} is no data directory: it holds neither superblock nor manifest", directory.display())
            }
            Self::Newer { message } => f.write_str(message),
            Self::Mixed { path } => Mixed(path).fmt(f),
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
        }
    }
}

impl core::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Held { .. } | Self::NotADataDirectory { .. } | Self::Newer { .. } | Self::Mixed { .. } => None,
        }
    }
}

impl From<ScanError> for VerifyError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Newer { .. } => Self::newer(error),
            ScanError::OtherDirectory { path } => Self::Mixed { path },
            ScanError::Io { path, source } => Self::Io { path, source },
            ScanError::Sync(error) => Self::Io { path: error.path.clone(), source: io::Error::other(error) },
        }
    }
}

impl From<SuperblockError> for VerifyError {
    fn from(error: SuperblockError) -> Self {
        match error {
            SuperblockError::Io { path, source } => Self::Io { path, source },
            SuperblockError::Sync(error) => Self::Io { path: error.path.clone(), source: io::Error::other(error) },
            newer => Self::newer(newer),
        }
    }
}

impl From<ManifestError> for VerifyError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Io { path, source } => Self::Io { path, source },
            ManifestError::Sync(error) => Self::Io { path: error.path.clone(), source: io::Error::other(error) },
            newer => Self::newer(newer),
        }
    }
}

/// A place in a file of the data directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    pub(super) file: &'a str,
    pub(super) position: u64,
    pub(super) length: u64,
}

/// The report in the making.
#[derive(Default)]
pub(super) struct Findings {
    live: Vec<LiveRange>,
    pub(super) damaged: Vec<DamagedRange>,
    cut: Vec<CutRange>,
}

impl Findings {
    pub(super) fn live(&mut self, span: Span<'_>, what: String) {
        if span.length > 0 {
            let to = span.position + span.length;
            self.live.push(LiveRange { file: span.file.to_owned(), from: span.position, to, what });
        }
    }

    pub(super) fn damaged(&mut self, span: Span<'_>, why: impl Into<String>) {
        self.damaged.push(damaged_range(span, None, why));
    }

    pub(super) fn damaged_at(
        &mut self,
        span: Span<'_>,
        partition: TopicIdPartition,
        base_offset: Option<Offset>,
        why: impl Into<String>,
    ) {
        self.damaged.push(damaged_range(span, Some((partition, base_offset)), why));
    }

    pub(super) fn cut(&mut self, span: Span<'_>, why: impl Into<String>) {
        let Span { file, position, length } = span;
        self.cut.push(CutRange { file: file.to_owned(), position, length, why: why.into() });
    }

    pub(super) fn into_report(mut self) -> VerifyReport {
        self.live.sort();
        VerifyReport { ok: self.damaged.is_empty(), live: self.live, damaged: self.damaged, cut: self.cut }
    }
}

pub(super) fn damaged_range(
    span: Span<'_>,
    of: Option<(TopicIdPartition, Option<Offset>)>,
    why: impl Into<String>,
) -> DamagedRange {
    DamagedRange {
        file: span.file.to_owned(),
        position: span.position,
        length: span.length,
        topic: of.map(|(partition, _)| partition.topic_id.to_string()),
        partition: of.map(|(partition, _)| partition.partition.0),
        base_offset: of.and_then(|(_, offset)| offset).map(|offset| offset.0),
        why: why.into(),
    }
}

/// A path as it is told: relative to the data directory. One noted by a store in another place (the directory may be a copy) is
/// taken from the directory's own names on.
pub(super) fn relative(dir: &Path, path: &Path) -> String {
    if let Ok(inside) = path.strip_prefix(dir) {
        return inside.display().to_string();
    }
    let parts: Vec<_> = path.components().collect();
    let is_ours = |part: &Component<'_>| ["wal", "seg"].iter().any(|name| part.as_os_str() == *name);
    let from = parts.iter().rposition(is_ours).unwrap_or(0);
    parts[from..].iter().collect::<PathBuf>().display().to_string()
}
