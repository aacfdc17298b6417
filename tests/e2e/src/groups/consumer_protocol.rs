//! Groups of the consumer protocol (KIP-848) with librdkafka and the Java client: members come and go and the others go on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::broker::{Broker, Options, binary};
use quipu_testkit::clients::{self, Client};
use quipu_testkit::cluster::Cluster;
use quipu_testkit::kafka::Jars;
use quipu_testkit::paths::workspace_root;
use quipu_testkit::scratch::Scratch;

use super::{
    GROUP, GROUPS_TOOL, LIMIT, Member, PARTITIONS, TOPIC, described, lag, members, numbered, send, wait_for_all,
    wait_for_work,
};
use crate::java::tool;
use crate::subject::skipped_against_kafka;

/// Members that are killed are missed soon.
const SETTINGS: &str = "[defaults]
\"group.consumer.min.heartbeat.interval.ms\" = 500
\"group.consumer.heartbeat.interval.ms\" = 500
\"group.consumer.min.session.timeout.ms\" = 6000
\"group.consumer.session.timeout.ms\" = 6000
";

fn librdkafka(name: &str, bootstrap: &str, directory: &Path) -> Member {
    let mut command = Command::new(clients::python().unwrap());
    command.arg(workspace_root().join("tests/e2e/python/confluent.py")).args([bootstrap, "modern", TOPIC, GROUP]);
    Member::start(name, command, directory)
}

fn java(bootstrap: &str, directory: &Path) -> Member {
    let mut command = Jars::fetch().unwrap().tool("org.apache.kafka.tools.consumer.ConsoleConsumer");
    command.args(["--bootstrap-server", bootstrap, "--topic", TOPIC, "--group", GROUP, "--from-beginning"]);
    for property in ["group.protocol=consumer", "auto.commit.interval.ms=200"] {
        command.args(["--consumer-property", property]);
    }
    Member::start("java-modern", command, directory)
}

/// How many partitions the member was told to give up, all in all.
fn taken(member: &Member) -> u32 {
    let log = std::fs::read_to_string(&member.log).unwrap();
    log.lines().filter_map(|line| line.strip_prefix("# taken ")?.parse::<u32>().ok()).sum()
}

fn wait_for_members(bootstrap: &str, count: usize) {
    let deadline = Instant::now() + LIMIT;
    while members(bootstrap) != Some(count) {
        assert!(Instant::now() < deadline, "not {count} members:\n{}", described(bootstrap));
    }
}

fn wait_until_committed(bootstrap: &str) {
    let deadline = Instant::now() + LIMIT;
    while lag(bootstrap) != Some(0) {
        assert!(Instant::now() < deadline, "something stays uncommitted:\n{}", described(bootstrap));
    }
}

#[test]
fn members_come_and_go_and_the_others_go_on() {
    let name = "members_come_and_go_and_the_others_go_on";
    if skipped_against_kafka(name)
        || !Client::Kcat.check(name)
        || !Client::Python.check(name)
        || !Client::Java.check(name)
    {
        return;
    }
    let scratch = Scratch::new(name).unwrap();
    let directory = scratch.path();
    let settings = directory.join("broker.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let options =
        Options::new(directory.join("data")).unwrap().arguments(["--config".into(), settings.into_os_string()]);
    let mut broker = Broker::start_with(options).unwrap();
    let bootstrap = broker.bootstrap();
    broker.wire().unwrap().create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let first = numbered(1);
    send(&bootstrap, &first);
    let one = librdkafka("one", &bootstrap, directory);
    wait_for_all(&[&one], &first);

    // Two more come: the first gives up what they get, and nothing else.
    let mut java = java(&bootstrap, directory);
    wait_for_members(&bootstrap, 2);
    let mut three = librdkafka("three", &bootstrap, directory);
    wait_for_members(&bootstrap, 3);
    let second = numbered(2);
    send(&bootstrap, &second);
    wait_for_all(&[&one, &java, &three], &second);
    assert!(taken(&one) <= 4, "of six partitions two were to stay with it throughout");

    // One leaves, one is killed: what they had goes to the first, which gives up nothing.
    three.process.terminate().unwrap();
    assert!(three.process.wait(Duration::from_secs(30)).unwrap().success(), "{}", three.process.log());
    wait_for_members(&bootstrap, 2);
    java.process.kill();
    let third = numbered(3);
    send(&bootstrap, &third);
    wait_for_all(&[&one, &java, &three], &third);

    // The broker is killed, and goes on from what it has promised.
    broker.kill();
    broker.restart().unwrap();
    let fourth = numbered(4);
    send(&bootstrap, &fourth);
    wait_for_all(&[&one, &java, &three], &fourth);
    wait_until_committed(&bootstrap);
    assert!(taken(&one) <= 4, "nobody has come since, and something was taken from it:\n{}", one.process.log());
}

#[test]
fn a_group_of_the_consumer_protocol_outlives_its_coordinator() {
    let name = "a_group_of_the_consumer_protocol_outlives_its_coordinator";
    if skipped_against_kafka(name)
        || !Client::Kcat.check(name)
        || !Client::Python.check(name)
        || !Client::Java.check(name)
    {
        return;
    }
    let scratch = Scratch::new(name).unwrap();
    let directory = scratch.path();
    let mut cluster = Cluster::start(&binary().unwrap(), directory, 3).unwrap();
    let bootstrap = cluster.bootstrap();
    cluster.nodes()[0].wire().unwrap().create_replicated_topic(TOPIC, PARTITIONS, 3, &[]).unwrap();
    let first = numbered(1);
    send(&bootstrap, &first);
    let one = librdkafka("one", &bootstrap, directory);
    let two = librdkafka("two", &bootstrap, directory);
    let java = java(&bootstrap, directory);
    let all = [&one, &two, &java];
    wait_for_all(&all, &first);
    wait_for_members(&bootstrap, 3);
    let before = [taken(&one), taken(&two)];
    // Each node in turn is killed and comes back: whichever coordinates the group, and whichever leads what it reads, is among them.
    for (node, wave) in (0..3).zip(2..) {
        cluster.nodes()[node].kill();
        let lines = numbered(wave);
        send(&bootstrap, &lines);
        wait_for_all(&all, &lines);
        cluster.nodes()[node].restart().unwrap();
    }
    wait_until_committed(&bootstrap);
    assert_eq!([taken(&one), taken(&two)], before, "the next coordinator takes nothing from anybody");
}

#[test]
fn the_console_tools_know_groups_of_the_consumer_protocol() {
    let name = "the_console_tools_know_groups_of_the_consumer_protocol";
    if skipped_against_kafka(name)
        || !Client::Kcat.check(name)
        || !Client::Python.check(name)
        || !Client::Java.check(name)
    {
        return;
    }
    let scratch = Scratch::new(name).unwrap();
    let broker = Broker::start(scratch.path().join("data")).unwrap();
    let bootstrap = broker.bootstrap();
    broker.wire().unwrap().create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let lines = numbered(1);
    send(&bootstrap, &lines);
    let one = librdkafka("one", &bootstrap, scratch.path());
    wait_for_all(&[&one], &lines);
    wait_until_committed(&bootstrap);
    let groups = |arguments: &[&str]| tool(GROUPS_TOOL, &bootstrap, arguments, b"");
    let listed = groups(&["--list", "--type"]);
    let row = listed.lines().find(|line| line.starts_with(GROUP)).expect("the group is listed");
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), [GROUP, "Consumer"]);
    let members = groups(&["--describe", "--members", "--verbose", "--group", GROUP]);
    assert!(members.contains("shared:0,1,2,3,4,5"), "{members}");
    let configs = |arguments: &[&str]| {
        let named = ["--entity-type", "groups", "--entity-name", GROUP];
        tool("kafka.admin.ConfigCommand", &bootstrap, &[arguments, &named].concat(), b"")
    };
    configs(&["--alter", "--add-config", "consumer.heartbeat.interval.ms=7000"]);
    let told = configs(&["--describe"]);
    assert!(told.contains("consumer.heartbeat.interval.ms=7000"), "{told}");
}

/// What the group speaks, as the console tool lists it.
fn kind(bootstrap: &str) -> Option<String> {
    let listed = tool(GROUPS_TOOL, bootstrap, &["--list", "--type"], b"");
    let row = listed.lines().find(|line| line.starts_with(GROUP))?;
    row.split_whitespace().nth(1).map(str::to_owned)
}

#[test]
fn a_group_changes_its_protocol_while_it_reads() {
    let name = "a_group_changes_its_protocol_while_it_reads";
    if skipped_against_kafka(name)
        || !Client::Kcat.check(name)
        || !Client::Python.check(name)
        || !Client::Java.check(name)
    {
        return;
    }
    let scratch = Scratch::new(name).unwrap();
    let directory = scratch.path();
    let broker = Broker::start(directory.join("data")).unwrap();
    let bootstrap = broker.bootstrap();
    broker.wire().unwrap().create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let first = numbered(1);
    send(&bootstrap, &first);
    // Two members of the classic protocol, with two clients.
    let kcat = Member::kcat(&bootstrap, directory);
    let pure = Member::python("pure", &bootstrap, directory);
    wait_for_all(&[&kcat, &pure], &first);
    assert_eq!(kind(&bootstrap).as_deref(), Some("Classic"));

    // One of the other joins them.
    let mut modern = librdkafka("modern", &bootstrap, directory);
    let second = numbered(2);
    send(&bootstrap, &second);
    wait_for_all(&[&kcat, &pure, &modern], &second);
    wait_for_members(&bootstrap, 3);
    assert_eq!(kind(&bootstrap).as_deref(), Some("Consumer"));
    let before = [&kcat, &pure, &modern].map(|member| member.seen().len());
    let third = numbered(3);
    send(&bootstrap, &third);
    wait_for_all(&[&kcat, &pure, &modern], &third);
    for (member, before) in [&kcat, &pure, &modern].into_iter().zip(before) {
        wait_for_work(member, before);
    }

    // It leaves them to themselves.
    modern.process.terminate().unwrap();
    assert!(modern.process.wait(Duration::from_secs(30)).unwrap().success(), "{}", modern.process.log());
    let fourth = numbered(4);
    send(&bootstrap, &fourth);
    wait_for_all(&[&kcat, &pure, &modern], &fourth);
    assert_eq!(kind(&bootstrap).as_deref(), Some("Classic"));
    wait_until_committed(&bootstrap);
}
