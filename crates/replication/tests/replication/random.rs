//! Schedules drawn from a seed: faults, requests and progress in any order, then healing. `QUIPU_REPLICATION_SEEDS` raises the number
//! of schedules for a soak.

use core::time::Duration;
use std::collections::BTreeSet;

use quipu_replication::{Acks, RoleKind, Verdict};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use crate::{
    controller::node_id,
    probe::{Marks, TestProbe},
    world::{Stage, World},
};

/// Schedules per shape of cluster.
const SEEDS: u64 = 600;
/// Steps of one schedule.
pub(crate) const STEPS: usize = 500;
/// Messages under way; the oldest is lost beyond it.
const NETWORK_MAX: usize = 60;
/// Nodes (all replicas are to be members in the end), replication factor, `min.insync.replicas`.
pub(crate) const SHAPES: [(usize, usize, usize); 7] =
    [(3, 3, 2), (3, 3, 1), (3, 3, 3), (4, 4, 3), (4, 4, 2), (5, 5, 4), (5, 5, 2)];

fn seeds() -> u64 {
    std::env::var("QUIPU_REPLICATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// What can happen in a step, with its weight. Progress first, faults after it.
const ACTIONS: [(Action, u32); 19] = [
    (deliver, 360),
    (sync, 220),
    (produce, 24),
    (read_metadata, 100),
    (pass_time, 30),
    (control, 40),
    (answer, 40),
    (start, 80),
    (crash, 8),
    (fence, 4),
    (elect, 8),
    (lose, 8),
    (change_min, 4),
    (delete, 8),
    (take_snapshot, 6),
    (fail_writes, 2),
    (cut, 6),
    (mend, 8),
    (quiet, 4),
];
/// Actions below this index go on in every schedule; the others are left out of some.
const FAULTS: usize = 8;

type Action = fn(&mut Schedule);

/// A world, and what decides what happens to it.
struct Schedule {
    world: World,
    rng: ChaCha8Rng,
    weights: Vec<u32>,
    /// Links over which nothing arrives.
    cut: BTreeSet<(usize, usize)>,
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
    // Each schedule has its own mix: some kinds of fault are left out, others come often.
    let mix = |(index, (_, weight)): (usize, &(Action, u32))| {
        let often = if index < FAULTS { [1, 1, 2, 2] } else { [0, 1, 2, 4] };
        weight * often[rng.random_range(0..4)]
    };
    let weights = ACTIONS.iter().enumerate().map(mix).collect();
    let mut schedule = Schedule { world, rng, weights, cut: BTreeSet::new() };
    for _ in 0..steps {
        schedule.step();
        if schedule.world.checker.violation.is_some() {
            return schedule.world.checker.violation;
        }
    }
    schedule.world.heal();
    schedule.world.checker.violation
}

impl Schedule {
    fn step(&mut self) {
        let mut left = self.rng.random_range(0..self.weights.iter().sum::<u32>());
        for ((action, _), weight) in ACTIONS.iter().zip(self.weights.clone()) {
            if left < weight {
                action(self);
                break;
            }
            left -= weight;
        }
        if self.world.network.len() > NETWORK_MAX {
            self.world.network.remove(0);
        }
    }

    fn node(&mut self) -> usize {
        self.rng.random_range(1..=self.world.nodes.len())
    }

    /// Any node of which this holds.
    fn one_that(&mut self, holds: impl Fn(&World, usize) -> bool) -> Option<usize> {
        let nodes: Vec<usize> =
            self.world.node_numbers().into_iter().filter(|node| holds(&self.world, *node)).collect();
        (!nodes.is_empty()).then(|| nodes[self.rng.random_range(0..nodes.len())])
    }

    /// Any leader, also one that does not know that it is over.
    fn leader(&mut self) -> Option<usize> {
        self.one_that(|world, node| world.is_up(node) && world.replica(node).role() == RoleKind::Leader)
    }
}

fn deliver(schedule: &mut Schedule) {
    let Schedule { world, rng, cut, .. } = schedule;
    let arrives = |index: &usize| !cut.contains(&(world.network[*index].from, world.network[*index].to));
    let open: Vec<usize> = (0..world.network.len()).filter(arrives).collect();
    if open.is_empty() {
        return;
    }
    // Mostly in order, sometimes not.
    let near = if rng.random_bool(0.7) { open.len().min(4) } else { open.len() };
    let index = open[rng.random_range(0..near)];
    match rng.random_range(0..40) {
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

fn sync(schedule: &mut Schedule) {
    let Some(node) = schedule.one_that(|world, node| !world.node(node).disk.under_way.is_empty()) else { return };
    let count = schedule.rng.random_range(1..4);
    schedule.world.sync(node, count);
}

fn produce(schedule: &mut Schedule) {
    let acks = if schedule.rng.random_range(0..4) == 0 { Acks::Leader } else { Acks::All };
    let count = schedule.rng.random_range(1..3);
    if let Some(node) = schedule.leader() {
        schedule.world.produce_with(node, count, acks);
    }
}

fn read_metadata(schedule: &mut Schedule) {
    let last = schedule.world.controller.log.len() - 1;
    let Some(node) = schedule.one_that(|world, node| world.is_up(node) && world.node(node).seen < last) else { return };
    let index = if schedule.rng.random_bool(0.6) { last } else { schedule.rng.random_range(0..=last) };
    schedule.world.read_metadata(node, index);
}

fn pass_time(schedule: &mut Schedule) {
    let by = Duration::from_millis(schedule.rng.random_range(1..250));
    schedule.world.pass_time(by);
}

/// Requests to the controller are lost, doubled, refused, declined, or carried out in any order.
fn control(schedule: &mut Schedule) {
    let Schedule { world, rng, .. } = schedule;
    if world.asks.is_empty() {
        return;
    }
    let index = rng.random_range(0..world.asks.len());
    let (node, ask) = world.asks[index].clone();
    let declines = rng.random_range(0..5) == 0;
    match rng.random_range(0..10) {
        0 => {
            world.asks.remove(index);
        }
        1 => world.answers.push((node, Verdict::Unavailable, None)),
        2 => world.answers.push((node, Verdict::Conflict, None)),
        3 | 4 => world.control_copy(node, &ask, declines),
        _ => world.control(index, declines),
    }
}

fn answer(schedule: &mut Schedule) {
    let Schedule { world, rng, .. } = schedule;
    if !world.answers.is_empty() {
        let index = rng.random_range(0..world.answers.len());
        world.answer(index);
    }
}

fn start(schedule: &mut Schedule) {
    let Some(node) = schedule.one_that(|world, node| !world.is_in_service(node)) else { return };
    let world = &mut schedule.world;
    match world.node(node).stage {
        Stage::Down => world.boot(node),
        Stage::Booted => world.register(node),
        Stage::Registered => world.store_epoch(node),
        Stage::Stored if world.node(node).wants_barrier => world.pass_barrier(node),
        Stage::Stored => world.unfence(node),
        Stage::Unfenced => {
            world.pass_barrier(node);
            world.unfence_again(node);
        }
    }
}

fn crash(schedule: &mut Schedule) {
    let node = schedule.node();
    stop(schedule, node);
}

fn stop(schedule: &mut Schedule, node: usize) {
    if schedule.world.is_up(node) {
        let under_way = schedule.world.node(node).disk.under_way.len();
        let kept = schedule.rng.random_range(0..=under_way);
        schedule.world.crash(node, kept);
    }
}

fn fence(schedule: &mut Schedule) {
    let node = schedule.node();
    schedule.world.fence(node);
}

fn elect(schedule: &mut Schedule) {
    let node = schedule.node();
    schedule.world.controller.elect(Some(node_id(node)));
}

fn change_min(schedule: &mut Schedule) {
    let min = schedule.node();
    schedule.world.controller.change(|image| image.insync_replicas_min = min);
}

fn take_snapshot(schedule: &mut Schedule) {
    let node = schedule.node();
    schedule.world.take_snapshot(node);
}

fn fail_writes(schedule: &mut Schedule) {
    let node = schedule.node();
    if schedule.world.is_up(node) {
        let kept = schedule.rng.random_range(0..3);
        schedule.world.sync(node, kept);
        schedule.world.fail_writes(node);
    }
}

/// Cuts a link, in one direction or both, or a node from all others.
fn cut(schedule: &mut Schedule) {
    let (a, b) = (schedule.node(), schedule.node());
    match schedule.rng.random_range(0..3) {
        0 => schedule.cut.extend([(a, b)]),
        1 => schedule.cut.extend([(a, b), (b, a)]),
        _ => schedule.cut.extend(schedule.world.node_numbers().into_iter().flat_map(|other| [(a, other), (other, a)])),
    }
}

fn mend(schedule: &mut Schedule) {
    schedule.cut.clear();
}

/// A while without trouble: what is on its way arrives where it can.
fn quiet(schedule: &mut Schedule) {
    for _ in 0..40 {
        deliver(schedule);
        sync(schedule);
        read_metadata(schedule);
    }
}

fn lose(schedule: &mut Schedule) {
    let node = schedule.node();
    if !schedule.world.may_lose(node) {
        return;
    }
    match schedule.rng.random_range(0..4) {
        0 => {
            stop(schedule, node);
            schedule.world.wipe(node);
        }
        2 if schedule.world.node(node).snapshot.is_some() => {
            stop(schedule, node);
            schedule.world.restore_with_new_id(node);
        }
        1 if schedule.world.has_old_snapshot(node) => {
            stop(schedule, node);
            schedule.world.restore(node);
        }
        _ => {
            let log = &schedule.world.node(node).disk.durable;
            if log.log_start < log.log_end && log.damaged.is_empty() {
                let offset = schedule.rng.random_range(log.log_start..log.log_end);
                schedule.world.damage(node, offset);
            }
        }
    }
}

fn delete(schedule: &mut Schedule) {
    let Some(node) = schedule.leader() else { return };
    let replica = schedule.world.replica(node);
    let (start, end) = (replica.log().log_start.0, replica.high_watermark().0);
    if start < end {
        let before = schedule.rng.random_range(start + 1..=end);
        schedule.world.delete(node, before);
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
