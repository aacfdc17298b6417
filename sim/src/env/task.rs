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
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

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

/// The name of tasks that stand for system calls, which go on whatever becomes of the process's threads.
pub(super) const SYSTEM_CALL: &str = "disk";

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
    /// How many faults keep it from running.
    stalls: u32,
    ended: bool,
    /// Wakes the task.
    task: Option<Waker>,
    /// Wakes who waits for its end.
    joining: Option<Waker>,
}

/// The tasks of a process, but for those that are system calls.
#[derive(Default)]
pub(crate) struct Tasks {
    live: Mutex<LiveTasks>,
}

#[derive(Default)]
struct LiveTasks {
    next: u64,
    tasks: BTreeMap<u64, (&'static str, Weak<Mutex<Control>>)>,
}

impl Tasks {
    fn add(&self, name: &'static str, control: &Arc<Mutex<Control>>) -> u64 {
        let mut live = lock(&self.live);
        live.next += 1;
        let number = live.next;
        live.tasks.insert(number, (name, Arc::downgrade(control)));
        number
    }

    fn remove(&self, number: u64) {
        lock(&self.live).tasks.remove(&number);
    }

    /// Keeps one task from running: among those whose names begin so, in the order in which they were spawned, the one with
    /// that index, counted around. None if there is none.
    pub(crate) fn stall(&self, prefix: &str, index: u64) -> Option<StalledTask> {
        let live = lock(&self.live);
        let found: Vec<_> = live.tasks.values().filter(|(name, _)| name.starts_with(prefix)).collect();
        let index = usize::try_from(index).ok()?.checked_rem(found.len())?;
        let control = found[index].1.upgrade()?;
        lock(&control).stalls += 1;
        Some(StalledTask(Arc::downgrade(&control)))
    }
}

/// A task that does not run.
pub(crate) struct StalledTask(Weak<Mutex<Control>>);

impl StalledTask {
    /// Lets it run again.
    pub(crate) fn go_on(self) {
        let Some(control) = self.0.upgrade() else { return };
        let waker = {
            let mut control = lock(&control);
            control.stalls -= 1;
            control.task.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
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
    let number = (name != SYSTEM_CALL).then(|| context.life.tasks.add(name, &control));
    let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(future);
    let task = ShardTask { name, future: Some(future), context: context.clone(), shard, control, number, turn: None };
    if !context.is_over() {
        context.record("spawn", hash_of(name.as_bytes()));
        context.node.spawn_raw(&context.world, task);
    }
    handle
}

struct ShardTask {
    name: &'static str,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    context: Context,
    shard: ShardId,
    control: Arc<Mutex<Control>>,
    /// Among the process's [`Tasks`].
    number: Option<u64>,
    /// When it may do its next step, if the shard is busy.
    turn: Option<u64>,
}

impl Future for ShardTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.context.is_over() {
            // madsim drops it soon.
            return Poll::Pending;
        }
        let (aborted, stalled) = {
            let mut control = lock(&this.control);
            if control.task.as_ref().is_none_or(|waker| !waker.will_wake(task.waker())) {
                control.task = Some(task.waker().clone());
            }
            (control.aborted, control.stalls > 0)
        };
        if stalled {
            this.context.world.fault_happened("stall-task");
            return Poll::Pending;
        }
        if this.context.node.holds_tasks() && this.must_wait(task) {
            return Poll::Pending;
        }
        this.turn = None;
        let Some(future) = &mut this.future else { return Poll::Ready(()) };
        if !aborted {
            let _within = crate::profile::within(this.name, Some(this.context.node.number));
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
    /// Whether the process is paused or its shard busy. Then the task is woken when it may run.
    fn must_wait(&mut self, task: &task::Context<'_>) -> bool {
        let Context { world, node, .. } = &self.context;
        if self.number.is_none() {
            return false;
        }
        if node.condition(|condition| condition.must_wait(task.waker())) {
            world.fault_happened("pause");
            return true;
        }
        let now = world.now();
        if let Some(turn) = self.turn {
            return now < turn;
        }
        let turn = node.condition(|condition| condition.take_turn(self.shard.0, now));
        if turn <= now {
            return false;
        }
        world.fault_happened("slow-cpu");
        let waker = task.waker().clone();
        world.schedule(turn, move |_| waker.wake());
        self.turn = Some(turn);
        true
    }

    fn end(&mut self) {
        if let Some(number) = self.number.take() {
            self.context.life.tasks.remove(number);
        }
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
