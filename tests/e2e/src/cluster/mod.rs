//! Three nodes of the real binary, an unchanged librdkafka producer and consumers that live through the loss of any of them.
//!
//! What they did and were told goes through the same checkers as the simulator's histories: every acknowledged record is there once, in
//! order, and nobody has read one that is gone later. At the end the replicas are compared byte for byte.
//!
//! Who is struck is the leader, the active controller or a follower of the moment; when, is drawn from a seed that is printed.
//! Short by default; with `cargo xtask test --long` for ten minutes each (`QUIPU_E2E_LONG_SECONDS` says otherwise).

mod kit;
mod recorder;
mod releases;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quipu_testkit::clients::Client;
use rdkafka::producer::Producer;
use rustix::process::Signal;

pub(crate) use self::kit::Cluster;
use self::kit::NODES;
use self::recorder::Recorder;
use crate::crash::{PARTITIONS, Random, TOPIC, seed};
use crate::java::tool;

/// Rounds of a short run.
const ROUNDS: usize = 3;
/// Seconds of a long one.
const LONG_SECONDS: u64 = 600;
/// Longer than a broker's session: the others must have taken over.
const PAUSE: Duration = Duration::from_millis(1500);

/// Whether there is time for another round.
fn goes_on(begun: Instant, round: usize) -> bool {
    if std::env::var_os("QUIPU_E2E_LONG").is_none() {
        return round < ROUNDS;
    }
    let given = std::env::var("QUIPU_E2E_LONG_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    begun.elapsed() < Duration::from_secs(given.unwrap_or(LONG_SECONDS))
}

/// Runs rounds of trouble while a producer and consumers work, and checks what they saw and what is there at the end.
#[expect(clippy::print_stdout, reason = "the seed of a failed run is what one wants to see")]
fn live_through(test: &str, replicas: usize, trouble: impl Fn(&mut Cluster, &mut Random)) {
    let Some(mut cluster) = Cluster::start(test) else { return };
    cluster.create_topic(replicas);
    let recorder = Recorder::new();
    let producer = recorder.producer(&cluster.bootstrap());
    let (stop_sending, stop_reading) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut random = seed();
    println!("QUIPU_E2E_SEED={}", random.number());
    let (begun, bootstrap) = (Instant::now(), cluster.bootstrap());
    let sent = std::thread::scope(|scope| {
        // Whatever fails below, the threads are to end.
        let _stop = Stop([&stop_sending, &stop_reading]);
        let sender = scope.spawn(|| recorder.send_until(&producer, &stop_sending));
        for partition in 0..PARTITIONS {
            let (recorder, bootstrap, stop) = (&recorder, &bootstrap, &stop_reading);
            scope.spawn(move || recorder.follow(bootstrap, partition, stop));
        }
        let mut round = 0;
        while goes_on(begun, round) {
            wait_for_more(&recorder, round);
            trouble(&mut cluster, &mut random);
            round += 1;
        }
        wait_for_more(&recorder, round);
        stop_sending.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        producer.flush(Duration::from_secs(120)).unwrap();
        println!("{sent} records through {round} rounds in {:?}", begun.elapsed());
        sent
    });
    recorder.audit(&cluster.bootstrap());
    recorder.check(sent);
    cluster.stop_and_compare(replicas);
}

struct Stop<'a>([&'a AtomicBool; 2]);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
    }
}

/// A round strikes a cluster that has acknowledged something since the last one.
fn wait_for_more(recorder: &Recorder, round: usize) {
    let before = recorder.acknowledged();
    let deadline = Instant::now() + Duration::from_secs(60);
    while recorder.acknowledged() <= before {
        assert!(Instant::now() < deadline, "round {round}: nothing was acknowledged for a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Who is struck.
type Choose = fn(&Cluster) -> usize;

fn kill(test: &str, choose: Choose) {
    live_through(test, NODES, |cluster, random| {
        let node = choose(cluster);
        // The moment is the test: nothing is synchronised by these sleeps.
        std::thread::sleep(Duration::from_micros(random.next_below(60_000)));
        cluster.node(node).kill();
        std::thread::sleep(Duration::from_micros(random.next_below(2_000_000)));
        cluster.node(node).restart().unwrap();
    });
}

/// Stands still for longer than its session, and goes on.
fn sleep(test: &str, choose: Choose) {
    live_through(test, NODES, |cluster, _| {
        let node = choose(cluster);
        let process = cluster.node(node).process();
        process.signal(Signal::STOP).unwrap();
        std::thread::sleep(PAUSE);
        process.signal(Signal::CONT).unwrap();
    });
}

#[test]
fn a_killed_leader_loses_and_doubles_nothing() {
    kill("cluster-kill-leader", Cluster::leader);
}

#[test]
fn a_killed_controller_loses_and_doubles_nothing() {
    kill("cluster-kill-controller", Cluster::controller);
}

#[test]
fn a_killed_follower_loses_and_doubles_nothing() {
    kill("cluster-kill-follower", Cluster::follower);
}

#[test]
fn a_sleeping_leader_loses_and_doubles_nothing() {
    sleep("cluster-sleep-leader", Cluster::leader);
}

#[test]
fn a_sleeping_controller_loses_and_doubles_nothing() {
    sleep("cluster-sleep-controller", Cluster::controller);
}

#[test]
fn a_sleeping_follower_loses_and_doubles_nothing() {
    sleep("cluster-sleep-follower", Cluster::follower);
}

#[test]
fn a_rolling_restart_loses_and_doubles_nothing() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    live_through("cluster-restart", NODES, |cluster, _| {
        let node = next.fetch_add(1, Ordering::Relaxed) % NODES;
        assert!(cluster.node(node).stop().unwrap().success(), "it stops in good order");
        cluster.node(node).restart().unwrap();
    });
}

#[test]
fn a_wiped_directory_is_rebuilt_and_votes_again() {
    live_through("cluster-wipe", NODES, |cluster, random| {
        let node = usize::try_from(random.next_below(NODES as u64)).unwrap();
        cluster.node(node).kill();
        std::fs::remove_dir_all(cluster.node(node).data_dir()).unwrap();
        cluster.node(node).restart().unwrap();
        // Two disks lost at once are more than two of three copies can stand.
        cluster.wait_until_whole();
    });
}

/// Each partition to the next two nodes.
fn next_assignment(round: usize) -> String {
    let partition = |index: usize| {
        let (first, second) = ((index + round) % NODES + 1, (index + round + 1) % NODES + 1);
        format!(r#"{{"topic":"{TOPIC}","partition":{index},"replicas":[{first},{second}]}}"#)
    };
    let partitions: Vec<String> = (0..usize::try_from(PARTITIONS).unwrap()).map(partition).collect();
    format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.join(","))
}

#[test]
fn replicas_move_while_records_are_written() {
    if !Client::Java.check("replicas_move_while_records_are_written") {
        return;
    }
    let round = std::sync::atomic::AtomicUsize::new(0);
    live_through("cluster-move", NODES - 1, |cluster, _| {
        let file = cluster.scratch().join("assignment.json");
        std::fs::write(&file, next_assignment(round.fetch_add(1, Ordering::Relaxed))).unwrap();
        let reassign = |arguments: &[&str]| {
            let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
            let file = ["--reassignment-json-file", file.to_str().unwrap()];
            tool(class, &cluster.bootstrap(), &[&file[..], arguments].concat(), b"")
        };
        reassign(&["--execute"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let told = reassign(&["--verify", "--preserve-throttles"]);
            if told.matches("is completed").count() == usize::try_from(PARTITIONS).unwrap() {
                return;
            }
            assert!(Instant::now() < deadline, "the replicas have not moved in a minute: {told}");
        }
    });
}
