//! The metadata quorum (KIP-595, KIP-836, KIP-853).

use crate::Str;

pub use response::DescribeQuorumResponse;

message! {
    /// Asks about the quorum.
    DescribeQuorumRequest: Request of 55, versions 0..=2, flexible 0.. {
        /// Its topics: the metadata log's.
        topics: Vec<TopicData>,
    }

    /// Partitions of one topic.
    TopicData {
        /// Topic name.
        topic_name: Str,
        /// By partition.
        partitions: Vec<PartitionData>,
    }

    /// One partition.
    PartitionData {
        /// Partition number.
        partition_index: i32,
    }
}

/// The answer, whose structures have the names of the request's.
pub mod response {
    use quipu_base::DirectoryId;

    use crate::Str;

    message! {
        /// What the quorum is doing.
        DescribeQuorumResponse: Response of 55, versions 0..=2, flexible 0.. {
            /// [`ErrorCode`](crate::ErrorCode) of the whole request; 0 is none.
            error_code: i16,
            /// What went wrong, in words.
            error_message: Option<Str> [since(2), nullable, ignorable],
            /// Its topics.
            topics: Vec<TopicData>,
            /// Where the voters are.
            nodes: Vec<Node> [since(2)],
        }

        /// Partitions of one topic.
        TopicData {
            /// Topic name.
            topic_name: Str,
            /// By partition.
            partitions: Vec<PartitionData>,
        }

        /// One partition.
        PartitionData {
            /// Partition number.
            partition_index: i32,
            /// [`ErrorCode`](crate::ErrorCode); 0 is none.
            error_code: i16,
            /// What went wrong, in words.
            error_message: Option<Str> [since(2), nullable, ignorable],
            /// Node id of the leader; -1 for none.
            leader_id: i32,
            /// The leader's epoch.
            leader_epoch: i32,
            /// Everything below is committed.
            high_watermark: i64,
            /// Who votes.
            current_voters: Vec<ReplicaState>,
            /// Who follows without a vote.
            observers: Vec<ReplicaState>,
        }

        /// One replica.
        ReplicaState {
            /// Node id.
            replica_id: i32,
            /// Its data directory.
            replica_directory_id: DirectoryId [since(2)],
            /// Where its log ends; -1 if unknown.
            log_end_offset: i64,
            /// When the leader last heard of it, in milliseconds since 1970; -1 if unknown.
            last_fetch_timestamp: i64 [since(1), ignorable] = -1,
            /// When it last had the whole log, in milliseconds since 1970; -1 if unknown.
            last_caught_up_timestamp: i64 [since(1), ignorable] = -1,
        }

        /// A voter's node.
        Node {
            /// Node id.
            node_id: i32,
            /// Its listeners.
            listeners: Vec<Listener>,
        }

        /// A listener.
        Listener {
            /// Its name.
            name: Str,
            /// Host name or address to connect to.
            host: Str,
            /// TCP port.
            port: u16,
        }
    }
}
