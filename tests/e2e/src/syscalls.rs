//! What the kernel was asked, in which order: written, synced, and only then acknowledged.
//!
//! The broker runs under strace. A thread that is traced goes on only when the tracer has noted its call, so the order in the
//! trace is the order that the broker itself could rely on. Looked at:
//! - 100 acknowledgements: the record's bytes were written to the WAL, and that write synced, before the reply was sent;
//! - every file and directory made in the data directory: the directory that holds it was synced before the next step that
//!   relies on it: for a segment the manifest's edit, for all else a reply or the ready line;
//! - every rename: the file was synced before, its directory after;
//! - the checkpoint of a clean stop: segments and their directories were synced before the manifest's edit was written, and
//!   that was synced before the superblock said "clean".
//!
//! Not here: what happens when a sync lies; that is the simulated disk's part. Read [`trace`] next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quipu_testkit::batch::{self, Producer};
use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::clients::Client;
use quipu_testkit::scratch::Scratch;

use self::trace::{Call, Trace};
use crate::subject::skipped_against_kafka;

mod trace;

const ACKNOWLEDGEMENTS: i32 = 100;
/// Correlation ids are four letters and digits, so that they can be read in a trace: "A000", "A001", ...
fn tag(number: i32) -> String {
    format!("A{number:03}")
}

fn marker(number: i32) -> String {
    format!("<<record-{number:03}>>")
}

/// Runs a broker under strace through its whole life; gives what it did.
fn traced(scratch: &Scratch) -> (Trace, PathBuf) {
    let data = scratch.join("data");
    let file = scratch.join("trace");
    let mut options = Options::new(&data).unwrap();
    let calls = "trace=open,openat,creat,rename,renameat,renameat2,pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,sendfile,\
                 fdatasync,fsync,sync_file_range,ftruncate,fallocate,unlink,unlinkat,mkdir,mkdirat,exit_group";
    // -D: the broker stays our own child. -y: descriptors with their paths. -s: long enough for a whole small group.
    let strace =
        ["strace", "-D", "-f", "-y", "-s", "32768", "-e", "signal=none", "-e", calls, "-o", file.to_str().unwrap()];
    options.wrapper = strace.into_iter().map(Into::into).collect();
    let mut broker = Broker::start_with(options).unwrap();
    let mut wire = broker.wire().unwrap();
    wire.create_topic("traced", 2, &[]).unwrap();
    for number in 0..ACKNOWLEDGEMENTS {
        let batch = batch::build(&[marker(number)], 1_700_000_000_000, Producer::NONE);
        wire.set_correlation_id(i32::from_be_bytes(tag(number).into_bytes().try_into().unwrap()));
        assert_eq!(wire.produce("traced", number % 2, &batch).unwrap().error, 0);
    }
    assert!(broker.stop().unwrap().success());
    (read_trace(&file), data)
}

/// The tracer writes its last lines just after the broker has gone.
fn read_trace(file: &Path) -> Trace {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&text);
        if text.contains("exit_group(0)") && text.ends_with('\n') {
            return Trace::parse(&text);
        }
        assert!(Instant::now() < deadline, "the trace has no end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_acknowledged_or_relied_on_before_it_is_synced() {
    let test = "nothing_is_acknowledged_or_relied_on_before_it_is_synced";
    if skipped_against_kafka(test) || !Client::Strace.check(test) {
        return;
    }
    let scratch = Scratch::new("syscalls").unwrap();
    let (trace, data) = traced(&scratch);
    check_acknowledgements(&trace, &data.join("wal"));
    check_created_files(&trace, &data);
    check_renames(&trace, &data);
    check_checkpoint(&trace, &data);
}

/// Each record's bytes were written below `wal`, and a sync of that file that began after the write had ended before the
/// reply began.
fn check_acknowledgements(trace: &Trace, wal: &Path) {
    for number in 0..ACKNOWLEDGEMENTS {
        let reply = trace
            .calls()
            .find(|call| call.sends() && call.arguments.contains(&format!("{}\\", tag(number))))
            .unwrap_or_else(|| panic!("reply {} is not in the trace", tag(number)));
        let write = trace
            .calls()
            .find(|call| call.writes() && call.is_below(wal) && call.arguments.contains(&marker(number)))
            .unwrap_or_else(|| panic!("record {number} was not written to the WAL"));
        assert!(
            trace.synced_between(write.path(), write.end, reply.begin),
            "record {number} was acknowledged (line {}) before its write (line {}) was synced",
            reply.begin + 1,
            write.begin + 1
        );
    }
}

/// For everything made in the data directory: the directory that holds it was synced before what relies on it.
fn check_created_files(trace: &Trace, data: &Path) {
    let mut seen = BTreeSet::new();
    let first = |call: &&Call| call.creates() && call.is_below(data) && seen.insert(call.path().to_path_buf());
    let created: Vec<&Call> = trace.calls().filter(first).collect();
    assert!(created.iter().any(|call| call.is_below(&data.join("wal"))), "a WAL file was made");
    assert!(created.iter().any(|call| call.is_below(&data.join("seg"))), "a segment was made");
    for create in created {
        let path = create.path();
        if path.ends_with("lock") {
            // Held by the kernel while the process lives; nothing is kept in it.
            continue;
        }
        let Some(step) = trace.calls().find(|call| call.begin > create.end && is_step(call, path, data)) else {
            continue;
        };
        let directory = path.parent().unwrap();
        assert!(
            trace.synced_between(directory, create.end, step.begin),
            "{} (line {}) was relied on (line {}) before its directory was synced",
            path.display(),
            create.begin + 1,
            step.begin + 1
        );
    }
}

/// What relies on the file at `path` being found again.
fn is_step(call: &Call, path: &Path, data: &Path) -> bool {
    let segment = path.starts_with(data.join("seg"));
    let manifest = call.writes() && call.is_below(data) && is_manifest(call.path());
    let acknowledges = call.sends() && (0..ACKNOWLEDGEMENTS).any(|n| call.arguments.contains(&format!("{}\\", tag(n))));
    // A segment counts from the edit that names it.
    if segment { manifest } else { acknowledges || call.arguments.contains("quipu: ready on") }
}

/// A renamed file was synced before, and its directory afterwards, before the next reply, the ready line or the end.
fn check_renames(trace: &Trace, data: &Path) {
    let renames: Vec<(&Call, PathBuf, PathBuf)> = trace.calls().filter_map(|call| call.rename()).collect();
    assert!(!renames.is_empty(), "a first start renames the superblock, at least, into its place");
    for (rename, from, to) in renames.iter().filter(|(_, from, _)| from.starts_with(data)) {
        let last_write = trace.calls().rfind(|call| call.writes() && call.path() == from && call.end < rename.begin);
        if let Some(write) = last_write {
            assert!(
                trace.synced_between(from, write.end, rename.begin),
                "{} was renamed (line {}) before it was synced",
                from.display(),
                rename.begin + 1
            );
        }
        let relies =
            |call: &&Call| call.begin > rename.end && (call.sends() || call.arguments.contains("quipu: ready on"));
        let step = trace.calls().find(relies).map_or(trace.end(), |call| call.begin);
        let directory = to.parent().unwrap();
        assert!(
            trace.synced_between(directory, rename.end, step),
            "the directory of {} was not synced after the rename (line {})",
            to.display(),
            rename.begin + 1
        );
    }
}

fn is_manifest(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("manifest"))
}

/// The stop's checkpoint: all that was written to segments was synced before the last edit of the manifest was written, the
/// edit was synced before the superblock's last write, and that was synced too.
fn check_checkpoint(trace: &Trace, data: &Path) {
    let writes = || trace.calls().filter(|call| call.writes() && call.is_below(data));
    let edit = writes().rfind(|call| is_manifest(call.path())).expect("a stop writes an edit to the manifest");
    let mut last_writes: BTreeMap<&Path, &Call> = BTreeMap::new();
    for write in writes().filter(|call| call.is_below(&data.join("seg")) && call.begin < edit.begin) {
        last_writes.insert(write.path(), write);
    }
    assert!(last_writes.len() >= 2, "two partitions were written to segments: {:?}", last_writes.keys());
    for (path, write) in last_writes {
        assert!(
            trace.synced_between(path, write.end, edit.begin),
            "{} was named by the manifest (line {}) before it was synced",
            path.display(),
            edit.begin + 1
        );
    }
    let superblock = writes().rfind(|call| call.path().starts_with(data.join("superblock")));
    let superblock = superblock.expect("a clean stop writes the superblock");
    assert!(edit.end < superblock.begin, "the superblock is written last");
    assert!(trace.synced_between(edit.path(), edit.end, superblock.begin), "the edit was synced before the superblock");
    assert!(trace.synced_between(superblock.path(), superblock.end, trace.end()), "the superblock was synced");
}
