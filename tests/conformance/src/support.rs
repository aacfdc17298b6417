//! What the tests share: the world's types by short names, waiting, patterns of bytes, connected pairs.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quipu_env::{Clock, Disk, Env, File, Listener, Net, NetReader, NetWriter, OpenOptions, Segment, Task, WriteQueue};

use crate::World;

pub(crate) type DiskOf<W> = <<W as World>::Env as Env>::Disk;
pub(crate) type FileOf<W> = <DiskOf<W> as Disk>::File;
pub(crate) type NetOf<W> = <<W as World>::Env as Env>::Net;
pub(crate) type ListenerOf<W> = <NetOf<W> as Net>::Listener;
pub(crate) type ReaderOf<W> = <NetOf<W> as Net>::Reader;
pub(crate) type WriterOf<W> = <NetOf<W> as Net>::Writer;
pub(crate) type TaskOf<W> = <<W as World>::Env as Env>::Task;
pub(crate) type QueueOf<W> = WriteQueue<FileOf<W>>;

/// Long enough for anything that ought to happen, short enough to be told what did not.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long to look before believing that nothing happens.
pub(crate) const A_WHILE: Duration = Duration::from_millis(200);

/// The future's value, or none after `limit`.
pub(crate) async fn within<W: World, F: Future>(world: &W, limit: Duration, future: F) -> Option<F::Output> {
    let mut sleep = pin!(world.env().clock().sleep(limit));
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        sleep.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// The future's value, which must come [`SOON`].
pub(crate) async fn soon<W: World, F: Future>(world: &W, what: &str, future: F) -> F::Output {
    within(world, SOON, future).await.unwrap_or_else(|| panic!("still waiting after {SOON:?}: {what}"))
}

/// Polls once and says what came of it.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Lets other tasks of this shard run.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Starts a task on the caller's shard.
pub(crate) fn spawn<W: World>(world: &W, future: impl Future<Output = ()> + Send + 'static) -> TaskOf<W> {
    world.env().spawn(world.env().current_shard(), "conformance", future)
}

/// Ends when all tasks have.
pub(crate) async fn join_all<W: World>(world: &W, tasks: Vec<TaskOf<W>>) {
    for task in tasks {
        soon(world, "a task's end", task.join()).await;
    }
}

/// The bytes from `position` of a pattern that repeats at no power of two.
pub(crate) fn pattern(position: usize, length: usize) -> Vec<u8> {
    (position..position + length).map(|at| u8::try_from((at % 251) ^ (at / 251 % 256)).unwrap_or(0)).collect()
}

/// Checks that `bytes` are the pattern from `position`.
pub(crate) fn assert_pattern(position: usize, bytes: &[u8]) {
    let expected = pattern(position, bytes.len());
    if let Some(at) = (0..bytes.len()).find(|at| bytes[*at] != expected[*at]) {
        panic!("byte {} is {}, not {}", position + at, bytes[at], expected[at]);
    }
}

/// A file of that name in the world's directory.
pub(crate) async fn open<W: World>(world: &W, name: &str, options: OpenOptions) -> FileOf<W> {
    let path = world.directory().join(name);
    let file = world.env().disk().open(&path, options).await;
    file.unwrap_or_else(|error| panic!("open {name} with {options:?}: {error}"))
}

/// A new file of that name with that content.
pub(crate) async fn file_with<W: World>(world: &W, name: &str, content: impl Into<Bytes>) -> FileOf<W> {
    let file = open(world, name, OpenOptions::CREATE_NEW).await;
    write(&file, 0, content).await;
    file
}

/// Writes one chunk.
pub(crate) async fn write<F: File>(file: &F, position: u64, content: impl Into<Bytes>) {
    let written = file.write_at(position, vec![content.into()]).await;
    written.unwrap_or_else(|error| panic!("write at {position}: {error}"));
}

/// Reads, and does not expect an error.
pub(crate) async fn read<F: File>(file: &F, position: u64, length: usize) -> Bytes {
    file.read_at(position, length).await.unwrap_or_else(|error| panic!("read {length} at {position}: {error}"))
}

/// The two ends of one connection.
pub(crate) struct Pair<W: World> {
    pub(crate) listener: ListenerOf<W>,
    pub(crate) address: SocketAddr,
    pub(crate) client_reader: ReaderOf<W>,
    pub(crate) client_writer: WriterOf<W>,
    pub(crate) server_reader: ReaderOf<W>,
    pub(crate) server_writer: WriterOf<W>,
}

/// A listener on a port of the world's choice.
pub(crate) async fn bind<W: World>(world: &W) -> (ListenerOf<W>, SocketAddr) {
    let listener = world.env().net().bind(SocketAddr::new(world.host(), 0)).await;
    let listener = listener.unwrap_or_else(|error| panic!("bind to port 0: {error}"));
    let address = listener.local_addr();
    (listener, address)
}

/// Connects, and expects to succeed.
pub(crate) async fn connect<W: World>(world: &W, address: SocketAddr) -> (ReaderOf<W>, WriterOf<W>) {
    let connected = world.env().net().connect(address, SOON).await;
    connected.unwrap_or_else(|error| panic!("connect to {address}: {error}"))
}

/// Accepts, and expects to succeed.
pub(crate) async fn accept<W: World>(world: &W, listener: &mut ListenerOf<W>) -> (ReaderOf<W>, WriterOf<W>) {
    let accepted = soon(world, "a connection to accept", listener.accept()).await;
    let (reader, writer, _) = accepted.unwrap_or_else(|error| panic!("accept: {error}"));
    (reader, writer)
}

/// A connection.
pub(crate) async fn pair<W: World>(world: &W) -> Pair<W> {
    let (mut listener, address) = bind(world).await;
    let (client_reader, client_writer) = connect(world, address).await;
    let (server_reader, server_writer) = accept(world, &mut listener).await;
    Pair { listener, address, client_reader, client_writer, server_reader, server_writer }
}

/// A queue with one segment.
pub(crate) fn queue<W: World>(bytes: impl Into<Bytes>) -> QueueOf<W> {
    let mut queue = WriteQueue::new();
    queue.push(Segment::Bytes(bytes.into()));
    queue
}

/// Writes the whole queue.
pub(crate) async fn send_queue<W: World>(world: &W, writer: &mut WriterOf<W>, queue: &mut QueueOf<W>) {
    while !queue.is_empty() {
        let sent = soon(world, "room to write", writer.write(queue)).await;
        sent.unwrap_or_else(|error| panic!("write: {error}"));
    }
}

/// Writes bytes.
pub(crate) async fn send<W: World>(world: &W, writer: &mut WriterOf<W>, bytes: impl Into<Bytes>) {
    send_queue(world, writer, &mut queue::<W>(bytes)).await;
}

/// Writes FIN.
pub(crate) async fn finish<W: World>(world: &W, writer: &mut WriterOf<W>) {
    soon(world, "finish", writer.finish()).await.unwrap_or_else(|error| panic!("finish: {error}"));
}

/// Reads exactly `count` bytes; panics if there are fewer, or more come along with them.
pub(crate) async fn receive<W: World>(world: &W, reader: &mut ReaderOf<W>, count: usize) -> BytesMut {
    let mut buffer = BytesMut::new();
    while buffer.len() < count {
        let read = soon(world, "bytes to read", reader.read_buf(&mut buffer)).await;
        let read = read.unwrap_or_else(|error| panic!("read after {} bytes: {error}", buffer.len()));
        assert!(read > 0, "the peer finished after {} of {count} bytes", buffer.len());
    }
    assert_eq!(buffer.len(), count, "more arrived than was sent");
    buffer
}

/// Reads until the peer has finished.
pub(crate) async fn receive_all<W: World>(world: &W, reader: &mut ReaderOf<W>) -> BytesMut {
    let mut buffer = BytesMut::new();
    loop {
        let read = soon(world, "bytes or the end", reader.read_buf(&mut buffer)).await;
        match read.unwrap_or_else(|error| panic!("read after {} bytes: {error}", buffer.len())) {
            0 => return buffer,
            _ => continue,
        }
    }
}
