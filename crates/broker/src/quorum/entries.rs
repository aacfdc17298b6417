//! Raft's entries as record batches of the metadata log, and back.
//!
//! An entry is one batch: its leader epoch is Raft's, its offsets are the entry's. What Raft says itself is a control batch of one
//! record, made from the entry alone, so that every replica has the same bytes:
//!
//! ```text
//! key     i16 version 0, i16 type, big-endian as in Kafka: 2 a leader begins, 6 the voters change
//! value   byte 0 format version 1, then in postcard: the leader and the voters, or the voters
//! ```
//!
//! Invariant: `of_batch(to_batch(entry))` is the entry.
//!
//! Not here: where batches lie (`disk`), what records mean (`quipu-metadata`).

use core::fmt;

use bytes::Bytes;
use quipu_base::{Offset, Timestamp, limits};
use quipu_metadata::{MetadataRecord, codec};
use quipu_raft::{Data, Entry, Payload, ReplicaKey, VoterSet};
use quipu_records::{Batch, BatchBuilder, BatchError, NewRecord};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Kafka's number of the control record with which a leader begins.
const LEADER_CHANGE: u16 = 2;
/// Kafka's number of the control record that names the voters.
const VOTERS: u16 = 6;
const FORMAT_VERSION: u8 = 1;

/// The value of the record with which a leader begins.
#[derive(Serialize, Deserialize)]
struct LeaderChange {
    leader: ReplicaKey,
    voters: VoterSet,
}

/// A batch of the metadata log that is no entry.
#[derive(Debug)]
pub(crate) enum EntryError {
    /// It is no batch.
    Batch(BatchError),
    /// It is a control batch that this release does not know, or a damaged one.
    Control,
    /// It does not begin at the offset, or is not of the epoch, that it should have.
    Place,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(error) => error.fmt(f),
            Self::Control => f.write_str("it has a control record that this release does not know"),
            Self::Place => f.write_str("a batch of it stands at the wrong offset or has the wrong leader epoch"),
        }
    }
}

impl core::error::Error for EntryError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Batch(error) => Some(error),
            Self::Control | Self::Place => None,
        }
    }
}

impl From<BatchError> for EntryError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

/// The batch of an entry that begins at `base`.
pub(super) fn to_batch(entry: &Entry, base: Offset) -> Bytes {
    match &entry.payload {
        Payload::Data(data) => data.bytes.clone(),
        Payload::LeaderChange { leader, voters } => {
            control(entry, base, LEADER_CHANGE, &LeaderChange { leader: *leader, voters: voters.clone() })
        }
        Payload::Voters(voters) => control(entry, base, VOTERS, voters),
    }
}

fn control<T: Serialize>(entry: &Entry, base: Offset, kind: u16, value: &T) -> Bytes {
    let value = postcard::to_extend(value, vec![FORMAT_VERSION]);
    let value = value.expect("plain data, and a vector takes any of it");
    let [_, _, high, low] = u32::from(kind).to_be_bytes();
    let key = [0, 0, high, low];
    let mut builder = BatchBuilder::new().base_offset(base).leader_epoch(entry.epoch).control();
    let record = NewRecord { timestamp: Timestamp(0), key: Some(&key), value: Some(&value), headers: &[] };
    builder.push(&record).expect("a small record");
    builder.build().expect("a small batch").into_bytes()
}

/// The entry that a batch is; its checksum has been checked.
pub(super) fn of_batch(batch: &Batch) -> Result<Entry, EntryError> {
    let header = batch.header();
    let epoch = header.leader_epoch;
    if !header.is_control() {
        let records = u32::try_from(header.last_offset_delta).map_err(|_| EntryError::Place)?;
        let data = Data { records: records.saturating_add(1), bytes: batch.bytes().clone() };
        return Ok(Entry { epoch, payload: Payload::Data(data) });
    }
    let records = batch.records(limits::DECOMPRESSED_BYTES_MAX)?;
    let record = records.iter().next().ok_or(EntryError::Control)??;
    let key = record.key.and_then(|key| key.first_chunk::<4>()).ok_or(EntryError::Control)?;
    let value = record.value.unwrap_or_default();
    let payload = match u16::from_be_bytes([key[2], key[3]]) {
        LEADER_CHANGE => {
            let LeaderChange { leader, voters } = decode(value)?;
            Payload::LeaderChange { leader, voters }
        }
        VOTERS => Payload::Voters(decode(value)?),
        _ => return Err(EntryError::Control),
    };
    Ok(Entry { epoch, payload })
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, EntryError> {
    match value.split_first() {
        Some((&FORMAT_VERSION, body)) => postcard::from_bytes(body).map_err(|_| EntryError::Control),
        _ => Err(EntryError::Control),
    }
}

/// Whether the entries that another node sent, the first at `base`, are what they should be: nothing else may get into the log.
pub(super) fn check_entries(mut base: Offset, entries: &[Entry]) -> Result<(), EntryError> {
    for entry in entries {
        if let Payload::Data(data) = &entry.payload {
            let batch = Batch::parse_checked(data.bytes.clone())?;
            let header = batch.header();
            let count = u32::try_from(header.last_offset_delta).map_err(|_| EntryError::Place)?.saturating_add(1);
            let is_placed = header.base_offset == base && header.leader_epoch == entry.epoch && !header.is_control();
            if !is_placed || count != data.records {
                return Err(EntryError::Place);
            }
        }
        base = entry.end(base).ok_or(EntryError::Place)?;
    }
    Ok(())
}

/// The metadata records of an entry, with their offsets; none of what is Raft's own.
pub(super) fn records_of(entry: &Entry) -> Result<Vec<(Offset, MetadataRecord)>, RecordsError> {
    let Payload::Data(data) = &entry.payload else { return Ok(Vec::new()) };
    let batch = Batch::parse_checked(data.bytes.clone()).map_err(EntryError::Batch)?;
    let records = batch.records(limits::DECOMPRESSED_BYTES_MAX).map_err(EntryError::Batch)?;
    let mut decoded = Vec::new();
    for record in records.iter() {
        let record = record.map_err(EntryError::Batch)?;
        let value = codec::decode(record.value.unwrap_or_default()).map_err(RecordsError::Record)?;
        decoded.push((record.offset, value));
    }
    Ok(decoded)
}

/// Why the records of an entry can't be read.
#[derive(Debug)]
pub(super) enum RecordsError {
    Entry(EntryError),
    Record(codec::DecodeError),
}

impl From<EntryError> for RecordsError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{BrokerId, DirectoryId, LeaderEpoch};

    use super::*;

    fn replica(id: u8) -> ReplicaKey {
        ReplicaKey { id: BrokerId(id.into()), directory: DirectoryId([id; 16]) }
    }

    fn entries() -> Vec<Entry> {
        let voters = VoterSet::new([replica(1), replica(2)]).unwrap();
        let epoch = LeaderEpoch(7);
        let mut builder = BatchBuilder::new().base_offset(Offset(101)).leader_epoch(epoch);
        for value in [b"one", b"two"] {
            let record = NewRecord { timestamp: Timestamp(5), key: None, value: Some(value), headers: &[] };
            builder.push(&record).unwrap();
        }
        let bytes = builder.build().unwrap().into_bytes();
        vec![
            Entry { epoch, payload: Payload::LeaderChange { leader: replica(2), voters: voters.clone() } },
            Entry { epoch, payload: Payload::Data(Data { records: 2, bytes }) },
            Entry { epoch, payload: Payload::Voters(voters) },
        ]
    }

    #[test]
    fn every_entry_is_a_batch_and_comes_back() {
        let mut base = Offset(100);
        for entry in entries() {
            let bytes = to_batch(&entry, base);
            assert_eq!(to_batch(&entry, base), bytes, "every replica has the same bytes");
            let batch = Batch::parse_checked(bytes).unwrap();
            assert_eq!((batch.header().base_offset, batch.header().leader_epoch), (base, entry.epoch));
            assert_eq!(batch.header().is_control(), !matches!(entry.payload, Payload::Data(_)));
            assert_eq!(of_batch(&batch).unwrap(), entry);
            base = entry.end(base).unwrap();
            assert_eq!(batch.header().next_offset(), base);
        }
    }

    #[test]
    fn what_another_node_sends_is_checked() {
        assert!(check_entries(Offset(100), &entries()).is_ok());
        assert!(check_entries(Offset(101), &entries()).is_err(), "offsets are final");
        let change = |change: fn(&mut Entry)| {
            let mut entries = entries();
            change(&mut entries[1]);
            check_entries(Offset(100), &entries)
        };
        assert!(change(|entry| entry.epoch = LeaderEpoch(8)).is_err());
        fn data(entry: &mut Entry) -> &mut Data {
            let Payload::Data(data) = &mut entry.payload else { panic!("data") };
            data
        }
        assert!(change(|entry| data(entry).records = 3).is_err());
        assert!(change(|entry| data(entry).bytes = Bytes::from_static(b"no batch")).is_err());
        assert!(change(|entry| data(entry).bytes.truncate(70)).is_err());
    }
}
