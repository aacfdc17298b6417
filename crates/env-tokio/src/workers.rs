//! Plain threads that run jobs which would hold up a shard: file operations and long computations.
//!
//! Invariants
//! - A job that was taken is run, even if nobody waits for it any more, and before [`Workers::close`] returns.
//! - At most [`POOL_JOBS_MAX`] jobs are queued or running; whoever brings one more waits.
//! - Threads are started by need: one more only when a job finds all of them at work.
//!
//! The way there is a mutex and a condition variable (one futex call when a worker sleeps, none when all are busy), the way
//! back a oneshot that wakes the shard through its reactor. Workers never spin: on small machines that takes the processor
//! from the very shard that waits.
//!
//! Not here: what the jobs do, and any order between jobs of different threads.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use quipu_base::limits::POOL_JOBS_MAX;
use tokio::sync::{Semaphore, oneshot};

use crate::fatal::AbortOnPanic;

/// Lowers [`Shared::running_count`] when it is done.
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
    /// Jobs taken from the queue and not done. Raised under the lock; lowered before a job's value is handed back, so that
    /// whoever gets it and brings the next job at once finds the thread free, though it is still on its way to the queue.
    running_count: AtomicUsize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
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
        let (state, running_count) = (Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { state, job_came: Condvar::new(), running_count });
        Self { shared, permits: Arc::new(Semaphore::new(POOL_JOBS_MAX)), name, threads_max }
    }

    /// Runs `work` on one of the threads. Once it was queued, it runs even if the future is dropped.
    pub(crate) async fn run<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.submit(Box::new(move || {
            let value = work();
            shared.running_count.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
            // An error means that nobody waits for it any more.
            drop(sender.send(value));
        }));
        receiver.await.expect("a job that was taken is run")
    }

    /// Runs `work` some time soon, without a bound on how many: for what must not wait and frees more than it takes.
    pub(crate) fn run_detached(&self, work: impl FnOnce() + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.submit(Box::new(move || {
            work();
            shared.running_count.fetch_sub(1, Ordering::Relaxed);
        }));
    }

    fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        if state.closed {
            self.shared.running_count.fetch_add(1, Ordering::Relaxed);
            drop(state);
            job();
            return;
        }
        state.jobs.push_back(job);
        let wanted = state.jobs.len() + self.shared.running_count.load(Ordering::Relaxed);
        if state.threads.len() < wanted.min(self.threads_max) {
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
            shared.running_count.fetch_add(1, Ordering::Relaxed);
            drop(state);
            job();
            state = shared.lock();
        } else if state.closed {
            return;
        } else {
            state = shared.job_came.wait(state).unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{Barrier, mpsc},
        task::{Context, Waker},
    };

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_job_runs_though_nobody_waits_for_it() {
        let workers = Workers::new("test", 1);
        let (sender, receiver) = mpsc::channel();
        {
            let mut given_up = pin!(workers.run(move || sender.send(7).expect("the test waits for this")));
            // Ready or not, depending on how fast the thread is: the job was given either way.
            let _given = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        }
        assert_eq!(receiver.recv(), Ok(7));
    }

    #[test]
    fn as_many_run_at_once_as_there_are_threads() {
        let workers = Workers::new("test", 3);
        let (barrier, met) = (Arc::new(Barrier::new(3)), mpsc::channel());
        for _ in 0..6 {
            let (barrier, sender) = (Arc::clone(&barrier), met.0.clone());
            // Would wait for ever if fewer than three ran at once.
            workers.run_detached(move || {
                barrier.wait();
                sender.send(()).expect("the test waits for this");
            });
        }
        for _ in 0..6 {
            met.1.recv().expect("six jobs");
        }
        assert_eq!(workers.shared.lock().threads.len(), 3);
    }

    #[test]
    fn one_after_the_other_takes_one_thread() {
        let workers = Workers::new("test", 8);
        block_on(async {
            for number in 0..1000 {
                assert_eq!(workers.run(move || number + 1).await, number + 1);
            }
        });
        assert_eq!(workers.shared.lock().threads.len(), 1, "threads were started that nobody needs");
        assert_eq!(workers.shared.running_count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn closing_runs_what_is_queued_and_later_jobs_run_at_once() {
        let workers = Workers::new("test", 2);
        let (sender, receiver) = mpsc::channel();
        for number in 0..100 {
            let sender = sender.clone();
            workers.run_detached(move || sender.send(number).expect("the test holds the receiver"));
        }
        workers.close();
        assert_eq!(receiver.try_iter().count(), 100);
        assert_eq!(block_on(workers.run(|| thread::current().id())), thread::current().id());
    }

    #[test]
    fn whoever_brings_too_many_jobs_waits() {
        let workers = Workers::new("test", 1);
        let gate = Arc::new(Barrier::new(2));
        let held = Arc::clone(&gate);
        let mut context = Context::from_waker(Waker::noop());
        let mut first = Box::pin(workers.run(move || {
            held.wait();
        }));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut rest: Vec<_> = (1..POOL_JOBS_MAX).map(|_| Box::pin(workers.run(|| ()))).collect();
        for job in &mut rest {
            assert!(job.as_mut().poll(&mut context).is_pending());
        }
        let mut one_more = Box::pin(workers.run(|| ()));
        assert!(one_more.as_mut().poll(&mut context).is_pending());
        let state = workers.shared.lock();
        let taken = state.jobs.len() + workers.shared.running_count.load(Ordering::Relaxed);
        drop(state);
        assert_eq!(taken, POOL_JOBS_MAX, "jobs beyond the bound were taken");
        gate.wait();
        block_on(one_more);
    }
}
