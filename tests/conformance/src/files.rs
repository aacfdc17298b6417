//! What is in a file: opening, reading, writing, lengths, several handles.

use std::{io, pin::pin};

use bytes::Bytes;
use quipu_env::{Disk, Env, File, OpenOptions};

use crate::{
    World,
    support::{assert_pattern, file_with, join_all, open, pattern, poll_once, read, spawn, write},
};

pub(crate) async fn a_missing_file_is_not_found<W: World>(world: W) {
    let disk = world.env().disk();
    for options in [OpenOptions::READ, OpenOptions::WRITE, OpenOptions { truncate: true, ..OpenOptions::WRITE }] {
        let missing = disk.open(&world.directory().join("missing"), options).await;
        assert_eq!(missing.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound), "{options:?}");
    }
    let nowhere = disk.open(&world.directory().join("no directory").join("file"), OpenOptions::CREATE).await;
    assert_eq!(nowhere.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    assert_eq!(disk.list(world.directory()).await.expect("it exists"), [""; 0], "a failed open made something");
}

pub(crate) async fn an_exclusive_file_is_new<W: World>(world: W) {
    let file = file_with(&world, "file", &b"first"[..]).await;
    let again = world.env().disk().open(file.path(), OpenOptions::CREATE_NEW).await;
    assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
    assert_eq!(read(&file, 0, 100).await, &b"first"[..], "a failed open changed the file");
}

pub(crate) async fn opening_keeps_or_cuts_as_asked<W: World>(world: W) {
    let file = file_with(&world, "file", &b"content"[..]).await;
    assert_eq!(file.path(), world.directory().join("file"));
    for options in [OpenOptions::READ, OpenOptions::WRITE, OpenOptions::CREATE] {
        assert_eq!(read(&open(&world, "file", options).await, 0, 100).await, &b"content"[..], "{options:?}");
    }
    let cut = open(&world, "file", OpenOptions { truncate: true, ..OpenOptions::WRITE }).await;
    assert_eq!(cut.size().await.expect("size"), 0);
    assert!(read(&file, 0, 100).await.is_empty(), "another handle still sees what was cut");
}

pub(crate) async fn a_read_only_file_takes_no_writes<W: World>(world: W) {
    let file = file_with(&world, "file", &b"content"[..]).await;
    let read_only = open(&world, "file", OpenOptions::READ).await;
    let written = read_only.write_at(0, vec![Bytes::from_static(b"X")]).await;
    assert!(written.is_err(), "a file opened for reading was written");
    assert!(read_only.set_len(1).await.is_err(), "a file opened for reading was cut");
    assert_eq!(read(&file, 0, 100).await, &b"content"[..]);
}

pub(crate) async fn reads_end_at_the_end<W: World>(world: W) {
    let file = file_with(&world, "file", pattern(0, 200_000)).await;
    for (position, length, expected) in [
        (0, 200_000, 200_000),
        (0, 200_001, 200_000),
        (0, 0, 0),
        (199_999, 1, 1),
        (199_999, 2, 1),
        (150_000, 100_000, 50_000),
        (200_000, 1, 0),
        (200_001, 10, 0),
        (1 << 40, 10, 0),
    ] {
        let bytes = read(&file, position, length).await;
        assert_eq!(bytes.len(), expected, "a read of {length} at {position} of 200000");
        assert_pattern(usize::try_from(position).expect("64 bits"), &bytes);
    }
}

pub(crate) async fn a_gap_reads_as_zeros<W: World>(world: W) {
    let file = file_with(&world, "file", &b"start"[..]).await;
    write(&file, 10_000, &b"end"[..]).await;
    assert_eq!(file.size().await.expect("size"), 10_003);
    let bytes = read(&file, 0, 20_000).await;
    assert_eq!(&bytes[..5], b"start");
    assert!(bytes[5..10_000].iter().all(|byte| *byte == 0), "a gap that is not zero");
    assert_eq!(&bytes[10_000..], b"end");
}

pub(crate) async fn many_chunks_are_one_write<W: World>(world: W) {
    let file = file_with(&world, "file", vec![0xff; 100]).await;
    let mut chunks = Vec::new();
    let mut length = 0;
    for number in 0..3000 {
        let size = (number * 31) % 400;
        chunks.push(Bytes::from(pattern(length, size)));
        length += size;
    }
    file.write_at(50, chunks).await.expect("write");
    assert_eq!(file.size().await.expect("size"), 50 + length as u64);
    assert!(read(&file, 0, 50).await.iter().all(|byte| *byte == 0xff), "a write reached before its position");
    assert_pattern(0, &read(&file, 50, length).await);
}

pub(crate) async fn an_empty_write_changes_nothing<W: World>(world: W) {
    let file = file_with(&world, "file", &b"abc"[..]).await;
    file.write_at(1, Vec::new()).await.expect("no chunks");
    file.write_at(1000, vec![Bytes::new(), Bytes::new()]).await.expect("empty chunks");
    assert_eq!(read(&file, 0, 2000).await, &b"abc"[..]);
}

pub(crate) async fn the_length_can_be_set<W: World>(world: W) {
    let file = file_with(&world, "file", pattern(0, 9000)).await;
    file.set_len(5000).await.expect("cut");
    assert_eq!(file.size().await.expect("size"), 5000);
    assert_eq!(read(&file, 4990, 100).await.len(), 10);
    file.set_len(12_000).await.expect("extend");
    assert_eq!(file.size().await.expect("size"), 12_000);
    let bytes = read(&file, 0, 20_000).await;
    assert_eq!(bytes.len(), 12_000);
    assert_pattern(0, &bytes[..5000]);
    assert!(bytes[5000..].iter().all(|byte| *byte == 0), "what was cut came back");
}

pub(crate) async fn handles_share_one_file<W: World>(world: W) {
    let first = file_with(&world, "file", &b"......"[..]).await;
    let second = open(&world, "file", OpenOptions::WRITE).await;
    let clone = first.clone();
    write(&first, 0, &b"1"[..]).await;
    write(&second, 1, &b"2"[..]).await;
    write(&clone, 2, &b"3"[..]).await;
    drop(first);
    for file in [&second, &clone] {
        assert_eq!(read(file, 0, 100).await, &b"123..."[..]);
    }
    drop(second);
    write(&clone, 6, &b"!"[..]).await;
    assert_eq!(read(&clone, 0, 100).await, &b"123...!"[..]);
}

pub(crate) async fn concurrent_writes_keep_to_their_ranges<W: World>(world: W) {
    const RANGES: usize = 24;
    const LENGTH: usize = 30_001;
    let file = open(&world, "file", OpenOptions::CREATE_NEW).await;
    let mut tasks = Vec::new();
    for number in 0..RANGES {
        let file = file.clone();
        tasks.push(spawn(&world, async move {
            let from = number * LENGTH;
            for _ in 0..3 {
                let halves = vec![Bytes::from(pattern(from, 10_000)), Bytes::from(pattern(from + 10_000, 20_001))];
                file.write_at(from as u64, halves).await.expect("write");
                assert_pattern(from, &read(&file, from as u64, LENGTH).await);
            }
            file.sync_data().await.expect("sync");
        }));
    }
    join_all(&world, tasks).await;
    let bytes = read(&file, 0, RANGES * LENGTH + 1).await;
    assert_eq!(bytes.len(), RANGES * LENGTH);
    assert_pattern(0, &bytes);
}

pub(crate) async fn a_write_given_up_harms_no_other<W: World>(world: W) {
    let file = file_with(&world, "file", pattern(0, 100_000)).await;
    for round in 0..10 {
        let mut write = pin!(file.write_at(round * 5000, vec![Bytes::from(vec![7; 1000])]));
        // Whether it takes place is unknown; that it keeps to its range is not.
        drop(poll_once(write.as_mut()).await);
    }
    write(&file, 50_000, vec![9; 50_000]).await;
    file.sync_data().await.expect("sync");
    let bytes = read(&file, 0, 200_000).await;
    assert_eq!(bytes.len(), 100_000);
    assert!(bytes[50_000..].iter().all(|byte| *byte == 9), "another write's range has changed");
    for round in 0..10 {
        assert_pattern(round * 5000 + 1000, &bytes[round * 5000 + 1000..(round + 1) * 5000]);
        for at in round * 5000..round * 5000 + 1000 {
            assert!(bytes[at] == 7 || bytes[at] == pattern(at, 1)[0], "byte {at} is neither old nor new");
        }
    }
}

pub(crate) async fn forgetting_the_cache_changes_nothing<W: World>(world: W) {
    let file = file_with(&world, "file", pattern(0, 100_000)).await;
    file.forget_cached(0, 50_000).await;
    file.sync_data().await.expect("sync");
    file.forget_cached(10, 0).await;
    file.forget_cached(0, 1 << 40).await;
    let bytes = read(&file, 0, 200_000).await;
    assert_eq!(bytes.len(), 100_000);
    assert_pattern(0, &bytes);
}
