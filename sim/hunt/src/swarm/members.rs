//! Worlds with a consumer group, on one node or on several: members come, go, crash, stand still and come back, while producers
//! write and the coordinator fails over.
//!
//! | aim | what is likely in it |
//! |---|---|
//! | turnover | members join, leave and crash; brokers end, or nothing is wrong |
//! | silences | members stand still, or are cut off, for longer than their group is patient, and go on as if nothing were |
//! | failovers | brokers end while members commit |
//! | quiet | nothing is produced for longer than offsets are kept without a reader |
//!
//! Invariant: nothing may be lost in them, so no disk is damaged.
//!
//! Not here: what is right (`check::groups`).

use quipu_env::Rng;
use quipu_sim::{PowerCut, fault::Fault};
use rand::RngExt;

use super::{
    aims::{self, Aimed},
    crowds, one_in, pick,
};
use crate::plan::{
    Client, Commits, Config, Kind, Protocol, TimedFault, Topic, Workload,
    operation::{BatchSpec, Operation},
};

const GROUP: &str = "weavers";
/// How long a group is patient with a silent member, milliseconds.
const SESSION_MS: u64 = 1000;

/// A world.
struct Loom {
    config: Config,
    topics: Vec<Topic>,
    protocol: Protocol,
    /// When a first coordinator can be asked, about.
    ready_ms: u64,
}

/// One of them.
pub(super) fn draw(rng: &mut Rng, is_cluster: bool) -> Aimed {
    let aims: &[fn(&mut Rng, Loom) -> Aimed] =
        &[turnover, turnover, turnover, turnover, silences, silences, silences, failovers, failovers, quiet];
    let aim = pick(rng, aims);
    let loom = loom(rng, is_cluster);
    let mut aimed = aim(rng, loom);
    aimed.faults.sort_by_key(|timed| timed.at_ms);
    aimed
}

fn loom(rng: &mut Rng, is_cluster: bool) -> Loom {
    let mut config = if is_cluster { crowds::config(rng, 3) } else { aims::config(rng) };
    let session = SESSION_MS.to_string();
    let delay = pick(rng, &["0", "0", "100"]);
    for (name, value) in [
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.replication.factor", if is_cluster { "3" } else { "1" }),
        ("group.initial.rebalance.delay.ms", delay),
        ("group.min.session.timeout.ms", "100"),
        ("group.consumer.min.session.timeout.ms", "100"),
        ("group.consumer.session.timeout.ms", &session),
        ("group.consumer.min.heartbeat.interval.ms", "10"),
        ("group.consumer.heartbeat.interval.ms", "100"),
    ] {
        config.kafka.insert(name.to_owned(), value.to_owned());
    }
    let count = rng.random_range(1..=2);
    let topic = |name: &&str| {
        let kafka = std::collections::BTreeMap::new();
        Topic { name: (*name).to_owned(), partitions: rng.random_range(1..=3), kafka }
    };
    let topics = ["knots", "cords"].iter().take(count).map(topic).collect();
    let protocol = pick(rng, &[Protocol::Consumer, Protocol::Consumer, Protocol::Eager, Protocol::Cooperative]);
    Loom { config, topics, protocol, ready_ms: if is_cluster { 1500 } else { 200 } }
}

impl Loom {
    fn producer(&self, rng: &mut Rng, until_ms: u64) -> Client {
        let pace_ms = pick(rng, &[20, 50, 100]);
        let count = (until_ms / pace_ms).clamp(5, 80);
        let send = |rng: &mut Rng| {
            let topic = pick(rng, &self.topics);
            let partition = rng.random_range(0..topic.partitions);
            let batch = BatchSpec { partition, count: rng.random_range(1..=3), bytes: 10 };
            Operation::Produce { topic: topic.name, batches: vec![batch] }
        };
        Client {
            name: "producer-0".to_owned(),
            pace_ms: until_ms / count,
            operations: (0..count).map(|_| send(rng)).collect(),
            ..Client::default()
        }
    }

    fn member(&self, rng: &mut Rng, number: u32, operations: Vec<Operation>) -> Client {
        Client {
            name: format!("member-{number}"),
            kind: Kind::Client,
            pace_ms: pick(rng, &[0, 0, 10]),
            fetch_wait_ms: 50,
            client_poll_records: pick(rng, &[1, 5, 500]),
            client_metadata_ms: pick(rng, &[500, 300_000]),
            group_protocol: self.protocol,
            group_commits: pick(rng, &[Commits::Sync, Commits::Sync, Commits::Async, Commits::Auto]),
            group_commit_every: pick(rng, &[1, 1, 3]),
            group_static: one_in(rng, 4),
            group_session_ms: SESSION_MS,
            group_heartbeat_ms: 100,
            group_poll_ms: 3000,
            operations,
            ..Client::default()
        }
    }

    fn join(&self) -> Operation {
        Operation::Join {
            group: GROUP.to_owned(),
            topics: self.topics.iter().map(|topic| topic.name.clone()).collect(),
        }
    }

    /// What a member does in the end.
    fn end(&self) -> [Operation; 2] {
        [self.join(), Operation::Serve]
    }

    fn brokers(&self) -> Vec<String> {
        crowds::machines(&self.config)
    }

    fn with(self, clients: Vec<Client>, faults: Vec<TimedFault>) -> Aimed {
        Aimed { config: self.config, workload: Workload { topics: self.topics, clients }, faults }
    }
}

fn turnover(rng: &mut Rng, loom: Loom) -> Aimed {
    let until_ms = loom.ready_ms + rng.random_range(500..=4000);
    let mut clients = vec![loom.producer(rng, until_ms)];
    let count = rng.random_range(2..=4);
    for number in 0..count {
        let mut operations = Vec::new();
        for _ in 0..rng.random_range(0..=3) {
            operations.push(Operation::Sleep { ms: rng.random_range(1..=until_ms / 4) });
            operations.push(loom.join());
            operations.push(Operation::Take { times: rng.random_range(1..=15) });
            operations.push(match rng.random_range(0..4) {
                0 => Operation::Crash { ms: pick(rng, &[10, 300, 1500]) },
                // A member that takes its time with what it was given.
                1 => Operation::Sleep { ms: pick(rng, &[200, 1500, 4000]) },
                _ => Operation::Leave,
            });
        }
        // One is there in the end; others may be away for good.
        if number == 0 || !one_in(rng, 3) {
            operations.extend(loom.end());
        }
        clients.push(loom.member(rng, number, operations));
    }
    let mut faults = Vec::new();
    if one_in(rng, 3) {
        faults = ends(rng, &loom, until_ms);
    }
    loom.with(clients, faults)
}

/// Brokers end.
fn ends(rng: &mut Rng, loom: &Loom, until_ms: u64) -> Vec<TimedFault> {
    let brokers = loom.brokers();
    let mut faults = Vec::new();
    let mut at_ms = loom.ready_ms + rng.random_range(0..=500);
    while at_ms < until_ms && faults.len() < 4 {
        let (node, down_ms) = (pick(rng, &brokers), pick(rng, &[1, 50, 1500]));
        let fault = match rng.random_range(0..4) {
            0 => Fault::Kill { node, down_ms, times: 1, up_ms: 0 },
            1 => Fault::Pause { node, lasts_ms: down_ms },
            _ => {
                let keep = pick(rng, &[PowerCut::LoseAll, PowerCut::LoseAll, PowerCut::Random]);
                Fault::PowerCut { node, down_ms, keep, torn_sectors: false, garbage_tails: false }
            }
        };
        faults.push(TimedFault { at_ms, fault });
        at_ms += rng.random_range(100..=1500);
    }
    faults
}

fn silences(rng: &mut Rng, loom: Loom) -> Aimed {
    let until_ms = loom.ready_ms + rng.random_range(2000..=5000);
    let mut clients = vec![loom.producer(rng, until_ms)];
    let count = rng.random_range(2..=3);
    for number in 0..count {
        let operations = loom.end().to_vec();
        clients.push(loom.member(rng, number, operations));
    }
    let mut faults = Vec::new();
    for _ in 0..rng.random_range(1..=3) {
        let node = format!("member-{}", rng.random_range(0..count));
        let at_ms = loom.ready_ms + rng.random_range(300..=2500);
        let lasts_ms = SESSION_MS + rng.random_range(200..=1500);
        let fault = if one_in(rng, 4) {
            Fault::Partition { from: vec![node], to: loom.brokers(), one_way: one_in(rng, 3), lasts_ms }
        } else {
            Fault::Pause { node, lasts_ms }
        };
        faults.push(TimedFault { at_ms, fault });
    }
    if one_in(rng, 4) {
        faults.extend(ends(rng, &loom, until_ms));
    }
    loom.with(clients, faults)
}

fn failovers(rng: &mut Rng, loom: Loom) -> Aimed {
    let until_ms = loom.ready_ms + rng.random_range(1000..=4000);
    let mut clients = vec![loom.producer(rng, until_ms)];
    for number in 0..rng.random_range(1..=3) {
        let mut operations = Vec::new();
        if one_in(rng, 2) {
            operations.extend([loom.join(), Operation::Take { times: rng.random_range(5..=20) }]);
            operations.push(Operation::Crash { ms: pick(rng, &[10, 1500]) });
        }
        operations.extend(loom.end());
        clients.push(loom.member(rng, number, operations));
    }
    let faults = ends(rng, &loom, until_ms);
    loom.with(clients, faults)
}

fn quiet(rng: &mut Rng, mut loom: Loom) -> Aimed {
    for (name, value) in [("offsets.retention.minutes", "1"), ("offsets.retention.check.interval.ms", "5000")] {
        loom.config.kafka.insert(name.to_owned(), value.to_owned());
    }
    let mut producer = loom.producer(rng, 1000);
    let place = producer.operations.len() - 2;
    producer.operations.insert(place, Operation::Sleep { ms: 75_000 });
    let mut clients = vec![producer];
    for number in 0..2 {
        let mut operations = Vec::new();
        if number == 1 {
            // It comes, and has the other one give up something, when offsets might have expired.
            operations.push(Operation::Sleep { ms: rng.random_range(70_000..=76_000) });
        }
        operations.extend(loom.end());
        // Nobody commits what did not change.
        let mut member = loom.member(rng, number, operations);
        (member.group_commits, member.group_commit_every) = (Commits::Sync, 2);
        (member.pace_ms, member.fetch_wait_ms) = (500, 500);
        clients.push(member);
    }
    loom.with(clients, Vec::new())
}
