//! What a partition's leader knows of its producers (KIP-664).

use crate::Str;

message! {
    /// Asks for the producers of partitions.
    DescribeProducersRequest: Request of 61, versions 0..=0, flexible 0.. {
        /// The topics.
        topics: Vec<TopicRequest>,
    }

    /// Partitions of one topic.
    TopicRequest {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partition_indexes: Vec<i32>,
    }
}

message! {
    /// The producers of partitions.
    DescribeProducersResponse: Response of 61, versions 0..=0, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The topics.
        topics: Vec<TopicResponse>,
    }

    /// Partitions of one topic.
    TopicResponse {
        /// Topic name.
        name: Str,
        /// Its partitions.
        partitions: Vec<PartitionResponse>,
    }

    /// The producers of one partition.
    PartitionResponse {
        /// Partition number.
        partition_index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable] = None,
        /// Those that the partition remembers.
        active_producers: Vec<ProducerState>,
    }

    /// What a partition remembers of one producer.
    ProducerState {
        /// The producer's id.
        producer_id: i64,
        /// The newest epoch that has written.
        producer_epoch: i32,
        /// Sequence of its last record; -1 for none.
        last_sequence: i32 = -1,
        /// Timestamp of its last batch; -1 for none.
        last_timestamp: i64 = -1,
        /// Epoch of the transaction coordinator that wrote its last marker; -1 for none.
        coordinator_epoch: i32,
        /// Where its open transaction begins; -1 for none.
        current_txn_start_offset: i64 = -1,
    }
}
