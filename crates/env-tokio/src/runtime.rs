//! Shards: threads that each run one single-threaded tokio runtime, and the environment that spans them.
//!
//! Invariants
//! - Shard N is the thread `shard-N`, alive from [`TokioEnv::start`] until [`Runtime::shutdown`].
//! - A task never leaves the shard it was spawned on.
//!
//! Every shard has a thread of its own, and the caller of [`Runtime::block_on`] sleeps. Had shard 0 lived on the caller's
//! thread, it would only run while something blocks on it: tasks spawned before or after would stand still. The price is one
//! parked thread and two hops per process, none per request.
//!
//! Not here: placing partitions or connections on shards; that is the broker's.

use std::{
    any::Any,
    cell::Cell,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use quipu_env::{Env, Fatal, NoProbe, Rng, ShardId, Task};
use rand::{SeedableRng, rngs::SysRng};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::{
    clock::TokioClock,
    disk::TokioDisk,
    fatal::{AbortOnPanic, halt},
    net::TokioNet,
    workers::{Workers, processor_count},
};

/// Threads per shard for the resolver of host names, which blocks. Started by need, ended after 10 idle seconds.
const RESOLVER_THREADS_MAX: usize = 2;

/// Tells the environments of one process apart; tests run many.
static ENV_COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Which environment's which shard this thread is.
    static SHARD: Cell<Option<(u64, ShardId)>> = const { Cell::new(None) };
}

/// How to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Shards, at least 1. By default one per processor.
    pub shards: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { shards: u16::try_from(processor_count()).unwrap_or(u16::MAX) }
    }
}

/// The real world. Cheap to clone; of use as long as its [`Runtime`] lives.
#[derive(Clone)]
pub struct TokioEnv {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    shards: Vec<Handle>,
    clock: TokioClock,
    disk: TokioDisk,
    net: TokioNet,
    probe: NoProbe,
    compute: Workers,
}

/// The shards' threads. Dropping it shuts down like [`Runtime::shutdown`].
pub struct Runtime {
    env: TokioEnv,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl TokioEnv {
    /// Starts the shards. Errors: the system has no more threads or files.
    ///
    /// # Panics
    /// If `options.shards` is 0.
    pub fn start(options: Options) -> io::Result<Runtime> {
        assert!(options.shards > 0, "an environment has at least one shard");
        let id = ENV_COUNT.fetch_add(1, Ordering::Relaxed);
        let mut shards = Vec::new();
        let mut threads = Vec::new();
        for number in 0..options.shards {
            let (handle, stop, thread) = start_shard(id, ShardId(number))?;
            shards.push(handle);
            threads.push((stop, thread));
        }
        let inner = Inner {
            id,
            shards,
            clock: TokioClock::new(),
            disk: TokioDisk::new(),
            net: TokioNet::new(),
            probe: NoProbe,
            compute: Workers::new("compute", processor_count()),
        };
        Ok(Runtime { env: Self { inner: Arc::new(inner) }, threads })
    }
}

fn start_shard(id: u64, shard: ShardId) -> io::Result<(Handle, oneshot::Sender<()>, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(RESOLVER_THREADS_MAX)
        .thread_name(format!("resolver-{}", shard.0))
        .build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name(format!("shard-{}", shard.0)).spawn(move || {
        let _guard = AbortOnPanic("a shard");
        SHARD.set(Some((id, shard)));
        // An error means that the start of a later shard failed; either way this one is to stop.
        drop(runtime.block_on(stopped));
        // Drops the tasks, and does not wait for a resolver that waits for a name server.
        runtime.shutdown_background();
    })?;
    Ok((handle, stop, thread))
}

impl Runtime {
    /// The environment of these shards.
    #[must_use]
    pub fn env(&self) -> TokioEnv {
        self.env.clone()
    }

    /// Runs `future` on shard 0 and waits for it. Other tasks go on afterwards.
    ///
    /// # Panics
    /// If `future` does, with its message. If called on a shard, which would then wait for itself.
    pub fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        assert!(SHARD.get().is_none(), "a shard cannot block on its own tasks");
        let (sender, receiver) = mpsc::sync_channel(1);
        self.env.inner.shards[0].spawn(async move {
            // An error means that the caller is gone, and it waits until this is sent.
            drop(sender.send(catch_panic(future).await));
        });
        match receiver.recv().expect("shard 0 lives as long as the runtime") {
            Ok(output) => output,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Drops every task, finishes the file operations under way, and ends all threads. Returns when that is done.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let mut threads = Vec::new();
        for (stop, thread) in self.threads.drain(..) {
            // An error means that the thread has ended already.
            stop.send(()).ok();
            threads.push(thread);
        }
        for thread in threads {
            if thread.thread().id() != thread::current().id() {
                thread.join().unwrap_or_else(|_| panic!("a shard panicked"));
            }
        }
        self.env.inner.compute.close();
        self.env.inner.disk.close();
    }
}

/// Polls `future` and hands on its panic as a value.
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

impl Env for TokioEnv {
    type Clock = TokioClock;
    type Disk = TokioDisk;
    type Net = TokioNet;
    type Probe = NoProbe;
    type Task = TokioTask;

    fn clock(&self) -> &TokioClock {
        &self.inner.clock
    }

    fn disk(&self) -> &TokioDisk {
        &self.inner.disk
    }

    fn net(&self) -> &TokioNet {
        &self.inner.net
    }

    fn probe(&self) -> &NoProbe {
        &self.inner.probe
    }

    /// Every call is seeded anew by the operating system, whatever the name.
    fn rng(&self, stream: &'static str) -> Rng {
        Rng::try_from_rng(&mut SysRng)
            .unwrap_or_else(|error| panic!("the system has no random numbers for `{stream}`: {error}"))
    }

    fn shard_count(&self) -> u16 {
        u16::try_from(self.inner.shards.len()).expect("counted in a u16 at the start")
    }

    fn current_shard(&self) -> ShardId {
        match SHARD.get() {
            Some((env, shard)) if env == self.inner.id => shard,
            _ => ShardId(0),
        }
    }

    fn spawn<F>(&self, shard: ShardId, name: &'static str, future: F) -> TokioTask
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let count = self.inner.shards.len();
        let handle = self.inner.shards.get(usize::from(shard.0));
        let handle = handle.unwrap_or_else(|| panic!("`{name}` goes to shard {} of {count}", shard.0));
        TokioTask(handle.spawn(async move {
            let _guard = AbortOnPanic(name);
            future.await;
        }))
    }

    async fn offload<T, F>(&self, _cost: Duration, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.inner.compute.run(work).await
    }

    fn halt(&self, why: Fatal, message: &str) -> ! {
        halt(why, message)
    }
}

/// A task on a shard.
#[derive(Debug)]
pub struct TokioTask(tokio::task::JoinHandle<()>);

impl Task for TokioTask {
    fn abort(&self) {
        self.0.abort();
    }

    async fn join(self) {
        // The only error left is that the task was aborted: a panic has ended the process.
        drop(self.0.await);
    }
}
