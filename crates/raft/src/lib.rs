//! Consensus for the metadata log: Raft, messages in, effects out.
//!
//! A [`Node`] is one replica. It does nothing by itself: the shell tells it what happened (`handle_*`, [`Node::on_deadline`])
//! and carries out what it asks for ([`Node::take_effects`]); it calls again at [`Node::next_deadline`]. It has pre-vote,
//! check-quorum, leadership transfer, a read barrier, snapshots in pieces, observers, pipelined appends with bounds per peer,
//! and voters that are added and removed one at a time and told by node and directory.
//!
//! The log is a partition: offsets from 0, dense; a leader epoch is Raft's term; the high watermark its commit index. An entry
//! is a batch of records. Ranges are half-open: a log ends at the offset that the next record gets.
//!
//! Invariants, which the tests check after every step (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", 2014; Ongaro's dissertation for what goes beyond)
//! - Election safety: one leader in an epoch, at most.
//! - Log matching: logs that have the same epoch at an offset are the same up to there.
//! - Leader completeness: what is committed is in the log of every later leader.
//! - State machine safety: no two replicas commit different records at one offset.
//! - Reads: a barrier's offset is not before what was committed when it was asked for.
//!
//! A shell in a few words: read the disk into [`Stored`] and make a [`Node`]; then, for ever, wait for a message, an answer of
//! the disk, a request, or the deadline; make the one call; carry out the effects in their order. Three things it must get
//! right: a [`Persist`] is one durable step and comes before the next; what [`Effect::Commit`] names is applied, nothing else;
//! all founders of a cluster begin with the same voter set, and found it once.
//!
//! Not here: bytes on a disk, connections, clocks, chance (all in the shell), and what the records mean (`quipu-metadata`).
//! Read `node` next.

mod effect;
mod entry;
mod error;
pub mod limits;
mod log;
mod message;
mod node;
mod progress;
mod time;
mod voters;

pub use effect::{Effect, HardState, Persist};
pub use entry::{Data, Entry, LogBase, LogPoint, Payload, SnapshotMeta};
pub use error::{ProposeError, ReadError, SnapshotError, StartError, TransferError, VoterChangeError};
pub use log::LogSummary;
pub use message::{Body, FORMAT_VERSION, Message, MessageError, decode, encode};
pub use node::{Config, Node, Proposed, Status, Stored};
pub use voters::{ReplicaKey, VoterSet, VoterSetError};
