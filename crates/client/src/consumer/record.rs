//! What a consumer gives, and what can be wrong with a partition.

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, Timestamp};
use quipu_records::TimestampType;

use crate::{ClientError, ErrorKind, Header, TopicPartition};

/// A record that was read. Key, value and headers share the memory of the batch that they came in: what is kept for long is
/// better copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionIndex,
    /// Its offset.
    pub offset: Offset,
    /// The epoch of the leader that appended it; none from brokers that do not tell.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Its timestamp; [`Timestamp::NONE`] if it has none. Milliseconds since 1970.
    pub timestamp: Timestamp,
    /// Whose clock that was.
    pub timestamp_type: TimestampType,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

/// Where to begin to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// At the first record.
    Start,
    /// With what comes next.
    End,
    /// At this offset.
    Offset(Offset),
    /// At this offset, behind a record of this leader epoch: what was kept of [`ConsumerRecord::offset`] (the one after it) and
    /// [`ConsumerRecord::leader_epoch`]. If the log has lost that record since, that is found out before anything is read.
    OffsetAndEpoch(Offset, LeaderEpoch),
    /// At the first record from this time on, or, if there is none, with what comes next. Milliseconds since 1970.
    Timestamp(Timestamp),
}

/// Why a consumer does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConsumerError {
    /// Records that were read, or passed over, are not in the log any more: a leader without them was elected (KIP-320). Seek, or
    /// set [`crate::ConsumerConfig::offset_reset`].
    TruncationDetected {
        /// Where.
        partition: TopicPartition,
        /// The consumer's position.
        position: Offset,
        /// The first offset at which the log differs from what was read, if the brokers still know: go on from here.
        diverging: Option<Offset>,
    },
    /// The position is not in the log. Seek, or set [`crate::ConsumerConfig::offset_reset`].
    OffsetOutOfRange {
        /// Where.
        partition: TopicPartition,
        /// The consumer's position.
        position: Offset,
    },
    /// A batch can't be read. Seek past it to lose its records and go on.
    Corrupt {
        /// Where.
        partition: TopicPartition,
        /// The first offset that can't be read.
        position: Offset,
        /// What is wrong with it.
        cause: String,
    },
    /// The partition is not assigned to this consumer.
    NotAssigned(TopicPartition),
    /// Reading fails in another way.
    Client {
        /// Where, if it concerns one partition.
        partition: Option<TopicPartition>,
        /// What went wrong.
        cause: ClientError,
    },
}

impl ConsumerError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TruncationDetected { .. } | Self::OffsetOutOfRange { .. } | Self::NotAssigned(_) => ErrorKind::Caller,
            Self::Corrupt { .. } => ErrorKind::Fatal,
            Self::Client { cause, .. } => cause.kind(),
        }
    }
}

impl From<ClientError> for ConsumerError {
    fn from(cause: ClientError) -> Self {
        Self::Client { partition: None, cause }
    }
}

impl fmt::Display for ConsumerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TruncationDetected { partition, position, diverging: Some(diverging) } => write!(
                f,
                "{partition}: the log was truncated: what was read from offset {diverging} on, up to {position}, is gone or \
                 replaced; seek to {diverging} to go on"
            ),
            Self::TruncationDetected { partition, position, diverging: None } => write!(
                f,
                "{partition}: the log was truncated before offset {position}, it is not known where; seek to go on"
            ),
            Self::OffsetOutOfRange { partition, position } => write!(
                f,
                "{partition}: there is no offset {position}: it was deleted or does not exist yet; seek to go on"
            ),
            Self::Corrupt { partition, position, cause } => {
                write!(
                    f,
                    "{partition}: the batch at offset {position} is damaged: {cause}; seek past it to go on without it"
                )
            }
            Self::NotAssigned(partition) => write!(f, "{partition} is not assigned to this consumer; assign it first"),
            Self::Client { partition: Some(partition), cause } => write!(f, "{partition}: {cause}"),
            Self::Client { partition: None, cause } => cause.fmt(f),
        }
    }
}

impl core::error::Error for ConsumerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Client { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
