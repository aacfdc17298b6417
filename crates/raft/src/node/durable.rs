//! What is on its way to the disk, and what waits for it.
//!
//! Invariants
//! - Each call of a `handle_*` makes at most one [`Persist`]; their numbers rise by one, and they become durable in that order.
//! - A message that promises something (a vote, an acknowledgement, this epoch) waits in `held` until that is durable.
//! - `end` is up to where the log, as it is now, is durable: what was cut off since a persist was made does not count.
//!
//! Not here: the disk.

use core::{
    hash::{Hash, Hasher},
    mem,
};
use std::collections::VecDeque;

use quipu_base::Offset;
use quipu_env::{Instant, Probe};

use super::Node;
use crate::{
    effect::{Effect, Persist},
    entry::{Entry, SnapshotMeta},
    limits::{HELD_MESSAGES_MAX, PERSISTS_MAX, UNPERSISTED_BYTES_MAX},
    message::{Body, Message},
    time::When,
    voters::ReplicaKey,
};

/// What is on its way to the disk.
#[derive(Clone)]
pub(super) struct Durable {
    /// The log is durable before this.
    pub(super) end: Offset,
    /// The last number answered.
    pub(super) number: u64,
    /// The last number given out.
    pub(super) last: u64,
    /// The last number that holds a hard state.
    pub(super) hard: u64,
    pub(super) outstanding: VecDeque<Outstanding>,
    pub(super) outstanding_bytes: usize,
    /// Comes out at the end of the call.
    pub(super) pending: Pending,
    /// Messages and the numbers that they wait for.
    pub(super) held: VecDeque<(u64, Message)>,
}

#[derive(Clone)]
pub(super) struct Outstanding {
    number: u64,
    /// The log's end with it, or less if some of that was cut off since.
    end: Offset,
    bytes: usize,
    pub(super) since: When,
}

#[derive(Clone, Hash, Default)]
pub(super) struct Pending {
    pub(super) hard_state: bool,
    pub(super) install: Option<SnapshotMeta>,
    pub(super) truncate: Option<Offset>,
    pub(super) start: Offset,
    pub(super) entries: Vec<Entry>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        !self.hard_state && self.install.is_none() && self.truncate.is_none() && self.entries.is_empty()
    }
}

/// Numbers count from the last answered one: how many there were makes no difference.
impl Hash for Durable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ahead = |number: u64| number.saturating_sub(self.number);
        (self.end, ahead(self.last), ahead(self.hard), &self.pending).hash(state);
        self.outstanding.iter().for_each(|one| (ahead(one.number), one.end).hash(state));
        self.held.iter().for_each(|(wait, message)| (ahead(*wait), message).hash(state));
    }
}

impl Durable {
    pub(super) fn new(end: Offset) -> Self {
        let (outstanding, held, pending) = (VecDeque::new(), VecDeque::new(), Pending::default());
        Self { end, number: 0, last: 0, hard: 0, outstanding, outstanding_bytes: 0, pending, held }
    }

    /// The number with which everything so far is durable.
    pub(super) fn barrier(&self) -> u64 {
        if self.pending.is_empty() { self.last } else { self.last + 1 }
    }

    /// The log was cut off: what lies behind `offset` will be other entries, of later numbers.
    pub(super) fn on_truncated(&mut self, offset: Offset) {
        self.end = self.end.min(offset);
        for outstanding in &mut self.outstanding {
            outstanding.end = outstanding.end.min(offset);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.outstanding.len() >= PERSISTS_MAX || self.outstanding_bytes >= UNPERSISTED_BYTES_MAX
    }
}

impl<P: Probe> Node<P> {
    /// The [`Persist`] effects up to `number` are durable.
    ///
    /// # Panics
    /// If no such number was given out.
    pub fn handle_persisted(&mut self, now: Instant, number: u64) {
        self.advance(now);
        assert!(number <= self.durable.last, "only what was given out can be durable");
        while self.durable.outstanding.front().is_some_and(|first| first.number <= number) {
            let first = self.durable.outstanding.pop_front().expect("it is there");
            self.durable.number = first.number;
            self.durable.end = first.end;
            self.durable.outstanding_bytes -= first.bytes;
        }
        while self.durable.held.front().is_some_and(|(wait, _)| *wait <= self.durable.number) {
            let (_, message) = self.durable.held.pop_front().expect("it is there");
            self.effects.push(Effect::Send(message));
        }
        self.log.shrink_cache(self.durable.end);
        self.on_vote_persisted();
        self.finish();
    }

    pub(super) fn flush(&mut self) {
        if self.durable.pending.is_empty() {
            return;
        }
        let pending = mem::take(&mut self.durable.pending);
        self.durable.last += 1;
        let number = self.durable.last;
        if pending.hard_state {
            self.durable.hard = number;
        }
        let bytes = pending.entries.iter().map(Entry::cost).sum();
        let end = self.log.end().offset;
        self.durable.outstanding_bytes += bytes;
        self.durable.outstanding.push_back(Outstanding { number, end, bytes, since: self.now });
        let persist = Persist {
            number,
            hard_state: pending.hard_state.then_some(self.hard),
            install: pending.install,
            truncate: pending.truncate,
            start: if pending.entries.is_empty() { end } else { pending.start },
            entries: pending.entries,
        };
        self.effects.push(Effect::Persist(persist));
    }

    pub(super) fn append(&mut self, entry: Entry) {
        if self.durable.pending.entries.is_empty() {
            self.durable.pending.start = self.log.end().offset;
        }
        self.durable.pending.entries.push(entry.clone());
        self.log.push(entry);
    }

    /// Says it once this epoch is durable.
    pub(super) fn send(&mut self, to: ReplicaKey, body: Body) {
        let hard = if self.durable.pending.hard_state { self.durable.last + 1 } else { self.durable.hard };
        self.send_after(hard, to, body);
    }

    /// Says it once everything up to now is durable.
    pub(super) fn send_durable(&mut self, to: ReplicaKey, body: Body) {
        self.send_after(self.durable.barrier(), to, body);
    }

    pub(super) fn send_after(&mut self, number: u64, to: ReplicaKey, body: Body) {
        let message = Message { from: self.config.replica, to, epoch: self.hard.epoch, body };
        if number <= self.durable.number {
            self.effects.push(Effect::Send(message));
        } else if self.durable.held.len() < HELD_MESSAGES_MAX {
            let at = self.durable.held.partition_point(|(wait, _)| *wait <= number);
            self.durable.held.insert(at, (number, message));
        }
    }
}
