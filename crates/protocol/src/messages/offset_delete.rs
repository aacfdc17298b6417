//! Forgetting committed offsets (KIP-496).

use crate::Str;

message! {
    /// Asks that offsets be forgotten.
    OffsetDeleteRequest: Request of 47, versions 0..=0 {
        /// The group.
        group_id: Str,
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic>,
    }

    /// One topic.
    OffsetDeleteRequestTopic {
        /// Its name.
        name: Str,
        /// Its partitions.
        partitions: Vec<OffsetDeleteRequestPartition>,
    }

    /// One partition.
    OffsetDeleteRequestPartition {
        /// Its number.
        partition_index: i32,
    }
}

message! {
    /// What was forgotten.
    OffsetDeleteResponse: Response of 47, versions 0..=0 {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [ignorable],
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic>,
    }

    /// One topic.
    OffsetDeleteResponseTopic {
        /// Its name.
        name: Str,
        /// Its partitions.
        partitions: Vec<OffsetDeleteResponsePartition>,
    }

    /// One partition.
    OffsetDeleteResponsePartition {
        /// Its number.
        partition_index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
