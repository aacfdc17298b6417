//! Data directories and what lies in them (KIP-113).

use crate::Str;

message! {
    /// Asks what lies in the data directories.
    DescribeLogDirsRequest: Request of 35, versions 1..=5, flexible 2.. {
        /// The topics wanted; null for all.
        topics: Option<Vec<DescribableLogDirTopic>> [nullable],
    }

    /// A topic wanted.
    DescribableLogDirTopic {
        /// Topic name.
        topic: Str,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

message! {
    /// What lies in the data directories.
    DescribeLogDirsResponse: Response of 35, versions 1..=5, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16 [since(3), ignorable],
        /// The directories.
        results: Vec<DescribeLogDirsResult>,
    }

    /// A data directory.
    DescribeLogDirsResult {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// The directory's absolute path.
        log_dir: Str,
        /// The topics.
        topics: Vec<DescribeLogDirsTopic>,
        /// Size of the file system, in bytes; -1 if unknown.
        total_bytes: i64 [since(4), ignorable] = -1,
        /// Bytes free on the file system; -1 if unknown.
        usable_bytes: i64 [since(4), ignorable] = -1,
        /// Whether the directory takes no new partitions.
        is_cordoned: bool [since(5), ignorable],
    }

    /// A topic in it.
    DescribeLogDirsTopic {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// A partition in it.
    DescribeLogDirsPartition {
        /// Partition number.
        partition_index: i32,
        /// Bytes of all its segments.
        partition_size: i64,
        /// How far the replica is behind: records below the high watermark, or below the present replica's end.
        offset_lag: i64,
        /// Whether this replica is a copy being made, that will replace the present one.
        is_future_key: bool,
    }
}
