//! Random operations under random settings, through several lives of a process that end in every way: each start must find what
//! was acknowledged. Disks fail and fill up meanwhile.

use core::time::Duration;
use std::{collections::BTreeSet, sync::Arc};

use quipu_env::{Clock, Env, Rng};
use quipu_sim::{
    Down, Node, NodeConfig, Sim, SimConfig, World,
    disk::{Count, CrashPlan, Fault, FaultRule, Moment},
};
use quipu_storage::{Class, LogOptions, StoreOptions};
use rand::RngExt;

use crate::{
    driver::{DIR, Driver, History, NewBatch, small_options},
    model::{ModelStep, PARTITIONS},
};

const SEEDS: u64 = 250;
const LIVES: u32 = 5;

/// Crash points of the product that a life may end at.
const CRASH_POINTS: [&str; 14] = [
    "checkpoint.begin",
    "checkpoint.segment.written",
    "checkpoint.segment.synced",
    "checkpoint.directory.synced",
    "checkpoint.flushed",
    "checkpoint.committed",
    "checkpoint.recycled",
    "checkpoint.finished",
    "manifest.edit",
    "manifest.edit.synced",
    "manifest.renamed",
    "open.loaded",
    "open.recovered",
    "open.entered",
];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

fn settings(rng: &mut Rng) -> (StoreOptions, LogOptions) {
    let options = StoreOptions {
        wal_file_bytes: pick(rng, &[64 * 1024, 128 * 1024]),
        wal_total_bytes: pick(rng, &[128 * 1024, 512 * 1024]),
        tail_bytes: pick(rng, &[64 * 1024, 512 * 1024]),
        index_interval_bytes: pick(rng, &[1, 300, 8192]),
        open_files_max: pick(rng, &[1, 4, 100]),
        direct: rng.random(),
        ..small_options()
    };
    let segment_bytes = pick(rng, &[1, 700, 2000, 6000, 1 << 30]);
    let segment_ms = pick(rng, &[30, 1 << 40]);
    (options, LogOptions { segment_bytes, segment_ms, ..LogOptions::default() })
}

/// Random operations until there were enough, then perhaps a clean stop.
async fn life<E: Env>(env: E, history: Arc<History>, count: u32) {
    let mut rng = env.rng("script");
    let (options, log_options) = settings(&mut rng);
    let mut driver = match Driver::try_open(env, options, log_options, history).await {
        Ok(driver) => driver,
        // A disk that fails or is full may keep a store from opening, but nothing is damaged by that.
        Err(error) => return assert!(error.exit_status() == 1, "{error}"),
    };
    // Deleted, and not yet durably.
    let mut going = BTreeSet::new();
    for number in 0..count {
        let log = rng.random_range(0..PARTITIONS);
        if going.contains(&log) || rng.random_range(0..100) < 15 {
            driver.acknowledge().await;
            going.clear();
        }
        step(&mut driver, &mut rng, log, number, &mut going).await;
    }
    driver.acknowledge().await;
    if rng.random() {
        driver.store.close().await.expect("closes");
    }
}

async fn step<E: Env>(driver: &mut Driver<E>, rng: &mut Rng, log: usize, number: u32, going: &mut BTreeSet<usize>) {
    // On a full disk even the reserve is used up at last.
    if !driver.has_room(16, Class::Reserve).await {
        return driver.env.clock().sleep(Duration::from_millis(100)).await;
    }
    let offsets = driver.log(log).offsets();
    match rng.random_range(0..100) {
        0..4 => {
            let offset = rng.random_range(offsets.log_start.0..=offsets.durable_end.0.max(offsets.log_start.0));
            driver.move_log_start(log, offset).await;
        }
        4..10 => {
            let to = rng.random_range(offsets.log_start.0..=offsets.log_end.0.max(offsets.log_start.0));
            driver.truncate(log, to).await;
        }
        // Metadata is not deleted.
        10..12 if log + 1 < PARTITIONS => {
            driver.delete(log);
            going.insert(log);
        }
        12..15 => driver.set_state(log, &number.to_le_bytes()).await,
        30..42 => random_step(driver, rng, log, number).await,
        // It may fail: disks do.
        15..22 => drop(driver.store.checkpoint().await),
        22..24 => driver.env.clock().sleep(Duration::from_secs(11)).await,
        24..30 => driver.env.clock().sleep(Duration::from_millis(rng.random_range(0..20))).await,
        _ => {
            let bytes = pick(rng, &[1, 100, 400, 3000]);
            let count = rng.random_range(1..4);
            let values: Vec<_> = (0..count).map(|index| vec![rng.random::<u8>(); bytes + index]).collect();
            let producer = pick(rng, &[None, Some(1), Some(2), Some(77)]);
            let epoch = driver.log(log).latest_epoch().0.max(0) + i32::from(rng.random_range(0..10) == 0);
            if driver.has_room(bytes * 4 + 200, Class::Normal).await {
                driver.append(log, epoch, producer, &values).await;
            }
        }
    }
}

/// A step as a follower makes it.
async fn random_step<E: Env>(driver: &mut Driver<E>, rng: &mut Rng, log: usize, number: u32) {
    if !driver.has_room(8000, Class::Normal).await {
        return;
    }
    let offsets = driver.log(log).offsets();
    let mut plan = ModelStep::default();
    match rng.random_range(0..8) {
        0 => {
            plan.begin_anew =
                Some(offsets.log_end.0 - rng.random_range(0..=offsets.log_end.0.min(3)) + i64::from(number % 3))
        }
        1 | 2 => plan.truncate = Some(rng.random_range(offsets.log_start.0..=offsets.log_end.0)),
        _ => {}
    }
    if rng.random() {
        plan.replica = Some(number.to_le_bytes().to_vec());
    }
    let epoch = driver.log(log).latest_epoch().0.max(0) + i32::from(rng.random_range(0..5) == 0);
    let batches: Vec<_> = (0..rng.random_range(0..4))
        .map(|_| NewBatch {
            epoch,
            producer: pick(rng, &[None, Some(1), Some(2)]),
            values: vec![vec![rng.random::<u8>(); pick(rng, &[1, 100, 900])]; rng.random_range(1..3)],
        })
        .collect();
    driver.step(log, plan, &batches).await;
}

/// Arranges how a life ends before its time, and what goes wrong in it.
fn misfortune(node: &Node, rng: &mut Rng) {
    node.with_disk(|disk| {
        disk.clear_faults();
        disk.set_crash_plan(None);
        disk.set_capacity(None);
    });
    let down = if rng.random() { Down::Killed } else { Down::PowerCut };
    match rng.random_range(0..6) {
        0 | 1 => {
            let moment = if rng.random() { Moment::Before } else { Moment::After };
            let at = rng.random_range(0..150);
            node.crash_at_disk_operation(CrashPlan { count: Count::Changes, at, moment });
        }
        2 | 3 => node.crash_at(pick(rng, &CRASH_POINTS), rng.random_range(0..4), down),
        _ => {}
    }
    match rng.random_range(0..6) {
        0 => {
            let fault = pick(rng, &[Fault::SyncFails, Fault::WriteFails]);
            let below = pick(rng, &["seg", "manifest", "manifest.new", "wal"]);
            let rule = FaultRule::next(fault).below(format!("{DIR}/{below}"));
            node.inject(rule.after(rng.random_range(3..20)).times(rng.random_range(1..3)));
        }
        1 => node.with_disk(|disk| {
            let (free, total) = disk.space();
            disk.set_capacity(Some(total - free + rng.random_range(0..200_000)));
        }),
        _ => {}
    }
}

async fn lives(world: World) {
    let mut rng = world.rng("swarm");
    let disk = quipu_sim::disk::DiskOptions { capacity_bytes: Some(1 << 30), ..Default::default() };
    let node = world.node("node", NodeConfig { disk, ..NodeConfig::default() });
    let history = Arc::new(History::default());
    for number in 0..=LIVES {
        let last = number == LIVES;
        misfortune(&node, &mut rng);
        if last {
            node.with_disk(|disk| {
                disk.clear_faults();
                disk.set_crash_plan(None);
                disk.set_capacity(None);
            });
        }
        let count = rng.random_range(10..80);
        let running = node.start(|env| life(env, Arc::clone(&history), count));
        let kill_after = Duration::from_micros(rng.random_range(0..40_000));
        if !last && rng.random_range(0..3) == 0 {
            world.sleep(kill_after).await;
            if rng.random() { node.kill() } else { node.power_cut() }
        }
        match running.join().await {
            Ok(()) | Err(Down::Killed | Down::PowerCut) => {}
            // A failed write or sync of the log ends the process; the next one finds what was acknowledged.
            Err(Down::Halted { .. }) if !last => {}
            Err(down) => panic!("life {number} ended otherwise: {down}"),
        }
    }
}

#[test]
fn many_lives_lose_nothing() {
    for seed in 0..SEEDS {
        let sim = Sim::new(seed, SimConfig::default());
        if let Err(failure) = sim.try_run(lives) {
            panic!("seed {seed}: {failure}");
        }
    }
}
