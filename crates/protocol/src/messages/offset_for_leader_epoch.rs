//! Where leader epochs end (KIP-101, KIP-320).

use crate::Str;

message! {
    /// Asks where leader epochs end, to find out where two logs part.
    OffsetForLeaderEpochRequest: Request of 23, versions 2..=4, flexible 4.. {
        /// Node id of the follower; -1 for a consumer, -2 for a debugger.
        replica_id: i32 [since(3), ignorable] = -2,
        /// The topics.
        topics: Vec<OffsetForLeaderTopic>,
    }

    /// What to look up in one topic.
    OffsetForLeaderTopic {
        /// Topic name.
        topic: Str,
        /// Its partitions.
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// What to look up in one partition.
    OffsetForLeaderPartition {
        /// Partition number.
        partition: i32,
        /// The leader epoch that the client knows, to be fenced by; -1 for none.
        current_leader_epoch: i32 = -1,
        /// The epoch whose end is wanted.
        leader_epoch: i32,
    }
}

message! {
    /// Where leader epochs end.
    OffsetForLeaderEpochResponse: Response of 23, versions 2..=4, flexible 4.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    /// What was found in one topic.
    OffsetForLeaderTopicResult {
        /// Topic name.
        topic: Str,
        /// Its partitions.
        partitions: Vec<EpochEndOffset>,
    }

    /// Where a leader epoch ends.
    EpochEndOffset {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Partition number.
        partition: i32,
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 = -1,
        /// The offset after the epoch's last record; -1 if unknown.
        end_offset: i64 = -1,
    }
}
