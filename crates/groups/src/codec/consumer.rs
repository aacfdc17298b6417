//! The records of groups of the consumer protocol.

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use quipu_base::{PartitionIndex, TopicId};
use quipu_coordinator::Record;
use quipu_protocol::{
    DecodeError, Message, Str,
    group_records::{
        ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue,
        ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionKey,
        ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
        ConsumerGroupTargetAssignmentMetadataValue, GroupKey, GroupMemberKey, TopicPartition, TopicPartitions,
        encode_key, encode_value, split,
    },
};

use super::{Said, fits};
use crate::{
    consumer::{Assignor, ClassicSide, Current, Held, Member, MemberState, Resolved, request::Partitions},
    request::Protocol,
};

const GROUP: i16 = 3;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;

/// What a record says of a group of the consumer protocol; none is its end.
#[derive(Debug)]
pub(crate) enum SaidOf {
    /// Its epoch and its topics' hash.
    Group(Option<(i32, i64)>),
    /// What a member wants.
    Member(Arc<str>, Option<Box<Member>>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<i32>),
    /// What a member is to have.
    Target(Arc<str>, Option<Partitions>),
    /// What a member has.
    Current(Arc<str>, Option<Current>),
    /// What an expression means.
    Regex(Arc<str>, Option<Resolved>),
}

impl SaidOf {
    /// Whether it is a tombstone.
    pub(crate) const fn is_end(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Regex(_, value) => value.is_none(),
        }
    }
}

/// Reads a record. Errors: it is not what its type and version say.
pub(super) fn decode(kind: i16, key: Bytes, value: Option<&Bytes>) -> Result<Said, DecodeError> {
    let (_, mut key) = split(key)?;
    let (group, said) = match kind {
        GROUP => {
            let GroupKey { group } = GroupKey::decode(&mut key, 0)?;
            let value = read::<ConsumerGroupMetadataValue>(value)?;
            (group, SaidOf::Group(value.map(|value| (value.epoch, value.metadata_hash))))
        }
        TARGET_EPOCH => {
            let GroupKey { group } = GroupKey::decode(&mut key, 0)?;
            let value = read::<ConsumerGroupTargetAssignmentMetadataValue>(value)?;
            (group, SaidOf::TargetEpoch(value.map(|value| value.assignment_epoch)))
        }
        REGEX => {
            let key = ConsumerGroupRegularExpressionKey::decode(&mut key, 0)?;
            let value = read::<ConsumerGroupRegularExpressionValue>(value)?.map(|value| Resolved {
                topics: value.topics.iter().map(shared).collect(),
                version: value.version,
                at_ms: value.timestamp,
            });
            (key.group_id, SaidOf::Regex(shared(&key.regular_expression), value))
        }
        MEMBER | TARGET | CURRENT => {
            let GroupMemberKey { group_id, member_id } = GroupMemberKey::decode(&mut key, 0)?;
            (group_id, decode_member(kind, shared(&member_id), value)?)
        }
        _ => return Ok(Said::Other),
    };
    Ok(Said::Consumer { group: shared(&group), said })
}

fn decode_member(kind: i16, id: Arc<str>, value: Option<&Bytes>) -> Result<SaidOf, DecodeError> {
    Ok(match kind {
        MEMBER => {
            let value = read::<ConsumerGroupMemberMetadataValue>(value)?;
            let member = value.map(|value| Box::new(member_of(Arc::clone(&id), &value)));
            SaidOf::Member(id, member)
        }
        TARGET => {
            let value = read::<ConsumerGroupTargetAssignmentMemberValue>(value)?;
            let target = value.map(|value| {
                let topics = value.topic_partitions.iter();
                let topics = topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied()));
                topics.map(|(id, partitions)| (id, partitions.map(PartitionIndex).collect())).collect()
            });
            SaidOf::Target(id, target)
        }
        _ => {
            let value = read::<ConsumerGroupCurrentMemberAssignmentValue>(value)?;
            let current = value.map(|value| Current {
                state: MemberState::from_number(value.state),
                epoch: value.member_epoch,
                previous_epoch: value.previous_member_epoch,
                assigned: held_of(&value.assigned_partitions, value.member_epoch),
                revoking: held_of(&value.partitions_pending_revocation, value.member_epoch),
            });
            SaidOf::Current(id, current)
        }
    })
}

fn read<M: Message>(value: Option<&Bytes>) -> Result<Option<M>, DecodeError> {
    let Some(value) = value else { return Ok(None) };
    let (version, mut reader) = split(value.clone())?;
    M::decode(&mut reader, version.min(M::SCHEMA.versions.max)).map(Some)
}

fn shared(text: &Str) -> Arc<str> {
    (&**text).into()
}

fn member_of(id: Arc<str>, value: &ConsumerGroupMemberMetadataValue) -> Member {
    Member {
        instance_id: value.instance_id.as_ref().map(shared),
        rack: value.rack_id.as_ref().map(shared),
        client_id: value.client_id.to_string(),
        client_host: value.client_host.to_string(),
        names: value.subscribed_topic_names.iter().map(shared).collect(),
        regex: value.subscribed_topic_regex.as_ref().filter(|regex| !regex.is_empty()).map(shared),
        rebalance_timeout: Duration::from_millis(u64::try_from(value.rebalance_timeout_ms).unwrap_or(0)),
        assignor: value.server_assignor.as_deref().and_then(Assignor::find),
        classic: value.classic_member_metadata.as_ref().map(|side| ClassicSide {
            session_timeout: Duration::from_millis(u64::try_from(side.session_timeout_ms).unwrap_or(0)),
            protocols: side
                .supported_protocols
                .iter()
                .map(|protocol| Protocol {
                    name: protocol.name.to_string(),
                    // A copy: a slice would keep the whole batch in memory.
                    metadata: Bytes::copy_from_slice(&protocol.metadata),
                })
                .collect(),
        }),
        ..Member::new(id)
    }
}

/// Without epochs of its own, a partition was assigned in the member's.
fn held_of(topics: &[TopicPartitions], epoch: i32) -> Held {
    let held = topics.iter().map(|topic| {
        let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
        let epochs = epochs.iter().copied().chain(core::iter::repeat(epoch));
        (topic.topic_id, topic.partitions.iter().copied().map(PartitionIndex).zip(epochs).collect())
    });
    held.collect()
}

fn topics_of(held: &Held) -> Vec<TopicPartitions> {
    let topic = |(topic_id, held): (&TopicId, &BTreeMap<PartitionIndex, i32>)| TopicPartitions {
        topic_id: *topic_id,
        partitions: held.keys().map(|partition| partition.get()).collect(),
        assignment_epochs: Some(held.values().copied().collect()),
    };
    held.iter().map(topic).collect()
}

fn of_group<M: Message>(kind: i16, group: &str, value: Option<&M>) -> Record {
    let key = GroupKey { group: group.into() };
    Record { key: fits(encode_key(kind, &key)), value: value.map(|value| fits(encode_value(0, value))) }
}

fn of_member<M: Message>(kind: i16, (group, member_id): (&str, &str), value: Option<&M>) -> Record {
    let key = GroupMemberKey { group_id: group.into(), member_id: member_id.into() };
    Record { key: fits(encode_key(kind, &key)), value: value.map(|value| fits(encode_value(0, value))) }
}

/// The group's epoch and its topics' hash, or its end.
pub(crate) fn group(group: &str, value: Option<(i32, i64)>) -> Record {
    let value = value.map(|(epoch, metadata_hash)| ConsumerGroupMetadataValue { epoch, metadata_hash });
    of_group(GROUP, group, value.as_ref())
}

/// What a member wants, or its end.
pub(crate) fn member(group: &str, member_id: &str, member: Option<&Member>) -> Record {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(Str::from);
    let value = member.map(|member| ConsumerGroupMemberMetadataValue {
        instance_id: text(&member.instance_id),
        rack_id: text(&member.rack),
        client_id: member.client_id.as_str().into(),
        client_host: member.client_host.as_str().into(),
        subscribed_topic_names: member.names.iter().map(|name| Str::from(&**name)).collect(),
        subscribed_topic_regex: Some(member.regex.as_deref().unwrap_or_default().into()),
        rebalance_timeout_ms: i32::try_from(member.rebalance_timeout.as_millis()).unwrap_or(i32::MAX),
        server_assignor: member.assignor.map(|assignor| assignor.name().into()),
        classic_member_metadata: member.classic.as_ref().map(|side| ClassicMemberMetadata {
            session_timeout_ms: i32::try_from(side.session_timeout.as_millis()).unwrap_or(i32::MAX),
            supported_protocols: side
                .protocols
                .iter()
                .map(|protocol| ClassicProtocol {
                    name: protocol.name.as_str().into(),
                    metadata: protocol.metadata.clone(),
                })
                .collect(),
        }),
    });
    of_member(MEMBER, (group, member_id), value.as_ref())
}

/// The target assignment's epoch and time, or its end.
pub(crate) fn target_epoch(group: &str, value: Option<(i32, i64)>) -> Record {
    let value = value.map(|(assignment_epoch, assignment_timestamp)| ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch,
        assignment_timestamp,
    });
    of_group(TARGET_EPOCH, group, value.as_ref())
}

/// What a member is to have, or its end.
pub(crate) fn target(group: &str, member_id: &str, target: Option<&Partitions>) -> Record {
    let value = target.map(|target| {
        let topics = target.iter().map(|(topic_id, partitions)| TopicPartition {
            topic_id: *topic_id,
            partitions: partitions.iter().map(|partition| partition.get()).collect(),
        });
        ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topics.collect() }
    });
    of_member(TARGET, (group, member_id), value.as_ref())
}

/// What a member has, or its end.
pub(crate) fn current(group: &str, member_id: &str, current: Option<&Current>) -> Record {
    let value = current.map(|current| ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state.number(),
        assigned_partitions: topics_of(&current.assigned),
        partitions_pending_revocation: topics_of(&current.revoking),
    });
    of_member(CURRENT, (group, member_id), value.as_ref())
}

/// What an expression means, or its end.
pub(crate) fn regex(group: &str, regex: &str, resolved: Option<&Resolved>) -> Record {
    let key = ConsumerGroupRegularExpressionKey { group_id: group.into(), regular_expression: regex.into() };
    let value = resolved.map(|resolved| {
        let topics = resolved.topics.iter().map(|topic| Str::from(&**topic)).collect();
        let value =
            ConsumerGroupRegularExpressionValue { topics, version: resolved.version, timestamp: resolved.at_ms };
        fits(encode_value(0, &value))
    });
    Record { key: fits(encode_key(REGEX, &key)), value }
}
