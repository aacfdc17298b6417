//! `quipu log` as a process: what it prints, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use quipu_base::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicIdPartition, checksum::crc32c,
};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_metadata::{MetadataRecord, codec};
use quipu_records::{Batch, BatchBuilder, Codec, NewRecord};
use quipu_storage::{Class, Store, StoreOptions};
use serde_json::Value;

const TOPIC: TopicId = TopicId([7; 16]);
const ORDERS: TopicIdPartition = TopicIdPartition { topic_id: TOPIC, partition: PartitionIndex(3) };

/// A data directory that goes away with the test.
struct DataDir(PathBuf);

impl Drop for DataDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn batch(value: &[u8], codec: Codec) -> Batch {
    let mut builder = BatchBuilder::new().codec(codec, None);
    let timestamp = Timestamp(1_735_689_599_001);
    builder.push(&NewRecord { timestamp, key: None, value: Some(value), headers: &[] }).unwrap();
    builder.build().unwrap()
}

async fn fill(store: &Store<TokioEnv>) {
    let named = codec::encode(&MetadataRecord::Topic { name: "orders".to_owned(), topic_id: TOPIC });
    let batches = [
        (TopicIdPartition::METADATA, batch(&named, Codec::None)),
        (ORDERS, batch(&[b'v'; 3000], Codec::None)),
        (ORDERS, batch(&[b'v'; 3000], Codec::Lz4)),
    ];
    for (partition, batch) in batches {
        let room = store.reserve(batch.bytes().len(), Class::Normal).await.unwrap();
        let log = store.log(partition);
        let appended = log.append(room, LeaderEpoch(2), batch.bytes(), batch.header(), Timestamp(9)).unwrap();
        store.durable().wait_for(|durable| *durable >= appended.ticket).await.unwrap();
    }
}

/// A store with two batches of `orders`, partition 3; `look` sees it before it is stopped.
fn data_dir(name: &str, look: impl FnOnce(&Path) + Send + 'static) -> DataDir {
    let dir = DataDir(std::env::temp_dir().join(format!("quipu-cli-{name}-{}", std::process::id())));
    drop(std::fs::remove_dir_all(&dir.0));
    let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
    let (env, path) = (runtime.env(), dir.0.clone());
    runtime.block_on(async move {
        let (store, _) = Store::open(env, StoreOptions::new(&path, BrokerId(1))).await.unwrap();
        fill(&store).await;
        look(&path);
        store.close().await.unwrap();
    });
    dir
}

fn quipu(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quipu")).args(arguments).arg(dir).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a snapshot of the metadata has is cut off the log sooner or later.
#[test]
fn a_topic_goes_by_the_name_that_a_snapshot_has() {
    let dir = data_dir("snapshot", |_| {});
    let reels = MetadataRecord::Topic { name: "reels".to_owned(), topic_id: TopicId([8; 16]) };
    let image = quipu_metadata::Image::rebuild(Offset(7), [&reels]).unwrap();
    std::fs::create_dir_all(dir.0.join("metadata")).unwrap();
    let pieces: Vec<u8> = image.to_pieces(1000).flat_map(|piece| piece.to_vec()).collect();
    std::fs::write(dir.0.join("metadata/00000000000000000007-0000000001.snapshot"), pieces).unwrap();
    std::fs::write(dir.0.join("metadata/00000000000000000009-0000000001.snapshot"), "cut off").unwrap();
    for (name, status) in [("reels", 0), ("orders", 0), ("nets", 1)] {
        let listed = quipu(&["log", "dump", "--topic", name, "--json"], &dir.0);
        assert_eq!(listed.status.code(), Some(status), "{name}");
    }
}

#[test]
fn batches_are_listed_by_name_or_id() {
    let dir = data_dir("dump", |_| {});
    for topic in ["orders", &TOPIC.to_string()] {
        let output = quipu(&["log", "dump", "--json", "--topic", topic, "--partition", "3"], &dir.0);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let lines = json_lines(&output);
        let codecs: Vec<&Value> = lines.iter().map(|line| &line["codec"]).collect();
        assert_eq!(codecs, ["none", "lz4"]);
        for (offset, line) in lines.iter().enumerate() {
            assert_eq!(
                (&line["type"], &line["topic"], &line["partition"]),
                (&"batch".into(), &"orders".into(), &3.into())
            );
            assert_eq!((&line["base_offset"], &line["leader_epoch"]), (&offset.into(), &2.into()));
            assert_eq!(line["crc_ok"], true);
        }
    }
    let table = text(&quipu(&["log", "dump", "--wal"], &dir.0));
    assert!(table.starts_with("PARTITION") && table.contains("\norders-3 "), "{table}");
    assert!(table.contains("\n__cluster_metadata-0 ") && table.contains("2024-12-31T23:59:59.001Z"), "{table}");
    let unknown = quipu(&["log", "dump", "--topic", "nope"], &dir.0);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

/// The names of an object's fields, sorted.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn damage_ends_with_1_and_names_the_topic() {
    let dir = data_dir("verify", |_| {});
    let whole = quipu(&["log", "verify", "--json"], &dir.0);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let report: Value = serde_json::from_str(&text(&whole)).unwrap();
    assert_eq!(report["ok"], true);
    let segment = report["live"]
        .as_array()
        .unwrap()
        .iter()
        .find(|live| live["what"].as_str().unwrap().contains(&format!("batches of partition {ORDERS}")));
    let file = segment.unwrap()["file"].as_str().unwrap();
    let mut bytes = std::fs::read(dir.0.join(file)).unwrap();
    bytes[1000] ^= 0x10;
    std::fs::write(dir.0.join(file), bytes).unwrap();

    let spoilt = quipu(&["log", "verify", "--json"], &dir.0);
    assert_eq!(spoilt.status.code(), Some(1), "{spoilt:?}");
    let report: Value = serde_json::from_str(&text(&spoilt)).unwrap();
    assert_eq!(keys(&report), ["cut", "damaged", "live", "ok"]);
    assert!(report["ok"] == false && report["cut"].as_array().unwrap().is_empty());
    assert_eq!(keys(&report["live"][0]), ["file", "from", "to", "what"]);
    let place = ["base_offset", "file", "length", "partition", "position", "topic", "why"];
    assert_eq!(keys(&report["damaged"][0]), place);
    let damage = &report["damaged"][0];
    assert_eq!((&damage["topic"], &damage["partition"]), (&"orders".into(), &3.into()));
    assert_eq!((&damage["base_offset"], &damage["position"]), (&0.into(), &0.into()));
    let table = quipu(&["log", "verify"], &dir.0);
    assert!(text(&table).contains(": DAMAGED\n") && text(&table).contains("orders-3"), "{table:?}");
    assert_eq!(quipu(&["log", "dump"], &dir.0).status.code(), Some(1));
}

#[test]
fn a_directory_in_use_ends_with_69_and_the_process() {
    let dir = data_dir("held", |path| {
        for command in ["dump", "verify"] {
            let output = quipu(&["log", command], path);
            assert_eq!(output.status.code(), Some(69), "{output:?}");
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        }
    });
    drop(dir);
}

#[test]
fn a_newer_format_ends_with_78_and_no_data_directory_with_1() {
    let dir = data_dir("newer", |_| {});
    let path = dir.0.join("superblock");
    let mut bytes = std::fs::read(&path).unwrap();
    let copy = &mut bytes[..4096];
    copy[8..10].copy_from_slice(&2_u16.to_le_bytes());
    let crc = crc32c(&[&copy[..12], &copy[16..]].concat());
    copy[12..16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    for command in ["dump", "verify"] {
        assert_eq!(quipu(&["log", command], &dir.0).status.code(), Some(78), "{command}");
        assert_eq!(quipu(&["log", command], &dir.0.join("wal")).status.code(), Some(1), "{command}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = data_dir("pipe", |_| {});
    for arguments in [["dump", "--wal"], ["dump", "--json"], ["verify", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
        command.arg("log").args(arguments).arg(&dir.0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_restored_directory_gets_another_id_and_keeps_what_it_holds() {
    let dir = data_dir("reidentify", |_| {});
    let before = text(&quipu(&["log", "dump"], &dir.0));
    for _ in 0..2 {
        let output = quipu(&["log", "reidentify", "--json"], &dir.0);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = &json_lines(&output)[0];
        assert_eq!(keys(told), ["before", "directory", "node"]);
        assert!(told["before"] != told["directory"] && told["node"] == 1, "{told}");
    }
    assert_eq!(text(&quipu(&["log", "dump"], &dir.0)), before);
    assert_eq!(quipu(&["log", "verify"], &dir.0).status.code(), Some(0));
    let nothing = DataDir(dir.0.join("nothing"));
    let refused = quipu(&["log", "reidentify"], &nothing.0);
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    assert!(!nothing.0.exists(), "nothing appears where nothing was");
}
