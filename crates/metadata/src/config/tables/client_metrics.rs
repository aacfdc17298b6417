//! The configs of a subscription to client metrics (KIP-714). Nothing stands behind them.

use crate::config::key::{Check, ConfigKey, ConfigType, Status};

const fn subscription(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey { name, kind, default, status: Status::Works, broker_name: None, dynamic: true, doc, check }
}

/// The configs of a subscription to client metrics, by name.
pub const CLIENT_METRICS_KEYS: &[ConfigKey] = &[
    subscription(
        "interval.ms",
        ConfigType::Int,
        "300000",
        Check::Between(100, 3_600_000),
        "How often clients push their metrics.",
    ),
    subscription(
        "match",
        ConfigType::List,
        "",
        Check::Patterns,
        "Which clients push: what they have and the regular expression that it matches, as client_id=a.*; none for all clients.",
    ),
    subscription(
        "metrics",
        ConfigType::List,
        "",
        Check::Any,
        "What the names of the metrics begin with that clients push; * for all, none for none.",
    ),
];
