//! Consumer groups: members written with four clients share a topic, are killed, and outlive the broker; nothing is skipped.
//!
//! What is checked is what the application sees: every line of the file is printed by some member, and once everything is quiet the
//! committed offsets are the ends of the partitions.

mod consumer_protocol;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::broker::binary;
use quipu_testkit::clients::{self, Client};
use quipu_testkit::cluster::Cluster;
use quipu_testkit::kafka::Jars;
use quipu_testkit::paths::workspace_root;
use quipu_testkit::process::Process;
use quipu_testkit::scratch::Scratch;

use crate::java::tool;
use crate::kcat::kcat;
use crate::subject::{Subject, ours, skipped_against_kafka};
use crate::text;

const TOPIC: &str = "shared";
const GROUP: &str = "workers";
const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(90);
const GROUPS_TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// A member: a process that prints what it gets.
struct Member {
    process: Process,
    log: PathBuf,
}

impl Member {
    fn start(name: &str, command: Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.lines"));
        Self { process: Process::spawn(name, command, &log).unwrap(), log }
    }

    fn kcat(bootstrap: &str, directory: &Path) -> Self {
        let mut command = clients::kcat(bootstrap);
        let settings = [
            "auto.offset.reset=earliest",
            "partition.assignment.strategy=range",
            "session.timeout.ms=6000",
            "heartbeat.interval.ms=500",
            "auto.commit.interval.ms=200",
        ];
        command.args(settings.iter().flat_map(|setting| ["-X", setting])).args(["-u", "-q", "-G", GROUP, TOPIC]);
        Self::start("kcat", command, directory)
    }

    fn python(program: &str, bootstrap: &str, directory: &Path) -> Self {
        let mut command = Command::new(clients::python().unwrap());
        command.arg(workspace_root().join("tests/e2e/python").join(format!("{program}.py")));
        command.args([bootstrap, "group", TOPIC, GROUP]);
        Self::start(program, command, directory)
    }

    fn java(bootstrap: &str, directory: &Path) -> Self {
        let mut command = Jars::fetch().unwrap().tool("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command.args(["--bootstrap-server", bootstrap, "--topic", TOPIC, "--group", GROUP, "--from-beginning"]);
        for property in ["session.timeout.ms=6000", "heartbeat.interval.ms=500", "auto.commit.interval.ms=200"] {
            command.args(["--consumer-property", property]);
        }
        Self::start("java", command, directory)
    }

    fn seen(&self) -> BTreeSet<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().map(str::to_owned).collect()
    }
}

/// Writes these lines to all partitions.
fn send(bootstrap: &str, lines: &[String]) {
    for (partition, lines) in lines.chunks(lines.len().div_ceil(6)).enumerate() {
        let arguments = ["-P", "-t", TOPIC, "-p", &partition.to_string(), "-X", "acks=all"];
        kcat(bootstrap, &arguments, &text::file(lines));
    }
}

/// Waits until every line was printed by one of the members, living or dead.
fn wait_for_all(members: &[&Member], lines: &[String]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen: BTreeSet<String> = members.iter().flat_map(|member| member.seen()).collect();
        let missing: Vec<&String> = lines.iter().filter(|line| !seen.contains(*line)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {} lines were not read: {:?} ...",
            missing.len(),
            lines.len(),
            missing[0]
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until the member has printed something that it had not printed before.
fn wait_for_work(member: &Member, before: usize) {
    let deadline = Instant::now() + LIMIT;
    while member.seen().len() <= before {
        assert!(Instant::now() < deadline, "a member was given nothing to do: {}", member.process.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn numbered(wave: u32) -> Vec<String> {
    (0..1200).map(|number| format!("wave {wave} line {number}")).collect()
}

#[test]
fn four_clients_share_a_group_through_kills_of_members_and_of_the_broker() {
    let name = "four_clients_share_a_group";
    if !Client::Kcat.check(name) || !Client::Python.check(name) || !Client::Java.check(name) {
        return;
    }
    let Some((mut broker, scratch)) = ours("groups-shared") else { return };
    let bootstrap = broker.bootstrap();
    broker.wire().unwrap().create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let directory = scratch.path();
    let first = numbered(1);
    send(&bootstrap, &first);
    let mut kcat = Member::kcat(&bootstrap, directory);
    let confluent = Member::python("confluent", &bootstrap, directory);
    let mut pure = Member::python("pure", &bootstrap, directory);
    let java = Member::java(&bootstrap, directory);
    wait_for_all(&[&kcat, &confluent, &pure, &java], &first);

    // Everybody has something to do, once all have joined.
    let second = numbered(2);
    let before: Vec<usize> = [&kcat, &confluent, &pure, &java].map(|member| member.seen().len()).into();
    let deadline = Instant::now() + LIMIT;
    while members(&bootstrap) != Some(4) {
        assert!(Instant::now() < deadline, "four members do not come together");
    }
    send(&bootstrap, &second);
    wait_for_all(&[&kcat, &confluent, &pure, &java], &second);
    for (member, before) in [&kcat, &confluent, &pure, &java].into_iter().zip(before) {
        wait_for_work(member, before);
    }

    // Two members are killed: the others take over what they had.
    kcat.process.kill();
    pure.process.kill();
    let third = numbered(3);
    send(&bootstrap, &third);
    wait_for_all(&[&kcat, &confluent, &pure, &java], &third);

    // The broker is killed, and goes on from what it has promised.
    broker.kill();
    broker.restart().unwrap();
    let fourth = numbered(4);
    send(&bootstrap, &fourth);
    wait_for_all(&[&kcat, &confluent, &pure, &java], &fourth);

    // All that was read was committed.
    let deadline = Instant::now() + LIMIT;
    while lag(&bootstrap) != Some(0) {
        assert!(Instant::now() < deadline, "something stays uncommitted:\n{}", described(&bootstrap));
    }
}

fn described(bootstrap: &str) -> String {
    tool(GROUPS_TOOL, bootstrap, &["--describe", "--group", GROUP], b"")
}

/// The group's lag over all partitions, if it has committed something for each.
fn lag(bootstrap: &str) -> Option<u64> {
    let described = described(bootstrap);
    let rows: Vec<Vec<&str>> = described
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() > 5 && row[0] == GROUP)
        .collect();
    if rows.len() != usize::try_from(PARTITIONS).unwrap() {
        return None;
    }
    rows.iter().map(|row| row[5].parse::<u64>().ok()).sum()
}

/// How many members the group has, if it is stable.
fn members(bootstrap: &str) -> Option<usize> {
    let described = tool(GROUPS_TOOL, bootstrap, &["--describe", "--state", "--group", GROUP], b"");
    let row = described.lines().find(|line| line.starts_with(GROUP))?;
    let words: Vec<&str> = row.split_whitespace().collect();
    words.contains(&"Stable").then(|| words.last()?.parse().ok())?
}

#[test]
fn the_console_tool_lists_describes_resets_and_deletes_groups() {
    if !Client::Java.check("the_console_tool_lists_describes_resets_and_deletes_groups") {
        return;
    }
    let subject = Subject::start("groups-tool");
    let bootstrap = subject.bootstrap();
    subject.topic(TOPIC, 2);
    let lines = numbered(1);
    kcat(&bootstrap, &["-P", "-t", TOPIC, "-p", "0"], &text::file(&lines));
    let groups = |arguments: &[&str]| tool(GROUPS_TOOL, &bootstrap, arguments, b"");
    let reset = ["--reset-offsets", "--group", GROUP, "--topic", "shared:0", "--to-offset", "700", "--execute"];
    let moved = groups(&reset);
    assert!(moved.contains("700"), "{moved}");
    assert_eq!(groups(&["--list"]).trim(), GROUP);
    let described = groups(&["--describe", "--group", GROUP]);
    let row = described.lines().find(|line| line.starts_with(GROUP)).expect("the group is described");
    assert_eq!(row.split_whitespace().take(6).collect::<Vec<_>>(), [GROUP, TOPIC, "0", "700", "1200", "500"]);
    let consumer = ["--topic", TOPIC, "--group", GROUP, "--timeout-ms", "15000", "--max-messages", "500"];
    let read = tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &bootstrap, &consumer, b"");
    assert_eq!(read.lines().collect::<Vec<_>>(), lines[700..]);
    let forgotten = groups(&["--delete-offsets", "--group", GROUP, "--topic", "shared:0"]);
    assert!(forgotten.contains("Successful"), "{forgotten}");
    let deleted = groups(&["--delete", "--group", GROUP]);
    assert!(deleted.contains("successful"), "{deleted}");
    assert_eq!(groups(&["--list"]).trim(), "");
}

#[test]
fn a_group_outlives_its_coordinator() {
    let name = "a_group_outlives_its_coordinator";
    if skipped_against_kafka(name) || !Client::Kcat.check(name) || !Client::Python.check(name) {
        return;
    }
    let scratch = Scratch::new(name).unwrap();
    let directory = scratch.path();
    let mut cluster = Cluster::start(&binary().unwrap(), directory, 3).unwrap();
    let bootstrap = cluster.bootstrap();
    cluster.nodes()[0].wire().unwrap().create_replicated_topic(TOPIC, PARTITIONS, 3, &[]).unwrap();
    let first = numbered(1);
    send(&bootstrap, &first);
    let kcat = Member::kcat(&bootstrap, directory);
    let confluent = Member::python("confluent", &bootstrap, directory);
    let pure = Member::python("pure", &bootstrap, directory);
    let members = [&kcat, &confluent, &pure];
    wait_for_all(&members, &first);
    // Each node in turn is killed and comes back: whichever coordinates the group, and whichever leads what it reads, is among them.
    for (node, wave) in (0..3).zip(2..) {
        cluster.nodes()[node].kill();
        let lines = numbered(wave);
        send(&bootstrap, &lines);
        wait_for_all(&members, &lines);
        cluster.nodes()[node].restart().unwrap();
    }
}
