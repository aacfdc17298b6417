//! A small store with everything in it, and directories that may be spoilt.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use quipu_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicIdPartition};
use quipu_env::{Disk, Env, File, OpenOptions};
use quipu_env_tokio::{Options, TokioEnv};

use crate::{
    Class, Log, LogOptions, Store, StoreOptions, VerifyReport,
    testing::batch_at,
    verify::{DumpEntry, DumpOptions, dump, verify},
    wal::Ticket,
};

pub(super) const TOPIC: TopicId = TopicId([7; 16]);
/// Rolled into several segments, of which all but the last have a footer.
pub(super) const ROLLED: TopicIdPartition = partition(0);
/// One segment, and batches in the WAL.
pub(super) const GROWING: TopicIdPartition = partition(1);
/// In the WAL only.
pub(super) const YOUNG: TopicIdPartition = partition(2);
/// Deleted after the checkpoint.
pub(super) const DELETED: TopicIdPartition = partition(3);
/// Cut back, by the end and by the start, after the checkpoint.
pub(super) const CUT: TopicIdPartition = partition(4);

const fn partition(number: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TOPIC, partition: PartitionIndex(number) }
}

/// A directory that goes away with the test.
pub(super) struct TestDir(PathBuf);

impl TestDir {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quipu-verify-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs a test in the real world, with a directory of its own.
pub(super) fn in_directory<F>(name: &str, test: impl FnOnce(TokioEnv, PathBuf) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let directory = TestDir::new(name);
    let runtime = TokioEnv::start(Options { shards: 1 }).expect("a runtime");
    runtime.block_on(test(runtime.env(), directory.path().to_owned()));
}

pub(super) fn options(dir: &Path) -> StoreOptions {
    StoreOptions { wal_file_bytes: 256 * 1024, wal_total_bytes: 1024 * 1024, ..StoreOptions::new(dir, BrokerId(1)) }
}

pub(super) async fn open<E: Env>(env: &E, dir: &Path) -> Store<E> {
    Store::open(env.clone(), options(dir)).await.unwrap_or_else(|error| panic!("open: {error}")).0
}

pub(super) async fn append<E: Env>(store: &Store<E>, log: &Log<E>, epoch: i32, bytes: usize, timestamp: i64) -> Ticket {
    let batch = batch_at(0, 2, bytes, timestamp);
    let reservation = store.reserve(batch.bytes().len(), Class::Normal).await.expect("room");
    let epoch = LeaderEpoch(epoch);
    log.append(reservation, epoch, batch.bytes(), batch.header(), Timestamp(timestamp)).expect("an append").ticket
}

pub(super) async fn wait<E: Env>(store: &Store<E>, ticket: Ticket) {
    store.durable().wait_for(|durable| *durable >= ticket).await.expect("the store runs");
}

/// Appends to all partitions, before and after a checkpoint.
pub(super) async fn fill<E: Env>(store: &Store<E>) {
    let [rolled, growing, young, deleted, cut] = [ROLLED, GROWING, YOUNG, DELETED, CUT].map(|log| store.log(log));
    rolled.set_options(LogOptions { segment_bytes: 8192, ..LogOptions::default() });
    for number in 0..12 {
        append(store, &rolled, number / 4, 2000, 1000 + i64::from(number)).await;
        append(store, &growing, 1, 300, 5).await;
        append(store, &cut, 2, 500, 5).await;
    }
    append(store, &growing, 2, 20_000, 6).await;
    wait(store, append(store, &deleted, 0, 100, 5).await).await;
    store.checkpoint().await.expect("a checkpoint");
    let room = store.reserve(0, Class::Reserve).await.expect("room");
    cut.truncate(room, Offset(20)).await.expect("a truncation");
    let room = store.reserve(0, Class::Reserve).await.expect("room");
    cut.set_log_start(room, Offset(4)).expect("a log start");
    wait(store, store.delete(DELETED)).await;
    for number in 0..5 {
        append(store, &growing, 3, 700, 7 + i64::from(number)).await;
        append(store, &cut, 3, 100, 7).await;
        wait(store, append(store, &young, 3, 6000, 7).await).await;
    }
}

/// What a store that has been filled leaves when it is stopped.
pub(super) async fn stopped(env: &TokioEnv, dir: &Path) {
    let running = dir.with_extension("running");
    let store = open(env, &running).await;
    fill(&store).await;
    store.close().await.expect("a clean stop");
    copy_directory(env, &running, dir).await;
    drop(store);
    std::fs::remove_dir_all(running).expect("it was made here");
}

/// What a store that has been filled leaves when its process is killed: the WAL has something that no checkpoint covers.
pub(super) async fn killed(env: &TokioEnv, dir: &Path) {
    let running = dir.with_extension("running");
    let store = open(env, &running).await;
    fill(&store).await;
    copy_directory(env, &running, dir).await;
    store.close().await.expect("a clean stop");
    drop(store);
    std::fs::remove_dir_all(running).expect("it was made here");
}

pub(super) async fn copy_directory(env: &TokioEnv, from: &Path, to: &Path) {
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        std::fs::create_dir_all(to.join(&directory)).expect("make a directory");
        for name in env.disk().list(&from.join(&directory)).await.expect("list") {
            let inner = directory.join(name);
            if from.join(&inner).is_dir() {
                directories.push(inner);
            } else {
                std::fs::copy(from.join(&inner), to.join(&inner)).expect("copy");
            }
        }
    }
}

pub(super) async fn read_file<E: Env>(env: &E, path: &Path) -> Bytes {
    let file = env.disk().open(path, OpenOptions::READ).await.expect("open");
    let size = usize::try_from(file.size().await.expect("size")).expect("small");
    file.read_at(0, size).await.expect("read")
}

/// Makes `path` hold exactly `bytes`.
pub(super) async fn write_file<E: Env>(env: &E, path: &Path, bytes: Bytes) {
    let options = OpenOptions { truncate: true, ..OpenOptions::CREATE };
    let file = env.disk().open(path, options).await.expect("open");
    file.write_at(0, vec![bytes]).await.expect("write");
}

/// Writes a few bytes into a file.
pub(super) async fn patch<E: Env>(env: &E, path: &Path, position: u64, bytes: &[u8]) {
    let file = env.disk().open(path, OpenOptions::WRITE).await.expect("open");
    file.write_at(position, vec![Bytes::copy_from_slice(bytes)]).await.expect("write");
}

pub(super) async fn report<E: Env>(env: &E, dir: &Path) -> VerifyReport {
    verify(env, dir).await.unwrap_or_else(|error| panic!("verify: {error}"))
}

pub(super) async fn dumped<E: Env>(env: &E, dir: &Path, options: DumpOptions) -> Vec<DumpEntry> {
    let mut entries = Vec::new();
    let on_entry = |entry| {
        entries.push(entry);
        core::ops::ControlFlow::Continue(())
    };
    dump(env, dir, options, on_entry).await.unwrap_or_else(|error| panic!("dump: {error}"));
    entries
}
