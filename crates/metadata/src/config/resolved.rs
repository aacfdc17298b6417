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

/// How old records go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    /// `cleanup.policy` has `delete`: by `retention.ms` and `retention.bytes`.
    pub deletes: bool,
    /// `cleanup.policy` has `compact`.
    pub compacts: bool,
}

/// The configs that hold for one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
    /// `compression.type`, with the level that goes with it.
    pub compression: Compression,
    /// `delete.retention.ms`.
    pub tombstone_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// `max.compaction.lag.ms`.
    pub compaction_lag_max_ms: i64,
    /// `max.message.bytes`.
    pub message_bytes_max: usize,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub dirty_ratio_min_millionths: u32,
    /// `min.compaction.lag.ms`.
    pub compaction_lag_min_ms: i64,
    /// `min.insync.replicas`.
    pub insync_replicas_min: InsyncReplicasMin,
    /// `retention.bytes`; none keeps all.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; none keeps all.
    pub retention_ms: Option<i64>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`.
    pub unclean_election: bool,
}

/// The broker's configs for groups of the consumer protocol (KIP-848).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerGroupConfig {
    /// `group.consumer.assignors`: at least one.
    pub assignors: Vec<String>,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u64,
    /// `group.consumer.min.heartbeat.interval.ms` to `group.consumer.max.heartbeat.interval.ms`, both included.
    pub heartbeat_interval_bounds_ms: (u64, u64),
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: u64,
    /// `group.consumer.min.session.timeout.ms` to `group.consumer.max.session.timeout.ms`, both included.
    pub session_timeout_bounds_ms: (u64, u64),
    /// `group.consumer.max.size`.
    pub size_max: usize,
    /// `group.consumer.migration.policy`: whether groups of the classic protocol change to the consumer protocol.
    pub upgrades: bool,
    /// `group.consumer.migration.policy`: whether groups of the consumer protocol change to the classic protocol.
    pub downgrades: bool,
}

/// What is set on one group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<u64>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<u64>,
}

impl ConsumerGroupConfig {
    /// Whether its own values fit together. Errors: which do not, and why.
    pub fn check(&self) -> Result<(), String> {
        let Self { heartbeat_interval_bounds_ms: beats, session_timeout_bounds_ms: sessions, .. } = *self;
        for (what, (min, max)) in [("heartbeat.interval", beats), ("session.timeout", sessions)] {
            if min > max {
                return Err(format!(
                    "group.consumer.min.{what}.ms is {min}, which is more than group.consumer.max.{what}.ms, {max}"
                ));
            }
        }
        self.check_pair("group.consumer.", (self.session_timeout_ms, self.heartbeat_interval_ms))
    }

    /// Whether these may be a group's. Errors: why not.
    pub fn check_group(&self, group: GroupConfig) -> Result<(), String> {
        let session = group.session_timeout_ms.unwrap_or(self.session_timeout_ms);
        let heartbeat = group.heartbeat_interval_ms.unwrap_or(self.heartbeat_interval_ms);
        self.check_pair("consumer.", (session, heartbeat))
    }

    fn check_pair(&self, prefix: &str, (session, heartbeat): (u64, u64)) -> Result<(), String> {
        let both = [
            ("session.timeout", session, self.session_timeout_bounds_ms),
            ("heartbeat.interval", heartbeat, self.heartbeat_interval_bounds_ms),
        ];
        for (what, value, (min, max)) in both {
            if value < min || value > max {
                return Err(format!(
                    "{prefix}{what}.ms is {value}, which is not from group.consumer.min.{what}.ms, {min}, to \
                     group.consumer.max.{what}.ms, {max}"
                ));
            }
        }
        if heartbeat >= session {
            return Err(format!(
                "{prefix}heartbeat.interval.ms is {heartbeat}, which is not less than {prefix}session.timeout.ms, {session}"
            ));
        }
        Ok(())
    }
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
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// `group.consumer...`.
    pub group_consumer: ConsumerGroupConfig,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: u64,
    /// `group.max.session.timeout.ms`.
    pub group_session_timeout_max_ms: u64,
    /// `group.max.size`.
    pub group_size_max: usize,
    /// `group.min.session.timeout.ms`.
    pub group_session_timeout_min_ms: u64,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff_ms: u64,
    /// `log.cleaner.dedupe.buffer.size`.
    pub cleaner_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub cleaner_bytes_per_second: u64,
    /// `replica.catch.up.bytes.per.second`.
    pub catch_up_bytes_per_second: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_ms: u64,
    /// `log.scrub.bytes.per.second`.
    pub scrub_bytes_per_second: u64,
    /// `log.scrub.interval.ms`.
    pub scrub_interval_ms: u64,
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
    /// `telemetry.max.bytes`.
    pub telemetry_bytes_max: usize,
}

// The tables hold their defaults as text; these are the same numbers.
const _: () = {
    assert!(limits::SEGMENT_BYTES == 1_073_741_824 && limits::SEGMENT_MS == 604_800_000);
    assert!(limits::BATCH_BYTES_MAX == 1_048_588 && limits::REQUEST_BYTES_MAX == 104_857_600);
    assert!(limits::CONNECTIONS_MAX == 10_000 && limits::CONNECTION_IDLE_MS == 600_000);
    assert!(limits::PRODUCER_EXPIRATION_MS == 86_400_000 && limits::INDEX_INTERVAL_BYTES == 8192);
    assert!(limits::DECOMPRESSED_BYTES_MAX == 67_108_864 && limits::FETCH_SESSIONS_MAX == 1000);
};
