//! Partitions of many topics, page by page (KIP-966).

use quipu_base::TopicId;

use crate::Str;

message! {
    /// Asks for partitions, page by page (KIP-966).
    DescribeTopicPartitionsRequest: Request of 75, versions 0..=0, flexible 0.. {
        /// The topics, in order of name; none for all.
        topics: Vec<TopicRequest>,
        /// Most partitions in one answer.
        response_partition_limit: i32 = 2000,
        /// Where to go on; null to begin at the first.
        cursor: Option<Cursor> [nullable] = None,
    }

    /// A topic wanted.
    TopicRequest {
        /// Topic name.
        name: Str,
    }

    /// A place between two pages.
    Cursor {
        /// Topic to go on with.
        topic_name: Str,
        /// Partition to go on with.
        partition_index: i32,
    }
}

message! {
    /// A page of partitions.
    DescribeTopicPartitionsResponse: Response of 75, versions 0..=0, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        /// Where to go on; null at the end.
        next_cursor: Option<Cursor> [nullable] = None,
    }

    /// A topic.
    DescribeTopicPartitionsResponseTopic {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Topic name.
        name: Option<Str> [nullable],
        /// Topic id; zero for none.
        topic_id: TopicId,
        /// Whether it is one of the system's own topics.
        is_internal: bool,
        /// Its partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        /// Bit set of what the caller may do to the topic; `i32::MIN` if not asked for.
        topic_authorized_operations: i32 = i32::MIN,
    }

    /// A partition.
    DescribeTopicPartitionsResponsePartition {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Partition number.
        partition_index: i32,
        /// Node id of the leader; -1 for none.
        leader_id: i32,
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 = -1,
        /// Node ids of all replicas.
        replica_nodes: Vec<i32>,
        /// Node ids of the replicas in sync.
        isr_nodes: Vec<i32>,
        /// Replicas outside the ISR that may still lead (KIP-966).
        eligible_leader_replicas: Option<Vec<i32>> [nullable] = None,
        /// The last replicas known to be eligible.
        last_known_elr: Option<Vec<i32>> [nullable] = None,
        /// Node ids of the replicas that are offline.
        offline_replicas: Vec<i32>,
    }
}
