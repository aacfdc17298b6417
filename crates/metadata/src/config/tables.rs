//! The configs there are, by name and kind of resource: those that work or state a fact, and those that Kafka 4.4 has besides.
//!
//! Invariants (checked by the tests)
//! - Each table is sorted by name, and no name stands in two tables of the same kind of resource.
//! - Every default can be read and is in range; a topic's config and the broker's config behind it agree in type, default,
//!   range and status.
//!
//! Where a default differs from Kafka's, the reason stands beside it: the default is what happens.

use super::key::{Check, ConfigError, ConfigKey, ConfigType, Status};

mod broker;
mod client_metrics;
mod group;
mod not_yet;
mod topic;

pub use broker::BROKER_KEYS;
pub use client_metrics::CLIENT_METRICS_KEYS;
pub use group::GROUP_KEYS;
pub use not_yet::{BROKER_KEYS_NOT_YET, GROUP_KEYS_NOT_YET, TOPIC_KEYS_NOT_YET};
pub use topic::TOPIC_KEYS;

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

    /// A group's config.
    #[must_use]
    pub fn group(name: &str) -> Self {
        Self::find(name, GROUP_KEYS, GROUP_KEYS_NOT_YET)
    }

    /// A config of a subscription to client metrics.
    #[must_use]
    pub fn client_metrics(name: &str) -> Self {
        Self::find(name, CLIENT_METRICS_KEYS, &[])
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

const SYNCED_ALWAYS: &str = "every batch is synced to disk before it is acknowledged";
const DECOMPRESSED: &str = "a batch that decompresses to more than 64 MiB is refused";
/// The text of [`quipu_base::limits::DECOMPRESSED_BYTES_MAX`].
const DECOMPRESSED_BYTES_MAX: &str = "67108864";
const COMPRESSION_TYPES: Check = Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const TIMESTAMP_TYPES: Check = Check::OneOf(&["CreateTime", "LogAppendTime"]);
const CLEANUP_POLICIES: Check = Check::OneOf(&["compact", "delete"]);
/// Kafka's lower bound of a segment's size since 4.0 (KIP-1030).
const SEGMENT_BYTES_MIN: Check = Check::AtLeast(1024 * 1024);
const ASSIGNORS: Check = Check::SomeOf(&["uniform", "range"]);
const MIGRATIONS: Check = Check::OneOf(&["disabled", "upgrade", "downgrade", "bidirectional"]);
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
