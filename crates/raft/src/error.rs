//! What may be refused, and what to do about it.
//!
//! Not here: what is wrong with a peer's message ([`crate::MessageError`]).

use core::fmt;

use quipu_base::{LeaderEpoch, Offset};

use crate::{
    limits::{ENTRY_BYTES_MAX, ENTRY_RECORDS_MAX, PROMOTION_LAG_RECORDS_MAX, VOTERS_MAX},
    voters::ReplicaKey,
};

/// Why a node does not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The metadata partition is damaged: it may have lost a vote or an acknowledged entry.
    Damaged {
        /// What was found.
        what: String,
    },
    /// The hard state is older than the log: one of them is not from this disk, or not from this time.
    EpochRegressed {
        /// In the hard state.
        stored: LeaderEpoch,
        /// Of the last entry.
        log: LeaderEpoch,
    },
    /// The log's description contradicts itself.
    BadLog {
        /// How.
        what: &'static str,
    },
    /// The time-outs make no sense together.
    BadTimeouts {
        /// Why.
        what: &'static str,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { what } => write!(
                f,
                "the metadata log is damaged ({what}): this node may have forgotten a vote, so it must not take part; give \
                 its directory a new id, remove the old voter and add the new one"
            ),
            Self::EpochRegressed { stored, log } => write!(
                f,
                "the metadata log has entries of leader epoch {log}, but the stored epoch is {stored}: the directory was \
                 put together from different times; give it a new id, remove the old voter and add the new one"
            ),
            Self::BadLog { what } => {
                write!(f, "the metadata log does not add up: {what}; treat the directory as damaged")
            }
            Self::BadTimeouts { what } => write!(f, "the quorum's time-outs do not fit: {what}"),
        }
    }
}

impl core::error::Error for StartError {}

/// Why records are not proposed. None of them was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProposeError {
    /// Another node leads.
    NotLeader {
        /// Who, if known.
        leader: Option<ReplicaKey>,
    },
    /// Leadership is being handed over.
    Transferring,
    /// Too much is not yet durable or not yet committed.
    Busy,
    /// An entry has no records, more than [`ENTRY_RECORDS_MAX`], or more than [`ENTRY_BYTES_MAX`] bytes.
    TooLarge,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "the metadata leader is {leader}: ask there"),
            Self::NotLeader { leader: None } => f.write_str("no metadata leader is known: try again soon"),
            Self::Transferring => f.write_str("metadata leadership is moving to another node: try again soon"),
            Self::Busy => f.write_str("too many metadata records wait to be committed: try again later"),
            Self::TooLarge => {
                write!(f, "a decision holds 1 to {ENTRY_RECORDS_MAX} records and {ENTRY_BYTES_MAX} bytes: divide it")
            }
        }
    }
}

impl core::error::Error for ProposeError {}

/// Why a read barrier is not begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// Nobody is known to lead.
    NoLeader,
    /// [`crate::limits::READS_MAX`] reads wait already.
    TooMany,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => f.write_str("no metadata leader is known: try again soon"),
            Self::TooMany => f.write_str("too many metadata reads wait: try again later"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Why leadership does not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransferError {
    /// This node does not lead.
    NotLeader,
    /// The other node is no voter.
    NotVoter(ReplicaKey),
    /// It is this node.
    IsLeader,
    /// A transfer is under way.
    Transferring,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this node does not lead the metadata quorum: ask the leader"),
            Self::NotVoter(replica) => write!(f, "{replica} is no voter of the metadata quorum: name one"),
            Self::IsLeader => f.write_str("this node leads already"),
            Self::Transferring => f.write_str("metadata leadership is already moving: try again soon"),
        }
    }
}

impl core::error::Error for TransferError {}

/// Why the voters do not change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoterChangeError {
    /// This node does not lead.
    NotLeader,
    /// Leadership is moving.
    Transferring,
    /// An earlier change, or the leader's first entry, is not committed.
    Pending,
    /// A voter with this node id exists.
    AlreadyVoter(ReplicaKey),
    /// It is no voter.
    NotVoter(ReplicaKey),
    /// It has not announced itself as an observer, or not lately.
    UnknownObserver(ReplicaKey),
    /// It lacks too much.
    NotCaughtUp {
        /// Up to where it has the log.
        matched: Offset,
        /// Up to where the leader has it.
        log_end: Offset,
    },
    /// There are [`VOTERS_MAX`].
    TooManyVoters,
    /// It is the last one.
    LastVoter,
    /// The log holds as many voter sets as it can.
    LogFull,
}

impl fmt::Display for VoterChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this node does not lead the metadata quorum: ask the leader"),
            Self::Transferring => f.write_str("metadata leadership is moving: try again soon"),
            Self::Pending => f.write_str("the last change of the quorum is not yet committed: try again soon"),
            Self::AlreadyVoter(voter) => {
                write!(f, "node {} votes already, as {voter}: remove that voter first", voter.id)
            }
            Self::NotVoter(replica) => write!(f, "{replica} is no voter: the directory id must match, too"),
            Self::UnknownObserver(replica) => {
                write!(f, "{replica} is not connected as an observer: start it, and wait until it has caught up")
            }
            Self::NotCaughtUp { matched, log_end } => write!(
                f,
                "the new voter has the log up to {matched} of {log_end}: wait until it lacks at most \
                 {PROMOTION_LAG_RECORDS_MAX} records"
            ),
            Self::TooManyVoters => write!(f, "the quorum has {VOTERS_MAX} voters, which is the most: remove one first"),
            Self::LastVoter => f.write_str("the last voter cannot be removed"),
            Self::LogFull => {
                f.write_str("the metadata log holds too many changes of the quorum: take a snapshot first")
            }
        }
    }
}

impl core::error::Error for VoterChangeError {}

/// Why a snapshot is not accepted from the shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// It is not of the committed log, or older than the last one, or too large.
    NotOfThisLog,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOfThisLog => f.write_str("the snapshot does not fit the metadata log: take a new one"),
        }
    }
}

impl core::error::Error for SnapshotError {}
