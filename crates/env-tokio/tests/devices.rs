//! Errors that an ordinary file does not give on request, from the kernel's special devices.

use std::{io, path::Path};

use bytes::Bytes;
use quipu_env::{AlignedBuf, Disk, Env, File, Lane, OpenOptions};
use quipu_env_tokio::{Options, TokioDisk, TokioEnv};

fn with_disk<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(TokioDisk) -> F) {
    let runtime = TokioEnv::start(Options { shards: 1 }).expect("threads");
    let disk = runtime.env().disk().clone();
    runtime.block_on(test(disk));
    runtime.shutdown();
}

#[test]
fn a_full_disk_is_storage_full() {
    with_disk(async |disk: TokioDisk| {
        let file = disk.open(Path::new("/dev/full"), OpenOptions::WRITE).await.expect("open");
        let chunk = || vec![Bytes::from_static(b"x")];
        let error = file.write_at(0, chunk()).await.expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        let error = file.write_sync(0, chunk()).await.expect_err("no space, and so nothing to sync");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    });
}

#[test]
fn a_failed_sync_is_told_and_stays_failed() {
    // A character device cannot be synced: EINVAL.
    with_disk(async |disk: TokioDisk| {
        let file = disk.open(Path::new("/dev/null"), OpenOptions::WRITE).await.expect("open");
        let first = file.sync_data().await.expect_err("not a file");
        assert_eq!((first.path.as_path(), first.kind), (Path::new("/dev/null"), io::ErrorKind::InvalidInput));
        let written = file.write_sync(0, vec![Bytes::from_static(b"x")]).await.expect("the write itself succeeds");
        assert_eq!(written.expect_err("not a file"), first);
    });
}

#[test]
fn a_file_without_direct_io_is_opened_the_plain_way() {
    with_disk(async |disk: TokioDisk| {
        let options = OpenOptions { direct: true, lane: Lane::Wal, ..OpenOptions::WRITE };
        let file = disk.open(Path::new("/dev/null"), options).await.expect("open");
        assert!(!file.is_direct(), "/dev/null bypasses a page cache that it does not have");
        file.write_at(0, vec![AlignedBuf::zeroed(4096).freeze()]).await.expect("aligned");
        file.write_at(1, vec![Bytes::from_static(b"x")]).await.expect("not aligned");
    });
}
