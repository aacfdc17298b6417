//! A full disk: producers are refused, reads and deletes go on, writing resumes when space returns, nothing acknowledged is lost.
//!
//! Needs root, for a small tmpfs of its own; elsewhere it is skipped, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::batch::{self, Producer};
use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::clients::skip;
use quipu_testkit::process::run;
use quipu_testkit::scratch::Scratch;
use quipu_testkit::wire::{Body, Wire};

use crate::subject::skipped_against_kafka;

const KAFKA_STORAGE_ERROR: i16 = 56;
const TMPFS_MIB: usize = 160;

/// A tmpfs, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={TMPFS_MIB}m"), "quipu-test"]).arg(path);
        run("mount", mount, b"", Duration::from_secs(10)).ok().map(|_| Self(path.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg("--lazy").arg(&self.0);
        drop(run("umount", unmount, b"", Duration::from_secs(10)));
    }
}

#[test]
fn a_full_disk_refuses_writers_only_and_heals() {
    let test = "a_full_disk_refuses_writers_only_and_heals";
    if skipped_against_kafka(test) {
        return;
    }
    let scratch = Scratch::new("disk-full").unwrap();
    let Some(mount) = Mount::new(&scratch.join("small")) else {
        skip(test, "it needs the right to mount a tmpfs");
        return;
    };
    let options = Options::new(mount.0.join("data")).unwrap();
    // Small log files, so that it is data that fills the disk.
    let options = options.arguments(["--wal-file-bytes", "16777216", "--memory-tail-bytes", "33554432"]);
    let mut broker = Broker::start_with(options).unwrap();
    let mut wire = broker.wire().unwrap();
    for topic in ["fills", "other"] {
        wire.create_topic(topic, 1, &[]).unwrap();
    }
    let acknowledged = fill(&mut wire);
    assert!(broker.process().ended().is_none(), "a full disk does not end the broker");
    assert_eq!(count(&mut wire), acknowledged, "what was acknowledged is read while the disk is full");

    delete_records(&mut wire, "fills", acknowledged);
    wait_until_writable(&mut wire);
    broker.kill();
    broker.restart().unwrap();
    let mut wire = broker.wire().unwrap();
    let (_, start) = wire.list_offset("fills", 0, -2).unwrap();
    assert_eq!(start, acknowledged, "the deletion was kept");
    let rest = batch::records(&wire.fetch_all("other", 0, 0).unwrap()).unwrap();
    assert!(!rest.is_empty(), "what was acknowledged after the disk had room again is there");
    drop(broker);
    drop(mount);
}

/// Writes until the broker says that its disk is full; gives the number of acknowledged records.
fn fill(wire: &mut Wire) -> i64 {
    let values = vec![vec![1_u8; 1000]; 900];
    let batch = batch::build(&values, 1_700_000_000_000, Producer::NONE);
    let mut acknowledged = 0;
    for _ in 0..TMPFS_MIB * 2 {
        let produced = wire.produce("fills", 0, &batch).unwrap();
        match produced.error {
            0 => {
                assert_eq!(produced.base_offset, acknowledged);
                acknowledged += 900;
            }
            KAFKA_STORAGE_ERROR => return acknowledged,
            error => panic!("error {error} where {KAFKA_STORAGE_ERROR} (KAFKA_STORAGE_ERROR) was expected"),
        }
    }
    panic!("{} MiB were acknowledged on a disk of {TMPFS_MIB} MiB", acknowledged / 1000);
}

fn count(wire: &mut Wire) -> i64 {
    let headers = batch::headers(&wire.fetch_all("fills", 0, 0).unwrap()).unwrap();
    headers.iter().map(|header| i64::from(header.count)).sum()
}

fn delete_records(wire: &mut Wire, topic: &str, before: i64) {
    let body = Body::new().i32(1).string(topic).i32(1).i32(0).i64(before).i32(30_000);
    let mut reply = wire.call(21, 0, &body.into_bytes()).unwrap();
    reply.i32().unwrap();
    reply.count().unwrap();
    reply.string().unwrap();
    reply.count().unwrap();
    reply.i32().unwrap();
    assert_eq!(reply.i64().unwrap(), before, "the new low watermark");
    assert_eq!(reply.i16().unwrap(), 0, "a delete is served while the disk is full");
}

/// Space returns some time after the delete, when the files are gone: a producer tries until it is served.
fn wait_until_writable(wire: &mut Wire) {
    let record = batch::build(&[b"room again"], 1_700_000_000_000, Producer::NONE);
    let deadline = Instant::now() + Duration::from_secs(60);
    while wire.produce("other", 0, &record).unwrap().error != 0 {
        assert!(Instant::now() < deadline, "still refused a minute after all records were deleted");
        std::thread::sleep(Duration::from_millis(50));
    }
}
