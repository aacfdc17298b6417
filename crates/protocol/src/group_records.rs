//! The records of `__consumer_offsets`, Kafka 4.4's own: keys and values of committed offsets and of groups.
//!
//! ```text
//! key    type i16 | body of version 0, never flexible
//! value  version i16 | body; null is a tombstone
//! ```
//!
//! | type | key | value (versions; flexible from) |
//! |---|---|---|
//! | 0 | [`OffsetCommitKey`], before Kafka 0.9 | [`LegacyOffsetCommitValue`] (0) |
//! | 1 | [`OffsetCommitKey`] | [`OffsetCommitValue`] (0-4; 4) |
//! | 2 | [`GroupKey`] | [`GroupMetadataValue`] (0-4; 4) |
//! | 3 | [`GroupKey`] | [`ConsumerGroupMetadataValue`] (0; 0) |
//! | 4 | [`GroupKey`] | [`ConsumerGroupPartitionMetadataValue`] (0; 0), no longer written |
//! | 5 | [`GroupMemberKey`] | [`ConsumerGroupMemberMetadataValue`] (0; 0) |
//! | 6 | [`GroupKey`] | [`ConsumerGroupTargetAssignmentMetadataValue`] (0; 0) |
//! | 7 | [`GroupMemberKey`] | [`ConsumerGroupTargetAssignmentMemberValue`] (0; 0) |
//! | 8 | [`GroupMemberKey`] | [`ConsumerGroupCurrentMemberAssignmentValue`] (0; 0) |
//! | 16 | [`ConsumerGroupRegularExpressionKey`] | [`ConsumerGroupRegularExpressionValue`] (0; 0) |
//!
//! Types 9 to 15 and above 16 belong to share and streams groups.
//!
//! Not here: what a record means (`quipu-groups`).

use bytes::{Bytes, BytesMut};
use quipu_base::TopicId;

use crate::{
    Str,
    message::Message,
    reader::{DecodeError, Reader},
    writer::{Chunk, EncodeError, Writer},
};

/// The leading number of a key (its type) or of a value (its version), and what follows.
///
/// Errors: fewer than two bytes.
pub fn split(bytes: Bytes) -> Result<(i16, Reader), DecodeError> {
    let mut reader = Reader::new(bytes);
    let number = reader.i16()?;
    Ok((number, reader))
}

/// A key: the type, then version 0.
///
/// Errors: a string is too long.
pub fn encode_key(kind: i16, key: &impl Message) -> Result<Bytes, EncodeError> {
    encode(kind, key, 0)
}

/// A value: the version, then the body at that version.
///
/// Errors: a string or array is too long, or the version does not exist.
pub fn encode_value(version: i16, value: &impl Message) -> Result<Bytes, EncodeError> {
    encode(version, value, version)
}

fn encode(number: i16, message: &impl Message, version: i16) -> Result<Bytes, EncodeError> {
    let mut buffer = BytesMut::new();
    let mut writer = Writer::new(&mut buffer);
    writer.i16(number);
    message.encode(&mut writer, version)?;
    let mut encoded = BytesMut::new();
    for chunk in writer.finish() {
        match chunk {
            Chunk::Bytes(bytes) => encoded.extend_from_slice(&bytes),
            Chunk::Hole { .. } => unreachable!("a record of a group has no record batches"),
        }
    }
    Ok(encoded.freeze())
}

message! {
    /// Key of types 0 and 1: a committed offset.
    OffsetCommitKey: Record of 1, versions 0..=0 {
        /// The group.
        group: Str,
        /// The topic's name.
        topic: Str,
        /// The partition.
        partition: i32,
    }
}

message! {
    /// Value of type 0.
    LegacyOffsetCommitValue: Record of 0, versions 0..=0 {
        /// The next offset to read.
        offset: i64,
        /// The client's own.
        metadata: Str,
        /// When it was committed, milliseconds since 1970.
        commit_timestamp: i64,
    }
}

message! {
    /// Value of type 1.
    OffsetCommitValue: Record of 1, versions 0..=4, flexible 4.. {
        /// The next offset to read.
        offset: i64,
        /// The leader epoch of the last record read; -1 if unknown.
        leader_epoch: i32 [since(3), ignorable] = -1,
        /// The client's own.
        metadata: Str,
        /// When it was committed, milliseconds since 1970.
        commit_timestamp: i64,
        /// When it expires, milliseconds since 1970; -1 as the broker's retention says.
        expire_timestamp: i64 [since(1), until(1), ignorable] = -1,
        /// The topic's id; zero if unknown.
        topic_id: TopicId [since(4), tag(0), ignorable],
    }
}

message! {
    /// Key of types 2, 3, 4 and 6: a group.
    GroupKey: Record of 2, versions 0..=0 {
        /// The group.
        group: Str,
    }
}

message! {
    /// Value of type 2: a group of the classic protocol.
    GroupMetadataValue: Record of 2, versions 0..=4, flexible 4.. {
        /// What the group is for.
        protocol_type: Str,
        /// The generation.
        generation: i32,
        /// The protocol in use.
        protocol: Option<Str> [nullable],
        /// The member that assigns.
        leader: Option<Str> [nullable],
        /// Since when the group is in its state, milliseconds since 1970; -1 if unknown.
        current_state_timestamp: i64 [since(2), ignorable] = -1,
        /// The members.
        members: Vec<MemberMetadata>,
    }

    /// One member.
    MemberMetadata {
        /// What the coordinator calls it.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [since(3), nullable, ignorable] = None,
        /// What its client calls itself.
        client_id: Str,
        /// Where it connects from.
        client_host: Str,
        /// How long a rebalance waits for it, in milliseconds.
        rebalance_timeout: i32 [since(1), ignorable] = -1,
        /// Without a heartbeat for this long it is out, in milliseconds.
        session_timeout: i32,
        /// Its subscription.
        subscription: Bytes,
        /// Its assignment.
        assignment: Bytes,
    }
}

message! {
    /// Key of types 5, 7 and 8: a member of a group.
    GroupMemberKey: Record of 5, versions 0..=0 {
        /// The group.
        group_id: Str,
        /// The member.
        member_id: Str,
    }
}

message! {
    /// Value of type 3: a group of KIP-848.
    ConsumerGroupMetadataValue: Record of 3, versions 0..=0, flexible 0.. {
        /// The group's epoch.
        epoch: i32,
        /// Of the subscribed topics' metadata.
        metadata_hash: i64 [tag(0)],
    }
}

message! {
    /// Value of type 4: what an older coordinator knew of the subscribed topics.
    ConsumerGroupPartitionMetadataValue: Record of 4, versions 0..=0, flexible 0.. {
        /// The topics.
        topics: Vec<TopicMetadata>,
    }

    /// One topic.
    TopicMetadata {
        /// Its id.
        topic_id: TopicId,
        /// Its name.
        topic_name: Str,
        /// Its partitions.
        num_partitions: i32,
        /// Where they are.
        partition_metadata: Vec<PartitionMetadata>,
    }

    /// One partition.
    PartitionMetadata {
        /// Its number.
        partition: i32,
        /// The racks of its replicas.
        racks: Vec<Str>,
    }
}

message! {
    /// Value of type 5: what a member of a KIP-848 group said of itself.
    ConsumerGroupMemberMetadataValue: Record of 5, versions 0..=0, flexible 0.. {
        /// What its owner calls it.
        instance_id: Option<Str> [nullable],
        /// Its rack.
        rack_id: Option<Str> [nullable],
        /// What its client calls itself.
        client_id: Str,
        /// Where it connects from.
        client_host: Str,
        /// Topics that it wants by name.
        subscribed_topic_names: Vec<Str>,
        /// Topics that it wants by a regular expression.
        subscribed_topic_regex: Option<Str> [nullable],
        /// How long it may take to give partitions up, in milliseconds.
        rebalance_timeout_ms: i32 = -1,
        /// The assignor that it asks for.
        server_assignor: Option<Str> [nullable],
        /// If it speaks the classic protocol.
        classic_member_metadata: Option<ClassicMemberMetadata> [nullable, tag(0)] = None,
    }

    /// What is known of a member that speaks the classic protocol.
    ClassicMemberMetadata {
        /// Without a heartbeat for this long it is out, in milliseconds.
        session_timeout_ms: i32,
        /// What it can do.
        supported_protocols: Vec<ClassicProtocol>,
    }

    /// One of its protocols.
    ClassicProtocol {
        /// The assignor's name.
        name: Str,
        /// The subscription.
        metadata: Bytes,
    }
}

message! {
    /// Value of type 6: a target assignment is complete.
    ConsumerGroupTargetAssignmentMetadataValue: Record of 6, versions 0..=0, flexible 0.. {
        /// The group epoch that it was made for.
        assignment_epoch: i32,
        /// When it was made, milliseconds since 1970.
        assignment_timestamp: i64 [tag(0), ignorable],
    }
}

message! {
    /// Value of type 7: what a member is to have.
    ConsumerGroupTargetAssignmentMemberValue: Record of 7, versions 0..=0, flexible 0.. {
        /// By topic.
        topic_partitions: Vec<TopicPartition>,
    }

    /// Partitions of one topic.
    TopicPartition {
        /// The topic.
        topic_id: TopicId,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

message! {
    /// Value of type 8: what a member has.
    ConsumerGroupCurrentMemberAssignmentValue: Record of 8, versions 0..=0, flexible 0.. {
        /// Its epoch.
        member_epoch: i32,
        /// The one before, in case the member missed the last answer.
        previous_member_epoch: i32,
        /// 1 stable, 2 revoking, 3 waiting for partitions of others; 127 unknown.
        state: i8,
        /// What it may read.
        assigned_partitions: Vec<TopicPartitions>,
        /// What it has to give up.
        partitions_pending_revocation: Vec<TopicPartitions>,
    }

    /// Partitions of one topic.
    TopicPartitions {
        /// The topic.
        topic_id: TopicId,
        /// Its partitions.
        partitions: Vec<i32>,
        /// The epochs in which they were assigned.
        assignment_epochs: Option<Vec<i32>> [nullable, tag(0)] = None,
    }
}

message! {
    /// Key of type 16: a regular expression of a group.
    ConsumerGroupRegularExpressionKey: Record of 16, versions 0..=0 {
        /// The group.
        group_id: Str,
        /// The expression.
        regular_expression: Str,
    }
}

message! {
    /// Value of type 16: what it was resolved to.
    ConsumerGroupRegularExpressionValue: Record of 16, versions 0..=0, flexible 0.. {
        /// The topics' names.
        topics: Vec<Str>,
        /// The metadata's version then.
        version: i64,
        /// When, milliseconds since 1970.
        timestamp: i64,
    }
}
