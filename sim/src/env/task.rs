//! Tasks of a process, each on a shard.
//!
//! madsim polls the tasks of all nodes on one thread, in an order drawn from the seed; a shard is a label that each task
//! carries. A task is wrapped so that it ends with its process, even in the middle of a poll.

use core::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{self, Poll, Waker},
};
use std::sync::{Arc, Mutex};

use quipu_env::{ShardId, Task};

use super::Context;
use crate::{
    seed::hash_of,
    world::{catch_process_end, lock},
};

thread_local! {
    static SHARD: Cell<ShardId> = const { Cell::new(ShardId(0)) };
    static BUDGET_LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Timers that have ended and are polled within one poll of a task before it must let time pass. None passes within a poll,
/// so a task that goes round in circles until something arrives would go round for ever.
const BUDGET: u32 = 100;
/// How long a task is taken to have been busy when its budget is spent.
pub(super) const BUDGET_NANOS: u64 = 10_000;

pub(super) fn current_shard() -> ShardId {
    SHARD.get()
}

/// Whether the task that is being polled must let time pass first.
pub(super) fn is_budget_spent() -> bool {
    let left = BUDGET_LEFT.get();
    BUDGET_LEFT.set(left.saturating_sub(1));
    left == 0
}

#[derive(Default)]
struct Control {
    aborted: bool,
    ended: bool,
    /// Wakes the task.
    task: Option<Waker>,
    /// Wakes who waits for its end.
    joining: Option<Waker>,
}

/// A task of a simulated process.
pub struct SimTask {
    control: Arc<Mutex<Control>>,
}

impl Task for SimTask {
    fn abort(&self) {
        let waker = {
            let mut control = lock(&self.control);
            control.aborted = true;
            control.task.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn join(self) {
        core::future::poll_fn(|task| {
            let mut control = lock(&self.control);
            if control.ended {
                return Poll::Ready(());
            }
            let previous = control.joining.replace(task.waker().clone());
            drop(control);
            drop(previous);
            Poll::Pending
        })
        .await;
    }
}

pub(super) fn spawn(
    context: &Context,
    shard: ShardId,
    name: &'static str,
    future: impl Future<Output = ()> + Send + 'static,
) -> SimTask {
    let control = Arc::new(Mutex::new(Control::default()));
    let handle = SimTask { control: Arc::clone(&control) };
    let task = ShardTask { future: Some(Box::pin(future)), context: context.clone(), shard, control };
    if !context.is_over() {
        context.record("spawn", hash_of(name.as_bytes()));
        context.node.spawn_raw(&context.world, task);
    }
    handle
}

struct ShardTask {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    context: Context,
    shard: ShardId,
    control: Arc<Mutex<Control>>,
}

impl Future for ShardTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.context.is_over() {
            // madsim drops it soon.
            return Poll::Pending;
        }
        let aborted = {
            let mut control = lock(&this.control);
            if control.task.as_ref().is_none_or(|waker| !waker.will_wake(task.waker())) {
                control.task = Some(task.waker().clone());
            }
            control.aborted
        };
        let Some(future) = &mut this.future else { return Poll::Ready(()) };
        if !aborted {
            let outside = SHARD.replace(this.shard);
            BUDGET_LEFT.set(BUDGET);
            let polled = catch_process_end(|| future.as_mut().poll(task));
            SHARD.set(outside);
            if !matches!(polled, Some(Poll::Ready(()))) {
                return Poll::Pending;
            }
        }
        this.end();
        Poll::Ready(())
    }
}

impl ShardTask {
    fn end(&mut self) {
        let outside = SHARD.replace(self.shard);
        self.future = None;
        SHARD.set(outside);
        let joining = {
            let mut control = lock(&self.control);
            control.ended = true;
            control.joining.take()
        };
        if let Some(waker) = joining {
            waker.wake();
        }
    }
}

impl Drop for ShardTask {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end();
        }
    }
}
