//! Three nodes of the real binary, and an unchanged librdkafka producer that lives through the loss of any of them: every acknowledged
//! record is there once, in order.
//!
//! What becomes of a node is drawn from a seed that is printed: `kill -9`, SIGTERM, SIGSTOP for a while. Short by default; with
//! `cargo xtask test --long` for ten minutes each.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quipu_testkit::broker::{self, Broker, Options};
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

struct Cluster {
    nodes: Vec<Broker>,
    // After the nodes, so that the directory outlives them.
    _scratch: Scratch,
}

impl Cluster {
    fn start(test: &str) -> Option<Self> {
        if skipped_against_kafka(test) {
            return None;
        }
        let scratch = Scratch::new(test).unwrap();
        let peers: Vec<SocketAddr> = free_addresses();
        let voters: Vec<String> = peers.iter().zip(1..).map(|(peer, id)| format!("{id}@{peer}")).collect();
        let settings = scratch.join("cluster.toml");
        std::fs::write(&settings, "[defaults]\n\"default.replication.factor\" = 3\n\"min.insync.replicas\" = 2\n")
            .unwrap();
        let options = |(peer, id): (&SocketAddr, usize)| {
            let arguments = [
                "--config".to_owned(),
                settings.to_str().unwrap().to_owned(),
                format!("--node-id={id}"),
                format!("--peer-listen={peer}"),
                format!("--voters={}", voters.join(",")),
            ];
            Options::new(scratch.join(format!("n{id}"))).unwrap().arguments(arguments)
        };
        let all: Vec<Options> = peers.iter().zip(1..).map(options).collect();
        // A founder waits for the others.
        let starting: Vec<_> =
            all.into_iter().map(|options| std::thread::spawn(|| Broker::start_with(options))).collect();
        let nodes = starting.into_iter().map(|node| node.join().unwrap().unwrap()).collect();
        Some(Self { nodes, _scratch: scratch })
    }

    fn bootstrap(&self) -> String {
        self.nodes.iter().map(Broker::bootstrap).collect::<Vec<_>>().join(",")
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

    fn stop(mut self) {
        for node in &mut self.nodes {
            assert!(node.stop().unwrap().success(), "it stops in good order");
        }
    }
}

fn free_addresses() -> Vec<SocketAddr> {
    let listeners: Vec<TcpListener> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// Whether there is time for another round.
fn goes_on(begun: Instant, round: usize) -> bool {
    if std::env::var_os("QUIPU_E2E_LONG").is_some() { begun.elapsed() < LONG } else { round < ROUNDS }
}

/// Runs rounds of trouble while a producer works, and checks what is there at the end.
#[expect(clippy::print_stdout, reason = "the seed of a failed run is what one wants to see")]
fn live_through(test: &str, trouble: impl Fn(&mut Broker, &mut Random)) {
    let Some(mut cluster) = Cluster::start(test) else { return };
    cluster.create_topic();
    let (producer, deliveries) = producer(&cluster.bootstrap(), &SETTINGS);
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
            trouble(&mut cluster.nodes[node], &mut random);
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
    assert_log_is(|partition, count| cluster.stored(partition, count), &deliveries, sent);
    cluster.stop();
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
