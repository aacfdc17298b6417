//! Partitions that are being moved (KIP-455).

use crate::Str;

message! {
    /// Asks what is being moved.
    ListPartitionReassignmentsRequest: Request of 46, versions 0..=0, flexible 0.. {
        /// How long to wait, in milliseconds.
        timeout_ms: i32 = 60_000,
        /// The partitions; null for all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [nullable] = None,
    }

    /// Partitions of one topic.
    ListPartitionReassignmentsTopics {
        /// Topic name.
        name: Str,
        /// Partition numbers.
        partition_indexes: Vec<i32>,
    }
}

message! {
    /// What is being moved.
    ListPartitionReassignmentsResponse: Response of 46, versions 0..=0, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode) of the whole request; 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
        /// By topic.
        topics: Vec<OngoingTopicReassignment>,
    }

    /// Partitions of one topic.
    OngoingTopicReassignment {
        /// Topic name.
        name: Str,
        /// By partition.
        partitions: Vec<OngoingPartitionReassignment>,
    }

    /// One partition.
    OngoingPartitionReassignment {
        /// Partition number.
        partition_index: i32,
        /// All replicas.
        replicas: Vec<i32>,
        /// Those being added.
        adding_replicas: Vec<i32>,
        /// Those being removed.
        removing_replicas: Vec<i32>,
    }
}
