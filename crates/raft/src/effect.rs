//! What the shell has to do. It carries effects out in the order in which it got them.
//!
//! Invariants
//! - [`Persist`] effects have numbers that rise by one. The shell makes them durable in that order, each at once and whole (one
//!   WAL frame): after a crash the disk holds what the persists up to some number say, at least up to the last one answered,
//!   and nothing of a later one.
//! - Nothing that a message promises is before its persist: messages that depend on one come out only after
//!   [`crate::Node::handle_persisted`].
//!
//! Not here: retries. An effect that cannot be carried out ends the process, but for reads, which say so.

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Entry, LogPoint, SnapshotMeta},
    message::Message,
    voters::{ReplicaKey, VoterSet},
};

/// What a replica must not forget beside its log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HardState {
    /// The latest leader epoch that it has seen.
    pub epoch: LeaderEpoch,
    /// For whom it voted in that epoch.
    pub vote: Option<ReplicaKey>,
}

impl HardState {
    /// Of a directory that was just formatted.
    pub const NEW: Self = Self { epoch: LeaderEpoch(0), vote: None };
}

/// One durable step: install, then truncate, then append, and the hard state with it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Persist {
    /// Its number, for [`crate::Node::handle_persisted`].
    pub number: u64,
    /// The hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Drop the whole log and begin anew, empty, at the end of this snapshot, whose bytes were written chunk by chunk. Its
    /// base and meta are the log's from here on, and the state machine's state is this snapshot.
    pub install: Option<SnapshotMeta>,
    /// Drop the log from this offset on.
    pub truncate: Option<Offset>,
    /// Where `entries` begin: the end of the log.
    pub start: Offset,
    /// Append these.
    pub entries: Vec<Entry>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Make it durable, and answer with [`crate::Node::handle_persisted`].
    Persist(Persist),
    /// Send it; if there is no connection, drop it.
    Send(Message),
    /// Everything before this offset is committed, and durable here: apply it.
    Commit {
        /// Rises only.
        high_watermark: Offset,
    },
    /// The read may be answered as soon as everything before `offset` is applied.
    ReadReady {
        /// As asked.
        context: u64,
        /// What was committed when the read was asked is before this.
        offset: Offset,
    },
    /// The read's barrier cannot be had now: ask again, or say so.
    ReadFailed {
        /// As asked.
        context: u64,
    },
    /// This node leads `epoch`, whose first entry is at `start`. It knows everything committed once that entry is applied.
    BecameLeader {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The offset of its `LeaderChange` entry.
        start: Offset,
    },
    /// This node leads no more. What it proposed and was not committed may or may not come to be.
    SteppedDown {
        /// The epoch that it led.
        epoch: LeaderEpoch,
    },
    /// The leader that this node follows, itself included, changed.
    LeaderChanged {
        /// This node's epoch.
        epoch: LeaderEpoch,
        /// Its leader, if known.
        leader: Option<ReplicaKey>,
    },
    /// The voters in force changed, perhaps not for good: connect to them.
    VotersChanged(VoterSet),
    /// Read entries from the log, and answer with [`crate::Node::handle_entries_read`]. All of them are durable.
    ReadEntries {
        /// Names the request.
        read: u64,
        /// The first record's offset.
        from: Offset,
        /// Behind the last record's.
        until: Offset,
        /// Fewer entries than that payload, but at least one.
        bytes_max: usize,
    },
    /// Read bytes of a snapshot, and answer with [`crate::Node::handle_snapshot_read`].
    ReadSnapshot {
        /// Names the request.
        read: u64,
        /// The end of the snapshot.
        snapshot: LogPoint,
        /// The first byte.
        position: u64,
        /// Exactly so many.
        bytes: usize,
    },
    /// Write a piece of a snapshot that a leader sends (at position 0: begin anew), and answer with
    /// [`crate::Node::handle_chunk_written`]. With the last piece, make it durable and compare its checksum first.
    WriteChunk {
        /// Of which snapshot.
        snapshot: SnapshotMeta,
        /// The first byte.
        position: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The log holds so many epochs or voter sets that it should be shortened: take a snapshot soon.
    SnapshotWanted,
}
