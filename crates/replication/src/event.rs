//! What goes into a replica.
//!
//! The order at a start: [`Event::Registered`], the metadata as it comes, [`Event::Barrier`] if the replica asked for it,
//! [`Event::Unfenced`]. The shell stores the broker epoch in the superblock and lets the broker be unfenced only when
//! [`crate::Replica::is_marked`] holds for every replica.

use core::ops::Range;

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use quipu_env::Instant;

use crate::{
    effect::WriteId,
    epochs::LogShape,
    message::Message,
    partition::{BrokerView, Member, PartitionState, Sender},
};

/// Names a client's request to the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// When a produce request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Acks {
    /// acks=0: never.
    None,
    /// acks=1: when the leader has synced the records.
    Leader,
    /// acks=all: when the records are committed.
    All,
}

/// One batch of a produce request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BatchShape {
    /// Offsets that it takes.
    pub record_count: u32,
    /// Its length.
    pub bytes: u32,
}

/// What a start finds on the disk, and what a failed write leaves there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DurableState {
    /// The log as recovered.
    pub log: LogShape,
    /// The highest epoch promised.
    pub promised: LeaderEpoch,
    /// The epoch whose leader's log was fully adopted.
    pub label: LeaderEpoch,
    /// The high watermark as last written.
    pub high_watermark: Offset,
    /// The mark of a replica that does not count.
    pub is_faulty: bool,
    /// What of the log is known to be damaged. Records lost off the end make a range that ends at `i64::MAX`.
    pub damaged: Vec<Range<Offset>>,
}

impl Default for DurableState {
    /// A replica that never was.
    fn default() -> Self {
        Self {
            log: LogShape::default(),
            promised: LeaderEpoch::NONE,
            label: LeaderEpoch::NONE,
            high_watermark: Offset::ZERO,
            is_faulty: false,
            damaged: Vec::new(),
        }
    }
}

/// Who this replica is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Node and directory.
    pub member: Member,
    /// The broker epoch that the superblock held before this start; none if it never was registered.
    pub stored_incarnation: Option<BrokerEpoch>,
}

/// What the controller said to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// The change was made.
    Accepted,
    /// The change was not made; the version was raised, so that it never will be.
    Declined,
    /// Leader epoch or version is not the one that was expected.
    Conflict,
    /// Not now: not the active controller, overloaded. The request may be carried out by another.
    Unavailable,
}

/// Whatever can happen to a replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// The controller registered this start of the node.
    Registered {
        /// The broker epoch that it gave: the incarnation.
        broker_epoch: BrokerEpoch,
        /// The last broker epoch under which it had unfenced this broker before. None for a replica of a partition that is
        /// created after this start: its disk has nothing to have forgotten.
        last_unfenced: Option<BrokerEpoch>,
    },
    /// The partition's record, read with a barrier begun after the registration: in answer to [`crate::Effect::ReadBarrier`].
    Barrier(PartitionState),
    /// This node is unfenced. Anything but the current incarnation changes nothing.
    Unfenced {
        /// Under which registration.
        broker_epoch: BrokerEpoch,
    },
    /// The partition's record, from the metadata log or from the controller's answer.
    Metadata(PartitionState),
    /// Another broker's state, or this one's, from the metadata log.
    Broker {
        /// The broker.
        node: BrokerId,
        /// None if it is not registered any more.
        view: Option<BrokerView>,
    },
    /// The topic's `min.insync.replicas`.
    InsyncReplicasMin(usize),
    /// A message from another replica.
    Peer {
        /// From whom.
        sender: Sender,
        /// What.
        message: Message,
    },
    /// The step `id` and all before it are durable.
    Synced {
        /// The last one.
        id: WriteId,
    },
    /// Steps were not carried out (the disk is full); none of those under way will be any more, and this is what the disk
    /// holds.
    WriteFailed {
        /// The durable state now.
        state: DurableState,
    },
    /// A client's records.
    Produce {
        /// The request.
        id: RequestId,
        /// Its batches, in order.
        batches: Vec<BatchShape>,
        /// When to answer.
        acks: Acks,
        /// When to give up waiting.
        deadline: Instant,
    },
    /// Moves the log start up: a client's DeleteRecords, or retention (without an id).
    DeleteRecords {
        /// The request to answer.
        id: Option<RequestId>,
        /// The new log start; none for the high watermark.
        before: Option<Offset>,
        /// When to give up waiting.
        deadline: Instant,
    },
    /// Synced data of this replica turned out to be corrupt or gone.
    Damage {
        /// Where.
        range: Range<Offset>,
    },
    /// The controller's answer to an [`crate::Ask`].
    Answer {
        /// What it said.
        verdict: Verdict,
        /// The partition's record at that moment, which every answer carries if there is one to tell.
        record: Option<PartitionState>,
    },
    /// [`crate::Replica::next_deadline`] has come.
    Time,
}
