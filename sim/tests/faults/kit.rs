//! A server that tells what its connections bring, and what clients do to it.

use core::{
    future::{Future, pending, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use quipu_env::{
    Clock, ConnectError, Disk, Env, File, Listener, Net, NetReader, NetWriter, OpenOptions, Segment, WriteQueue,
};
use quipu_sim::{Node, NodeConfig, PowerCut, Report, Sim, SimConfig, SimEnv, World, env, fault::Fault};

pub(crate) const PORT: u16 = 9092;
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// A run in which one scenario plays.
pub(crate) fn run<T: Send, S: Future<Output = T>>(scenario: impl FnOnce(World) -> S + Send) -> Report<T> {
    Sim::new(1, SimConfig::default()).run(scenario)
}

/// How often a kind of fault was begun and happened.
pub(crate) fn counts<T>(report: &Report<T>, kind: &str) -> (u64, u64) {
    report.faults.get(kind).map_or((0, 0), |count| (count.begun, count.happened))
}

/// Asserts that a kind of fault was begun once and bit.
pub(crate) fn assert_bit<T>(report: &Report<T>, kind: &str) {
    let (begun, happened) = counts(report, kind);
    assert!(begun == 1 && happened > 0, "{kind} was begun {begun} times and happened {happened} times");
}

pub(crate) fn begin(world: &World, fault: Fault) {
    world.begin(&fault).expect("the fault makes sense");
}

pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What was noted, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("not poisoned").push(what.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|noted| noted == line)
    }
}

/// A machine that forgets everything that was not synced.
pub(crate) fn forgetful() -> NodeConfig {
    NodeConfig { power_cut: PowerCut::LoseAll, ..NodeConfig::default() }
}

/// Machines `client` and `server`; the server's process serves.
pub(crate) fn two(world: &World) -> (Node, Node, Log) {
    let client = world.node("client", NodeConfig::default());
    let server = world.node("server", NodeConfig::default());
    let log = Log::default();
    let for_server = log.clone();
    drop(server.start(|env| serve(env, for_server)));
    (client, server, log)
}

/// Answers each piece with as many bytes, and notes of each connection, by number: what came, and how it ended.
pub(crate) async fn serve(env: SimEnv, log: Log) {
    let mut listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.expect("bind");
    let mut number = 0;
    loop {
        let (mut reader, mut writer, _) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                log.note(format!("not accepted: {:?}", error.raw_os_error()));
                env.clock().sleep(SECOND / 10).await;
                continue;
            }
        };
        number += 1;
        log.note(format!("{number} accepted"));
        let log = log.clone();
        drop(env.spawn(env.current_shard(), "connection", async move {
            loop {
                let mut buffer = BytesMut::new();
                match reader.read_buf(&mut buffer).await {
                    Ok(0) => return log.note(format!("{number} ended")),
                    Ok(count) => log.note(format!("{number} {count}")),
                    Err(error) => return log.note(format!("{number} {:?}", error.kind())),
                }
                if let Err(error) = send(&mut writer, buffer.len()).await {
                    return log.note(format!("{number} {:?}", error.kind()));
                }
            }
        }));
    }
}

/// Bytes that connection `number` has brought.
pub(crate) fn bytes_of(log: &Log, number: u32) -> u64 {
    let own = log.lines().into_iter().filter_map(|line| {
        let (connection, rest) = line.split_once(' ')?;
        (connection == number.to_string()).then(|| rest.parse::<u64>().ok())?
    });
    own.sum()
}

pub(crate) async fn send(writer: &mut env::SimWriter, count: usize) -> io::Result<()> {
    let mut queue = WriteQueue::new();
    queue.push(Segment::Bytes(Bytes::from(vec![7; count])));
    while !queue.is_empty() {
        writer.write(&mut queue).await?;
    }
    Ok(())
}

/// What one read brings within a time: a number of bytes (0: the end), or an error's kind; none if nothing.
pub(crate) async fn read(
    env: &SimEnv,
    reader: &mut env::SimReader,
    limit: Duration,
) -> Option<Result<usize, io::ErrorKind>> {
    let mut buffer = BytesMut::new();
    within(env, limit, reader.read_buf(&mut buffer)).await.map(|read| read.map_err(|error| error.kind()))
}

/// Reads until so many bytes have come.
pub(crate) async fn read_all(reader: &mut env::SimReader, count: usize) {
    let mut buffer = BytesMut::new();
    while buffer.len() < count {
        assert!(reader.read_buf(&mut buffer).await.expect("read") > 0, "an end after {}", buffer.len());
    }
}

pub(crate) async fn within<F: Future>(env: &SimEnv, limit: Duration, future: F) -> Option<F::Output> {
    let (mut future, mut limit) = (pin!(future), pin!(env.clock().sleep(limit)));
    poll_fn(|task| match future.as_mut().poll(task) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => limit.as_mut().poll(task).map(|()| None),
    })
    .await
}

pub(crate) async fn connect(env: &SimEnv) -> (env::SimReader, env::SimWriter) {
    try_connect(env).await.expect("connect")
}

pub(crate) async fn try_connect(env: &SimEnv) -> Result<(env::SimReader, env::SimWriter), ConnectError> {
    let address = env.net().resolve("server", PORT).await.expect("a name")[0];
    env.net().connect(address, SECOND * 2).await
}

/// Has something done by a process on a machine, and waits for what it returns.
pub(crate) async fn on<T, F>(node: &Node, work: impl FnOnce(SimEnv) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    node.start(work).join().await.expect("the process returns")
}

/// How long something takes.
pub(crate) async fn timed<F: Future>(env: &SimEnv, future: F) -> (F::Output, Duration) {
    let begun = env.clock().now();
    let value = future.await;
    (value, env.clock().now() - begun)
}

/// A file that is made if it isn't there.
pub(crate) async fn open(env: &SimEnv, path: &str) -> io::Result<env::SimFile> {
    env.disk().open(path.as_ref(), OpenOptions::CREATE).await
}

/// A file with these bytes, synced with its name.
pub(crate) async fn durable(env: &SimEnv, path: &str, bytes: Vec<u8>) -> env::SimFile {
    let file = open(env, path).await.expect("open");
    file.write_at(0, vec![bytes.into()]).await.expect("write");
    file.sync_data().await.expect("sync");
    env.disk().sync_dir("/".as_ref()).await.expect("sync of the directory");
    file
}

/// A whole file; none if there is none.
pub(crate) async fn content(env: &SimEnv, path: &str) -> Option<Vec<u8>> {
    let file = env.disk().open(path.as_ref(), OpenOptions::READ).await.ok()?;
    let size = file.size().await.expect("size");
    Some(file.read_at(0, usize::try_from(size).expect("a small file")).await.expect("read").to_vec())
}

pub(crate) async fn forever() {
    pending::<()>().await;
}
