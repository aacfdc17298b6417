//! Who reads slowly slows its writer; calls that are given up lose nothing.

use std::{pin::pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use quipu_env::{NetReader, NetWriter, Segment, WriteQueue};
use tokio::sync::oneshot;

use crate::{
    World,
    support::{
        A_WHILE, Pair, QueueOf, ReaderOf, WriterOf, assert_pattern, finish, join_all, pair, pattern, poll_once, queue,
        receive, receive_all, send, soon, spawn, within,
    },
};

/// No connection holds more than this for a reader that does not read.
const HELD_BYTES_MAX: usize = 64 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// Writes the pattern until the connection takes no more for a while. Returns how many bytes it took.
async fn fill<W: World>(world: &W, writer: &mut WriterOf<W>) -> usize {
    let mut taken = 0;
    loop {
        let mut chunk = queue::<W>(pattern(taken, CHUNK_BYTES));
        match within(world, A_WHILE, writer.write(&mut chunk)).await {
            Some(count) => taken += count.unwrap_or_else(|error| panic!("write after {taken} bytes: {error}")),
            None => return taken,
        }
        assert!(taken <= HELD_BYTES_MAX, "{taken} bytes were taken and nobody reads");
    }
}

pub(crate) async fn a_writer_waits_for_its_reader<W: World>(world: W) {
    let Pair { mut client_writer, mut server_reader, client_reader: _reader, server_writer: _writer, .. } =
        pair(&world).await;
    let taken = fill(&world, &mut client_writer).await;
    let (sender, received) = oneshot::channel();
    let reading_world = world.clone();
    let reading = spawn(&world, async move {
        let bytes = receive_all(&reading_world, &mut server_reader).await;
        sender.send(bytes).unwrap_or_else(|_| panic!("the test waits for this"));
    });
    let more = 3 << 20;
    send(&world, &mut client_writer, pattern(taken, more)).await;
    finish(&world, &mut client_writer).await;
    let bytes = soon(&world, "everything that was written", received).await.expect("the reader sends");
    assert_eq!(bytes.len(), taken + more);
    assert_pattern(0, &bytes);
    join_all(&world, vec![reading]).await;
}

pub(crate) async fn a_stalled_connection_delays_no_other<W: World>(world: W) {
    let mut stalled = pair(&world).await;
    let mut lively = pair(&world).await;
    fill(&world, &mut stalled.client_writer).await;
    for round in 0..10 {
        send(&world, &mut lively.client_writer, pattern(round, 5000)).await;
        assert_pattern(round, &receive(&world, &mut lively.server_reader, 5000).await);
    }
    // The other way of the stalled connection is open as well.
    send(&world, &mut stalled.server_writer, &b"read!"[..]).await;
    assert_eq!(receive(&world, &mut stalled.client_reader, 5).await, &b"read!"[..]);
}

/// Segments of many sizes, 9 MB in all.
fn mixed_queue<W: World>() -> (QueueOf<W>, usize) {
    let mut queue = WriteQueue::new();
    let mut length = 0;
    for size in (0..300).map(|number| number % 97).chain([1 << 20, 1, 8_000_000, 3, 100_000]) {
        queue.push(Segment::Bytes(Bytes::from(pattern(length, size))));
        length += size;
    }
    assert_eq!(queue.len(), length);
    (queue, length)
}

/// Reads to the end in a task of its own.
fn read_in_background<W: World>(world: &W, mut reader: ReaderOf<W>) -> oneshot::Receiver<BytesMut> {
    let (sender, received) = oneshot::channel();
    let reading_world = world.clone();
    drop(spawn(world, async move {
        let bytes = receive_all(&reading_world, &mut reader).await;
        sender.send(bytes).unwrap_or_else(|_| panic!("the test waits for this"));
    }));
    received
}

pub(crate) async fn writes_take_what_they_say<W: World>(world: W) {
    let Pair { mut client_writer, server_reader, .. } = pair(&world).await;
    let received = read_in_background(&world, server_reader);
    let (mut queue, length) = mixed_queue::<W>();
    while !queue.is_empty() {
        let before = queue.len();
        let count = soon(&world, "room to write", client_writer.write(&mut queue)).await;
        let count = count.unwrap_or_else(|error| panic!("write: {error}"));
        assert!(count >= 1, "a write that took nothing");
        assert_eq!(before - queue.len(), count, "a write took another number of bytes than it says");
    }
    finish(&world, &mut client_writer).await;
    let bytes = soon(&world, "the bytes", received).await.expect("the reader sends");
    assert_eq!(bytes.len(), length);
    assert_pattern(0, &bytes);
}

pub(crate) async fn a_read_given_up_takes_nothing<W: World>(world: W) {
    let mut pair = pair(&world).await;
    let mut buffer = BytesMut::new();
    let mut sent = 0;
    for round in 0..50 {
        {
            let mut read = pin!(pair.server_reader.read_buf(&mut buffer));
            assert!(poll_once(read.as_mut()).await.is_pending(), "bytes that nobody sent");
        }
        assert_eq!(buffer.len(), sent, "a read that was given up changed the buffer");
        let length = 1 + round * 37;
        send(&world, &mut pair.client_writer, pattern(sent, length)).await;
        sent += length;
        while buffer.len() < sent {
            // Given up again and again while bytes arrive: with a limit of nothing, and with one that sometimes suffices.
            let limit = Duration::from_micros(if round % 2 == 0 { 0 } else { 300 });
            if let Some(count) = within(&world, limit, pair.server_reader.read_buf(&mut buffer)).await {
                assert!(count.unwrap_or_else(|error| panic!("read: {error}")) > 0, "an end that nobody sent");
            }
        }
    }
    assert_eq!(buffer.len(), sent);
    assert_pattern(0, &buffer);
}

pub(crate) async fn a_write_given_up_sent_what_left_the_queue<W: World>(world: W) {
    let Pair { mut client_writer, server_reader, .. } = pair(&world).await;
    // Full, so that writes have to wait and are given up while they do.
    let taken = fill(&world, &mut client_writer).await;
    let mut queue: QueueOf<W> = WriteQueue::new();
    let mut length = taken;
    for size in [1000, 1, 500_000, 70_000, 2_000_000] {
        queue.push(Segment::Bytes(Bytes::from(pattern(length, size))));
        length += size;
    }
    for _ in 0..3 {
        let before = queue.len();
        let polled = {
            let mut write = pin!(client_writer.write(&mut queue));
            poll_once(write.as_mut()).await
        };
        let count = match polled {
            Poll::Ready(count) => count.unwrap_or_else(|error| panic!("write: {error}")),
            Poll::Pending => 0,
        };
        assert_eq!(before - queue.len(), count, "a write took another number of bytes than it says");
    }
    let received = read_in_background(&world, server_reader);
    while !queue.is_empty() {
        if let Some(count) = within(&world, Duration::from_micros(200), client_writer.write(&mut queue)).await {
            assert!(count.unwrap_or_else(|error| panic!("write: {error}")) > 0, "a write that took nothing");
        }
    }
    finish(&world, &mut client_writer).await;
    let bytes = soon(&world, "the bytes", received).await.expect("the reader sends");
    assert_eq!(bytes.len(), length);
    assert_pattern(0, &bytes);
}

pub(crate) async fn a_read_fills_spare_capacity_only<W: World>(world: W) {
    let mut pair = pair(&world).await;
    send(&world, &mut pair.client_writer, pattern(0, 10_000)).await;
    finish(&world, &mut pair.client_writer).await;
    let mut position = 0;
    for wanted in (1..).cycle().take(10_000) {
        let mut buffer = BytesMut::with_capacity(wanted);
        let capacity = buffer.capacity();
        let count = soon(&world, "bytes", pair.server_reader.read_buf(&mut buffer)).await;
        let count = count.unwrap_or_else(|error| panic!("read: {error}"));
        assert!(count <= capacity, "{count} bytes were read into a buffer of {capacity}");
        assert_eq!(count, buffer.len(), "a read appended another number of bytes than it says");
        assert_eq!(capacity, buffer.capacity(), "a buffer with room was made larger");
        assert_pattern(position, &buffer);
        position += count;
        if count == 0 {
            break;
        }
    }
    assert_eq!(position, 10_000);
}

pub(crate) async fn a_read_makes_room_where_there_is_none<W: World>(world: W) {
    let mut pair = pair(&world).await;
    send(&world, &mut pair.client_writer, pattern(3, 1000)).await;
    finish(&world, &mut pair.client_writer).await;
    let mut buffer = BytesMut::from(&pattern(0, 3)[..]);
    loop {
        // Full, so that each read must make room, and content that must stay.
        let mut full = BytesMut::from(&buffer[..]);
        full.resize(full.capacity(), 0);
        full.truncate(buffer.len());
        let mut tight = full.split_to(buffer.len());
        drop(full);
        let count = soon(&world, "bytes", pair.server_reader.read_buf(&mut tight)).await;
        let count = count.unwrap_or_else(|error| panic!("read: {error}"));
        assert_eq!(tight.len(), buffer.len() + count, "a read appended another number of bytes than it says");
        buffer = tight;
        if count == 0 {
            break;
        }
    }
    assert_eq!(buffer.len(), 1003);
    assert_pattern(0, &buffer);
}

pub(crate) async fn an_empty_queue_is_written_at_once<W: World>(world: W) {
    let mut pair = pair(&world).await;
    let mut nothing: QueueOf<W> = WriteQueue::new();
    nothing.push(Segment::Bytes(Bytes::new()));
    let count = soon(&world, "a write of nothing", pair.client_writer.write(&mut nothing)).await;
    assert_eq!(count.unwrap_or_else(|error| panic!("write: {error}")), 0);
    fill(&world, &mut pair.client_writer).await;
    let count = soon(&world, "a write of nothing to a full connection", pair.client_writer.write(&mut nothing)).await;
    assert_eq!(count.unwrap_or_else(|error| panic!("write: {error}")), 0);
}
