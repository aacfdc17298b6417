//! The configs of a topic that work or state a fact.

use super::{
    CLEANUP_POLICIES, COMPRESSION_TYPES, DECOMPRESSED, DECOMPRESSED_BYTES_MAX, SEGMENT_BYTES_MIN, SYNCED_ALWAYS,
    TIMESTAMP_TYPES, ZSTD_LEVELS, topic,
};
use crate::config::key::{Check, ConfigKey, ConfigType};

/// The configs of a topic, by name.
pub const TOPIC_KEYS: &[ConfigKey] = &[
    topic(
        "cleanup.policy",
        ConfigType::List,
        "delete",
        CLEANUP_POLICIES,
        "log.cleanup.policy",
        "How old records go: deleted after a time or beyond a size, compacted by key, or both.",
    ),
    topic(
        "compression.gzip.level",
        ConfigType::Int,
        "-1",
        Check::GzipLevel,
        "compression.gzip.level",
        "How hard gzip tries when compression.type is gzip.",
    ),
    topic(
        "compression.type",
        ConfigType::String,
        "producer",
        COMPRESSION_TYPES,
        "compression.type",
        "How batches are stored: as their producer compressed them, or compressed again.",
    ),
    topic(
        "compression.zstd.level",
        ConfigType::Int,
        "3",
        ZSTD_LEVELS,
        "compression.zstd.level",
        "How hard zstd tries when compression.type is zstd.",
    ),
    topic(
        "delete.retention.ms",
        ConfigType::Long,
        "86400000",
        Check::AtLeast(0),
        "log.cleaner.delete.retention.ms",
        "How long a tombstone stays after compaction has met it first.",
    ),
    topic(
        "file.delete.delay.ms",
        ConfigType::Long,
        // Kafka's default is a minute: its readers need the name. Ours hold the file.
        "0",
        Check::AtLeast(0),
        "log.segment.delete.delay.ms",
        "How long a deleted segment's file stays. Not longer than the broker runs, and not on a full disk.",
    ),
    topic(
        "flush.messages",
        ConfigType::Long,
        // Kafka's default is never.
        "1",
        Check::AtLeast(1),
        "log.flush.interval.messages",
        "After how many records the log is synced to disk.",
    )
    .fixed(SYNCED_ALWAYS),
    topic(
        "flush.ms",
        ConfigType::Long,
        // Kafka's default is never.
        "0",
        Check::AtLeast(0),
        "log.flush.interval.ms",
        "After what time the log is synced to disk.",
    )
    .fixed(SYNCED_ALWAYS),
    topic(
        "index.interval.bytes",
        ConfigType::Int,
        // Kafka's default is 4096.
        "8192",
        Check::AtLeast(0),
        "log.index.interval.bytes",
        "How many bytes of log lie between two entries of an index.",
    )
    .fixed("indexes have one granularity"),
    topic(
        "max.compaction.lag.ms",
        ConfigType::Long,
        "9223372036854775807",
        Check::AtLeast(1),
        "log.cleaner.max.compaction.lag.ms",
        "After what time a record is compacted at the latest, however little there is to gain.",
    ),
    topic(
        "max.decompressed.message.bytes",
        ConfigType::Int,
        // Kafka's default is 2 GiB less 9 bytes.
        DECOMPRESSED_BYTES_MAX,
        Check::Between(1, 2_147_483_639),
        "max.decompressed.message.bytes",
        "How large a batch may become when it is decompressed.",
    )
    .fixed(DECOMPRESSED),
    topic(
        "max.message.bytes",
        ConfigType::Int,
        "1048588",
        Check::AtLeast(0),
        "message.max.bytes",
        "The largest batch taken, as sent: compressed, if it is.",
    ),
    topic(
        "message.timestamp.after.max.ms",
        ConfigType::Long,
        "3600000",
        Check::AtLeast(0),
        "log.message.timestamp.after.max.ms",
        "How far a record's timestamp may lie in the broker's future.",
    ),
    topic(
        "message.timestamp.before.max.ms",
        ConfigType::Long,
        "9223372036854775807",
        Check::AtLeast(0),
        "log.message.timestamp.before.max.ms",
        "How far a record's timestamp may lie in the broker's past.",
    ),
    topic(
        "message.timestamp.type",
        ConfigType::String,
        "CreateTime",
        TIMESTAMP_TYPES,
        "log.message.timestamp.type",
        "Whether a record bears its producer's time or the broker's.",
    ),
    topic(
        "min.cleanable.dirty.ratio",
        ConfigType::Double,
        "0.5",
        Check::Share,
        "log.cleaner.min.cleanable.ratio",
        "What part of a log must have grown since its last compaction before it is compacted again.",
    ),
    topic(
        "min.compaction.lag.ms",
        ConfigType::Long,
        "0",
        Check::AtLeast(0),
        "log.cleaner.min.compaction.lag.ms",
        "How old a record must be before it may be compacted away.",
    ),
    topic(
        "min.insync.replicas",
        ConfigType::Int,
        "1",
        Check::AtLeast(1),
        "min.insync.replicas",
        "How many replicas must have a record before acks=all is answered; a majority always must.",
    ),
    topic(
        "preallocate",
        ConfigType::Boolean,
        "false",
        Check::Any,
        "log.preallocate",
        "Whether a segment's file has its full size from the start.",
    )
    .fixed("segments grow as they are written"),
    topic(
        "retention.bytes",
        ConfigType::Long,
        "-1",
        Check::Any,
        "log.retention.bytes",
        "Beyond what size of a partition its oldest records are deleted; -1 is never.",
    ),
    topic(
        "retention.ms",
        ConfigType::Long,
        "604800000",
        Check::AtLeast(-1),
        "log.retention.ms",
        "After what time, by their timestamps, records are deleted; -1 is never.",
    ),
    topic(
        "segment.bytes",
        ConfigType::Int,
        "1073741824",
        SEGMENT_BYTES_MIN,
        "log.segment.bytes",
        "At what size a new segment begins.",
    ),
    topic(
        "segment.jitter.ms",
        ConfigType::Long,
        "0",
        Check::AtLeast(0),
        "log.roll.jitter.ms",
        "How much earlier than segment.ms a segment may begin, at random.",
    )
    .fixed("segments begin exactly when segment.ms says"),
    topic(
        "segment.ms",
        ConfigType::Long,
        "604800000",
        Check::AtLeast(1),
        "log.roll.ms",
        "At what age a new segment begins, however small the last one is.",
    ),
    topic(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        "false",
        Check::Any,
        "unclean.leader.election.enable",
        "Whether a replica that may lack acknowledged records may lead.",
    ),
];
