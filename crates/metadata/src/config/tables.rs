//! The configs of topics and brokers, by name: those that work or state a fact, and those that Kafka 4.4 has besides.
//!
//! Invariants (checked by the tests)
//! - Each table is sorted by name, and no name stands in two tables of the same kind of resource.
//! - Every default can be read and is in range; a topic's config and the broker's config behind it agree in type, default,
//!   range and status.
//!
//! Where a default differs from Kafka's, the reason stands beside it: the default is what happens.

use super::key::{Check, ConfigError, ConfigKey, ConfigType, Status};

mod not_yet;

pub use not_yet::{BROKER_KEYS_NOT_YET, TOPIC_KEYS_NOT_YET};

/// A config that Kafka has and we do not, yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotYetKey {
    /// Kafka's name.
    pub name: &'static str,
    /// What it needs, or what to use instead.
    pub why: &'static str,
}

/// What is known of a config's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It can be set, or states a fact.
    Known(&'static ConfigKey),
    /// Kafka has it, we do not yet.
    NotYet(&'static NotYetKey),
    /// Nobody has it.
    Unknown,
}

impl Lookup {
    /// A topic's config.
    #[must_use]
    pub fn topic(name: &str) -> Self {
        Self::find(name, TOPIC_KEYS, TOPIC_KEYS_NOT_YET)
    }

    /// A broker's config.
    #[must_use]
    pub fn broker(name: &str) -> Self {
        Self::find(name, BROKER_KEYS, BROKER_KEYS_NOT_YET)
    }

    /// The config, if it can be set.
    ///
    /// Errors: [`ConfigError::NotYet`], [`ConfigError::Unknown`], naming `name`.
    pub fn known(self, name: &str) -> Result<&'static ConfigKey, ConfigError> {
        match self {
            Self::Known(key) => Ok(key),
            Self::NotYet(key) => Err(ConfigError::NotYet { name: key.name.to_owned(), why: key.why.into() }),
            Self::Unknown => Err(ConfigError::Unknown { name: name.to_owned() }),
        }
    }

    fn find(name: &str, known: &'static [ConfigKey], not_yet: &'static [NotYetKey]) -> Self {
        if let Ok(index) = known.binary_search_by_key(&name, |key| key.name) {
            return Self::Known(&known[index]);
        }
        match not_yet.binary_search_by_key(&name, |key| key.name) {
            Ok(index) => Self::NotYet(&not_yet[index]),
            Err(_) => Self::Unknown,
        }
    }
}

const NEVER_DELETED: &str = "records are kept until they are deleted by request, since retention does not exist yet";
const SYNCED_ALWAYS: &str = "every batch is synced to disk before it is acknowledged";
const DECOMPRESSED: &str = "a batch that decompresses to more than 64 MiB is refused";
/// The text of [`quipu_base::limits::DECOMPRESSED_BYTES_MAX`].
const DECOMPRESSED_BYTES_MAX: &str = "67108864";
const COMPRESSION_TYPES: Check = Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const TIMESTAMP_TYPES: Check = Check::OneOf(&["CreateTime", "LogAppendTime"]);
const CLEANUP_POLICIES: Check = Check::OneOf(&["compact", "delete"]);
/// Kafka's lower bound of a segment's size since 4.0 (KIP-1030).
const SEGMENT_BYTES_MIN: Check = Check::AtLeast(1024 * 1024);
const ZSTD_LEVELS: Check = Check::Between(-131_072, 22);

const fn topic(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    check: Check,
    broker_name: &'static str,
    doc: &'static str,
) -> ConfigKey {
    let (status, broker_name) = (Status::Works, Some(broker_name));
    ConfigKey { name, kind, default, status, broker_name, dynamic: true, doc, check }
}

const fn broker(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey { name, kind, default, status: Status::Works, broker_name: None, dynamic: false, doc, check }
}

impl ConfigKey {
    const fn fixed(mut self, why: &'static str) -> Self {
        self.dynamic = true;
        self.status = Status::Fixed { why };
        self
    }

    const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }
}

/// The configs of a topic, by name.
pub const TOPIC_KEYS: &[ConfigKey] = &[
    topic(
        "cleanup.policy",
        ConfigType::List,
        "delete",
        CLEANUP_POLICIES,
        "log.cleanup.policy",
        "How old records go: deleted after a time or beyond a size, or compacted by key.",
    )
    .fixed("compaction does not exist yet"),
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
        "file.delete.delay.ms",
        ConfigType::Long,
        // Kafka's default is a minute.
        "0",
        Check::AtLeast(0),
        "log.segment.delete.delay.ms",
        "How long a deleted segment's file stays.",
    )
    .fixed("a deleted segment's space is given back at once"),
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
        "Beyond what size of a partition its oldest segments are deleted; -1 is never.",
    )
    .fixed(NEVER_DELETED),
    topic(
        "retention.ms",
        ConfigType::Long,
        // Kafka's default is seven days.
        "-1",
        Check::AtLeast(-1),
        "log.retention.ms",
        "After what time a segment is deleted; -1 is never.",
    )
    .fixed(NEVER_DELETED),
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
    broker("log.cleanup.policy", ConfigType::List, "delete", CLEANUP_POLICIES, "cleanup.policy of topics.")
        .fixed("compaction does not exist yet"),
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
    broker("log.retention.bytes", ConfigType::Long, "-1", Check::Any, "retention.bytes of topics.")
        .fixed(NEVER_DELETED),
    broker("log.retention.ms", ConfigType::Long, "-1", Check::AtLeast(-1), "retention.ms of topics.")
        .fixed(NEVER_DELETED),
    broker("log.roll.jitter.ms", ConfigType::Long, "0", Check::AtLeast(0), "segment.jitter.ms of topics.")
        .fixed("segments begin exactly when segment.ms says"),
    broker("log.roll.ms", ConfigType::Long, "604800000", Check::AtLeast(1), "segment.ms of topics that do not set it.")
        .dynamic(),
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
        "How long a deleted segment's file stays.",
    )
    .fixed("a deleted segment's space is given back at once"),
    broker(
        "max.connections",
        ConfigType::Int,
        // Kafka has no bound by default. Ours keeps the memory of connections bounded.
        "10000",
        Check::AtLeast(1),
        "How many connections a broker holds at once.",
    ),
    broker(
        "max.connections.per.ip",
        ConfigType::Int,
        "2147483647",
        Check::AtLeast(1),
        "How many connections a broker holds at once from one address.",
    ),
    broker(
        "max.decompressed.message.bytes",
        ConfigType::Int,
        DECOMPRESSED_BYTES_MAX,
        Check::Between(1, 2_147_483_639),
        "How large a batch may become when it is decompressed.",
    )
    .fixed(DECOMPRESSED),
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
        "replica.lag.time.max.ms",
        ConfigType::Long,
        "30000",
        Check::AtLeast(1),
        "After what time a replica that has not caught up no longer counts.",
    ),
    broker("socket.request.max.bytes", ConfigType::Int, "104857600", Check::AtLeast(1), "The largest request taken."),
    broker(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        "false",
        Check::Any,
        "unclean.leader.election.enable of topics.",
    )
    .dynamic(),
];
