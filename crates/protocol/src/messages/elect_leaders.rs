//! Elections that somebody asks for (KIP-183, KIP-460).

use crate::Str;

message! {
    /// Asks for elections.
    ElectLeadersRequest: Request of 43, versions 0..=2, flexible 2.. {
        /// 0 the preferred leader, 1 any replica, even if committed records are lost.
        election_type: i8 [since(1)],
        /// The partitions; null for all.
        topic_partitions: Option<Vec<TopicPartitions>> [nullable],
        /// How long to wait, in milliseconds.
        timeout_ms: i32 = 60_000,
    }

    /// Partitions of one topic.
    TopicPartitions {
        /// Topic name.
        topic: Str,
        /// Partition numbers.
        partitions: Vec<i32>,
    }
}

message! {
    /// What became of the elections.
    ElectLeadersResponse: Response of 43, versions 0..=2, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode) of the whole request; 0 is none.
        error_code: i16 [since(1)],
        /// By topic.
        replica_election_results: Vec<ReplicaElectionResult>,
    }

    /// Elections of one topic.
    ReplicaElectionResult {
        /// Topic name.
        topic: Str,
        /// By partition.
        partition_result: Vec<PartitionResult>,
    }

    /// One election.
    PartitionResult {
        /// Partition number.
        partition_id: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
    }
}
