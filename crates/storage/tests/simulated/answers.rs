//! The same operations under different settings give the same answers, and these are what the records say.

use std::sync::Arc;

use quipu_base::{LeaderEpoch, Offset, Timestamp};
use quipu_env::{Env, Rng};
use quipu_records::Batches;
use quipu_sim::{NodeConfig, Sim, SimConfig};
use quipu_storage::{Log, LogOptions, StoreOptions, TailRead};
use rand::{RngExt, SeedableRng};

use crate::{
    driver::{Driver, History, bytes_of, small_options},
    model::{PARTITIONS, Seen},
};

/// What is done, whatever the settings.
#[derive(Clone, Debug)]
enum Step {
    Append { log: usize, epoch: i32, producer: Option<i64>, values: Vec<Vec<u8>> },
    LogStart { log: usize, offset: i64 },
    Truncate { log: usize, to: i64 },
    Acknowledge,
}

fn steps(rng: &mut Rng) -> Vec<Step> {
    let mut ends = [0_i64; PARTITIONS];
    let mut starts = [0_i64; PARTITIONS];
    let mut epoch = 0;
    let mut steps = Vec::new();
    for number in 0..120_u8 {
        let log = rng.random_range(0..PARTITIONS);
        match rng.random_range(0..20) {
            0 => {
                steps.push(Step::Acknowledge);
                starts[log] = rng.random_range(starts[log]..=ends[log]);
                steps.push(Step::LogStart { log, offset: starts[log] });
            }
            1 => {
                // Where it really ends the driver knows; the next log start keeps below.
                let to = rng.random_range(starts[log]..=ends[log]);
                steps.push(Step::Truncate { log, to });
                ends[log] = (to - 4).max(starts[log]);
            }
            2 => steps.push(Step::Acknowledge),
            _ => {
                epoch += i32::from(rng.random_range(0..10) == 0);
                let count = rng.random_range(1..5_usize);
                let bytes = rng.random_range(1..700);
                let values = (0..count).map(|index| vec![number; bytes + index]).collect();
                let producer = [None, Some(3), Some(4)][rng.random_range(0..3)];
                steps.push(Step::Append { log, epoch, producer, values });
                ends[log] += i64::try_from(count).expect("small");
            }
        }
    }
    steps
}

/// All that a log answers to a fixed set of questions.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Answers {
    seen: Option<Seen>,
    since: Vec<Option<(i64, i64)>>,
    largest: Vec<Option<(i64, i64)>>,
    epoch_ends: Vec<(i32, i64)>,
}

async fn ask<E: Env>(log: &Log<E>, seen: Option<Seen>) -> Answers {
    let offsets = log.offsets();
    let uppers = [offsets.log_end.0, (offsets.log_start.0 + offsets.log_end.0) / 2, offsets.log_start.0];
    let pair = |found: Option<(Timestamp, Offset)>| found.map(|(time, offset)| (time.0, offset.0));
    let (mut since, mut largest, mut epoch_ends) = (Vec::new(), Vec::new(), Vec::new());
    for upper in uppers.map(Offset) {
        for time in (900..4000).step_by(97) {
            let found = log.offset_for_timestamp(Timestamp(time), upper).await.expect("readable");
            since.push(pair(found));
        }
        largest.push(pair(log.max_timestamp(upper).await.expect("readable")));
        for epoch in -1..20 {
            let (epoch, end) = log.epoch_end(LeaderEpoch(epoch), upper);
            epoch_ends.push((epoch.0, end.0));
        }
    }
    if let Some(seen) = &seen {
        compare_with_records(seen, uppers, &since, &largest).await;
    }
    Answers { seen, since, largest, epoch_ends }
}

/// The plainest way to answer: one record after the other. Records that share a batch with one at or above the upper bound are
/// out of bounds with it, so answers for an upper bound inside a batch are left to the comparison between settings.
async fn compare_with_records(
    seen: &Seen,
    uppers: [i64; 3],
    since: &[Option<(i64, i64)>],
    largest: &[Option<(i64, i64)>],
) {
    let per_upper = since.len() / uppers.len();
    let times: Vec<i64> = (900..4000).step_by(97).collect();
    for (index, time) in times.iter().enumerate() {
        let expected = seen.records.iter().find(|(_, at, _)| at >= time).map(|(offset, at, _)| (*at, *offset));
        assert_eq!(since[index], expected, "first record since {time}");
    }
    let latest = seen.records.iter().map(|(_, at, _)| *at).max();
    let expected = latest
        .and_then(|latest| seen.records.iter().find(|(_, at, _)| *at == latest).map(|(offset, at, _)| (*at, *offset)));
    assert_eq!(largest[0], expected);
    assert!(since[2 * per_upper..].iter().all(Option::is_none) && largest[2].is_none(), "nothing lies below the start");
}

/// Every read is of whole batches, from the right one on, within its bounds, and makes progress where it may.
async fn read_everywhere<E: Env>(log: &Log<E>, rng: &mut Rng) {
    let offsets = log.offsets();
    for _ in 0..40 {
        let offset = rng.random_range(offsets.log_start.0..=offsets.log_end.0);
        let upper = rng.random_range(offset..=offsets.log_end.0);
        let max_bytes = [0, 1, 300, 1000, 100_000][rng.random_range(0..5)];
        let at_least_one = rng.random();
        let read = log.read(Offset(offset), Offset(upper), max_bytes, at_least_one).await.expect("readable");
        if let TailRead::Hit(hit) = log.read_tail(Offset(offset), Offset(upper), max_bytes, at_least_one) {
            assert_eq!((hit.bytes, hit.next_offset), (read.bytes, read.next_offset));
        }
        let mut all = Vec::new();
        for segment in read.segments {
            all.extend_from_slice(&bytes_of::<E>(segment).await);
        }
        assert_eq!(all.len(), read.bytes);
        let batches: Vec<_> = Batches::new(all.into()).map(|batch| batch.expect("whole batches")).collect();
        let Some(first) = batches.first() else {
            assert_eq!(read.next_offset, Offset(offset));
            continue;
        };
        assert!(first.header().base_offset <= Offset(offset) && first.header().last_offset() >= Offset(offset));
        let mut next = first.header().base_offset;
        for batch in &batches {
            batch.check_crc().expect("a good checksum");
            assert_eq!(batch.header().base_offset, next);
            next = batch.header().next_offset();
        }
        assert!(next <= Offset(upper) && read.next_offset == next);
        assert!(read.bytes <= max_bytes || (at_least_one && batches.len() == 1), "{} of {max_bytes}", read.bytes);
    }
}

async fn run<E: Env>(
    env: E,
    seed: u64,
    options: StoreOptions,
    log_options: LogOptions,
    checkpoints: u32,
) -> Vec<Answers> {
    let history = Arc::new(History::default());
    let mut driver = Driver::open(env, options.clone(), log_options, history).await;
    let mut rng = Rng::seed_from_u64(seed);
    let mut when = Rng::seed_from_u64(seed + u64::from(checkpoints));
    for step in steps(&mut rng) {
        match step {
            Step::Append { log, epoch, producer, values } => driver.append(log, epoch, producer, &values).await,
            Step::LogStart { log, offset } => driver.move_log_start(log, offset).await,
            Step::Truncate { log, to } => driver.truncate(log, to).await,
            Step::Acknowledge => driver.acknowledge().await,
        }
        if checkpoints > 0 && when.random_range(0..checkpoints) == 0 {
            driver.store.checkpoint().await.expect("a checkpoint");
        }
        if checkpoints > 0 && when.random_range(0..checkpoints * 10) == 0 {
            driver = driver.reopen(options.clone()).await;
        }
    }
    driver.acknowledge().await;
    let mut answers = Vec::new();
    for (number, seen) in driver.look().await.into_iter().enumerate() {
        let log = driver.log(number);
        read_everywhere(&log, &mut rng).await;
        answers.push(ask(&log, seen).await);
    }
    answers
}

#[test]
fn settings_do_not_change_answers() {
    for seed in 0..12 {
        let mut expected = None;
        for (segment_bytes, index_interval_bytes, open_files_max, checkpoints) in
            [(1 << 30, 8192, 100, 0), (1, 1, 1, 3), (3000, 500, 2, 10), (20_000, 4000, 3, 1), (1 << 30, 1000, 1, 5)]
        {
            let options = StoreOptions {
                index_interval_bytes,
                open_files_max,
                tail_bytes: 1 << 20,
                wal_total_bytes: 1 << 20,
                ..small_options()
            };
            let log_options = LogOptions { segment_bytes, ..LogOptions::default() };
            let answers = Sim::new(seed, SimConfig::default())
                .run(|world| async move {
                    let node = world.node("node", NodeConfig::default());
                    let running = node.start(|env| run(env, seed, options, log_options, checkpoints));
                    running.join().await.expect("the process comes to its end")
                })
                .value;
            assert_eq!(expected.get_or_insert_with(|| answers.clone()), &answers, "seed {seed}, {log_options:?}");
        }
    }
}
