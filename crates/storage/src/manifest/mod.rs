//! The manifest: which segments exist, and what the WAL need not say any more.
//!
//! ```text
//! <data-dir>/manifest: a log of edits behind a snapshot; all numbers little-endian
//!
//! position
//!      0 512  head, copy 0:   0  8  magic "QuipuMan"
//!                             8  2  version, 1
//!                            10  2  copy, 0 or 1
//!                            12  4  CRC-32C over the copy's other 508 bytes
//!                            16  8  file id: random, of this file, mixed into every record's CRC
//!                            24 16  directory id, as in the superblock; zeros say nothing
//!                            40  .  zeros
//!    512 512  head, copy 1
//!   1024   .  records, one after the other, each written twice in a row
//!      ..  .  zeros, allocated ahead, so that an edit that frees space needs none
//!
//! record
//!      0  4  magic "QMrc"
//!      4  1  kind: 1 a part of the snapshot, 2 its last part, 3 an edit
//!      5  1  copy: 0 or 1
//!      6  2  zeros
//!      8  8  sequence: 1 for the file's first record, then without gaps
//!     16  4  bytes of payload
//!     20  4  CRC-32C over file id, bytes 0..20, payload
//!     24  .  payload: version byte 3, then postcard of `Edit`; a part of the snapshot is an edit of the empty manifest
//! ```
//!
//! Invariants
//! - An edit is durable before anything relies on it: before a WAL group is recycled, a file removed, or a byte overwritten.
//! - The next edit is begun only when the one before is durable, so only the last record can be torn.
//! - A file is replaced by rename once its successor is durable; a successor is written when the edits outgrow the snapshot and
//!   whenever a write or sync of the manifest has failed.
//!
//! **Torn or damaged?** Of a record one readable copy is enough. If neither copy reads, the manifest ends there unless a later
//! record reads: then it is damaged, and the store does not open. (If the last edit is lost, the WAL it covered may be gone as
//! well; recovery sees that gap and refuses, too.)
//!
//! Version history of the file: 1, the first. Of payloads: 1, the first; 2, each update ends with the partition's damaged ranges and
//! high watermark; 3, and with how far it is compacted. A file may hold all of them; what is written is of version 3.
//!
//! Not here: what an edit means for a partition (`partition`); when edits are made (`checkpoint`). Read `record` next.

mod load;
mod record;
mod writer;

use std::collections::BTreeMap;

use quipu_base::TopicIdPartition;
use serde::{Deserialize, Serialize};

use crate::{partition::PartitionUpdate, wal::GroupSequence};

pub use load::ManifestError;
#[cfg(test)]
pub(crate) use load::parse;
pub(crate) use load::{Extent, Loaded, Purpose, load};
pub(crate) use writer::{Contents, Manifest};

/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "manifest";
/// A successor before its rename.
pub(crate) const NEW_FILE_NAME: &str = "manifest.new";

/// One change of the manifest.
pub(crate) type Edit = EditOf<PartitionUpdate>;

/// The same, with updates as in some version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EditOf<U> {
    /// All WAL groups up to this one are in the manifest, whatever partition they concern.
    pub(crate) covered: u64,
    /// Partitions that are new or changed.
    pub(crate) updates: Vec<(TopicIdPartition, U)>,
    /// Partitions that are gone, each with the WAL group that deleted it.
    pub(crate) deleted: Vec<(TopicIdPartition, u64)>,
}

/// Deleted partitions whose frames recovery may still meet: frames of groups up to this one are to be skipped.
pub(crate) type Tombstones = BTreeMap<TopicIdPartition, GroupSequence>;

#[cfg(test)]
mod tests;
