//! Byte budgets: requests in flight and replies not yet taken are bounded by waiting, never by dropping.
//!
//! Invariants
//! - What a [`Permit`] covers is given back when the last buffer that carries it is dropped, not earlier: a slice that pins a
//!   large frame keeps the whole frame counted.
//! - Waiters are served in order, so that a large frame is not starved by small ones.
//!
//! Not here: the tail's memory, which belongs to `quipu-storage`. Read [`crate::connection`] next.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes shared by many connections.
#[derive(Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    total: usize,
    waiting: Arc<AtomicUsize>,
}

/// Bytes taken from a [`Budget`], given back on drop.
pub(crate) struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Its bytes are taken for ever: only in simulations.
    pub(crate) fn lose(self) {
        self.0.forget();
    }
}

impl Budget {
    /// `total` bytes, at most 4 GiB - 1.
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(total)), total, waiting: Arc::new(AtomicUsize::new(0)) }
    }

    /// Waits for `bytes`, or for all of the budget if that is less: what is larger goes alone rather than never.
    pub(crate) async fn take(&self, bytes: usize) -> Permit {
        let wanted = u32::try_from(bytes.min(self.total)).expect("the total fits");
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(wanted) {
            return Permit(permit);
        }
        let _waiting = Waiting::begin(&self.waiting);
        let permit = Arc::clone(&self.free).acquire_many_owned(wanted).await;
        Permit(permit.expect("the semaphore is never closed"))
    }

    /// `bytes` if they are there and nobody waits.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Permit> {
        let wanted = u32::try_from(bytes).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(wanted).ok().map(Permit)
    }

    /// Whether somebody waits for bytes.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes taken now.
    pub(crate) fn taken(&self) -> usize {
        self.total - self.free.available_permits()
    }
}

/// Counts a waiter for as long as it waits, also when its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `memory` as refcounted bytes that hold `permit` until the last slice is gone.
pub(crate) fn with_permit<B>(memory: B, permit: Permit) -> Bytes
where
    B: AsRef<[u8]> + Send + 'static,
{
    struct Owner<B> {
        memory: B,
        _permit: Permit,
    }
    impl<B: AsRef<[u8]>> AsRef<[u8]> for Owner<B> {
        fn as_ref(&self) -> &[u8] {
            self.memory.as_ref()
        }
    }
    Bytes::from_owner(Owner { memory, _permit: permit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_keeps_the_whole_counted() {
        let budget = Budget::new(1000);
        let permit = now(budget.take(600)).expect("there is room");
        let whole = with_permit(vec![7_u8; 600], permit);
        let slice = whole.slice(10..20);
        drop(whole);
        assert_eq!(budget.taken(), 600);
        assert!(now(budget.take(500)).is_none(), "it would exceed the budget");
        drop(slice);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn what_is_larger_than_the_budget_goes_alone() {
        let budget = Budget::new(1000);
        let all = now(budget.take(5000)).expect("nothing is taken");
        assert!(now(budget.take(1)).is_none());
        drop(all);
        assert!(now(budget.take(1)).is_some());
        assert!(!budget.is_contended(), "a dropped waiter is not counted");
    }

    fn now<F: Future>(future: F) -> Option<F::Output> {
        let mut future = core::pin::pin!(future);
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            core::task::Poll::Ready(output) => Some(output),
            core::task::Poll::Pending => None,
        }
    }
}
