//! Direct files, the lock, free space.

use std::io;

use bytes::Bytes;
use quipu_env::{AlignedBuf, Disk, Env, File, Lane, LockError, OpenOptions};

use crate::{
    World,
    support::{assert_pattern, open, pattern, read},
};

const PAGE: usize = 4096;
const DIRECT: OpenOptions = OpenOptions { direct: true, lane: Lane::Wal, ..OpenOptions::CREATE };

/// The pattern in memory that direct files accept.
fn aligned(position: usize, length: usize) -> Bytes {
    let mut buffer = AlignedBuf::zeroed(length);
    buffer.as_mut().copy_from_slice(&pattern(position, length));
    buffer.freeze()
}

pub(crate) async fn aligned_files_read_what_was_written<W: World>(world: W) {
    let file = open(&world, "wal", DIRECT).await;
    let chunks = vec![aligned(0, PAGE), aligned(PAGE, 5 * PAGE), aligned(6 * PAGE, 300 * PAGE)];
    file.write_at(0, chunks).await.expect("write");
    file.sync_data().await.expect("sync");
    let written = file.write_sync(2 * PAGE as u64, vec![aligned(0, 3 * PAGE)]).await;
    written.expect("write").expect("sync");
    let bytes = read(&file, 0, 306 * PAGE).await;
    assert_pattern(0, &bytes[..2 * PAGE]);
    assert_pattern(0, &bytes[2 * PAGE..5 * PAGE]);
    assert_pattern(5 * PAGE, &bytes[5 * PAGE..]);
    assert_eq!(bytes.len(), 306 * PAGE);
    if file.is_direct() {
        assert_eq!(
            bytes.as_ptr().addr() % PAGE,
            0,
            "a direct file was read into memory that it cannot be written from"
        );
    }
}

pub(crate) async fn a_misaligned_access_is_refused<W: World>(world: W) {
    let file = open(&world, "wal", DIRECT).await;
    file.write_at(0, vec![aligned(0, 4 * PAGE)]).await.expect("write");
    if !file.is_direct() {
        // Opened the plain way, which takes anything.
        assert_pattern(1, &read(&file, 1, 10).await);
        return;
    }
    let odd_address = aligned(0, 2 * PAGE).slice(1..=PAGE);
    for (what, refused) in [
        ("a position", file.write_at(512, vec![aligned(0, PAGE)]).await.err()),
        ("a length", file.write_at(0, vec![aligned(0, PAGE).slice(..PAGE - 1)]).await.err()),
        ("an address", file.write_at(0, vec![odd_address]).await.err()),
        ("a position", file.read_at(1, PAGE).await.err()),
        ("a length", file.read_at(0, 1).await.err()),
    ] {
        let kind = refused.map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::InvalidInput), "{what} off the grid of 4 KiB");
    }
    assert_pattern(0, &read(&file, 0, 4 * PAGE).await);
}

pub(crate) async fn an_aligned_read_ends_at_the_end<W: World>(world: W) {
    let plain = open(&world, "wal", OpenOptions::CREATE_NEW).await;
    plain.write_at(0, vec![Bytes::from(pattern(0, 3 * PAGE + 100))]).await.expect("write");
    plain.sync_data().await.expect("sync");
    let file = open(&world, "wal", DIRECT).await;
    for (page, pages, expected) in [(0, 3, 3 * PAGE), (0, 8, 3 * PAGE + 100), (3, 1, 100), (4, 1, 0), (400, 3, 0)] {
        let bytes = read(&file, page * PAGE as u64, pages * PAGE).await;
        assert_eq!(bytes.len(), expected, "a read of {pages} pages at page {page} of 3 and 100 bytes");
        assert_pattern(usize::try_from(page).expect("64 bits") * PAGE, &bytes);
    }
}

pub(crate) async fn aligned_and_plain_handles_agree<W: World>(world: W) {
    let direct = open(&world, "wal", DIRECT).await;
    let plain = open(&world, "wal", OpenOptions::WRITE).await;
    direct.write_at(0, vec![aligned(0, 4 * PAGE)]).await.expect("write");
    assert_pattern(0, &read(&plain, 0, 5 * PAGE).await);
    plain.write_at(100, vec![Bytes::from_static(b"plain")]).await.expect("write");
    assert_eq!(&read(&direct, 0, PAGE).await[100..105], b"plain");
    direct.write_at(PAGE as u64, vec![aligned(0, PAGE)]).await.expect("write");
    assert_pattern(0, &read(&plain, PAGE as u64, PAGE).await);
    direct.set_len(2 * PAGE as u64).await.expect("cut");
    assert_eq!(plain.size().await.expect("size"), 2 * PAGE as u64);
}

pub(crate) async fn a_lock_is_held_once<W: World>(world: W) {
    let path = world.directory().join("lock");
    world.env().disk().check_unlocked(&path).await.expect("there is no lock file");
    let names = world.env().disk().list(world.directory()).await.expect("list");
    assert!(!names.contains(&"lock".to_owned()), "checking a lock leaves no trace: {names:?}");
    let held = world.env().disk().lock(&path).await.unwrap_or_else(|error| panic!("lock: {error}"));
    let text = read(&open(&world, "lock", OpenOptions::READ).await, 0, 100).await;
    let written: u32 = str::from_utf8(&text).expect("digits").trim().parse().expect("the holder's process id");
    for _ in 0..2 {
        match world.env().disk().lock(&path).await {
            Err(LockError::Held { pid }) => assert_eq!(pid, Some(written), "the holder is told wrong"),
            Err(error) => panic!("a lock that is held: {error}"),
            Ok(_) => panic!("a lock was taken twice"),
        }
        match world.env().disk().check_unlocked(&path).await {
            Err(LockError::Held { pid }) => assert_eq!(pid, Some(written), "the holder is told wrong"),
            other => panic!("a lock that is held: {other:?}"),
        }
    }
    drop(held);
    world.env().disk().check_unlocked(&path).await.expect("nobody holds it any more");
}

pub(crate) async fn a_lock_ends_with_its_holder<W: World>(world: W) {
    let path = world.directory().join("lock");
    for round in 0..3 {
        let held = world.env().disk().lock(&path).await;
        drop(held.unwrap_or_else(|error| panic!("lock, round {round}: {error}")));
    }
}

pub(crate) async fn a_lock_needs_its_directory<W: World>(world: W) {
    let path = world.directory().join("missing").join("lock");
    match world.env().disk().lock(&path).await {
        Err(LockError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
        Err(error) => panic!("a lock in a missing directory: {error}"),
        Ok(_) => panic!("a lock was taken in a directory that is missing"),
    }
}

pub(crate) async fn space_is_told<W: World>(world: W) {
    let (free, total) = world.env().disk().space(world.directory()).await.expect("space");
    assert!(total > 0, "a disk without room");
    assert!(free <= total, "{free} bytes are free of {total}");
    let missing = world.env().disk().space(&world.directory().join("missing")).await;
    assert_eq!(missing.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
}
