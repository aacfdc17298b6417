//! The configs of a group that work or state a fact.

use super::topic;
use crate::config::key::{Check, ConfigKey, ConfigType};

/// The configs of a group, by name. What each may be depends on the broker's bounds as well: see
/// [`ConsumerGroupConfig::check_group`](crate::config::ConsumerGroupConfig::check_group).
pub const GROUP_KEYS: &[ConfigKey] = &[
    topic(
        "consumer.heartbeat.interval.ms",
        ConfigType::Int,
        "5000",
        Check::AtLeast(1),
        "group.consumer.heartbeat.interval.ms",
        "How often the group's members of the consumer protocol give a sign of life.",
    ),
    topic(
        "consumer.session.timeout.ms",
        ConfigType::Int,
        "45000",
        Check::AtLeast(1),
        "group.consumer.session.timeout.ms",
        "Without a sign of life for this long a member of the consumer protocol is out of the group.",
    ),
];
