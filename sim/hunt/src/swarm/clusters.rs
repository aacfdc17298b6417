//! Worlds of several nodes.
//!
//! Invariants
//! - Disks of at most as many nodes are damaged as `min.insync.replicas` less one, such that the node can tell: so whatever
//!   configuration is in force, one of those that hold a committed record is sound. Then nothing may be lost.
//! - Of those that vote in the metadata quorum a minority is damaged, and none goes back to an older state of its disk without being
//!   given another id: nobody could tell that of a vote.
//!
//! Not here: worlds of one node (`swarm`).

use quipu_env::Rng;
use quipu_sim::fault::{Cost, Fault, Targets};
use rand::RngExt;

use super::{Shape, as_printed, cost_of, one_in, pick};
use crate::plan::{
    Config, DATA_DIR, TimedFault, Workload,
    operation::{BatchSpec, Operation},
};

/// The time within which a node that was ended serves again, if nothing else is wrong, milliseconds.
const SERVES_AGAIN_MS: u64 = 3000;

/// One such world in so many has a second process of a node.
const TWIN_ONE_IN: u32 = 16;
/// Who is such a second process has been told within this time, if nothing else is wrong, milliseconds.
const TWIN_TOLD_MS: u64 = 14_000;

/// Nodes, replicas and racks.
pub(super) fn draw(rng: &mut Rng, shape: &mut Shape, config: &mut Config) {
    shape.horizon_ms = pick(rng, &[300, 1000, 1000, 4000]);
    shape.is_large = false;
    config.nodes = pick(rng, &[2, 3, 3, 3, 3, 4, 5, 7]);
    let controllers: u32 = pick(rng, &[0, 0, 0, 1, 3]);
    config.controllers = if controllers + 2 <= config.nodes { controllers } else { 0 };
    config.shards = rng.random_range(1..=2);
    let brokers = u32::try_from(config.brokers().count()).unwrap_or(1);
    let replicas = pick(rng, &[1, 2, 3, 3, 3, 3, 5]).min(brokers);
    let in_sync = pick(rng, &[1, 2, 2, 2, 3, 4]).min(replicas);
    config.kafka.insert("default.replication.factor".to_owned(), replicas.to_string());
    config.kafka.insert("min.insync.replicas".to_owned(), in_sync.to_string());
    if one_in(rng, 3) {
        config.racks = ["a", "b", "c"].iter().take(rng.random_range(1..=3)).map(|rack| (*rack).to_owned()).collect();
    }
    if one_in(rng, 2) {
        config.kafka.insert("replica.lag.time.max.ms".to_owned(), pick(rng, &["100", "500", "3000"]).to_owned());
        let rate = pick(rng, &["0", "524288", "4194304"]).to_owned();
        config.kafka.insert("replica.catch.up.bytes.per.second".to_owned(), rate);
    }
}

fn setting(config: &Config, name: &str) -> u32 {
    config.kafka.get(name).and_then(|value| value.parse().ok()).unwrap_or(1)
}

/// Changes of `min.insync.replicas` among what the admin does.
pub(super) fn change_quorums(rng: &mut Rng, config: &Config, workload: &mut Workload) {
    let (least, most) = (setting(config, "min.insync.replicas"), setting(config, "default.replication.factor"));
    let topics: Vec<String> = workload.topics.iter().map(|topic| topic.name.clone()).collect();
    let Some(admin) = workload.clients.iter_mut().find(|client| client.name == "admin") else { return };
    for _ in 0..rng.random_range(1..=4) {
        let place = rng.random_range(0..=admin.operations.len());
        let alter = Operation::Alter {
            topic: pick(rng, &topics),
            name: "min.insync.replicas".to_owned(),
            // Not below what faults are drawn for.
            value: rng.random_range(least..=most).to_string(),
        };
        admin.operations.insert(place, alter);
    }
}

/// Partitions move while clients work.
pub(super) fn reassign(rng: &mut Rng, config: &Config, workload: &mut Workload) {
    if !one_in(rng, 3) {
        return;
    }
    let replicas = usize::try_from(setting(config, "default.replication.factor")).unwrap_or(1);
    let topics: Vec<(String, i32)> =
        workload.topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
    let Some(admin) = workload.clients.iter_mut().find(|client| client.name == "admin") else { return };
    for _ in 0..rng.random_range(1..=3) {
        let (topic, partitions) = pick(rng, &topics);
        let mut left: Vec<i32> = config.brokers().filter_map(|node| i32::try_from(node).ok()).collect();
        let count = replicas.min(left.len());
        let brokers = (0..count).map(|_| left.swap_remove(rng.random_range(0..left.len()))).collect();
        let place = rng.random_range(0..=admin.operations.len());
        admin
            .operations
            .insert(place, Operation::Reassign { topic, partition: rng.random_range(0..partitions), brokers });
    }
}

/// Producers that go on for as long as faults do.
pub(super) fn stretch(rng: &mut Rng, shape: &Shape, workload: &mut Workload) {
    let partitions: Vec<(String, i32)> =
        workload.topics.iter_mut().map(|topic| (topic.name.clone(), topic.partitions)).collect();
    for client in workload.clients.iter_mut().filter(|client| client.name.starts_with("producer")) {
        if one_in(rng, 2) {
            for _ in 0..rng.random_range(10..=60) {
                let (topic, count) = pick(rng, &partitions);
                let bytes = pick(rng, &[0, 10, 300]);
                let batch = BatchSpec { partition: rng.random_range(0..count), count: 1, bytes };
                client.operations.push(Operation::Produce { topic, batches: vec![batch] });
            }
            client.pace_ms = (shape.horizon_ms + 1000) / client.operations.len().max(1) as u64;
        }
    }
}

/// Nodes by name.
struct Crowd {
    all: Vec<String>,
    /// Those whose disks may be damaged.
    victims: Vec<String>,
    /// Of these, those that do not vote.
    observers: Vec<String>,
}

impl Crowd {
    fn draw(rng: &mut Rng, config: &Config) -> Self {
        let voters: Vec<u32> = config.voters().collect();
        let mut votes_lost = (voters.len() - 1) / 2;
        let mut copies_lost = setting(config, "min.insync.replicas") - 1;
        let mut nodes: Vec<u32> = config.all_nodes().collect();
        let mut crowd = Self {
            all: nodes.iter().map(|node| config.machine(*node)).collect(),
            victims: Vec::new(),
            observers: Vec::new(),
        };
        while !nodes.is_empty() {
            let node = nodes.swap_remove(rng.random_range(0..nodes.len()));
            let (votes, serves) = (voters.contains(&node), config.brokers().any(|broker| broker == node));
            if (votes && votes_lost == 0) || (serves && copies_lost == 0) {
                continue;
            }
            votes_lost -= usize::from(votes);
            copies_lost -= u32::from(serves);
            crowd.victims.push(config.machine(node));
            if !votes {
                crowd.observers.push(config.machine(node));
            }
        }
        crowd
    }
}

/// What goes wrong.
pub(super) fn faults(rng: &mut Rng, shape: &Shape, config: &Config, workload: &Workload) -> Vec<TimedFault> {
    let crowd = Crowd::draw(rng, config);
    let targets = |servers: &[String]| Targets {
        servers: servers.to_vec(),
        clients: workload.clients.iter().map(|client| client.name.clone()).collect(),
        data_dir: DATA_DIR.to_owned(),
    };
    let harmless: Vec<&str> = shape.kinds.iter().copied().filter(|kind| cost_of(kind) == Cost::Nothing).collect();
    let mut faults = Vec::new();
    if !harmless.is_empty() {
        for _ in 0..shape.fault_count {
            let fault = Fault::draw(pick(rng, &harmless), rng, &targets(&crowd.all));
            faults.push(TimedFault { at_ms: rng.random_range(0..=shape.horizon_ms), fault: as_printed(&fault) });
        }
    }
    if crowd.all.len() > 2 && one_in(rng, 4) {
        for _ in 0..rng.random_range(1..=3) {
            apart(rng, shape, &crowd.all, &mut faults);
        }
    }
    if one_in(rng, 4) {
        roll(rng, shape, &crowd.all, &mut faults);
    }
    if one_in(rng, 3) {
        ends(rng, shape, &crowd.all, &targets(&crowd.all), &mut faults);
    }
    if !crowd.victims.is_empty() && one_in(rng, 3) {
        for _ in 0..rng.random_range(1..=2) {
            damage(rng, shape, &crowd, &targets(&crowd.victims), &mut faults);
        }
    }
    let serving: Vec<String> = config.brokers().map(|node| config.machine(node)).collect();
    let doubled: Vec<String> = crowd.victims.iter().filter(|name| serving.contains(name)).cloned().collect();
    if !doubled.is_empty() && one_in(rng, TWIN_ONE_IN) {
        if one_in(rng, 3) {
            // Where nothing else goes wrong it must be refused.
            faults.clear();
        }
        let lasts_ms = pick(rng, &[300, 2000, TWIN_TOLD_MS, TWIN_TOLD_MS]);
        let fault = Fault::Twin { node: pick(rng, &doubled), copied: one_in(rng, 2), lasts_ms };
        faults.push(TimedFault { at_ms: rng.random_range(0..=shape.horizon_ms), fault });
    }
    faults.sort_by_key(|timed| timed.at_ms);
    faults
}

/// Two nodes don't hear each other, or one does not hear the other, and all others hear both.
fn apart(rng: &mut Rng, shape: &Shape, nodes: &[String], faults: &mut Vec<TimedFault>) {
    let one = rng.random_range(0..nodes.len());
    let other = (one + rng.random_range(1..nodes.len())) % nodes.len();
    let (from, to) = (vec![nodes[one].clone()], vec![nodes[other].clone()]);
    let lasts_ms = pick(rng, &[100, 1000, 3000]);
    let fault = Fault::Partition { from, to, one_way: one_in(rng, 3), lasts_ms };
    faults.push(TimedFault { at_ms: rng.random_range(0..=shape.horizon_ms), fault });
}

/// A rolling restart.
fn roll(rng: &mut Rng, shape: &Shape, nodes: &[String], faults: &mut Vec<TimedFault>) {
    let mut at_ms = rng.random_range(0..=shape.horizon_ms);
    let (down_ms, gap_ms) = (pick(rng, &[1, 50, 1000]), pick(rng, &[0, 200, 1500]));
    for node in nodes {
        faults.push(TimedFault { at_ms, fault: Fault::Stop { node: node.clone(), down_ms } });
        at_ms += down_ms + gap_ms;
    }
}

/// Nodes end, several of them at about the same time.
fn ends(rng: &mut Rng, shape: &Shape, nodes: &[String], targets: &Targets, faults: &mut Vec<TimedFault>) {
    let at_ms = rng.random_range(0..=shape.horizon_ms);
    let kind = pick(rng, &["kill", "power-cut", "power-cut", "crash-at", "crash-at-disk", "pause"]);
    for node in nodes.iter().filter(|_| rng.random_range(0..3) > 0).cloned().collect::<Vec<_>>() {
        let alone = Targets { servers: vec![node], ..targets.clone() };
        let fault = as_printed(&Fault::draw(kind, rng, &alone));
        faults.push(TimedFault { at_ms: at_ms + pick(rng, &[0, 0, 1, 30, 400]), fault });
    }
}

/// A node's disk is not any more what it was.
fn damage(rng: &mut Rng, shape: &Shape, crowd: &Crowd, targets: &Targets, faults: &mut Vec<TimedFault>) {
    let at_ms = rng.random_range(0..=shape.horizon_ms + 500);
    let down_ms = pick(rng, &[1, 100, 1000]);
    if !crowd.observers.is_empty() && one_in(rng, 3) {
        let node = pick(rng, &crowd.observers);
        // It serves once more in between: what it goes back to is of an earlier incarnation.
        let age_ms = SERVES_AGAIN_MS + rng.random_range(0..=1000);
        faults.push(TimedFault {
            at_ms,
            fault: Fault::StaleSnapshot { node: node.clone(), age_ms, down_ms, new_id: false },
        });
        let kill = Fault::Kill { node, down_ms: 1, times: 1, up_ms: 0 };
        return faults.push(TimedFault { at_ms: at_ms + rng.random_range(1..=500), fault: kill });
    }
    let node = pick(rng, &targets.servers);
    if one_in(rng, 4) {
        // With an id of its own even a voter may go back, and to a state of the same incarnation.
        let fault = Fault::StaleSnapshot { node, age_ms: rng.random_range(1..=4000), down_ms, new_id: true };
        return faults.push(TimedFault { at_ms, fault });
    }
    if one_in(rng, 2) {
        // What rots in the log before it is proven can't be told from a torn write; in a segment it can.
        let below = format!("{DATA_DIR}/seg");
        let (file, place_ppm) = (rng.random_range(0..64), rng.random_range(0..=1_000_000));
        let fault = if one_in(rng, 3) {
            Fault::Unreadable { node, below, file, place_ppm, sectors: rng.random_range(1..=8) }
        } else {
            Fault::BitRot { node, below, file, place_ppm, bits: rng.random_range(1..=8) }
        };
        return faults.push(TimedFault { at_ms, fault });
    }
    faults.push(TimedFault { at_ms, fault: Fault::WipedDisk { node, down_ms } });
}
