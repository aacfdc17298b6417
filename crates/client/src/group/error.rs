//! What can be wrong with a member of a group, and whose business it is.

use core::fmt;

use quipu_protocol::ErrorCode;

use crate::{ClientError, ConsumerError, ErrorKind, TopicPartition};

/// Why a member of a group does not go on, or a commit was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GroupError {
    /// The commit comes from a member that the group does not count on any more: it was silent for too long, or did not poll for too
    /// long, and its partitions may be others' by now. Nothing was committed. What it was given will be given again, to
    /// whoever reads those partitions now; go on polling, which joins the group again.
    Stale {
        /// The group.
        group: String,
        /// What the coordinator said; none if the member itself had left.
        code: Option<ErrorCode>,
    },
    /// Another member uses the same [`super::GroupConfig::instance_id`], and is the newer one. This one has nothing more to read.
    Fenced {
        /// The group.
        group: String,
        /// The name that both use.
        instance_id: String,
        /// What the coordinator said.
        code: ErrorCode,
    },
    /// The group has no committed offset for a partition, and [`crate::ConsumerConfig::offset_reset`] does not say where to begin.
    NoOffset(TopicPartition),
    /// The partition is not this member's at the moment.
    NotOwned(TopicPartition),
    /// Nothing is subscribed to.
    NotSubscribed,
    /// More commits wait than the client keeps.
    TooManyCommits,
    /// A partition can't be read.
    Consumer(ConsumerError),
    /// Anything else: the coordinator refuses, or can't be reached.
    Client(ClientError),
}

impl GroupError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Stale { .. } | Self::Fenced { .. } => ErrorKind::Fatal,
            Self::NoOffset(_) | Self::NotOwned(_) | Self::NotSubscribed => ErrorKind::Caller,
            Self::TooManyCommits => ErrorKind::Retriable,
            Self::Consumer(error) => error.kind(),
            Self::Client(error) => error.kind(),
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
            Self::Stale { code, .. } => *code,
            Self::Fenced { code, .. } => Some(*code),
            Self::Client(error) | Self::Consumer(ConsumerError::Client { cause: error, .. }) => error.code(),
            _ => None,
        }
    }
}

impl From<ClientError> for GroupError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<ConsumerError> for GroupError {
    fn from(error: ConsumerError) -> Self {
        match error {
            ConsumerError::Client { partition: None, cause } => Self::Client(cause),
            ConsumerError::NotAssigned(partition) => Self::NotOwned(partition),
            error => Self::Consumer(error),
        }
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { group, code } => {
                write!(f, "group {group}: this member is not counted on any more")?;
                if let Some(code) = code {
                    write!(f, " ({})", code.name())?;
                }
                f.write_str(
                    ", and nothing was committed; what it was given goes to others again: poll more often, or raise \
                     poll_interval_max or the session time-out",
                )
            }
            Self::Fenced { group, instance_id, code } => write!(
                f,
                "group {group}: another member is named {instance_id} ({}): give each member an instance_id of its own",
                code.name()
            ),
            Self::NoOffset(partition) => write!(
                f,
                "{partition}: the group has no committed offset for it; seek to where to begin, or set offset_reset"
            ),
            Self::NotOwned(partition) => write!(f, "{partition} is not this member's at the moment"),
            Self::NotSubscribed => f.write_str("nothing is subscribed to; subscribe first"),
            Self::TooManyCommits => f.write_str("too many commits wait for their replies; wait for some of them"),
            Self::Consumer(error) => error.fmt(f),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for GroupError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Consumer(error) => Some(error),
            Self::Client(error) => Some(error),
            _ => None,
        }
    }
}
