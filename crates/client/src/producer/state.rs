//! What one partition has under way: batches in order, their sequence numbers, and what an answer means for them.
//!
//! ```text
//!            push                   mark_sent                    acknowledged
//!   (taken) -----> Waiting(not_before) <------> InFlight ---------------------------> gone
//!                     |   ^    retry  handle_failure | rejected, late
//!                     |   `-- renumbered             `--> gone, told as failed
//!                     `-- late --> gone, told as failed
//! ```
//!
//! Invariants
//! - Batches are sent first in this order. A batch that is sent again is sent alone, as the first of all.
//! - Until the partition has acknowledged something under the present epoch, only one batch is under way: to a broker that does
//!   not know the producer yet any first sequence is right (KIP-360), so a second batch might get in before the first.
//! - What was ever sent as one batch is sent again as the same batch with the same sequence, until the broker answered that it is
//!   not there. A batch of which no such answer exists (`is_doubtful`) is never given another sequence or epoch: it would
//!   be there twice. It fails as [`Written::Unknown`] instead. This is stricter than Kafka's Java producer.
//! - A gap in the sequence is closed by a new epoch, which fences what may still be on its way under the old one. A batch that was
//!   given up leaves one unless an acknowledgement shows otherwise. Nothing is sent for the first time before that is settled:
//!   behind a gap it would be refused, and if the refusal is lost nobody could say any more whether it is there.
//!
//! What failures mean for an idempotent producer
//!
//! | failure | as the first batch | behind another |
//! |---|---|---|
//! | not sent, passing refusal | again | again |
//! | lost, late | again, doubtful | again, doubtful |
//! | out of order, unknown producer | new epoch | again: the one before it was not there |
//! | invalid epoch | new epoch | new epoch |
//! | too large, several records | split, same sequences | same |
//! | any other | fails; new epoch if others follow | same |
//!
//! A batch that is late while it is under way stays, told as failed, until its answer comes. One that is late while it waits to be
//! sent again is gone at once. Then those behind it of which nobody knows either are sent again as they were; when none is left,
//! either something behind the late one was acknowledged, and it is there, or a new epoch begins.
//!
//! Not here: I/O, which failure an error is (`answers`), the epoch's number when the id is used up (`sender`).

use std::collections::VecDeque;

use quipu_base::{ProducerEpoch, ProducerId, Sequence};
use quipu_env::Instant;

use super::record::Written;

/// Who sends, for brokers that recognise repetitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

impl Identity {
    /// The next epoch; none if this id has had them all.
    fn next_epoch(self) -> Option<Self> {
        let epoch = self.epoch.0.checked_add(1)?;
        Some(Self { epoch: ProducerEpoch(epoch), ..self })
    }
}

/// A batch's number in its partition's pipeline; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BatchNumber(pub(crate) u64);

/// What an attempt to send came to, if not to an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// Nothing of it has left.
    NotSent,
    /// The broker says that it did not take it, for a reason that passes.
    Refused,
    /// Nobody knows whether the broker took it.
    Lost,
    /// OUT_OF_ORDER_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID.
    OutOfOrder,
    /// INVALID_PRODUCER_EPOCH.
    InvalidEpoch,
    /// MESSAGE_TOO_LARGE.
    TooLarge,
    /// The broker will never take it.
    Rejected,
}

/// What to do with a batch after a failure.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Verdict<B> {
    /// Nothing: it is sent again when it is its turn.
    Again,
    /// To be cut into smaller ones, which take its place by [`Pipeline::replace`].
    Split,
    /// It is out of the pipeline and has failed.
    Failed(B, Written),
    /// It is out of the pipeline; that it failed was told before.
    Gone(B),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting { not_before: Instant },
    InFlight { was_first: bool },
}

#[derive(Debug)]
struct Entry<B> {
    number: BatchNumber,
    batch: B,
    record_count: u32,
    base_sequence: Sequence,
    deadline: Instant,
    state: State,
    attempts: u32,
    is_doubtful: bool,
    /// Its failure was told while it was under way.
    is_told: bool,
}

/// One partition's batches under way.
#[derive(Debug)]
pub(crate) struct Pipeline<B> {
    identity: Option<Identity>,
    next_sequence: Sequence,
    has_acknowledged: bool,
    /// Everything numbered lower is in the log, or was before the broker forgot it.
    acknowledged_to: Sequence,
    /// A batch was given up, and perhaps its sequences are missing.
    has_gap: bool,
    needs_epoch: bool,
    next_number: u64,
    entries: VecDeque<Entry<B>>,
    batches_max: usize,
}

/// What to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    pub(crate) number: BatchNumber,
    pub(crate) identity: Option<Identity>,
    pub(crate) base_sequence: Sequence,
}

impl<B> Pipeline<B> {
    /// Nothing under way. `identity`: none without idempotence.
    pub(crate) fn new(identity: Option<Identity>, batches_max: usize) -> Self {
        Self {
            identity,
            next_sequence: if identity.is_some() { Sequence(0) } else { Sequence::NONE },
            has_acknowledged: false,
            acknowledged_to: Sequence(0),
            has_gap: false,
            needs_epoch: false,
            next_number: 0,
            entries: VecDeque::new(),
            batches_max,
        }
    }

    /// Whether there is room for another batch, which could be sent at once.
    pub(crate) fn has_room(&self) -> bool {
        let first_alone = self.identity.is_some() && !self.has_acknowledged && !self.entries.is_empty();
        let all_under_way = self.entries.iter().all(|entry| matches!(entry.state, State::InFlight { .. }));
        !self.needs_epoch
            && !self.is_unresolved()
            && !first_alone
            && all_under_way
            && self.entries.len() < self.batches_max
    }

    /// Whether a batch was given up, or told as failed, and it is not known yet if its sequences are in the log.
    fn is_unresolved(&self) -> bool {
        self.identity.is_some() && (self.has_gap || self.entries.iter().any(|entry| entry.is_told))
    }

    /// What the next batch that is taken is sent with.
    pub(crate) fn upcoming(&self) -> (Option<Identity>, Sequence) {
        (self.identity, self.next_sequence)
    }

    /// Takes a batch as the last one.
    pub(crate) fn push(&mut self, batch: B, record_count: u32, deadline: Instant) {
        let base_sequence = self.next_sequence;
        if self.identity.is_some() {
            self.next_sequence = base_sequence.advance(record_count);
        }
        let entry = self.entry(batch, record_count, base_sequence, deadline);
        self.entries.push_back(entry);
    }

    fn entry(&mut self, batch: B, record_count: u32, base_sequence: Sequence, deadline: Instant) -> Entry<B> {
        let number = BatchNumber(self.next_number);
        self.next_number += 1;
        let state = State::Waiting { not_before: Instant::ZERO };
        Entry {
            number,
            batch,
            record_count,
            base_sequence,
            deadline,
            state,
            attempts: 0,
            is_doubtful: false,
            is_told: false,
        }
    }

    /// The batch whose turn it is, if there is one.
    pub(crate) fn due(&self, now: Instant) -> Option<Due> {
        if self.needs_epoch {
            return None;
        }
        let at = self.entries.iter().position(|entry| matches!(entry.state, State::Waiting { .. }))?;
        let entry = &self.entries[at];
        let may_follow = entry.attempts == 0 && (self.identity.is_none() || self.has_acknowledged);
        let is_turn = if self.is_unresolved() {
            // For the sake of those of which nobody knows.
            at == 0 && self.entries.iter().any(|entry| entry.is_doubtful)
        } else {
            at == 0 || may_follow
        };
        let State::Waiting { not_before } = entry.state else { return None };
        (is_turn && not_before <= now).then_some(Due {
            number: entry.number,
            identity: self.identity,
            base_sequence: entry.base_sequence,
        })
    }

    /// A batch of the pipeline.
    pub(crate) fn batch_mut(&mut self, number: BatchNumber) -> Option<&mut B> {
        self.entries.iter_mut().find(|entry| entry.number == number).map(|entry| &mut entry.batch)
    }

    /// The batch that was due is under way.
    pub(crate) fn mark_sent(&mut self, number: BatchNumber) {
        let at = self.place(number).expect("what was due is in the pipeline");
        let entry = &mut self.entries[at];
        assert!(matches!(entry.state, State::Waiting { .. }), "a batch is sent once at a time");
        entry.state = State::InFlight { was_first: at == 0 };
        entry.attempts += 1;
    }

    /// How often the batch was sent.
    pub(crate) fn attempts(&self, number: BatchNumber) -> u32 {
        self.place(number).map_or(0, |at| self.entries[at].attempts)
    }

    fn place(&self, number: BatchNumber) -> Option<usize> {
        self.entries.iter().position(|entry| entry.number == number)
    }

    /// The batch is in the log, even if it was told before that nobody knows.
    pub(crate) fn handle_success(&mut self, number: BatchNumber) -> Option<B> {
        let entry = self.entries.remove(self.place(number)?)?;
        self.has_acknowledged = true;
        if self.identity.is_some() {
            let end = entry.base_sequence.advance(entry.record_count);
            if is_ahead(end, self.acknowledged_to) {
                self.acknowledged_to = end;
            }
            self.resolve();
        }
        Some(entry.batch)
    }

    /// Finds out whether what was given up is missing, once nothing is left that could still show it.
    fn resolve(&mut self) {
        let may_show = |entry: &Entry<B>| entry.is_doubtful || matches!(entry.state, State::InFlight { .. });
        if self.has_gap && !self.entries.iter().any(may_show) {
            let mut end = self.acknowledged_to;
            let follows = |entry: &Entry<B>| {
                let is_next = entry.base_sequence == end;
                end = entry.base_sequence.advance(entry.record_count);
                is_next
            };
            let is_whole = self.entries.iter().all(follows) && self.next_sequence == end;
            self.has_gap = false;
            self.needs_epoch |= !is_whole;
        }
    }

    /// The attempt failed. The batch is sent again at `again_at` at the earliest, if it is.
    pub(crate) fn handle_failure(
        &mut self,
        number: BatchNumber,
        failure: Failure,
        again_at: Instant,
    ) -> Option<Verdict<B>> {
        let at = self.place(number)?;
        let entry = &mut self.entries[at];
        let State::InFlight { was_first } = entry.state else { return None };
        entry.state = State::Waiting { not_before: again_at };
        entry.is_doubtful |= failure == Failure::Lost;
        if entry.is_told {
            return Some(Verdict::Gone(self.give_up(at).0));
        }
        let is_idempotent = self.identity.is_some();
        let verdict = match failure {
            Failure::NotSent | Failure::Refused | Failure::Lost => Verdict::Again,
            Failure::OutOfOrder if is_idempotent && !was_first => Verdict::Again,
            Failure::OutOfOrder | Failure::InvalidEpoch if is_idempotent => {
                self.needs_epoch = true;
                Verdict::Again
            }
            Failure::TooLarge if entry.record_count > 1 && !entry.is_doubtful => Verdict::Split,
            Failure::OutOfOrder | Failure::InvalidEpoch | Failure::TooLarge | Failure::Rejected => {
                let (batch, written) = self.give_up(at);
                Verdict::Failed(batch, written)
            }
        };
        self.resolve();
        Some(verdict)
    }

    /// Takes a batch out that will not be sent again, and sees to the gap that it leaves.
    fn give_up(&mut self, at: usize) -> (B, Written) {
        let entry = self.entries.remove(at).expect("the caller has found it");
        if self.identity.is_some() {
            if at == self.entries.len() && !entry.is_doubtful {
                self.next_sequence = entry.base_sequence;
            } else {
                self.has_gap = true;
            }
            self.resolve();
        }
        (entry.batch, if entry.is_doubtful { Written::Unknown } else { Written::No })
    }

    /// Puts the parts of a batch in its place.
    pub(crate) fn replace(&mut self, number: BatchNumber, parts: Vec<(B, u32)>) -> Option<B> {
        let at = self.place(number)?;
        let whole = self.entries.remove(at)?;
        assert_eq!(parts.iter().map(|(_, count)| count).sum::<u32>(), whole.record_count, "a split loses no record");
        let mut base_sequence = whole.base_sequence;
        for (place, (batch, record_count)) in (at..).zip(parts) {
            let mut entry = self.entry(batch, record_count, base_sequence, whole.deadline);
            // Sent alone, like everything that is sent again: those behind it were sent before.
            entry.attempts = whole.attempts;
            self.entries.insert(place, entry);
            if self.identity.is_some() {
                base_sequence = base_sequence.advance(record_count);
            }
        }
        Some(whole.batch)
    }

    /// The first batch whose time is over, out of the pipeline or, while it is under way, as a copy of what is told by `tell`.
    /// To be called until there is none.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Expired<'_, B>> {
        let at = self.entries.iter().position(|entry| entry.deadline <= now && !entry.is_told)?;
        if matches!(self.entries[at].state, State::InFlight { .. }) {
            let entry = &mut self.entries[at];
            entry.is_told = true;
            return Some(Expired::UnderWay(&mut entry.batch));
        }
        let (batch, written) = self.give_up(at);
        Some(Expired::Gone(batch, written))
    }

    /// The earliest moment after `now` at which something may be sent again or is late.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let late = self.entries.iter().filter(|entry| !entry.is_told).map(|entry| entry.deadline);
        let again = self.entries.front().and_then(|entry| match entry.state {
            State::Waiting { not_before } if !self.needs_epoch => Some(not_before),
            _ => None,
        });
        late.chain(again).filter(|at| *at > now).min()
    }

    /// The topic was deleted and made again: the new log knows nothing of the producer, so that any first sequence is right.
    pub(crate) fn handle_new_log(&mut self) {
        self.has_acknowledged = false;
    }

    /// Whether its present epoch is one of this id.
    pub(crate) fn has_used(&self, id: ProducerId) -> bool {
        self.identity.is_some_and(|identity| identity.id == id)
    }

    /// Gives a batch up that is not under way.
    pub(crate) fn reject(&mut self, number: BatchNumber) -> Option<(B, Written)> {
        self.place(number).map(|at| self.give_up(at))
    }

    /// Whether a new epoch must begin and can: nothing is under way.
    pub(crate) fn is_epoch_due(&self) -> bool {
        self.needs_epoch && !self.entries.iter().any(|entry| matches!(entry.state, State::InFlight { .. }))
    }

    /// Begins the next epoch of the same id. Error: the id has no further epochs; bring another one to [`Self::begin`].
    pub(crate) fn begin_next_epoch(&mut self) -> Result<Vec<B>, UsedUp> {
        let identity = self.identity.and_then(Identity::next_epoch).ok_or(UsedUp)?;
        Ok(self.begin(identity))
    }

    /// Begins a new epoch: numbers all batches anew but those that may be in the log already, which are given up.
    pub(crate) fn begin(&mut self, identity: Identity) -> Vec<B> {
        assert!(self.is_epoch_due(), "an epoch ends when nothing of it is under way");
        self.identity = Some(identity);
        self.needs_epoch = false;
        self.has_gap = false;
        self.has_acknowledged = false;
        self.acknowledged_to = Sequence(0);
        self.next_sequence = Sequence(0);
        let mut doubtful = Vec::new();
        for mut entry in core::mem::take(&mut self.entries) {
            if entry.is_doubtful {
                doubtful.push(entry.batch);
                continue;
            }
            entry.base_sequence = self.next_sequence;
            self.next_sequence = self.next_sequence.advance(entry.record_count);
            self.entries.push_back(entry);
        }
        doubtful
    }
}

/// Whether a sequence comes after another one, of a partition that has less than 2^30 records under way.
fn is_ahead(sequence: Sequence, of: Sequence) -> bool {
    let ahead = (i64::from(sequence.0) - i64::from(of.0)) & 0x7fff_ffff;
    (1..0x4000_0000).contains(&ahead)
}

/// A batch whose time is over.
pub(crate) enum Expired<'a, B> {
    /// Its fate is not known, and its answer may still come.
    UnderWay(&'a mut B),
    /// Taken out.
    Gone(B, Written),
}

/// A producer id has had all its epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UsedUp;

#[cfg(test)]
mod tests;
