//! Damage that is repaired: told of, filled with the same batches, gone for good; whatever the power does meanwhile.

use core::{ops::Range, time::Duration};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quipu_base::Offset;
use quipu_env::{Clock, Disk, Env, File, OpenOptions};
use quipu_sim::{
    NodeConfig, PowerCut, Sim, SimConfig, SimEnv, World,
    crash::CrashTest,
    disk::{self, LoseAll},
};
use quipu_storage::{Class, Log, LogOptions, ReadError, StateKind, Step, Store, TailRead};

use crate::{
    driver::{DIR, bytes_of, placed, small_options},
    model::{Batch, partition},
};

/// A log as its leader has it, and what is known to be on this disk.
#[derive(Default)]
struct Replicated {
    batches: Vec<Batch>,
    /// Whether this disk has had all of it, durably and repaired.
    was_whole: bool,
}

type Shared = Arc<Mutex<Replicated>>;

fn batch(base: i64, index: usize) -> Batch {
    let epoch = i32::try_from(index / 4).expect("small");
    let sequence = i32::try_from(index / 2).expect("small");
    let producer = index.is_multiple_of(2).then_some((7, sequence));
    let text = format!("record {index} {}", "z".repeat(150 + index * 7));
    Batch { base, epoch, producer, timestamp: 1000 + base, values: vec![text.into_bytes()] }
}

fn rolling() -> LogOptions {
    LogOptions { segment_bytes: 1300, ..LogOptions::default() }
}

async fn open<E: Env>(env: &E) -> (Store<E>, Log<E>) {
    let (store, _) = Store::open(env.clone(), small_options()).await.expect("opens");
    let log = store.log(partition(0));
    log.set_options(rolling());
    (store, log)
}

async fn make<E: Env>(store: &Store<E>, log: &Log<E>, step: Step) {
    let reservation = store.reserve(step.reservation_bytes(), Class::Normal).await.expect("room");
    let ticket = log.step(reservation, step).await.expect("the step fits");
    store.durable().wait_for(|durable| *durable >= ticket).await.expect("the WAL runs");
}

/// Adds batches to what the leader has, and to the log as far as that has what comes before.
async fn grow<E: Env>(store: &Store<E>, log: &Log<E>, shared: &Shared, count: usize) {
    for _ in 0..count {
        let next = {
            let mut shared = shared.lock().expect("no panic holds it");
            let (base, index) = (shared.batches.len(), shared.batches.len());
            let next = batch(i64::try_from(base).expect("small"), index);
            shared.batches.push(next.clone());
            next
        };
        if log.offsets().log_end.0 == next.base {
            make(store, log, Step { append: vec![placed(&next)], ..Step::default() }).await;
        }
    }
}

/// What of the log can't be read: every offset is asked for. What can be is as the leader has it.
async fn unreadable<E: Env>(log: &Log<E>, shared: &Shared) -> Vec<i64> {
    let batches = shared.lock().expect("no panic holds it").batches.clone();
    let offsets = log.offsets();
    let mut bad = Vec::new();
    for offset in offsets.log_start.0..offsets.log_end.0 {
        match log.read(Offset(offset), offsets.log_end, 1, true).await {
            Ok(read) => {
                let mut bytes = Vec::new();
                for segment in read.segments {
                    bytes.extend_from_slice(&bytes_of::<E>(segment).await);
                }
                let expected = &batches[usize::try_from(offset).expect("not negative")];
                assert_eq!(bytes, placed(expected), "offset {offset} is as the leader has it");
            }
            Err(ReadError::Damaged { .. } | ReadError::Missing { .. } | ReadError::Faulty(_)) => bad.push(offset),
            Err(error) => panic!("offset {offset}: {error}"),
        }
    }
    bad
}

/// What a replica does until it is whole: fetches the damaged ranges, in pieces, and what it lacks at the end.
async fn rebuild<E: Env>(store: &Store<E>, log: &Log<E>, shared: &Shared) {
    let batches = shared.lock().expect("no panic holds it").batches.clone();
    let faulty = Bytes::from_static(b"faulty");
    make(store, log, Step { states: vec![(StateKind::Replica, faulty)], ..Step::default() }).await;
    // Off the end first: holes do not keep a log from growing.
    let end = usize::try_from(log.offsets().log_end.0).expect("not negative");
    for missing in &batches[end..] {
        make(store, log, Step { append: vec![placed(missing)], ..Step::default() }).await;
    }
    for _ in 0..100 {
        let inside = |range: Range<Offset>| {
            let offsets = log.offsets();
            range.start.0.max(offsets.log_start.0)..range.end.0.min(offsets.log_end.0)
        };
        let Some(range) = log.damage().into_iter().map(inside).find(|range| !range.is_empty()) else { break };
        let piece = range.start..range.end.min(range.start + 2);
        let repair = piece.map(|offset| placed(&batches[usize::try_from(offset).expect("not negative")])).collect();
        make(store, log, Step { repair, ..Step::default() }).await;
    }
    let reservation = store.reserve(0, Class::Reserve).await.expect("room");
    let ticket = log.clear_damage(reservation).expect("the log is there");
    store.durable().wait_for(|durable| *durable >= ticket).await.expect("the WAL runs");
    let sound = Bytes::from_static(b"sound");
    make(store, log, Step { states: vec![(StateKind::Replica, sound)], ..Step::default() }).await;
}

/// The log is the leader's, to the last bit of what follows from it.
async fn assert_whole<E: Env>(log: &Log<E>, shared: &Shared) {
    assert_eq!(log.damage(), [], "nothing is damaged");
    assert_eq!(log.fault(), None);
    let batches = shared.lock().expect("no panic holds it").batches.clone();
    assert_eq!(log.offsets().log_end.0, i64::try_from(batches.len()).expect("small"));
    assert_eq!(unreadable(log, shared).await, [] as [i64; 0]);
    let mut model = crate::model::ModelLog::default();
    for batch in batches {
        model.step(&crate::model::ModelStep { append: vec![batch], ..Default::default() });
    }
    model.log_start = log.offsets().log_start.0;
    let seen = crate::driver::see(log).await;
    assert_eq!(seen.epochs, model.seen().epochs);
    assert_eq!(seen.producers, model.seen().producers);
}

/// Changes one bit of a file, durably.
async fn rot<E: Env>(env: &E, path: &Path, position: u64) {
    let file = env.disk().open(path, OpenOptions::WRITE).await.expect("the file is there");
    let byte = file.read_at(position, 1).await.expect("readable");
    file.write_at(position, vec![vec![byte[0] ^ 8].into()]).await.expect("writable");
    file.sync_data().await.expect("synced");
}

async fn segment_files<E: Env>(env: &E) -> Vec<PathBuf> {
    let dir = PathBuf::from(format!("{DIR}/seg/{}", partition(0)));
    let names = env.disk().list(&dir).await.unwrap_or_default();
    names.into_iter().map(|name| dir.join(name)).collect()
}

/// Where in the WAL's first file the records of a batch lie.
async fn place_in_wal<E: Env>(env: &E, batch: &Batch) -> Option<(PathBuf, u64)> {
    for number in 0..8 {
        let path = PathBuf::from(format!("{DIR}/wal/{number:04}"));
        let Ok(file) = env.disk().open(&path, OpenOptions::READ).await else { continue };
        let size = usize::try_from(file.size().await.expect("a size")).expect("small");
        let bytes = file.read_at(0, size).await.expect("readable");
        let wanted = placed(batch);
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            return Some((path, (at + wanted.len() - 5) as u64));
        }
    }
    None
}

/// Some of these offsets are damaged, and no others; all of them, but for what a checkpoint by the clock has saved from the WAL.
fn assert_damaged<E: Env>(log: &Log<E>, among: &[i64]) {
    let told: Vec<i64> = log.damage().into_iter().flat_map(|range| range.start.0..range.end.0.min(11)).collect();
    assert!(!told.is_empty() && told.iter().all(|offset| among.contains(offset)), "{told:?}");
}

/// Rot in two segments, found by reading, and repaired.
async fn segments_rot<E: Env>(env: E, shared: Shared) {
    let (store, log) = open(&env).await;
    grow(&store, &log, &shared, 12).await;
    store.checkpoint().await.expect("a checkpoint");
    grow(&store, &log, &shared, 2).await;
    let files = segment_files(&env).await;
    assert!(files.len() >= 3, "{files:?}");
    // In the middle of one, and in a header of another.
    rot(&env, &files[1], 400).await;
    rot(&env, &files[2], 2).await;
    store.close().await.expect("closes");
    drop((store, log));
    let (store, log) = open(&env).await;
    let bad = unreadable(&log, &shared).await;
    assert!(!bad.is_empty());
    let told: Vec<i64> = log.damage().into_iter().flat_map(|range| range.start.0..range.end.0).collect();
    assert_eq!(told, bad, "what is found damaged is told of");
    assert_eq!(log.fault(), None, "the rest of the partition is served");
    rebuild(&store, &log, &shared).await;
    shared.lock().expect("no panic holds it").was_whole = true;
    assert_whole(&log, &shared).await;
    store.checkpoint().await.expect("a checkpoint");
    grow(&store, &log, &shared, 2).await;
    store.close().await.expect("closes");
    drop((store, log));
    let (_store, log) = open(&env).await;
    assert_whole(&log, &shared).await;
}

/// Frames of the WAL rot before they are in a segment.
async fn wal_rots<E: Env>(env: E, shared: Shared) {
    let (store, log) = open(&env).await;
    grow(&store, &log, &shared, 5).await;
    store.checkpoint().await.expect("a checkpoint");
    grow(&store, &log, &shared, 7).await;
    // Until the last group is proven.
    env.clock().sleep(Duration::from_millis(50)).await;
    let lost: Vec<Batch> = shared.lock().expect("no panic holds it").batches[6..].to_vec();
    drop((store, log));
    for index in [0, 3, 4] {
        let (path, position) = place_in_wal(&env, &lost[index]).await.expect("it is in the WAL");
        rot(&env, &path, position).await;
    }
    let (store, log) = open(&env).await;
    assert!(log.fault().is_some(), "records are missing");
    assert_damaged(&log, &[6, 9, 10]);
    assert!(matches!(log.read_tail(Offset(11), Offset(12), 1, true), TailRead::Faulty(_)));
    grow(&store, &log, &shared, 1).await;
    assert_eq!(log.offsets().log_end, Offset(13), "a log with holes grows");
    rebuild(&store, &log, &shared).await;
    shared.lock().expect("no panic holds it").was_whole = true;
    assert_whole(&log, &shared).await;
    store.checkpoint().await.expect("a checkpoint");
    assert_whole(&log, &shared).await;
    grow(&store, &log, &shared, 1).await;
    store.close().await.expect("closes");
    drop((store, log));
    let (_store, log) = open(&env).await;
    assert_whole(&log, &shared).await;
}

/// The same, and what is behind the holes goes to segments before they are filled.
async fn holes_between_segments<E: Env>(env: E, shared: Shared) {
    let (store, log) = open(&env).await;
    grow(&store, &log, &shared, 9).await;
    env.clock().sleep(Duration::from_millis(50)).await;
    let lost: Vec<Batch> = shared.lock().expect("no panic holds it").batches.clone();
    drop((store, log));
    for index in [0, 4, 8] {
        let (path, position) = place_in_wal(&env, &lost[index]).await.expect("it is in the WAL");
        rot(&env, &path, position).await;
    }
    let (store, log) = open(&env).await;
    assert_damaged(&log, &[0, 4, 8, 9, 10]);
    let damaged = log.damage();
    store.checkpoint().await.expect("a checkpoint");
    drop((store, log));
    let (store, log) = open(&env).await;
    assert_eq!(log.damage(), damaged, "a start later nothing else is known");
    rebuild(&store, &log, &shared).await;
    shared.lock().expect("no panic holds it").was_whole = true;
    assert_whole(&log, &shared).await;
    store.checkpoint().await.expect("a checkpoint");
    grow(&store, &log, &shared, 2).await;
    assert_whole(&log, &shared).await;
    drop((store, log));
    let (_store, log) = open(&env).await;
    assert_whole(&log, &shared).await;
}

/// What every start does after a cut: what was whole is whole; else it is made so, and stays so.
async fn after_a_cut<E: Env>(env: E, shared: Shared) {
    let was_whole = shared.lock().expect("no panic holds it").was_whole;
    let (store, log) = open(&env).await;
    let bad = unreadable(&log, &shared).await;
    if was_whole {
        assert_eq!((bad, log.damage()), (Vec::new(), Vec::new()), "what was repaired stays so");
    }
    rebuild(&store, &log, &shared).await;
    assert_whole(&log, &shared).await;
    store.checkpoint().await.expect("a checkpoint");
    grow(&store, &log, &shared, 1).await;
    store.close().await.expect("closes");
    drop((store, log));
    let (_store, log) = open(&env).await;
    assert_whole(&log, &shared).await;
}

/// What is kept whole by a kill is seen by the other tests.
fn crash_test(seed: u64) -> CrashTest {
    CrashTest { outcomes: vec![PowerCut::LoseAll, PowerCut::Random], ..CrashTest::new(seed) }
}

#[test]
fn rot_in_segments_is_repaired_whenever_the_power_goes() {
    let report = crash_test(21).run(
        |env, shared: Arc<Shared>| segments_rot(env, Shared::clone(&shared)),
        |env, shared: Arc<Shared>| after_a_cut(env, Shared::clone(&shared)),
    );
    assert!(report.crashes > 300, "{report:?}");
}

#[test]
fn rot_in_the_wal_is_repaired_whenever_the_power_goes() {
    let report = crash_test(22).run(
        |env, shared: Arc<Shared>| wal_rots(env, Shared::clone(&shared)),
        |env, shared: Arc<Shared>| after_a_cut(env, Shared::clone(&shared)),
    );
    assert!(report.crashes > 300, "{report:?}");
}

#[test]
fn holes_between_segments_are_filled_whenever_the_power_goes() {
    let report = crash_test(23).run(
        |env, shared: Arc<Shared>| holes_between_segments(env, Shared::clone(&shared)),
        |env, shared: Arc<Shared>| after_a_cut(env, Shared::clone(&shared)),
    );
    assert!(report.crashes > 300, "{report:?}");
}

/// Runs one life after the other on one disk, the power going off after each.
fn lives<F>(lives: impl FnOnce(World, quipu_sim::Node, Shared) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(Sim::new(7, SimConfig::default()).run(|world| async move {
        let node = world.node("node", NodeConfig::default());
        lives(world, node, Shared::default()).await;
    }));
}

async fn on<F, M, T>(node: &quipu_sim::Node, main: F) -> T
where
    F: FnOnce(SimEnv) -> M,
    M: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let done = node.start(main).join().await.expect("the process comes to its end");
    node.with_disk(|disk| disk.power_cut(&mut LoseAll));
    done
}

/// The planted bug: a repaired segment that is not synced before the manifest counts it.
#[test]
fn an_unsynced_repair_is_found() {
    for planted in ["repair.believed-unsynced", "repair.name-unsynced"] {
        let mut test = CrashTest::new(24);
        test.config.planted = [planted].into();
        let found = std::panic::catch_unwind(|| {
            test.run(
                |env, shared: Arc<Shared>| segments_rot(env, Shared::clone(&shared)),
                |env, shared: Arc<Shared>| after_a_cut(env, Shared::clone(&shared)),
            )
        });
        assert!(found.is_err(), "{planted}: a crash shows what was not synced");
    }
}

/// A segment file that is gone altogether.
#[test]
fn a_segment_that_is_missing_is_made_anew() {
    lives(|_, node, shared| async move {
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            grow(&store, &log, &life, 14).await;
            store.close().await.expect("closes");
            let files = segment_files(&env).await;
            env.disk().remove(&files[1]).await.expect("the file is there");
            env.disk().sync_dir(files[1].parent().expect("a directory")).await.expect("synced");
        })
        .await;
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            let error = log.read(Offset(6), Offset(14), 1, true).await.expect_err("the file is gone");
            assert!(matches!(error, ReadError::Io { .. }), "{error}");
            assert_eq!(log.damage().len(), 1);
            rebuild(&store, &log, &life).await;
            assert_whole(&log, &life).await;
        })
        .await;
        on(&node, |env| async move { assert_whole(&open(&env).await.1, &shared).await }).await;
    });
}

/// A sector that the device can't read is damage like rot: a log is cut and repaired around it, and what comes back is served
/// again.
#[test]
fn what_the_device_cannot_read_is_damaged() {
    lives(|_, node, shared| async move {
        let life = Shared::clone(&shared);
        let files = on(&node, |env| async move {
            let (store, log) = open(&env).await;
            grow(&store, &log, &life, 14).await;
            store.close().await.expect("closes");
            segment_files(&env).await
        })
        .await;
        // The footer, and then the batches, each with all tries.
        let fault = disk::Fault::ReadFails;
        node.inject(disk::FaultRule { fault, below: files[1].clone(), skip: 0, times: 6 });
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (_store, log) = open(&env).await;
            let lost = unreadable(&log, &life).await;
            assert!(log.damage().iter().any(|range| range.contains(&Offset(lost[0]))), "{lost:?}");
            assert_eq!(unreadable(&log, &life).await, [] as [i64; 0], "the device has come back");
        })
        .await;
        node.with_disk(|disk| disk.make_unreadable(&files[1], 0..512)).expect("the file is there");
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            rebuild(&store, &log, &life).await;
            assert_whole(&log, &life).await;
        })
        .await;
        on(&node, |env| async move { assert_whole(&open(&env).await.1, &shared).await }).await;
    });
}

/// Both copies of a group's directory are gone: nobody knows what it held.
#[test]
fn a_lost_group_takes_all_that_was_not_committed() {
    lives(|_, node, shared| async move {
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            grow(&store, &log, &life, 5).await;
            log.note_high_watermark(Offset(3));
            let metadata = store.log(partition(3));
            let other =
                Step { states: vec![(StateKind::RaftHardState, Bytes::from_static(b"vote"))], ..Step::default() };
            make(&store, &metadata, other.clone()).await;
            store.checkpoint().await.expect("a checkpoint");
            grow(&store, &log, &life, 3).await;
            // Its frame names the one before it: the metadata is not concerned.
            make(&store, &metadata, other).await;
            env.clock().sleep(Duration::from_millis(50)).await;
            let lost = life.lock().expect("no panic holds it").batches[7].clone();
            let (path, position) = place_in_wal(&env, &lost).await.expect("it is in the WAL");
            let start = position / 4096 * 4096;
            drop((store, log));
            for at in [start + 100, start + 4096 - 100] {
                rot(&env, &path, at).await;
            }
        })
        .await;
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            assert_eq!(log.stored_high_watermark(), Offset(3));
            assert_eq!(log.damage(), [Offset(3)..Offset(i64::MAX)]);
            assert_eq!(log.offsets().log_end, Offset(7));
            rebuild(&store, &log, &life).await;
            assert_whole(&log, &life).await;
            store.checkpoint().await.expect("a checkpoint");
            assert_whole(&log, &life).await;
        })
        .await;
        on(&node, |env| async move { assert_whole(&open(&env).await.1, &shared).await }).await;
    });
}

/// A log is cut to where its owner wants, whatever can't be read there; a new beginning and a new log start end damage, too.
#[test]
fn damage_is_cut_trimmed_and_thrown_away() {
    lives(|_, node, shared| async move {
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            grow(&store, &log, &life, 14).await;
            store.close().await.expect("closes");
            let files = segment_files(&env).await;
            rot(&env, &files[1], 2).await;
        })
        .await;
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            let first = unreadable(&log, &life).await[0];
            make(&store, &log, Step { truncate: Some(Offset(first + 2)), ..Step::default() }).await;
            assert_eq!(log.offsets().log_end, Offset(first + 2), "exactly there");
            assert_eq!(log.damage(), [Offset(first)..Offset(first + 2)]);
            assert!(log.fault().is_some(), "it is not whole");
        })
        .await;
        let life = Shared::clone(&shared);
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            let end = log.offsets().log_end;
            assert_eq!(log.damage(), [Offset(end.0 - 2)..end]);
            rebuild(&store, &log, &life).await;
            assert_whole(&log, &life).await;
            store.close().await.expect("closes");
            let files = segment_files(&env).await;
            rot(&env, &files[0], 2).await;
        })
        .await;
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            assert!(log.read(Offset(0), Offset(14), 1, true).await.is_err());
            let end = log.damage()[0].end;
            make(&store, &log, Step { log_start: Some(end), ..Step::default() }).await;
            assert_eq!(log.damage(), [], "what is below the log start is not missed");
            let files = segment_files(&env).await;
            store.checkpoint().await.expect("a checkpoint");
            rot(&env, &files[2], 2).await;
            store.close().await.expect("closes");
        })
        .await;
        on(&node, |env| async move {
            let (store, log) = open(&env).await;
            assert!(!unreadable(&log, &shared).await.is_empty());
            make(&store, &log, Step { begin_anew: Some(Offset(40)), ..Step::default() }).await;
            assert_eq!((log.damage(), log.fault()), (Vec::new(), None));
            assert_eq!((log.offsets().log_start, log.offsets().log_end), (Offset(40), Offset(40)));
        })
        .await;
    });
}
