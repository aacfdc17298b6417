//! Starting and stopping: directories that are held, foreign, newer or unwritable; settings; listeners; signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;

use quipu_testkit::batch::{self, Producer, crc32c};
use quipu_testkit::broker::{Broker, Options, binary};
use quipu_testkit::clients::Client;
use quipu_testkit::process::output;
use quipu_testkit::scratch::Scratch;

use crate::kcat::kcat;
use crate::subject::{ours, skipped_against_kafka};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs `quipu` to its end with these arguments.
pub(crate) fn quipu(arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(binary().unwrap());
    command.args(arguments);
    output("quipu", &mut command, b"", LIMIT).unwrap()
}

/// What it said on stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_broker_on_the_directory_is_refused_and_names_the_first() {
    let Some((mut broker, scratch)) = ours("second") else { return };
    let data = scratch.join("data");
    let refused = quipu(&["broker", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
    let pid = broker.process().pid().to_string();
    assert!(stderr(&refused).contains(&pid), "names pid {pid}: {}", stderr(&refused));
    assert!(!broker.wire().unwrap().api_versions().unwrap().is_empty(), "the first goes on");
}

#[test]
fn a_newer_format_is_refused() {
    let Some((mut broker, scratch)) = ours("newer") else { return };
    assert!(broker.stop().unwrap().success());
    // The superblock: four copies of 4 KiB, the version at 8, a CRC-32C at 12 over all the rest of the copy.
    let path = scratch.join("data").join("superblock");
    let mut superblock = std::fs::read(&path).unwrap();
    for copy in superblock.chunks_exact_mut(4096) {
        copy[8] += 1;
        let covered = [&copy[..12], &copy[16..]].concat();
        copy[12..16].copy_from_slice(&crc32c(&covered).to_le_bytes());
    }
    std::fs::write(&path, &superblock).unwrap();
    let refused = quipu(&["broker", "--data-dir", scratch.join("data").to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(78), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("superblock"), "{}", stderr(&refused));
    assert!(std::fs::read(&path).unwrap() == superblock, "a refused directory is left as it is");
}

#[test]
fn another_nodes_directory_is_refused() {
    let Some((mut broker, scratch)) = ours("other-node") else { return };
    assert!(broker.stop().unwrap().success());
    let data = scratch.join("data");
    let arguments = ["broker", "--node-id", "2", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let refused = quipu(&arguments);
    assert_eq!(refused.status.code(), Some(78), "{}", stderr(&refused));
}

#[test]
fn a_directory_that_cannot_be_made_is_refused() {
    if skipped_against_kafka("a_directory_that_cannot_be_made_is_refused") {
        return;
    }
    let scratch = Scratch::new("unwritable").unwrap();
    // Below a file nobody can make a directory, root included.
    std::fs::write(scratch.join("file"), b"").unwrap();
    let data = scratch.join("file").join("data");
    let refused = quipu(&["broker", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("file/data"), "names the path: {}", stderr(&refused));
}

#[test]
fn a_bad_setting_is_refused_with_its_place() {
    if skipped_against_kafka("a_bad_setting_is_refused_with_its_place") {
        return;
    }
    let scratch = Scratch::new("config").unwrap();
    let cases = [
        ("unknown.toml", "node_id = 1\nno_such_key = 5\n", "2:1"),
        ("value.toml", "node_id = \"one\"\n", "1:11"),
        ("default.toml", "[defaults]\n\"no.such.property\" = 5\n", "2:1"),
        ("syntax.toml", "node_id = = 1\n", "1:11"),
    ];
    for (name, text, place) in cases {
        let file = scratch.join(name);
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let data = scratch.join("data");
        let broker = ["broker", "--config", file, "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        for arguments in [&broker[..], &["config", "check", file]] {
            let refused = quipu(arguments);
            assert_eq!(refused.status.code(), Some(2), "{name}: {}", stderr(&refused));
            assert!(stderr(&refused).contains(place), "{name} names line and column {place}: {}", stderr(&refused));
        }
    }
    assert!(!scratch.join("data").exists(), "nothing was made before the settings were read");
    let good = scratch.join("good.toml");
    std::fs::write(&good, "node_id = 3\n[defaults]\n\"num.partitions\" = 3\n").unwrap();
    assert!(quipu(&["config", "check", good.to_str().unwrap()]).status.success());
    assert_eq!(quipu(&["broker", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn settings_of_a_cluster_that_do_not_fit_are_refused_in_a_sentence() {
    if skipped_against_kafka("settings_of_a_cluster_that_do_not_fit_are_refused_in_a_sentence") {
        return;
    }
    let scratch = Scratch::new("cluster-config").unwrap();
    let data = scratch.join("data");
    let late = scratch.join("late.toml");
    std::fs::write(&late, "[defaults]\n\"broker.session.timeout.ms\" = 200\n").unwrap();
    let peers = "--peer-listen=127.0.0.1:19991";
    let voters = "--voters=1@127.0.0.1:19991,2@127.0.0.1:19992";
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--voters=1@127.0.0.1:19991,1@127.0.0.1:19992", peers], 2, "node 1 is named twice"),
        (&["--node-id=3", "--roles=controller", voters, "--peer-listen=127.0.0.1:19993"], 2, "voters names only 1, 2"),
        (&["--node-id=2", voters, peers], 2, "which voters says is node 1, but node_id is 2"),
        (&["--roles=broker", voters, peers], 2, "it is among the voters"),
        (&[voters], 2, "peer_listen is missing"),
        (&["--advertise=0.0.0.0:9092"], 2, "to which nobody can connect"),
        (&["--advertise=no-such-host.invalid:9092"], 78, "to which nobody can connect"),
        (&["--config", late.to_str().unwrap()], 2, "at least 2 heartbeats"),
    ];
    for (arguments, status, words) in cases {
        let broker = ["broker", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let refused = quipu(&[&broker[..], arguments].concat());
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{words:?} is not in: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
    }
}

#[test]
fn a_listener_that_others_can_reach_needs_a_word() {
    if skipped_against_kafka("a_listener_that_others_can_reach_needs_a_word") {
        return;
    }
    let scratch = Scratch::new("insecure").unwrap();
    let data = scratch.join("data");
    let refused = quipu(&["broker", "--data-dir", data.to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--insecure-listen"), "{}", stderr(&refused));
}

#[test]
fn settings_reach_the_broker_by_file_environment_and_flag() {
    if skipped_against_kafka("settings_reach_the_broker_by_file_environment_and_flag") {
        return;
    }
    let scratch = Scratch::new("settings").unwrap();
    let file = scratch.join("quipu.toml");
    std::fs::write(&file, "node_id = 5\n[defaults]\n\"num.partitions\" = 3\n").unwrap();
    let mut options = Options::new(scratch.join("data")).unwrap().arguments(["--config", file.to_str().unwrap()]);
    options.environment.push(("QUIPU_NODE_ID".into(), "6".into()));
    let mut broker = Broker::start_with(options.arguments(["--log-format", "json"])).unwrap();
    // Its log is stderr and the one line of stdout.
    let log = broker.process().log();
    let (told, said): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("quipu: "));
    assert_eq!(told, [format!("quipu: ready on {}", broker.address())]);
    assert!(!said.is_empty() && said.iter().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    let listed =
        Client::Kcat.check("settings: kcat lists").then(|| kcat(&broker.bootstrap(), &["-L", "-t", "by-default"], b""));
    if let Some(listed) = listed {
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains("broker 6 at"), "the environment wins over the file: {listed}");
        assert!(listed.contains("topic \"by-default\" with 3 partitions"), "{listed}");
    }
}

#[test]
fn sigterm_finishes_and_a_restart_has_everything() {
    let Some((mut broker, _scratch)) = ours("sigterm") else { return };
    let mut wire = broker.wire().unwrap();
    wire.create_topic("kept", 2, &[]).unwrap();
    let id = wire.cluster_id().unwrap();
    for number in 0..50 {
        let record = batch::build(&[format!("{number}")], 1_700_000_000_000, Producer::NONE);
        assert_eq!(wire.produce("kept", 1, &record).unwrap().error, 0);
    }
    assert_eq!(broker.stop().unwrap().code(), Some(0));
    broker.restart().unwrap();
    let mut wire = broker.wire().unwrap();
    assert_eq!(wire.cluster_id().unwrap(), id, "the same cluster");
    let records = batch::records(&wire.fetch_all("kept", 1, 0).unwrap()).unwrap();
    let values: Vec<_> = records.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect();
    assert_eq!(values, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    // Each start raises the leader epoch: what is written now carries a later one.
    let record = batch::build(&[b"later"], 1_700_000_000_000, Producer::NONE);
    assert_eq!(wire.produce("kept", 1, &record).unwrap().base_offset, 50);
    let headers = batch::headers(&wire.fetch_all("kept", 1, 0).unwrap()).unwrap();
    assert!(headers[50].leader_epoch > headers[49].leader_epoch, "{headers:?}");
}

#[test]
fn a_stopped_directory_can_be_verified_and_dumped() {
    let Some((mut broker, scratch)) = ours("verify") else { return };
    let mut wire = broker.wire().unwrap();
    wire.create_topic("dumped", 1, &[]).unwrap();
    let record = batch::build(&[b"look at me"], 1_700_000_000_000, Producer::NONE);
    assert_eq!(wire.produce("dumped", 0, &record).unwrap().error, 0);
    assert!(broker.stop().unwrap().success());
    let data = scratch.join("data");
    let data = data.to_str().unwrap();
    let verified = quipu(&["log", "verify", data, "--json"]);
    let json = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(0), "{json} {}", stderr(&verified));
    assert!(json.contains("\"ok\":true") || json.contains("\"ok\": true"), "{json}");
    let dumped = quipu(&["log", "dump", data, "--topic", "dumped", "--partition", "0"]);
    assert_eq!(dumped.status.code(), Some(0), "{}", stderr(&dumped));
    assert!(!dumped.stdout.is_empty(), "one batch is shown");
}

#[test]
fn a_connection_that_says_nothing_does_not_stop_a_stop() {
    let Some((mut broker, _scratch)) = ours("silent") else { return };
    let mut silent = TcpStream::connect(broker.address()).unwrap();
    silent.write_all(&[0, 0]).unwrap();
    assert_eq!(broker.stop().unwrap().code(), Some(0));
    let mut rest = Vec::new();
    // Closed or reset: either way nothing more comes.
    drop(silent.read_to_end(&mut rest));
    assert!(rest.is_empty());
}
