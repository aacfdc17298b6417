//! Committed offsets; of several groups at once from version 8 on (KIP-709), by topic id from version 10 on.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// Asks how far groups have read.
    OffsetFetchRequest: Request of 9, versions 1..=10, flexible 6.. {
        /// The group.
        group_id: Str [until(7)],
        /// The topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [until(7), nullable_since(2)] = Some(Vec::new()),
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup> [since(8)],
        /// Whether to fail rather than to tell an offset that a transaction may still change (KIP-447).
        require_stable: bool [since(7)],
    }

    /// One topic.
    OffsetFetchRequestTopic {
        /// Its name.
        name: Str,
        /// Its partitions.
        partition_indexes: Vec<i32>,
    }

    /// One group.
    OffsetFetchRequestGroup {
        /// The group.
        group_id: Str,
        /// The member that asks.
        member_id: Option<Str> [since(9), nullable, ignorable] = None,
        /// Its epoch (KIP-848).
        member_epoch: i32 [since(9), ignorable] = -1,
        /// The topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [nullable] = Some(Vec::new()),
    }

    /// One topic of one group.
    OffsetFetchRequestTopics {
        /// Its name.
        name: Str [until(9), ignorable],
        /// Its id.
        topic_id: TopicId [since(10), ignorable],
        /// Its partitions.
        partition_indexes: Vec<i32>,
    }
}

message! {
    /// How far groups have read.
    OffsetFetchResponse: Response of 9, versions 1..=10, flexible 6.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(3), ignorable],
        /// The topics.
        topics: Vec<OffsetFetchResponseTopic> [until(7)],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16 [since(2), until(7), ignorable],
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup> [since(8)],
    }

    /// One topic.
    OffsetFetchResponseTopic {
        /// Its name.
        name: Str,
        /// Its partitions.
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    /// One partition.
    OffsetFetchResponsePartition {
        /// Its number.
        partition_index: i32,
        /// The next offset to read; -1 if none was committed.
        committed_offset: i64,
        /// The leader epoch that was committed with it.
        committed_leader_epoch: i32 [since(5), ignorable] = -1,
        /// The metadata that was committed with it.
        metadata: Option<Str> [nullable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }

    /// One group.
    OffsetFetchResponseGroup {
        /// The group.
        group_id: Str,
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics>,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }

    /// One topic of one group.
    OffsetFetchResponseTopics {
        /// Its name.
        name: Str [until(9), ignorable],
        /// Its id.
        topic_id: TopicId [since(10), ignorable],
        /// Its partitions.
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    /// One partition of one group.
    OffsetFetchResponsePartitions {
        /// Its number.
        partition_index: i32,
        /// The next offset to read; -1 if none was committed.
        committed_offset: i64,
        /// The leader epoch that was committed with it.
        committed_leader_epoch: i32 [ignorable] = -1,
        /// The metadata that was committed with it.
        metadata: Option<Str> [nullable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
