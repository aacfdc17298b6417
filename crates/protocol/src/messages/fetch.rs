//! Reading record batches; also the way followers replicate.

use quipu_base::{DirectoryId, TopicId};

use crate::{Records, Str};

message! {
    /// Reads record batches, as a consumer or as a follower.
    FetchRequest: Request of 1, versions 4..=18, flexible 12.. {
        /// The cluster that the follower belongs to; null from a consumer.
        cluster_id: Option<Str> [since(12), nullable, tag(0), ignorable] = None,
        /// Node id of the follower; -1 for a consumer.
        replica_id: i32 [until(14)] = -1,
        /// Which follower asks; a consumer leaves it out.
        replica_state: ReplicaState [since(15), tag(1)],
        /// How long to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32,
        /// Bytes to wait for.
        min_bytes: i32,
        /// Most bytes to send in all, but for the first batch.
        max_bytes: i32 = i32::MAX,
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8,
        /// Fetch session; 0 is none.
        session_id: i32 [since(7), ignorable],
        /// Number of the request within its session: 0 begins one, -1 ends it or is without one.
        session_epoch: i32 [since(7), ignorable] = -1,
        /// What to fetch; in a session, what changed.
        topics: Vec<FetchTopic>,
        /// Partitions to drop from an incremental fetch session.
        forgotten_topics_data: Vec<ForgottenTopic> [since(7)],
        /// The consumer's rack; empty for none.
        rack_id: Str [since(11), ignorable],
    }

    /// The follower that asks.
    ReplicaState {
        /// Node id of the follower; -1 for a consumer.
        replica_id: i32 = -1,
        /// The follower's broker epoch; -1 for none.
        replica_epoch: i64 = -1,
    }

    /// What to read of one topic.
    FetchTopic {
        /// Topic name.
        topic: Str [until(12), ignorable],
        /// Topic id; zero for none.
        topic_id: TopicId [since(13), ignorable],
        /// Its partitions.
        partitions: Vec<FetchPartition>,
    }

    /// What to read of one partition.
    FetchPartition {
        /// Partition number.
        partition: i32,
        /// The leader epoch that the client knows, to be fenced by; -1 for none.
        current_leader_epoch: i32 [since(9), ignorable] = -1,
        /// The first offset wanted.
        fetch_offset: i64,
        /// Leader epoch of the last record that the follower has; -1 for none.
        last_fetched_epoch: i32 [since(12)] = -1,
        /// The first offset that the follower has; -1 from a consumer.
        log_start_offset: i64 [since(5), ignorable] = -1,
        /// Most bytes to send of this partition, but for the first batch.
        partition_max_bytes: i32,
        /// The follower's directory.
        replica_directory_id: DirectoryId [since(17), tag(0), ignorable],
        /// The high watermark that the follower knows; `i64::MAX` from a consumer or an old follower.
        high_watermark: i64 [since(18), tag(1), ignorable] = i64::MAX,
    }

    /// Partitions of one topic that leave the session.
    ForgottenTopic {
        /// Topic name.
        topic: Str [until(12), ignorable],
        /// Topic id; zero for none.
        topic_id: TopicId [since(13), ignorable],
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

message! {
    /// Record batches.
    FetchResponse: Response of 1, versions 4..=18, flexible 12.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode) of the whole request; 0 is none.
        error_code: i16 [since(7), ignorable],
        /// Fetch session; 0 is none.
        session_id: i32 [since(7)],
        /// Its topics.
        responses: Vec<FetchableTopicResponse>,
        /// Addresses of the leaders named above.
        node_endpoints: Vec<NodeEndpoint> [since(16), tag(0)],
    }

    /// What was read of one topic.
    FetchableTopicResponse {
        /// Topic name.
        topic: Str [until(12), ignorable],
        /// Topic id; zero for none.
        topic_id: TopicId [since(13), ignorable],
        /// Its partitions.
        partitions: Vec<PartitionData>,
    }

    /// What was read of one partition.
    PartitionData {
        /// Partition number.
        partition_index: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// The offset below which all records are committed; -1 with an error.
        high_watermark: i64,
        /// The offset below which no transaction is open; -1 if unknown.
        last_stable_offset: i64 = -1,
        /// The first offset there is; -1 if unknown.
        log_start_offset: i64 [since(5), ignorable] = -1,
        /// Where the follower's log parts from the leader's: the largest epoch that both may share.
        diverging_epoch: EpochEndOffset [since(12), tag(0)],
        /// The new leader, with NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH.
        current_leader: LeaderIdAndEpoch [since(12), tag(1)],
        /// The snapshot to fetch first, if the log begins after the offset wanted.
        snapshot_id: SnapshotId [since(12), tag(2)],
        /// Transactions aborted within the range sent, for a read_committed reader to skip; null for any other.
        aborted_transactions: Option<Vec<AbortedTransaction>> [nullable],
        /// The replica to read from instead; -1 for none.
        preferred_read_replica: i32 [since(11)] = -1,
        /// Record batches, the first of which may begin before the offset wanted. Empty, never null: clients do not
        /// expect null.
        records: Option<Records> [nullable],
    }

    /// Where a leader epoch ends.
    EpochEndOffset {
        /// A leader epoch.
        epoch: i32 = -1,
        /// The offset after the epoch's last record; -1 if unknown.
        end_offset: i64 = -1,
    }

    /// Who leads a partition now.
    LeaderIdAndEpoch {
        /// Node id of the leader; -1 for none.
        leader_id: i32 = -1,
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 = -1,
    }

    /// A snapshot of the metadata log.
    SnapshotId {
        /// The offset after its last record; -1 for no snapshot.
        end_offset: i64 = -1,
        /// Leader epoch of its last record.
        epoch: i32 = -1,
    }

    /// A transaction that was aborted.
    AbortedTransaction {
        /// Producer id; -1 for none.
        producer_id: i64,
        /// The transaction's first offset in this partition.
        first_offset: i64,
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
