//! Subscriptions to client metrics (KIP-714): which clients are asked for which metrics, and how often.
//!
//! Invariant: who is asked for what depends on the subscriptions and on what the client says of itself, on nothing else.
//!
//! Not here: what becomes of the metrics (`quipu-broker`).

use std::collections::BTreeSet;

use quipu_base::ClientInstanceId;
use regex::bytes::{Regex, RegexBuilder};

use super::key::Value;
use crate::{
    config::{CLIENT_METRICS_KEYS, ConfigKey},
    image::{Configs, Image},
    record::ConfigResource,
};

/// How much memory one regular expression may take when compiled.
const PATTERN_BYTES_MAX: usize = 1 << 18;
/// Parentheses in parentheses.
const NESTING_MAX: u32 = 100;

/// What a client says of itself, and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// Its id among those that push metrics.
    pub instance_id: ClientInstanceId,
    /// What it calls itself.
    pub client_id: String,
    /// The library that it uses.
    pub software_name: String,
    /// That library's version.
    pub software_version: String,
    /// The address that it comes from.
    pub address: String,
    /// The port that it comes from.
    pub port: u16,
}

/// One condition on a client: something that it says of itself matches a regular expression, all of it.
#[derive(Clone, Debug)]
pub struct ClientPattern {
    name: &'static str,
    pattern: Regex,
}

impl ClientPattern {
    /// What a condition can be on.
    pub const NAMES: [&'static str; 6] = [
        "client_id",
        "client_instance_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];

    /// The condition that `NAME=REGEX` spells; none if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, pattern) = text.split_once('=')?;
        let name = Self::NAMES.into_iter().find(|known| *known == name.trim())?;
        let whole = format!("^(?:{})$", pattern.trim());
        let mut builder = RegexBuilder::new(&whole);
        builder.unicode(false).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).nest_limit(NESTING_MAX);
        let pattern = builder.build().ok()?;
        Some(Self { name, pattern })
    }

    fn matches(&self, client: &Client) -> bool {
        let text = match self.name {
            "client_id" => client.client_id.clone(),
            "client_instance_id" => client.instance_id.to_string(),
            "client_software_name" => client.software_name.clone(),
            "client_software_version" => client.software_version.clone(),
            "client_source_address" => client.address.clone(),
            _ => client.port.to_string(),
        };
        self.pattern.is_match(text.as_bytes())
    }
}

/// One subscription.
#[derive(Clone, Debug)]
struct Subscription {
    interval_ms: i32,
    metrics: Vec<String>,
    clients: Vec<ClientPattern>,
}

/// All subscriptions of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClientMetrics {
    subscriptions: Vec<Subscription>,
}

impl ClientMetrics {
    /// How often clients ask again who are not asked for anything, in milliseconds: Kafka's default of `interval.ms`.
    pub const INTERVAL_MS: i32 = 300_000;

    /// The subscriptions that the image has.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        let own = image.configured_resources();
        let own = own.filter(|(resource, _)| matches!(resource, ConfigResource::ClientMetrics(_)));
        Self { subscriptions: own.map(|(_, configs)| Subscription::new(configs)).collect() }
    }

    /// What a client is to push, and how often, in milliseconds: what the names of the metrics begin with, one that is empty for
    /// all.
    #[must_use]
    pub fn wanted_of(&self, client: &Client) -> (BTreeSet<String>, i32) {
        let meant = |one: &&Subscription| one.clients.iter().all(|pattern| pattern.matches(client));
        let meant = || self.subscriptions.iter().filter(meant);
        let mut metrics: BTreeSet<String> = meant().flat_map(|one| one.metrics.iter().cloned()).collect();
        if metrics.contains("*") {
            metrics = BTreeSet::from([String::new()]);
        }
        (metrics, meant().map(|one| one.interval_ms).min().unwrap_or(Self::INTERVAL_MS))
    }
}

impl Subscription {
    fn new(configs: &Configs) -> Self {
        let value = |name: &str| {
            let key: &ConfigKey =
                CLIENT_METRICS_KEYS.iter().find(|key| key.name == name).expect("a config of the table");
            let own = configs.get(name).and_then(|text| key.accept(text).ok());
            own.unwrap_or_else(|| key.default_value())
        };
        let list = |name| match value(name) {
            Value::List(values) => values,
            _ => Vec::new(),
        };
        Self {
            interval_ms: match value("interval.ms") {
                Value::Int(interval) => interval,
                _ => ClientMetrics::INTERVAL_MS,
            },
            metrics: list("metrics"),
            clients: list("match").iter().filter_map(|text| ClientPattern::parse(text)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(configs: &[(&str, &str)]) -> Subscription {
        Subscription::new(&configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn client(client_id: &str) -> Client {
        Client {
            instance_id: ClientInstanceId([7; 16]),
            client_id: client_id.into(),
            software_name: "librdkafka".into(),
            software_version: "2.16".into(),
            address: "127.0.0.1".into(),
            port: 4711,
        }
    }

    #[test]
    fn clients_push_what_all_subscriptions_that_mean_them_want() {
        let all = ClientMetrics {
            subscriptions: vec![
                subscription(&[("metrics", "org.apache.kafka.producer.,a.b"), ("interval.ms", "1000")]),
                subscription(&[("metrics", "a.b,c"), ("match", "client_id=x.*,client_source_port=4711")]),
                subscription(&[("metrics", "*"), ("match", "client_id=every")]),
            ],
        };
        let wanted = |name| {
            let (metrics, interval) = all.wanted_of(&client(name));
            (metrics.into_iter().collect::<Vec<_>>().join(" "), interval)
        };
        assert_eq!(wanted("y"), ("a.b org.apache.kafka.producer.".into(), 1000));
        assert_eq!(wanted("xyz"), ("a.b c org.apache.kafka.producer.".into(), 1000));
        assert_eq!(wanted("everybody"), ("a.b org.apache.kafka.producer.".into(), 1000), "all of it has to match");
        assert_eq!(wanted("every"), (String::new(), 1000));
        let nothing = ClientMetrics::default().wanted_of(&client("x"));
        assert_eq!(nothing, (BTreeSet::new(), 300_000));
    }

    #[test]
    fn conditions_are_a_known_name_and_a_regular_expression() {
        for bad in ["", "client_id", "=x", "nobody=x", "client_id=(", "client_id=(a{1000}){1000}"] {
            assert!(ClientPattern::parse(bad).is_none(), "{bad}");
        }
        assert!(ClientPattern::parse(" client_software_name = lib.* ").is_some_and(|one| one.matches(&client("x"))));
    }
}
