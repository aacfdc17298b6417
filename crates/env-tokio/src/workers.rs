//! Plain threads that run jobs which would hold up a shard: file operations and long computations.
//!
//! Invariants
//! - A job that was taken is run, even if nobody waits for it any more, and before [`Workers::close`] returns.
//! - At most [`JOBS_MAX`] jobs are queued or running; whoever brings one more waits.
//! - Threads are started by need: one more only when a job finds none idle.
//!
//! The way there is a mutex and a condition variable (one futex call when a worker sleeps, none when all are busy), the way
//! back a oneshot that wakes the shard through its reactor. Workers never spin: on small machines that takes the processor
//! from the very shard that waits.
//!
//! Not here: what the jobs do, and any order between jobs of different threads.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{Semaphore, oneshot};

use crate::fatal::AbortOnPanic;

/// Jobs queued or running in one pool. Each is a closure of some hundred bytes beside the buffers its caller has budgeted.
const JOBS_MAX: usize = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads with one queue.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    name: &'static str,
    threads_max: usize,
}

struct Shared {
    state: Mutex<State>,
    job_came: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle_count: usize,
    threads: Vec<JoinHandle<()>>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside of the lock, and a panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    /// A pool of up to `threads_max` threads called `<name>-<n>`; none is started yet.
    pub(crate) fn new(name: &'static str, threads_max: usize) -> Self {
        assert!(threads_max > 0, "a pool without threads runs nothing");
        let shared = Arc::new(Shared { state: Mutex::default(), job_came: Condvar::new() });
        Self { shared, permits: Arc::new(Semaphore::new(JOBS_MAX)), name, threads_max }
    }

    /// Runs `work` on one of the threads. Once it was queued, it runs even if the future is dropped.
    pub(crate) async fn run<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(move || {
            let value = work();
            drop(permit);
            // An error means that nobody waits for it any more.
            drop(sender.send(value));
        }));
        receiver.await.expect("a job that was taken is run")
    }

    /// Runs `job` some time soon, without a bound on how many: for what must not wait and frees more than it takes.
    pub(crate) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            job();
            return;
        }
        state.jobs.push_back(job);
        if state.idle_count < state.jobs.len() && state.threads.len() < self.threads_max {
            self.start_thread(&mut state);
        }
        drop(state);
        self.shared.job_came.notify_one();
    }

    fn start_thread(&self, state: &mut State) {
        let shared = Arc::clone(&self.shared);
        let (name, number) = (self.name, state.threads.len());
        let started = thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
            let _guard = AbortOnPanic(name);
            work_off(&shared);
        });
        match started {
            Ok(thread) => state.threads.push(thread),
            Err(error) if state.threads.is_empty() => panic!("cannot start a thread for {name}: {error}"),
            Err(error) => tracing::warn!(
                "cannot start thread {number} of {name} ({error}); going on with fewer, so file operations may be slower"
            ),
        }
    }

    /// Runs what is queued, then ends the threads. A job that comes later runs on its caller's thread.
    pub(crate) fn close(&self) {
        let threads = {
            let mut state = self.shared.lock();
            state.closed = true;
            mem::take(&mut state.threads)
        };
        self.shared.job_came.notify_all();
        for thread in threads {
            if thread.thread().id() != thread::current().id() {
                thread.join().unwrap_or_else(|_| panic!("a thread of {} panicked", self.name));
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.job_came.notify_all();
    }
}

/// One thread's life.
fn work_off(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            job();
            state = shared.lock();
        } else if state.closed {
            return;
        } else {
            state.idle_count += 1;
            state = shared.job_came.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle_count -= 1;
        }
    }
}

/// How many threads can compute at once, at least 1.
pub(crate) fn processor_count() -> usize {
    thread::available_parallelism().map_or_else(
        |error: io::Error| {
            tracing::warn!("cannot tell how many processors there are ({error}); assuming 2");
            2
        },
        usize::from,
    )
}
