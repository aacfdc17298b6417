//! Steps: several changes that survive a crash together or not at all; and what a step may not be.

use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, Timestamp, limits::WAL_STEP_FRAMES_MAX};
use quipu_env::{Clock, Disk, Env, Segment};
use quipu_records::{Batch as StoredBatch, BatchHeader};
use quipu_sim::{NodeConfig, Sim, SimConfig, SimEnv, crash::CrashTest};
use quipu_storage::{
    AppendError, BadStep, ChangeError, Check, Class, Log, LogOptions, ReadError, StateKind, Step, Store, TailRead,
    Ticket,
};

use crate::{
    driver::{DIR, Driver, History, NewBatch, placed, small_options},
    model::{Batch, ModelStep, partition},
};

fn rolling() -> LogOptions {
    LogOptions { segment_bytes: 1500, ..LogOptions::default() }
}

fn batch(epoch: i32, producer: Option<i64>, tag: &str, count: usize, bytes: usize) -> NewBatch {
    let values = (0..count).map(|index| format!("{tag}-{index}-{}", "y".repeat(bytes)).into_bytes()).collect();
    NewBatch { epoch, producer, values }
}

fn replica(value: &[u8]) -> ModelStep {
    ModelStep { replica: Some(value.to_vec()), ..ModelStep::default() }
}

/// A follower's life: appends with states, truncations, new beginnings, log starts; and a metadata log's.
async fn life<E: Env>(env: E, history: Arc<History>) {
    let mut driver = Driver::open(env, small_options(), rolling(), history).await;
    driver.step(0, replica(b"promised 1"), &[]).await;
    driver.step(0, replica(b"label 1"), &[batch(1, Some(7), "a", 2, 200), batch(1, Some(7), "b", 1, 700)]).await;
    driver.step(0, ModelStep::default(), &[batch(1, None, "c", 3, 300), batch(2, Some(8), "d", 1, 300)]).await;
    driver.step(3, replica(b"vote"), &[batch(1, None, "meta", 2, 300), batch(2, None, "data", 1, 900)]).await;
    driver.acknowledge().await;
    driver.store.checkpoint().await.expect("a checkpoint");
    // Into segments and on with another epoch, in one step; then the tail.
    let cut = ModelStep { truncate: Some(4), log_start: Some(2), ..replica(b"label 3") };
    driver.step(0, cut, &[batch(3, Some(7), "e", 2, 400), batch(3, Some(8), "f", 2, 400)]).await;
    driver.step(0, ModelStep { truncate: Some(6), ..ModelStep::default() }, &[batch(4, None, "g", 1, 50)]).await;
    driver.step(1, ModelStep { begin_anew: Some(40), ..replica(b"new") }, &[batch(4, Some(7), "h", 2, 500)]).await;
    driver.acknowledge().await;
    // A snapshot has come: the metadata log begins anew at its end; and one is made: the log's prefix goes.
    driver.step(3, ModelStep { begin_anew: Some(100), ..replica(b"term 9") }, &[]).await;
    driver.step(3, ModelStep::default(), &[batch(9, None, "next", 2, 900), batch(9, None, "next", 2, 900)]).await;
    driver.acknowledge().await;
    driver.store.checkpoint().await.expect("a checkpoint");
    driver.move_log_start(3, 102).await;
    driver.step(1, ModelStep { begin_anew: Some(30), ..ModelStep::default() }, &[batch(5, Some(9), "i", 1, 500)]).await;
    driver.acknowledge().await;
    driver.store.checkpoint().await.expect("a checkpoint");
    let mut driver = driver.reopen(small_options()).await;
    driver.step(1, ModelStep { begin_anew: Some(60), ..ModelStep::default() }, &[]).await;
    driver.step(1, replica(b"last"), &[batch(6, Some(9), "j", 1, 500)]).await;
    driver.acknowledge().await;
}

/// What every start after a cut does: look, go on, stop, look again.
async fn next_life<E: Env>(env: E, history: Arc<History>) {
    let mut driver = Driver::open(env, small_options(), rolling(), history).await;
    for log in [0, 1, 3] {
        driver.step(log, replica(b"next"), &[batch(100, Some(7), "next", 1, 50)]).await;
    }
    driver.acknowledge().await;
    let end = driver.log(0).offsets().log_end.0;
    driver.step(0, ModelStep { truncate: Some(end - 1), ..ModelStep::default() }, &[]).await;
    drop(driver.reopen(small_options()).await);
}

#[test]
fn every_change_of_the_disk_may_be_the_last() {
    let report = CrashTest::new(11).run(life, next_life);
    assert!(report.crashes > 500, "{report:?}");
    assert!(report.recovery_crashes > 50, "{report:?}");
}

/// The planted bug: the frames of a step in several groups. A crash between them shows.
#[test]
fn a_torn_step_is_found() {
    let mut test = CrashTest::new(12);
    test.config.planted = ["wal.step-torn"].into();
    let found = std::panic::catch_unwind(|| test.run(life, next_life));
    assert!(found.is_err(), "a crash leaves a part of a step");
}

fn with_store<F>(main: impl FnOnce(SimEnv, Store<SimEnv>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(Sim::new(7, SimConfig::default()).run(|world| async move {
        let node = world.node("node", NodeConfig::default());
        let process = node.start(|env: SimEnv| async move {
            let (store, _) = Store::open(env.clone(), small_options()).await.expect("opens");
            main(env, store).await;
        });
        process.join().await.expect("the process comes to its end");
    }));
}

fn bytes_at(base: i64, count: usize) -> Bytes {
    placed(&Batch { base, epoch: 1, producer: None, timestamp: 1, values: vec![vec![b'v'; 100]; count] })
}

fn produced(base: i64, sequence: i32) -> Bytes {
    placed(&Batch { base, epoch: 1, producer: Some((5, sequence)), timestamp: 1, values: vec![vec![b'v'; 100]] })
}

fn appending(append: Vec<Bytes>) -> Step {
    Step { append, ..Step::default() }
}

async fn make(store: &Store<SimEnv>, log: &Log<SimEnv>, step: Step) -> Result<Ticket, ChangeError> {
    let reservation = store.reserve(step.reservation_bytes(), Class::Normal).await.expect("room");
    log.try_step(reservation, step)
}

#[test]
fn what_is_no_step_leaves_no_trace() {
    with_store(|_, store| async move {
        let log = store.log(partition(0));
        let ticket = make(&store, &log, appending(vec![bytes_at(0, 2), bytes_at(2, 1)])).await.expect("fits");
        store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
        let bad = |step: Step| {
            let (store, log) = (store.clone(), log.clone());
            async move { make(&store, &log, step).await.expect_err("it is not to be made") }
        };
        let not_next = ChangeError::BadStep(BadStep::NotNext { expected: Offset(3), found: Offset(4) });
        assert_eq!(bad(appending(vec![bytes_at(4, 1)])).await, not_next);
        let gap = ChangeError::BadStep(BadStep::NotNext { expected: Offset(4), found: Offset(5) });
        assert_eq!(bad(appending(vec![bytes_at(3, 1), bytes_at(5, 1)])).await, gap);
        let not_one = ChangeError::BadStep(BadStep::NotOneBatch { index: 1 });
        assert_eq!(bad(appending(vec![bytes_at(3, 1), bytes_at(4, 1).slice(..90)])).await, not_one);
        let states = vec![(StateKind::Replica, Bytes::new()); WAL_STEP_FRAMES_MAX + 1];
        let reservation = store.reserve(0, Class::Normal).await.expect("room");
        let many = log.try_step(reservation, Step { states, ..Step::default() });
        assert!(matches!(many, Err(ChangeError::BadStep(BadStep::TooLarge { .. }))));
        let beyond = Step { log_start: Some(Offset(5)), ..appending(vec![bytes_at(3, 1)]) };
        assert!(matches!(bad(beyond).await, ChangeError::OutOfRange { .. }));
        for step in [
            Step { truncate: Some(Offset(1)), ..Step::default() },
            Step { begin_anew: Some(Offset(1)), ..Step::default() },
            Step { repair: vec![bytes_at(0, 1)], ..Step::default() },
        ] {
            assert_eq!(bad(step).await, ChangeError::BadStep(BadStep::Waits));
        }
        let reservation = store.reserve(10, Class::Normal).await.expect("room");
        let small = log.try_step(
            reservation,
            appending(vec![placed(&Batch {
                base: 3,
                epoch: 1,
                producer: None,
                timestamp: 1,
                values: vec![vec![0; 20_000]],
            })]),
        );
        assert!(matches!(small, Err(ChangeError::BadStep(BadStep::NotReserved { .. }))));
        let reservation = store.reserve(0, Class::Normal).await.expect("room");
        let below = log.step(reservation, Step { repair: vec![bytes_at(2, 2)], ..Step::default() }).await;
        assert!(matches!(
            below,
            Err(ChangeError::BadStep(BadStep::NotReserved { .. }) | ChangeError::OutOfRange { .. })
        ));
        assert_eq!(log.offsets().log_end, Offset(3));
        let ticket = make(&store, &log, appending(vec![bytes_at(3, 1)])).await.expect("the log goes on");
        store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
        assert_eq!(log.offsets().durable_end, Offset(4));
        assert_eq!(make(&store, &log, Step::default()).await, Ok(ticket), "nothing to do");
    });
}

#[test]
fn steps_take_effect_in_the_order_of_the_calls() {
    with_store(|_, store| async move {
        let log = store.log(partition(0));
        let state = |value: &'static [u8]| vec![(StateKind::Replica, Bytes::from_static(value))];
        let first = Step { states: state(b"first"), ..appending(vec![bytes_at(0, 3)]) };
        make(&store, &log, first).await.expect("fits");
        assert_eq!(log.offsets().log_end, Offset(3), "at once");
        let second = Step { log_start: Some(Offset(4)), states: state(b"second"), ..appending(vec![bytes_at(3, 2)]) };
        let ticket = make(&store, &log, second).await.expect("fits");
        assert_eq!((log.offsets().log_start, log.offsets().log_end), (Offset(4), Offset(5)));
        assert_eq!(log.durable_state(StateKind::Replica), None, "it is not durable yet");
        store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
        assert_eq!(log.durable_state(StateKind::Replica).as_deref(), Some(&b"second"[..]));
        assert_eq!(log.offsets().durable_end, Offset(5));
    });
}

#[test]
fn a_leader_asks_what_a_batch_is_before_it_makes_a_step() {
    with_store(|env, store| async move {
        let log = store.log(partition(0));
        let now = env.clock().wall();
        let header = |bytes: &Bytes| BatchHeader::parse(bytes).expect("a header");
        let first = produced(0, 0);
        assert_eq!(log.check_append(&header(&first), now), Ok(Check::Fresh));
        make(&store, &log, appending(vec![first.clone()])).await.expect("fits");
        let original = Check::Duplicate { base_offset: Offset(0), last_offset: Offset(0), timestamp: Timestamp(1) };
        assert_eq!(log.check_append(&header(&first), now), Ok(original));
        let gap = log.check_append(&header(&produced(1, 2)), now);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })), "{gap:?}");
        assert_eq!(log.check_append(&header(&produced(1, 1)), now), Ok(Check::Fresh));
        assert_eq!(log.offsets().log_end, Offset(1), "asking changes nothing");
        // A follower takes what its leader has let in.
        make(&store, &log, appending(vec![produced(1, 7)])).await.expect("fits");
        assert_eq!(log.check_append(&header(&produced(2, 8)), now), Ok(Check::Fresh));
    });
}

fn joined(read: TailRead<SimEnv>) -> (Vec<i64>, Offset) {
    let TailRead::Hit(read) = read else { panic!("it is in memory") };
    let mut bytes = Vec::new();
    for segment in read.segments {
        let Segment::Bytes(piece) = segment else { panic!("it is in memory") };
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes.len(), read.bytes);
    let mut bytes = Bytes::from(bytes);
    let mut bases = Vec::new();
    while !bytes.is_empty() {
        let size = BatchHeader::parse(&bytes).expect("a header").total_bytes();
        let batch = StoredBatch::parse_checked(bytes.split_to(size)).expect("a whole batch");
        bases.push(batch.header().base_offset.0);
    }
    (bases, read.next_offset)
}

#[test]
fn what_is_not_synced_can_be_sent_but_not_consumed() {
    with_store(|env, store| async move {
        let log = store.log(partition(0));
        let ticket = make(&store, &log, appending(vec![bytes_at(0, 2)])).await.expect("fits");
        store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
        make(&store, &log, appending(vec![bytes_at(2, 2), bytes_at(4, 1)])).await.expect("fits");
        let unplaced = bytes_at(99, 3);
        let header = BatchHeader::parse(&unplaced).expect("a header");
        let reservation = store.reserve(unplaced.len(), Class::Normal).await.expect("room");
        let appended = log.append(reservation, LeaderEpoch(6), &unplaced, &header, env.clock().wall()).expect("fits");
        assert_eq!(appended.base_offset, Offset(5));
        let upper = Offset(100);
        assert_eq!(joined(log.read_tail(Offset(0), upper, 10_000, true)), (vec![0], Offset(2)));
        assert_eq!(joined(log.read_tail_unsynced(Offset(0), upper, 10_000, true)), (vec![0, 2, 4, 5], Offset(8)));
        assert_eq!(joined(log.read_tail_unsynced(Offset(4), upper, 1, true)), (vec![4], Offset(5)));
        assert_eq!(joined(log.read_tail_unsynced(Offset(5), Offset(8), 10_000, false)), (vec![5], Offset(8)));
        assert_eq!(joined(log.read_tail_unsynced(Offset(5), Offset(7), 10_000, true)), (vec![], Offset(5)));
        assert_eq!(joined(log.read_tail_unsynced(Offset(8), upper, 10_000, true)), (vec![], Offset(8)));
        assert!(matches!(log.read_tail_unsynced(Offset(9), upper, 1, true), TailRead::OutOfRange { .. }));
        store.durable().wait_for(|durable| *durable >= appended.ticket).await.expect("runs");
        assert_eq!(joined(log.read_tail_unsynced(Offset(2), upper, 10_000, true)), (vec![2, 4, 5], Offset(8)));
        store.checkpoint().await.expect("a checkpoint");
        assert!(matches!(log.read_tail_unsynced(Offset(2), upper, 10_000, true), TailRead::Cold));
        assert!(matches!(log.read(Offset(9), upper, 1, true).await, Err(ReadError::OutOfRange { .. })));
    });
}

#[test]
fn the_high_watermark_goes_to_the_disk_with_a_flush() {
    drop(Sim::new(7, SimConfig::default()).run(|world| async move {
        let node = world.node("node", NodeConfig::default());
        for expected in [0, 3] {
            let process = node.start(move |env: SimEnv| async move {
                let (store, _) = Store::open(env, small_options()).await.expect("opens");
                let log = store.log(partition(0));
                assert_eq!(log.stored_high_watermark(), Offset(expected));
                let end = log.offsets().log_end.0;
                let ticket = make(&store, &log, appending(vec![bytes_at(end, 5)])).await.expect("fits");
                store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
                log.note_high_watermark(Offset(3));
                assert_eq!(log.stored_high_watermark(), Offset(expected), "not before the flush");
                store.checkpoint().await.expect("a checkpoint");
                assert_eq!(log.stored_high_watermark(), Offset(3));
            });
            process.join().await.expect("the process comes to its end");
            node.power_cut();
        }
    }));
}

async fn files(env: &SimEnv) -> usize {
    let dir = std::path::PathBuf::from(format!("{DIR}/seg/{}", partition(0)));
    env.disk().list(&dir).await.expect("the directory is there").len()
}

/// A snapshot lets the whole log before it go: its segments are dropped, so many in each round, also by a later start.
#[test]
fn a_long_prefix_goes_in_pieces() {
    drop(Sim::new(7, SimConfig::default()).run(|world| async move {
        let node = world.node("node", NodeConfig::default());
        let process = node.start(|env: SimEnv| async move {
            let (store, _) = Store::open(env.clone(), small_options()).await.expect("opens");
            let log = store.log(partition(0));
            log.set_options(LogOptions { segment_bytes: 1, ..LogOptions::default() });
            let mut last = Ticket::NONE;
            for base in 0..200 {
                last = make(&store, &log, appending(vec![bytes_at(base, 1)])).await.expect("fits");
            }
            store.durable().wait_for(|durable| *durable >= last).await.expect("runs");
            store.checkpoint().await.expect("a checkpoint");
            assert_eq!(files(&env).await, 200);
            let ticket =
                make(&store, &log, Step { log_start: Some(Offset(199)), ..Step::default() }).await.expect("fits");
            store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
            store.checkpoint().await.expect("a checkpoint");
            let left = files(&env).await;
            assert!((100..200).contains(&left), "{left} files");
            assert_eq!(log.offsets().log_start, Offset(199));
        });
        process.join().await.expect("the process comes to its end");
        node.power_cut();
        let process = node.start(|env: SimEnv| async move {
            let (store, _) = Store::open(env.clone(), small_options()).await.expect("opens");
            for _ in 0..3 {
                store.checkpoint().await.expect("a checkpoint");
            }
            assert_eq!(files(&env).await, 1);
            let log = store.log(partition(0));
            let read = log.read(Offset(199), Offset(200), 1, true).await.expect("readable");
            assert_eq!(read.next_offset, Offset(200));
        });
        process.join().await.expect("the process comes to its end");
    }));
}
