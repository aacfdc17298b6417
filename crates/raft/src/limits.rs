//! Every bound of the crate: why it has its size, and what is answered when it is reached.
//!
//! Not here: time-outs, which are settings ([`crate::Config`]).

use core::time::Duration;

use quipu_base::limits::{KIB, MIB};

/// Voters at most: a majority of seven outlives three losses, and every further voter makes each commit slower. A change that
/// would pass it is refused with [`crate::VoterChangeError::TooManyVoters`].
pub const VOTERS_MAX: usize = 7;
/// Observers that one leader serves: every broker is one, about 300 bytes each. A further one is told
/// [`crate::Body::ObserverRefused`] and asks again later.
pub const OBSERVERS_MAX: usize = 1024;
/// Nodes that an observer without a leader asks for one.
pub const CONTACTS_MAX: usize = 16;

/// Payload of one entry: the records of the largest decision. More is refused with [`crate::ProposeError::TooLarge`].
pub const ENTRY_BYTES_MAX: usize = 16 * MIB;
/// Records in one entry. More is refused with [`crate::ProposeError::TooLarge`].
pub const ENTRY_RECORDS_MAX: u32 = 1 << 20;
/// Payload of one Append, but for a single larger entry.
pub const APPEND_BYTES_MAX: usize = MIB;
/// Entries of one Append.
pub const APPEND_ENTRIES_MAX: usize = 1024;
/// Appends to one peer that are not answered yet. More waits for an answer.
pub const INFLIGHT_APPENDS_MAX: usize = 16;
/// Payload of those Appends. More waits, but for a single larger entry.
pub const INFLIGHT_BYTES_MAX: usize = 4 * MIB;
/// Bytes of an encoded message. Longer ones are neither written nor read.
pub const MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX + 64 * KIB;

/// Recent entries kept in memory for peers that are almost up to date. Older ones are read back from the shell's log.
pub const CACHE_BYTES_MAX: usize = 8 * MIB;
/// What every entry counts beside its payload, in the cache and in flight.
pub const ENTRY_OVERHEAD_BYTES: usize = 64;
/// Payload given to the shell and not yet durable. A leader then answers [`crate::ProposeError::Busy`]; a follower drops the
/// Append, and the leader sends it again.
pub const UNPERSISTED_BYTES_MAX: usize = 32 * MIB;
/// Persists that the shell has not answered. The same answers as for [`UNPERSISTED_BYTES_MAX`]; votes are dropped too.
pub const PERSISTS_MAX: usize = 256;
/// Entries that a leader took and that are not committed. More is answered [`crate::ProposeError::Busy`].
pub const UNCOMMITTED_ENTRIES_MAX: usize = 4096;
/// Payload of those. The same answer.
pub const UNCOMMITTED_BYTES_MAX: usize = 32 * MIB;
/// Messages that wait until what they say is durable. Further ones are dropped, as if the network had lost them.
pub const HELD_MESSAGES_MAX: usize = 4096;

/// Reads that wait for their barrier. A further one fails at once ([`crate::ReadError::TooMany`], or an empty answer to a peer).
pub const READS_MAX: usize = 16 * 1024;
/// Payload of one chunk of a snapshot.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * KIB;
/// Size of a snapshot. A larger one is neither announced nor taken over.
pub const SNAPSHOT_BYTES_MAX: u64 = 16 * 1024 * MIB as u64;

/// Leader epochs that begin in the log. At three quarters the shell is asked for a snapshot; at the end nobody campaigns and no
/// entry of a further epoch is taken, until a snapshot has shortened the log.
pub const LOG_EPOCHS_MAX: usize = 64 * 1024;
/// Voter sets in the log. At three quarters the shell is asked for a snapshot; at the end voter changes are refused
/// ([`crate::VoterChangeError::LogFull`]) and not taken from a leader, until a snapshot has shortened the log.
pub const LOG_VOTER_SETS_MAX: usize = 4096;
/// The last epoch in which anybody leads. Beyond it nobody campaigns, and messages are refused.
pub const EPOCH_MAX: i32 = i32::MAX - 1;

/// An observer becomes a voter only if it lacks at most this many records.
pub const PROMOTION_LAG_RECORDS_MAX: u64 = 10_000;
/// A leader forgets an observer of which it heard nothing for this many election time-outs.
pub const OBSERVER_SILENCE_TIMEOUTS: u32 = 10;
/// An Append or a chunk is sent again when it is unanswered for this many heartbeat intervals.
pub const RETRY_INTERVALS: u32 = 3;
/// Least number of heartbeats in an election time-out: one or two may be lost without an election.
pub const HEARTBEATS_PER_TIMEOUT_MIN: u32 = 3;
/// Longest election time-out: what is longer is surely a mistake of units.
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);

const _: () = {
    assert!(VOTERS_MAX % 2 == 1, "an even number costs a vote and survives no more");
    assert!(CONTACTS_MAX >= VOTERS_MAX, "every voter can be asked");
    assert!(APPEND_BYTES_MAX <= INFLIGHT_BYTES_MAX, "a full Append may be in flight");
    assert!(ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX && APPEND_BYTES_MAX + APPEND_ENTRIES_MAX * 64 < MESSAGE_BYTES_MAX);
    assert!(SNAPSHOT_CHUNK_BYTES + 1024 < MESSAGE_BYTES_MAX, "a chunk fits a message");
    assert!(ENTRY_BYTES_MAX <= UNPERSISTED_BYTES_MAX && ENTRY_BYTES_MAX <= UNCOMMITTED_BYTES_MAX);
    assert!(INFLIGHT_BYTES_MAX <= CACHE_BYTES_MAX, "what is in flight to one peer is usually cached for the next");
    assert!(LOG_EPOCHS_MAX >= 4 && LOG_VOTER_SETS_MAX >= 4, "three quarters are less than all");
};
