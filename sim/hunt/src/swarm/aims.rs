//! Worlds that are aimed: situations in which logs have failed before, each of which is rare where everything is drawn alike.
//!
//! | aim | what is likely in it |
//! |---|---|
//! | tears | several groups of the log are under way when the power goes, and it goes again soon after the start that follows |
//! | checkpoints | there is one all the time, some fail, and the process ends in the middle of one |
//! | rot | bits flip in groups of the log that were acknowledged and proven; then the log is read |
//! | old rot | bits flip in segments that are complete; then they are read |
//! | unread | a start can't read something of the log at once, of which the last groups were just acknowledged |
//! | beginnings | a sync fails while the data directory, or a file of the log, is made, and later the power goes |
//! | deletions | the process ends when a topic was just deleted, or its records were, or it was made again |
//! | room | requests with several large batches, little room, a disk that is full for a moment |
//! | waits | nothing is wrong, and consumers wait for producers that rest |
//! | stalls | the disk does not answer for longer than producers are patient |
//!
//! Invariants
//! - An aim makes a situation likely. What is right in it, the checkers decide as everywhere.
//! - These worlds are small, so that many of them fit where one of the others does.
//!
//! Not here: all the other worlds (`swarm`), which of the clients are the Rust client's (`clients`).

use std::collections::BTreeMap;

use quipu_env::Rng;
use quipu_sim::{
    PowerCut,
    fault::{Fault, How, Moment, Place},
};
use rand::RngExt;

use super::{one_in, pick};
use crate::plan::{
    BROKER, Client, Config, DATA_DIR, TimedFault, Topic, Workload,
    operation::{BatchSpec, Operation},
};

/// What an aim makes of a seed.
pub(super) struct Aimed {
    pub(super) config: Config,
    pub(super) workload: Workload,
    pub(super) faults: Vec<TimedFault>,
}

/// One of them.
pub(super) fn draw(rng: &mut Rng) -> Aimed {
    let aims: &[fn(&mut Rng) -> Aimed] = &[
        tears,
        tears,
        tears,
        checkpoints,
        checkpoints,
        rot,
        old_rot,
        unread,
        beginnings,
        deletions,
        room,
        room,
        waits,
        stalls,
    ];
    let aim = pick(rng, aims);
    let mut aimed = aim(rng);
    if one_in(rng, 2) && !aimed.workload.clients.iter().any(|client| client.name.starts_with("consumer")) {
        aimed.workload.clients.push(consumer(rng, 20));
    }
    aimed.faults.sort_by_key(|timed| timed.at_ms);
    aimed
}

pub(super) fn config(rng: &mut Rng) -> Config {
    Config {
        shards: rng.random_range(1..=3),
        torn_sectors: one_in(rng, 4),
        garbage_tails: rng.random(),
        direct_io: !one_in(rng, 3),
        sync_us: pick(rng, &[80, 1000, 8000]),
        latency_min_us: 0,
        latency_max_us: pick(rng, &[0, 50, 500]),
        wal_file_bytes: 4096 * rng.random_range(16..=64),
        memory_tail_bytes: 256 * 1024,
        buggify: rng.random(),
        ..Config::default()
    }
}

/// When a first start has ended and the topics are made, about: both take some syncs.
fn ready_ms(config: &Config) -> u64 {
    config.sync_us / 40 + 5
}

fn topics(partitions: i32) -> Vec<Topic> {
    vec![Topic { name: "knots".to_owned(), partitions, kafka: BTreeMap::new() }]
}

/// A producer that sends so often to one partition each, batches of up to so many records of up to so many bytes.
fn producer(rng: &mut Rng, number: u32, count: usize, partitions: i32, (records, bytes): (u32, u32)) -> Client {
    let send = |rng: &mut Rng| {
        let partition = rng.random_range(0..partitions);
        let batch = BatchSpec { partition, count: rng.random_range(1..=records), bytes: rng.random_range(0..=bytes) };
        Operation::Produce { topic: "knots".to_owned(), batches: vec![batch] }
    };
    Client {
        name: format!("producer-{number}"),
        idempotent: !one_in(rng, 3),
        pipelined: pick(rng, &[1, 2, 5, 5]),
        patience_ms: pick(rng, &[500, 2000]),
        operations: (0..count).map(|_| send(rng)).collect(),
        ..Client::default()
    }
}

fn consumer(rng: &mut Rng, wait_ms: i32) -> Client {
    Client {
        name: "consumer-0".to_owned(),
        pace_ms: pick(rng, &[1, 5, 20]),
        fetch_wait_ms: wait_ms,
        operations: vec![Operation::Follow { topic: "knots".to_owned() }],
        ..Client::default()
    }
}

fn admin(operations: Vec<Operation>) -> Client {
    Client { name: "admin".to_owned(), operations, ..Client::default() }
}

fn below(directory: &str) -> String {
    format!("{DATA_DIR}/{directory}")
}

fn power_cut(rng: &mut Rng, keep: PowerCut) -> Fault {
    Fault::PowerCut {
        node: BROKER.to_owned(),
        down_ms: rng.random_range(1..=10),
        keep,
        torn_sectors: one_in(rng, 4),
        garbage_tails: rng.random(),
    }
}

fn kill(rng: &mut Rng) -> Fault {
    Fault::Kill { node: BROKER.to_owned(), down_ms: rng.random_range(1..=10), times: 1, up_ms: 0 }
}

/// How a process may end without a word.
fn end(rng: &mut Rng) -> Fault {
    if one_in(rng, 3) {
        return kill(rng);
    }
    let keep = pick(rng, &[PowerCut::Random, PowerCut::Pages]);
    power_cut(rng, keep)
}

/// Places in the starts that follow: at the first things that they write, or when those are durable.
fn again(rng: &mut Rng) -> Vec<Place> {
    let place = |rng: &mut Rng| {
        if rng.random() {
            return Place::Point { name: "wal.synced".to_owned(), skip: rng.random_range(0..=2) };
        }
        Place::Disk { at: rng.random_range(3..=40), moment: moment(rng) }
    };
    let count = rng.random_range(0..=3);
    (0..count).map(|_| place(rng)).collect()
}

fn moment(rng: &mut Rng) -> Moment {
    if rng.random() { Moment::Before } else { Moment::After }
}

fn tears(rng: &mut Rng) -> Aimed {
    let keep = pick(rng, &[PowerCut::Random, PowerCut::Pages]);
    let config = Config { sync_us: pick(rng, &[1000, 8000]), power_cut: keep, ..config(rng) };
    let partitions = pick(rng, &[1, 1, 2, 3]);
    let size = (pick(rng, &[1, 1, 4]), pick(rng, &[0, 100, 6000]));
    let producers = (0..rng.random_range(1..=3)).map(|number| {
        let count = rng.random_range(20..=50);
        // Whoever sends all at once is done when the power goes.
        let pace_ms = pick(rng, &[0, 1, 1 + config.sync_us / 1500]);
        Client { pace_ms, ..producer(rng, number, count, partitions, size) }
    });
    let clients: Vec<Client> = producers.collect();
    let begin_ms = ready_ms(&config);
    let horizon_ms = begin_ms + config.sync_us / 50 + 50;
    let cuts = rng.random_range(1..=3);
    let cut = |rng: &mut Rng| {
        let at_ms = rng.random_range(begin_ms..=horizon_ms);
        let fault = if one_in(rng, 3) {
            power_cut(rng, keep)
        } else {
            let (at, moment) = (rng.random_range(0..=40), moment(rng));
            Fault::CrashAtDisk {
                node: BROKER.to_owned(),
                at,
                moment,
                down_ms: rng.random_range(1..=10),
                again: again(rng),
            }
        };
        TimedFault { at_ms, fault }
    };
    let faults = (0..cuts).map(|_| cut(rng)).collect();
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

/// Where a checkpoint can be left.
const IN_CHECKPOINTS: &[&str] = &[
    "checkpoint.begin",
    "checkpoint.segment.written",
    "checkpoint.segment.synced",
    "checkpoint.directory.synced",
    "checkpoint.flushed",
    "manifest.edit",
    "manifest.edit.synced",
    "manifest.edit.synced",
    "manifest.renamed",
    "manifest.replaced",
    "checkpoint.committed",
    "checkpoint.committed",
    "checkpoint.recycled",
    "checkpoint.finished",
];

fn checkpoints(rng: &mut Rng) -> Aimed {
    let config = Config {
        wal_file_bytes: 4096 * rng.random_range(16..=24),
        memory_tail_bytes: 1024 * rng.random_range(64..=96),
        ..config(rng)
    };
    // Where there are many, some are quiet for long.
    let partitions = pick(rng, &[1, 2, 8, 16]);
    let size = (pick(rng, &[1, 1, 4]), pick(rng, &[300, 1500, 3000]));
    let producers = (0..rng.random_range(1..=3)).map(|number| {
        let count = rng.random_range(20..=50);
        Client { pipelined: pick(rng, &[2, 5, 5]), ..producer(rng, number, count, partitions, size) }
    });
    let clients: Vec<Client> = producers.collect();
    let node = BROKER.to_owned();
    let horizon_ms = config.sync_us / 20 + 50;
    let mut faults = Vec::new();
    for _ in 0..rng.random_range(1..=3) {
        let (skip, times) = (rng.random_range(0..=6), rng.random_range(1..=2));
        let file = below(pick(rng, &["manifest", "manifest", "seg", "seg"]));
        let fault = match rng.random_range(0..5) {
            0 => Fault::SyncFails { node: node.clone(), below: file, skip, times },
            1 => Fault::WriteFails { node: node.clone(), below: file, skip, times },
            2 => Fault::FewDescriptors { node: node.clone(), spare: rng.random_range(0..=2), lasts_ms: 50 },
            _ => Fault::CrashAt {
                node: node.clone(),
                point: pick(rng, IN_CHECKPOINTS).to_owned(),
                skip: rng.random_range(0..=4),
                how: pick(rng, &[How::Kill, How::PowerCut, How::PowerCut]),
                down_ms: rng.random_range(1..=10),
                again: again(rng),
            },
        };
        faults.push(TimedFault { at_ms: rng.random_range(0..=horizon_ms), fault });
    }
    if rng.random() {
        let fault = end(rng);
        faults.push(TimedFault { at_ms: rng.random_range(horizon_ms..=4 * horizon_ms), fault });
    }
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn rot(rng: &mut Rng) -> Aimed {
    let pages = rng.random_range(16..=32);
    let config = Config { wal_file_bytes: 4096 * pages, ..config(rng) };
    let partitions = rng.random_range(1..=2);
    let count = rng.random_range(2..=10);
    let size = (1, pick(rng, &[0, 500, 4000]));
    let clients = vec![producer(rng, 0, count, partitions, size)];
    let at_ms = 1500 + rng.random_range(0..=100);
    // A file fills from the front: with what a start says, and then with what clients send.
    let page = if one_in(rng, 4) { rng.random_range(0..pages) } else { rng.random_range(8..=24).min(pages - 1) };
    let place_ppm = (1_000_000 * page + rng.random_range(0..1_000_000)) / pages;
    let (node, wal) = (BROKER.to_owned(), below("wal"));
    let bits = rng.random_range(1..=4);
    let mut faults = vec![TimedFault { at_ms, fault: Fault::BitRot { node, below: wal, file: 0, place_ppm, bits } }];
    let fault = end(rng);
    faults.push(TimedFault { at_ms: at_ms + rng.random_range(1..=20), fault });
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

/// When all that clients have sent at the beginning is in segments: there is a checkpoint every ten seconds.
const SETTLED_MS: u64 = 11_000;

fn old_rot(rng: &mut Rng) -> Aimed {
    let config = config(rng);
    let partitions = rng.random_range(1..=3);
    let count = rng.random_range(2..=10);
    let size = (1, pick(rng, &[100, 500, 4000]));
    let clients = vec![producer(rng, 0, count, partitions, size)];
    let rot = |rng: &mut Rng| Fault::BitRot {
        node: BROKER.to_owned(),
        below: below("seg"),
        // The first ones hold the metadata.
        file: rng.random_range(1..=5),
        place_ppm: rng.random_range(0..1_000_000),
        bits: rng.random_range(1..=4),
    };
    let count = rng.random_range(1..=2);
    let mut faults: Vec<TimedFault> =
        (0..count).map(|_| TimedFault { at_ms: SETTLED_MS + rng.random_range(0..=100), fault: rot(rng) }).collect();
    if one_in(rng, 2) {
        faults.push(TimedFault { at_ms: SETTLED_MS + rng.random_range(0..=200), fault: end(rng) });
    }
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn unread(rng: &mut Rng) -> Aimed {
    let config = Config { wal_file_bytes: 4096 * rng.random_range(16..=32), ..config(rng) };
    let partitions = rng.random_range(1..=2);
    let count = rng.random_range(20..=60);
    let pace_ms = pick(rng, &[0, 1, 2]);
    let clients = vec![Client { pace_ms, ..producer(rng, 0, count, partitions, (1, 100)) }];
    let at_ms = ready_ms(&config) + rng.random_range(1..=60);
    // A start reads the beginning of each file first, and then what follows in those that hold something.
    let (skip, times) = (pick(rng, &[0, 1, 2, 3, 3, 3, 4, 4, 5]), rng.random_range(1..=2));
    let fails = Fault::ReadFails { node: BROKER.to_owned(), below: below("wal"), skip, times };
    let faults = vec![TimedFault { at_ms, fault: fails }, TimedFault { at_ms, fault: end(rng) }];
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn beginnings(rng: &mut Rng) -> Aimed {
    let config = Config { wal_file_bytes: 4096 * rng.random_range(16..=24), ..config(rng) };
    let partitions = rng.random_range(1..=2);
    let count = rng.random_range(1..=20);
    let size = (1, pick(rng, &[100, 6000]));
    let pace_ms = pick(rng, &[0, 5, 20]);
    let clients = vec![Client { pace_ms, ..producer(rng, 0, count, partitions, size) }];
    let (file, skip_max) = pick(rng, &[("", 8), ("wal", 3), ("seg", 6)]);
    let below = below(file).trim_end_matches('/').to_owned();
    let skip = rng.random_range(0..=skip_max);
    let fails = Fault::SyncFails { node: BROKER.to_owned(), below, skip, times: 1 };
    let keep = pick(rng, &[PowerCut::LoseAll, PowerCut::Random]);
    let (cut, cut_ms) = (power_cut(rng, keep), rng.random_range(300..=1000));
    let faults = vec![TimedFault { at_ms: 0, fault: fails }, TimedFault { at_ms: cut_ms, fault: cut }];
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn deletions(rng: &mut Rng) -> Aimed {
    let config = config(rng);
    let partitions = rng.random_range(1..=4);
    let count = rng.random_range(1..=10);
    let clients_count = rng.random_range(1..=2);
    let mut clients: Vec<Client> =
        (0..clients_count).map(|number| producer(rng, number, count, partitions, (4, 500))).collect();
    let topic = "knots".to_owned();
    let begin_ms = rng.random_range(20..=100);
    let mut operations = vec![Operation::Sleep { ms: begin_ms }];
    for _ in 0..rng.random_range(1..=3) {
        if one_in(rng, 3) {
            let (partition, permille) = (rng.random_range(0..partitions), pick(rng, &[300, 700, 1000]));
            operations.push(Operation::DeleteRecords { topic: topic.clone(), partition, permille });
            continue;
        }
        operations.push(Operation::Delete { topic: topic.clone() });
        if one_in(rng, 2) {
            operations.push(Operation::Create { topic: topic.clone(), partitions });
        }
    }
    clients.push(admin(operations));
    let fault = match rng.random_range(0..3) {
        0 => end(rng),
        choice => Fault::CrashAt {
            node: BROKER.to_owned(),
            point: if choice == 1 { "controller.committed" } else { "*" }.to_owned(),
            skip: rng.random_range(0..=3),
            how: pick(rng, &[How::Kill, How::PowerCut]),
            down_ms: rng.random_range(1..=30),
            again: again(rng),
        },
    };
    let at_ms = ready_ms(&config) + begin_ms + rng.random_range(0..=10);
    let faults = vec![TimedFault { at_ms, fault }];
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn room(rng: &mut Rng) -> Aimed {
    let config = Config {
        sync_us: pick(rng, &[80, 1000, 1000]),
        wal_file_bytes: 4096 * rng.random_range(16..=32),
        memory_tail_bytes: 1024 * 64,
        ..config(rng)
    };
    let partitions: i32 = rng.random_range(2..=4);
    let request = |rng: &mut Rng| {
        let mut batches = Vec::new();
        let several = rng.random_range(1..=partitions);
        for partition in 0..several {
            // All of a request must fit.
            let most: u32 = pick(rng, &[0, 4000, 10_900, 12_000]);
            let most = most.min(36_000 / several.unsigned_abs());
            batches.push(BatchSpec { partition, count: 1, bytes: rng.random_range(most / 2..=most) });
        }
        Operation::Produce { topic: "knots".to_owned(), batches }
    };
    let clients = (0..rng.random_range(1..=3))
        .map(|number| {
            let count = rng.random_range(2..=12);
            let base = producer(rng, number, 0, partitions, (1, 0));
            let operations = (0..count).map(|_| request(rng)).collect();
            Client { pipelined: pick(rng, &[1, 3, 5, 5]), operations, ..base }
        })
        .collect();
    let begin_ms = ready_ms(&config);
    let full = |rng: &mut Rng| TimedFault {
        at_ms: begin_ms + rng.random_range(0..=100),
        fault: Fault::FullDisk {
            node: BROKER.to_owned(),
            free_bytes: pick(rng, &[0, 0, 20_000]),
            lasts_ms: rng.random_range(1..=60),
        },
    };
    let faults = (0..rng.random_range(0..=3)).map(|_| full(rng)).collect();
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn waits(rng: &mut Rng) -> Aimed {
    let config = Config { buggify: true, ..config(rng) };
    let partitions = rng.random_range(1..=2);
    let mut clients = Vec::new();
    for number in 0..rng.random_range(1..=2) {
        let count = rng.random_range(1..=4);
        let base = producer(rng, number, count, partitions, (2, 100));
        clients.push(Client { pace_ms: pick(rng, &[0, 5, 40, 300]), ..base });
    }
    clients.push(consumer(rng, 5000));
    let mut faults = Vec::new();
    if one_in(rng, 2) {
        let by_ms = pick(rng, &[-1, 1]) * rng.random_range(1000..=100_000_000);
        let at_ms = rng.random_range(0..=300);
        faults.push(TimedFault { at_ms, fault: Fault::ClockStep { node: BROKER.to_owned(), by_ms } });
    }
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}

fn stalls(rng: &mut Rng) -> Aimed {
    let config = Config { sync_us: pick(rng, &[80, 8000]), ..config(rng) };
    let partitions = rng.random_range(1..=2);
    let clients = (0..rng.random_range(1..=2)).map(|number| {
        let count = rng.random_range(5..=15);
        let base = producer(rng, number, count, partitions, (2, 100));
        Client { timeout_ms: 100, patience_ms: 500, pace_ms: pick(rng, &[0, 3, 10]), ..base }
    });
    let clients: Vec<Client> = clients.collect();
    let at_ms = ready_ms(&config) + rng.random_range(0..=60);
    let lasts_ms = rng.random_range(300..=3000);
    let mut faults = vec![TimedFault { at_ms, fault: Fault::DiskStall { node: BROKER.to_owned(), lasts_ms } }];
    if one_in(rng, 2) {
        let keep = pick(rng, &[PowerCut::LoseAll, PowerCut::Random]);
        let fault = power_cut(rng, keep);
        faults.push(TimedFault { at_ms: at_ms + rng.random_range(lasts_ms / 2..=lasts_ms), fault });
    }
    Aimed { config, workload: Workload { topics: topics(partitions), clients }, faults }
}
