//! Frames that no client sends: each gets a Kafka error or a closed connection, nobody else is disturbed, and memory stays
//! small.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use quipu_testkit::batch::{self, Producer};
use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::scratch::Scratch;
use quipu_testkit::wire::{Body, Wire, frame, produce_body};
use rustix::process::{Pid, Resource, Rlimit};

use crate::subject::{ours, skipped_against_kafka};

const MIB: u64 = 1 << 20;

/// What became of a connection onto which `bytes` were written.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Closed,
    Answered,
}

/// Writes `bytes` and waits for what happens.
fn outcome(address: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A broker that closes early breaks our write: that is an answer too.
    drop(stream.write_all(bytes));
    let mut first = [0; 4];
    match stream.read_exact(&mut first) {
        Ok(()) => Outcome::Answered,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("neither answered nor closed within 20 s: {:?}...", &bytes[..bytes.len().min(40)])
        }
        Err(_) => Outcome::Closed,
    }
}

/// Whether somebody else is served, by a produce and a fetch of what was produced.
fn assert_serves(wire: &mut Wire, topic: &str) {
    assert_eq!(try_to_serve(wire, topic), 0);
}

/// The error of a produce; what was produced is fetched.
fn try_to_serve(wire: &mut Wire, topic: &str) -> i16 {
    let record = batch::build(&[b"still here"], 1_700_000_000_000, Producer::NONE);
    let produced = wire.produce(topic, 0, &record).unwrap();
    if produced.error != 0 {
        return produced.error;
    }
    let fetched = wire.fetch(topic, 0, produced.base_offset, 1000).unwrap();
    assert_eq!(batch::records(&fetched.records).unwrap(), [(produced.base_offset, b"still here".to_vec())]);
    0
}

#[test]
fn broken_frames_are_answered_or_closed_and_nobody_else_is_disturbed() {
    let Some((mut broker, _scratch)) = ours("hostile") else { return };
    let address = broker.address();
    let mut bystander = broker.wire().unwrap();
    bystander.create_topic("bystander", 1, &[]).unwrap();
    let before = broker.process().memory().unwrap().resident_bytes;

    let cases: [(&str, Vec<u8>); 12] = [
        ("negative length", (-1_i32).to_be_bytes().to_vec()),
        ("smallest length", i32::MIN.to_be_bytes().to_vec()),
        ("huge length", i32::MAX.to_be_bytes().to_vec()),
        ("zero length", [0; 4].to_vec()),
        ("too short for a header", [0, 0, 0, 3, 1, 2, 3].to_vec()),
        ("unknown key", frame(9999, 0, 1, &[])),
        ("negative key", frame(-1, 0, 1, &[])),
        ("unknown version of Metadata", frame(3, 99, 1, &[])),
        ("negative version", frame(3, -1, 1, &[])),
        ("garbage", (0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()),
        ("a text protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a client id longer than the frame", [0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff].to_vec()),
    ];
    for (what, bytes) in cases {
        assert_eq!(outcome(address, &bytes), Outcome::Closed, "{what}");
        assert_serves(&mut bystander, "bystander");
    }
    for (what, bytes) in huge_counts() {
        outcome(address, &bytes);
        assert_serves(&mut bystander, "bystander");
        let now = broker.process().memory().unwrap().resident_bytes;
        assert!(now < before + 64 * MIB, "{what}: {} MiB more", (now - before) / MIB);
    }
    assert!(broker.process().ended().is_none());
    let log = broker.process().log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Requests whose arrays claim 2^31 elements, and truncated ones, for each of the usual keys.
fn huge_counts() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    for (key, version) in
        [(0, 7), (1, 4), (2, 1), (3, 1), (3, 9), (19, 2), (20, 1), (21, 0), (22, 0), (32, 1), (37, 0), (44, 0)]
    {
        for count in [[0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0, 0x0f, 0x42, 0x40]] {
            cases.push((format!("key {key} v{version} count {count:?}"), frame(key, version, 1, &count)));
        }
        // A compact array of 2^31 elements, for flexible versions: an unsigned varint.
        cases.push((
            format!("key {key} v{version} compact"),
            frame(key, version, 1, &[0, 0x80, 0x80, 0x80, 0x80, 0x08]),
        ));
        let acks_and_timeout = Body::new().i16(-1).i16(-1).i32(1000).raw(&[0x7f, 0xff, 0xff, 0xff]).into_bytes();
        cases.push((format!("key {key} v{version} nested"), frame(key, version, 1, &acks_and_timeout)));
    }
    cases
}

#[test]
fn every_truncation_of_a_produce_is_refused() {
    let Some((broker, _scratch)) = ours("truncated") else { return };
    let mut bystander = broker.wire().unwrap();
    bystander.create_topic("bystander", 1, &[]).unwrap();
    let record = batch::build(&[b"value"], 1_700_000_000_000, Producer::NONE);
    let body = produce_body(-1, "bystander", 0, &record);
    for length in 0..body.len() {
        // A whole frame whose body ends too early: it is unparseable, so the connection is closed.
        assert_eq!(outcome(broker.address(), &frame(0, 7, 1, &body[..length])), Outcome::Closed, "{length} bytes");
    }
    assert_eq!(bystander.list_offset("bystander", 0, -1).unwrap().1, 0, "nothing was appended");
    assert_serves(&mut bystander, "bystander");
}

#[test]
fn damaged_batches_are_refused_with_kafkas_codes() {
    let Some((broker, _scratch)) = ours("damaged") else { return };
    let mut wire = broker.wire().unwrap();
    wire.create_topic("damaged", 1, &[]).unwrap();
    let good = batch::build(&[b"one".as_slice(), b"two"], 1_700_000_000_000, Producer::NONE);
    let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut batch = good.clone();
        change(&mut batch);
        let crc = batch::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    };
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    const CORRUPT_MESSAGE: i16 = 2;
    const INVALID_RECORD: i16 = 87;
    const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
    let cases: [(&str, Vec<u8>, &[i16]); 6] = [
        ("a flipped bit", flipped, &[CORRUPT_MESSAGE]),
        (
            "a count of two where three are claimed",
            resealed(&|batch| batch[60] = 3),
            &[INVALID_RECORD, CORRUPT_MESSAGE],
        ),
        ("a last offset delta that does not fit", resealed(&|batch| batch[26] = 9), &[INVALID_RECORD, CORRUPT_MESSAGE]),
        ("a control batch", resealed(&|batch| batch[22] |= 0x20), &[INVALID_RECORD]),
        ("an unknown codec", resealed(&|batch| batch[22] |= 7), &[INVALID_RECORD, CORRUPT_MESSAGE, 76]),
        (
            "an old magic",
            resealed(&|batch| batch[16] = 1),
            &[INVALID_RECORD, UNSUPPORTED_FOR_MESSAGE_FORMAT, CORRUPT_MESSAGE],
        ),
    ];
    for (what, batch, expected) in cases {
        let error = wire.produce("damaged", 0, &batch).unwrap().error;
        assert!(expected.contains(&error), "{what}: error {error}, expected one of {expected:?}");
    }
    assert_eq!(wire.list_offset("damaged", 0, -1).unwrap().1, 0, "nothing was appended");
    assert_eq!(wire.produce("damaged", 0, &good).unwrap(), quipu_testkit::wire::Produced { error: 0, base_offset: 0 });
}

#[test]
fn a_frame_that_never_ends_costs_nothing_and_holds_nobody_up() {
    let Some((mut broker, _scratch)) = ours("endless") else { return };
    let mut bystander = broker.wire().unwrap();
    bystander.create_topic("bystander", 1, &[]).unwrap();
    let before = broker.process().memory().unwrap().resident_bytes;
    let mut endless = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        // Claims 64 MiB, sends 100 bytes, and stays.
        stream.write_all(&(64_i32 << 20).to_be_bytes()).unwrap();
        stream.write_all(&frame(3, 1, 1, &[0; 100])[4..]).unwrap();
        endless.push(stream);
    }
    for _ in 0..20 {
        assert_serves(&mut bystander, "bystander");
    }
    let now = broker.process().memory().unwrap().resident_bytes;
    assert!(now < before + 64 * MIB, "{} MiB more for 12 GiB of promises", (now - before) / MIB);
}

#[test]
fn a_reader_that_never_reads_is_bounded_and_closed() {
    if skipped_against_kafka("a_reader_that_never_reads_is_bounded_and_closed") {
        return;
    }
    let scratch = Scratch::new("never-reads").unwrap();
    let mut broker = Broker::start_with(Options::new(scratch.join("data")).unwrap()).unwrap();
    let mut bystander = broker.wire().unwrap();
    for topic in ["big", "bystander"] {
        bystander.create_topic(topic, 1, &[]).unwrap();
    }
    let values = vec![vec![7_u8; 900]; 1000];
    for _ in 0..30 {
        let batch = batch::build(&values, 1_700_000_000_000, Producer::NONE);
        assert_eq!(bystander.produce("big", 0, &batch).unwrap().error, 0);
    }
    let before = broker.process().memory().unwrap().resident_bytes;
    let fetch = Body::new().i32(-1).i32(0).i32(1).i32(50 << 20).i8(0);
    let fetch = fetch.i32(1).string("big").i32(1).i32(0).i64(0).i32(50 << 20).into_bytes();
    let mut deaf: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(broker.address()).unwrap()).collect();
    for stream in &mut deaf {
        stream.set_nonblocking(true).unwrap();
        let requests: Vec<u8> = (0..200).flat_map(|number| frame(1, 4, number, &fetch)).collect();
        // As many requests as the broker takes in; it need not take all.
        drop(stream.write(&requests));
    }
    for _ in 0..20 {
        assert_serves(&mut bystander, "bystander");
    }
    let now = broker.process().memory().unwrap().peak_bytes;
    // Replies not taken: 64 MiB for all, and 64 beside.
    assert!(now < before + 192 * MIB, "{} MiB more for readers that don't read", now.saturating_sub(before) / MIB);
    // A reader that takes nothing for 30 seconds is closed. Its end may be stuck behind the bytes that it doesn't read: the
    // broker's own sockets are counted.
    let deadline = Instant::now() + Duration::from_secs(90);
    let pid = broker.process().pid();
    while sockets(pid) >= deaf.len() {
        assert!(Instant::now() < deadline, "{} sockets are still open", sockets(pid));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_serves(&mut bystander, "bystander");
}

/// How many sockets a process has open.
fn sockets(pid: u32) -> usize {
    let links =
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|entry| entry.ok()?.path().read_link().ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_lack_of_file_descriptors_is_waited_out() {
    let Some((mut broker, _scratch)) = ours("descriptors") else { return };
    let mut bystander = broker.wire().unwrap();
    bystander.create_topic("bystander", 1, &[]).unwrap();
    assert_serves(&mut bystander, "bystander");
    let pid = broker.process().pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    let few = Rlimit { current: Some(open as u64 + 5), maximum: Some(4096) };
    rustix::process::prlimit(Some(process), Resource::Nofile, few).unwrap();
    let begun = Instant::now();
    let crowd: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(broker.address()).unwrap()).collect();
    let mut refusals = || broker.process().log().matches("accepting a connection failed").count();
    while refusals() < 10 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} refusals", refusals());
        // Without a descriptor for another file the log may have no room: KAFKA_STORAGE_ERROR, as on a full disk.
        let error = try_to_serve(&mut bystander, "bystander");
        assert!([0, 56].contains(&error), "{error}");
    }
    // It pauses for 100 ms after each.
    let (told, most) = (refusals(), begun.elapsed().as_millis() / 100 + 2);
    assert!(told as u128 <= most, "{told} refusals where {most} are possible: it spins");
    drop(crowd);
    let (mut wire, freed) = (broker.wire().unwrap(), Instant::now());
    while try_to_serve(&mut wire, "bystander") != 0 {
        assert!(freed.elapsed() < Duration::from_secs(30), "there are descriptors again, and it does not go on");
    }
}
