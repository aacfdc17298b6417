//! The only interfaces through which product code touches the world: clock, network, disk, chance, tasks.
//!
//! `quipu-env-tokio` implements them on the real system, `sim` on a simulated one. Product code is generic over one
//! parameter `E: Env`; there are two instantiations and no `dyn`.
//!
//! Invariants
//! - Every future that an `Env` returns is `Send` and, unless it says otherwise, may be dropped at any await without harm.
//! - Nothing here reads a clock or draws a number by itself.
//!
//! Not here: any implementation; the conformance suite that both must pass (`tests/conformance`).

mod buffer;
mod clock;
mod disk;
mod net;
mod probe;
pub mod watch;

use core::{future::Future, time::Duration};

pub use buffer::AlignedBuf;
pub use clock::{Clock, Instant, Sleep};
pub use disk::{Disk, DiskLock, File, Lane, LockError, OpenOptions, SyncError, sync_error_kind};
pub use net::{ConnectError, Listener, Net, NetReader, NetWriter, Segment, WriteQueue};
pub use probe::{NoProbe, Probe};

/// Lets the other tasks of the shard run first: for whoever has so much to do that they would have to wait for long.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return core::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await;
}

/// A stream of random numbers. In production it is seeded by the operating system, in the simulator by the run's seed.
pub type Rng = rand::rngs::ChaCha12Rng;

/// One of the process's single-threaded runtimes, numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// Why a process must stop at once, without running destructors or touching its files again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fatal {
    /// A WAL write or sync failed: what the kernel holds of it can no longer be trusted. Exit status 74.
    WalSync,
    /// A task that the process cannot live without ended. Exit status 70.
    TaskLost,
    /// Another process has taken this one's place while it was not heard of. Exit status 75: started again, it comes back once the
    /// other one is gone, or says what is wrong.
    Replaced,
}

impl Fatal {
    /// The exit status of the process (`sysexits.h`).
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::WalSync => 74,
            Self::TaskLost => 70,
            Self::Replaced => 75,
        }
    }
}

/// The world, as one value that is cheap to clone.
pub trait Env: Clone + Send + Sync + 'static {
    /// Monotonic and wall time.
    type Clock: Clock;
    /// Files.
    type Disk: Disk;
    /// Connections, which can send ranges of this world's files.
    type Net: Net<File = <Self::Disk as Disk>::File>;
    /// Marks and switches for the simulator; nothing in production.
    type Probe: Probe;
    /// A spawned task.
    type Task: Task;

    /// Time.
    fn clock(&self) -> &Self::Clock;
    /// Files.
    fn disk(&self) -> &Self::Disk;
    /// Connections.
    fn net(&self) -> &Self::Net;
    /// Marks and switches.
    fn probe(&self) -> &Self::Probe;

    /// A new stream of random numbers. Streams of different names are independent: one subsystem's draws never shift
    /// another's. The n-th call with one name gives the n-th stream of that name.
    fn rng(&self, stream: &'static str) -> Rng;

    /// How many shards this process has, at least 1.
    fn shard_count(&self) -> u16;

    /// The shard whose runtime polls the caller; shard 0 outside of any.
    fn current_shard(&self) -> ShardId;

    /// Runs `future` as a task on `shard`'s thread. Dropping the returned handle lets the task go on. A panic in the task
    /// ends the process in production, and the run in the simulator.
    ///
    /// # Panics
    /// If there is no such shard.
    fn spawn<F>(&self, shard: ShardId, name: &'static str, future: F) -> Self::Task
    where
        F: Future<Output = ()> + Send + 'static;

    /// Runs `work`, which keeps a processor busy, where it delays no shard: on the pool in production, inline plus `cost` of
    /// virtual time in the simulator.
    fn offload<T, F>(&self, cost: Duration, work: F) -> impl Future<Output = T> + Send
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;

    /// Stops the process at once with `why.exit_status()`, after `message` has been logged. In the simulator: crashes the
    /// node.
    fn halt(&self, why: Fatal, message: &str) -> !;
}

/// A task that [`Env::spawn`] started.
pub trait Task: Send + Sync + 'static {
    /// Drops the task's future at its next await. Does nothing if the task has ended.
    fn abort(&self);

    /// Ends when the task has ended, by itself or aborted.
    fn join(self) -> impl Future<Output = ()> + Send;
}
