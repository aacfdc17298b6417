//! `quipu consume`.

use crate::world::World;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn it_begins_where_it_is_told_to() {
    let world = World::with_topic("cli-from", "orders", 1);
    world.good(&["produce", "orders"], b"0\n1\n2\n");
    let at = world.json(&["consume", "orders", "--count", "3", "--json"])[2]["timestamp_ms"].as_i64().unwrap();
    // The next record is later by the clock that stamps it, and that is the producer's.
    while now_ms() <= at + 1 {
        std::hint::spin_loop();
    }
    world.good(&["produce", "orders"], b"3\n4\n");
    let from = |place: &str| text(world.good(&["consume", "orders", "--exit-at-end", "--from", place], b""));
    for (place, expected) in [
        ("start", "0\n1\n2\n3\n4\n"),
        ("0", "0\n1\n2\n3\n4\n"),
        ("4", "4\n"),
        ("5", ""),
        ("end", ""),
        ("-1h", "0\n1\n2\n3\n4\n"),
        ("1970-01-01T00:00:00Z", "0\n1\n2\n3\n4\n"),
        ("2999-01-01T00:00:00+01:00", ""),
        (&format!("@{}", at + 1), "3\n4\n"),
    ] {
        assert_eq!(from(place), expected, "{place}");
    }
    assert_eq!(text(world.good(&["consume", "orders", "--count", "2", "--from", "1"], b"")), "1\n2\n");
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[test]
fn json_has_every_field_and_base64_for_what_is_no_text() {
    let world = World::with_topic("cli-json", "orders", 2);
    let arguments = ["produce", "orders", "--key-separator", ":", "--partition", "1", "--header", "h=v"];
    world.good(&arguments, b"k:v\n\xff:\xfe\nvalue\n");
    let records = world.json(&["consume", "orders", "--json", "--exit-at-end"]);
    let without_time = |mut record: serde_json::Value| {
        assert!(record["timestamp_ms"].take().as_i64().unwrap() > 1_700_000_000_000);
        record
    };
    let headers = serde_json::json!([{ "key": "h", "value": "v" }]);
    let whole = |offset: u32, rest: serde_json::Value| {
        let mut record = serde_json::json!({
            "topic": "orders", "partition": 1, "offset": offset, "timestamp_ms": null, "headers": headers
        });
        record.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        record
    };
    let expected = vec![
        whole(0, serde_json::json!({ "key": "k", "value": "v" })),
        whole(1, serde_json::json!({ "key_base64": "/w==", "value_base64": "/g==" })),
        whole(2, serde_json::json!({ "key": null, "value": "value" })),
    ];
    assert_eq!(records.into_iter().map(without_time).collect::<Vec<_>>(), expected);
}

#[test]
fn all_partitions_are_read_each_in_order() {
    let world = World::with_topic("cli-order", "orders", 3);
    for partition in ["0", "1", "2"] {
        let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
        world.good(&["produce", "orders", "--partition", partition], lines.as_bytes());
    }
    let printed = text(world.good(&["consume", "orders", "--exit-at-end", "--format", "%p %o %v\\n"], b""));
    for partition in ["0", "1", "2"] {
        let own: Vec<&str> =
            printed.lines().filter_map(|line| line.strip_prefix(partition)?.strip_prefix(' ')).collect();
        let expected: Vec<String> = (0..5000).map(|number| format!("{number} {number}")).collect();
        assert_eq!(own, expected);
    }
    let two = text(world.good(
        &["consume", "orders", "--exit-at-end", "--partition", "0", "--partition", "2", "--format", "%p\\n"],
        b"",
    ));
    assert_eq!((two.matches('0').count(), two.matches('1').count(), two.matches('2').count()), (5000, 0, 5000));
}

#[test]
fn the_end_is_that_of_the_start() {
    let world = World::with_topic("cli-end", "orders", 2);
    world.good(&["produce", "orders", "--partition", "0"], b"0\n1\n");
    // A slow reader: it is let go on after more was written. What it prints fits no pipe.
    let line = format!("{}\n", "x".repeat(60_000));
    world.good(&["produce", "orders", "--partition", "1"], line.repeat(20).as_bytes());
    let mut running = world.start(&["consume", "orders", "--exit-at-end", "--format", "%p\\n%v\\n"]);
    let first = running.line();
    world.good(&["produce", "orders", "--partition", "0"], b"later\n");
    world.good(&["produce", "orders", "--partition", "1"], b"later\n");
    let (status, rest, stderr) = running.end();
    let printed = first + &text(rest);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(printed.lines().filter(|line| *line == "later").count(), 0);
    assert_eq!(printed.lines().count(), 44);
}

#[test]
fn ctrl_c_and_a_reader_that_goes_away_end_it_quietly() {
    let world = World::with_topic("cli-consume-ends", "orders", 1);
    world.good(&["produce", "orders"], b"one\n");
    let mut running = world.start(&["consume", "orders"]);
    assert_eq!(running.line(), "one\n");
    running.interrupt();
    assert_eq!(running.end(), (Some(0), Vec::new(), String::new()));

    // While nothing comes.
    let mut idle = world.start(&["consume", "orders"]);
    assert_eq!(idle.line(), "one\n");
    idle.close_stdout();
    assert_eq!(idle.end(), (Some(0), Vec::new(), String::new()));

    // In the middle of much.
    world.good(&["produce", "orders"], "much\n".repeat(100_000).as_bytes());
    let mut busy = world.start(&["consume", "orders", "--json"]);
    assert!(busy.line().contains("one"));
    busy.close_stdout();
    assert_eq!(busy.end(), (Some(0), Vec::new(), String::new()));
}

#[test]
fn ctrl_c_ends_one_whose_reader_is_stuck() {
    let world = World::with_topic("cli-consume-stuck", "orders", 1);
    // Read in one piece, and more than a pipe takes: it is being written when the first line is here.
    world.good(&["produce", "orders"], format!("{}\n", "x".repeat(60_000)).repeat(15).as_bytes());
    let mut running = world.start(&["consume", "orders"]);
    assert_eq!(running.line().len(), 60_001);
    running.interrupt();
    assert!(running.error_line().contains("Ctrl-C again"));
    running.interrupt();
    assert_eq!(running.status(), Some(1));
}

#[test]
fn a_broker_that_goes_away_is_waited_for_unless_there_is_an_end_to_reach() {
    let mut world = World::with_topic("cli-consume-lost", "orders", 1);
    // More than is read ahead, so that the end can't be reached without the broker.
    let line = format!("{}\n", "x".repeat(60_000));
    world.good(&["produce", "orders"], line.repeat(100).as_bytes());
    let mut to_the_end = world.start(&["consume", "orders", "--exit-at-end"]);
    assert_eq!(to_the_end.line(), line);
    let mut patient = world.start(&["consume", "orders", "--from", "99"]);
    assert_eq!(patient.line(), line);

    world.broker.kill();
    let (status, _, stderr) = to_the_end.end();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains(&world.broker.bootstrap()), "{stderr}");
    let told = patient.error_line();
    assert!(told.contains("waiting: ") && told.contains(&world.broker.bootstrap()), "{told}");

    world.broker.restart().unwrap();
    world.good(&["produce", "orders"], b"again\n");
    assert_eq!(patient.line(), "again\n");
    patient.interrupt();
    assert_eq!(patient.end().0, Some(0));
}

#[test]
fn offsets_that_are_not_there_are_told_with_those_that_are() {
    let world = World::with_topic("cli-range", "orders", 1);
    world.good(&["produce", "orders"], b"0\n1\n2\n");
    let message = world.bad(&["consume", "orders", "--from", "500"], b"", 1);
    for word in ["orders-0 has no offset 500", "its first one is 0", "the next to come 3", "--from start"] {
        assert!(message.contains(word), "{word}: {message}");
    }
}
