//! What goes into the write-ahead log and what comes out: frames, groups, tickets.
//!
//! Not here: how they lie on disk (`format`), who writes them (`writer`).

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, TopicIdPartition};

/// Numbers the groups of a data directory's WAL, from 1, without gaps. [`GroupSequence::NONE`] comes before all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupSequence(pub u64);

impl GroupSequence {
    /// Before the first group.
    pub const NONE: Self = Self(0);

    /// The group after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The group before this one; `NONE` before the first.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl core::fmt::Display for GroupSequence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers the frames that this process has submitted, from 1, in the order of submission. Never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Before the first frame.
    pub const NONE: Self = Self(0);
}

/// What a frame does to its partition. The number is the one on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// Adds one record batch (the payload, verbatim) at the frame's base offset.
    Append = 1,
    /// Cuts the partition's end back to the frame's base offset.
    Truncate = 2,
    /// A promise to a leader about to be elected.
    Promise = 3,
    /// The partition's label: the epoch whose leader's log it has.
    Label = 4,
    /// Moves the log start offset to the frame's base offset.
    LogStart = 5,
    /// Producer state, exact at the frame's base offset.
    ProducerSnapshot = 6,
    /// The partition is gone.
    PartitionDelete = 7,
    /// Term, vote and commit of a consensus log.
    RaftHardState = 8,
    /// What a replica remembers besides its log.
    Replica = 9,
    /// Everything of the partition but its states is gone; its log begins and ends at the frame's base offset.
    BeginAnew = 10,
    /// Puts one record batch (the payload, verbatim) in the place of what was damaged there.
    Repair = 11,
    /// What lies from the frame's base offset on, up to the offset in the payload (8 bytes, little-endian), is damaged.
    Damaged = 12,
    /// Nothing is missing behind the log's end, which is the frame's base offset.
    Complete = 13,
}

impl FrameKind {
    /// The kind with this number on disk, if it is one that this version knows.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Append,
            2 => Self::Truncate,
            3 => Self::Promise,
            4 => Self::Label,
            5 => Self::LogStart,
            6 => Self::ProducerSnapshot,
            7 => Self::PartitionDelete,
            8 => Self::RaftHardState,
            9 => Self::Replica,
            10 => Self::BeginAnew,
            11 => Self::Repair,
            12 => Self::Damaged,
            13 => Self::Complete,
            _ => return None,
        })
    }
}

/// A frame to be written. Its payload is `head` followed by `body`: two pieces, so that a patched batch header meets the
/// rest of the client's bytes only in the group's buffer, which is the one copy made.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Whom it concerns.
    pub partition: TopicIdPartition,
    /// What it does.
    pub kind: FrameKind,
    /// The leader epoch it is written under.
    pub leader_epoch: LeaderEpoch,
    /// The offset it is about.
    pub base_offset: Offset,
    /// The payload's first bytes.
    pub head: Bytes,
    /// The payload's other bytes.
    pub body: Bytes,
}

impl Frame {
    /// Bytes of payload.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// A frame that has been synced.
#[derive(Clone, Debug)]
pub struct DurableFrame {
    /// Whom it concerns.
    pub partition: TopicIdPartition,
    /// What it does.
    pub kind: FrameKind,
    /// The leader epoch it was written under.
    pub leader_epoch: LeaderEpoch,
    /// The offset it is about.
    pub base_offset: Offset,
    /// A slice of the group's buffer: holding it holds the whole group in memory.
    pub payload: Bytes,
    /// What [`super::Wal::submit`] answered for it.
    pub ticket: Ticket,
    /// The group that holds it.
    pub group: GroupSequence,
}

/// Who is told of durable frames.
pub trait WalSink: Send + Sync + 'static {
    /// All of `frames`, one group (of `group_bytes` on disk and in memory), are durable. Called by the WAL's task in the
    /// order of the log, for the contiguous synced prefix only, and before [`super::Wal::durable`] moves. Must not block.
    /// Groups without frames are told of, too: they have to be covered like the others before their space is used again.
    fn on_durable(&self, group: GroupSequence, group_bytes: usize, frames: Vec<DurableFrame>);
}

/// Who may use the WAL's last space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Records of producers.
    Normal,
    /// Metadata, log start offsets, deletes: what frees space or must go on when there is little.
    Reserve,
}

/// How full the WAL is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalSpace {
    /// Bytes of groups that no durable checkpoint covers yet.
    pub used: u64,
    /// Bytes that the WAL may have in all: its limit, or, while the disk is full, what it has.
    pub total: u64,
}
