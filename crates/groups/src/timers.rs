//! When something is due, for many owners that move their deadlines far more often than they meet them.
//!
//! Invariants
//! - An owner's [`Alarm`] holds the truth; the queue holds at most one live entry for it, at that time or an earlier one.
//! - An entry that comes too early is put back; one whose owner is gone, or has another entry, is dropped.
//!
//! A heartbeat so moves its alarm, and nothing else.

use std::{collections::BTreeSet, sync::Arc};

use quipu_env::Instant;

/// Whose.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Owner {
    /// A rebalance's end.
    Join,
    /// The end of the time for members to ask for their assignments.
    Sync,
    /// A member's session.
    Session(Arc<str>),
    /// A member that was given its id and has to come back.
    Pending(Arc<str>),
    /// The session of a member of the consumer protocol.
    ConsumerSession(Arc<str>),
    /// The end of the time for a member to give partitions up.
    Revocation(Arc<str>),
    /// The end of the time for a member of the classic protocol in a group of the other to join again, or to ask for its assignment.
    Step(Arc<str>),
}

/// One owner's deadline.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Alarm {
    due: Option<Instant>,
    queued: Option<Instant>,
}

/// What an entry of the queue says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ring {
    /// It is due.
    Due,
    /// Nothing is.
    Early,
}

/// All of a shard's.
#[derive(Default, Debug)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, Arc<str>, Owner)>,
}

impl Timers {
    /// Sets or moves an alarm.
    pub(crate) fn set(&mut self, alarm: &mut Alarm, group: &Arc<str>, owner: Owner, due: Instant) {
        alarm.due = Some(due);
        if alarm.queued.is_some_and(|queued| queued <= due) {
            return;
        }
        if let Some(queued) = alarm.queued.replace(due) {
            self.queue.remove(&(queued, Arc::clone(group), owner.clone()));
        }
        self.queue.insert((due, Arc::clone(group), owner));
    }

    /// The first entry that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, Arc<str>, Owner)> {
        if self.queue.first().is_some_and(|(at, ..)| *at <= now) { self.queue.pop_first() } else { None }
    }

    /// An entry of this owner's came out of the queue: is it due? It goes back if it is too early.
    pub(crate) fn ring(
        &mut self,
        alarm: &mut Alarm,
        (at, group, owner): (Instant, &Arc<str>, &Owner),
        now: Instant,
    ) -> Ring {
        if alarm.queued != Some(at) {
            return Ring::Early;
        }
        alarm.queued = None;
        match alarm.due {
            None => Ring::Early,
            Some(due) if due <= now => {
                alarm.due = None;
                Ring::Due
            }
            Some(due) => {
                self.set(alarm, group, owner.clone(), due);
                Ring::Early
            }
        }
    }

    /// When the queue is to be looked at.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, ..)| *at)
    }
}

impl Alarm {
    /// Whether something is due.
    pub(crate) fn is_set(&self) -> bool {
        self.due.is_some()
    }

    /// Nothing is due any more.
    pub(crate) fn clear(&mut self) {
        self.due = None;
    }
}
