//! The records of groups and offsets, to and from Kafka's own format ([`quipu_protocol::group_records`]).
//!
//! Written are the versions that Kafka 4.4 writes: an offset is version 4, one with an expiry of its own version 1; a group is
//! version 3. Read are all of them. Records of the consumer protocol are in [`consumer`].
//!
//! Not here: layouts. This module and the handlers of `quipu-broker` are the only places that know the wire.

pub(crate) mod consumer;

use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex};
use quipu_coordinator::Record;
use quipu_protocol::{
    DecodeError, EncodeError, Message, Str,
    group_records::{
        GroupKey, GroupMetadataValue, LegacyOffsetCommitValue, OffsetCommitKey, OffsetCommitValue, encode_key,
        encode_value, split,
    },
};

use crate::{
    offsets::Kept,
    request::{Committed, TopicPartition},
};

const OFFSET_LEGACY: i16 = 0;
const OFFSET: i16 = 1;
const GROUP: i16 = 2;

const OFFSET_EXPIRES: i16 = 1;
const OFFSET_PLAIN: i16 = 4;
const GROUP_VERSION: i16 = 3;

/// What a record says.
#[derive(Debug)]
pub(crate) enum Said {
    /// An offset; none if it is forgotten.
    Offset { group: Arc<str>, partition: TopicPartition, kept: Option<Kept> },
    /// A group; none if it is gone.
    Group { group: Arc<str>, value: Option<GroupMetadataValue> },
    /// Something about a group of the consumer protocol.
    Consumer { group: Arc<str>, said: consumer::SaidOf },
    /// Something that this release has no use for.
    Other,
}

/// Reads a record. Errors: it is not what its type and version say.
pub(crate) fn decode(record: &Record) -> Result<Said, DecodeError> {
    let (kind, mut reader) = split(record.key.clone())?;
    match kind {
        OFFSET_LEGACY | OFFSET => {
            let OffsetCommitKey { group, topic, partition } = OffsetCommitKey::decode(&mut reader, 0)?;
            let partition = TopicPartition { topic: (&*topic).into(), partition: PartitionIndex(partition) };
            let kept = match &record.value {
                Some(value) => Some(decode_offset(kind, value.clone())?),
                None => None,
            };
            Ok(Said::Offset { group: (&*group).into(), partition, kept })
        }
        GROUP => {
            let GroupKey { group } = GroupKey::decode(&mut reader, 0)?;
            let value = match &record.value {
                Some(value) => {
                    let (version, mut reader) = split(value.clone())?;
                    Some(GroupMetadataValue::decode(&mut reader, version.min(GroupMetadataValue::SCHEMA.versions.max))?)
                }
                None => None,
            };
            Ok(Said::Group { group: (&*group).into(), value })
        }
        _ => consumer::decode(kind, record.key.clone(), record.value.as_ref()),
    }
}

fn decode_offset(kind: i16, value: Bytes) -> Result<Kept, DecodeError> {
    let (version, mut reader) = split(value)?;
    let value = if kind == OFFSET_LEGACY {
        let value = LegacyOffsetCommitValue::decode(&mut reader, 0)?;
        OffsetCommitValue {
            offset: value.offset,
            metadata: value.metadata,
            commit_timestamp: value.commit_timestamp,
            ..Default::default()
        }
    } else {
        OffsetCommitValue::decode(&mut reader, version.min(OffsetCommitValue::SCHEMA.versions.max))?
    };
    Ok(Kept {
        committed: Committed {
            offset: Offset(value.offset),
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: value.metadata.to_string(),
            topic_id: value.topic_id,
        },
        commit_ms: value.commit_timestamp,
        expire_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
    })
}

/// A committed offset, or its end.
pub(crate) fn offset(group: &str, partition: &TopicPartition, kept: Option<&Kept>) -> Record {
    let key = OffsetCommitKey {
        group: group.into(),
        topic: (&*partition.topic).into(),
        partition: partition.partition.get(),
    };
    let value = kept.map(|kept| {
        let version = if kept.expire_ms.is_some() { OFFSET_EXPIRES } else { OFFSET_PLAIN };
        let value = OffsetCommitValue {
            offset: kept.committed.offset.get(),
            leader_epoch: kept.committed.leader_epoch.get(),
            metadata: kept.committed.metadata.as_str().into(),
            commit_timestamp: kept.commit_ms,
            expire_timestamp: kept.expire_ms.unwrap_or(-1),
            topic_id: kept.committed.topic_id,
        };
        fits(encode_value(version, &value))
    });
    Record { key: fits(encode_key(OFFSET, &key)), value }
}

/// A group, or its end.
pub(crate) fn group(group: &str, value: Option<&GroupMetadataValue>) -> Record {
    let key = GroupKey { group: group.into() };
    Record { key: fits(encode_key(GROUP, &key)), value: value.map(|value| fits(encode_value(GROUP_VERSION, value))) }
}

/// Strings came in by the same protocol, and the rest is bounded by [`crate::limits`].
fn fits(encoded: Result<Bytes, EncodeError>) -> Bytes {
    encoded.expect("what came in fits out")
}

/// A string for a record.
pub(crate) fn text(text: &str) -> Str {
    text.into()
}
