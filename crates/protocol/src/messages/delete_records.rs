//! Deleting from the beginning of a log (KIP-107).

use crate::Str;

message! {
    /// Deletes records from the beginning of partitions.
    DeleteRecordsRequest: Request of 21, versions 0..=2, flexible 2.. {
        /// The topics.
        topics: Vec<DeleteRecordsTopic>,
        /// How long the broker may take, in milliseconds.
        timeout_ms: i32,
    }

    /// What to delete from one topic.
    DeleteRecordsTopic {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// What to delete from one partition.
    DeleteRecordsPartition {
        /// Partition number.
        partition_index: i32,
        /// Delete everything below this offset; -1 for the high watermark.
        offset: i64,
    }
}

message! {
    /// What became of each partition.
    DeleteRecordsResponse: Response of 21, versions 0..=2, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult>,
    }

    /// What became of one topic.
    DeleteRecordsTopicResult {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    /// What became of one partition.
    DeleteRecordsPartitionResult {
        /// Partition number.
        partition_index: i32,
        /// The first offset that remains, on all replicas; -1 with an error.
        low_watermark: i64,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
