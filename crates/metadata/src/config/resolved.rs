//! The configs that work, as the rest of the product uses them: resolved through all layers, with types.
//!
//! Read `layers` for how they are resolved.

use quipu_base::limits;

use crate::partition::InsyncReplicasMin;

/// Whose time a record bears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// Its producer's.
    CreateTime,
    /// The broker's, when it was appended.
    LogAppendTime,
}

/// How batches are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// As their producer compressed them.
    Producer,
    /// Uncompressed.
    Uncompressed,
    /// With gzip.
    Gzip {
        /// 1 to 9; none leaves it to the library.
        level: Option<i32>,
    },
    /// With snappy.
    Snappy,
    /// With lz4.
    Lz4,
    /// With zstd.
    Zstd {
        /// -131072 to 22.
        level: i32,
    },
}

/// The configs that hold for one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// `compression.type`, with the level that goes with it.
    pub compression: Compression,
    /// `max.message.bytes`.
    pub message_bytes_max: usize,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.insync.replicas`.
    pub insync_replicas_min: InsyncReplicasMin,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`.
    pub unclean_election: bool,
}

/// The configs that hold for one broker itself. What topics inherit is in [`TopicConfig`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerConfig {
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `auto.leader.rebalance.enable`.
    pub balance_leaders: bool,
    /// `leader.imbalance.check.interval.seconds`.
    pub balance_interval_seconds: u64,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u64,
    /// `broker.session.timeout.ms`.
    pub session_timeout_ms: u64,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_max_ms: u64,
    /// `connections.max.idle.ms`.
    pub connection_idle_ms: u64,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: u64,
    /// `group.max.session.timeout.ms`.
    pub group_session_timeout_max_ms: u64,
    /// `group.max.size`.
    pub group_size_max: usize,
    /// `group.min.session.timeout.ms`.
    pub group_session_timeout_min_ms: u64,
    /// `max.connections`.
    pub connections_max: usize,
    /// `max.connections.per.ip`.
    pub connections_per_address_max: usize,
    /// `num.partitions`.
    pub partition_count: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_ms: u64,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: u64,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_partition_count: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: u32,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
}

// The tables hold their defaults as text; these are the same numbers.
const _: () = {
    assert!(limits::SEGMENT_BYTES == 1_073_741_824 && limits::SEGMENT_MS == 604_800_000);
    assert!(limits::BATCH_BYTES_MAX == 1_048_588 && limits::REQUEST_BYTES_MAX == 104_857_600);
    assert!(limits::CONNECTIONS_MAX == 10_000 && limits::CONNECTION_IDLE_MS == 600_000);
    assert!(limits::PRODUCER_EXPIRATION_MS == 86_400_000 && limits::INDEX_INTERVAL_BYTES == 8192);
    assert!(limits::DECOMPRESSED_BYTES_MAX == 67_108_864);
};
