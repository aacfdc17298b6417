//! `quipu topic`.

use crate::world::World;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_topic_from_its_creation_to_its_end() {
    let world = World::new("cli-topic");
    let create = ["topic", "create", "orders", "--partitions", "3", "--config", "compression.type=zstd"];
    assert_eq!(text(world.good(&create, b"")), "created orders\n");
    world.good(&["topic", "create", "bills", "--replication-factor", "1"], b"");

    let listed = text(world.good(&["topic", "list"], b""));
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["TOPIC", "PARTITIONS", "REPLICAS"], ["bills", "1", "1"], ["orders", "3", "1"]]);

    let described = &world.json(&["topic", "describe", "--json", "orders"])[0];
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    assert_eq!((&described["partitions"][2]["leader"], &described["partitions"][2]["isr"]), (&1.into(), &[1].into()));
    assert_eq!(described["configs"][0]["name"], "compression.type");
    assert_eq!(
        (&described["configs"][0]["value"], &described["configs"][0]["source"]),
        (&"zstd".into(), &"topic".into())
    );
    assert_eq!(described["configs"].as_array().unwrap().len(), 1, "only what differs: {described}");

    let alter = ["topic", "alter", "orders", "--partitions", "5", "--unset", "compression.type"];
    let more = ["--config", "max.message.bytes=2000", "--config", "message.timestamp.type=LogAppendTime"];
    world.good(&[&alter[..], &more].concat(), b"");
    let described = text(world.good(&["topic", "describe", "orders"], b""));
    assert!(described.starts_with("orders (") && described.contains("5 partitions, 1 replica"), "{described}");
    let configs: Vec<Vec<&str>> = described
        .lines()
        .map(|line| line.split_whitespace().collect())
        .skip_while(|row: &Vec<&str>| row[0] != "CONFIG")
        .collect();
    let expected = [
        vec!["CONFIG", "VALUE", "SET", "FOR"],
        vec!["max.message.bytes", "2000", "topic"],
        vec!["message.timestamp.type", "LogAppendTime", "topic"],
    ];
    assert_eq!(configs, expected, "{described}");

    assert_eq!(text(world.good(&["topic", "delete", "orders", "bills"], b"")), "deleted orders\ndeleted bills\n");
    assert_eq!(world.json(&["topic", "list", "--json"]), Vec::<serde_json::Value>::new());
}

#[test]
fn what_is_there_or_is_not_there_is_no_failure_if_that_was_asked_for() {
    let world = World::with_topic("cli-topic-again", "orders", 2);
    let message = world.bad(&["topic", "create", "orders"], b"", 1);
    assert!(message.contains("TOPIC_ALREADY_EXISTS") && message.contains("--if-not-exists"), "{message}");
    let again = world.json(&["topic", "create", "orders", "bills", "--if-not-exists", "--json"]);
    assert_eq!((&again[0]["topic"], &again[0]["created"]), (&"orders".into(), &false.into()));
    assert_eq!((&again[1]["topic"], &again[1]["created"]), (&"bills".into(), &true.into()));

    // The number it has already is no change.
    world.good(&["topic", "alter", "orders", "--partitions", "2"], b"");

    let output = world.run(&["topic", "delete", "nope", "orders"], b"");
    assert_eq!((output.status.code(), output.stdout), (Some(1), b"deleted orders\n".to_vec()));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nope"));
    let gone = world.json(&["topic", "delete", "orders", "--if-exists", "--json"]);
    assert_eq!((&gone[0]["topic"], &gone[0]["deleted"]), (&"orders".into(), &false.into()));
}

#[test]
fn nothing_is_altered_unless_everything_can_be() {
    let world = World::with_topic("cli-topic-all", "orders", 2);
    let fewer = ["topic", "alter", "orders", "--partitions", "1", "--config", "compression.type=lz4"];
    assert!(world.bad(&fewer, b"", 1).contains("INVALID_PARTITIONS"));
    let wrong = ["topic", "alter", "orders", "--partitions", "4", "--config", "compression.type=rar"];
    assert!(world.bad(&wrong, b"", 1).contains("INVALID_CONFIG"));
    let described = &world.json(&["topic", "describe", "orders", "--json"])[0];
    assert_eq!(described["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(described["configs"].as_array().unwrap().len(), 0);
    for command in [&["topic", "describe", "nope"][..], &["topic", "alter", "nope", "--partitions", "2"]] {
        assert!(world.bad(command, b"", 1).contains("nope"));
    }
}
