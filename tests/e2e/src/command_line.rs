//! `quipu topic`, `produce` and `consume`: against the broker under test, beside another client, and against Apache Kafka wherever
//! Java is at hand.
//!
//! Not here: all that concerns one command alone (`crates/cli/tests`).

use std::process::Command;
use std::time::Duration;

use quipu_testkit::broker::binary;
use quipu_testkit::clients::Client;
use quipu_testkit::kafka::{Jars, Kafka};
use quipu_testkit::process::run;
use quipu_testkit::scratch::Scratch;

use crate::kcat::kcat;
use crate::subject::Subject;
use crate::text;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs `quipu` with these arguments, its input on stdin; gives stdout.
fn quipu(bootstrap: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(binary().unwrap());
    command.args(arguments).env("QUIPU_BOOTSTRAP", bootstrap);
    run(&format!("quipu {}", arguments.join(" ")), command, input, LIMIT).unwrap()
}

/// A topic's life: created, grown, described, written with each codec, read, deleted.
fn whole_life(bootstrap: &str) {
    let quipu = |arguments: &[&str], input: &[u8]| quipu(bootstrap, arguments, input);
    let said = |arguments: &[&str]| String::from_utf8(quipu(arguments, b"")).unwrap();
    quipu(&["topic", "create", "life", "--partitions", "1", "--config", "message.timestamp.type=CreateTime"], b"");
    quipu(&["topic", "create", "life", "--if-not-exists"], b"");
    quipu(&["topic", "alter", "life", "--partitions", "2", "--config", "max.message.bytes=500000"], b"");
    let described = said(&["topic", "describe", "life"]);
    assert!(described.contains("2 partitions, 1 replica"), "{described}");
    assert!(described.contains("max.message.bytes") && described.contains("500000"), "{described}");
    assert!(said(&["topic", "list"]).lines().any(|line| line.starts_with("life ")));

    let file = text::file(&text::lines(20_000));
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let acks = if codec == "gzip" { "1" } else { "all" };
        quipu(&["produce", "life", "--partition", "1", "--compression", codec, "--acks", acks], &file);
    }
    let back = quipu(&["consume", "life", "--exit-at-end"], b"");
    assert!(back == file.repeat(codecs.len()), "{} bytes came back", back.len());

    let arguments = ["produce", "life", "--partition", "0", "--key-separator", "\\t", "--header", "n=v"];
    quipu(&arguments, b"key\tvalue\n\xff\t\xfe\n\nplain\n");
    let format = "%t-%p %o [%k] [%v] %h\\n";
    let printed = quipu(&["consume", "life", "--partition", "0", "--count", "4", "--format", format], b"");
    let expected =
        b"life-0 0 [key] [value] n=v\nlife-0 1 [\xff] [\xfe] n=v\nlife-0 2 [] [] n=v\nlife-0 3 [] [plain] n=v\n";
    assert!(printed == expected, "{}", String::from_utf8_lossy(&printed));
    let from = ["consume", "life", "--partition", "0", "--exit-at-end", "--from"];
    for (place, count) in [("2", 2), ("end", 0), ("-1h", 4), ("2999-01-01T00:00:00Z", 0)] {
        let printed = quipu(&[&from[..], &[place, "--json"]].concat(), b"");
        assert_eq!(printed.iter().filter(|byte| **byte == b'\n').count(), count, "{place}");
    }

    quipu(&["topic", "alter", "life", "--unset", "max.message.bytes"], b"");
    assert!(!said(&["topic", "describe", "life"]).contains("max.message.bytes"));
    quipu(&["topic", "delete", "life"], b"");
    assert!(!said(&["topic", "list"]).contains("life"));
}

#[test]
fn a_topic_lives_its_whole_life_by_the_command_line() {
    whole_life(&Subject::start("command-line").bootstrap());
}

#[test]
fn the_same_life_on_apache_kafka() {
    if !Client::Java.check("the_same_life_on_apache_kafka") {
        return;
    }
    let scratch = Scratch::new("command-line-kafka").unwrap();
    let mut kafka = Kafka::start(&Jars::fetch().unwrap(), &scratch.join("kafka"), &[]).unwrap();
    whole_life(&kafka.address().to_string());
    kafka.stop().unwrap();
}

#[test]
fn the_command_line_and_kcat_read_each_other() {
    if !Client::Kcat.check("the_command_line_and_kcat_read_each_other") {
        return;
    }
    let subject = Subject::start("command-line-kcat");
    let bootstrap = subject.bootstrap();
    subject.topic("theirs", 4);
    subject.topic("ours", 4);
    let lines = text::lines(5000);
    let keyed: Vec<String> = lines.iter().enumerate().map(|(n, line)| format!("key{}\t{line}", n % 37)).collect();
    let file = text::file(&keyed);
    kcat(&bootstrap, &["-P", "-t", "theirs", "-K", "\t", "-X", "topic.partitioner=murmur2_random"], &file);
    quipu(&bootstrap, &["produce", "ours", "--key-separator", "\\t"], &file);
    let sorted = |bytes: Vec<u8>| {
        let mut lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        // Of one key the order is kept: the sort is stable.
        lines.sort_by(|one, other| one.split('\t').next().cmp(&other.split('\t').next()));
        lines
    };
    let ours =
        |topic| sorted(quipu(&bootstrap, &["consume", topic, "--exit-at-end", "--format", "%p %k\\t%v\\n"], b""));
    let theirs =
        |topic| sorted(kcat(&bootstrap, &["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %k\t%s\n"], b""));
    // The same key goes to the same partition, whoever sends it and whoever looks.
    let expected = ours("ours");
    assert_eq!(expected.len(), 5000);
    assert_eq!(ours("theirs"), expected);
    assert_eq!(theirs("ours"), expected);
}
