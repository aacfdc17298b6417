//! Exit statuses and messages: 2 for what can't be meant, 1 for what can't be done.

use std::{net::TcpListener, time::Instant};

use quipu_testkit::process::output;

use crate::world::{LIMIT, World, quipu, said};

#[test]
fn what_cannot_be_meant_ends_with_2_and_names_the_argument() {
    let world = World::new("cli-usage");
    for (arguments, word) in [
        (&["topic", "create"][..], "TOPIC"),
        (&["topic", "create", "t", "--partitions", "0"], "--partitions"),
        (&["topic", "create", "t", "--config", "novalue"], "NAME=VALUE"),
        (&["topic", "alter", "t"], "--unset"),
        (&["topic", "delete"], "TOPIC"),
        (&["topic", "list", "--bootstrap", "nowhere"], "host:port"),
        (&["produce"], "TOPIC"),
        (&["produce", "t", "--acks", "2"], "--acks"),
        (&["produce", "t", "--compression", "rar"], "zstd"),
        (&["produce", "t", "--partition", "-1"], "-1"),
        (&["produce", "t", "--header", "novalue"], "NAME=VALUE"),
        (&["produce", "t", "--key-separator", ""], "--key-separator"),
        (&["consume"], "TOPIC"),
        (&["consume", "t", "--from", "yesterday"], "-10m"),
        (&["consume", "t", "--format", "%q"], "%q"),
        (&["consume", "t", "--count", "0"], "--count"),
        (&["consume", "t", "--json", "--format", "%v"], "--json"),
    ] {
        let message = world.bad(arguments, b"", 2);
        assert!(message.contains(word), "{arguments:?}: {word}: {message}");
    }
    let mut command = quipu(&["topic", "list"]);
    let bad = output("quipu", command.env("QUIPU_BOOTSTRAP", "nowhere"), b"", LIMIT).unwrap();
    assert!(said(&bad, 2).contains("nowhere"));
}

#[test]
fn what_cannot_be_done_ends_with_1_and_says_what_to_do() {
    let world = World::with_topic("cli-failures", "orders", 2);
    for (arguments, words) in [
        (&["produce", "nope"][..], ["nope", "quipu topic create nope"]),
        (&["consume", "nope"], ["nope", "quipu topic list"]),
        (&["produce", "orders", "--partition", "2"], ["no partition 2", "0 to 1"]),
        (&["consume", "orders", "--partition", "7"], ["no partition 7", "2 partitions"]),
        (&["produce", "orders", "/does/not/exist"], ["/does/not/exist", "No such file"]),
        (&["produce", "orders", "/"], ["line 1", "directory"]),
        (&["topic", "create", "no/name"], ["no/name", "INVALID_TOPIC_EXCEPTION"]),
        (&["topic", "create", "many", "--replication-factor", "3"], ["INVALID_REPLICATION_FACTOR", "as brokers"]),
    ] {
        let message = world.bad(arguments, b"", 1);
        assert!(words.iter().all(|word| message.contains(word)), "{arguments:?}: {words:?}: {message}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_named_soon() {
    // Nobody listens on a port that was just given back.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let [one, other] = [free(), free()];
    for arguments in [&["topic", "list"][..], &["produce", "t"], &["consume", "t"]] {
        let begun = Instant::now();
        let mut command = quipu(arguments);
        command.args(["--bootstrap", &format!("{one},{other}")]);
        let message = said(&output("quipu", &mut command, b"line\n", LIMIT).unwrap(), 1);
        assert!(message.contains(&one) && message.contains(&other) && message.contains("check"), "{message}");
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }
}

#[test]
fn every_command_has_a_help_that_shows_its_defaults() {
    for (arguments, words) in [
        (&["topic", "create"][..], &["--if-not-exists", "QUIPU_BOOTSTRAP", "127.0.0.1:9092"][..]),
        (&["produce"], &["--key-separator", "[default: all]", "zstd", "Ctrl-C"]),
        (&["consume"], &["--exit-at-end", "2026-03-01T12:00:00Z", "@1772366400000", "-10m", "%k", "base64"]),
    ] {
        let mut command = quipu(arguments);
        let help = output("quipu", command.arg("--help"), b"", LIMIT).unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(words.iter().all(|word| help.contains(word)), "{words:?}: {help}");
    }
}
