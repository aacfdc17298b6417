//! Syncs succeed where they can and say so where they can't. What survives a crash only a simulated disk can show.

use std::io;

use bytes::Bytes;
use quipu_env::{Disk, Env, File, Lane, OpenOptions};

use crate::{
    World,
    support::{assert_pattern, file_with, open, pattern, read, write},
};

pub(crate) async fn written_and_synced_in_one_step<W: World>(world: W) {
    for lane in [Lane::Wal, Lane::Pool] {
        let name = format!("{lane:?}");
        let file = open(&world, &name, OpenOptions { lane, ..OpenOptions::CREATE_NEW }).await;
        for position in [0, 5000, 2500] {
            let chunks = vec![Bytes::from(pattern(position, 1000)), Bytes::from(pattern(position + 1000, 1500))];
            let written = file.write_sync(position as u64, chunks).await;
            written.expect("write").expect("sync");
        }
        file.write_sync(0, Vec::new()).await.expect("write").expect("sync of nothing");
        assert_eq!(file.size().await.expect("size"), 7500);
        assert_pattern(0, &read(&file, 0, 10_000).await);
        let read_only = open(&world, &name, OpenOptions::READ).await;
        let refused = read_only.write_sync(0, vec![Bytes::from_static(b"X")]).await;
        assert!(refused.is_err(), "a failed write was told as a failed sync, or not at all");
    }
}

pub(crate) async fn syncing_names<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    let below = directory.join("below");
    disk.create_dir_all(&below).await.expect("make");
    disk.sync_dir(directory).await.expect("sync after making a directory");
    let file = file_with(&world, "below/file", &b"x"[..]).await;
    file.sync_data().await.expect("sync of the file");
    disk.sync_dir(&below).await.expect("sync after making a file");
    disk.rename(&below.join("file"), &directory.join("moved")).await.expect("rename");
    disk.sync_dir(&below).await.expect("sync of where it was");
    disk.sync_dir(directory).await.expect("sync of where it is");
    disk.remove(&directory.join("moved")).await.expect("remove");
    disk.sync_dir(directory).await.expect("sync after removing");
    assert_eq!(disk.list(directory).await.expect("list"), ["below"]);
}

pub(crate) async fn syncing_a_missing_directory_fails<W: World>(world: W) {
    let missing = world.directory().join("missing");
    let error = world.env().disk().sync_dir(&missing).await.expect_err("it does not exist");
    assert_eq!((error.path, error.kind), (missing, io::ErrorKind::NotFound));
}

pub(crate) async fn a_failed_sync_is_told<W: World>(world: W) {
    for in_one_step in [false, true] {
        let name = format!("file-{in_one_step}");
        let file = file_with(&world, &name, &b"before"[..]).await;
        let other = file_with(&world, &format!("other-{in_one_step}"), &b"x"[..]).await;
        file.sync_data().await.expect("nothing is wrong yet");
        if !world.fail_next_sync(file.path()) {
            return;
        }
        let failed = if in_one_step {
            file.write_sync(6, vec![Bytes::from_static(b"!")]).await.expect("the write itself succeeds")
        } else {
            write(&file, 6, &b"!"[..]).await;
            file.sync_data().await
        };
        assert_eq!(failed.expect_err("a failed sync was told as good").path, file.path());
        other.sync_data().await.expect("another file's sync");
    }
}
