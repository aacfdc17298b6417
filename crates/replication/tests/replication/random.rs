//! Schedules drawn from a seed: faults, requests and progress in any order, then healing. `QUIPU_REPLICATION_SEEDS` raises the number
//! of schedules for a soak.

use core::time::Duration;

use quipu_replication::{Acks, RoleKind, Verdict};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use crate::{
    probe::{Marks, TestProbe},
    world::{Stage, World},
};

/// Schedules per shape of cluster.
const SEEDS: u64 = 60;
/// Steps of one schedule.
pub(crate) const STEPS: usize = 500;
/// Nodes (all replicas are to be members in the end), replication factor, `min.insync.replicas`.
pub(crate) const SHAPES: [(usize, usize, usize); 7] =
    [(3, 3, 2), (3, 3, 1), (3, 3, 3), (4, 4, 3), (4, 4, 2), (5, 5, 4), (5, 5, 2)];

fn seeds() -> u64 {
    std::env::var("QUIPU_REPLICATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Runs one schedule; what was violated, if anything.
pub(crate) fn run(seed: u64, shape: (usize, usize, usize), steps: usize, probe: TestProbe) -> Option<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (nodes, factor, min) = shape;
    let mut world = World::started(nodes, factor, min, probe);
    world.is_traced =
        std::env::var("QUIPU_REPLICATION_TRACE").is_ok_and(|wanted| wanted == format!("{seed} {shape:?}"));
    world.append_records_max = rng.random_range(1..4);
    world.record_bytes = if rng.random_range(0..4) == 0 { 10_000_000 } else { 100 };
    // Some schedules leave some kinds of fault out, so that the others go deeper.
    let kinds: u32 = rng.random();
    for _ in 0..steps {
        step(&mut world, &mut rng, kinds);
        if world.checker.violation.is_some() {
            return world.checker.violation;
        }
        if world.network.len() > 60 {
            world.network.remove(0);
        }
    }
    world.heal();
    world.checker.violation
}

fn step(world: &mut World, rng: &mut ChaCha8Rng, kinds: u32) {
    let node = rng.random_range(1..=world.nodes.len());
    let allows = |kind: u32| kinds & (1 << kind) != 0;
    match rng.random_range(0..100) {
        0..36 => deliver(world, rng),
        36..54 => {
            let count = rng.random_range(1..4);
            world.sync(node, count);
        }
        54..61 => produce(world, rng, node),
        61..69 => {
            let last = world.controller.log.len() - 1;
            let index = if rng.random_bool(0.5) { last } else { rng.random_range(0..=last) };
            world.read_metadata(node, index);
        }
        69..74 => world.pass_time(Duration::from_millis(rng.random_range(1..250))),
        74..79 => control(world, rng, allows(0)),
        79..83 => {
            if !world.answers.is_empty() {
                let index = rng.random_range(0..world.answers.len());
                world.answer(index);
            }
        }
        83..91 => start(world, node),
        91..93 => crash(world, rng, node),
        93 if allows(1) => world.fence(node),
        94 if allows(2) => world.controller.elect(None),
        95 if allows(3) => lose(world, rng, node),
        96 if allows(4) => {
            let min = rng.random_range(1..=world.nodes.len());
            world.controller.change(|image| image.insync_replicas_min = min);
        }
        97 if allows(5) => delete(world, rng, node),
        98 if allows(6) => world.take_snapshot(node),
        99 if allows(7) && world.is_up(node) => {
            let kept = rng.random_range(0..3);
            world.sync(node, kept);
            world.fail_writes(node);
        }
        _ => deliver(world, rng),
    }
}

fn deliver(world: &mut World, rng: &mut ChaCha8Rng) {
    if world.network.is_empty() {
        return;
    }
    // Mostly in order, sometimes not.
    let near = world.network.len().min(6);
    let index = if rng.random_bool(0.7) { rng.random_range(0..near) } else { rng.random_range(0..world.network.len()) };
    match rng.random_range(0..20) {
        0 => {
            world.network.remove(index);
        }
        1 | 2 => {
            let packet = world.network[index].clone();
            world.deliver_packet(packet);
        }
        _ => world.deliver(index),
    }
}

fn produce(world: &mut World, rng: &mut ChaCha8Rng, node: usize) {
    let leads = |node: &usize| world.is_up(*node) && world.replica(*node).role() == RoleKind::Leader;
    let leaders: Vec<usize> = world.node_numbers().into_iter().filter(leads).collect();
    let node = if leaders.is_empty() { node } else { leaders[rng.random_range(0..leaders.len())] };
    let acks = if rng.random_range(0..4) == 0 { Acks::Leader } else { Acks::All };
    world.produce_with(node, rng.random_range(1..3), acks);
}

/// Requests to the controller are lost, doubled, refused, declined, or carried out in any order.
fn control(world: &mut World, rng: &mut ChaCha8Rng, hostile: bool) {
    if world.asks.is_empty() {
        return;
    }
    let index = rng.random_range(0..world.asks.len());
    let (node, ask) = world.asks[index].clone();
    let declines = rng.random_range(0..5) == 0;
    match if hostile { rng.random_range(0..8) } else { 7 } {
        0 => {
            world.asks.remove(index);
        }
        1 => world.answers.push((node, Verdict::Unavailable, None)),
        2 | 3 => world.control_copy(node, &ask, declines),
        _ => world.control(index, declines),
    }
}

fn start(world: &mut World, node: usize) {
    match world.node(node).stage {
        Stage::Down => world.start(node),
        Stage::Registered => world.store_epoch(node),
        Stage::Stored if world.node(node).wants_barrier => world.pass_barrier(node),
        Stage::Stored => world.unfence(node),
        Stage::Unfenced => {
            world.pass_barrier(node);
            if world.controller.now().brokers.get(&crate::controller::node_id(node)).is_some_and(|view| !view.live) {
                world.controller.set_live(node, true);
            }
        }
    }
}

fn crash(world: &mut World, rng: &mut ChaCha8Rng, node: usize) {
    if world.is_up(node) {
        let under_way = world.node(node).disk.under_way.len();
        world.crash(node, rng.random_range(0..=under_way));
    }
}

fn lose(world: &mut World, rng: &mut ChaCha8Rng, node: usize) {
    if !world.may_lose(node) {
        return;
    }
    match rng.random_range(0..3) {
        0 => {
            crash(world, rng, node);
            world.wipe(node);
        }
        1 if world.has_old_snapshot(node) => {
            crash(world, rng, node);
            world.restore(node);
        }
        _ => {
            let log = &world.node(node).disk.durable;
            if log.log_start < log.log_end && log.damaged.is_empty() {
                let offset = rng.random_range(log.log_start..log.log_end);
                world.damage(node, offset);
            }
        }
    }
}

fn delete(world: &mut World, rng: &mut ChaCha8Rng, node: usize) {
    let Some(replica) = &world.node(node).replica else { return };
    let (start, end) = (replica.log().log_start.0, replica.high_watermark().0);
    if replica.role() == RoleKind::Leader && start < end {
        let before = rng.random_range(start + 1..=end);
        world.delete(node, before);
    }
}

#[test]
fn drawn_schedules_violate_nothing() {
    let marks = Marks::default();
    for shape in SHAPES {
        for seed in 0..seeds() {
            let probe = TestProbe { planted: None, marks: Some(Marks::clone(&marks)) };
            let violation = run(seed, shape, STEPS, probe);
            assert_eq!(violation, None, "seed {seed}, shape {shape:?}");
        }
    }
    let marks = marks.lock().unwrap();
    for wanted in [
        "replication.adoption",
        "replication.begun-anew",
        "replication.better-leader",
        "replication.cannot-lead",
        "replication.copied-without-counting",
        "replication.damage-found",
        "replication.faulty-cleared",
        "replication.lost-promise-raised",
        "replication.other-directory",
        "replication.piece-refused",
        "replication.range-repaired",
        "replication.source-lost",
        "replication.stale-disk",
        "replication.tail-cut",
        "replication.write-failed",
    ] {
        assert!(marks.contains_key(wanted), "no schedule reached {wanted}; reached: {marks:?}");
    }
}
