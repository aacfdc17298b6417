//! From where, and as what, the log goes on after a scan.

use crate::superblock::Superblock;

use super::{WalGeneration, types::GroupSequence, writer::Touched};

/// A WAL file that exists.
#[derive(Debug)]
pub(crate) struct ResumeFile {
    pub(crate) number: u32,
    /// In whole pages: 0 of one of which hardly anything was made.
    pub(crate) size: u64,
    /// First and last group found in it that may still be needed, and where the last one ends.
    pub(crate) live: Option<((GroupSequence, GroupSequence), u64)>,
}

/// Where the log goes on, as [`super::Scanner::finish`] found it.
#[derive(Debug)]
pub struct Resume {
    /// The new start's generation.
    pub(crate) generation: u64,
    /// The generations of groups that are still needed, then the new one.
    pub(crate) generations: Vec<WalGeneration>,
    pub(crate) next: GroupSequence,
    pub(crate) previous_hash: Option<u32>,
    /// File and position; none for the start of a file that is free.
    pub(crate) place: Option<(u32, u64)>,
    pub(crate) files: Vec<ResumeFile>,
    pub(crate) covered: GroupSequence,
    pub(crate) touched: Touched,
    /// The data directory, as groups name it.
    pub(crate) directory_tag: u64,
    /// The process before this one stopped as it should, so none of its syncs has failed.
    pub(crate) was_clean: bool,
}

impl Resume {
    /// Puts into the superblock what must be durable in it before [`super::Wal::start`]. Writing it is what makes a cut final.
    pub fn enter(&self, superblock: &mut Superblock) {
        superblock.wal_generations.clone_from(&self.generations);
        superblock.synced_up_to = self.next.previous();
        superblock.clean = false;
    }

    /// The first group that will be written.
    #[must_use]
    pub const fn next_group(&self) -> GroupSequence {
        self.next
    }
}
