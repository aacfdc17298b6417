//! What can go wrong, and whose business it is.
//!
//! Every error says what happened, where (broker address, topic and partition) and, by its [`ErrorKind`], what to do. What the
//! client can mend by itself (a lost connection, a leader that moved) it has tried to mend before it tells.
//!
//! Not here: what became of a record ([`crate::ProducerError`]) and where a consumer stands ([`crate::ConsumerError`]).

use core::{fmt, time::Duration};

use quipu_protocol::{ApiKey, ErrorCode};

use crate::BrokerAddress;

/// What to do about an error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ErrorKind {
    /// Passing trouble: the same call may succeed later. The client has tried until its own time-out.
    Retriable,
    /// The same call fails again: a bug, a broken broker, missing rights, or a client that was closed.
    Fatal,
    /// What was asked for is wrong: a bad setting, a name that is not allowed, a record that is too large.
    Caller,
}

/// An error of the client.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting or an argument can't be used.
    Config(String),
    /// No broker could be asked, neither a known one nor one of the bootstrap addresses.
    NoBroker {
        /// All addresses that were tried.
        tried: String,
        /// What the last one came to.
        last: Box<ClientError>,
    },
    /// A connection could not be made.
    Connect {
        /// The broker.
        address: BrokerAddress,
        /// Why.
        cause: String,
    },
    /// A connection ended before the reply came.
    Disconnected {
        /// The broker.
        address: BrokerAddress,
        /// Whether any byte of the request had left: then the broker may have carried it out.
        sent: bool,
    },
    /// Nothing came in time.
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What went wrong meanwhile, if anything did.
        last: Option<Box<ClientError>>,
    },
    /// A broker sent what can't be read.
    Malformed {
        /// The broker.
        address: BrokerAddress,
        /// What was wrong.
        cause: String,
    },
    /// Client and broker have no version of an API in common.
    Version {
        /// The broker.
        address: BrokerAddress,
        /// The API.
        api: ApiKey,
        /// The versions that the broker serves; none if it does not serve the API.
        served: Option<(i16, i16)>,
    },
    /// A request that no version in common can carry.
    Unencodable {
        /// The API.
        api: ApiKey,
        /// Why.
        cause: String,
    },
    /// A broker answered with an error.
    Refused {
        /// What was asked, and of whom: "produce to orders-3".
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's own words, if it sent any.
        message: Option<String>,
    },
    /// More requests wait for one connection than the client allows.
    Busy {
        /// The broker.
        address: BrokerAddress,
    },
    /// The client, producer or consumer was closed.
    Closed,
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Unencodable { .. } => ErrorKind::Caller,
            Self::NoBroker { last, .. } => match last.kind() {
                ErrorKind::Caller => ErrorKind::Caller,
                ErrorKind::Fatal => ErrorKind::Fatal,
                ErrorKind::Retriable => ErrorKind::Retriable,
            },
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Busy { .. } => {
                ErrorKind::Retriable
            }
            Self::Malformed { .. } | Self::Version { .. } | Self::Closed => ErrorKind::Fatal,
            Self::Refused { code, .. } => kind_of(*code),
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.kind() == ErrorKind::Retriable
    }

    /// Kafka's code, if a broker sent one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// A refusal by this code. A code that Kafka 4.4 does not have becomes UNKNOWN_SERVER_ERROR, with its number in words.
    pub(crate) fn refused(what: impl Into<String>, code: i16, message: Option<&str>) -> Self {
        let known = ErrorCode::from_code(code);
        let message = match (known, message) {
            (None, _) => Some(format!("error code {code}, which this client does not know")),
            (Some(_), message) => message.filter(|message| !message.is_empty()).map(ToOwned::to_owned),
        };
        Self::Refused { what: what.into(), code: known.unwrap_or(ErrorCode::UnknownServerError), message }
    }
}

/// Whose business a broker's code is. Retriable is what Kafka calls so.
#[must_use]
pub(crate) fn kind_of(code: ErrorCode) -> ErrorKind {
    use ErrorCode as Code;
    if code.is_retriable() {
        return ErrorKind::Retriable;
    }
    match code {
        Code::OffsetOutOfRange
        | Code::InvalidFetchSize
        | Code::MessageTooLarge
        | Code::InvalidTopicException
        | Code::RecordListTooLarge
        | Code::InvalidRequiredAcks
        | Code::InvalidGroupId
        | Code::InvalidTimestamp
        | Code::TopicAlreadyExists
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::PolicyViolation
        | Code::InvalidTransactionTimeout
        | Code::InvalidRecord
        | Code::ResourceNotFound
        | Code::DuplicateResource
        | Code::UnsupportedCompressionType
        | Code::LogDirNotFound => ErrorKind::Caller,
        _ => ErrorKind::Fatal,
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => f.write_str(what),
            Self::NoBroker { tried, last } => {
                write!(
                    f,
                    "no broker answered (tried {tried}): {last}; check the bootstrap addresses and that a broker runs"
                )
            }
            Self::Connect { address, cause } => write!(f, "cannot connect to {address}: {cause}"),
            Self::Disconnected { address, sent: true } => {
                write!(
                    f,
                    "the connection to {address} ended before the reply came; the request may have been carried out"
                )
            }
            Self::Disconnected { address, sent: false } => {
                write!(f, "the connection to {address} ended before the request was sent")
            }
            Self::TimedOut { what, after, last } => {
                write!(f, "{what}: not done within {after:?}")?;
                last.as_ref().map_or(Ok(()), |last| write!(f, " ({last})"))
            }
            Self::Malformed { address, cause } => {
                write!(f, "{address} sent what cannot be read: {cause}; is it a Kafka broker?")
            }
            Self::Version { address, api, served: Some((min, max)) } => {
                let own = api.served();
                write!(
                    f,
                    "{address} serves {api} in versions {min} to {max}, this client speaks {} to {}: upgrade the older one",
                    own.min, own.max
                )
            }
            Self::Version { address, api, served: None } => write!(f, "{address} does not serve {api}"),
            Self::Unencodable { api, cause } => write!(f, "the {api} request cannot be sent: {cause}"),
            Self::Refused { what, code, message: None } => write!(f, "{what}: {code}"),
            Self::Refused { what, code, message: Some(message) } => write!(f, "{what}: {}: {message}", code.name()),
            Self::Busy { address } => {
                write!(f, "too many requests wait for the connection to {address}: send fewer at once")
            }
            Self::Closed => f.write_str("the client was closed"),
        }
    }
}

impl core::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NoBroker { last, .. } | Self::TimedOut { last: Some(last), .. } => Some(last.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> ClientError {
        ClientError::refused("create topic knots", code.code(), None)
    }

    #[test]
    fn codes_are_sorted_by_whose_business_they_are() {
        assert_eq!(refused(ErrorCode::NotLeaderOrFollower).kind(), ErrorKind::Retriable);
        assert_eq!(refused(ErrorCode::TopicAlreadyExists).kind(), ErrorKind::Caller);
        assert_eq!(refused(ErrorCode::TopicAuthorizationFailed).kind(), ErrorKind::Fatal);
        for code in ErrorCode::ALL.iter().filter(|code| code.is_retriable()) {
            assert_eq!(kind_of(*code), ErrorKind::Retriable, "{code}");
        }
    }

    #[test]
    fn a_code_of_the_future_is_told_with_its_number() {
        let error = ClientError::refused("fetch", 999, None);
        assert_eq!(error.code(), Some(ErrorCode::UnknownServerError));
        assert_eq!(error.to_string(), "fetch: UNKNOWN_SERVER_ERROR: error code 999, which this client does not know");
    }

    #[test]
    fn messages_say_where_and_what_to_do() {
        let address = BrokerAddress::new("broker", 9092);
        let connect = ClientError::Connect { address, cause: "connection refused".into() };
        let error = ClientError::NoBroker { tried: "broker:9092".into(), last: Box::new(connect) };
        assert_eq!(
            error.to_string(),
            "no broker answered (tried broker:9092): cannot connect to broker:9092: connection refused; check the bootstrap \
             addresses and that a broker runs"
        );
        assert_eq!(error.kind(), ErrorKind::Retriable);
    }
}
