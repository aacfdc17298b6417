//! Tasks and timers on one thread.

use core::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Wake,
};

use quipu_env::{Instant, Sleep, Task};

/// Polls in one run. What needs more goes round in circles.
const POLLS_MAX: usize = 1_000_000;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks. Clones are the same one.
#[derive(Clone)]
pub(super) struct Executor(Arc<Mutex<State>>);

struct State {
    now: Instant,
    tasks: Vec<Arc<Cell>>,
    /// Wakers by deadline; the number tells equal deadlines apart.
    timers: BTreeMap<(Instant, u64), Waker>,
    timer_count: u64,
}

/// One task.
struct Cell {
    /// None once it has ended.
    work: Mutex<Option<Work>>,
    woken: Arc<Flag>,
    ended: Arc<Flag>,
    joiner: Mutex<Option<Waker>>,
}

struct Flag(AtomicBool);

impl Flag {
    fn new(set: bool) -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(set)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    pub(super) fn new() -> Self {
        let (now, timers) = (Instant::ZERO, BTreeMap::new());
        Self(Arc::new(Mutex::new(State { now, tasks: Vec::new(), timers, timer_count: 0 })))
    }

    pub(super) fn now(&self) -> Instant {
        lock(&self.0).now
    }

    pub(super) fn timer(&self, deadline: Instant) -> Timer {
        let mut state = lock(&self.0);
        state.timer_count += 1;
        Timer { executor: self.clone(), deadline, number: state.timer_count }
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Spawned {
        let cell = Arc::new(Cell {
            work: Mutex::new(Some(Box::pin(work))),
            woken: Flag::new(true),
            ended: Flag::new(false),
            joiner: Mutex::new(None),
        });
        lock(&self.0).tasks.push(Arc::clone(&cell));
        Spawned(cell)
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let woken = Flag::new(true);
        let waker = Waker::from(Arc::clone(&woken));
        let mut polls = 0;
        let done = loop {
            let mut idle = true;
            if woken.take() {
                idle = false;
                if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                    break done;
                }
            }
            let tasks = lock(&self.0).tasks.clone();
            for task in tasks.into_iter().filter(|task| task.woken.take()) {
                idle = false;
                polls += 1;
                task.poll();
            }
            assert!(polls < POLLS_MAX, "tasks go round in circles");
            lock(&self.0).tasks.retain(|task| !task.ended.is_set());
            if idle {
                self.pass_time();
            }
        };
        // Tasks hold the world, which holds the tasks.
        let tasks = core::mem::take(&mut lock(&self.0).tasks);
        tasks.iter().for_each(|task| task.end());
        done
    }

    fn pass_time(&self) {
        let mut state = lock(&self.0);
        let ((deadline, _), waker) = state.timers.pop_first().expect("something is waited for that never happens");
        state.now = state.now.max(deadline);
        drop(state);
        waker.wake();
    }
}

impl Cell {
    fn poll(&self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut slot = lock(&self.work);
        let Some(work) = slot.as_mut() else { return };
        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(slot);
            self.end();
        }
    }

    fn end(&self) {
        // A task that ends itself while it is polled is dropped by its next poll.
        let Ok(mut slot) = self.work.try_lock() else { return };
        let work = slot.take();
        drop(slot);
        drop(work);
        self.ended.set();
        if let Some(joiner) = lock(&self.joiner).take() {
            joiner.wake();
        }
    }
}

/// A task that was spawned.
pub(crate) struct Spawned(Arc<Cell>);

impl Task for Spawned {
    fn abort(&self) {
        self.0.end();
    }

    async fn join(self) {
        core::future::poll_fn(|context| {
            if self.0.ended.is_set() {
                return Poll::Ready(());
            }
            *lock(&self.0.joiner) = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Ends at its deadline.
pub(crate) struct Timer {
    executor: Executor,
    deadline: Instant,
    number: u64,
}

impl Timer {
    fn forget(&self) {
        lock(&self.executor.0).timers.remove(&(self.deadline, self.number));
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.executor.0);
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        state.timers.insert((self.deadline, self.number), context.waker().clone());
        Poll::Pending
    }
}

impl Sleep for Timer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.forget();
        self.deadline = deadline;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget();
    }
}
