//! Who waits for a partition to grow, or to change in another way that its readers are told of.
//!
//! Invariants
//! - A waiter is registered before it looks at the log for the last time, so that no wake-up is lost in between.
//! - A waiter leaves no trace once its registration is dropped, however long the partition stays quiet.
//!
//! Not here: what a waiter does when woken ([`crate::handlers`]'s fetch looks again).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// The waiters of one partition.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
}

enum Waiter {
    One(Arc<Notify>),
    Among(Arc<Changes>, u32),
}

/// For somebody who waits for many partitions: the numbers of those that changed since they were last taken.
#[derive(Default)]
pub(crate) struct Changes {
    changed: Mutex<BTreeSet<u32>>,
    /// Told of the first change after they were taken.
    pub(crate) notify: Notify,
}

/// A place among the [`Waiters`]; dropping it gives the place up.
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    key: u64,
}

impl Waiters {
    /// Has `notify` told of every change until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, notify: &Arc<Notify>) -> Registration {
        self.enter(Waiter::One(Arc::clone(notify)))
    }

    /// Has every change noted in `changes` under `number` until the registration is dropped.
    pub(crate) fn register_among(self: &Arc<Self>, changes: &Arc<Changes>, number: u32) -> Registration {
        self.enter(Waiter::Among(Arc::clone(changes), number))
    }

    fn enter(self: &Arc<Self>, waiter: Waiter) -> Registration {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = inner.next;
        inner.next += 1;
        inner.waiting.insert(key, waiter);
        Registration { waiters: Arc::clone(self), key }
    }

    /// Tells every waiter. `Notify` keeps one wake-up for a waiter that is not waiting yet.
    pub(crate) fn wake(&self) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in inner.waiting.values() {
            match waiter {
                Waiter::One(notify) => notify.notify_one(),
                Waiter::Among(changes, number) => changes.note(*number),
            }
        }
    }
}

impl Changes {
    fn note(&self, number: u32) {
        let is_new = self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        if is_new {
            self.notify.notify_one();
        }
    }

    /// What changed since the last call.
    pub(crate) fn take(&self) -> BTreeSet<u32> {
        core::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(notify: &Notify) -> bool {
        let wait = core::pin::pin!(notify.notified());
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        wait.poll(&mut context).is_ready()
    }

    #[test]
    fn a_wake_up_before_the_wait_is_kept_and_nothing_is_left_behind() {
        let waiters = Arc::new(Waiters::default());
        let notify = Arc::new(Notify::new());
        let registration = waiters.register(&notify);
        waiters.wake();
        assert!(is_told(&notify));
        drop(registration);
        assert!(waiters.0.lock().expect("not poisoned").waiting.is_empty());
    }

    #[test]
    fn changes_say_which_partition_it_was_and_wake_once() {
        let partitions = [Arc::new(Waiters::default()), Arc::new(Waiters::default())];
        let changes = Arc::new(Changes::default());
        let registrations: Vec<_> = (0..).zip(&partitions).map(|(n, one)| one.register_among(&changes, n)).collect();
        partitions[1].wake();
        partitions[1].wake();
        assert!(is_told(&changes.notify) && !is_told(&changes.notify));
        assert_eq!(changes.take(), BTreeSet::from([1]));
        partitions[0].wake();
        assert!(is_told(&changes.notify), "whoever has taken is told again");
        assert_eq!(changes.take(), BTreeSet::from([0]));
        drop(registrations);
        partitions[0].wake();
        assert_eq!(changes.take(), BTreeSet::new());
    }
}
