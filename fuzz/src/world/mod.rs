//! A world in memory, on one thread, without faults: what storage needs to read and open a directory, and no more.
//!
//! Invariants
//! - The same work in the same world does the same in the same order: a fuzzer's finding is found again.
//! - Time passes only when nothing else can be done; then it jumps to the next deadline.
//! - Work that waits for what will never happen is a panic, so that a recovery that hangs is found.
//!
//! Not here: crashes, failed syncs, connections (`sim` has those). Read `disk` next, then `tasks`.

mod disk;
mod tasks;

use core::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use quipu_base::{Timestamp, checksum::crc32c};
use quipu_env::{Clock, ConnectError, Env, Fatal, Instant, NoProbe, Rng, ShardId, WriteQueue};
use rand::SeedableRng;

pub(crate) use self::disk::MemoryDisk;
use self::{
    disk::MemoryFile,
    tasks::{Executor, Spawned, Timer},
};

/// The wall clock when a world begins: 2024-01-01, in milliseconds.
const WALL_START_MS: i64 = 1_704_067_200_000;

/// The world. Clones are the same one.
#[derive(Clone)]
pub(crate) struct World {
    disk: MemoryDisk,
    clock: WorldClock,
    streams: Arc<AtomicU64>,
}

impl World {
    /// With what is on `disk`.
    pub(crate) fn new(disk: MemoryDisk) -> Self {
        Self { disk, clock: WorldClock(Executor::new()), streams: Arc::default() }
    }

    /// Does `work` to its end, and what was spawned as far as it gets meanwhile; then drops all of it.
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.clock.0.run(work)
    }
}

impl Env for World {
    type Clock = WorldClock;
    type Disk = MemoryDisk;
    type Net = NoNet;
    type Probe = NoProbe;
    type Task = Spawned;

    fn clock(&self) -> &WorldClock {
        &self.clock
    }

    fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn net(&self) -> &NoNet {
        &NoNet
    }

    fn probe(&self) -> &NoProbe {
        &NoProbe
    }

    fn rng(&self, stream: &'static str) -> Rng {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        Rng::seed_from_u64(number << 32 | u64::from(crc32c(stream.as_bytes())))
    }

    fn shard_count(&self) -> u16 {
        1
    }

    fn current_shard(&self) -> ShardId {
        ShardId(0)
    }

    fn spawn<F>(&self, _shard: ShardId, _name: &'static str, future: F) -> Spawned
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.clock.0.spawn(future)
    }

    async fn offload<T, F>(&self, _cost: Duration, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        work()
    }

    fn halt(&self, why: Fatal, message: &str) -> ! {
        panic!("the process was stopped although nothing failed: {why:?}, {message}")
    }
}

/// Time that jumps.
#[derive(Clone)]
pub(crate) struct WorldClock(Executor);

impl Clock for WorldClock {
    type Sleep = Timer;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wall(&self) -> Timestamp {
        let passed_ms = self.now().as_nanos() / 1_000_000;
        Timestamp(WALL_START_MS + i64::try_from(passed_ms).expect("a short run"))
    }

    fn sleep_until(&self, deadline: Instant) -> Timer {
        self.0.timer(deadline)
    }
}

/// No network: nothing binds, nobody answers.
#[derive(Clone)]
pub(crate) struct NoNet;

/// What nobody can have.
pub(crate) enum Never {}

fn no_net() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

impl quipu_env::Net for NoNet {
    type File = MemoryFile;
    type Listener = Never;
    type Reader = Never;
    type Writer = Never;

    async fn bind(&self, _address: SocketAddr) -> io::Result<Never> {
        Err(no_net())
    }

    async fn connect(&self, _address: SocketAddr, _timeout: Duration) -> Result<(Never, Never), ConnectError> {
        Err(ConnectError::Io(no_net()))
    }

    async fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(no_net())
    }
}

impl quipu_env::Listener for Never {
    type Reader = Self;
    type Writer = Self;

    async fn accept(&mut self) -> io::Result<(Self, Self, SocketAddr)> {
        match *self {}
    }

    fn local_addr(&self) -> SocketAddr {
        match *self {}
    }
}

impl quipu_env::NetReader for Never {
    async fn read_buf(&mut self, _buffer: &mut BytesMut) -> io::Result<usize> {
        match *self {}
    }
}

impl quipu_env::NetWriter for Never {
    type File = MemoryFile;

    async fn write(&mut self, _queue: &mut WriteQueue<MemoryFile>) -> io::Result<usize> {
        match *self {}
    }

    async fn finish(&mut self) -> io::Result<()> {
        match *self {}
    }

    fn reset(&mut self) {
        match *self {}
    }
}
