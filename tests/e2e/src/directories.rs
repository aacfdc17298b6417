//! Data directories that must not be served: those of another cluster, mixed from two, damaged, or with parts missing.
//!
//! Each is refused with the status that the kind of trouble has, and is left as it is: with the right files back in their places it
//! serves again.
//!
//! Not here: directories that are held, newer, another node's or unwritable ([`crate::startup`]).

use std::path::{Path, PathBuf};

use quipu_testkit::batch::{self, Producer, crc32c};
use quipu_testkit::broker::Broker;
use quipu_testkit::scratch::Scratch;

use crate::startup::{quipu, stderr};
use crate::subject::ours;

/// A broker whose directory holds one record, ended in one way or the other.
fn written(test: &str, clean: bool) -> Option<(Broker, Scratch)> {
    let (mut broker, scratch) = ours(test)?;
    let mut wire = broker.wire().unwrap();
    wire.create_topic("kept", 1, &[]).unwrap();
    let record = batch::build(&[b"value"], 1_700_000_000_000, Producer::NONE);
    assert_eq!(wire.produce("kept", 0, &record).unwrap().error, 0);
    if clean {
        assert!(broker.stop().unwrap().success());
    } else {
        broker.kill();
    }
    Some((broker, scratch))
}

/// A directory of release 0.1.0, from before there were clusters: 60 records in topic `kept`, the last 20 in its write-ahead log only.
const OLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/single-node-0.1.0.tar.gz");

#[test]
fn a_directory_of_an_older_release_starts_unchanged() {
    let test = "a_directory_of_an_older_release_starts_unchanged";
    if crate::subject::skipped_against_kafka(test) {
        return;
    }
    let scratch = Scratch::new("older").unwrap();
    let mut unpack = std::process::Command::new("tar");
    unpack.arg("-xzf").arg(OLDER).arg("-C").arg(scratch.path());
    quipu_testkit::process::run("tar", unpack, b"", std::time::Duration::from_secs(60)).unwrap();
    let options = quipu_testkit::broker::Options::new(scratch.join("single")).unwrap();
    let mut broker = Broker::start_with(options.arguments(["--wal-file-bytes", "16777216"])).unwrap();
    let kept = |broker: &Broker| {
        let stored = batch::records(&broker.wire().unwrap().fetch_all("kept", 0, 0).unwrap()).unwrap();
        let text = |(offset, value): (i64, Vec<u8>)| (offset, String::from_utf8(value).unwrap());
        stored.into_iter().map(text).collect::<Vec<_>>()
    };
    let mut expected: Vec<(i64, String)> = (0..60).map(|number| (number, format!("record {number}"))).collect();
    assert_eq!(kept(&broker), expected);
    // It goes on, and is started again as what it is now.
    let mut wire = broker.wire().unwrap();
    let record = batch::build(&[b"record 60"], 1_700_000_000_000, Producer::NONE);
    assert_eq!(wire.produce("kept", 0, &record).unwrap().error, 0);
    wire.create_topic("new", 1, &[]).unwrap();
    expected.push((60, "record 60".to_owned()));
    broker.kill();
    broker.restart().unwrap();
    assert_eq!(kept(&broker), expected);
    assert!(broker.stop().unwrap().success());
}

/// Everything in the directory, with its contents.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().is_some_and(|name| name != "lock") {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Refused with this status and these words; nothing is changed.
fn assert_refused(data: &Path, status: i32, words: &[&str]) {
    let before = contents(data);
    let refused = quipu(&["broker", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(contents(data) == before, "a refused directory is left as it is");
}

fn assert_serves(broker: &mut Broker) {
    broker.restart().unwrap();
    let records = batch::records(&broker.wire().unwrap().fetch_all("kept", 0, 0).unwrap()).unwrap();
    assert_eq!(records, [(0, b"value".to_vec())]);
    broker.kill();
}

#[test]
fn files_of_two_directories_are_not_served() {
    for clean in [true, false] {
        let Some((mut broker, scratch)) = written("mixed", clean) else { return };
        let Some((_other, other_scratch)) = written("mixed-other", clean) else { return };
        let (data, other) = (scratch.join("data"), other_scratch.join("data"));
        for (name, named) in [("superblock", "manifest"), ("manifest", "manifest"), ("wal/0000", "wal/0000")] {
            let right = std::fs::read(data.join(name)).unwrap();
            std::fs::copy(other.join(name), data.join(name)).unwrap();
            assert_refused(&data, 78, &[named, "another data directory"]);
            let verified = quipu(&["log", "verify", data.to_str().unwrap()]);
            assert_eq!(verified.status.code(), Some(78), "{name}: {}", stderr(&verified));
            std::fs::write(data.join(name), right).unwrap();
        }
        assert_serves(&mut broker);
    }
}

#[test]
fn another_clusters_metadata_is_not_served() {
    let Some((mut broker, scratch)) = written("other-cluster", true) else { return };
    let path = scratch.join("data").join("superblock");
    let right = std::fs::read(&path).unwrap();
    // Four copies of 4 KiB: the cluster id at 48, a CRC-32C at 12 over all the rest of the copy.
    let mut other = right.clone();
    for copy in other.chunks_exact_mut(4096) {
        copy[48] ^= 1;
        let covered = [&copy[..12], &copy[16..]].concat();
        copy[12..16].copy_from_slice(&crc32c(&covered).to_le_bytes());
    }
    std::fs::write(&path, other).unwrap();
    let data = scratch.join("data");
    let refused = quipu(&["broker", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(78), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("cluster"), "{}", stderr(&refused));
    std::fs::write(&path, right).unwrap();
    assert_serves(&mut broker);
}

#[test]
fn parts_that_are_missing_or_damaged_are_missed() {
    let Some((mut broker, scratch)) = written("missing", false) else { return };
    let data = scratch.join("data");
    for name in ["superblock", "manifest", "wal/0000"] {
        let right = std::fs::read(data.join(name)).unwrap();
        std::fs::remove_file(data.join(name)).unwrap();
        assert_refused(&data, 65, &[if name == "wal/0000" { "wal" } else { name }]);
        if name != "wal/0000" {
            std::fs::write(data.join(name), vec![0x5a; right.len()]).unwrap();
            assert_refused(&data, 65, &[name]);
        }
        std::fs::write(data.join(name), right).unwrap();
    }
    assert_serves(&mut broker);
}
