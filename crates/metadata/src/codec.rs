//! The bytes of one metadata record: the value of one record of a Kafka v2 batch in the metadata log. Its key is null.
//!
//! ```text
//! byte 0      format version: the lowest version of this format that can say this record, 1 up to [`FORMAT_VERSION`]
//! byte 1..    the record in postcard 1.x: the number of the kind, then its fields in the order of their declaration
//! ```
//!
//! postcard, where it matters here: unsigned integers wider than a byte and all counts are LEB128 varints, seven bits a
//! byte, lowest first; signed integers are zigzagged first (0, -1, 1, -2 become 0, 1, 2, 3); a string is a count of bytes
//! and UTF-8; an id is its 16 bytes; a list is a count and its elements; an option is 0, or 1 and the value; a bool is 0
//! or 1; an enum is the number of the variant and its fields.
//!
//! | kind | record | fields |
//! |---|---|---|
//! | 0 | `EpochStart` | controller epoch i32, controller i32, voters [node i32, directory id] |
//! | 1 | `Cluster` | cluster id |
//! | 2 | `Feature` | name, level i16 |
//! | 3 | `RegisterBroker` | broker i32, registration |
//! | 4 | `UnfenceBroker` | broker i32, broker epoch i64 |
//! | 5 | `FenceBroker` | broker i32, broker epoch i64 |
//! | 6 | `UnregisterBroker` | broker i32, broker epoch i64 |
//! | 7 | `Topic` | name, topic id |
//! | 8 | `Partition` | topic id, partition i32, partition state |
//! | 9 | `PartitionChange` | topic id, partition i32, option of election, option of configuration, option of assignment |
//! | 10 | `RemoveTopic` | topic id |
//! | 11 | `Config` | resource, key, option of value |
//! | 12 | `ProducerIds` | broker i32, next producer id i64 |
//! | 13 | `Broker` | broker i32, broker epoch i64, registration, fenced bool, option of unfenced broker epoch i64, in controlled shutdown bool |
//! | 14 | `BrokerShutdown` | broker i32, broker epoch i64 |
//!
//! - registration: directory id, start id (16 bytes), listeners [name, host, port u16], option of rack, features [name,
//!   lowest level i16, highest level i16]
//! - partition state: replicas [i32], replication factor u16, adding [i32], removing [i32], configuration, option of leader i32,
//!   leader epoch i32, unclean epoch i32
//! - configuration: members [broker i32, directory id], quorum u16, version u32
//! - election: option of leader i32, leader epoch i32, unclean bool
//! - assignment: replicas [i32], adding [i32], removing [i32], replication factor u16
//! - resource: 0 topic name, 1 broker i32, 2 all brokers, 3 client metrics name, 4 group name
//!
//! Version history
//! - 1, the first: no kind 14; a partition state has neither replication factor (the number of its replicas) nor unclean epoch
//!   (none, -1), an assignment no replication factor (the number of its replicas), a broker's state no mark of a controlled
//!   shutdown (it is in none). What is so is still written in version 1.
//! - 2, clusters: as above.
//!
//! There is no checksum: the batch has one, and so has the WAL frame around it. A new kind or field takes a new version,
//! stated in byte 0 of the records that need it, so that an older reader refuses those and no others; a reader knows all
//! versions up to its own. Whether a cluster may write a version yet is decided by the feature `metadata.version`.
//!
//! Read `record` for what the records mean.

mod v1;

use core::fmt;

use bytes::Bytes;
use quipu_base::NEXT_RELEASE;

use crate::record::MetadataRecord;

/// The newest version of the format that this build writes and reads; also its highest level of `metadata.version`.
pub const FORMAT_VERSION: u8 = if NEXT_RELEASE { 3 } else { 2 };

/// The bytes are not a metadata record that this build can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// No bytes at all.
    Empty,
    /// Written by a newer Quipu.
    NewerVersion {
        /// The version found.
        found: u8,
    },
    /// Version 0, which never was.
    BadVersion,
    /// The bytes do not spell a record.
    Malformed(postcard::Error),
    /// A record, and more after it.
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerVersion { found } => write!(
                f,
                "the metadata log has a record of format version {found}, but this build knows versions up to \
                 {FORMAT_VERSION}: a newer Quipu wrote it, and that or a later one must read it"
            ),
            Self::Empty => f.write_str("the metadata log has an empty record: it is damaged"),
            Self::BadVersion => f.write_str("the metadata log has a record of format version 0: it is damaged"),
            Self::Malformed(_) => f.write_str("the metadata log has a record that cannot be read: it is damaged"),
            Self::TrailingBytes { count } => {
                write!(f, "the metadata log has a record with {count} bytes after its end: it is damaged")
            }
        }
    }
}

impl core::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

/// The bytes of a record.
#[must_use]
pub fn encode(record: &MetadataRecord) -> Bytes {
    let version = version_of(record);
    let start = vec![version];
    let encoded = if version == 1 { v1::extend(record, start) } else { postcard::to_extend(record, start) };
    encoded.expect("a record is plain data, and a vector takes any of it").into()
}

/// The record that `bytes` spell.
///
/// Errors: [`DecodeError`]; never a panic, and never more memory than a small multiple of the bytes.
pub fn decode(bytes: &[u8]) -> Result<MetadataRecord, DecodeError> {
    let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    let taken = match *version {
        0 => return Err(DecodeError::BadVersion),
        1 => v1::take(body),
        2..=FORMAT_VERSION => postcard::take_from_bytes(body),
        found => return Err(DecodeError::NewerVersion { found }),
    };
    let (record, rest) = taken.map_err(DecodeError::Malformed)?;
    if rest.is_empty() { Ok(record) } else { Err(DecodeError::TrailingBytes { count: rest.len() }) }
}

/// The lowest version that can say the record. A cluster whose `metadata.version` is lower must not write it.
#[must_use]
pub fn version_of(record: &MetadataRecord) -> u8 {
    if is_of_next_release(record) {
        return 3;
    }
    let is_in_v1 = match record {
        MetadataRecord::EpochStart { .. }
        | MetadataRecord::Cluster { .. }
        | MetadataRecord::Feature { .. }
        | MetadataRecord::RegisterBroker { .. }
        | MetadataRecord::UnfenceBroker { .. }
        | MetadataRecord::FenceBroker { .. }
        | MetadataRecord::UnregisterBroker { .. }
        | MetadataRecord::Topic { .. }
        | MetadataRecord::RemoveTopic { .. }
        | MetadataRecord::Config { .. }
        | MetadataRecord::ProducerIds { .. } => true,
        MetadataRecord::Partition { state, .. } => v1::implies_partition(state),
        MetadataRecord::PartitionChange { assignment, .. } => assignment.as_ref().is_none_or(v1::implies_assignment),
        MetadataRecord::Broker { state, .. } => !state.in_controlled_shutdown,
        MetadataRecord::BrokerShutdown { .. } => false,
    };
    if is_in_v1 { 1 } else { 2 }
}

/// What stands for a record that the next release has and this one does not know, see [`NEXT_RELEASE`].
fn is_of_next_release(record: &MetadataRecord) -> bool {
    NEXT_RELEASE && matches!(record, MetadataRecord::Topic { name, .. } if name.starts_with("of-the-next-release"))
}

#[cfg(test)]
mod tests;
