//! kcat (Debian's, on librdkafka 2.0): whole files in, the same bytes out.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_testkit::clients::{self, Client};
use quipu_testkit::process::run;
use quipu_testkit::scratch::Scratch;

use crate::subject::Subject;
use crate::text;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs kcat with these arguments, its input on stdin; gives stdout.
pub(crate) fn kcat(bootstrap: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = clients::kcat(bootstrap);
    command.args(arguments);
    run("kcat", command, input, LIMIT).unwrap()
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    if !Client::Kcat.check("a_file_comes_back_byte_for_byte") {
        return;
    }
    let subject = Subject::start("kcat-file");
    let scratch = Scratch::new("kcat-input").unwrap();
    let file = text::file(&text::lines(100_000));
    let path = scratch.join("lines.txt");
    std::fs::write(&path, &file).unwrap();
    subject.topic("lines", 1);
    let bootstrap = subject.bootstrap();
    let path = path.to_str().unwrap();
    kcat(&bootstrap, &["-P", "-t", "lines", "-p", "0", "-X", "acks=all", "-l", path], b"");
    let back = kcat(&bootstrap, &["-C", "-t", "lines", "-p", "0", "-o", "beginning", "-e", "-q"], b"");
    assert!(back == file, "{} bytes came back for {}", back.len(), file.len());
}

#[test]
fn keyed_lines_keep_their_order_per_key() {
    if !Client::Kcat.check("keyed_lines_keep_their_order_per_key") {
        return;
    }
    let subject = Subject::start("kcat-keys");
    subject.topic("keyed", 4);
    let lines = text::lines(20_000);
    let keyed: Vec<String> = lines.iter().enumerate().map(|(n, line)| format!("key{}:{line}", n % 37)).collect();
    let bootstrap = subject.bootstrap();
    kcat(&bootstrap, &["-P", "-t", "keyed", "-K", ":", "-X", "enable.idempotence=true"], &text::file(&keyed));
    let back = kcat(&bootstrap, &["-C", "-t", "keyed", "-o", "beginning", "-e", "-q", "-f", "%p %k:%s\n"], b"");
    let back = String::from_utf8(back).unwrap();

    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut partitions: BTreeMap<&str, &str> = BTreeMap::new();
    for line in back.lines() {
        let (partition, record) = line.split_once(' ').unwrap();
        let (key, value) = record.split_once(':').unwrap();
        by_key.entry(key).or_default().push(value);
        assert_eq!(*partitions.entry(key).or_insert(partition), partition, "one partition for {key}");
    }
    for (n, key) in (0..37).map(|n| (n, format!("key{n}"))) {
        let expected: Vec<&str> = lines.iter().skip(n).step_by(37).map(String::as_str).collect();
        assert_eq!(by_key[key.as_str()], expected, "{key}");
    }
}

#[test]
fn metadata_and_offsets_by_time() {
    if !Client::Kcat.check("metadata_and_offsets_by_time") {
        return;
    }
    let subject = Subject::start("kcat-metadata");
    subject.topic("times", 2);
    let bootstrap = subject.bootstrap();
    kcat(&bootstrap, &["-P", "-t", "times", "-p", "1"], b"one\ntwo\nthree\n");
    let listed = String::from_utf8(kcat(&bootstrap, &["-L", "-t", "times"], b"")).unwrap();
    assert!(listed.contains("topic \"times\" with 2 partitions"), "{listed}");
    let end = String::from_utf8(kcat(&bootstrap, &["-Q", "-t", "times:1:-1"], b"")).unwrap();
    assert!(end.contains("offset 3"), "{end}");
    let start = String::from_utf8(kcat(&bootstrap, &["-Q", "-t", "times:1:0"], b"")).unwrap();
    assert!(start.contains("offset 0"), "{start}");
}

#[test]
fn a_topic_appears_when_it_is_first_written() {
    if !Client::Kcat.check("a_topic_appears_when_it_is_first_written") {
        return;
    }
    let subject = Subject::start("kcat-auto");
    let bootstrap = subject.bootstrap();
    kcat(&bootstrap, &["-P", "-t", "appears"], b"hello\n");
    assert_eq!(kcat(&bootstrap, &["-C", "-t", "appears", "-o", "beginning", "-e", "-q"], b""), b"hello\n");
}
