//! Which value of a config holds, and where it comes from.
//!
//! Invariants
//! - Typed configs and described ones come from the same function, so that what is reported is what holds.
//!
//! Not here: keeping resolved configs (whoever uses them does, and resolves anew when a
//! [`Delta`](crate::Delta) names the topic, this broker or all brokers).

use quipu_base::BrokerId;

use super::{
    key::{ConfigKey, ConfigType, Status, Value},
    resolved::{BrokerConfig, Compression, TimestampType, TopicConfig},
    statics::StaticConfig,
    tables::{BROKER_KEYS, Lookup, TOPIC_KEYS},
};
use crate::{
    image::{Configs, Image},
    partition::InsyncReplicasMin,
    record::ConfigResource,
};

/// Where a value comes from, the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic,
    /// Set on this broker while it runs.
    DynamicBroker,
    /// Set on all brokers while they run.
    DynamicDefaultBroker,
    /// The configuration file.
    StaticBroker,
    /// Nobody set it.
    Default,
}

impl ConfigSource {
    /// The number that Kafka's `DescribeConfigs` has for it.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::DynamicTopic => 1,
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
        TopicConfig {
            compression: match text("compression.type").as_str() {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip { level: u32::try_from(number("compression.gzip.level")).ok() },
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd { level: as_size(number("compression.zstd.level")) },
                _ => Compression::Producer,
            },
            message_bytes_max: as_size(number("max.message.bytes")),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            insync_replicas_min: InsyncReplicasMin(as_size(number("min.insync.replicas"))),
            segment_bytes: as_size(number("segment.bytes")),
            segment_ms: number("segment.ms"),
        }
    }

    /// The configs that hold for the broker itself.
    #[must_use]
    pub fn broker(&self) -> BrokerConfig {
        let number = |name| as_number(&self.broker_value(name));
        BrokerConfig {
            auto_create_topics: self.broker_value("auto.create.topics.enable") == Value::Boolean(true),
            connection_idle_ms: as_size(number("connections.max.idle.ms")),
            replication_factor: as_size(number("default.replication.factor")),
            connections_max: as_size(number("max.connections")),
            connections_per_address_max: as_size(number("max.connections.per.ip")),
            partition_count: as_size(number("num.partitions")),
            producer_expiration_ms: number("producer.id.expiration.ms"),
            request_bytes_max: as_size(number("socket.request.max.bytes")),
        }
    }

    /// All configs of the topic of that name, by name; none if there is no such topic.
    #[must_use]
    pub fn describe_topic(&self, name: &str) -> Option<Vec<ConfigEntry>> {
        self.image.topic(name).map(|topic| self.describe_topic_with(topic.configs()))
    }

    /// All configs of a topic on which `overrides` are set, by name.
    #[must_use]
    pub fn describe_topic_with(&self, overrides: &Configs) -> Vec<ConfigEntry> {
        TOPIC_KEYS.iter().map(|key| entry(key, self.topic_synonyms(key, overrides))).collect()
    }

    /// All configs of the broker, by name.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        BROKER_KEYS.iter().map(|key| entry(key, self.broker_synonyms(key))).collect()
    }

    /// The configs set on all brokers while they run, by name: what Kafka tells of the broker without a name.
    #[must_use]
    pub fn describe_all_brokers(&self) -> Vec<ConfigEntry> {
        let layer = |key: &'static ConfigKey| {
            let synonyms = layer(key, self.all_brokers, ConfigSource::DynamicDefaultBroker);
            synonyms.map(|synonym| entry(key, vec![synonym]))
        };
        BROKER_KEYS.iter().filter_map(layer).collect()
    }

    fn topic_value(&self, name: &str, overrides: &Configs) -> Value {
        let key = Lookup::topic(name).known(name).expect("a config of the table");
        held(key, &self.topic_synonyms(key, overrides))
    }

    fn broker_value(&self, name: &str) -> Value {
        let key = Lookup::broker(name).known(name).expect("a config of the table");
        held(key, &self.broker_synonyms(key))
    }

    fn topic_synonyms(&self, key: &'static ConfigKey, overrides: &Configs) -> Vec<ConfigSynonym> {
        let name = key.broker_name.expect("every topic config has a broker config behind it");
        let behind = Lookup::broker(name).known(name).expect("it is in the broker table");
        let mut synonyms = self.broker_synonyms(behind);
        if let Some(own) = layer(key, Some(overrides), ConfigSource::DynamicTopic) {
            synonyms.insert(0, own);
        }
        synonyms
    }

    fn broker_synonyms(&self, key: &'static ConfigKey) -> Vec<ConfigSynonym> {
        let (broker, all_brokers) = if key.dynamic { (self.broker, self.all_brokers) } else { (None, None) };
        let fixed = self.statics.get(key.name).and_then(|value| synonym(key, value, ConfigSource::StaticBroker));
        [
            layer(key, broker, ConfigSource::DynamicBroker),
            layer(key, all_brokers, ConfigSource::DynamicDefaultBroker),
            fixed,
            synonym(key, key.default, ConfigSource::Default),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn layer(key: &'static ConfigKey, configs: Option<&Configs>, source: ConfigSource) -> Option<ConfigSynonym> {
    synonym(key, configs?.get(key.name)?, source)
}

/// None if the value is not acceptable: the layer below holds then.
fn synonym(key: &'static ConfigKey, value: &str, source: ConfigSource) -> Option<ConfigSynonym> {
    let value = key.accept(value).ok()?.to_string();
    Some(ConfigSynonym { name: key.name, value, source })
}

fn entry(key: &'static ConfigKey, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    let holds = synonyms.first().expect("the default is always there");
    let is_read_only = !key.dynamic || key.status != Status::Works;
    ConfigEntry { key, value: holds.value.clone(), source: holds.source, is_read_only, synonyms }
}

fn held(key: &ConfigKey, synonyms: &[ConfigSynonym]) -> Value {
    synonyms.first().and_then(|synonym| key.parse(&synonym.value)).unwrap_or_else(|| key.default_value())
}

fn as_number(value: &Value) -> i64 {
    match value {
        Value::Int(value) => i64::from(*value),
        Value::Long(value) => *value,
        other => unreachable!("{other} is not a number, by the table"),
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
