//! What the log is made of.
//!
//! Invariants
//! - Offsets are dense from 0; an entry takes as many as it has records, at least one. An entry is the unit of everything: it
//!   is appended, sent, cut off and committed whole.
//! - Two entries with the same base offset and the same leader epoch are the same entry.
//!
//! Not here: where the bytes lie. The shell writes a control entry ([`Payload::LeaderChange`], [`Payload::Voters`]) as one
//! record that it makes from the entry alone, so that every replica has the same bytes. Read `log` next.

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

use crate::{
    limits::{ENTRY_BYTES_MAX, ENTRY_OVERHEAD_BYTES, ENTRY_RECORDS_MAX},
    voters::{ReplicaKey, VoterSet},
};

/// A place between two records: the offset of the record after it, and the leader epoch of the record before it
/// ([`LeaderEpoch::NONE`] at offset 0).
///
/// Ordered by epoch, then offset: of two logs, the one whose end is greater holds everything that may be committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LogPoint {
    /// The offset of the next record.
    pub offset: Offset,
    /// The leader epoch of the record before.
    pub epoch: LeaderEpoch,
}

impl LogPoint {
    /// The start of an empty log.
    pub const START: Self = Self { offset: Offset::ZERO, epoch: LeaderEpoch::NONE };
}

impl Ord for LogPoint {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.epoch, self.offset).cmp(&(other.epoch, other.offset))
    }
}

impl PartialOrd for LogPoint {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// One entry, written by the leader of one epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The epoch of the leader that wrote it.
    pub epoch: LeaderEpoch,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Payload {
    /// Records of the shell.
    Data(Data),
    /// The first entry of a leader: its epoch begins here. One record.
    LeaderChange {
        /// The new leader.
        leader: ReplicaKey,
        /// The voters as it knows them. Told for the reader's sake; the set in force comes from [`Payload::Voters`].
        voters: VoterSet,
    },
    /// From here on these vote. One record.
    Voters(VoterSet),
}

/// Records of the shell, one batch: committed together or not at all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Data {
    /// How many records, and so offsets: 1 to [`ENTRY_RECORDS_MAX`].
    pub records: u32,
    /// The batch, opaque here: at most [`ENTRY_BYTES_MAX`].
    pub bytes: Bytes,
}

impl Data {
    pub(crate) fn is_within_limits(&self) -> bool {
        (1..=ENTRY_RECORDS_MAX).contains(&self.records) && self.bytes.len() <= ENTRY_BYTES_MAX
    }
}

impl Entry {
    /// How many offsets it takes.
    #[must_use]
    pub fn records(&self) -> u32 {
        match &self.payload {
            Payload::Data(data) => data.records,
            Payload::LeaderChange { .. } | Payload::Voters(_) => 1,
        }
    }

    /// What it counts against the budgets, in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        let payload = match &self.payload {
            Payload::Data(data) => data.bytes.len(),
            Payload::LeaderChange { .. } | Payload::Voters(_) => 0,
        };
        payload + ENTRY_OVERHEAD_BYTES
    }

    /// The offset behind it, if it begins at `base`; none past the last offset there can be.
    #[must_use]
    pub fn end(&self, base: Offset) -> Option<Offset> {
        base.checked_add(self.records())
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        match &self.payload {
            Payload::Data(data) => data.is_within_limits(),
            Payload::LeaderChange { .. } => true,
            Payload::Voters(voters) => !voters.is_empty(),
        }
    }
}

/// The state at one place of the log: what stands before it is in a snapshot, or is nothing at all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LogBase {
    /// The place.
    pub point: LogPoint,
    /// The voters in force there.
    pub voters: VoterSet,
}

/// A snapshot of the state machine, whose bytes lie with the shell.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// What it covers: everything before this place.
    pub base: LogBase,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// A checksum of its bytes. Two snapshots with the same meta are the same bytes.
    pub checksum: u32,
}
