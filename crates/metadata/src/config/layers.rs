//! Which value of a config holds, and where it comes from.
//!
//! Invariants
//! - Typed configs and described ones come from the same list of layers, so that what is reported is what holds.
//!
//! Not here: keeping resolved configs (whoever uses them does, and resolves anew when a
//! [`Delta`](crate::Delta) names the topic, this broker or all brokers).

use quipu_base::BrokerId;
use serde::{Deserialize, Serialize};

use super::{
    key::{ConfigKey, ConfigType, Status, Value},
    resolved::{
        BrokerConfig, CleanupPolicy, Compression, ConsumerGroupConfig, GroupConfig, TimestampType, TopicConfig,
    },
    statics::StaticConfig,
    tables::{BROKER_KEYS, CLIENT_METRICS_KEYS, GROUP_KEYS, Lookup, TOPIC_KEYS},
};
use crate::{
    image::{Configs, Image},
    partition::InsyncReplicasMin,
    record::ConfigResource,
};

/// Where a value comes from, the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic,
    /// Set on the group.
    DynamicGroup,
    /// Set on this broker while it runs.
    DynamicBroker,
    /// Set on all brokers while they run.
    DynamicDefaultBroker,
    /// The configuration file.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Set on the subscription to client metrics. (Last, because releases tell each other numbers.)
    DynamicClientMetrics,
}

impl ConfigSource {
    /// The number that Kafka's `DescribeConfigs` has for it.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::DynamicTopic => 1,
            Self::DynamicGroup => 8,
            Self::DynamicClientMetrics => 7,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// A config as `DescribeConfigs` tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// The config.
    pub key: &'static ConfigKey,
    /// The value that holds.
    pub value: String,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// All layers that have a value, the one that holds first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// One layer's value of a config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSynonym {
    /// The name in that layer: a topic's config has another name in its broker.
    pub name: &'static str,
    /// The value there.
    pub value: String,
    /// The layer.
    pub source: ConfigSource,
}

/// All layers of configs below a topic's own.
#[derive(Clone, Copy, Debug)]
pub struct ConfigLayers<'a> {
    image: &'a Image,
    statics: &'a StaticConfig,
    broker: Option<&'a Configs>,
    all_brokers: Option<&'a Configs>,
}

impl<'a> ConfigLayers<'a> {
    /// The layers as `broker` sees them.
    #[must_use]
    pub fn new(image: &'a Image, statics: &'a StaticConfig, broker: BrokerId) -> Self {
        let broker = image.configs(&ConfigResource::Broker(broker));
        Self { image, statics, broker, all_brokers: image.configs(&ConfigResource::BrokerDefault) }
    }

    /// The configs that hold for the topic of that name; for one that does not exist, those it would have.
    #[must_use]
    pub fn topic(&self, name: &str) -> TopicConfig {
        let none = Configs::new();
        self.topic_with(self.image.topic(name).map_or(&none, |topic| topic.configs()))
    }

    /// The configs that hold for a topic on which `overrides` are set.
    #[must_use]
    pub fn topic_with(&self, overrides: &Configs) -> TopicConfig {
        let number = |name| as_number(&self.topic_value(name, overrides));
        let text = |name| self.topic_value(name, overrides).to_string();
        let policy = self.topic_value("cleanup.policy", overrides);
        let has = |wanted: &str| matches!(&policy, Value::List(all) if all.iter().any(|one| one == wanted));
        TopicConfig {
            cleanup: CleanupPolicy { deletes: has("delete"), compacts: has("compact") },
            compression: match text("compression.type").as_str() {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip {
                    level: Some(as_size(number("compression.gzip.level"))).filter(|level| *level != -1),
                },
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd { level: as_size(number("compression.zstd.level")) },
                _ => Compression::Producer,
            },
            tombstone_retention_ms: number("delete.retention.ms"),
            file_delete_delay_ms: as_size(number("file.delete.delay.ms")),
            compaction_lag_max_ms: number("max.compaction.lag.ms"),
            message_bytes_max: as_size(number("max.message.bytes")),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            dirty_ratio_min_millionths: millionths(&self.topic_value("min.cleanable.dirty.ratio", overrides)),
            compaction_lag_min_ms: number("min.compaction.lag.ms"),
            insync_replicas_min: InsyncReplicasMin(as_size(number("min.insync.replicas"))),
            retention_bytes: u64::try_from(number("retention.bytes")).ok(),
            retention_ms: Some(number("retention.ms")).filter(|time| *time >= 0),
            segment_bytes: as_size(number("segment.bytes")),
            segment_ms: number("segment.ms"),
            unclean_election: self.topic_value("unclean.leader.election.enable", overrides) == Value::Boolean(true),
        }
    }

    /// The configs that hold for the broker itself.
    #[must_use]
    pub fn broker(&self) -> BrokerConfig {
        let number = |name| as_number(&self.broker_value(name));
        BrokerConfig {
            auto_create_topics: self.broker_value("auto.create.topics.enable") == Value::Boolean(true),
            balance_leaders: self.broker_value("auto.leader.rebalance.enable") == Value::Boolean(true),
            balance_interval_seconds: as_size(number("leader.imbalance.check.interval.seconds")),
            heartbeat_interval_ms: as_size(number("broker.heartbeat.interval.ms")),
            session_timeout_ms: as_size(number("broker.session.timeout.ms")),
            replica_lag_max_ms: as_size(number("replica.lag.time.max.ms")),
            connection_idle_ms: as_size(number("connections.max.idle.ms")),
            replication_factor: as_size(number("default.replication.factor")),
            fetch_sessions_max: as_size(number("max.incremental.fetch.session.cache.slots")),
            group_consumer: self.consumer_groups(),
            group_initial_rebalance_delay_ms: as_size(number("group.initial.rebalance.delay.ms")),
            group_session_timeout_max_ms: as_size(number("group.max.session.timeout.ms")),
            group_size_max: as_size(number("group.max.size")),
            group_session_timeout_min_ms: as_size(number("group.min.session.timeout.ms")),
            cleaner_backoff_ms: as_size(number("log.cleaner.backoff.ms")),
            cleaner_bytes: as_size(number("log.cleaner.dedupe.buffer.size")),
            cleaner_bytes_per_second: whole(&self.broker_value("log.cleaner.io.max.bytes.per.second")),
            catch_up_bytes_per_second: as_size(number("replica.catch.up.bytes.per.second")),
            retention_check_ms: as_size(number("log.retention.check.interval.ms")),
            scrub_bytes_per_second: as_size(number("log.scrub.bytes.per.second")),
            scrub_interval_ms: as_size(number("log.scrub.interval.ms")),
            connections_max: as_size(number("max.connections")),
            connections_per_address_max: as_size(number("max.connections.per.ip")),
            partition_count: as_size(number("num.partitions")),
            offset_metadata_bytes_max: as_size(number("offset.metadata.max.bytes")),
            offsets_retention_check_ms: as_size(number("offsets.retention.check.interval.ms")),
            offsets_retention_minutes: as_size(number("offsets.retention.minutes")),
            offsets_topic_partition_count: as_size(number("offsets.topic.num.partitions")),
            offsets_topic_replication_factor: as_size(number("offsets.topic.replication.factor")),
            offsets_topic_segment_bytes: as_size(number("offsets.topic.segment.bytes")),
            producer_expiration_ms: number("producer.id.expiration.ms"),
            request_bytes_max: as_size(number("socket.request.max.bytes")),
            telemetry_bytes_max: as_size(number("telemetry.max.bytes")),
        }
    }

    fn consumer_groups(&self) -> ConsumerGroupConfig {
        let number = |name: &str| as_size(as_number(&self.broker_value(&format!("group.consumer.{name}"))));
        let migration = self.broker_value("group.consumer.migration.policy").to_string();
        let assignors = self.broker_value("group.consumer.assignors").to_string();
        ConsumerGroupConfig {
            assignors: assignors.split(',').map(str::to_owned).collect(),
            heartbeat_interval_ms: number("heartbeat.interval.ms"),
            heartbeat_interval_bounds_ms: (number("min.heartbeat.interval.ms"), number("max.heartbeat.interval.ms")),
            session_timeout_ms: number("session.timeout.ms"),
            session_timeout_bounds_ms: (number("min.session.timeout.ms"), number("max.session.timeout.ms")),
            size_max: as_size(as_number(&self.broker_value("group.consumer.max.size"))),
            upgrades: matches!(migration.as_str(), "upgrade" | "bidirectional"),
            downgrades: matches!(migration.as_str(), "downgrade" | "bidirectional"),
        }
    }

    /// What these configs of a group say, as far as it is acceptable.
    #[must_use]
    pub fn group_with(overrides: &Configs) -> GroupConfig {
        let number = |name: &str| {
            let key = Lookup::group(name).known(name).expect("a config of the table");
            let value = key.accept(overrides.get(name)?).ok()?;
            Some(as_size(as_number(&value)))
        };
        GroupConfig {
            session_timeout_ms: number("consumer.session.timeout.ms"),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
        }
    }

    /// All configs of the group of that name, by name: it may have some before it exists.
    #[must_use]
    pub fn describe_group(&self, name: &str) -> Vec<ConfigEntry> {
        let own = self.image.configs(&ConfigResource::Group(name.to_owned()));
        let layers = |key: &'static ConfigKey| {
            let own = layer(key, own, ConfigSource::DynamicGroup);
            own.into_iter().chain(self.broker_layers(behind(key)))
        };
        GROUP_KEYS.iter().map(|key| entry(key, layers(key))).collect()
    }

    /// All configs of the subscription to client metrics of that name, by name: it may not exist.
    #[must_use]
    pub fn describe_client_metrics(&self, name: &str) -> Vec<ConfigEntry> {
        let own = self.image.configs(&ConfigResource::ClientMetrics(name.to_owned()));
        let layers = |key: &'static ConfigKey| {
            let default = Layer { key, text: key.default, source: ConfigSource::Default };
            layer(key, own, ConfigSource::DynamicClientMetrics).into_iter().chain([default])
        };
        CLIENT_METRICS_KEYS.iter().map(|key| entry(key, layers(key))).collect()
    }

    /// All configs of the topic of that name, by name; none if there is no such topic.
    #[must_use]
    pub fn describe_topic(&self, name: &str) -> Option<Vec<ConfigEntry>> {
        self.image.topic(name).map(|topic| self.describe_topic_with(topic.configs()))
    }

    /// All configs of a topic on which `overrides` are set, by name.
    #[must_use]
    pub fn describe_topic_with(&self, overrides: &Configs) -> Vec<ConfigEntry> {
        TOPIC_KEYS.iter().map(|key| entry(key, self.topic_layers(key, overrides))).collect()
    }

    /// All configs of the broker, by name.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        BROKER_KEYS.iter().map(|key| entry(key, self.broker_layers(key))).collect()
    }

    /// The configs set on all brokers while they run, by name: what Kafka tells of the broker without a name.
    #[must_use]
    pub fn describe_all_brokers(&self) -> Vec<ConfigEntry> {
        let own = |key: &'static ConfigKey| layer(key, self.all_brokers, ConfigSource::DynamicDefaultBroker);
        let is_sound = |own: &Layer<'_>| own.value().is_some();
        BROKER_KEYS.iter().filter_map(own).filter(is_sound).map(|own| entry(own.key, std::iter::once(own))).collect()
    }

    fn topic_value(&self, name: &str, overrides: &Configs) -> Value {
        let key = Lookup::topic(name).known(name).expect("a config of the table");
        held(self.topic_layers(key, overrides))
    }

    fn broker_value(&self, name: &str) -> Value {
        let key = Lookup::broker(name).known(name).expect("a config of the table");
        held(self.broker_layers(key))
    }

    fn topic_layers<'b>(&'b self, key: &'static ConfigKey, overrides: &'b Configs) -> impl Iterator<Item = Layer<'b>> {
        layer(key, Some(overrides), ConfigSource::DynamicTopic).into_iter().chain(self.broker_layers(behind(key)))
    }

    fn broker_layers<'b>(&'b self, key: &'static ConfigKey) -> impl Iterator<Item = Layer<'b>> {
        let (broker, all_brokers) = if key.dynamic { (self.broker, self.all_brokers) } else { (None, None) };
        let fixed = self.statics.get(key.name).map(|text| Layer { key, text, source: ConfigSource::StaticBroker });
        let layers = [
            layer(key, broker, ConfigSource::DynamicBroker),
            layer(key, all_brokers, ConfigSource::DynamicDefaultBroker),
            fixed,
            Some(Layer { key, text: key.default, source: ConfigSource::Default }),
        ];
        layers.into_iter().flatten()
    }
}

/// A value in one layer, as it is stored there.
struct Layer<'a> {
    key: &'static ConfigKey,
    text: &'a str,
    source: ConfigSource,
}

impl Layer<'_> {
    /// None if the value is not acceptable: the layer below holds then.
    fn value(&self) -> Option<Value> {
        self.key.accept(self.text).ok()
    }

    fn synonym(&self) -> Option<ConfigSynonym> {
        Some(ConfigSynonym { name: self.key.name, value: self.value()?.to_string(), source: self.source })
    }
}

fn layer<'a>(key: &'static ConfigKey, configs: Option<&'a Configs>, source: ConfigSource) -> Option<Layer<'a>> {
    configs?.get(key.name).map(|text| Layer { key, text, source })
}

/// The broker's config that a topic's or a group's falls back to.
fn behind(key: &ConfigKey) -> &'static ConfigKey {
    let name = key.broker_name.expect("every config of a topic or a group has a broker config behind it");
    Lookup::broker(name).known(name).expect("it is in the broker table")
}

fn held<'a>(mut layers: impl Iterator<Item = Layer<'a>>) -> Value {
    layers.find_map(|layer| layer.value()).expect("the default is always there, and acceptable")
}

fn entry<'a>(key: &'static ConfigKey, layers: impl Iterator<Item = Layer<'a>>) -> ConfigEntry {
    let synonyms: Vec<ConfigSynonym> = layers.filter_map(|layer| layer.synonym()).collect();
    let holds = synonyms.first().expect("the default is always there");
    let is_read_only = !key.dynamic || key.status != Status::Works;
    ConfigEntry { key, value: holds.value.clone(), source: holds.source, is_read_only, synonyms }
}

fn as_number(value: &Value) -> i64 {
    match value {
        Value::Int(value) => i64::from(*value),
        Value::Long(value) => *value,
        other => unreachable!("{other} is not a number, by the table"),
    }
}

/// A share of 0 to 1, in millionths.
fn millionths(value: &Value) -> u32 {
    const WHOLE: u32 = 1_000_000;
    match value {
        // Text and back is how a float becomes an integer without a cast.
        Value::Double(value) => format!("{:.0}", value * f64::from(WHOLE)).parse().unwrap_or(WHOLE),
        other => unreachable!("{other} is not a share, by the table"),
    }
}

/// A number of at least 1 without what is behind its point.
fn whole(value: &Value) -> u64 {
    match value {
        Value::Double(value) => format!("{:.0}", value.floor()).parse().unwrap_or(u64::MAX),
        other => unreachable!("{other} has no decimal point, by the table"),
    }
}

/// The number as another type that holds every value that the table lets through.
fn as_size<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().expect("in range, by the table")
}

impl ConfigEntry {
    /// The type of its value.
    #[must_use]
    pub fn kind(&self) -> ConfigType {
        self.key.kind
    }
}
