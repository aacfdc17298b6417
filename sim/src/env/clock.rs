//! Virtual time, as one process sees it.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{self, Poll, Waker},
    time::Duration,
};

use quipu_base::Timestamp;
use quipu_env::{Clock, Instant, Sleep};

use super::{
    Context,
    task::{BUDGET_NANOS, is_budget_spent},
};
use crate::agenda::EntryId;

/// The wall clock when a run begins: 2027-01-15 08:00:00 UTC.
const WALL_START_MS: i64 = 1_800_000_000_000;

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
        Instant::from_nanos(self.context.world.now() + self.context.life.clock_base)
    }

    fn wall(&self) -> Timestamp {
        let elapsed = Duration::from_nanos(self.context.world.now()).as_millis();
        let elapsed = i64::try_from(elapsed).expect("a run is shorter than 292 million years");
        Timestamp(WALL_START_MS + elapsed + self.context.node.wall_offset.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, deadline: Instant) -> SimSleep {
        SimSleep { context: self.context.clone(), deadline, waiting: None }
    }
}

/// A timer.
pub struct SimSleep {
    context: Context,
    deadline: Instant,
    /// The entry in the agenda, and whom it wakes.
    waiting: Option<(EntryId, Waker)>,
}

impl SimSleep {
    fn stop(&mut self) {
        if let Some((entry, _)) = self.waiting.take() {
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
        // In the run's time. A deadline before the process's clock began is past.
        let mut at = self.deadline.as_nanos().saturating_sub(self.context.life.clock_base);
        if at <= self.context.world.now() {
            self.stop();
            if !is_budget_spent() {
                return Poll::Ready(());
            }
            at = self.context.world.now() + BUDGET_NANOS;
        }
        if self.waiting.as_ref().is_none_or(|(_, waker)| !waker.will_wake(task.waker())) {
            self.stop();
            let waker = task.waker().clone();
            let number = self.context.node.number;
            let entry = self.context.world.schedule(at, move |world| {
                world.record(Some(number), "timer", at);
                waker.wake();
            });
            self.waiting = Some((entry, task.waker().clone()));
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
