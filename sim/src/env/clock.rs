//! Virtual time, as one process sees it.

use core::{
    future::Future,
    pin::Pin,
    task::{self, Poll, Waker},
};

use quipu_base::Timestamp;
use quipu_env::{Clock, Instant, Sleep};

use super::{
    Context,
    task::{BUDGET_NANOS, is_budget_spent},
};
use crate::{agenda::EntryId, world::lock};

/// Reads virtual time. The monotonic clock of each process has its own zero; the wall clock of each node can be set wrong.
#[derive(Clone)]
pub struct SimClock {
    context: Context,
}

impl SimClock {
    pub(super) const fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Clock for SimClock {
    type Sleep = SimSleep;

    fn now(&self) -> Instant {
        Instant::from_nanos(self.context.local_now() + self.context.life.clock_base)
    }

    fn wall(&self) -> Timestamp {
        let (wall, fault) = lock(&self.context.node.clock).wall(self.context.world.now());
        fault.into_iter().for_each(|kind| self.context.world.fault_happened(kind));
        Timestamp(wall)
    }

    fn sleep_until(&self, deadline: Instant) -> SimSleep {
        SimSleep { context: self.context.clone(), deadline, waiting: None }
    }
}

impl Context {
    /// The machine's own time, in nanoseconds since the run began.
    fn local_now(&self) -> u64 {
        let (local, drifts) = lock(&self.node.clock).local(self.world.now());
        if drifts {
            self.world.fault_happened("clock-drift");
        }
        local
    }
}

/// A timer.
pub struct SimSleep {
    context: Context,
    deadline: Instant,
    /// The entry in the agenda, when it is due, and whom it wakes.
    waiting: Option<(EntryId, u64, Waker)>,
}

impl SimSleep {
    fn stop(&mut self) {
        if let Some((entry, _, _)) = self.waiting.take() {
            self.context.world.cancel(entry);
        }
    }
}

impl Future for SimSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        if self.context.is_over() {
            return Poll::Pending;
        }
        // In the machine's own time. A deadline before the process's clock began is past.
        let local = self.deadline.as_nanos().saturating_sub(self.context.life.clock_base);
        let now = self.context.world.now();
        let mut at = lock(&self.context.node.clock).run_time(local);
        if at <= now {
            self.stop();
            if !is_budget_spent() {
                return Poll::Ready(());
            }
            at = now + BUDGET_NANOS;
        }
        // An entry that was due before has woken the task too early: the clock's rate has changed.
        let waits = |(_, due, waker): &(EntryId, u64, Waker)| *due > now && waker.will_wake(task.waker());
        if !self.waiting.as_ref().is_some_and(waits) {
            self.stop();
            let waker = task.waker().clone();
            let number = self.context.node.number;
            let entry = self.context.world.schedule(at, move |world| {
                world.record(Some(number), "timer", at);
                waker.wake();
            });
            self.waiting = Some((entry, at, task.waker().clone()));
        }
        Poll::Pending
    }
}

impl Sleep for SimSleep {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.stop();
        self.deadline = deadline;
    }
}

impl Drop for SimSleep {
    fn drop(&mut self) {
        self.stop();
    }
}
