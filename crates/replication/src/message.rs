//! What replicas of one partition say to each other.
//!
//! ```text
//! leader of e             member                         what it is for
//! Seal                 -> Report | Superseded            an election: promise e, tell your log
//! PieceRequest         -> Piece | PieceRefused           adoption, and repair of damaged ranges
//! Append               -> Acknowledged | Copied          replication; an empty one after activation, or to tell a log start
//!                         | Mismatch | Superseded
//! HighWatermark        ->                                a moved high watermark, when no append tells it
//!                      <- Hello                          a member may be served again, or wants an append
//! ```
//!
//! The records of an append or a piece do not pass through here: the shell reads `start..end` from its log when it sends, and keeps
//! the bytes beside the message when it receives. It may send fewer, see [`Append::shorten`] and [`Piece::shorten`].
//!
//! Invariant: every message carries the leader epoch under which it is sent.
//!
//! Not here: who sent a message (`Sender`), framing of many partitions.

use quipu_base::{BrokerEpoch, LeaderEpoch, Offset};
use serde::{Deserialize, Serialize};

use crate::{
    epochs::{EpochTable, LogShape},
    limits::EPOCHS_PER_MESSAGE_MAX,
    refusal::Malformed,
};

/// A message between replicas of one partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Promise this epoch and report.
    Seal(LeaderEpoch),
    /// The answer, under the promised epoch.
    Report(Report),
    /// A message of an epoch lower than the one promised.
    Superseded {
        /// The epoch of the message.
        epoch: LeaderEpoch,
        /// What is promised.
        promised: LeaderEpoch,
    },
    /// Wants records of the receiver's log.
    PieceRequest {
        /// The epoch of the asking candidate, or of the leader asked for a repair.
        epoch: LeaderEpoch,
        /// The first record wanted.
        start: Offset,
        /// The end of what is wanted.
        end: Offset,
    },
    /// Records, see [`Piece`].
    Piece(Piece),
    /// The source has promised something newer, is not sound, or does not have these records.
    PieceRefused {
        /// The epoch of the request.
        epoch: LeaderEpoch,
    },
    /// Records of the leader's log, or none.
    Append(Append),
    /// Synced, labelled, proven to match up to `end`. This one counts.
    Acknowledged(Progress),
    /// Synced and proven to match up to `end`, but not labelled, or faulty: counts for nothing, tells where to go on.
    Copied(Progress),
    /// The append does not fit this log.
    Mismatch {
        /// The epoch of the append.
        epoch: LeaderEpoch,
        /// Where the append began.
        start: Offset,
        /// The log that it did not fit.
        log: LogShape,
    },
    /// The leader's high watermark.
    HighWatermark {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// Everything below is committed.
        high_watermark: Offset,
    },
    /// The sender may be served again, or wants an append stamped with its incarnation.
    Hello {
        /// The leader epoch that it knows.
        epoch: LeaderEpoch,
    },
}

/// A sealed member's log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The epoch promised.
    pub epoch: LeaderEpoch,
    /// The epoch whose leader's log the member has fully adopted.
    pub label: LeaderEpoch,
    /// Its log.
    pub log: LogShape,
    /// Its high watermark.
    pub high_watermark: Offset,
    /// It promises, but does not count.
    pub is_faulty: bool,
}

/// How far a follower's log is synced and proven to match the leader's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The end of what is proven to match.
    pub end: Offset,
    /// The log start that is synced.
    pub log_start: Offset,
    /// What it knows to be committed.
    pub high_watermark: Offset,
}

/// Records `start..end` of a source's log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// The epoch of the request.
    pub epoch: LeaderEpoch,
    /// The first record.
    pub start: Offset,
    /// The end of the piece.
    pub end: Offset,
    /// The epochs of the records.
    pub epochs: EpochTable,
    /// Bytes from `start` to the end of what was wanted, this piece included. Filled in by the shell that sends.
    pub wanted_bytes: u64,
}

/// Records `start..end` of the leader's log, and what the follower needs to know with them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Append {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The first record.
    pub start: Offset,
    /// The end of the records; `start` if there are none.
    pub end: Offset,
    /// The epoch of the record before `start`; [`LeaderEpoch::NONE`] if that is not known any more.
    pub previous_epoch: LeaderEpoch,
    /// The epochs of the records.
    pub epochs: EpochTable,
    /// Where the leader's own epoch begins.
    pub epoch_start: Offset,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's log start.
    pub leader_log_start: Offset,
    /// The leader's log end.
    pub leader_log_end: Offset,
    /// The incarnation of the follower for which this is meant, as far as the leader knows it.
    pub incarnation: Option<BrokerEpoch>,
}

impl Append {
    /// Makes it an append of the records below `end` only. For a shell that sends a large range in parts: the follower says
    /// how far it came, and the leader goes on from there. An `end` outside the range changes nothing.
    pub fn shorten(&mut self, end: Offset) {
        if self.start <= end && end < self.end {
            self.end = end;
            self.epochs.truncate(end);
        }
    }

    /// Errors: what is impossible about it.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let start_known = self.leader_log_start <= self.start && self.end <= self.leader_log_end;
        let bounds = Offset::ZERO <= self.leader_log_start
            && self.high_watermark >= self.leader_log_start
            && self.high_watermark <= self.leader_log_end
            && Offset::ZERO <= self.epoch_start
            && self.epoch_start <= self.leader_log_end;
        if !start_known || !bounds {
            return Err(Malformed::Offsets);
        }
        check_records(self.epoch, self.start, self.end, &self.epochs)?;
        let first = self.epochs.epoch_at(self.start);
        if self.previous_epoch > self.epoch || (self.start < self.end && self.previous_epoch > first) {
            return Err(Malformed::Epochs);
        }
        Ok(())
    }
}

impl Piece {
    /// Makes it a piece of the records below `end` only.
    pub fn shorten(&mut self, end: Offset) {
        if self.start < end && end < self.end {
            self.end = end;
            self.epochs.truncate(end);
        }
    }

    pub(crate) fn check(&self) -> Result<(), Malformed> {
        if self.start >= self.end {
            return Err(Malformed::Offsets);
        }
        check_records(self.epoch, self.start, self.end, &self.epochs)
    }
}

impl Report {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        if !self.log.is_possible() || self.log.epochs.entries().len() > EPOCHS_PER_MESSAGE_MAX {
            return Err(Malformed::Epochs);
        }
        let known = self.label <= self.epoch && self.log.epochs.latest() <= self.epoch;
        if !known || self.high_watermark < self.log.log_start || self.high_watermark > self.log.log_end {
            return Err(Malformed::Offsets);
        }
        Ok(())
    }
}

/// Every record has an epoch, none newer than the leader's.
fn check_records(epoch: LeaderEpoch, start: Offset, end: Offset, epochs: &EpochTable) -> Result<(), Malformed> {
    if start < Offset::ZERO || end < start {
        return Err(Malformed::Offsets);
    }
    let entries = epochs.entries();
    let sorted = entries.len() <= EPOCHS_PER_MESSAGE_MAX && EpochTable::new(entries.to_vec()).is_some();
    let covered = match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => first.start == start && last.start < end && last.epoch <= epoch,
        _ => start == end,
    };
    if sorted && covered { Ok(()) } else { Err(Malformed::Epochs) }
}
