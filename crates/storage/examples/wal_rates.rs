//! Measures the write-ahead log alone on a real disk: group commit with 1, 16 and 256 clients of 1 KB, each waiting for its
//! frame before it sends the next, a stream of 16 KB frames, and the scan that a recovery begins with.
//!
//! `cargo run --release -p quipu-storage --example wal_rates -- DIR [SECONDS]`, where DIR is a new directory on the disk to
//! measure.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use core::{cell::Cell, time::Duration};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use bytes::Bytes;
use quipu_base::{
    BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
    limits::{WAL_FILE_BYTES, WAL_TOTAL_BYTES},
};
use quipu_env::{Clock, Disk, Env, Instant, ShardId, Task};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_storage::{
    superblock::{self, Superblock},
    wal::{
        Class, DurableFrame, Frame, FrameKind, GroupSequence, ScanMode, ScanOptions, Scanner, Ticket, Wal, WalOptions,
        WalSink,
    },
};
use tokio::sync::oneshot;

/// WAL bytes that the stand-in for a checkpoint lags behind.
const LAG_BYTES: usize = 512 << 20;

type World = TokioEnv;

/// Wakes clients and recycles what is far enough behind.
#[derive(Default)]
struct Sink {
    waiting: Mutex<VecDeque<(Ticket, oneshot::Sender<()>)>>,
    behind: Mutex<(VecDeque<(GroupSequence, usize)>, usize)>,
    covered: Mutex<GroupSequence>,
    wal: OnceLock<Wal<World>>,
    groups: Mutex<u64>,
}

impl WalSink for Sink {
    fn on_durable(&self, group: GroupSequence, group_bytes: usize, frames: Vec<DurableFrame>) {
        let last = frames.last().map_or(Ticket::NONE, |frame| frame.ticket);
        let mut waiting = self.waiting.lock().expect("no panics");
        while waiting.front().is_some_and(|(ticket, _)| *ticket <= last) {
            let (_, client) = waiting.pop_front().expect("there is a front");
            assert!(client.send(()).is_ok(), "a client waits for its frame");
        }
        drop(waiting);
        *self.groups.lock().expect("no panics") += 1;
        let mut behind = self.behind.lock().expect("no panics");
        behind.0.push_back((group, group_bytes));
        behind.1 += group_bytes;
        while behind.1 > LAG_BYTES {
            let (covered, bytes) = behind.0.pop_front().expect("the bytes are those of groups");
            behind.1 -= bytes;
            *self.covered.lock().expect("no panics") = covered;
            if let Some(wal) = self.wal.get() {
                wal.recycle_below(covered.next());
            }
        }
    }
}

fn frame(number: usize, payload: &Bytes) -> Frame {
    Frame {
        partition: TopicIdPartition {
            topic_id: TopicId([1; 16]),
            partition: PartitionIndex(i32::try_from(number % 64).expect("below 64")),
        },
        kind: FrameKind::Append,
        leader_epoch: LeaderEpoch(1),
        base_offset: Offset(0),
        head: payload.slice(..61),
        body: payload.slice(61..),
    }
}

async fn open(env: &World, dir: &Path) -> (Wal<World>, Arc<Sink>) {
    env.disk().create_dir_all(dir).await.expect("the directory can be made");
    let mut superblock = Superblock::new(BrokerId(1), DirectoryId([1; 16]));
    let scan = ScanOptions { dir: dir.to_owned(), direct: true, mode: ScanMode::Recover };
    let mut scanner =
        Scanner::open(env.clone(), scan, &superblock, GroupSequence::NONE).await.expect("a new directory");
    assert!(scanner.next_group().await.expect("a new directory").is_none(), "{} is not new", dir.display());
    let end = scanner.finish().await.expect("a new directory");
    end.resume.enter(&mut superblock);
    superblock::write(env.disk(), dir, &mut superblock).await.expect("the superblock can be written");
    let options = WalOptions {
        dir: dir.to_owned(),
        file_bytes: WAL_FILE_BYTES,
        total_bytes: WAL_TOTAL_BYTES,
        direct: true,
        shard: ShardId(0),
    };
    let sink = Arc::new(Sink::default());
    let wal = Wal::start(env.clone(), options, end.resume, Arc::<Sink>::clone(&sink)).await.expect("the WAL starts");
    assert!(sink.wal.set(wal.clone()).is_ok(), "set once");
    (wal, sink)
}

/// One client's loop; answers its latencies, in nanoseconds.
async fn client(
    env: World,
    wal: Wal<World>,
    sink: Arc<Sink>,
    number: usize,
    from: Instant,
    until: Instant,
) -> Vec<u64> {
    let payload = Bytes::from(vec![7; 1024]);
    let mut latencies = Vec::new();
    loop {
        let begun = env.clock().now();
        if begun >= until {
            return latencies;
        }
        let permit = wal.reserve_space(payload.len(), Class::Normal).await.expect("the disk has room");
        let durable = {
            let mut waiting = sink.waiting.lock().expect("no panics");
            let ticket = wal.submit(frame(number, &payload));
            let (sender, durable) = oneshot::channel();
            waiting.push_back((ticket, sender));
            durable
        };
        drop(permit);
        durable.await.expect("the WAL goes on");
        if begun >= from {
            latencies.push(u64::try_from(env.clock().now().since(begun).as_nanos()).expect("short"));
        }
    }
}

async fn measure_clients(env: &World, wal: &Wal<World>, sink: &Arc<Sink>, count: usize, seconds: u64) {
    let from = env.clock().now() + Duration::from_secs(1);
    let until = from + Duration::from_secs(seconds);
    let results = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    *sink.groups.lock().expect("no panics") = 0;
    for number in 0..count {
        let (env2, wal, sink, results) = (env.clone(), wal.clone(), Arc::clone(sink), Arc::clone(&results));
        tasks.push(env.spawn(ShardId(0), "client", async move {
            let latencies = client(env2, wal, sink, number, from, until).await;
            results.lock().expect("no panics").extend(latencies);
        }));
    }
    for task in tasks {
        task.join().await;
    }
    let mut latencies = results.lock().expect("no panics").clone();
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000] / 1000;
    let groups = *sink.groups.lock().expect("no panics");
    println!(
        "{count:>4} clients of 1 KB: {:>7}/s   p50 {} us   p99 {} us   p99.9 {} us   {} groups/s",
        latencies.len() as u64 / seconds,
        at(500),
        at(990),
        at(999),
        groups / (seconds + 1),
    );
}

async fn measure_stream(env: &World, wal: &Wal<World>, seconds: u64) {
    let payload = Bytes::from(vec![7; 16 * 1024]);
    let mut durable = wal.durable();
    for round in 0..2 {
        let begun = env.clock().now();
        let until = begun + Duration::from_secs(if round == 0 { 1 } else { seconds });
        let count = Cell::new(0_u64);
        while env.clock().now() < until {
            let permit = wal.reserve_space(payload.len(), Class::Normal).await.expect("the disk has room");
            let ticket = wal.submit(frame(0, &payload));
            drop(permit);
            count.set(count.get() + 1);
            // The tail's bound, 128 MiB, is far above this window of 32 MiB.
            let window = Ticket(ticket.0.saturating_sub(2048));
            durable.wait_for(|durable| *durable >= window).await.expect("the WAL goes on");
        }
        let last = wal.last_ticket();
        durable.wait_for(|durable| *durable >= last).await.expect("the WAL goes on");
        let took = env.clock().now().since(begun);
        if round == 1 {
            let bytes = count.get() * payload.len() as u64;
            println!("stream of 16 KB: {} MB/s", bytes * 1000 / u64::try_from(took.as_nanos()).expect("short"));
        }
    }
}

/// Reads back, as after a crash, what the stand-in for a checkpoint has left.
async fn measure_scan(env: &World, dir: &Path, covered: GroupSequence) {
    let superblock = superblock::read(env.disk(), dir).await.expect("it was written").expect("it is there");
    let begun = env.clock().now();
    let scan = ScanOptions { dir: dir.to_owned(), direct: true, mode: ScanMode::Recover };
    let mut scanner = Scanner::open(env.clone(), scan, &superblock, covered).await.expect("it was written");
    let (mut bytes, mut frames) = (0, 0);
    while let Some(group) = scanner.next_group().await.expect("the files can be read") {
        bytes += group.length;
        frames += group.frames.len();
    }
    let end = scanner.finish().await.expect("the files can be read");
    assert!(end.damage.is_empty(), "nothing is damaged");
    let nanos = u64::try_from(env.clock().now().since(begun).as_nanos()).expect("short");
    println!(
        "scan after a crash: {} MB, {frames} frames, {} ms, {} MB/s",
        bytes / 1_000_000,
        nanos / 1_000_000,
        bytes * 1000 / nanos
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("usage: wal_rates DIR [SECONDS]"));
    let seconds = arguments.next().map_or(3, |text| text.parse().expect("seconds are a number"));
    let runtime = TokioEnv::start(Options { shards: 1 }).expect("the system has a thread");
    let env = runtime.env();
    runtime.block_on(async move {
        let (wal, sink) = open(&env, &dir).await;
        for count in [1, 16, 256] {
            measure_clients(&env, &wal, &sink, count, seconds).await;
        }
        measure_stream(&env, &wal, seconds).await;
        println!("{:?}", wal.space());
        wal.close().await;
        let covered = *sink.covered.lock().expect("no panics");
        measure_scan(&env, &dir, covered).await;
    });
    runtime.shutdown();
}
