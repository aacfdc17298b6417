//! One value that one task sets and many watch, the same in every run.
//!
//! `tokio::sync::watch` spreads its waiters over eight lists by a random number that no seed controls, so those who wait are
//! woken in another order in each run. Here they are woken in the order in which they began to wait.
//!
//! Invariants
//! - A receiver misses no change but those that another one follows before it looks.
//! - A [`Ref`] holds the value's lock, so it is to be dropped before the next await.

use core::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;

struct Shared<T> {
    value: RwLock<T>,
    /// How often the value was set. Changes only under the lock.
    version: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
}

impl<T> Shared<T> {
    fn read(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// The value, which does not change as long as this lives.
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The sender is gone and the value will not change any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody sets the value any more")
    }
}

impl core::error::Error for Closed {}

/// A value with its sender and a first receiver, which has seen it.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Sets the value.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// A value that nobody watches yet.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// A receiver that has seen the value as it is now.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { seen: self.0.version(), shared: Arc::clone(&self.0) }
    }

    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.read()
    }

    /// Changes the value and wakes all who wait.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            modify(&mut value);
            self.0.version.fetch_add(1, Ordering::AcqRel);
        }
        self.0.changed.notify_waiters();
    }

    /// Sets the value and wakes all who wait. Answers the one before.
    pub fn send_replace(&self, value: T) -> T {
        let mut value = value;
        self.send_modify(|current| core::mem::swap(current, &mut value));
        value
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

/// Watches the value. A clone has seen what this one has seen.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// The value; whether it was seen before does not change.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.read()
    }

    /// The value, which counts as seen from now on.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        self.seen = self.shared.version();
        value
    }

    /// Waits until the value has changed since it was last seen; it counts as seen then. Cancel-safe.
    ///
    /// Errors: it has not, and never will.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Made before looking: a change after this moment ends it.
            let changed = self.shared.changed.notified();
            let closed = self.shared.closed.load(Ordering::Acquire);
            let version = self.shared.version();
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if closed {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits until the value is as told, which it may be already; it counts as seen then. By the time the caller looks, it may
    /// have changed again. Cancel-safe.
    ///
    /// Errors: it is not, and never will be.
    pub async fn wait_for(&mut self, mut is_right: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        while !is_right(&self.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::{
        future::Future,
        pin::pin,
        task::{Context, Poll},
    };
    use std::{
        sync::{Arc, Mutex},
        task::{Wake, Waker},
    };

    use super::*;

    struct Note(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_who_wait_are_woken_in_the_order_in_which_they_began() {
        let (sender, receiver) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut receivers: Vec<_> = (0..20).map(|_| receiver.clone()).collect();
        let mut waiting: Vec<_> = receivers.iter_mut().map(|receiver| Box::pin(receiver.changed())).collect();
        for (number, future) in (0..).zip(&mut waiting) {
            let waker = Waker::from(Arc::new(Note(number, Arc::clone(&woken))));
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(sender.send_replace(1), 0);
        assert_eq!(*woken.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert!(waiting.iter_mut().all(|future| poll(future.as_mut()) == Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_change_is_seen_once() {
        let (sender, mut receiver) = channel(0);
        assert!(poll(pin!(receiver.changed())).is_pending());
        sender.send_modify(|value| *value += 1);
        sender.send_modify(|value| *value += 1);
        let mut late = sender.subscribe();
        assert_eq!((*receiver.borrow(), *sender.borrow()), (2, 2));
        assert_eq!(poll(pin!(receiver.changed())), Poll::Ready(Ok(())));
        assert!(poll(pin!(receiver.changed())).is_pending() && poll(pin!(late.changed())).is_pending());
        sender.send_replace(7);
        assert_eq!(*receiver.borrow_and_update(), 7);
        assert!(poll(pin!(receiver.changed())).is_pending());
    }

    #[test]
    fn a_change_between_two_polls_ends_the_wait() {
        let (sender, mut receiver) = channel(0);
        let mut wait = pin!(receiver.wait_for(|value| *value == 2));
        assert!(poll(wait.as_mut()).is_pending());
        sender.send_replace(1);
        assert!(poll(wait.as_mut()).is_pending());
        sender.send_replace(2);
        assert_eq!(poll(wait), Poll::Ready(Ok(())));
    }

    #[test]
    fn the_last_value_outlives_its_sender() {
        let (sender, mut receiver) = channel(0);
        let mut waiting = receiver.clone();
        let mut wait = pin!(waiting.wait_for(|value| *value == 9));
        assert!(poll(wait.as_mut()).is_pending());
        sender.send_replace(1);
        drop(sender);
        assert_eq!(poll(wait), Poll::Ready(Err(Closed)));
        assert_eq!(poll(pin!(receiver.changed())), Poll::Ready(Ok(())));
        assert_eq!(poll(pin!(receiver.changed())), Poll::Ready(Err(Closed)));
        assert_eq!(poll(pin!(receiver.wait_for(|value| *value == 1))), Poll::Ready(Ok(())));
    }
}
