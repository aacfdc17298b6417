//! What a replica refuses, and why: one type for peers and the controller, one for clients.

use core::fmt;

use quipu_base::{BrokerId, LeaderEpoch, Offset};

use crate::partition::PartitionDefect;

/// What is impossible about a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Malformed {
    /// Its offsets contradict each other.
    Offsets,
    /// Its epochs are not in order, or do not cover its records.
    Epochs,
}

/// Why an event had no effect. The state is as before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The message contradicts itself.
    Malformed(Malformed),
    /// The metadata record is impossible.
    Record(PartitionDefect),
    /// A message from a node that is no replica of the partition.
    UnknownMember(BrokerId),
    /// A leader's message from a node that does not lead in that epoch.
    NotTheLeader {
        /// Who claims it.
        node: BrokerId,
        /// The epoch claimed.
        epoch: LeaderEpoch,
    },
    /// A follower claims to have records that the leader has not written.
    BeyondTheLog {
        /// Who claims it.
        node: BrokerId,
        /// The end claimed.
        end: Offset,
    },
    /// Following the message would cut committed records off a sound replica.
    BelowHighWatermark {
        /// Where the log would have been cut.
        at: Offset,
        /// The high watermark.
        high_watermark: Offset,
    },
    /// The shell reports the end of a write that is not under way, or a state that is impossible.
    UnknownWrite,
    /// Too many writes are under way.
    Overloaded,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(Malformed::Offsets) => {
                f.write_str("a peer's message has offsets that contradict each other")
            }
            Self::Malformed(Malformed::Epochs) => {
                f.write_str("a peer's message has leader epochs that are out of order")
            }
            Self::Record(defect) => write!(f, "the partition's metadata is impossible: {defect}"),
            Self::UnknownMember(node) => write!(f, "node {node} is no replica of this partition"),
            Self::NotTheLeader { node, epoch } => write!(f, "node {node} does not lead in leader epoch {epoch}"),
            Self::BeyondTheLog { node, end } => {
                write!(f, "node {node} claims records up to offset {end}, which the leader has not written")
            }
            Self::BelowHighWatermark { at, high_watermark } => write!(
                f,
                "the leader's log would cut this one at offset {at}, below the high watermark {high_watermark}; more replicas \
                 than the quorum allows have lost data"
            ),
            Self::UnknownWrite => f.write_str("the end of a write that is not under way was reported"),
            Self::Overloaded => f.write_str("too many writes of this replica are under way"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Why a client's request was not done. The broker maps each to a Kafka error code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestError {
    /// NOT_LEADER_OR_FOLLOWER: this replica does not lead, or not any more; whether the records are kept is not known then.
    NotLeader,
    /// NOT_ENOUGH_REPLICAS: fewer than Q members live. Nothing was written.
    NotEnoughReplicas,
    /// REQUEST_TIMED_OUT: not committed in time; it may be later.
    TimedOut,
    /// OFFSET_OUT_OF_RANGE: above the high watermark.
    OffsetOutOfRange,
    /// OFFSET_NOT_AVAILABLE: the high watermark has not reached the leader's epoch yet.
    OffsetNotAvailable,
    /// INVALID_REQUEST: no records, or more offsets than there are.
    Invalid,
    /// KAFKA_STORAGE_ERROR: the write failed, or the replica is damaged.
    Storage,
    /// Too many requests wait; the client is to try again.
    Overloaded,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLeader => "this broker does not lead the partition; ask for the metadata again",
            Self::NotEnoughReplicas => "fewer replicas live than the quorum takes; wait until more are back",
            Self::TimedOut => "not replicated in time; it may still be",
            Self::OffsetOutOfRange => "the offset lies above the high watermark",
            Self::OffsetNotAvailable => "the new leader does not know the high watermark yet; try again",
            Self::Invalid => "the request holds no records, or too many",
            Self::Storage => "the broker could not write or read its disk",
            Self::Overloaded => "too many requests wait for this partition; try again",
        })
    }
}

impl core::error::Error for RequestError {}
