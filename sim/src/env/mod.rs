//! The simulated side of `quipu-env`, for one process.
//!
//! Invariants
//! - When the process's life is over, no handle acts: futures stay pending, and dropping a handle does nothing.
//! - Nothing takes place at the moment at which it is asked for but what the kernel would do at once.

mod clock;
mod disk;
mod net;
mod probe;
mod task;

use core::{future::Future, time::Duration};
use std::sync::Arc;

pub use clock::{SimClock, SimSleep};
pub use disk::{SimDisk, SimFile, SimLock};
pub use net::{SimListener, SimNet, SimReader, SimWriter};
pub use probe::SimProbe;
use quipu_env::{Clock, Env, Fatal, Rng, ShardId};
pub use task::SimTask;
pub(crate) use task::{StalledTask, Tasks};

use crate::{
    fault::open_descriptors,
    node::{Down, Life, NodeShared},
    seed::{hash_of, stream},
    world::{World, unwind_task},
};

/// The system's number for "too many open files".
const TOO_MANY_OPEN_FILES: i32 = 24;

/// What every handle of a process holds.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) world: World,
    pub(crate) node: Arc<NodeShared>,
    pub(crate) life: Arc<Life>,
}

impl Context {
    pub(crate) fn is_over(&self) -> bool {
        self.life.is_over()
    }

    pub(crate) fn record(&self, what: &'static str, detail: u64) {
        self.world.record(Some(self.node.number), what, detail);
    }

    /// Whether nothing more can be opened: a fault limits what may be.
    pub(crate) fn out_of_descriptors(&self) -> bool {
        let Some(limit) = self.node.condition(|condition| condition.descriptor_limit()) else { return false };
        open_descriptors(&self.world, &self.node) >= limit
    }

    /// What the system says to whoever may open nothing more (`EMFILE`).
    pub(crate) fn check_descriptors(&self) -> std::io::Result<()> {
        if self.is_over() || !self.out_of_descriptors() {
            return Ok(());
        }
        self.world.fault_happened("few-descriptors");
        Err(std::io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES))
    }

    /// Ends the process in the middle of the task that calls.
    fn end_process(&self, down: Down) -> ! {
        if !self.is_over() {
            self.node.end_process(&self.world, down);
        }
        unwind_task()
    }
}

/// The world as one process sees it.
#[derive(Clone)]
pub struct SimEnv {
    context: Context,
    clock: SimClock,
    disk: SimDisk,
    net: SimNet,
    probe: SimProbe,
}

impl SimEnv {
    pub(crate) fn new(world: World, node: Arc<NodeShared>, life: Arc<Life>) -> Self {
        let context = Context { world, node, life };
        Self {
            clock: SimClock::new(context.clone()),
            disk: SimDisk::new(context.clone()),
            net: SimNet::new(context.clone()),
            probe: SimProbe::new(context.clone()),
            context,
        }
    }
}

impl Env for SimEnv {
    type Clock = SimClock;
    type Disk = SimDisk;
    type Net = SimNet;
    type Probe = SimProbe;
    type Task = SimTask;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn net(&self) -> &SimNet {
        &self.net
    }

    fn probe(&self) -> &SimProbe {
        &self.probe
    }

    fn rng(&self, name: &'static str) -> Rng {
        let Context { world, node, life } = &self.context;
        let name_hash = hash_of(name.as_bytes());
        let count = life.count("rng", name);
        self.context.record("rng", name_hash.wrapping_add(count));
        stream(world.seed(), "product", &[node.number as u64, life.number, name_hash, count])
    }

    fn shard_count(&self) -> u16 {
        self.context.node.config.shards
    }

    fn current_shard(&self) -> ShardId {
        task::current_shard()
    }

    fn spawn<F>(&self, shard: ShardId, name: &'static str, future: F) -> SimTask
    where
        F: Future<Output = ()> + Send + 'static,
    {
        assert!(shard.0 < self.shard_count(), "there is no {shard:?}, only {}", self.shard_count());
        task::spawn(&self.context, shard, name, future)
    }

    async fn offload<T, F>(&self, cost: Duration, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let value = work();
        self.clock.sleep(cost).await;
        value
    }

    fn halt(&self, why: Fatal, message: &str) -> ! {
        self.context.record("halt", hash_of(message.as_bytes()));
        self.context.end_process(Down::Halted { why, message: message.to_owned() })
    }
}
