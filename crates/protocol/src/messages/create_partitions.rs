//! Adding partitions (KIP-195).

use crate::Str;

message! {
    /// Adds partitions to topics.
    CreatePartitionsRequest: Request of 37, versions 0..=3, flexible 2.. {
        /// The topics.
        topics: Vec<CreatePartitionsTopic>,
        /// How long the broker may take, in milliseconds.
        timeout_ms: i32,
        /// Whether to check without doing it.
        validate_only: bool,
    }

    /// A topic that grows.
    CreatePartitionsTopic {
        /// Topic name.
        name: Str,
        /// How many partitions the topic shall have in all.
        count: i32,
        /// Replicas of each new partition; null if the broker chooses them.
        assignments: Option<Vec<CreatePartitionsAssignment>> [nullable],
    }

    /// The replicas of one new partition.
    CreatePartitionsAssignment {
        /// Node ids of the replicas, the preferred leader first.
        broker_ids: Vec<i32>,
    }
}

message! {
    /// What became of each topic.
    CreatePartitionsResponse: Response of 37, versions 0..=3, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// An answer for each.
        results: Vec<CreatePartitionsTopicResult>,
    }

    /// What became of one topic.
    CreatePartitionsTopicResult {
        /// Topic name.
        name: Str,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable] = None,
    }
}
