//! Appending record batches.

use quipu_base::TopicId;

use crate::{Records, Str};

message! {
    /// Appends record batches.
    ProduceRequest: Request of 0, versions 3..=13, flexible 9.. {
        /// The producer's transactional id; null without transactions.
        transactional_id: Option<Str> [nullable] = None,
        /// Who must have the records before the answer: 0 nobody (and no answer is sent), 1 the leader, -1 all in-sync
        /// replicas.
        acks: i16,
        /// How long the broker may take, in milliseconds.
        timeout_ms: i32,
        /// The topics.
        topic_data: Vec<TopicProduceData>,
    }

    /// Batches for one topic.
    TopicProduceData {
        /// Topic name.
        name: Str [until(12), ignorable],
        /// Topic id; zero for none.
        topic_id: TopicId [since(13), ignorable],
        /// Its partitions.
        partition_data: Vec<PartitionProduceData>,
    }

    /// A batch for one partition.
    PartitionProduceData {
        /// Partition number.
        index: i32,
        /// One record batch.
        records: Option<Records> [nullable],
    }
}

message! {
    /// Says what became of each batch.
    ProduceResponse: Response of 0, versions 3..=13, flexible 9.. {
        /// Its topics.
        responses: Vec<TopicProduceResponse>,
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// Addresses of the leaders named above.
        node_endpoints: Vec<NodeEndpoint> [since(10), tag(0)],
    }

    /// Answers for one topic.
    TopicProduceResponse {
        /// Topic name.
        name: Str [until(12), ignorable],
        /// Topic id; zero for none.
        topic_id: TopicId [since(13), ignorable],
        /// Its partitions.
        partition_responses: Vec<PartitionProduceResponse>,
    }

    /// The answer for one partition.
    PartitionProduceResponse {
        /// Partition number.
        index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Offset given to the first record; -1 with an error.
        base_offset: i64,
        /// Time given to the records if the topic uses LogAppendTime, else -1. Milliseconds since 1970.
        log_append_time_ms: i64 = -1,
        /// The first offset there is; -1 if unknown.
        log_start_offset: i64 [since(5), ignorable] = -1,
        /// Which records made the batch be refused.
        record_errors: Vec<BatchIndexAndErrorMessage> [since(8), ignorable],
        /// What went wrong, in words.
        error_message: Option<Str> [since(8), nullable, ignorable] = None,
        /// The new leader, with NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH.
        current_leader: LeaderIdAndEpoch [since(10), tag(0)],
    }

    /// A record that made its batch be refused.
    BatchIndexAndErrorMessage {
        /// The record's number in its batch, from 0.
        batch_index: i32,
        /// What is wrong with it.
        batch_index_error_message: Option<Str> [nullable] = None,
    }

    /// Who leads a partition now.
    LeaderIdAndEpoch {
        /// Node id of the leader; -1 for none.
        leader_id: i32 = -1,
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 = -1,
    }

    /// Where a broker listens.
    NodeEndpoint {
        /// Node id.
        node_id: i32,
        /// Host name or address to connect to.
        host: Str,
        /// TCP port.
        port: i32,
        /// The broker's rack.
        rack: Option<Str> [nullable] = None,
    }
}
