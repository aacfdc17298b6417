//! Three nodes of the real binary: start, look, stop, compare what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::broker::{self, Broker};
use quipu_testkit::process::run;
use quipu_testkit::scratch::Scratch;
use quipu_testkit::wire::Body;

use crate::crash::{PARTITIONS, TOPIC};
use crate::subject::skipped_against_kafka;

pub(crate) const NODES: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) inner: quipu_testkit::cluster::Cluster,
    // After the nodes, so that the directory outlives them.
    scratch: Scratch,
}

impl Cluster {
    pub(crate) fn start(test: &str) -> Option<Self> {
        if skipped_against_kafka(test) {
            return None;
        }
        let scratch = Scratch::new(test).unwrap();
        let binary = broker::binary().unwrap();
        let inner = quipu_testkit::cluster::Cluster::start(&binary, scratch.path(), NODES).unwrap();
        Some(Self { inner, scratch })
    }

    pub(crate) fn node(&mut self, index: usize) -> &mut Broker {
        &mut self.inner.nodes()[index]
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.inner.bootstrap()
    }

    /// What `quipu` prints, asked for until it succeeds.
    pub(crate) fn quipu(&self, arguments: &[&str]) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut command = Command::new(broker::binary().unwrap());
            command.args(arguments).args(["--bootstrap", &self.bootstrap()]);
            match run("quipu", command, &[], LIMIT) {
                Ok(printed) => return String::from_utf8(printed).unwrap(),
                Err(error) => assert!(Instant::now() < deadline, "{arguments:?}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn create_topic(&self, replicas: usize) {
        let (partitions, replicas) = (PARTITIONS.to_string(), replicas.to_string());
        self.quipu(&["topic", "create", TOPIC, "--partitions", &partitions, "--replication-factor", &replicas]);
    }

    /// The place of the node with this id, of those that are asked for until one is told.
    fn node_told(&self, mut ask: impl FnMut() -> Option<i32>) -> usize {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(id) = ask().filter(|id| *id > 0) {
                return usize::try_from(id).unwrap() - 1;
            }
            assert!(Instant::now() < deadline, "nobody leads for a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Who leads the first partition.
    pub(crate) fn leader(&self) -> usize {
        self.node_told(|| {
            let described = self.quipu(&["topic", "describe", TOPIC, "--json"]);
            number_behind(&described, "\"leader\":")
        })
    }

    /// The active controller.
    pub(crate) fn controller(&self) -> usize {
        self.node_told(|| number_behind(&self.quipu(&["cluster", "status", "--json"]), "\"controller\":"))
    }

    /// Leads neither the first partition nor the metadata, if there is such a node.
    pub(crate) fn follower(&self) -> usize {
        let (leader, controller) = (self.leader(), self.controller());
        (0..NODES).find(|node| *node != leader && *node != controller).unwrap_or(0)
    }

    /// Waits until every node serves and votes, and every replica is in sync.
    pub(crate) fn wait_until_whole(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let status = self.quipu(&["cluster", "status", "--json"]);
            let is_whole = status.contains("\"under_replicated\":[]")
                && status.contains("\"offline\":[]")
                // A node whose directory was wiped observes until it has its vote back.
                && status.contains("\"observers\":[]")
                && status.matches("\"up\":true").count() == NODES
                && status.matches("[\"broker\",\"controller\"]").count() == NODES;
            if is_whole {
                return;
            }
            assert!(Instant::now() < deadline, "not whole after two minutes: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Bytes of each partition of the topic, as each node tells.
    fn sizes(&mut self) -> Vec<BTreeMap<i32, i64>> {
        self.inner.nodes().iter().map(sizes).collect()
    }

    /// Waits until all replicas have as many bytes, stops all nodes, and compares what they hold byte for byte.
    pub(crate) fn stop_and_compare(mut self, replicas: usize) {
        self.wait_until_whole();
        let deadline = Instant::now() + LIMIT;
        loop {
            let sizes = self.sizes();
            let is_even = |partition: i32| {
                let held: Vec<i64> = sizes.iter().filter_map(|sizes| sizes.get(&partition).copied()).collect();
                held.len() == replicas && held.windows(2).all(|pair| pair[0] == pair[1])
            };
            if (0..PARTITIONS).all(is_even) {
                break;
            }
            assert!(Instant::now() < deadline, "replicas differ for a minute: {sizes:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let directories: Vec<PathBuf> = self.inner.nodes().iter().map(|node| node.data_dir().to_owned()).collect();
        self.inner.stop().unwrap();
        let mut held: BTreeMap<i32, Vec<(usize, Vec<u8>)>> = BTreeMap::new();
        for (directory, id) in directories.iter().zip(1..) {
            for (partition, bytes) in held_in(directory) {
                held.entry(partition).or_default().push((id, bytes));
            }
        }
        assert_eq!(held.len(), usize::try_from(PARTITIONS).unwrap());
        for (partition, copies) in held {
            assert_eq!(copies.len(), replicas, "copies of {partition}");
            let (first_id, first) = &copies[0];
            assert!(!first.is_empty(), "there is something to compare");
            for (id, bytes) in &copies[1..] {
                let differ = first.iter().zip(bytes).position(|(one, other)| one != other);
                let (one, other) = (first.len(), bytes.len());
                assert!(first == bytes, "{partition}: {one} bytes on {first_id}, {other} on {id}, other at {differ:?}");
            }
        }
    }
}

/// DescribeLogDirs, version 1: throttle time, then by directory, topic, partition.
fn sizes(node: &Broker) -> BTreeMap<i32, i64> {
    let mut reply = node.wire().unwrap().call(35, 1, &Body::new().i32(-1).into_bytes()).unwrap();
    reply.i32().unwrap();
    let mut sizes = BTreeMap::new();
    for _ in 0..reply.count().unwrap() {
        assert_eq!(reply.i16().unwrap(), 0);
        reply.string().unwrap();
        for _ in 0..reply.count().unwrap() {
            let topic = reply.string().unwrap();
            for _ in 0..reply.count().unwrap() {
                let (partition, size) = (reply.i32().unwrap(), reply.i64().unwrap());
                reply.i64().unwrap();
                reply.i8().unwrap();
                if topic == TOPIC {
                    sizes.insert(partition, size);
                }
            }
        }
    }
    sizes
}

/// The bytes of each partition of the topic in a directory that nobody uses: those of its batches, one behind the other. Where they
/// stand, in which segments or still in the write-ahead log alone, is each node's own affair.
fn held_in(data: &Path) -> BTreeMap<i32, Vec<u8>> {
    let mut held: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut dump = Command::new(broker::binary().unwrap());
    dump.args(["log", "dump", "--json", "--topic", TOPIC]).arg(data);
    let listed = String::from_utf8(run("quipu log dump", dump, &[], LIMIT).unwrap()).unwrap();
    for batch in listed.lines() {
        let file = text_behind(batch, "\"file\":\"").unwrap();
        let partition = number_behind(batch, "\"partition\":").unwrap();
        let number = |words: &str| usize::try_from(number_behind(batch, words).unwrap()).unwrap();
        let (position, bytes) = (number("\"position\":"), number("\"bytes\":"));
        let contents = files.entry(file.to_owned()).or_insert_with(|| std::fs::read(data.join(file)).unwrap());
        held.entry(partition).or_default().extend(&contents[position..position + bytes]);
    }
    held
}

fn text_behind<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let rest = &text[text.find(words)? + words.len()..];
    Some(&rest[..rest.find('"')?])
}

/// The number that follows these words in a JSON text.
pub(crate) fn number_behind(text: &str, words: &str) -> Option<i32> {
    let rest = &text[text.find(words)? + words.len()..];
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '-')?;
    rest[..end].parse().ok()
}
