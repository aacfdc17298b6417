//! What is to happen when: one queue for timers, network and disks, driven by a single madsim timer.
//!
//! madsim's own sleeps last at least a millisecond, and stay behind when they are dropped. Here an entry is due to the
//! nanosecond, entries of one moment come in the order in which they were made, and a cancelled one is gone.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::collections::BTreeMap;

use crate::world::World;

pub(crate) type Action = Box<dyn FnOnce(&World) + Send>;

/// Names an entry: nanoseconds since the run began, and a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EntryId {
    at: u64,
    number: u64,
}

#[derive(Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<EntryId, Action>,
    next_number: u64,
    driver: Option<Waker>,
    /// When madsim's timer ends, as far as one is set that has not ended.
    armed: Option<u64>,
    is_over: bool,
}

impl Agenda {
    /// Adds an entry; the waker, if there is one, is to be woken.
    pub(crate) fn add(&mut self, at: u64, action: Action) -> (EntryId, Option<Waker>) {
        let id = EntryId { at, number: self.next_number };
        self.next_number += 1;
        self.entries.insert(id, action);
        let sooner = self.armed.is_none_or(|armed| at < armed);
        (id, if sooner { self.driver.take() } else { None })
    }

    pub(crate) fn cancel(&mut self, id: EntryId) -> Option<Action> {
        self.entries.remove(&id)
    }

    fn take_due(&mut self, now: u64) -> Option<Action> {
        let first = self.entries.first_entry()?;
        if first.key().at <= now { Some(first.remove()) } else { None }
    }

    /// When the timer must be set to, if it isn't already.
    fn rearm(&mut self, now: u64) -> Option<u64> {
        if self.armed.is_some_and(|armed| armed <= now) {
            self.armed = None;
        }
        let next = self.entries.first_key_value()?.0.at;
        if self.armed.is_some_and(|armed| armed <= next) {
            return None;
        }
        self.armed = Some(next);
        Some(next)
    }

    /// Nothing will happen any more. What is taken out is to be dropped and woken: the driver holds the world, and the
    /// world's agenda the driver's waker.
    pub(crate) fn end(&mut self) -> (BTreeMap<EntryId, Action>, Option<Waker>) {
        self.is_over = true;
        (core::mem::take(&mut self.entries), self.driver.take())
    }
}

/// Carries out what is due, to the run's end.
pub(crate) struct Driver {
    pub(crate) world: World,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = &self.world;
        loop {
            let now = world.now();
            let due = world.agenda().take_due(now);
            if let Some(action) = due {
                action(world);
                continue;
            }
            let mut agenda = world.agenda();
            if agenda.is_over {
                return Poll::Ready(());
            }
            agenda.driver = Some(context.waker().clone());
            let Some(deadline) = agenda.rearm(now) else { return Poll::Pending };
            drop(agenda);
            let time = world.time();
            let mut sleep = Box::pin(time.sleep(Duration::ZERO));
            sleep.as_mut().reset(time.now_instant() + Duration::from_nanos(deadline - now));
            // The first poll hands the waker to madsim's timer, which keeps it when the sleep is dropped.
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
