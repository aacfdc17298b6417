//! How a client behaves, and where it begins. Producers and consumers have settings of their own beside theirs.

use core::{fmt, str::FromStr, time::Duration};
use std::sync::Arc;

use crate::ClientError;

/// Where a broker listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BrokerAddress {
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

impl BrokerAddress {
    /// This host and port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for BrokerAddress {
    type Err = ClientError;

    /// `host:port`, `address:port` or `[IPv6 address]:port`.
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = || {
            ClientError::Config(format!("`{text}` is no broker address: write host:port, for example 127.0.0.1:9092"))
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match inner {
            Some(inner) => inner,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        if host.is_empty() { Err(bad()) } else { Ok(Self::new(host, port)) }
    }
}

/// How a client behaves. `ClientConfig { bootstrap: .., ..Default::default() }`; the defaults are those of Kafka's clients where
/// those have the same setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// Where to ask first who is in the cluster (`bootstrap.servers`). Tried in order until one answers.
    pub bootstrap: Vec<BrokerAddress>,
    /// What the client calls itself in each request (`client.id`).
    pub client_id: String,
    /// How long making a connection may take (`socket.connection.setup.timeout.ms`).
    pub connect_timeout: Duration,
    /// How long one request waits for its reply before its connection is given up (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// How long a whole call of [`crate::Admin`], or a look-up of offsets, may take with all its retries
    /// (`default.api.timeout.ms`).
    pub api_timeout: Duration,
    /// The pause before the first retry (`retry.backoff.ms`). It doubles with each further one, give or take a fifth.
    pub retry_backoff: Duration,
    /// The longest pause before a retry (`retry.backoff.max.ms`).
    pub retry_backoff_max: Duration,
    /// After this time what is known of brokers and leaders is asked anew without need (`metadata.max.age.ms`).
    pub metadata_max_age: Duration,
    /// Whether asking for a topic that does not exist may create it, if the brokers do so (`allow.auto.create.topics`; false here,
    /// since a mistyped name should be an error).
    pub auto_create_topics: bool,
    /// A connection that has had nothing to do for so long is ended (`connections.max.idle.ms`).
    pub connection_idle_max: Duration,
    /// Largest reply that is accepted, bytes. A fetch is bounded by the consumer's own settings.
    pub response_bytes_max: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap: vec![BrokerAddress::new("127.0.0.1", 9092)],
            client_id: "quipu-client".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            auto_create_topics: false,
            connection_idle_max: Duration::from_secs(540),
            response_bytes_max: 256 * 1024 * 1024,
        }
    }
}

impl ClientConfig {
    /// The defaults, with these bootstrap addresses: `host:port`, several separated by commas.
    ///
    /// Errors: [`ClientError::Config`].
    pub fn bootstrap(addresses: &str) -> Result<Self, ClientError> {
        let parts = addresses.split(',').map(str::trim).filter(|part| !part.is_empty());
        let config = Self { bootstrap: parts.map(str::parse).collect::<Result<_, _>>()?, ..Self::default() };
        config.check()?;
        Ok(config)
    }

    /// Errors: [`ClientError::Config`] names the setting that can't be used.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let fault = if self.bootstrap.is_empty() {
            "bootstrap: name at least one broker, for example 127.0.0.1:9092"
        } else if self.request_timeout.is_zero() || self.connect_timeout.is_zero() || self.api_timeout.is_zero() {
            "connect_timeout, request_timeout and api_timeout must be longer than nothing"
        } else if self.retry_backoff.is_zero() || self.retry_backoff > self.retry_backoff_max {
            "retry_backoff must be longer than nothing and at most retry_backoff_max"
        } else if self.connection_idle_max.is_zero() {
            "connection_idle_max must be longer than nothing"
        } else if self.response_bytes_max < 64 * 1024 {
            "response_bytes_max must be at least 64 KiB"
        } else if self.client_id.len() > CLIENT_ID_BYTES_MAX {
            "client_id must have at most 32,767 bytes"
        } else {
            return Ok(());
        };
        Err(ClientError::Config(fault.to_owned()))
    }
}

/// The length of the client id is sent as 16 bits.
const CLIENT_ID_BYTES_MAX: usize = 32_767;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["127.0.0.1:9092", "broker-1.example:65535", "[::1]:9092"] {
            assert_eq!(text.parse::<BrokerAddress>().unwrap().to_string(), text);
        }
        for text in ["", "broker", "broker:", ":9092", "broker:0", "broker:65536", "::1:9092", "[]:1", "broker:x"] {
            let error = text.parse::<BrokerAddress>().unwrap_err();
            assert!(error.to_string().contains("host:port"), "{text}: {error}");
        }
    }

    #[test]
    fn bootstrap_takes_a_list() {
        let config = ClientConfig::bootstrap("a:1, b:2,").unwrap();
        assert_eq!(config.bootstrap, [BrokerAddress::new("a", 1), BrokerAddress::new("b", 2)]);
        assert!(ClientConfig::bootstrap(" ,").unwrap_err().to_string().contains("at least one broker"));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let config = ClientConfig { retry_backoff: Duration::from_secs(5), ..Default::default() };
        assert!(config.check().unwrap_err().to_string().contains("retry_backoff"));
        assert_eq!(ClientConfig::default().check(), Ok(()));
    }
}
