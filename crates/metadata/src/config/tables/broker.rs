//! The configs of a broker that work or state a fact.

use super::{
    ASSIGNORS, CLEANUP_POLICIES, COMPRESSION_TYPES, DECOMPRESSED, DECOMPRESSED_BYTES_MAX, MIGRATIONS,
    SEGMENT_BYTES_MIN, SYNCED_ALWAYS, TIMESTAMP_TYPES, ZSTD_LEVELS, broker,
};
use crate::config::key::{Check, ConfigKey, ConfigType};

/// The configs of a broker, by name.
pub const BROKER_KEYS: &[ConfigKey] = &[
    broker(
        "auto.create.topics.enable",
        ConfigType::Boolean,
        "true",
        Check::Any,
        "Whether a topic that a client asks for is created, if the client allows it.",
    ),
    broker(
        "auto.leader.rebalance.enable",
        ConfigType::Boolean,
        "true",
        Check::Any,
        "Whether preferred leaders are elected every leader.imbalance.check.interval.seconds.",
    ),
    broker(
        "broker.heartbeat.interval.ms",
        ConfigType::Int,
        // Kafka's default is 2000.
        "150",
        Check::AtLeast(1),
        "How often a broker tells the controller that it lives.",
    ),
    broker(
        "broker.session.timeout.ms",
        ConfigType::Int,
        // Kafka's default is 9000.
        "700",
        Check::AtLeast(1),
        "After what time without a heartbeat a broker is fenced, and others lead what it led.",
    ),
    broker(
        "compression.gzip.level",
        ConfigType::Int,
        "-1",
        Check::GzipLevel,
        "compression.gzip.level of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "compression.type",
        ConfigType::String,
        "producer",
        COMPRESSION_TYPES,
        "compression.type of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "compression.zstd.level",
        ConfigType::Int,
        "3",
        ZSTD_LEVELS,
        "compression.zstd.level of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "connections.max.idle.ms",
        ConfigType::Long,
        "600000",
        Check::AtLeast(1),
        "After what time without a request a connection is closed.",
    ),
    broker(
        "default.replication.factor",
        ConfigType::Int,
        "1",
        Check::Between(1, i16::MAX as i64),
        "How many replicas a topic gets whose creator leaves it open.",
    ),
    broker("delete.topic.enable", ConfigType::Boolean, "true", Check::Any, "Whether topics can be deleted.")
        .fixed("topics can always be deleted"),
    broker(
        "group.consumer.assignors",
        ConfigType::List,
        "uniform,range",
        ASSIGNORS,
        "Who may assign partitions in groups of the consumer protocol; the first does where members ask for none.",
    ),
    broker(
        "group.consumer.heartbeat.interval.ms",
        ConfigType::Int,
        "5000",
        Check::AtLeast(1),
        "How often members of the consumer protocol give a sign of life.",
    ),
    broker(
        "group.consumer.max.heartbeat.interval.ms",
        ConfigType::Int,
        "15000",
        Check::AtLeast(1),
        "The longest heartbeat interval that may be set on a group.",
    ),
    broker(
        "group.consumer.max.session.timeout.ms",
        ConfigType::Int,
        "60000",
        Check::AtLeast(1),
        "The longest session time-out that may be set on a group of the consumer protocol.",
    ),
    broker(
        "group.consumer.max.size",
        ConfigType::Int,
        "2147483647",
        Check::AtLeast(1),
        "How many members a group of the consumer protocol may have.",
    ),
    broker(
        "group.consumer.migration.policy",
        ConfigType::String,
        "bidirectional",
        MIGRATIONS,
        "Which groups change their protocol while they have members.",
    ),
    broker(
        "group.consumer.min.heartbeat.interval.ms",
        ConfigType::Int,
        "5000",
        Check::AtLeast(1),
        "The shortest heartbeat interval that may be set on a group.",
    ),
    broker(
        "group.consumer.min.session.timeout.ms",
        ConfigType::Int,
        "45000",
        Check::AtLeast(1),
        "The shortest session time-out that may be set on a group of the consumer protocol.",
    ),
    broker(
        "group.consumer.session.timeout.ms",
        ConfigType::Int,
        "45000",
        Check::AtLeast(1),
        "Without a sign of life for this long a member of the consumer protocol is out.",
    ),
    broker(
        "group.initial.rebalance.delay.ms",
        ConfigType::Int,
        "3000",
        Check::AtLeast(0),
        "How long a group that was empty waits for more members before its first generation.",
    ),
    broker(
        "group.max.session.timeout.ms",
        ConfigType::Int,
        "1800000",
        Check::AtLeast(1),
        "The longest session time-out that a member may ask for.",
    ),
    broker("group.max.size", ConfigType::Int, "2147483647", Check::AtLeast(1), "How many members a group may have."),
    broker(
        "group.min.session.timeout.ms",
        ConfigType::Int,
        "6000",
        Check::AtLeast(1),
        "The shortest session time-out that a member may ask for.",
    ),
    broker(
        "leader.imbalance.check.interval.seconds",
        ConfigType::Long,
        "300",
        Check::AtLeast(1),
        "How often preferred leaders are elected.",
    ),
    broker(
        "log.cleaner.backoff.ms",
        ConfigType::Long,
        "15000",
        Check::AtLeast(1),
        "How long compaction rests when there is nothing to compact.",
    )
    .dynamic(),
    broker(
        "log.cleaner.dedupe.buffer.size",
        ConfigType::Long,
        // Kafka's default is 128 MiB. What does not fit at once is compacted in several passes.
        "33554432",
        Check::AtLeast(1024 * 1024),
        "Memory for the keys of one pass of compaction.",
    )
    .dynamic(),
    broker(
        "log.cleaner.delete.retention.ms",
        ConfigType::Long,
        "86400000",
        Check::AtLeast(0),
        "delete.retention.ms of topics that do not set it.",
    )
    .dynamic(),
    broker("log.cleaner.enable", ConfigType::Boolean, "true", Check::Any, "Whether topics are compacted.")
        .fixed("topics are compacted that ask for it"),
    broker(
        "log.cleaner.io.max.bytes.per.second",
        ConfigType::Double,
        // Kafka has no bound by default. This one leaves a disk to those who wait for it.
        "268435456",
        Check::Any,
        "How much compaction reads and writes in a second, both together.",
    )
    .dynamic(),
    broker(
        "log.cleaner.max.compaction.lag.ms",
        ConfigType::Long,
        "9223372036854775807",
        Check::AtLeast(1),
        "max.compaction.lag.ms of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "log.cleaner.min.cleanable.ratio",
        ConfigType::Double,
        "0.5",
        Check::Share,
        "min.cleanable.dirty.ratio of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "log.cleaner.min.compaction.lag.ms",
        ConfigType::Long,
        "0",
        Check::AtLeast(0),
        "min.compaction.lag.ms of topics that do not set it.",
    )
    .dynamic(),
    broker("log.cleaner.threads", ConfigType::Int, "1", Check::AtLeast(0), "How many logs are compacted at once.")
        .fixed("one log is compacted at a time"),
    broker(
        "log.cleanup.policy",
        ConfigType::List,
        "delete",
        CLEANUP_POLICIES,
        "cleanup.policy of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "log.flush.interval.messages",
        ConfigType::Long,
        "1",
        Check::AtLeast(1),
        "After how many records a log is synced to disk.",
    )
    .fixed(SYNCED_ALWAYS),
    broker(
        "log.flush.interval.ms",
        ConfigType::Long,
        "0",
        Check::AtLeast(0),
        "After what time a log is synced to disk.",
    )
    .fixed(SYNCED_ALWAYS),
    broker(
        "log.index.interval.bytes",
        ConfigType::Int,
        "8192",
        Check::AtLeast(0),
        "How many bytes of log lie between two entries of an index.",
    )
    .fixed("indexes have one granularity"),
    broker(
        "log.message.timestamp.after.max.ms",
        ConfigType::Long,
        "3600000",
        Check::AtLeast(0),
        "message.timestamp.after.max.ms of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "log.message.timestamp.before.max.ms",
        ConfigType::Long,
        "9223372036854775807",
        Check::AtLeast(0),
        "message.timestamp.before.max.ms of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "log.message.timestamp.type",
        ConfigType::String,
        "CreateTime",
        TIMESTAMP_TYPES,
        "message.timestamp.type of topics that do not set it.",
    )
    .dynamic(),
    broker("log.preallocate", ConfigType::Boolean, "false", Check::Any, "preallocate of topics.")
        .fixed("segments grow as they are written"),
    broker("log.retention.bytes", ConfigType::Long, "-1", Check::Any, "retention.bytes of topics that do not set it.")
        .dynamic(),
    broker(
        "log.retention.check.interval.ms",
        ConfigType::Long,
        "300000",
        Check::AtLeast(1),
        "How often logs are looked through for what retention has passed. Size is looked at as a log grows, too.",
    ),
    broker(
        "log.retention.ms",
        ConfigType::Long,
        "604800000",
        Check::AtLeast(-1),
        "retention.ms of topics that do not set it.",
    )
    .dynamic(),
    broker("log.roll.jitter.ms", ConfigType::Long, "0", Check::AtLeast(0), "segment.jitter.ms of topics.")
        .fixed("segments begin exactly when segment.ms says"),
    broker("log.roll.ms", ConfigType::Long, "604800000", Check::AtLeast(1), "segment.ms of topics that do not set it.")
        .dynamic(),
    broker(
        "log.scrub.bytes.per.second",
        ConfigType::Long,
        "4194304",
        Check::AtLeast(0),
        "How much of its segments a broker reads in a second to find damage before a reader does; 0 is nothing. Quipu's own.",
    ),
    broker(
        "log.scrub.interval.ms",
        ConfigType::Long,
        "86400000",
        Check::AtLeast(1),
        "How often a broker begins to read all its segments for damage. Quipu's own.",
    ),
    broker(
        "log.segment.bytes",
        ConfigType::Int,
        "1073741824",
        SEGMENT_BYTES_MIN,
        "segment.bytes of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "log.segment.delete.delay.ms",
        ConfigType::Long,
        "0",
        Check::AtLeast(0),
        "file.delete.delay.ms of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "max.connections",
        ConfigType::Int,
        // Kafka has no bound by default. Ours keeps the memory of connections bounded.
        "10000",
        Check::AtLeast(1),
        "How many connections a broker holds at once.",
    )
    .dynamic(),
    broker(
        "max.connections.per.ip",
        ConfigType::Int,
        "2147483647",
        Check::AtLeast(1),
        "How many connections a broker holds at once from one address.",
    )
    .dynamic(),
    broker(
        "max.decompressed.message.bytes",
        ConfigType::Int,
        DECOMPRESSED_BYTES_MAX,
        Check::Between(1, 2_147_483_639),
        "How large a batch may become when it is decompressed.",
    )
    .fixed(DECOMPRESSED),
    broker(
        "max.incremental.fetch.session.cache.slots",
        ConfigType::Int,
        "1000",
        Check::AtLeast(0),
        "How many fetch sessions a broker keeps; a client that gets none fetches without.",
    ),
    broker(
        "message.max.bytes",
        ConfigType::Int,
        "1048588",
        Check::AtLeast(0),
        "max.message.bytes of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "min.insync.replicas",
        ConfigType::Int,
        "1",
        Check::AtLeast(1),
        "min.insync.replicas of topics that do not set it.",
    )
    .dynamic(),
    broker(
        "num.partitions",
        ConfigType::Int,
        "1",
        Check::AtLeast(1),
        "How many partitions a topic gets whose creator leaves it open.",
    ),
    broker(
        "offset.metadata.max.bytes",
        ConfigType::Int,
        "4096",
        Check::AtLeast(0),
        "How long the metadata of a committed offset may be.",
    ),
    broker(
        "offsets.commit.timeout.ms",
        ConfigType::Int,
        "5000",
        Check::AtLeast(1),
        "How long a commit waits for its replicas.",
    )
    .fixed("the coordinator waits five seconds"),
    broker(
        "offsets.retention.check.interval.ms",
        ConfigType::Long,
        "600000",
        Check::AtLeast(1),
        "How often offsets that have expired are looked for.",
    ),
    broker(
        "offsets.retention.minutes",
        ConfigType::Int,
        "10080",
        Check::AtLeast(1),
        "How long the offsets of a group without members are kept.",
    ),
    broker(
        "offsets.topic.num.partitions",
        ConfigType::Int,
        "50",
        Check::AtLeast(1),
        "How many partitions the topic of committed offsets gets.",
    ),
    broker(
        "offsets.topic.replication.factor",
        ConfigType::Int,
        "3",
        Check::Between(1, i16::MAX as i64),
        "How many replicas the topic of committed offsets gets. If it is not set, no more than the cluster has brokers.",
    ),
    broker(
        "offsets.topic.segment.bytes",
        ConfigType::Int,
        "104857600",
        SEGMENT_BYTES_MIN,
        "segment.bytes of the topic of committed offsets.",
    ),
    broker(
        "producer.id.expiration.ms",
        ConfigType::Int,
        "86400000",
        Check::AtLeast(1),
        "After what time without a batch a producer is forgotten.",
    ),
    broker(
        "replica.catch.up.bytes.per.second",
        ConfigType::Long,
        "167772160",
        Check::AtLeast(0),
        "What a broker sends in a second to replicas that lag, from its segments, besides twice what clients write; 0 is no bound. Quipu's own.",
    ),
    broker(
        "replica.lag.time.max.ms",
        ConfigType::Long,
        "30000",
        Check::AtLeast(1),
        "After what time a replica that has not caught up no longer counts.",
    ),
    broker("socket.request.max.bytes", ConfigType::Int, "104857600", Check::AtLeast(1), "The largest request taken."),
    broker(
        "telemetry.max.bytes",
        ConfigType::Int,
        "1048576",
        Check::AtLeast(1),
        "How large the metrics may be that a client pushes at once, compressed.",
    ),
    broker(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        "false",
        Check::Any,
        "unclean.leader.election.enable of topics.",
    )
    .dynamic(),
];
