//! Ranges of files go out as they are.

use std::io;

use bytes::Bytes;
use quipu_env::{Disk, Env, File, NetReader, NetWriter, Segment, WriteQueue};
use tokio::sync::oneshot;

use crate::{
    World,
    support::{
        FileOf, Pair, QueueOf, assert_pattern, file_with, finish, pair, pattern, receive, receive_all, send_queue,
        soon, spawn, write,
    },
};

fn range<W: World>(file: &FileOf<W>, position: u64, length: usize) -> Segment<FileOf<W>> {
    Segment::File { file: file.clone(), position, length }
}

/// Sends the queue over a new connection and returns what arrived.
async fn carried<W: World>(world: &W, mut queue: QueueOf<W>) -> Vec<u8> {
    let Pair { mut client_writer, mut server_reader, .. } = pair(world).await;
    let (sender, received) = oneshot::channel();
    let reading_world = world.clone();
    drop(spawn(world, async move {
        let bytes = receive_all(&reading_world, &mut server_reader).await;
        sender.send(bytes).unwrap_or_else(|_| panic!("the test waits for this"));
    }));
    send_queue(world, &mut client_writer, &mut queue).await;
    finish(world, &mut client_writer).await;
    soon(world, "the bytes", received).await.expect("the reader sends").to_vec()
}

pub(crate) async fn a_file_range_arrives_byte_for_byte<W: World>(world: W) {
    let length = 5 << 20;
    let file = file_with(&world, "data", pattern(0, length)).await;
    for (position, count) in [(0, length), (1, 1), (4095, 4098), (length - 1, 1), (1_000_003, 3_000_000)] {
        let mut queue = WriteQueue::new();
        queue.push(range::<W>(&file, position as u64, count));
        let bytes = carried(&world, queue).await;
        assert_eq!(bytes.len(), count);
        assert_pattern(position, &bytes);
    }
}

pub(crate) async fn files_and_memory_arrive_in_order<W: World>(world: W) {
    let file = file_with(&world, "data", pattern(0, 300_000)).await;
    let mut queue = WriteQueue::new();
    let mut expected = Vec::new();
    for number in 0..40_usize {
        let header = format!("<{number}>");
        expected.extend_from_slice(header.as_bytes());
        queue.push(Segment::Bytes(Bytes::from(header)));
        let (position, length) = (number * 997, (number * 7919) % 50_000);
        expected.extend_from_slice(&pattern(position, length));
        queue.push(range::<W>(&file, position as u64, length));
        if number % 3 == 0 {
            expected.extend_from_slice(&pattern(number, 10));
            queue.push(range::<W>(&file, number as u64, 10));
        }
    }
    assert_eq!(queue.len(), expected.len());
    drop(file);
    assert!(carried(&world, queue).await == expected, "the bytes arrived changed or in another order");
}

pub(crate) async fn unsynced_bytes_are_sent<W: World>(world: W) {
    let file = file_with(&world, "data", vec![1; 1000]).await;
    write(&file, 500, vec![2; 1000]).await;
    let mut queue = WriteQueue::new();
    queue.push(range::<W>(&file, 400, 1100));
    let bytes = carried(&world, queue).await;
    assert!(bytes[..100].iter().all(|byte| *byte == 1), "bytes before the last write");
    assert!(bytes[100..].iter().all(|byte| *byte == 2), "bytes of the last write");
}

pub(crate) async fn a_range_beyond_the_end_is_an_error<W: World>(world: W) {
    let file = file_with(&world, "data", pattern(0, 1000)).await;
    for (position, length) in [(900, 200), (1000, 1), (5000, 10)] {
        let mut pair = pair(&world).await;
        let mut queue: QueueOf<W> = WriteQueue::new();
        queue.push(range::<W>(&file, position as u64, length));
        let error = loop {
            match soon(&world, "an error", pair.client_writer.write(&mut queue)).await {
                Ok(count) => assert!(count > 0 && !queue.is_empty(), "bytes beyond the end of the file were sent"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        // What went out before is the file's.
        let sent = length - queue.len();
        let bytes = receive(&world, &mut pair.server_reader, sent).await;
        assert_pattern(position, &bytes);
        pair.client_writer.reset();
        let end = soon(&world, "the reset", pair.server_reader.read_buf(&mut bytes::BytesMut::new())).await;
        assert!(end.is_err(), "the connection ended in good order");
    }
}

pub(crate) async fn a_file_removed_meanwhile_is_sent<W: World>(world: W) {
    let file = file_with(&world, "data", pattern(0, 200_000)).await;
    let mut queue = WriteQueue::new();
    queue.push(range::<W>(&file, 0, 200_000));
    let path = file.path().to_owned();
    drop(file);
    world.env().disk().remove(&path).await.unwrap_or_else(|error| panic!("remove: {error}"));
    let bytes = carried(&world, queue).await;
    assert_eq!(bytes.len(), 200_000);
    assert_pattern(0, &bytes);
}
