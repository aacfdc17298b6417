//! From a seed to a plan. Each seed first draws what kind of world it is (which faults, which sizes, which workload), then the
//! world: so rare combinations come up often somewhere. Half of the worlds are [`aims`]: one situation, made likely.
//!
//! Invariant: what may be lost follows from the faults that were drawn, and is written into the plan.
//!
//! Not here: what a plan means. A change here changes what seeds mean, never what plans mean.

mod aims;
mod clients;
mod clusters;
mod crowds;
mod members;

use std::collections::BTreeMap;

use quipu_env::Rng;
use quipu_sim::{
    PowerCut,
    fault::{Cost, Fault, Targets},
};
use rand::{RngExt, SeedableRng};

use crate::plan::{
    BROKER, Budget, Client, Config, DATA_DIR, FORMAT, Loss, Plan, TimedFault, Topic, Workload,
    operation::{BatchSpec, Operation, Question},
};

/// A stream of a seed, by name.
fn stream(seed: u64, name: &str) -> Rng {
    let mut key = [0; 32];
    let mut word = seed ^ 0x517c_c1b7_2722_0a95;
    for byte in name.bytes() {
        word = (word ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }
    for chunk in key.chunks_mut(8) {
        word = (word ^ (word >> 31)).wrapping_mul(0x9fb2_1c65_1e98_df25).wrapping_add(seed);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    Rng::from_seed(key)
}

fn pick<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())].clone()
}

fn one_in(rng: &mut Rng, count: u32) -> bool {
    rng.random_range(0..count) == 0
}

/// So many worlds in a hundred have a group that is aimed at.
const GROUPS_IN_HUNDRED: u32 = 8;

/// The plan of a seed.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    if stream(seed, "groups").random_range(0..100) < GROUPS_IN_HUNDRED {
        return grouped(seed);
    }
    if stream(seed, "nodes").random_range(0..10) < CLUSTERS_IN_TEN {
        return cluster(seed);
    }
    if one_in(&mut stream(seed, "kind"), 2) {
        return aimed(seed);
    }
    let shape = Shape::draw(&mut stream(seed, "shape"));
    let config = config(&mut stream(seed, "config"), &shape);
    let mut workload = workload(&mut stream(seed, "workload"), &shape, &config);
    clients::draw(&mut stream(seed, "clients"), &mut workload);
    let faults = faults(&mut stream(seed, "faults"), &shape, &workload);
    let heal_ms = heal_ms(&mut stream(seed, "heal"), &faults);
    Plan { format: FORMAT, seed, heal_ms, config, budget: budget(&faults), workload, faults }
}

/// Time for what waits for its place, behind the last fault.
fn heal_ms(rng: &mut Rng, faults: &[TimedFault]) -> u64 {
    let last = faults.last().map_or(0, |timed| timed.at_ms);
    match pick(rng, &[0, 10, 50, 100, 300, 1000]) {
        0 => 0,
        more => last + more,
    }
}

fn cluster(seed: u64) -> Plan {
    if one_in(&mut stream(seed, "kind"), 2) {
        let aims::Aimed { config, mut workload, faults } = crowds::draw(&mut stream(seed, "crowd"));
        let mut rng = stream(seed, "clients");
        if one_in(&mut rng, 2) {
            clients::draw(&mut rng, &mut workload);
        }
        let heal_ms = heal_ms(&mut stream(seed, "heal"), &faults);
        return Plan { format: FORMAT, seed, heal_ms, config, budget: Budget::default(), workload, faults };
    }
    let mut shape = Shape::draw(&mut stream(seed, "shape"));
    let mut config = config(&mut stream(seed, "config"), &Shape { is_large: false, ..shape.clone() });
    let mut rng = stream(seed, "cluster");
    clusters::draw(&mut rng, &mut shape, &mut config);
    let mut workload = workload(&mut stream(seed, "workload"), &shape, &config);
    clusters::stretch(&mut rng, &shape, &mut workload);
    clusters::change_quorums(&mut rng, &config, &mut workload);
    clusters::reassign(&mut stream(seed, "reassign"), &config, &mut workload);
    clients::draw(&mut stream(seed, "clients"), &mut workload);
    let faults = clusters::faults(&mut rng, &shape, &config, &workload);
    let heal_ms = heal_ms(&mut stream(seed, "heal"), &faults);
    Plan { format: FORMAT, seed, heal_ms, config, budget: Budget::default(), workload, faults }
}

fn grouped(seed: u64) -> Plan {
    let is_cluster = stream(seed, "nodes").random_range(0..10) < CLUSTERS_IN_TEN;
    let aims::Aimed { config, workload, faults } = members::draw(&mut stream(seed, "members"), is_cluster);
    let heal_ms = heal_ms(&mut stream(seed, "heal"), &faults);
    Plan { format: FORMAT, seed, heal_ms, config, budget: Budget::default(), workload, faults }
}

fn aimed(seed: u64) -> Plan {
    let aims::Aimed { config, mut workload, faults } = aims::draw(&mut stream(seed, "aim"));
    let mut rng = stream(seed, "clients");
    if one_in(&mut rng, 2) {
        clients::draw(&mut rng, &mut workload);
    }
    let heal_ms = heal_ms(&mut stream(seed, "heal"), &faults);
    Plan { format: FORMAT, seed, heal_ms, config, budget: budget(&faults), workload, faults }
}

fn budget(faults: &[TimedFault]) -> Budget {
    let loss = faults.iter().map(|timed| loss(&timed.fault)).max().unwrap_or(Loss::None);
    // A group of the write-ahead log that nothing proves synced, and that can't be read at the next start, counts as torn.
    let is_unread = faults.iter().map(|timed| failing_reads(&timed.fault)).sum::<u64>() >= READS_OF_A_PAGE;
    Budget { loss: if is_unread { Loss::Silent } else { loss }, ..Budget::default() }
}

/// How many reads of the write-ahead log a fault may make fail.
fn failing_reads(fault: &Fault) -> u64 {
    match fault {
        Fault::ReadFails { below, times, .. } if !below.split('/').any(|name| name == "seg") => *times,
        _ => 0,
    }
}

fn is_in_wal(below: &str) -> bool {
    below.split('/').any(|name| name == "wal")
}

/// How often the log asks for a page at a start before it counts as unreadable.
const READS_OF_A_PAGE: u64 = 5;

/// What may be lost by a fault.
fn loss(fault: &Fault) -> Loss {
    if let Fault::BitRot { below, .. } = fault
        && is_in_wal(below)
    {
        // If no later group proves what it hits, the run itself allows more.
        return Loss::Reported;
    }
    match fault.cost() {
        Cost::Nothing => Loss::None,
        Cost::Detectable => Loss::Reported,
        Cost::Undetectable => Loss::Silent,
    }
}

/// So many worlds in ten have several nodes.
const CLUSTERS_IN_TEN: u32 = 4;

/// What kind of world it is.
#[derive(Clone)]
struct Shape {
    /// The time in which faults begin, and in which clients are busy, about, milliseconds.
    horizon_ms: u64,
    /// Batches up to Kafka's maximum, and room for them.
    is_large: bool,
    /// Producers that never rest, and little room: checkpoints all the time, groups always under way.
    is_busy: bool,
    /// The power goes again soon after each start that follows a crash.
    crashes_twice: bool,
    kinds: Vec<&'static str>,
    fault_count: usize,
    deletes_topics: bool,
    deletes_records: bool,
    is_hostile: bool,
}

impl Shape {
    fn draw(rng: &mut Rng) -> Self {
        let horizon_ms = pick(rng, &[40, 150, 150, 600, 600, 2500]);
        let worst = pick(rng, &[Cost::Nothing, Cost::Nothing, Cost::Nothing, Cost::Detectable, Cost::Undetectable]);
        let share = pick(rng, &[2, 4, 8]);
        // A node that there are two of takes a cluster.
        let all = Fault::KINDS.iter().copied().filter(|kind| *kind != "twin");
        let kinds = all.filter(|_| one_in(rng, share)).collect::<Vec<_>>();
        let allowed = |kind: &&str| cost_of(kind) <= worst;
        let mut kinds: Vec<&str> = kinds.into_iter().filter(|kind| allowed(kind)).collect();
        if one_in(rng, 3) {
            // What many kinds hide shows where there are few.
            let few = rng.random_range(1..=2);
            while kinds.len() > few {
                kinds.swap_remove(rng.random_range(0..kinds.len()));
            }
        }
        let is_large = one_in(rng, 12);
        Self {
            horizon_ms,
            is_large,
            is_busy: !is_large && one_in(rng, 5),
            crashes_twice: one_in(rng, 4),
            kinds,
            fault_count: pick(rng, &[0, 1, 2, 3, 4, 6, 9]),
            deletes_topics: one_in(rng, 4),
            deletes_records: one_in(rng, 3),
            is_hostile: one_in(rng, 4),
        }
    }
}

/// What a disk keeps when the power goes.
const POWER_CUTS: &[PowerCut] =
    &[PowerCut::LoseAll, PowerCut::Random, PowerCut::Random, PowerCut::Pages, PowerCut::KeepAll];

/// What a kind of fault may cost at worst.
fn cost_of(kind: &str) -> Cost {
    match kind {
        "sync-lies" | "phantom-write" | "misdirected-write" | "stale-snapshot" | "bit-rot" | "unreadable" => {
            Cost::Undetectable
        }
        "wiped-disk" => Cost::Detectable,
        _ => Cost::Nothing,
    }
}

fn config(rng: &mut Rng, shape: &Shape) -> Config {
    let mut kafka = BTreeMap::new();
    let request_bytes_max = if shape.is_large { 4 << 20 } else { 128 * 1024 };
    kafka.insert("socket.request.max.bytes".to_owned(), request_bytes_max.to_string());
    let roll_ms: u64 = pick(rng, &[1, 20, 100, 1_000_000]);
    kafka.insert("log.roll.ms".to_owned(), roll_ms.to_string());
    if one_in(rng, 6) {
        kafka.insert("log.message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    }
    if one_in(rng, 8) {
        kafka.insert("producer.id.expiration.ms".to_owned(), "86400000".to_owned());
    }
    let (wal_file_bytes, memory_tail_bytes) = if shape.is_large {
        (4096 * rng.random_range(1024..=2048), 1024 * rng.random_range(4096..=8192))
    } else if shape.is_busy {
        (4096 * rng.random_range(16..=32), 1024 * rng.random_range(64..=96))
    } else {
        (4096 * rng.random_range(16..=128), 1024 * rng.random_range(64..=512))
    };
    let latency_min_us = pick(rng, &[0, 20, 50, 200]);
    Config {
        shards: rng.random_range(1..=4),
        power_cut: pick(rng, POWER_CUTS),
        torn_sectors: rng.random(),
        garbage_tails: rng.random(),
        direct_io: !one_in(rng, 3),
        sync_us: pick(rng, &[20, 80, 80, 1000, 8000]),
        latency_min_us,
        latency_max_us: latency_min_us + pick(rng, &[0, 50, 500, 5000]),
        window_bytes: if shape.is_large { 256 * 1024 } else { pick(rng, &[4 * 1024, 64 * 1024, 256 * 1024]) },
        wal_file_bytes,
        metadata_snapshot_bytes: if one_in(rng, 3) { pick(rng, &[1, 4, 16]) << 10 } else { 8 << 20 },
        memory_tail_bytes,
        memory_requests_bytes: if shape.is_large { 8 << 20 } else { pick(rng, &[160, 256, 1024]) * 1024 },
        memory_replies_bytes: if shape.is_large { 8 << 20 } else { pick(rng, &[16, 256, 1024]) * 1024 },
        buggify: one_in(rng, 2),
        kafka,
        ..Config::default()
    }
}

fn workload(rng: &mut Rng, shape: &Shape, config: &Config) -> Workload {
    let count = rng.random_range(1..=2_usize);
    let topics: Vec<Topic> = ["knots", "cords"].iter().take(count).map(|name| topic(rng, name)).collect();
    // What one batch may be at most, and be sure to fit sooner or later.
    let room = config.memory_tail_bytes.min(usize::try_from(config.wal_file_bytes).unwrap_or(0)) / 5;
    let batch_bytes_max = room.min(1 << 20).min(if shape.is_large { 1 << 20 } else { 24 * 1024 });
    let mut clients = Vec::new();
    for number in 0..rng.random_range(1..=3) {
        clients.push(producer(rng, shape, &topics, batch_bytes_max, number));
    }
    for number in 0..rng.random_range(1..=2) {
        clients.push(consumer(rng, shape, &topics, number));
    }
    if shape.deletes_topics || shape.deletes_records || one_in(rng, 3) {
        clients.push(admin(rng, shape, &topics));
    }
    if shape.is_hostile {
        clients.push(hostile(rng, shape));
    }
    Workload { topics, clients }
}

fn topic(rng: &mut Rng, name: &str) -> Topic {
    let partitions = if one_in(rng, 10) { rng.random_range(5..=20) } else { rng.random_range(1..=4) };
    let mut kafka = BTreeMap::new();
    if one_in(rng, 8) {
        kafka.insert(
            "compression.type".to_owned(),
            pick(rng, &["gzip", "snappy", "lz4", "zstd", "uncompressed"]).to_owned(),
        );
    }
    if one_in(rng, 8) {
        kafka.insert("segment.ms".to_owned(), "5".to_owned());
    }
    Topic { name: name.to_owned(), partitions, kafka }
}

fn base(rng: &mut Rng, shape: &Shape, name: String) -> Client {
    Client {
        name,
        produce_version: rng.random_range(7..=13),
        fetch_version: rng.random_range(4..=18),
        timeout_ms: pick(rng, &[100, 1500, 30_000]),
        // Large batches take their time, and who never waits for them never gets them through.
        patience_ms: if shape.is_large { 10_000 } else { pick(rng, &[500, 2000, 10_000]) },
        ..Client::default()
    }
}

/// How long to rest after each operation, so that all of them take about the horizon.
fn pace(rng: &mut Rng, shape: &Shape, operations: usize) -> u64 {
    if one_in(rng, 4) { 0 } else { shape.horizon_ms / operations.max(1) as u64 }
}

fn producer(rng: &mut Rng, shape: &Shape, topics: &[Topic], batch_bytes_max: usize, number: u32) -> Client {
    let acks = pick(rng, &[-1, -1, -1, -1, 1, 0]);
    let count = if shape.is_busy { rng.random_range(30..=90) } else { rng.random_range(5..=40) };
    let records_max = pick(rng, &[1, 1, 4, 8, 40]);
    let mut operations = Vec::new();
    for _ in 0..count {
        let topic = pick(rng, topics);
        let batches = batches(rng, &topic, records_max, batch_bytes_max);
        operations.push(Operation::Produce { topic: topic.name.clone(), batches });
        if one_in(rng, 25) {
            operations.push(Operation::Sleep { ms: rng.random_range(1..=shape.horizon_ms / 4 + 1) });
        }
    }
    Client {
        idempotent: acks == -1 && !one_in(rng, 4),
        acks,
        codec: pick(rng, &["none", "none", "none", "gzip", "snappy", "lz4", "zstd"]).to_owned(),
        pipelined: if shape.is_busy { pick(rng, &[2, 3, 5]) } else { pick(rng, &[1, 1, 2, 3, 5]) },
        pace_ms: if shape.is_busy { 0 } else { pace(rng, shape, operations.len()) },
        operations,
        ..base(rng, shape, format!("producer-{number}"))
    }
}

fn batches(rng: &mut Rng, topic: &Topic, records_max: u32, bytes_max: usize) -> Vec<BatchSpec> {
    let mut batches = Vec::new();
    let several = if one_in(rng, 4) { rng.random_range(1..=topic.partitions.min(4)) } else { 1 };
    for _ in 0..several {
        let count = rng.random_range(1..=records_max);
        // A record takes some bytes beside its value, and its value some beside the filler.
        let room = u32::try_from(bytes_max).unwrap_or(u32::MAX) / several.unsigned_abs() / count;
        let most = room.saturating_sub(100);
        let bytes = match rng.random_range(0..6) {
            0 => 0,
            1 => 1.min(most),
            2..=4 => rng.random_range(0..=most.min(300)),
            _ => rng.random_range(0..=most),
        };
        batches.push(BatchSpec { partition: rng.random_range(0..topic.partitions), count, bytes });
    }
    batches
}

fn consumer(rng: &mut Rng, shape: &Shape, topics: &[Topic], number: u32) -> Client {
    let topic = pick(rng, topics).name;
    let mut operations = Vec::new();
    if one_in(rng, 2) {
        for _ in 0..rng.random_range(1..=10) {
            operations.push(match rng.random_range(0..3) {
                0 => Operation::Seek { topic: topic.clone(), permille: rng.random_range(0..=1000) },
                _ => Operation::Poll { topic: topic.clone(), times: rng.random_range(1..=4) },
            });
        }
    }
    operations.push(Operation::Follow { topic });
    let (fetch_max_bytes, partition_max_bytes) = (pick(rng, &[1, 10_000, i32::MAX]), pick(rng, &[1, 1000, 1 << 20]));
    // Who waits for more bytes than an answer may have waits in vain for each of them.
    let most = fetch_max_bytes.min(partition_max_bytes);
    let fetch_min_bytes = pick(rng, &[0, 1, 1, 500]).min(most);
    Client {
        pace_ms: if one_in(rng, 3) { shape.horizon_ms / 5 } else { pick(rng, &[1, 2, 5]) },
        read_committed: rng.random(),
        fetch_min_bytes,
        fetch_max_bytes,
        partition_max_bytes,
        // Who waits long must be woken; who wants much waits until the end.
        fetch_wait_ms: if fetch_min_bytes <= 1 && one_in(rng, 3) { 5000 } else { pick(rng, &[5, 20, 100, 500]) },
        operations,
        ..base(rng, shape, format!("consumer-{number}"))
    }
}

fn admin(rng: &mut Rng, shape: &Shape, topics: &[Topic]) -> Client {
    let mut operations = Vec::new();
    for _ in 0..rng.random_range(2..=12) {
        let topic = pick(rng, topics);
        let name = topic.name.clone();
        match rng.random_range(0..6) {
            0 if shape.deletes_topics => {
                operations.push(Operation::Delete { topic: name.clone() });
                operations.push(Operation::Create { topic: name, partitions: rng.random_range(1..=4) });
            }
            1 | 2 if shape.deletes_records => operations.push(Operation::DeleteRecords {
                topic: name,
                partition: rng.random_range(0..topic.partitions),
                permille: if one_in(rng, 3) { 1000 } else { rng.random_range(0..=1000) },
            }),
            3 => {
                operations.push(Operation::Grow { topic: name, partitions: topic.partitions + rng.random_range(1..=3) })
            }
            4 => operations.push(Operation::Alter {
                topic: name,
                name: "segment.ms".to_owned(),
                value: pick(rng, &["1", "30", "100000"]).to_owned(),
            }),
            _ => operations.push(Operation::Ask(pick(rng, Question::ALL).1)),
        }
    }
    let pace_ms = pace(rng, shape, operations.len());
    Client { pace_ms, operations, ..base(rng, shape, "admin".to_owned()) }
}

fn hostile(rng: &mut Rng, shape: &Shape) -> Client {
    let mut operations = Vec::new();
    for _ in 0..rng.random_range(1..=10) {
        operations.push(match rng.random_range(0..5) {
            0 => Operation::Huge,
            1 => Operation::Half { bytes: rng.random_range(1..=5000) },
            2 => Operation::Storm { connections: rng.random_range(1..=40) },
            _ => Operation::Garbage { bytes: rng.random_range(1..=300) },
        });
    }
    let pace_ms = pace(rng, shape, operations.len());
    Client { pace_ms, operations, patience_ms: 200, ..base(rng, shape, "hostile".to_owned()) }
}

/// The fault that is read back when this one is printed: times may be rounded.
fn as_printed(fault: &Fault) -> Fault {
    let printed = toml::Value::try_from(fault).expect("a fault can be printed");
    printed.try_into().expect("what is printed can be read")
}

fn faults(rng: &mut Rng, shape: &Shape, workload: &Workload) -> Vec<TimedFault> {
    if shape.kinds.is_empty() {
        return Vec::new();
    }
    let targets = Targets {
        servers: vec![BROKER.to_owned()],
        clients: workload.clients.iter().map(|client| client.name.clone()).collect(),
        data_dir: DATA_DIR.to_owned(),
    };
    let draw = |_| TimedFault {
        at_ms: rng.random_range(0..=shape.horizon_ms),
        fault: as_printed(&Fault::draw(pick(rng, &shape.kinds), rng, &targets)),
    };
    let mut faults: Vec<TimedFault> = (0..shape.fault_count).map(draw).collect();
    if shape.crashes_twice {
        let up_again = |timed: &TimedFault| {
            let (_, down) = timed.fault.down()?;
            Some(timed.at_ms + u64::try_from(down.as_millis()).unwrap_or(0))
        };
        let starts: Vec<u64> = faults.iter().filter_map(up_again).collect();
        for start_ms in starts {
            let fault = as_printed(&Fault::draw("power-cut", rng, &targets));
            faults.push(TimedFault { at_ms: start_ms + rng.random_range(0..=25), fault });
        }
    }
    // Rot in the log shows when the log is read, and must show when everything in it was proven.
    for index in 0..faults.len() {
        let is_in_wal = matches!(&faults[index].fault, Fault::BitRot { below, .. } if is_in_wal(below));
        if is_in_wal && rng.random() {
            faults[index].at_ms += shape.horizon_ms + 500;
            let fault = as_printed(&Fault::draw("power-cut", rng, &targets));
            faults.push(TimedFault { at_ms: faults[index].at_ms + rng.random_range(1..=25), fault });
        }
    }
    faults.sort_by_key(|timed| timed.at_ms);
    faults
}
