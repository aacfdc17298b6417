//! Brokers, topics, partitions and their leaders.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// Asks which brokers there are and who leads what.
    MetadataRequest: Request of 3, versions 0..=13, flexible 9.. {
        /// The topics wanted; null for all (in version 0, none for all).
        topics: Option<Vec<MetadataRequestTopic>> [nullable_since(1)],
        /// Whether topics that do not exist may be created, if the broker does that at all.
        allow_auto_topic_creation: bool [since(4)] = true,
        /// Whether to say what the caller may do to the cluster.
        include_cluster_authorized_operations: bool [since(8), until(10)],
        /// Whether to say what the caller may do to each topic.
        include_topic_authorized_operations: bool [since(8)],
    }

    /// A topic wanted.
    MetadataRequestTopic {
        /// Topic id; zero for none.
        topic_id: TopicId [since(10), ignorable],
        /// Topic name; null to ask by id.
        name: Option<Str> [nullable_since(10)],
    }
}

message! {
    /// Says which brokers there are and who leads what.
    MetadataResponse: Response of 3, versions 0..=13, flexible 9.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(3), ignorable],
        /// The brokers that are alive.
        brokers: Vec<MetadataResponseBroker>,
        /// The cluster's id.
        cluster_id: Option<Str> [since(2), nullable, ignorable] = None,
        /// Node id of the controller, or of a broker that forwards to it; -1 if unknown.
        controller_id: i32 [since(1), ignorable] = -1,
        /// The topics.
        topics: Vec<MetadataResponseTopic>,
        /// Bit set of what the caller may do to the cluster; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32 [since(8), until(10)] = i32::MIN,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16 [since(13), ignorable],
    }

    /// A broker that is alive.
    MetadataResponseBroker {
        /// Node id.
        node_id: i32,
        /// Host name or address to connect to.
        host: Str,
        /// TCP port.
        port: i32,
        /// The broker's rack.
        rack: Option<Str> [since(1), nullable, ignorable] = None,
    }

    /// A topic.
    MetadataResponseTopic {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Topic name; null if asked by an id that is unknown.
        name: Option<Str> [nullable_since(12)],
        /// Topic id; zero for none.
        topic_id: TopicId [since(10), ignorable],
        /// Whether it is one of the system's own topics.
        is_internal: bool [since(1), ignorable],
        /// Its partitions.
        partitions: Vec<MetadataResponsePartition>,
        /// Bit set of what the caller may do to the topic; `i32::MIN` if not asked for.
        topic_authorized_operations: i32 [since(8)] = i32::MIN,
    }

    /// A partition.
    MetadataResponsePartition {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Partition number.
        partition_index: i32,
        /// Node id of the leader; -1 for none.
        leader_id: i32,
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 [since(7), ignorable] = -1,
        /// Node ids of all replicas.
        replica_nodes: Vec<i32>,
        /// Node ids of the replicas in sync.
        isr_nodes: Vec<i32>,
        /// Node ids of the replicas that are offline.
        offline_replicas: Vec<i32> [since(5), ignorable],
    }
}
