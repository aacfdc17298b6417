//! Who waits for a partition to grow.
//!
//! Invariants
//! - A waiter is registered before it looks at the log for the last time, so that no wake-up is lost in between.
//! - A waiter leaves no trace once its registration is dropped, however long the partition stays quiet.
//!
//! Not here: what a waiter does when woken ([`crate::handlers`]'s fetch looks again).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// The waiters of one partition.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A place among the [`Waiters`]; dropping it gives the place up.
pub(crate) struct Registration<'a> {
    waiters: &'a Waiters,
    key: u64,
}

impl Waiters {
    /// Has `notify` told of every growth until the registration is dropped.
    pub(crate) fn register(&self, notify: &Arc<Notify>) -> Registration<'_> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = inner.next;
        inner.next += 1;
        inner.waiting.insert(key, Arc::clone(notify));
        Registration { waiters: self, key }
    }

    /// Tells every waiter. `Notify` keeps one wake-up for a waiter that is not waiting yet.
    pub(crate) fn wake(&self) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for notify in inner.waiting.values() {
            notify.notify_one();
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut inner = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_before_the_wait_is_kept_and_nothing_is_left_behind() {
        let waiters = Waiters::default();
        let notify = Arc::new(Notify::new());
        let registration = waiters.register(&notify);
        waiters.wake();
        let mut wait = core::pin::pin!(notify.notified());
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_ready());
        drop(registration);
        assert!(waiters.0.lock().expect("not poisoned").waiting.is_empty());
    }
}
