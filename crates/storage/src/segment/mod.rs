//! Segment files: opening them, finding a place in them, and checking bytes before anybody gets them.
//!
//! ```text
//! <data-dir>/seg/<topic id>-<partition>/<base offset, 20 digits>.log           verbatim v2 batches, then, once sealed, a footer
//! <data-dir>/seg/<topic id>-<partition>/<base offset>-<generation>.log         where the plain name might have been used before
//! ```
//!
//! What of a file counts is in the manifest: bytes beyond the committed length are of no meaning.
//!
//! Invariants
//! - Bytes are handed out, or file ranges of them, only after every checksum of their block was right: the batches' CRCs, and
//!   the block's CRC over the batches' headers. A block is checked once, and again after [`CHECKED_FOR`].
//! - An index that was not loaded from a footer is built only from ranges whose header checksum in the manifest is right.
//! - A bad range is bad on its own: what lies before and behind it is served. It is looked at again after [`CHECKED_FOR`].
//! - Pages that the device can't read are bad like those that fail a checksum, but only for the reader that met them.
//!
//! Not here: writing (`checkpoint`); which offsets a reader may see (`log`).

mod cache;
mod check;
mod read;
mod scan;

use core::time::Duration;
use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use bytes::Bytes;
use quipu_base::{Offset, TopicIdPartition};
use quipu_env::{Disk, Env, Instant};

use crate::{
    ReadError,
    index::SparseIndex,
    lock,
    pages::{Pages, read_pages},
    partition::SegmentId,
};

pub(crate) use cache::SegmentFiles;
pub(crate) use read::{Bounds, Part};
pub(crate) use scan::Scanned;

/// How long a check of a block is believed: what is read again later may come from the device again.
pub(crate) const CHECKED_FOR: Duration = Duration::from_secs(300);
/// How often a page that can't be read is asked for, after the piece that holds it.
const PAGE_TRIES: usize = 2;
/// Bytes read and checked at a time.
pub(crate) const CHECK_BYTES: u32 = 1024 * 1024;

/// The directory of all segments.
pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("seg")
}

/// The directory of one partition's segments.
pub(crate) fn partition_dir(dir: &Path, partition: TopicIdPartition) -> PathBuf {
    segments_dir(dir).join(partition.to_string())
}

/// The partition whose directory has this name.
pub(crate) fn parse_partition_dir(name: &str) -> Option<TopicIdPartition> {
    let (topic_id, number) = name.rsplit_once('-')?;
    let partition = TopicIdPartition {
        topic_id: topic_id.parse().ok()?,
        partition: quipu_base::PartitionIndex(number.parse().ok()?),
    };
    // Other spellings of a number are not ours.
    (partition.to_string() == name).then_some(partition)
}

/// An open file of this world.
pub(crate) type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// A range of a segment that fails a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BadRange {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The first offset affected, as far as it can be told.
    pub(crate) offset: Offset,
    pub(crate) why: String,
}

/// What is known of a segment's contents.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) index: SparseIndex,
    /// Which blocks have been checked.
    checked: Vec<u64>,
    checked_since: Instant,
    bad: Vec<BadRange>,
    /// The device could not read a part of it.
    is_unreadable: bool,
}

/// An open segment.
pub(crate) struct OpenSegment<F> {
    pub(crate) partition: TopicIdPartition,
    pub(crate) id: SegmentId,
    pub(crate) file: F,
    pub(crate) contents: Mutex<Contents>,
    /// Held while the index is being read or built.
    loading: tokio::sync::Mutex<()>,
}

impl Contents {
    fn new(base: Offset, now: Instant) -> Self {
        Self {
            index: SparseIndex::new(base),
            checked: Vec::new(),
            checked_since: now,
            bad: Vec::new(),
            is_unreadable: false,
        }
    }

    fn is_checked(&self, block: usize) -> bool {
        self.checked.get(block / 64).is_some_and(|word| word & (1 << (block % 64)) != 0)
    }

    /// Takes note that a block is good.
    pub(crate) fn mark_checked(&mut self, block: usize) {
        if self.checked.len() <= block / 64 {
            self.checked.resize(block / 64 + 1, 0);
        }
        self.checked[block / 64] |= 1 << (block % 64);
    }

    /// Whether what was found bad is worth another look: the device may do better next time, rot hardly.
    fn is_stale(&self, now: Instant) -> bool {
        !self.bad.is_empty() && (self.is_unreadable || now.since(self.checked_since) > CHECKED_FOR)
    }

    fn forget_checks(&mut self) {
        self.checked.clear();
    }

    /// Forgets checks that are too old.
    fn age(&mut self, now: Instant) {
        if self.bad.is_empty() && now.since(self.checked_since) > CHECKED_FOR {
            self.checked.clear();
            self.checked_since = now;
        }
    }

    /// The bad range that begins first at or behind `from`, or holds it.
    fn bad_from(&self, from: u32) -> Option<&BadRange> {
        self.bad.iter().filter(|range| range.to > from).min_by_key(|range| range.from)
    }

    fn add_bad(&mut self, range: BadRange) {
        if !self.bad.iter().any(|known| known.from <= range.from && known.to >= range.to) {
            self.bad.push(range);
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.checked.capacity() * 8
    }
}

impl<F: quipu_env::File> OpenSegment<F> {
    /// Bytes of the file, fewer if it ends before; zeros where they can't be read.
    async fn read_at(&self, position: u32, length: usize) -> Bytes {
        let path = self.file.path().display();
        match self.file.read_at(position.into(), length).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%path, position, length, %error, "reading page by page");
                let Pages { bytes, unreadable, broken } =
                    read_pages(&self.file, position.into(), length, PAGE_TRIES).await;
                if let Some(error) = broken {
                    tracing::error!(%path, position, length, %error, "the device can't read the file");
                }
                lock(&self.contents).is_unreadable |= unreadable > 0;
                bytes
            }
        }
    }

    fn damaged(&self, range: &BadRange) -> ReadError {
        ReadError::Damaged {
            partition: self.partition,
            file: self.file.path().to_owned(),
            position: range.from.into(),
            offset: range.offset,
            why: range.why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_round_trip() {
        let partition =
            TopicIdPartition { topic_id: quipu_base::TopicId([0xfb; 16]), partition: quipu_base::PartitionIndex(12) };
        let name = partition.to_string();
        assert!(name[..22].contains('-'), "the id's text has the separator in it: {name}");
        assert_eq!(parse_partition_dir(&name), Some(partition));
        for bad in
            ["", "lost+found", "-1", "AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAQ-01", "AAAAAAAAAAAAAAAAAAAAAQ-"]
        {
            assert_eq!(parse_partition_dir(bad), None, "{bad}");
        }
    }

    #[test]
    fn checks_are_forgotten_with_age() {
        let mut contents = Contents::new(Offset(0), Instant::ZERO);
        contents.mark_checked(70);
        assert!(contents.is_checked(70) && !contents.is_checked(6) && !contents.is_checked(500));
        contents.age(Instant::ZERO + CHECKED_FOR);
        assert!(contents.is_checked(70));
        contents.age(Instant::ZERO + CHECKED_FOR + Duration::from_secs(1));
        assert!(!contents.is_checked(70));
    }
}
