//! Offsets by time.

use crate::Str;

message! {
    /// Asks for offsets by time.
    ListOffsetsRequest: Request of 2, versions 1..=11, flexible 6.. {
        /// Node id of the follower; -1 for a consumer.
        replica_id: i32,
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8 [since(2)],
        /// The topics.
        topics: Vec<ListOffsetsTopic>,
        /// How long the broker may take, in milliseconds.
        timeout_ms: i32 [since(10), ignorable],
    }

    /// What to look up in one topic.
    ListOffsetsTopic {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partitions: Vec<ListOffsetsPartition>,
    }

    /// What to look up in one partition.
    ListOffsetsPartition {
        /// Partition number.
        partition_index: i32,
        /// The leader epoch that the client knows, to be fenced by; -1 for none.
        current_leader_epoch: i32 [since(4), ignorable] = -1,
        /// Find the first record from this time on (milliseconds since 1970), or -1 latest, -2 earliest, -3 largest
        /// timestamp, -4 earliest local, -5 latest tiered, -6 earliest not yet tiered.
        timestamp: i64,
    }
}

message! {
    /// Offsets by time.
    ListOffsetsResponse: Response of 2, versions 1..=11, flexible 6.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(2), ignorable],
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse>,
    }

    /// What was found in one topic.
    ListOffsetsTopicResponse {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// What was found in one partition.
    ListOffsetsPartitionResponse {
        /// Partition number.
        partition_index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Timestamp of the record found; -1 for none.
        timestamp: i64 = -1,
        /// The offset found; -1 for none.
        offset: i64 = -1,
        /// Leader epoch of the record found; -1 for none.
        leader_epoch: i32 [since(4)] = -1,
    }
}
