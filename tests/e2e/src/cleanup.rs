//! Topics that expire and compact, on the real system, as kcat sees them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::clients::Client;
use quipu_testkit::scratch::Scratch;

use crate::kcat::kcat;
use crate::subject::skipped_against_kafka;
use crate::text;

const LIMIT: Duration = Duration::from_secs(120);
const SEGMENT_BYTES: u64 = 1 << 20;

/// A broker that looks for what is to go all the time.
fn eager(test: &str) -> Option<(Broker, Scratch)> {
    if skipped_against_kafka(test) || !Client::Kcat.check(test) {
        return None;
    }
    let scratch = Scratch::new(test).unwrap();
    let config = scratch.join("quipu.toml");
    let eager = "[defaults]\n\"log.cleaner.backoff.ms\" = 200\n\"log.retention.check.interval.ms\" = 200\n";
    fs::write(&config, eager).unwrap();
    let options = Options::new(scratch.join("data")).unwrap();
    let options = options.arguments(["--config".as_ref(), config.as_os_str()]);
    Some((Broker::start_with(options).unwrap(), scratch))
}

/// Keys and values in the order of the log.
fn consumed(bootstrap: &str, topic: &str) -> Vec<(String, String)> {
    let back = kcat(bootstrap, &["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k:%s\n"], b"");
    let lines = String::from_utf8(back).unwrap();
    let pair = |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
    lines.lines().map(pair).collect()
}

#[test]
fn a_compacted_topic_serves_the_last_value_of_each_key() {
    const KEYS: usize = 500;
    let Some((mut broker, _scratch)) = eager("compacted") else { return };
    let bootstrap = broker.bootstrap();
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("max.compaction.lag.ms", "1000")];
    broker.wire().unwrap().create_topic("updates", 1, &configs).unwrap();
    let lines = text::lines(50_000);
    let updates: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(number, line)| format!("key{}:{number} {line}", (number * 7919) % KEYS))
        .collect();
    let last: BTreeMap<String, String> =
        updates.iter().filter_map(|update| update.split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    kcat(&bootstrap, &["-P", "-t", "updates", "-K", ":", "-X", "acks=all"], &text::file(&updates));
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = consumed(&bootstrap, "updates");
        let count = left.len();
        let values: BTreeMap<String, String> = left.into_iter().collect();
        assert_eq!(values, last, "at every moment whoever reads it all holds the last values");
        if count == KEYS {
            break;
        }
        assert!(Instant::now() < deadline, "{count} records are left of {} keys", KEYS);
    }
    assert!(broker.stop().unwrap().success());
    broker.restart().unwrap();
    let values: BTreeMap<String, String> = consumed(&broker.bootstrap(), "updates").into_iter().collect();
    assert_eq!(values, last);
    assert!(broker.stop().unwrap().success());
}

/// Bytes of segment files.
fn segment_bytes(data_dir: &Path) -> u64 {
    let partitions = fs::read_dir(data_dir.join("seg")).unwrap();
    let files = partitions.flat_map(|partition| fs::read_dir(partition.unwrap().path()).unwrap());
    // A file may go while it is looked at.
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn a_topic_with_a_bound_stays_within_it() {
    const BOUND: u64 = 3 << 20;
    let Some((mut broker, _scratch)) = eager("bounded") else { return };
    let bootstrap = broker.bootstrap();
    let configs = [("retention.bytes", "3145728"), ("segment.bytes", "1048576"), ("compression.type", "uncompressed")];
    broker.wire().unwrap().create_topic("bounded", 1, &configs).unwrap();
    let lines = text::lines(20_000);
    let file = text::file(&lines);
    for round in 1..9 {
        // What is under way and not committed yet can't be let go: not much of it at once.
        let small = ["-X", "max.in.flight=1", "-X", "batch.size=65536"];
        let args = [&["-P", "-t", "bounded", "-p", "0", "-X", "acks=all"], small.as_slice()].concat();
        kcat(&bootstrap, &args, &file);
        let back = kcat(&bootstrap, &["-C", "-t", "bounded", "-o", "beginning", "-e", "-q"], b"");
        assert!((back.len() as u64) < BOUND + 2 * SEGMENT_BYTES, "{} bytes are served", back.len());
        assert!(!back.is_empty() && file.repeat(round).ends_with(&back), "the newest records are kept");
    }
    // What was in memory goes to segments in the end, and no more than that.
    assert!(broker.stop().unwrap().success());
    broker.restart().unwrap();
    let on_disk = segment_bytes(broker.data_dir());
    assert!(on_disk < BOUND + 2 * SEGMENT_BYTES, "{on_disk} bytes of segments");
    assert!(broker.stop().unwrap().success());
}
