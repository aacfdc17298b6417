//! Configs by Kafka's names: which we know, which values we take, and which value holds.
//!
//! A config stands in one of four relations to what the product does, and the answer to somebody who sets it says which:
//!
//! | relation | setting it | reported |
//! |---|---|---|
//! | works | takes effect | the value that holds |
//! | states a fact ([`Status::Fixed`]) | accepted if the value says what happens anyway, refused with the reason otherwise | the fact, though Kafka's default may differ |
//! | known to Kafka, not done yet ([`Lookup::NotYet`]) | refused, saying so | not at all |
//! | unknown | refused | not at all |
//!
//! Invariants
//! - A value that is reported is the value that holds.
//! - A value that is stored has been accepted by [`ConfigKey::accept`]. One that is not acceptable all the same (an older
//!   build stored it) is passed over, and the next layer below holds.
//!
//! Layers, the first that has a value holds: the topic, this broker, all brokers (these three dynamic, in the image), the
//! `[defaults]` of the configuration file ([`StaticConfig`]), the table.
//!
//! Not here: who may set what, and when (`quipu-controller`). Read `key`, then `layers`.

mod client_metrics;
mod key;
mod layers;
mod resolved;
mod statics;
mod tables;
#[cfg(test)]
mod tests;

pub use client_metrics::{Client, ClientMetrics, ClientPattern};
pub use key::{ConfigError, ConfigKey, ConfigType, Status, Value};
pub use layers::{ConfigEntry, ConfigLayers, ConfigSource, ConfigSynonym};
pub use resolved::{
    BrokerConfig, CleanupPolicy, Compression, ConsumerGroupConfig, GroupConfig, TimestampType, TopicConfig,
};
pub use statics::StaticConfig;
pub use tables::{
    BROKER_KEYS, BROKER_KEYS_NOT_YET, CLIENT_METRICS_KEYS, GROUP_KEYS, GROUP_KEYS_NOT_YET, Lookup, NotYetKey,
    TOPIC_KEYS, TOPIC_KEYS_NOT_YET,
};
