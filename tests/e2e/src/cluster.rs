//! Three nodes of the real binary, and an unchanged librdkafka producer that lives through the loss of any of them: every acknowledged
//! record is there once, in order.
//!
//! What becomes of a node is drawn from a seed that is printed: `kill -9`, SIGTERM, SIGSTOP for a while. Short by default; with
//! `cargo xtask test --long` for ten minutes each.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quipu_testkit::broker::{self, Broker};
use quipu_testkit::cluster::Cluster;
use quipu_testkit::process::run;
use quipu_testkit::scratch::Scratch;
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;
use rustix::process::Signal;

use crate::crash::{PARTITIONS, Random, SETTINGS, TOPIC, assert_log_is, seed, send_until, wait_for_more};
use crate::librdkafka::{consumer, producer};
use crate::subject::skipped_against_kafka;

const NODES: usize = 3;
/// Rounds of a short run.
const ROUNDS: usize = 6;
/// Of a long one.
const LONG: Duration = Duration::from_secs(600);
/// Longer than a broker's session: the others must have taken over.
const PAUSE: Duration = Duration::from_millis(1500);

/// Three nodes and what a test asks of them.
struct Nodes {
    cluster: Cluster,
    // After the nodes, so that the directory outlives them.
    _scratch: Scratch,
}

impl Nodes {
    fn start(test: &str) -> Option<Self> {
        if skipped_against_kafka(test) {
            return None;
        }
        let scratch = Scratch::new(test).unwrap();
        let cluster = Cluster::start(&broker::binary().unwrap(), scratch.path(), NODES).unwrap();
        Some(Self { cluster, _scratch: scratch })
    }

    fn bootstrap(&self) -> String {
        self.cluster.bootstrap()
    }

    /// With as many replicas as the settings say.
    fn create_topic(&self) {
        let mut create = Command::new(broker::binary().unwrap());
        create.args(["topic", "create", TOPIC, "--partitions", &PARTITIONS.to_string()]);
        create.args(["--bootstrap", &self.bootstrap()]);
        run("quipu topic create", create, &[], Duration::from_secs(60)).unwrap();
    }

    /// Everything in a partition.
    fn stored(&self, partition: i32, count: usize) -> Vec<(i64, Vec<u8>)> {
        let consumer = consumer(&self.bootstrap(), TOPIC, partition);
        let mut stored = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        // A little longer, so that records too many are seen as well.
        let mut quiet_since = Instant::now();
        while stored.len() < count || quiet_since.elapsed() < Duration::from_secs(1) {
            assert!(
                Instant::now() < deadline,
                "partition {partition}: {} records of {count} in a minute",
                stored.len()
            );
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                match message {
                    Ok(message) => stored.push((message.offset(), message.payload().unwrap_or_default().to_vec())),
                    // Passing trouble is told here, and tried again by the client.
                    Err(error) => drop(error),
                }
                quiet_since = Instant::now();
            }
        }
        consumer.unassign().unwrap();
        stored
    }
}

/// Whether there is time for another round.
fn goes_on(begun: Instant, round: usize) -> bool {
    if std::env::var_os("QUIPU_E2E_LONG").is_some() { begun.elapsed() < LONG } else { round < ROUNDS }
}

/// Runs rounds of trouble while a producer works, and checks what is there at the end.
#[expect(clippy::print_stdout, reason = "the seed of a failed run is what one wants to see")]
fn live_through(test: &str, trouble: impl Fn(&mut Broker, &mut Random)) {
    let Some(mut nodes) = Nodes::start(test) else { return };
    nodes.create_topic();
    let (producer, deliveries) = producer(&nodes.bootstrap(), &SETTINGS);
    let stop = AtomicBool::new(false);
    let mut random = seed();
    println!("QUIPU_E2E_SEED={}", random.number());
    let begun = Instant::now();
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(&producer, &stop));
        let mut round = 0;
        while goes_on(begun, round) {
            let before = deliveries.count();
            wait_for_more(&deliveries, before, round);
            let node = usize::try_from(random.next_below(NODES as u64)).unwrap();
            trouble(&mut nodes.cluster.nodes()[node], &mut random);
            round += 1;
        }
        let before = deliveries.count();
        wait_for_more(&deliveries, before, round);
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    producer.flush(Duration::from_secs(120)).unwrap();
    let failed: Vec<_> = deliveries.all().into_iter().filter(|(_, result)| result.is_err()).collect();
    assert!(failed.is_empty(), "idempotent retries cover every failover: {failed:?}");
    assert_log_is(|partition, count| nodes.stored(partition, count), &deliveries, sent);
    nodes.cluster.stop().unwrap();
}

#[test]
fn the_loss_of_any_node_loses_and_doubles_nothing() {
    live_through("cluster-kill", |node, random| {
        std::thread::sleep(Duration::from_micros(random.next_below(60_000)));
        node.kill();
        std::thread::sleep(Duration::from_micros(random.next_below(2_000_000)));
        node.restart().unwrap();
    });
}

#[test]
fn a_rolling_restart_loses_and_doubles_nothing() {
    live_through("cluster-restart", |node, _| {
        assert!(node.stop().unwrap().success(), "it stops in good order");
        node.restart().unwrap();
    });
}

#[test]
fn a_node_that_sleeps_loses_and_doubles_nothing() {
    live_through("cluster-sleep", |node, _| {
        node.process().signal(Signal::STOP).unwrap();
        std::thread::sleep(PAUSE);
        node.process().signal(Signal::CONT).unwrap();
    });
}
