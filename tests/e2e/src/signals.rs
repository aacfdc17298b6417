//! SIGTERM at awkward moments: while the broker recovers, and a second one while it stops.
//!
//! Not here: the usual stop ([`crate::startup`]).

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::batch::{self, Producer};
use quipu_testkit::broker::Options;
use quipu_testkit::clients::Client;
use quipu_testkit::process::Process;
use quipu_testkit::wire::{Wire, fetch_body, frame};

use crate::subject::{ours, skipped_against_kafka};

const LIMIT: Duration = Duration::from_secs(60);

/// Comes back when `what` holds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn values(wire: &mut Wire) -> Vec<String> {
    let records = batch::records(&wire.fetch_all("kept", 0, 0).unwrap()).unwrap();
    records.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
}

fn produce(wire: &mut Wire, value: &str) {
    let record = batch::build(&[value], 1_700_000_000_000, Producer::NONE);
    assert_eq!(wire.produce("kept", 0, &record).unwrap().error, 0);
}

/// Ends the process that traces `pid`; its tracees go on without it.
fn end_tracer(pid: &str) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap().trim().to_owned();
    if tracer == "0" {
        // The process came to its end before it had anything to sync.
        return;
    }
    assert!(Command::new("kill").args(["-KILL", &tracer]).status().unwrap().success());
}

#[test]
fn sigterm_during_recovery_ends_it_cleanly() {
    let test = "sigterm_during_recovery_ends_it_cleanly";
    if skipped_against_kafka(test) || !Client::Strace.check(test) {
        return;
    }
    let Some((mut broker, scratch)) = ours("sigterm-recovery") else { return };
    let mut wire = broker.wire().unwrap();
    wire.create_topic("kept", 1, &[]).unwrap();
    produce(&mut wire, "before");
    broker.kill();
    // The first thing that recovery does with the log is to sync it: here that takes a minute.
    let data = scratch.join("data");
    let log = data.join("wal").join("0000");
    let mut options = Options::new(&data).unwrap();
    let slow = ["-P", log.to_str().unwrap(), "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=60000000"];
    let strace = ["strace", "-D", "-f", "-o", "/dev/null"].into_iter().chain(slow);
    options.wrapper = strace.map(Into::into).collect();
    let mut recovering = Process::spawn("quipu broker", options.command(), &scratch.join("recovering.log")).unwrap();
    let pid = recovering.pid().to_string();
    wait_until("the broker has the directory", || {
        std::fs::read_to_string(data.join("lock")).is_ok_and(|holder| holder.trim() == pid)
    });
    recovering.terminate().unwrap();
    wait_until("the broker stops", || recovering.log().contains("stopping before the start was done"));
    // The tracer holds the delayed thread, and with it the end of the process, for the whole minute.
    end_tracer(&pid);
    let status = recovering.wait(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", recovering.log());
    assert!(!recovering.log().contains("ready on"), "it had not begun to serve: {}", recovering.log());
    broker.restart().unwrap();
    assert_eq!(values(&mut broker.wire().unwrap()), ["before"]);
}

/// Records of a megabyte: as many as one reply takes.
const LARGE: usize = 8;

#[test]
fn a_second_sigterm_ends_at_once() {
    let Some((mut broker, _scratch)) = ours("second-sigterm") else { return };
    let mut wire = broker.wire().unwrap();
    wire.create_topic("kept", 1, &[]).unwrap();
    for _ in 0..LARGE {
        produce(&mut wire, &"x".repeat(1_000_000));
    }
    // Somebody who asks for much more than sockets hold and takes none of it: the stop waits for him.
    let mut slow = TcpStream::connect(broker.address()).unwrap();
    for _ in 0..60 {
        slow.write_all(&frame(1, 4, 1, &fetch_body("kept", 0, 0, 0))).unwrap();
    }
    produce(&mut wire, "after");
    // The broker is at it.
    slow.peek(&mut [0]).unwrap();
    broker.process().terminate().unwrap();
    wait_until("the stop begins", || broker.process().log().contains("stopping"));
    let begun = Instant::now();
    broker.process().terminate().unwrap();
    let status = broker.process().wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(1), "{}", broker.process().log());
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    drop(slow);
    broker.restart().unwrap();
    assert_eq!(values(&mut broker.wire().unwrap())[LARGE], "after");
}
