//! Moving partitions to other brokers (KIP-455, KIP-860).

use crate::Str;

message! {
    /// Asks for other replicas.
    AlterPartitionReassignmentsRequest: Request of 45, versions 0..=1, flexible 0.. {
        /// How long to wait, in milliseconds.
        timeout_ms: i32 = 60_000,
        /// Whether the number of replicas may become another.
        allow_replication_factor_change: bool [since(1)] = true,
        /// By topic.
        topics: Vec<ReassignableTopic>,
    }

    /// Partitions of one topic.
    ReassignableTopic {
        /// Topic name.
        name: Str,
        /// By partition.
        partitions: Vec<ReassignablePartition>,
    }

    /// One partition.
    ReassignablePartition {
        /// Partition number.
        partition_index: i32,
        /// The replicas wanted, the preferred leader first; null to cancel what is under way.
        replicas: Option<Vec<i32>> [nullable] = None,
    }
}

message! {
    /// What became of it.
    AlterPartitionReassignmentsResponse: Response of 45, versions 0..=1, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// Whether the number of replicas was allowed to become another.
        allow_replication_factor_change: bool [since(1), ignorable] = true,
        /// [`ErrorCode`](crate::ErrorCode) of the whole request; 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
        /// By topic.
        responses: Vec<ReassignableTopicResponse>,
    }

    /// Partitions of one topic.
    ReassignableTopicResponse {
        /// Topic name.
        name: Str,
        /// By partition.
        partitions: Vec<ReassignablePartitionResponse>,
    }

    /// One partition.
    ReassignablePartitionResponse {
        /// Partition number.
        partition_index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
    }
}
