//! Worlds of several nodes that are aimed: situations in which replicated logs have failed before.
//!
//! | aim | what is likely in it |
//! |---|---|
//! | failovers | a leader ends, stands still or is cut off while one of its followers lags; the next one may follow soon |
//! | rejoins | a node comes back quickly, with an empty disk, with rotten segments, or with an older state of its disk |
//! | repairs | segments rot on a node, and what is in them is read |
//! | changes | members leave and come back, quorums and replicas change, while leaders end |
//! | deletions | records are deleted while leaders end and members come and go |
//! | quorums | the metadata changes all the time, and its voters end, stand still, and are cut off from each other |
//! | moves | replicas move away from a node that is down |
//! | refusals | producers begin when too few replicas live, or when a leader has just been elected |
//!
//! Invariants
//! - As in all worlds of several nodes: one disk at most is damaged (`min.insync.replicas` is 2), such that the node can tell.
//! - These worlds are small, so that many of them fit where one of the others does.
//!
//! Not here: what is right in them, which the checkers decide as everywhere; other worlds of several nodes (`clusters`).

use std::collections::BTreeMap;

use quipu_env::Rng;
use quipu_sim::{
    PowerCut,
    fault::{Fault, How},
};
use rand::RngExt;

use super::{aims::Aimed, one_in, pick};
use crate::plan::{
    Client, Config, DATA_DIR, TimedFault, Topic, Workload,
    operation::{BatchSpec, Operation},
};

/// When a cluster has been founded and its topics are made, about, milliseconds.
const READY_MS: u64 = 800;
/// Longer than a node is believed to live without a word, milliseconds.
const SESSION_MS: u64 = 900;
/// The time within which a node that was ended serves again, if nothing else is wrong, milliseconds.
const SERVES_AGAIN_MS: u64 = 3000;

/// One of them.
pub(super) fn draw(rng: &mut Rng) -> Aimed {
    let aims: &[fn(&mut Rng) -> Aimed] = &[
        failovers, failovers, failovers, rejoins, rejoins, repairs, changes, changes, deletions, quorums, quorums,
        moves, refusals,
    ];
    let aim = pick(rng, aims);
    let mut aimed = aim(rng);
    aimed.faults.sort_by_key(|timed| timed.at_ms);
    aimed
}

pub(super) fn config(rng: &mut Rng, nodes: u32) -> Config {
    let mut kafka = BTreeMap::new();
    kafka.insert("default.replication.factor".to_owned(), "3".to_owned());
    kafka.insert("min.insync.replicas".to_owned(), "2".to_owned());
    kafka.insert("socket.request.max.bytes".to_owned(), (128 * 1024).to_string());
    if one_in(rng, 2) {
        kafka.insert("replica.lag.time.max.ms".to_owned(), pick(rng, &["100", "500"]).to_owned());
    }
    Config {
        nodes,
        shards: 1,
        torn_sectors: one_in(rng, 4),
        garbage_tails: rng.random(),
        sync_us: pick(rng, &[80, 1000, 8000]),
        latency_min_us: 0,
        latency_max_us: pick(rng, &[50, 500, 3000]),
        wal_file_bytes: 4096 * rng.random_range(16..=64),
        memory_tail_bytes: 256 * 1024,
        power_cut: pick(rng, &[PowerCut::LoseAll, PowerCut::Random]),
        buggify: one_in(rng, 4),
        kafka,
        ..Config::default()
    }
}

pub(super) fn machines(config: &Config) -> Vec<String> {
    config.all_nodes().map(|node| config.machine(node)).collect()
}

fn topics(partitions: i32) -> Vec<Topic> {
    vec![Topic { name: "knots".to_owned(), partitions, kafka: BTreeMap::new() }]
}

/// Producers that are busy from the beginning until `until_ms`, and somebody who reads it all.
fn clients(rng: &mut Rng, partitions: i32, until_ms: u64) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..rng.random_range(1..=2) {
        let pace_ms = pick(rng, &[5, 10, 20, 40]);
        let count = (until_ms / pace_ms).min(150);
        let send = |rng: &mut Rng| {
            let batch =
                BatchSpec { partition: rng.random_range(0..partitions), count: rng.random_range(1..=2), bytes: 10 };
            Operation::Produce { topic: "knots".to_owned(), batches: vec![batch] }
        };
        clients.push(Client {
            name: format!("producer-{number}"),
            idempotent: !one_in(rng, 4),
            acks: pick(rng, &[-1, -1, -1, 1]),
            pipelined: pick(rng, &[1, 3, 5]),
            pace_ms: until_ms / count,
            patience_ms: pick(rng, &[500, 2000]),
            operations: (0..count).map(|_| send(rng)).collect(),
            ..Client::default()
        });
        if clients[number].acks != -1 {
            clients[number].idempotent = false;
        }
    }
    clients.push(Client {
        name: "consumer-0".to_owned(),
        pace_ms: pick(rng, &[5, 20]),
        fetch_wait_ms: 20,
        operations: vec![Operation::Follow { topic: "knots".to_owned() }],
        ..Client::default()
    });
    clients
}

fn admin(name: &str, pace_ms: u64, operations: Vec<Operation>) -> Client {
    Client { name: name.to_owned(), pace_ms, operations, ..Client::default() }
}

fn kill(node: &str, down_ms: u64) -> Fault {
    Fault::Kill { node: node.to_owned(), down_ms, times: 1, up_ms: 0 }
}

fn power_cut(rng: &mut Rng, node: &str, down_ms: u64) -> Fault {
    let keep = pick(rng, &[PowerCut::LoseAll, PowerCut::LoseAll, PowerCut::Random]);
    Fault::PowerCut { node: node.to_owned(), down_ms, keep, torn_sectors: false, garbage_tails: rng.random() }
}

/// Two nodes don't hear each other, or one does not hear the other.
fn cut(rng: &mut Rng, one: &str, others: &[String], lasts_ms: u64) -> Fault {
    let (one, others) = (vec![one.to_owned()], others.to_vec());
    let (from, to) = if rng.random() { (one, others) } else { (others, one) };
    Fault::Partition { from, to, one_way: one_in(rng, 3), lasts_ms }
}

/// A node is out of the way for a while.
fn out(rng: &mut Rng, node: &str, all: &[String]) -> Fault {
    let others: Vec<String> = all.iter().filter(|other| *other != node).cloned().collect();
    let lasts_ms = SESSION_MS + rng.random_range(0..=1500);
    match rng.random_range(0..6) {
        0 => kill(node, pick(rng, &[1, 50, lasts_ms])),
        1 | 2 => {
            let down_ms = pick(rng, &[1, 50, lasts_ms]);
            power_cut(rng, node, down_ms)
        }
        3 => Fault::Pause { node: node.to_owned(), lasts_ms },
        4 => Fault::DiskStall { node: node.to_owned(), lasts_ms },
        _ => cut(rng, node, &others, lasts_ms),
    }
}

/// A node falls behind another one, which nobody else can tell.
fn behind(rng: &mut Rng, node: &str, other: &str) -> Fault {
    let lasts_ms = rng.random_range(200..=1500);
    match rng.random_range(0..4) {
        0 => Fault::DiskStall { node: node.to_owned(), lasts_ms },
        1 => Fault::SlowDisk { node: node.to_owned(), factor: pick(rng, &[10, 300]), lasts_ms },
        _ => cut(rng, node, &[other.to_owned()], lasts_ms),
    }
}

/// Leaders end while somebody lags. Answers the faults and when they are over.
fn rounds(rng: &mut Rng, nodes: &[String], count: u64) -> (Vec<TimedFault>, u64) {
    let mut faults = Vec::new();
    let mut at_ms = READY_MS + rng.random_range(0..=400);
    for _ in 0..count {
        let node = pick(rng, nodes);
        let others: Vec<String> = nodes.iter().filter(|other| **other != node).cloned().collect();
        if !one_in(rng, 3) {
            let lagging = pick(rng, &others);
            faults.push(TimedFault { at_ms, fault: behind(rng, &lagging, &node) });
            at_ms += rng.random_range(20..=400);
        }
        faults.push(TimedFault { at_ms, fault: out(rng, &node, nodes) });
        if one_in(rng, 4) {
            let other = pick(rng, &others);
            faults.push(TimedFault { at_ms: at_ms + rng.random_range(0..=30), fault: out(rng, &other, nodes) });
        }
        at_ms += pick(rng, &[100, 600, 1000, 1500]);
    }
    (faults, at_ms)
}

fn failovers(rng: &mut Rng) -> Aimed {
    let nodes = pick(rng, &[3, 3, 3, 4]);
    let config = config(rng, nodes);
    let count = rng.random_range(1..=3);
    let (faults, end_ms) = rounds(rng, &machines(&config), count);
    let partitions = rng.random_range(1..=2);
    let clients = clients(rng, partitions, end_ms + 300);
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn rejoins(rng: &mut Rng) -> Aimed {
    // Of four nodes the last one does not vote: it may go back.
    let count = pick(rng, &[3, 4, 4]);
    let mut config = config(rng, count);
    if one_in(rng, 2) {
        config.kafka.insert("log.roll.ms".to_owned(), "1".to_owned());
        config.memory_tail_bytes = 64 * 1024;
    }
    let nodes = machines(&config);
    let count = rng.random_range(0..=2);
    let (mut faults, mut end_ms) = rounds(rng, &nodes, count);
    let at_ms = rng.random_range(READY_MS..=end_ms + 500);
    let (victim, down_ms) = (nodes[nodes.len() - 1].clone(), pick(rng, &[1, 50, 1000]));
    match rng.random_range(0..3) {
        0 if nodes.len() > 3 => {
            let age_ms = SERVES_AGAIN_MS + rng.random_range(0..=500);
            faults.push(TimedFault { at_ms, fault: kill(&victim, 1) });
            faults.push(TimedFault {
                at_ms,
                fault: Fault::StaleSnapshot { node: victim.clone(), age_ms: age_ms - 500, down_ms, new_id: false },
            });
            end_ms += age_ms;
        }
        1 => {
            let (below, place_ppm) = (format!("{DATA_DIR}/seg"), rng.random_range(0..=1_000_000));
            let (node, file) = (victim.clone(), rng.random_range(0..64));
            let fault = Fault::BitRot { node, below, file, place_ppm, bits: rng.random_range(1..=4) };
            faults.push(TimedFault { at_ms, fault });
        }
        _ => faults.push(TimedFault { at_ms, fault: Fault::WipedDisk { node: victim.clone(), down_ms } }),
    }
    if rng.random() {
        let other = nodes[0].clone();
        faults.push(TimedFault { at_ms: at_ms + rng.random_range(0..=2000), fault: out(rng, &other, &nodes) });
    }
    let partitions = rng.random_range(1..=2);
    let clients = clients(rng, partitions, end_ms + 300);
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

/// When all that was sent at the beginning is in segments: there is a checkpoint every ten seconds.
const SETTLED_MS: u64 = 11_500;

fn repairs(rng: &mut Rng) -> Aimed {
    let config = config(rng, 3);
    let nodes = machines(&config);
    let partitions = rng.random_range(1..=2);
    let mut clients = clients(rng, partitions, READY_MS);
    let early = rng.random_range(READY_MS..=2000);
    for client in clients.iter_mut().filter(|client| client.name.starts_with("producer")) {
        client.operations.insert(0, Operation::Sleep { ms: early });
    }
    // The first one has read it all by then.
    let topic = "knots".to_owned();
    let operations = vec![Operation::Sleep { ms: SETTLED_MS + 600 }, Operation::Follow { topic }];
    clients.push(Client {
        name: "consumer-1".to_owned(),
        pace_ms: 20,
        fetch_wait_ms: 20,
        operations,
        ..Client::default()
    });
    let victim = pick(rng, &nodes);
    let mut faults = Vec::new();
    for _ in 0..rng.random_range(1..=3) {
        let (below, place_ppm) = (format!("{DATA_DIR}/seg"), rng.random_range(0..=1_000_000));
        let (node, file) = (victim.clone(), rng.random_range(0..8));
        let fault = Fault::BitRot { node, below, file, place_ppm, bits: rng.random_range(1..=4) };
        faults.push(TimedFault { at_ms: SETTLED_MS + rng.random_range(0..=500), fault });
    }
    // What was checked before counts for minutes, but only with the process that has checked it.
    faults.push(TimedFault { at_ms: SETTLED_MS + rng.random_range(500..=550), fault: kill(&victim, 1) });
    if one_in(rng, 2) {
        let fault = out(rng, &victim, &nodes);
        faults.push(TimedFault { at_ms: SETTLED_MS + rng.random_range(700..=3000), fault });
    }
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn changes(rng: &mut Rng) -> Aimed {
    let count = pick(rng, &[3, 4]);
    let mut config = config(rng, count);
    config.kafka.insert("replica.lag.time.max.ms".to_owned(), pick(rng, &["100", "300"]).to_owned());
    let nodes = machines(&config);
    let count = rng.random_range(1..=3);
    let (faults, end_ms) = rounds(rng, &nodes, count);
    let partitions = 1;
    let mut clients = clients(rng, partitions, end_ms + 300);
    let mut operations = Vec::new();
    for _ in 0..rng.random_range(2..=8) {
        operations.push(Operation::Sleep { ms: rng.random_range(1..=end_ms / 4) });
        if one_in(rng, 3) {
            let mut brokers: Vec<i32> = (1..=i32::try_from(nodes.len()).unwrap_or(3)).collect();
            while brokers.len() > 3 {
                brokers.swap_remove(rng.random_range(0..brokers.len()));
            }
            brokers.rotate_left(rng.random_range(0..3));
            operations.push(Operation::Reassign { topic: "knots".to_owned(), partition: 0, brokers });
        } else {
            let (name, value) = ("min.insync.replicas".to_owned(), pick(rng, &["2", "3"]).to_owned());
            operations.push(Operation::Alter { topic: "knots".to_owned(), name, value });
        }
    }
    clients.push(admin("admin", 0, operations));
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

/// A node is away for long; the power goes in the middle of what it does to catch up, and then others are away.
fn left_behind(rng: &mut Rng, nodes: &[String]) -> (Vec<TimedFault>, u64) {
    let victim = pick(rng, nodes);
    let others: Vec<String> = nodes.iter().filter(|other| **other != victim).cloned().collect();
    let mut at_ms = READY_MS + rng.random_range(0..=300);
    let lasts_ms = SESSION_MS + rng.random_range(200..=1500);
    let away = if rng.random() { kill(&victim, lasts_ms) } else { cut(rng, &victim, &others, lasts_ms) };
    let mut faults = vec![TimedFault { at_ms, fault: away }];
    at_ms += lasts_ms;
    for _ in 0..rng.random_range(1..=2) {
        let fault = Fault::CrashAt {
            node: victim.clone(),
            point: "wal.synced".to_owned(),
            skip: rng.random_range(0..=12),
            how: How::PowerCut,
            down_ms: pick(rng, &[1, 50]),
            again: Vec::new(),
        };
        faults.push(TimedFault { at_ms: at_ms + rng.random_range(0..=100), fault });
    }
    for other in others.iter().take(rng.random_range(1..=2)) {
        at_ms += rng.random_range(50..=1200);
        faults.push(TimedFault { at_ms, fault: out(rng, other, nodes) });
    }
    (faults, at_ms + SESSION_MS)
}

fn deletions(rng: &mut Rng) -> Aimed {
    let nodes = pick(rng, &[3, 4]);
    let config = config(rng, nodes);
    let nodes = machines(&config);
    let (faults, end_ms) = if rng.random() {
        left_behind(rng, &nodes)
    } else {
        let count = rng.random_range(1..=3);
        rounds(rng, &nodes, count)
    };
    let partitions = rng.random_range(1..=2);
    let mut clients = clients(rng, partitions, end_ms + 300);
    let mut operations = Vec::new();
    for _ in 0..rng.random_range(2..=10) {
        operations.push(Operation::Sleep { ms: rng.random_range(1..=end_ms / 4) });
        let (partition, permille) = (rng.random_range(0..partitions), pick(rng, &[300, 700, 1000]));
        operations.push(Operation::DeleteRecords { topic: "knots".to_owned(), partition, permille });
    }
    clients.push(admin("admin", 0, operations));
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn quorums(rng: &mut Rng) -> Aimed {
    let count = pick(rng, &[3, 3, 5]);
    let config = config(rng, count);
    let nodes = machines(&config);
    let count = rng.random_range(2..=5);
    let (mut faults, end_ms) = rounds(rng, &nodes, count);
    if one_in(rng, 2) {
        let (from, to) = (nodes.clone(), nodes.clone());
        let fault = Fault::LateSegments { from, to, one_way: false, delay_ms: rng.random_range(10..=1500) };
        faults.push(TimedFault { at_ms: rng.random_range(READY_MS..=end_ms), fault });
    }
    let mut clients = clients(rng, 1, end_ms + 300);
    for number in 0..rng.random_range(1..=3) {
        let name = format!("cord-{number}");
        let mut operations = Vec::new();
        for _ in 0..rng.random_range(5..=20) {
            operations.push(match rng.random_range(0..4) {
                0 => Operation::Create { topic: name.clone(), partitions: 1 },
                1 => Operation::Delete { topic: name.clone() },
                2 => {
                    let (topic, value) = ("knots".to_owned(), pick(rng, &["1000", "2000"]).to_owned());
                    Operation::Alter { topic, name: "segment.ms".to_owned(), value }
                }
                _ => Operation::Sleep { ms: rng.random_range(1..=300) },
            });
        }
        clients.push(admin(&format!("admin-{number}"), end_ms / 20, operations));
    }
    Aimed { config, workload: Workload { topics: topics(1), clients }, faults }
}

fn moves(rng: &mut Rng) -> Aimed {
    let config = config(rng, 4);
    let nodes = machines(&config);
    let partitions = rng.random_range(1..=3);
    let victim = rng.random_range(1..=4);
    let at_ms = READY_MS + rng.random_range(100..=600);
    let down_ms = SESSION_MS + rng.random_range(600..=3000);
    let node = nodes[usize::try_from(victim - 1).unwrap_or(0)].clone();
    let away = if rng.random() { kill(&node, down_ms) } else { power_cut(rng, &node, down_ms) };
    let mut operations = vec![Operation::Sleep { ms: at_ms + rng.random_range(0..=down_ms / 2) }];
    for partition in 0..partitions {
        let brokers = (1..=4).filter(|broker| *broker != victim).collect();
        operations.push(Operation::Reassign { topic: "knots".to_owned(), partition, brokers });
    }
    let mut clients = clients(rng, partitions, at_ms + down_ms);
    clients.push(admin("admin", 0, operations));
    let faults = vec![TimedFault { at_ms, fault: away }];
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn refusals(rng: &mut Rng) -> Aimed {
    let config = config(rng, 3);
    let nodes = machines(&config);
    let at_ms = READY_MS + rng.random_range(0..=300);
    let mut faults = Vec::new();
    for node in nodes.iter().filter(|_| !one_in(rng, 3)).cloned().collect::<Vec<_>>() {
        let lasts_ms = SESSION_MS + rng.random_range(100..=900);
        let fault = if rng.random() { kill(&node, lasts_ms) } else { out(rng, &node, &nodes) };
        faults.push(TimedFault { at_ms: at_ms + rng.random_range(0..=200), fault });
    }
    let producers = (0..rng.random_range(3..=6)).map(|number| {
        let batch = BatchSpec { partition: 0, count: 1, bytes: 10 };
        let send = Operation::Produce { topic: "knots".to_owned(), batches: vec![batch] };
        let mut operations = vec![Operation::Sleep { ms: at_ms + rng.random_range(0..=2500) }];
        operations.extend(core::iter::repeat_n(send, rng.random_range(3..=10)));
        Client {
            name: format!("producer-{number}"),
            idempotent: true,
            pipelined: 5,
            patience_ms: pick(rng, &[500, 2000]),
            operations,
            ..Client::default()
        }
    });
    let clients = producers.collect();
    Aimed { config, workload: Workload { topics: topics(1), clients }, faults }
}
