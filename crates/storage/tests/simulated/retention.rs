//! Retention on logs in segments and in memory: what goes, what stays, and the planted bugs that these tests are to find.

use std::sync::Arc;

use quipu_base::{Offset, Timestamp};
use quipu_sim::{NodeConfig, Sim, SimConfig};
use quipu_storage::{Class, Log, LogOptions, Retention, Step, Store, StoreOptions};

use crate::{
    driver::{placed, small_options},
    model::{Batch, partition},
};

const SEGMENT_BYTES: u32 = 1300;

/// When each batch of a log was made.
type Times = Arc<Vec<i64>>;

/// A log of batches of one record, with these timestamps; the first `flushed` of them in segments of five.
async fn log_of(
    env: quipu_sim::SimEnv,
    times: Times,
    flushed: usize,
    retention: Retention,
) -> (Store<quipu_sim::SimEnv>, Log<quipu_sim::SimEnv>) {
    let roomy =
        StoreOptions { wal_file_bytes: 4 << 20, wal_total_bytes: 16 << 20, tail_bytes: 4 << 20, ..small_options() };
    let (store, _) = Store::open(env, roomy).await.expect("opens");
    let log = store.log(partition(0));
    log.set_options(LogOptions { segment_bytes: SEGMENT_BYTES, retention, ..LogOptions::default() });
    for (index, timestamp) in times.iter().enumerate() {
        if index == flushed {
            store.checkpoint().await.expect("a checkpoint");
        }
        let step = Step { append: vec![batch(index, *timestamp)], ..Step::default() };
        let reservation = store.reserve(step.reservation_bytes(), Class::Normal).await.expect("room");
        let ticket = log.try_step(reservation, step).expect("it fits");
        store.durable().wait_for(|durable| *durable >= ticket).await.expect("the WAL runs");
    }
    if flushed == times.len() {
        store.checkpoint().await.expect("a checkpoint");
    }
    (store, log)
}

fn batch(index: usize, timestamp: i64) -> bytes::Bytes {
    let base = i64::try_from(index).expect("small");
    placed(&Batch { base, epoch: 0, producer: None, timestamp, values: vec![vec![b'r'; 180]] })
}

/// Where such a log begins at `now` when everything below `high_watermark` is committed.
fn start(
    planted: Option<&'static str>,
    times: Vec<i64>,
    flushed: usize,
    retention: Retention,
    (now, high_watermark): (i64, i64),
) -> Option<i64> {
    let config = SimConfig { planted: planted.into_iter().collect(), ..SimConfig::default() };
    Sim::new(3, config)
        .run(move |world| async move {
            let node = world.node("node", NodeConfig::default());
            let started = node.start(move |env| async move {
                let (_store, log) = log_of(env, Arc::new(times), flushed, retention).await;
                log.retention_start(Timestamp(now), Offset(high_watermark)).map(Offset::get)
            });
            started.join().await.expect("the process comes to its end")
        })
        .value
}

const BY_TIME: Retention = Retention { ms: Some(100), bytes: None };

#[test]
fn old_records_go_from_segments_and_from_memory() {
    let times: Vec<i64> = (0..20).map(|index| 1000 + index * 10).collect();
    for (flushed, now, expected) in [
        (0, 1100, None),
        (0, 1101, Some(1)),
        (0, 1195, Some(10)),
        // Five records make a segment: it goes with its last one.
        (20, 1140, None),
        (20, 1141, Some(5)),
        (20, 1189, Some(5)),
        (20, 1195, Some(10)),
        (12, 1195, Some(10)),
        // The last segment is an open one.
        (12, 1211, Some(12)),
        (12, 1221, Some(13)),
        (20, 1291, Some(20)),
    ] {
        assert_eq!(
            start(None, times.clone(), flushed, BY_TIME, (now, 20)),
            expected,
            "{flushed} in segments, at {now}"
        );
    }
    assert_eq!(start(None, times, 20, Retention::default(), (5000, 20)), None, "nothing goes by default");
}

#[test]
fn the_future_and_what_has_no_time_stay() {
    let mut times = vec![1000; 20];
    times[7] = 9000;
    assert_eq!(
        start(None, times.clone(), 20, BY_TIME, (1200, 20)),
        Some(5),
        "one record of the future keeps all behind it"
    );
    assert_eq!(start(None, times.clone(), 0, BY_TIME, (1200, 20)), Some(7));
    assert_eq!(start(None, times.clone(), 20, BY_TIME, (9101, 20)), Some(20), "until its time has come and gone");
    assert_eq!(start(None, times, 20, BY_TIME, (i64::MIN, 20)), None, "whatever the clock says");
    let undated = |dated: Option<i64>| (0..20).map(|index| if index < 10 { -1 } else { dated.unwrap_or(-1) }).collect();
    assert_eq!(start(None, undated(None), 20, BY_TIME, (9000, 20)), None);
    assert_eq!(start(None, undated(Some(1000)), 20, BY_TIME, (1050, 20)), None);
    assert_eq!(start(None, undated(Some(1000)), 20, BY_TIME, (9000, 20)), Some(20));
}

#[test]
fn the_bound_on_the_size_is_kept() {
    let size = batch(0, 1000).len() as u64;
    assert!((5 * size..6 * size).contains(&u64::from(SEGMENT_BYTES)), "five batches make a segment");
    let by_size = |bytes| Retention { ms: None, bytes: Some(bytes) };
    let start =
        |flushed, bytes, high_watermark| start(None, vec![1000; 20], flushed, by_size(bytes), (1000, high_watermark));
    assert_eq!(start(20, 20 * size, 20), None);
    assert_eq!(start(20, 15 * size + 1, 20), None, "what is left is never less than the bound");
    assert_eq!(start(20, 15 * size, 20), Some(5));
    assert_eq!(start(20, 0, 20), Some(20));
    assert_eq!(start(20, 0, 13), Some(10), "not above the high watermark");
    // In memory nothing has segments yet: it goes when it would fill one.
    assert_eq!(start(0, 15 * size, 20), None);
    assert_eq!(start(0, 14 * size, 20), Some(6));
    assert_eq!(start(10, 5 * size, 20), Some(10), "less than a segment");
    assert_eq!(start(10, 4 * size, 20), Some(16));
    assert_eq!(start(10, 0, 12), Some(12));
}

/// No record is deleted that may not be: what each bug gets wrong.
#[test]
fn planted_bugs_are_found() {
    let mut times = vec![1000; 20];
    times[2] = 9000;
    assert_eq!(start(None, times.clone(), 20, BY_TIME, (1050, 20)), None);
    assert_ne!(start(Some("retention.future-timestamp"), times, 20, BY_TIME, (1050, 20)), None);
    let committed = |planted| start(planted, vec![1000; 20], 20, BY_TIME, (5000, 9)).unwrap_or(0);
    assert!(committed(None) <= 9);
    assert!(committed(Some("retention.above-high-watermark")) > 9);
}
