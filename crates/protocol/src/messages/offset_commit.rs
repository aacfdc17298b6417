//! Committing offsets; by topic id from version 10 on.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// How far a group has read.
    OffsetCommitRequest: Request of 8, versions 2..=10, flexible 8.. {
        /// The group.
        group_id: Str,
        /// The generation (classic) or the member's epoch (KIP-848); -1 from whoever is no member.
        generation_id_or_member_epoch: i32 [ignorable] = -1,
        /// The member, or nothing.
        member_id: Str [ignorable],
        /// What its owner calls it.
        group_instance_id: Option<Str> [since(7), nullable] = None,
        /// How long to keep the offsets, in milliseconds; -1 for as long as the broker likes.
        retention_time_ms: i64 [until(4), ignorable] = -1,
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic>,
    }

    /// One topic.
    OffsetCommitRequestTopic {
        /// Its name.
        name: Str [until(9), ignorable],
        /// Its id.
        topic_id: TopicId [since(10), ignorable],
        /// Its partitions.
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    /// One partition.
    OffsetCommitRequestPartition {
        /// Its number.
        partition_index: i32,
        /// The next offset to read.
        committed_offset: i64,
        /// The leader epoch of the last record read; -1 if unknown.
        committed_leader_epoch: i32 [since(6), ignorable] = -1,
        /// Whatever the client wants to find again.
        committed_metadata: Option<Str> [nullable],
    }
}

message! {
    /// What was committed.
    OffsetCommitResponse: Response of 8, versions 2..=10, flexible 8.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(3), ignorable],
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic>,
    }

    /// One topic.
    OffsetCommitResponseTopic {
        /// Its name.
        name: Str [until(9), ignorable],
        /// Its id.
        topic_id: TopicId [since(10), ignorable],
        /// Its partitions.
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// One partition.
    OffsetCommitResponsePartition {
        /// Its number.
        partition_index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
