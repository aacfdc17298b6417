//! What replicas say to each other, and its bytes.
//!
//! ```text
//! byte 0      format version: 1
//! byte 1..    the message in postcard 1.x: from, to, epoch, the number of the kind (the order of [`Body`]), its fields
//! ```
//!
//! There is no checksum: the peer protocol's frame has one. Version history: 1, the first. A new kind or field takes a new
//! version, and a node sends it only to peers that know it (the peer protocol's handshake tells).
//!
//! Invariants
//! - [`decode`] and [`Message::check`] never panic, whatever the bytes; a decoded message takes memory in proportion to them.
//! - A message that passes [`Message::check`] is safe to hand to any node in any state: it may be refused, never more.
//!
//! Not here: connections and who may speak on them. A node compares `from` with the identity that the connection has proven.

use core::fmt;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Entry, LogPoint, SnapshotMeta},
    limits::{
        APPEND_ENTRIES_MAX, EPOCH_MAX, INFLIGHT_BYTES_MAX, MESSAGE_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES,
    },
    voters::ReplicaKey,
};

/// The version that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u8 = 1;

/// One message. May be lost, doubled, delayed and overtaken at any time.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub from: ReplicaKey,
    /// To whom. The directory id is zero in an [`Body::Announce`] to a node of which only the id is known.
    pub to: ReplicaKey,
    /// The sender's leader epoch; in a [`Body::Vote`] the one that it wants to lead.
    pub epoch: LeaderEpoch,
    /// What.
    pub body: Body,
}

/// The kinds of message.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Would you vote for me in `next_epoch`? Changes nothing at the receiver.
    PreVote {
        /// The epoch that an election would begin.
        next_epoch: LeaderEpoch,
        /// The end of the sender's log.
        log: LogPoint,
    },
    /// Answer to `PreVote`.
    PreVoteReply {
        /// As asked.
        next_epoch: LeaderEpoch,
        /// Whether it would.
        granted: bool,
        /// The leader that the receiver hears, if that is why it would not.
        leader: Option<ReplicaKey>,
    },
    /// Vote for me in the message's epoch.
    Vote {
        /// The end of the sender's log.
        log: LogPoint,
        /// The leader asked for this election: it may be granted while a leader is heard.
        transfer: bool,
    },
    /// Answer to `Vote`.
    VoteReply {
        /// Whether the vote, durable by now, is the asker's.
        granted: bool,
    },
    /// The leader's entries from `start` on; none: a question whether the logs match at `start`.
    Append {
        /// Where they begin, and the epoch of what is before.
        start: LogPoint,
        /// The entries.
        entries: Vec<Entry>,
        /// The leader's high watermark.
        high_watermark: Offset,
    },
    /// The sender's durable log matches the leader's before `matched`.
    Appended {
        /// Proven to match; the log may be longer.
        matched: Offset,
    },
    /// The Append at `at` does not join the sender's log.
    Diverged {
        /// Where the Append began.
        at: Offset,
        /// The greatest place that may still match.
        hint: LogPoint,
    },
    /// The leader lives.
    Heartbeat {
        /// Counts the leader's rounds; the answer repeats it.
        round: u64,
        /// As far as the receiver is known to hold it.
        high_watermark: Offset,
    },
    /// Answer to `Heartbeat`: no other leader is known to the sender.
    HeartbeatReply {
        /// As asked.
        round: u64,
    },
    /// The receiver lags behind: its epoch is over, the message's epoch is a later one.
    Stale,
    /// A piece of a snapshot.
    SnapshotChunk {
        /// Of which.
        snapshot: SnapshotMeta,
        /// Its first byte.
        position: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The next piece wanted. Also answers pieces that were not wanted.
    SnapshotProgress {
        /// The end of the snapshot.
        snapshot: LogPoint,
        /// The first byte missing.
        position: u64,
    },
    /// Campaign now: I want you to lead.
    TimeoutNow,
    /// An observer, or a replica that has lost its leader, looks for one.
    Announce,
    /// Answer to `Announce`, by a node that does not lead.
    Leader {
        /// Who does, as far as it knows.
        leader: Option<ReplicaKey>,
    },
    /// The leader serves as many observers as it can. Ask again later.
    ObserverRefused,
    /// From where on is a read current?
    Read {
        /// Chosen by the asker, and never twice.
        context: u64,
    },
    /// Answer to `Read`.
    ReadReply {
        /// As asked.
        context: u64,
        /// What was committed when it was asked is before this; none if the sender cannot tell.
        offset: Option<Offset>,
    },
}

/// Bytes that are not a message, or a message that no correct replica sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageError {
    /// No bytes, or more than [`MESSAGE_BYTES_MAX`].
    BadLength {
        /// How many.
        bytes: usize,
    },
    /// Another version than [`FORMAT_VERSION`].
    UnknownVersion {
        /// The version found.
        found: u8,
    },
    /// The bytes do not spell a message.
    Malformed(postcard::Error),
    /// A message, and more after it.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A field is outside its limits.
    OutOfLimits {
        /// Which.
        field: &'static str,
    },
    /// It says to be from another node than the connection's.
    WrongSender(ReplicaKey),
    /// It is for another node or another directory than this.
    WrongReceiver(ReplicaKey),
    /// Two leaders in one epoch: a voter has forgotten its vote.
    TwoLeaders {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The leader that this node follows.
        known: ReplicaKey,
        /// The other one.
        other: ReplicaKey,
    },
    /// It contradicts what is committed here: a voter has lost what it acknowledged.
    ContradictsCommitted {
        /// Where.
        at: Offset,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLength { bytes } => {
                write!(
                    f,
                    "a raft message of {bytes} bytes: it must have 1 to {MESSAGE_BYTES_MAX}; close the connection"
                )
            }
            Self::UnknownVersion { found } => write!(
                f,
                "a raft message of format version {found}, but this build knows version {FORMAT_VERSION}: upgrade the older node"
            ),
            Self::Malformed(_) => f.write_str("bytes that are no raft message: close the connection"),
            Self::TrailingBytes { count } => {
                write!(f, "a raft message with {count} bytes after its end: close the connection")
            }
            Self::OutOfLimits { field } => {
                write!(f, "a raft message whose {field} is out of limits: close the connection")
            }
            Self::WrongSender(sender) => {
                write!(f, "a raft message that says to be from {sender}, over another node's connection: close it")
            }
            Self::WrongReceiver(receiver) => write!(
                f,
                "a raft message for {receiver}, which is not this node and directory: if this node was formatted anew, \
                 remove the old voter and add the new one"
            ),
            Self::TwoLeaders { epoch, known, other } => write!(
                f,
                "two leaders in metadata epoch {epoch}, {known} and {other}: a voter has lost its vote; stop the cluster \
                 and find the node whose disk was restored"
            ),
            Self::ContradictsCommitted { at } => write!(
                f,
                "a metadata leader contradicts what is committed at offset {at}: a voter has lost what it acknowledged; \
                 stop the cluster and find the node whose disk was restored"
            ),
        }
    }
}

impl core::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

/// The bytes of a message.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    postcard::to_extend(message, vec![FORMAT_VERSION]).expect("a message is plain data, and a vector takes any of it")
}

/// The message that `bytes` spell. It has passed [`Message::check`].
///
/// Errors: [`MessageError`]; never a panic.
pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::BadLength { bytes: bytes.len() });
    }
    let (version, body) = bytes.split_first().ok_or(MessageError::BadLength { bytes: 0 })?;
    if *version != FORMAT_VERSION {
        return Err(MessageError::UnknownVersion { found: *version });
    }
    let (message, rest) = postcard::take_from_bytes::<Message>(body).map_err(MessageError::Malformed)?;
    if !rest.is_empty() {
        return Err(MessageError::TrailingBytes { count: rest.len() });
    }
    message.check()?;
    Ok(message)
}

impl Message {
    /// Errors: `OutOfLimits` for what no correct replica sends, in any state.
    pub fn check(&self) -> Result<(), MessageError> {
        let within = |ok: bool, field| if ok { Ok(()) } else { Err(MessageError::OutOfLimits { field }) };
        within((0..=EPOCH_MAX).contains(&self.epoch.get()), "epoch")?;
        match &self.body {
            Body::PreVote { next_epoch, log } => {
                within((0..=EPOCH_MAX).contains(&next_epoch.get()), "next epoch")?;
                within(is_point(*log), "log end")
            }
            Body::Vote { log, .. } => within(is_point(*log), "log end"),
            Body::Append { start, entries, high_watermark } => {
                within(is_point(*start) && start.epoch <= self.epoch, "start")?;
                within(high_watermark.get() >= 0, "high watermark")?;
                within(self.are_entries(*start, entries), "entries")
            }
            Body::Appended { matched } => within(matched.get() >= 0, "matched offset"),
            Body::Diverged { at, hint } => {
                within(is_point(*hint) && at.get() >= 0 && hint.offset <= *at, "point of divergence")
            }
            Body::Heartbeat { high_watermark, .. } => within(high_watermark.get() >= 0, "high watermark"),
            Body::SnapshotChunk { snapshot, position, bytes } => self.check_chunk(snapshot, *position, bytes),
            Body::SnapshotProgress { snapshot, .. } => within(is_point(*snapshot), "snapshot"),
            Body::ReadReply { offset, .. } => within(offset.is_none_or(|offset| offset.get() >= 0), "read offset"),
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::HeartbeatReply { .. }
            | Body::Stale
            | Body::TimeoutNow
            | Body::Announce
            | Body::Leader { .. }
            | Body::ObserverRefused
            | Body::Read { .. } => Ok(()),
        }
    }

    /// Within limits, of epochs that do not fall and are not later than the message's, at offsets that exist.
    fn are_entries(&self, start: LogPoint, entries: &[Entry]) -> bool {
        let mut end = start;
        let mut cost = 0_usize;
        for entry in entries {
            let Some(offset) = entry.end(end.offset) else { return false };
            if !entry.is_within_limits() || entry.epoch < end.epoch || entry.epoch.get() < 0 || entry.epoch > self.epoch
            {
                return false;
            }
            end = LogPoint { offset, epoch: entry.epoch };
            cost = cost.saturating_add(entry.cost());
        }
        entries.len() <= 1 || (entries.len() <= APPEND_ENTRIES_MAX && cost <= INFLIGHT_BYTES_MAX)
    }

    fn check_chunk(&self, snapshot: &SnapshotMeta, position: u64, bytes: &Bytes) -> Result<(), MessageError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let inside = position.checked_add(length).is_some_and(|end| end <= snapshot.size_bytes);
        let base = &snapshot.base;
        let is_base = is_point(base.point) && base.point.offset > Offset::ZERO && base.point.epoch <= self.epoch;
        let sized = (1..=SNAPSHOT_BYTES_MAX).contains(&snapshot.size_bytes);
        if inside && is_base && sized && (1..=SNAPSHOT_CHUNK_BYTES).contains(&bytes.len()) {
            return Ok(());
        }
        Err(MessageError::OutOfLimits { field: "piece of a snapshot" })
    }
}

/// Offset and epoch are not negative, or say that nothing is before.
fn is_point(point: LogPoint) -> bool {
    let is_later = point.offset.get() > 0 && (0..=EPOCH_MAX).contains(&point.epoch.get());
    point == LogPoint::START || is_later
}
