//! Where a consumer stands in one partition, and what it must ask next: where to begin, whether the log is still the one that was
//! read, or for records (KIP-320).
//!
//! ```text
//!            listed                  leader epoch rises, and the epoch of what was read is known
//! Seeking -----------> Fetching ---------------------------> Validating
//!    ^                  |  ^ |                                 |    |
//!    |   out of range,  |  | `----------- fine ----------------'    | the log parts before the position
//!    `- policy says so -'  `- policy says so: at the parting --------+-> Stopped (until somebody seeks)
//! ```
//!
//! Invariants
//! - `position` is the offset after the last record given to the caller; `fetch_offset`, at or after it, that after the last one
//!   fetched.
//! - An answer counts only if nobody has sought since it was asked for, and the leader is the same (`generation`).
//! - The leader epoch sent along never goes back.
//!
//! Not here: I/O, records (`fetched`).

use quipu_base::{BrokerId, LeaderEpoch, Offset};
use quipu_env::Instant;

use super::{config::OffsetReset, record::Position};

/// Counts what makes answers under way worthless.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Generation(u64);

/// ListOffsets' names for the two ends.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    Seeking(Position),
    Validating { epoch: LeaderEpoch },
    Fetching,
    Stopped(Stop),
}

/// Why a partition is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Truncated {
        diverging: Option<Offset>,
    },
    OutOfRange,
    /// The reason is kept by the caller.
    Other,
}

/// What to ask the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// The offset for this time, or for one of the ends.
    List { timestamp: i64 },
    /// Where this epoch ends.
    EpochEnd { epoch: LeaderEpoch },
    /// Records from this offset on; the epoch of the one before it, if it is known.
    Records { offset: Offset, last_epoch: LeaderEpoch },
}

/// One partition's position.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    phase: Phase,
    position: Offset,
    /// Epoch of the last record before `position`.
    epoch: LeaderEpoch,
    fetch_offset: Offset,
    fetch_epoch: LeaderEpoch,
    leader: Option<BrokerId>,
    /// The largest one known.
    leader_epoch: LeaderEpoch,
    generation: Generation,
    not_before: Instant,
    pub(crate) failures: u32,
    policy: OffsetReset,
}

impl Cursor {
    pub(crate) fn new(position: Position, policy: OffsetReset) -> Self {
        let mut cursor = Self {
            phase: Phase::Fetching,
            position: Offset::ZERO,
            epoch: LeaderEpoch::NONE,
            fetch_offset: Offset::ZERO,
            fetch_epoch: LeaderEpoch::NONE,
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            generation: Generation::default(),
            not_before: Instant::ZERO,
            failures: 0,
            policy,
        };
        cursor.seek(position);
        cursor
    }

    /// Goes somewhere else. What lies fetched is worthless.
    pub(crate) fn seek(&mut self, position: Position) {
        self.become_new();
        self.not_before = Instant::ZERO;
        self.failures = 0;
        match position {
            Position::Offset(offset) => self.become_fetching(offset, LeaderEpoch::NONE),
            Position::OffsetAndEpoch(offset, epoch) => {
                self.become_fetching(offset, epoch);
                if epoch != LeaderEpoch::NONE {
                    self.phase = Phase::Validating { epoch };
                }
            }
            other => self.phase = Phase::Seeking(other),
        }
    }

    fn become_new(&mut self) {
        self.generation.0 += 1;
    }

    fn become_fetching(&mut self, offset: Offset, epoch: LeaderEpoch) {
        self.phase = Phase::Fetching;
        (self.position, self.epoch) = (offset, epoch);
        (self.fetch_offset, self.fetch_epoch) = (offset, epoch);
    }

    /// The offset after the last record given to the caller, once it is known where to begin.
    pub(crate) fn position(&self) -> Option<Offset> {
        (!matches!(self.phase, Phase::Seeking(_))).then_some(self.position)
    }

    /// The epoch of the record before the position, if it is known.
    pub(crate) fn epoch(&self) -> Option<LeaderEpoch> {
        Some(self.epoch).filter(|epoch| *epoch != LeaderEpoch::NONE)
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn leader(&self) -> Option<(BrokerId, LeaderEpoch)> {
        self.leader.map(|leader| (leader, self.leader_epoch))
    }

    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    pub(crate) fn stopped(&self) -> Option<Stop> {
        if let Phase::Stopped(stop) = &self.phase { Some(*stop) } else { None }
    }

    /// What is to be asked, at `not_before` at the earliest.
    pub(crate) fn need(&self) -> Option<Need> {
        Some(match &self.phase {
            Phase::Seeking(Position::Start) => Need::List { timestamp: EARLIEST },
            Phase::Seeking(Position::Timestamp(timestamp)) => Need::List { timestamp: timestamp.0.max(0) },
            Phase::Seeking(_) => Need::List { timestamp: LATEST },
            Phase::Validating { epoch } => Need::EpochEnd { epoch: *epoch },
            Phase::Fetching => Need::Records { offset: self.fetch_offset, last_epoch: self.fetch_epoch },
            Phase::Stopped(_) => return None,
        })
    }

    /// Learns who leads. True: what lies fetched is worthless until the log has been found to be the same.
    pub(crate) fn handle_leader(&mut self, leader: Option<(BrokerId, LeaderEpoch)>) -> bool {
        let Some((broker, leader_epoch)) = leader else {
            self.leader = None;
            return false;
        };
        let is_old = leader_epoch < self.leader_epoch && leader_epoch != LeaderEpoch::NONE;
        if is_old || (self.leader == Some(broker) && leader_epoch == self.leader_epoch) {
            return false;
        }
        let is_newer = leader_epoch > self.leader_epoch;
        self.leader = Some(broker);
        self.leader_epoch = leader_epoch;
        self.become_new();
        if self.phase == Phase::Fetching && is_newer && self.epoch != LeaderEpoch::NONE {
            (self.fetch_offset, self.fetch_epoch) = (self.position, self.epoch);
            self.phase = Phase::Validating { epoch: self.epoch };
            return true;
        }
        // Answers to what was asked under the old leader don't count any more: they are asked for again.
        if let Phase::Validating { epoch } = &mut self.phase {
            *epoch = self.epoch;
        }
        false
    }

    /// The topic was deleted and made again: it is another log. True: what lies fetched is worthless.
    pub(crate) fn handle_new_topic(&mut self) -> bool {
        self.become_new();
        self.leader = None;
        self.leader_epoch = LeaderEpoch::NONE;
        if matches!(self.phase, Phase::Seeking(_) | Phase::Stopped(_)) {
            return false;
        }
        if self.position == Offset::ZERO {
            self.become_fetching(Offset::ZERO, LeaderEpoch::NONE);
            return true;
        }
        match self.policy {
            OffsetReset::Error => self.phase = Phase::Stopped(Stop::Truncated { diverging: Some(Offset::ZERO) }),
            policy => self.reset(policy),
        }
        true
    }

    /// The answer to [`Need::List`]. An offset of -1 is none: no record is that young.
    ///
    /// The epoch that comes with it is not taken: it may be that of a leader that has not written anything yet.
    pub(crate) fn handle_listed(&mut self, offset: Offset) {
        if !matches!(self.phase, Phase::Seeking(_)) {
            return;
        }
        self.failures = 0;
        if offset.0 < 0 {
            self.phase = Phase::Seeking(Position::End);
        } else {
            self.become_fetching(offset, LeaderEpoch::NONE);
        }
    }

    /// The answer to [`Need::EpochEnd`], and what a fetch says of a log that parts from the one that was read: the largest epoch
    /// that both may share, and where it ends. -1: nobody knows.
    pub(crate) fn handle_epoch_end(&mut self, epoch: LeaderEpoch, end_offset: Offset) {
        self.failures = 0;
        let is_known = epoch >= LeaderEpoch(0) && end_offset.0 >= 0;
        if is_known && end_offset >= self.position && epoch >= self.epoch {
            if matches!(self.phase, Phase::Validating { .. }) {
                self.phase = Phase::Fetching;
            }
            (self.fetch_offset, self.fetch_epoch) = (self.position, self.epoch);
            return;
        }
        let diverging = is_known.then(|| end_offset.min(self.position));
        self.become_new();
        match (self.policy, diverging) {
            (OffsetReset::Error, _) => self.phase = Phase::Stopped(Stop::Truncated { diverging }),
            (_, Some(diverging)) => self.become_fetching(diverging, epoch),
            (policy, None) => self.reset(policy),
        }
    }

    /// The position is not in the log.
    pub(crate) fn handle_out_of_range(&mut self) {
        self.become_new();
        match self.policy {
            OffsetReset::Error => self.phase = Phase::Stopped(Stop::OutOfRange),
            policy => self.reset(policy),
        }
    }

    fn reset(&mut self, policy: OffsetReset) {
        self.phase = Phase::Seeking(if policy == OffsetReset::Start { Position::Start } else { Position::End });
    }

    /// Nothing is read any more until somebody seeks.
    pub(crate) fn stop(&mut self) {
        self.become_new();
        self.phase = Phase::Stopped(Stop::Other);
    }

    /// A question failed in a way that passes: it is asked again, at `again_at` at the earliest.
    pub(crate) fn handle_trouble(&mut self, again_at: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = again_at;
    }

    /// Batches were fetched, up to this offset.
    pub(crate) fn handle_fetched(&mut self, next: Offset, epoch: LeaderEpoch) {
        self.failures = 0;
        if next > self.fetch_offset {
            (self.fetch_offset, self.fetch_epoch) = (next, epoch);
        }
    }

    /// The caller was given everything up to this offset.
    pub(crate) fn handle_consumed(&mut self, next: Offset, epoch: LeaderEpoch) {
        if next > self.position {
            (self.position, self.epoch) = (next, epoch);
        }
    }
}

#[cfg(test)]
mod tests;
