//! The power goes at every write and every sync, and during recovery, and during the recovery from that.

use core::{convert::Infallible, ops::Range, time::Duration};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use quipu_env::{Clock, Env, Rng};
use quipu_sim::{
    Down, Node, NodeConfig, Sim, SimConfig, SimEnv, World,
    disk::{Count, CrashPlan, DiskModel, DiskOptions, Fault, FaultRule, Moment},
};
use rand::RngExt;

use super::kit::*;
use crate::wal::{Class, GroupSequence, ScanMode, Ticket, Wal};

/// What a further frame of a step adds to its group.
const STEP_OVERHEAD_BYTES: usize = 112;

/// What the log must hold.
#[derive(Default)]
struct Model {
    next: u64,
    /// Frames known to be in the log for good, in order, with their groups.
    log: Vec<(u64, GroupSequence)>,
    /// Frames submitted in the life under way, or the last one, in order.
    submitted: Vec<u64>,
    /// Those of them that are of one step.
    steps: Vec<Range<u64>>,
    /// What that life reported durable.
    sink: Arc<Sink>,
    lives: u32,
}

impl Model {
    /// Compares a scan with what it must and what it may find. Answers the frames that the log has from now on.
    fn check(&self, covered: GroupSequence, recovered: &Recovered) -> Vec<(u64, GroupSequence)> {
        assert_eq!(recovered.end.damage, [], "a crash damages nothing that was synced");
        let mut log = self.log.clone();
        let mut acknowledged = 0;
        for (group, frames) in self.sink.groups.lock().unwrap().iter() {
            log.extend(frames.iter().map(|(number, _)| (*number, *group)));
            acknowledged += frames.len();
        }
        let mut found = recovered.groups.iter().flat_map(|group| {
            group
                .frames
                .iter()
                .map(|frame| (check_frame(frame.partition, frame.base_offset, &frame.payload), group.sequence))
        });
        let kept: Vec<_> = log.iter().filter(|(_, group)| *group > covered).copied().collect();
        for expected in &kept {
            assert_eq!(found.next().as_ref(), Some(expected), "what was reported durable is there, in order");
        }
        // Beyond that, a prefix of what was submitted.
        let mut rest = self.submitted[acknowledged..].iter();
        for (number, group) in found {
            assert_eq!(rest.next(), Some(&number), "nothing is invented");
            log.push((number, group));
        }
        for step in &self.steps {
            let mut groups: Vec<_> =
                log.iter().filter(|(number, _)| step.contains(number)).map(|(_, group)| *group).collect();
            let found = groups.len() as u64;
            groups.dedup();
            assert!(found == 0 || found == step.end - step.start, "a step is there whole or not at all");
            assert!(groups.len() <= 1, "a step lies in one group");
        }
        log
    }
}

fn random_length(rng: &mut Rng) -> usize {
    match rng.random_range(0..10) {
        0..6 => rng.random_range(0..300),
        6..9 => rng.random_range(0..9000),
        _ => rng.random_range(0..30_000),
    }
}

/// A frame, or a step of several.
fn submit(wal: &Wal<SimEnv>, model: &mut Model, lengths: &[usize]) -> Ticket {
    let numbers = model.next..model.next + lengths.len() as u64;
    model.next = numbers.end;
    model.submitted.extend(numbers.clone());
    model.steps.push(numbers.clone());
    let mut frames: Vec<_> = numbers.zip(lengths).map(|(number, length)| frame(number, *length)).collect();
    match frames.len() {
        1 => wal.submit(frames.swap_remove(0)),
        _ => wal.submit_step(frames),
    }
}

/// Covers all that is durable; `found` is the last group that recovery found.
async fn checkpoint(env: &SimEnv, wal: &Wal<SimEnv>, sink: &Sink, found: GroupSequence) {
    wait_durable(wal, wal.last_ticket()).await;
    let covered = sink.groups.lock().unwrap().last().map_or(found, |(group, _)| *group);
    write_covered(env, covered).await;
    wal.recycle_below(covered.next());
}

async fn checkpoint_under_pressure(env: &SimEnv, wal: &Wal<SimEnv>, sink: &Sink, found: GroupSequence) -> Infallible {
    loop {
        wal.pressure().await;
        checkpoint(env, wal, sink, found).await;
    }
}

/// Recovers, compares, and writes for a while.
async fn life(env: SimEnv, model: Arc<Mutex<Model>>, steps: u32) {
    let recovered = scan(&env, ScanMode::Recover).await;
    let covered = recovered.covered;
    let log = model.lock().unwrap().check(covered, &recovered);
    for cut in &recovered.end.cut {
        assert!(cut.kept_as.is_some(), "{cut:?}");
    }
    let found = recovered.end.resume.next_group().previous();
    let (wal, sink, superblock) = go_on(&env, recovered, options()).await;
    {
        let mut model = model.lock().unwrap();
        model.log = log;
        model.submitted.clear();
        model.steps.clear();
        model.sink = Arc::clone(&sink);
        model.lives += 1;
    }
    let mut rng = env.rng("workload");
    for _ in 0..steps {
        let mut last = wal.last_ticket();
        for _ in 0..rng.random_range(1..6) {
            let count = if rng.random_range(0..3) == 0 { rng.random_range(2..5) } else { 1 };
            let lengths: Vec<usize> = (0..count).map(|_| random_length(&mut rng) / count).collect();
            let bytes = lengths.iter().map(|length| length + 8 + STEP_OVERHEAD_BYTES).sum();
            let permit = loop {
                tokio::select! {
                    biased;
                    permit = wal.reserve_space(bytes, Class::Normal) => break permit.unwrap(),
                    never = checkpoint_under_pressure(&env, &wal, &sink, found) => match never {},
                    () = env.clock().sleep(Duration::from_millis(100)) => {}
                }
                // The pressure may have been told to a checkpoint that was given up when its permit came.
                checkpoint(&env, &wal, &sink, found).await;
            };
            last = submit(&wal, &mut model.lock().unwrap(), &lengths);
            drop(permit);
        }
        if rng.random_range(0..2) == 0 {
            wait_durable(&wal, last).await;
        }
        let space = wal.space();
        if rng.random_range(0..6) == 0 || space.used > space.total / 4 {
            checkpoint(&env, &wal, &sink, found).await;
        }
        if rng.random_range(0..4) == 0 {
            env.clock().sleep(Duration::from_micros(rng.random_range(0..6000))).await;
        }
    }
    if rng.random_range(0..2) == 0 {
        stop(&env, wal, superblock).await;
    }
}

/// One life that is to end at `plan`, or by itself.
async fn crashing_life(node: &Node, model: &Arc<Mutex<Model>>, steps: u32, plan: Option<CrashPlan>) -> Down {
    node.with_disk(|disk| disk.set_crash_plan(plan));
    let model = Arc::clone(model);
    drop(node.start(|env| life(env, model, steps)));
    let down = node.wait_down().await;
    assert!(matches!(down, Down::Exited | Down::PowerCut), "{down}");
    down
}

fn plan(count: Count, at: u64, moment: Moment) -> CrashPlan {
    CrashPlan { count, at, moment }
}

/// After a crash at `first`: crashes in three recoveries running, then a life without.
async fn crashes(world: World, config: NodeConfig, first: CrashPlan) -> Arc<Mutex<Model>> {
    let node = world.node("a", config);
    let mut rng = world.rng("crashes");
    let model = Arc::new(Mutex::new(Model::default()));
    crashing_life(&node, &model, 12, Some(first)).await;
    for _ in 0..3 {
        let moment = if rng.random_range(0..2) == 0 { Moment::Before } else { Moment::After };
        crashing_life(&node, &model, 3, Some(plan(Count::Changes, rng.random_range(0..25), moment))).await;
    }
    crashing_life(&node, &model, 6, None).await;
    crashing_life(&node, &model, 0, None).await;
    model
}

fn operations(count: Count) -> u64 {
    let report = Sim::new(0, SimConfig::default()).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        let model = Arc::new(Mutex::new(Model::default()));
        crashing_life(&node, &model, 12, None).await;
        node.with_disk(|disk| disk.operation_counts())
    });
    match count {
        Count::Changes => report.value.0,
        Count::Syncs => report.value.1,
    }
}

fn crash_at_each(count: Count, moment: Moment) {
    let total = operations(count);
    assert!(total > 20, "{total} operations");
    for at in 0..total {
        let report = Sim::new(at, SimConfig::default())
            .run(|world| crashes(world, NodeConfig::default(), plan(count, at, moment)));
        let model = report.value.lock().unwrap();
        assert!(model.lives >= 2 && !model.log.is_empty());
    }
}

#[test]
fn crash_before_every_change() {
    crash_at_each(Count::Changes, Moment::Before);
}

#[test]
fn crash_after_every_change() {
    crash_at_each(Count::Changes, Moment::After);
}

#[test]
fn crash_before_every_sync() {
    crash_at_each(Count::Syncs, Moment::Before);
}

#[test]
fn crash_after_every_sync() {
    crash_at_each(Count::Syncs, Moment::After);
}

/// Many lives, each ended at a random moment by the power or by a kill.
async fn endure(world: World) -> BTreeMap<&'static str, u32> {
    let mut rng = world.rng("endure");
    let disk = DiskOptions { direct: rng.random_range(0..2) == 0, ..DiskOptions::default() };
    let node = world.node("a", NodeConfig { disk, ..NodeConfig::default() });
    let model = Arc::new(Mutex::new(Model::default()));
    let mut ends = BTreeMap::new();
    for _ in 0..12 {
        let kind = rng.random_range(0..3);
        if kind == 0 {
            let at = rng.random_range(0..150);
            let down = crashing_life(&node, &model, 30, Some(plan(Count::Changes, at, Moment::After))).await;
            *ends.entry(if down == Down::Exited { "exited" } else { "operation" }).or_default() += 1;
            continue;
        }
        let life_model = Arc::clone(&model);
        drop(node.start(|env| life(env, life_model, 30)));
        world.sleep(Duration::from_micros(rng.random_range(0..30_000))).await;
        let exited = !node.is_up();
        if kind == 1 {
            node.kill();
        } else {
            node.power_cut();
        }
        let name = if exited {
            "exited"
        } else if kind == 1 {
            "killed"
        } else {
            "power"
        };
        *ends.entry(name).or_default() += 1;
    }
    crashing_life(&node, &model, 0, None).await;
    ends
}

/// The planted bug: a step's frames in several groups. It is found by the crashes that hit it.
#[test]
fn a_torn_step_is_found() {
    let config = SimConfig { planted: ["wal.step-torn"].into(), ..SimConfig::default() };
    let found = (0..40).filter(|seed| Sim::new(*seed, config.clone()).try_run(endure).is_err()).count();
    assert!(found >= 20, "{found} of 40 runs find it");
}

#[test]
fn many_lives_end_at_random() {
    let mut ends = BTreeMap::<&str, u32>::new();
    for seed in 0..300 {
        for (end, count) in Sim::new(seed, SimConfig::default()).run(endure).value {
            *ends.entry(end).or_default() += count;
        }
    }
    for end in ["exited", "killed", "power", "operation"] {
        assert!(ends.get(end).is_some_and(|count| *count >= 20), "{ends:?}");
    }
}

/// After a failed sync the page cache may show what the device does not have. What recovery then tells of must survive a power
/// cut.
#[test]
fn a_restart_after_a_failed_sync_reads_the_device() {
    let mut halted = 0;
    for seed in 0..60 {
        let report = Sim::new(seed, SimConfig::default()).run(|world| async move {
            let disk = DiskOptions { direct: false, ..DiskOptions::default() };
            let node = world.node("a", NodeConfig { disk, ..NodeConfig::default() });
            let model = Arc::new(Mutex::new(Model::default()));
            node.inject(FaultRule::next(Fault::SyncFails).below("/data/wal").after(5 + world.seed() % 20));
            let first = Arc::clone(&model);
            drop(node.start(|env| life(env, first, 20)));
            let down = node.wait_down().await;
            // It strikes this life or none: a start does not expect it.
            node.with_disk(DiskModel::clear_faults);
            crashing_life(&node, &model, 0, None).await;
            let told = model.lock().unwrap().log.len();
            node.power_cut();
            crashing_life(&node, &model, 0, None).await;
            assert_eq!(model.lock().unwrap().log.len(), told, "what was told of is durable");
            u32::from(matches!(down, Down::Halted { .. }))
        });
        halted += report.value;
    }
    assert!(halted >= 30, "{halted} of 60 processes halted");
}

/// A group that was being written when the power went is cut, kept, and never comes back.
#[test]
fn what_is_cut_is_kept_and_stays_cut() {
    let mut cut_count = 0;
    for seed in 0..120 {
        let report = Sim::new(seed, SimConfig::default()).run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            let at = plan(Count::Changes, 25 + world.seed() % 30, Moment::After);
            node.crash_at_disk_operation(at);
            drop(node.start(|env| async move {
                let (wal, _sink, _superblock) = start(&env).await;
                for number in 0.. {
                    let permit = wal.reserve_space(3008, Class::Normal).await.unwrap();
                    wal.submit(frame(number, 3000));
                    drop(permit);
                    env.clock().sleep(Duration::from_micros(20)).await;
                }
            }));
            assert_eq!(node.wait_down().await, Down::PowerCut);
            let process = node.start(|env| async move {
                let recovered = scan(&env, ScanMode::Recover).await;
                let numbers = recovered.numbers();
                let cut = recovered.end.cut.clone();
                for report in &cut {
                    let kept = report.kept_as.as_ref().unwrap();
                    assert_eq!(quipu_env::Disk::file_size(env.disk(), kept).await.unwrap(), report.length);
                }
                let (wal, _sink, _superblock) = go_on(&env, recovered, options()).await;
                drop(wal);
                let again = scan(&env, ScanMode::Recover).await;
                assert_eq!(again.numbers(), numbers);
                assert!(again.end.cut.is_empty(), "the groups cut belong to nobody any more");
                cut.len()
            });
            process.join().await.unwrap()
        });
        cut_count += report.value;
    }
    assert!(cut_count >= 10, "torn groups are not rare: {cut_count} in 120 crashes");
}
