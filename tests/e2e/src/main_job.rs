//! The main job on real input: a text file of 100 MB in, the same bytes out, per partition and per key; and again with
//! `kill -9` in the middle.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quipu_testkit::clients::Client;
use quipu_testkit::scratch::Scratch;
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use crate::kcat::kcat;
use crate::librdkafka::{consumer, producer};
use crate::subject::{Subject, ours};
use crate::text;

const LIMIT: Duration = Duration::from_secs(120);
/// About 100 MB of lines.
const LINES: usize = 1_200_000;
const KEYS: usize = 1009;

#[test]
fn a_hundred_megabytes_through_kcat_come_back_through_librdkafka() {
    let test = "a_hundred_megabytes_through_kcat_come_back_through_librdkafka";
    if !Client::Kcat.check(test) {
        return;
    }
    let subject = Subject::start("main-job");
    let scratch = Scratch::new("main-job-input").unwrap();
    let lines = text::lines(LINES);
    let file = text::file(&lines);
    assert!(file.len() >= 100_000_000, "{} bytes", file.len());
    let path = scratch.join("lines.txt");
    std::fs::write(&path, &file).unwrap();
    subject.topic("file", 1);
    let bootstrap = subject.bootstrap();
    kcat(&bootstrap, &["-P", "-t", "file", "-p", "0", "-X", "acks=all", "-l", path.to_str().unwrap()], b"");

    let consumer = consumer(&bootstrap, "file", 0);
    let mut rest = file.as_slice();
    for number in 0..LINES {
        let message = consumer.poll(LIMIT).unwrap_or_else(|| panic!("{number} lines came back")).unwrap();
        let line = message.payload().unwrap();
        let (same, after) = rest.split_at_checked(line.len() + 1).expect("no more bytes than were sent");
        assert!(same.starts_with(line) && same.ends_with(b"\n"), "line {number}");
        rest = after;
    }
    assert!(rest.is_empty());
}

#[test]
fn a_hundred_megabytes_by_key_survive_kill_9_in_the_middle() {
    let test = "a_hundred_megabytes_by_key_survive_kill_9_in_the_middle";
    if !Client::Kcat.check(test) {
        return;
    }
    let Some((mut broker, _scratch)) = ours("main-job-crash") else { return };
    broker.wire().unwrap().create_topic("keyed", 4, &[]).unwrap();
    let lines = text::lines(LINES);
    let bootstrap = broker.bootstrap();
    let settings = [("reconnect.backoff.ms", "5"), ("reconnect.backoff.max.ms", "50"), ("retry.backoff.ms", "5")];
    let (producer, deliveries) = producer(&bootstrap, &settings);
    let sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, line) in lines.iter().enumerate() {
                let key = format!("key{}", number % KEYS);
                let record = BaseRecord::with_opaque_to("keyed", Box::new(number)).key(&key).payload(line);
                queue(&producer, record);
            }
            producer.flush(LIMIT).unwrap();
            sent.store(true, Ordering::Relaxed);
        });
        for part in 1..=3 {
            // A quarter, a half, three quarters.
            wait_until(|| deliveries.count() >= LINES * part / 4 || sent.load(Ordering::Relaxed));
            broker.kill();
            broker.restart().unwrap();
        }
    });
    assert_eq!(deliveries.acknowledged().len(), LINES, "every line was acknowledged");

    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for partition in ["0", "1", "2", "3"] {
        let arguments = ["-C", "-t", "keyed", "-p", partition, "-o", "beginning", "-e", "-q", "-f", "%k:%s\n"];
        let back = String::from_utf8(kcat(&bootstrap, &arguments, b"")).unwrap();
        for record in back.lines() {
            let (key, line) = record.split_once(':').unwrap();
            let first = || key.strip_prefix("key").unwrap().parse().unwrap();
            let number = next.entry(key.to_owned()).or_insert_with(first);
            assert_eq!(line, lines[*number], "the next line of {key}, exactly once");
            *number += KEYS;
        }
    }
    assert_eq!(next.len(), KEYS);
    assert!(next.values().all(|&number| number >= LINES), "every key to its end");
}

type Record<'a> = BaseRecord<'a, String, String, Box<usize>>;

/// Queues a record, waiting for room when the queue is full.
fn queue(producer: &crate::librdkafka::TestProducer, mut record: Record<'_>) {
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => panic!("cannot queue a record: {error}"),
        }
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "no progress");
        std::thread::sleep(Duration::from_millis(1));
    }
}
