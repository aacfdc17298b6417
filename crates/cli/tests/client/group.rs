//! `quipu consume --group`, `quipu group` and `quipu config`.

use serde_json::Value;

use crate::world::World;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn lines(range: core::ops::Range<u32>) -> Vec<u8> {
    range.map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}

/// Committed offset and lag of each partition.
fn lag(world: &World, group: &str) -> Vec<(Value, Value)> {
    let rows = world.json(&["group", "lag", group, "--json"]);
    rows.iter().map(|row| (row["committed"].clone(), row["lag"].clone())).collect()
}

#[test]
fn a_group_goes_on_behind_what_it_has_printed() {
    let world = World::with_topic("cli-group", "orders", 1);
    world.good(&["produce", "orders"], &lines(0..10));
    for protocol in ["classic", "consumer"] {
        let group = format!("readers-{protocol}");
        let consume = ["consume", "orders", "--group", &group, "--group-protocol", protocol];
        let first = text(world.good(&[&consume[..], &["--count", "3"]].concat(), b""));
        assert_eq!(first, "0\n1\n2\n");
        assert_eq!(lag(&world, &group), [(3.into(), 7.into())]);
        let rest = text(world.good(&[&consume[..], &["--exit-at-end"]].concat(), b""));
        assert_eq!(rest, "3\n4\n5\n6\n7\n8\n9\n");
        assert_eq!(lag(&world, &group), [(10.into(), 0.into())]);
        // Ctrl-C commits as well.
        let mut running = world.start(&consume);
        world.good(&["produce", "orders"], b"more\n");
        assert_eq!(running.line(), "more\n");
        let members = || world.json(&["group", "describe", &group, "--json"])[0]["members"].as_array().unwrap().len();
        assert_eq!(members(), 1);
        let message = world.bad(&["group", "reset-offsets", &group, "--to-start"], b"", 1);
        assert!(message.contains("1 member") && message.contains("stop them first"), "{message}");
        let message = world.bad(&["group", "delete", &group], b"", 1);
        assert!(message.contains("has members"), "{message}");
        running.interrupt();
        assert_eq!(running.end().0, Some(0));
        assert_eq!((lag(&world, &group), members()), (vec![(11.into(), 0.into())], 0));
        world.good(&["group", "reset-offsets", &group, "--to-offset", "10"], b"");
        assert_eq!(text(world.good(&[&consume[..], &["--exit-at-end"]].concat(), b"")), "more\n");
        world.good(&["group", "reset-offsets", &group, "--to-end"], b"");
        world.good(&["topic", "delete", "orders"], b"");
        world.good(&["topic", "create", "orders", "--partitions", "1"], b"");
        world.good(&["produce", "orders"], &lines(0..10));
        world.good(&["group", "delete", &group, "no-such", "--if-exists"], b"");
    }
    assert_eq!(world.json(&["group", "list", "--json"]), Vec::<Value>::new());
}

#[test]
fn offsets_are_set_where_they_were_asked_for() {
    let world = World::with_topic("cli-reset", "orders", 2);
    for partition in ["0", "1"] {
        world.good(&["produce", "orders", "--partition", partition], &lines(0..10));
    }
    let reset = |arguments: &[&str]| {
        let rows = world.json(&[&["group", "reset-offsets", "g", "--json"], arguments].concat());
        let to = |row: &Value| (row["partition"].as_i64().unwrap(), row["to"].as_i64().unwrap(), row["set"] == true);
        rows.iter().map(to).collect::<Vec<_>>()
    };
    let message = world.bad(&["group", "reset-offsets", "g", "--to-end"], b"", 1);
    assert!(message.contains("there is no group g") && message.contains("--topic"), "{message}");
    assert_eq!(reset(&["--topic", "orders:1", "--to-offset", "4"]), [(1, 4, true)]);
    assert_eq!(reset(&["--shift-by", "-3"]), [(1, 1, true)]);
    assert_eq!(reset(&["--shift-by", "-3"]), [(1, 0, true)], "not before the first");
    assert_eq!(reset(&["--to-end", "--dry-run", "--topic", "orders"]), [(0, 10, false), (1, 10, false)]);
    assert_eq!(lag(&world, "g"), [(0.into(), 10.into())]);
    assert_eq!(reset(&["--topic", "orders", "--to-time", "-1h"]), [(0, 0, true), (1, 0, true)]);
    assert_eq!(reset(&["--topic", "orders", "--to-time", "2999-01-01T00:00:00Z"]), [(0, 10, true), (1, 10, true)]);
    let message = world.bad(&["group", "reset-offsets", "g", "--to-end", "--topic", "orders:7"], b"", 1);
    assert!(message.contains("no partition 7"), "{message}");
    let shown = text(world.good(&["group", "lag", "g"], b""));
    assert!(shown.contains("TOPIC") && shown.contains("lag in all 0, 2 of 2 partitions read by nobody"), "{shown}");
}

#[test]
fn group_commands_say_what_is_wrong() {
    let world = World::with_topic("cli-group-usage", "orders", 1);
    for (arguments, status, word) in [
        (&["group"][..], 2, "lag"),
        (&["group", "describe"], 2, "GROUP"),
        (&["group", "reset-offsets", "g"], 2, "--to-start"),
        (&["group", "reset-offsets", "g", "--to-start", "--to-end"], 2, "--to-end"),
        (&["group", "reset-offsets", "g", "--to-end", "--topic", "t:x"], 2, "TOPIC:0,3"),
        (&["consume", "orders", "--group", "g", "--from", "7"], 2, "reset-offsets"),
        (&["consume", "orders", "--group", "g", "--partition", "0"], 2, "--partition"),
        (&["consume", "orders", "--group-protocol", "classic"], 2, "--group"),
        (&["group", "describe", "nope"], 1, "quipu group list"),
        (&["group", "lag", "nope"], 1, "there is no group nope"),
        (&["group", "delete", "nope"], 1, "there is no group nope"),
        (&["config", "get"], 2, "--topic"),
        (&["config", "set", "--topic", "orders", "novalue"], 2, "NAME=VALUE"),
        (&["config", "set", "--topic", "orders", "no.such=1"], 1, "no.such"),
        (&["config", "set", "--topic", "nope", "retention.ms=1"], 1, "quipu topic list"),
        (&["config", "get", "--topic", "orders", "no.such"], 1, "no config no.such"),
        (&["config", "get", "--broker", "77"], 1, "there is no broker 77"),
    ] {
        let message = world.bad(arguments, b"", status);
        assert!(message.contains(word), "{arguments:?}: {word}: {message}");
    }
}

#[test]
fn configs_are_shown_with_their_source_and_default() {
    let world = World::with_topic("cli-config", "orders", 1);
    let get = |resource: &[&str], name: &str| {
        let mut rows = world.json(&[&["config", "get", "--json"], resource, &[name]].concat());
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    };
    let topic = ["--topic", "orders"];
    let entry = get(&topic, "retention.ms");
    assert_eq!((&entry["value"], &entry["is_default"]), (&"604800000".into(), &true.into()));
    let set =
        world.good(&["config", "set", "--topic", "orders", "retention.ms=1000000", "cleanup.policy=compact"], b"");
    assert_eq!(text(set), "topic orders: set retention.ms=1000000\ntopic orders: set cleanup.policy=compact\n");
    let entry = get(&topic, "retention.ms");
    assert_eq!(
        (&entry["value"], &entry["source"], &entry["default"]),
        (&"1000000".into(), &"topic".into(), &"604800000".into())
    );
    // All or none.
    world.bad(&["config", "set", "--topic", "orders", "retention.ms=5", "cleanup.policy=nonsense"], b"", 1);
    assert_eq!(get(&topic, "retention.ms")["value"], "1000000");
    world.good(&["config", "unset", "--topic", "orders", "retention.ms"], b"");
    assert_eq!(get(&topic, "retention.ms")["is_default"], true);
    let group = ["--group", "workers"];
    world.good(&["config", "set", "--group", "workers", "consumer.session.timeout.ms=50000"], b"");
    let entry = get(&group, "consumer.session.timeout.ms");
    assert_eq!((&entry["value"], &entry["source"]), (&"50000".into(), &"group".into()));
    world.good(&["config", "set", "--brokers", "log.retention.ms=900000000"], b"");
    let entry = get(&["--broker", "1"], "log.retention.ms");
    assert_eq!((&entry["value"], &entry["source"]), (&"900000000".into(), &"all brokers".into()));
    let shown = text(world.good(&["config", "get", "--topic", "orders"], b""));
    assert!(shown.contains("SET FOR") && shown.contains("cleanup.policy") && shown.contains("compact"), "{shown}");
}
