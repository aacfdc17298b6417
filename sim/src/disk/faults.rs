//! What a disk is told to do wrong, and when.

use std::path::{Path, PathBuf};

/// A kind of failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A sync of a file or directory answers with an error. Part of what was to be synced is lost for good, and no later sync
    /// brings it back.
    SyncFails,
    /// A sync answers well and does nothing.
    SyncLies,
    /// A read answers with an error.
    ReadFails,
    /// A write answers with an error and has written nothing.
    WriteFails,
    /// A read gets less than was asked for. The handles of a simulated process read the rest later, as the real ones do.
    ReadIsShort,
    /// A write goes well as far as the page cache tells, and never reaches the device.
    WriteIsLost,
    /// A write goes well as far as the page cache tells, and reaches the device at another place of its file.
    WriteGoesAstray {
        /// How many blocks further on, around the file's end.
        by_blocks: u64,
    },
}

impl Fault {
    /// The kind of [`crate::fault::Fault`] that this is counted as.
    const fn kind(self) -> &'static str {
        match self {
            Self::SyncFails => "sync-fails",
            Self::SyncLies => "sync-lies",
            Self::ReadFails => "read-fails",
            Self::WriteFails => "write-fails",
            Self::ReadIsShort => "short-read",
            Self::WriteIsLost => "phantom-write",
            Self::WriteGoesAstray { .. } => "misdirected-write",
        }
    }
}

/// When a fault strikes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// Only at files and directories at or below this path; empty: at all.
    pub below: PathBuf,
    /// Operations of the kind to let pass first.
    pub skip: u64,
    /// How often it strikes after that; `u64::MAX`: for ever.
    pub times: u64,
}

impl FaultRule {
    /// The next operation of the kind, wherever.
    #[must_use]
    pub const fn next(fault: Fault) -> Self {
        Self { fault, below: PathBuf::new(), skip: 0, times: 1 }
    }

    /// Only at or below `path`.
    #[must_use]
    pub fn below(self, path: impl Into<PathBuf>) -> Self {
        Self { below: path.into(), ..self }
    }

    /// After `count` operations of the kind went well.
    #[must_use]
    pub fn after(self, count: u64) -> Self {
        Self { skip: count, ..self }
    }

    /// `count` times instead of once.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { times: count, ..self }
    }

    fn strikes(&mut self, path: &Path) -> bool {
        if self.times == 0 || !path.starts_with(&self.below) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times = self.times.saturating_sub(u64::from(self.times != u64::MAX));
        true
    }
}

/// The rules in force. Among rules for one kind the first that strikes is used up.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    rules: Vec<FaultRule>,
    /// Kinds of faults that have happened and have not been told.
    happened: Vec<&'static str>,
}

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) {
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn happened(&mut self, kind: &'static str) {
        self.happened.push(kind);
    }

    pub(super) fn take_happened(&mut self) -> Vec<&'static str> {
        core::mem::take(&mut self.happened)
    }

    /// Whether `fault` strikes an operation on `path` (normalised) now.
    pub(super) fn strikes(&mut self, fault: Fault, path: &Path) -> bool {
        self.struck(path, |rule| rule == fault).is_some()
    }

    /// What becomes of a write to `path` (normalised): a fault that only its device shows.
    pub(super) fn write_fault(&mut self, path: &Path) -> Option<Fault> {
        self.struck(path, |rule| matches!(rule, Fault::WriteIsLost | Fault::WriteGoesAstray { .. }))
    }

    fn struck(&mut self, path: &Path, is_meant: impl Fn(Fault) -> bool) -> Option<Fault> {
        if self.rules.is_empty() {
            return None;
        }
        let struck =
            self.rules.iter_mut().find_map(|rule| (is_meant(rule.fault) && rule.strikes(path)).then_some(rule.fault));
        self.rules.retain(|rule| rule.times > 0);
        if let Some(fault) = struck {
            self.happened.push(fault.kind());
        }
        struck
    }
}
