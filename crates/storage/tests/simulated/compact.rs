//! Compaction on the simulated disk: whatever goes, and whenever the power does, replaying the log gives the same values; and the
//! planted bugs that this is to find.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::catch_unwind,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_env::{Clock, Disk, Env, File, OpenOptions};
use quipu_records::{BatchBuilder, Batches, NewRecord};
use quipu_sim::{NodeConfig, PowerCut, Sim, SimConfig, SimEnv, crash::CrashTest};
use quipu_storage::{
    Class, CleanError, Cleaned, CleanerOptions, Compaction, Log, LogOptions, Step, Store, StoreOptions, verify,
};

use crate::{
    driver::{DIR, bytes_of, small_options},
    model::partition,
};

/// One record as it was produced.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Produced {
    offset: i64,
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// One batch as it was produced.
#[derive(Clone, Debug)]
struct ProducedBatch {
    epoch: i32,
    producer: Option<(i64, i32)>,
    records: Vec<Produced>,
}

impl ProducedBatch {
    fn base(&self) -> i64 {
        self.records[0].offset
    }

    fn next(&self) -> i64 {
        self.base() + i64::try_from(self.records.len()).expect("small")
    }

    fn bytes(&self) -> Bytes {
        let mut builder = BatchBuilder::new().base_offset(Offset(self.base())).leader_epoch(LeaderEpoch(self.epoch));
        if let Some((id, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
        }
        for Produced { timestamp, key, value, .. } in &self.records {
            let timestamp = Timestamp(*timestamp);
            let record = NewRecord { timestamp, key: Some(key), value: value.as_deref(), headers: &[] };
            builder.push(&record).expect("a small record");
        }
        builder.build().expect("a batch").into_bytes()
    }
}

/// What was produced, and how much of it was acknowledged.
#[derive(Default)]
struct History {
    batches: Vec<ProducedBatch>,
    acknowledged: usize,
}

type Shared = Arc<Mutex<History>>;

const RETENTION_MS: i64 = 400;

fn compacting() -> LogOptions {
    let compaction = Compaction {
        dirty_ratio_min_millionths: 0,
        lag_min_ms: 0,
        lag_max_ms: i64::MAX,
        tombstone_retention_ms: RETENTION_MS,
    };
    LogOptions { segment_bytes: 900, compaction: Some(compaction), ..LogOptions::default() }
}

/// So little memory that most passes end before what is dirty does.
const LITTLE: CleanerOptions = CleanerOptions { memory_bytes: 400, bytes_per_second: 10_000_000 };

async fn open<E: Env>(env: &E) -> (Store<E>, Log<E>) {
    let (store, _) = Store::open(env.clone(), small_options()).await.expect("opens");
    let log = store.log(partition(0));
    log.set_options(compacting());
    (store, log)
}

/// The batch that is produced next: keys come again and again, some values are tombstones.
fn next_batch(history: &History) -> ProducedBatch {
    let index = history.batches.len();
    let base = history.batches.last().map_or(0, ProducedBatch::next);
    let producer = [None, Some(7), Some(8), Some(7)][index % 4];
    let sequence = |id: i64| {
        let of = history.batches.iter().filter(|batch| batch.producer.is_some_and(|(known, _)| known == id));
        i32::try_from(of.map(|batch| batch.records.len()).sum::<usize>()).expect("small")
    };
    let records = (0..=i64::try_from(index % 3).expect("small")).map(|delta| {
        let offset = base + delta;
        let number = (offset * 7 + offset / 5) % 9;
        // Some keys have one value and are deleted soon after.
        let (is_brief, is_tombstone) = (offset % 3 == 1, offset % 6 == 4);
        let key = if is_brief { format!("brief {}", offset / 6) } else { format!("key {number}") };
        let value = format!("value {offset} {}", "v".repeat(40 + usize::try_from(number).expect("small") * 5));
        Produced {
            offset,
            timestamp: 1000 + offset * 10 - (offset % 4) * 15,
            key: key.into_bytes(),
            value: (!is_tombstone).then(|| value.into_bytes()),
        }
    });
    ProducedBatch {
        epoch: i32::try_from(index / 7).expect("small"),
        producer: producer.map(|id| (id, sequence(id))),
        records: records.collect(),
    }
}

async fn make<E: Env>(store: &Store<E>, log: &Log<E>, step: Step) {
    let reservation = store.reserve(step.reservation_bytes(), Class::Normal).await.expect("room");
    let ticket = log.step(reservation, step).await.expect("the step fits");
    store.durable().wait_for(|durable| *durable >= ticket).await.expect("the WAL runs");
}

async fn produce<E: Env>(store: &Store<E>, log: &Log<E>, shared: &Shared, count: usize) {
    for _ in 0..count {
        let bytes = {
            let mut history = shared.lock().expect("no panic holds it");
            let batch = next_batch(&history);
            let bytes = batch.bytes();
            history.batches.push(batch);
            bytes
        };
        make(store, log, Step { append: vec![bytes], ..Step::default() }).await;
        let mut history = shared.lock().expect("no panic holds it");
        history.acknowledged = history.batches.len();
    }
    log.note_high_watermark(log.offsets().log_end);
}

/// A batch of the log: where it begins and ends, and its records.
type Read = (i64, i64, Vec<Produced>);

/// The batches from `from` up to `upper`, read `max_bytes` at a time.
async fn read<E: Env>(log: &Log<E>, from: i64, upper: i64, max_bytes: usize) -> Vec<Read> {
    let mut batches = Vec::new();
    let mut next = Offset(from);
    while next < Offset(upper) {
        let read = log.read(next, Offset(upper), max_bytes, true).await.expect("all is readable");
        if read.next_offset == next {
            break;
        }
        for segment in read.segments {
            for batch in Batches::new(bytes_of::<E>(segment).await) {
                let batch = batch.expect("whole batches");
                batch.check_crc().expect("a good checksum");
                let records = batch.records(1 << 20).expect("decodes");
                let records = records.iter().map(|record| record.expect("decodes")).map(|record| Produced {
                    offset: record.offset.0,
                    timestamp: record.timestamp.0,
                    key: record.key.expect("a key").to_vec(),
                    value: record.value.map(<[u8]>::to_vec),
                });
                batches.push((batch.header().base_offset.0, batch.header().next_offset().0, records.collect()));
            }
        }
        next = read.next_offset;
    }
    batches
}

/// What somebody holds who has read these records.
fn replayed<'a>(records: impl Iterator<Item = &'a Produced>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut values = BTreeMap::new();
    for Produced { key, value, .. } in records {
        match value {
            Some(value) => drop(values.insert(key.clone(), value.clone())),
            None => drop(values.remove(key)),
        }
    }
    values
}

/// The log is the one that was produced, but for what compaction may take. Answers how many records are left.
async fn check<E: Env>(log: &Log<E>, shared: &Shared) -> usize {
    let offsets = log.offsets();
    let batches = {
        let mut history = shared.lock().expect("no panic holds it");
        // The last one may have been lost before it was acknowledged.
        let count = history.batches.iter().filter(|batch| batch.next() <= offsets.log_end.0).count();
        assert!(count >= history.acknowledged, "{count} batches of {} acknowledged", history.acknowledged);
        history.batches.truncate(count);
        history.batches.clone()
    };
    let all: BTreeMap<i64, &Produced> =
        batches.iter().flat_map(|batch| &batch.records).map(|record| (record.offset, record)).collect();
    let found = read(log, offsets.log_start.0, offsets.log_end.0, 500).await;
    let mut next = offsets.log_start.0;
    for (base, end, records) in &found {
        assert_eq!(*base, next, "there is a batch for every offset");
        next = *end;
        for record in records {
            assert_eq!(Some(&record), all.get(&record.offset), "what is left is what was produced");
        }
    }
    assert_eq!(next, offsets.log_end.0);
    let left: Vec<&Produced> = found.iter().flat_map(|(_, _, records)| records).collect();
    let expected = replayed(all.values().copied());
    assert_eq!(replayed(left.iter().copied()), expected, "whoever reads it now holds the same values");
    let mut epochs: Vec<(i32, i64)> = Vec::new();
    let mut producers: BTreeMap<i64, Vec<(i32, i64)>> = BTreeMap::new();
    for batch in &batches {
        if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.epoch) {
            epochs.push((batch.epoch, batch.base()));
        }
        if let Some((id, sequence)) = batch.producer {
            let known = producers.entry(id).or_default();
            known.push((sequence, batch.base()));
            if known.len() > 5 {
                known.remove(0);
            }
        }
    }
    let told: Vec<(i32, i64)> = log.epochs().into_iter().map(|entry| (entry.epoch.0, entry.start.0)).collect();
    assert_eq!(told, epochs);
    let told = log.producers().into_iter().map(|state| {
        let batches = state.batches.iter().map(|batch| (batch.first_sequence.0, batch.base_offset.0));
        (state.producer_id.0, batches.collect())
    });
    assert_eq!(told.collect::<BTreeMap<i64, Vec<(i32, i64)>>>(), producers);
    left.len()
}

/// The tombstones that are in the log, and those that are the newest record of their keys.
async fn tombstones<E: Env>(log: &Log<E>, shared: &Shared) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let found = read(log, log.offsets().log_start.0, log.offsets().log_end.0, 5000).await;
    let records = found.iter().flat_map(|(_, _, records)| records);
    let there = records.filter(|record| record.value.is_none()).map(|record| record.offset).collect();
    let batches = shared.lock().expect("no panic holds it").batches.clone();
    let all = batches.iter().flat_map(|batch| &batch.records);
    let newest: BTreeMap<&Vec<u8>, &Produced> = all.map(|record| (&record.key, record)).collect();
    (there, newest.values().filter(|record| record.value.is_none()).map(|record| record.offset).collect())
}

/// Compacts until there is nothing to compact. What is clean has each key once.
async fn clean<E: Env>(store: &Store<E>, log: &Log<E>, options: &CleanerOptions) -> usize {
    let mut passes = 0;
    let mut last: Option<Cleaned> = None;
    while let Some(cleaned) = store.clean(options).await.expect("nothing is in its way") {
        assert!(last.is_none_or(|last| last.end < cleaned.end), "each pass gets further");
        last = Some(cleaned);
        passes += 1;
    }
    if let Some(Cleaned { end, .. }) = last {
        let clean = read(log, log.offsets().log_start.0, end.0, 5000).await;
        let mut keys = BTreeSet::new();
        for record in clean.iter().flat_map(|(_, _, records)| records) {
            assert!(keys.insert(record.key.clone()), "there is one record of each key");
        }
    }
    passes
}

async fn life<E: Env>(env: E, shared: Shared) {
    let (store, log) = open(&env).await;
    produce(&store, &log, &shared, 18).await;
    store.checkpoint().await.expect("a checkpoint");
    let before = check(&log, &shared).await;
    assert!(clean(&store, &log, &LITTLE).await >= 1);
    let after = check(&log, &shared).await;
    assert!(after < before, "{after} of {before} records are left");
    let (there, deleted) = tombstones(&log, &shared).await;
    assert!(!deleted.is_empty() && deleted.is_subset(&there), "whoever is reading must learn what is deleted");
    produce(&store, &log, &shared, 8).await;
    store.checkpoint().await.expect("a checkpoint");
    // Tombstones have been met; now they go.
    env.clock().sleep(Duration::from_millis(1000)).await;
    let before = tombstones(&log, &shared).await.0;
    clean(&store, &log, &LITTLE).await;
    check(&log, &shared).await;
    let after = tombstones(&log, &shared).await.0;
    assert!(!after.is_superset(&before), "tombstones go: {before:?}, {after:?}");
    produce(&store, &log, &shared, 1).await;
    store.close().await.expect("closes");
    drop((store, log));
    let (store, log) = open(&env).await;
    check(&log, &shared).await;
    log.note_high_watermark(log.offsets().log_end);
    clean(&store, &log, &CleanerOptions::default()).await;
    check(&log, &shared).await;
}

/// What every start does after a cut: look, go on, compact, look again.
async fn next_life<E: Env>(env: E, shared: Shared) {
    let (store, log) = open(&env).await;
    check(&log, &shared).await;
    produce(&store, &log, &shared, 4).await;
    store.checkpoint().await.expect("a checkpoint");
    clean(&store, &log, &CleanerOptions::default()).await;
    check(&log, &shared).await;
    store.close().await.expect("closes");
    drop((store, log));
    let (_store, log) = open(&env).await;
    check(&log, &shared).await;
}

fn crash_test(seed: u64, planted: Option<&'static str>) -> CrashTest {
    let outcomes = vec![PowerCut::LoseAll, PowerCut::Random];
    let mut test = CrashTest { outcomes, ..CrashTest::new(seed) };
    test.config.planted = planted.into_iter().collect();
    test
}

#[test]
fn values_are_the_same_whenever_the_power_goes() {
    let report = crash_test(41, None).run(
        |env, shared: Arc<Shared>| life(env, Shared::clone(&shared)),
        |env, shared: Arc<Shared>| next_life(env, Shared::clone(&shared)),
    );
    assert!(report.crashes > 300, "{report:?}");
}

#[test]
fn planted_bugs_are_found() {
    for planted in
        ["compact.tombstone-dropped-early", "compact.value-lost-at-segment-border", "compact.swap-not-atomic"]
    {
        let found = catch_unwind(|| {
            crash_test(42, Some(planted)).run(
                |env, shared: Arc<Shared>| life(env, Shared::clone(&shared)),
                |env, shared: Arc<Shared>| next_life(env, Shared::clone(&shared)),
            )
        });
        assert!(found.is_err(), "{planted}");
    }
}

/// Runs `main` in a process of its own.
fn simulate<F, M>(main: F)
where
    F: FnOnce(SimEnv) -> M + Send + 'static,
    M: Future<Output = ()> + Send + 'static,
{
    drop(Sim::new(5, SimConfig::default()).run(|world| async move {
        let node = world.node("node", NodeConfig::default());
        node.start(main).join().await.expect("the process comes to its end");
    }));
}

fn roomy() -> StoreOptions {
    StoreOptions { wal_file_bytes: 4 << 20, wal_total_bytes: 16 << 20, tail_bytes: 8 << 20, ..small_options() }
}

/// A compacted log of that many batches, the last few of which are not in segments.
async fn compacted(env: &SimEnv, shared: &Shared, batches: usize) -> (Store<SimEnv>, Log<SimEnv>) {
    let (store, _) = Store::open(env.clone(), roomy()).await.expect("opens");
    let log = store.log(partition(0));
    log.set_options(compacting());
    produce(&store, &log, shared, batches).await;
    store.checkpoint().await.expect("a checkpoint");
    clean(&store, &log, &CleanerOptions::default()).await;
    produce(&store, &log, shared, 3).await;
    (store, log)
}

#[test]
fn every_offset_and_timestamp_is_found_across_gaps() {
    simulate(|env| async move {
        let shared = Shared::default();
        let (_store, log) = compacted(&env, &shared, 40).await;
        let end = log.offsets().log_end.0;
        let all = read(&log, 0, end, 1 << 20).await;
        let records: Vec<Produced> = all.iter().flat_map(|(_, _, records)| records.clone()).collect();
        let originals: BTreeSet<i64> =
            shared.lock().expect("no panic holds it").batches.iter().map(ProducedBatch::base).chain([end]).collect();
        let (mut gaps_cut, mut cut_short) = (0, 0);
        for from in 0..end {
            for upper in [end, (from + 5).min(end), (from + 1).min(end)] {
                let found = read(&log, from, upper, 300).await;
                let Some((base, ..)) = found.first() else {
                    // A batch with records that reaches the bound.
                    cut_short += 1;
                    continue;
                };
                assert!(*base == from || originals.range(..=from).next_back() == Some(base), "{from}: {base}");
                gaps_cut += usize::from(*base == from && !originals.contains(&from));
                assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].0), "{from}: no gaps between batches");
                let last = found.last().expect("it is not empty").1;
                assert!(last <= upper);
                let told: Vec<&Produced> = found.iter().flat_map(|(_, _, records)| records).collect();
                let expected: Vec<&Produced> =
                    records.iter().filter(|record| record.offset >= *base && record.offset < last).collect();
                assert_eq!(told, expected, "{from} to {upper}");
            }
        }
        assert!(gaps_cut > 20 && cut_short > 0, "{gaps_cut} gaps were cut, {cut_short} reads found nothing");
        for timestamp in (900..1000 + end * 10 + 50).step_by(7) {
            let found = log.offset_for_timestamp(Timestamp(timestamp), Offset(end)).await.expect("all is readable");
            let expected = records.iter().find(|record| record.timestamp >= timestamp);
            let expected = expected.map(|record| (Timestamp(record.timestamp), Offset(record.offset)));
            assert_eq!(found, expected, "at {timestamp}");
        }
        let largest = records.iter().max_by_key(|record| (record.timestamp, -record.offset)).expect("some are left");
        let found = log.max_timestamp(Offset(end)).await.expect("all is readable");
        assert_eq!(found, Some((Timestamp(largest.timestamp), Offset(largest.offset))));
    });
}

#[test]
fn a_compacted_log_passes_verification_and_is_copied_from_any_offset() {
    simulate(|env| async move {
        let shared = Shared::default();
        let (store, log) = compacted(&env, &shared, 30).await;
        let end = log.offsets().log_end;
        // Followers that had none of it, and some of it, before it was compacted.
        for (number, had) in [(1, 0), (2, 9)] {
            let copy = store.log(partition(number));
            let batches = shared.lock().expect("no panic holds it").batches.clone();
            for batch in &batches[..had] {
                make(&store, &copy, Step { append: vec![batch.bytes()], ..Step::default() }).await;
            }
            while copy.offsets().log_end < end {
                let read = log.read(copy.offsets().log_end, end, 400, true).await.expect("all is readable");
                let mut append = Vec::new();
                for segment in read.segments {
                    let batches = Batches::new(bytes_of::<SimEnv>(segment).await);
                    append.extend(batches.map(|batch| batch.expect("whole").into_bytes()));
                }
                make(&store, &copy, Step { append, ..Step::default() }).await;
            }
            assert_eq!(copy.epochs(), log.epochs());
            let (ours, theirs) = (read(&log, 0, end.0, 900).await, read(&copy, 0, end.0, 900).await);
            let held = |batches: &[Read]| replayed(batches.iter().flat_map(|(_, _, records)| records));
            assert_eq!(held(&ours), held(&theirs));
        }
        store.close().await.expect("closes");
        drop((store, log));
        let report = verify(&env, Path::new(DIR)).await.expect("it can be read");
        assert!(report.damaged.is_empty(), "{report:?}");
    });
}

#[test]
fn a_log_is_cut_inside_a_gap() {
    simulate(|env| async move {
        let shared = Shared::default();
        let (store, log) = compacted(&env, &shared, 30).await;
        let all = read(&log, 0, log.offsets().log_end.0, 1 << 20).await;
        let epochs = log.epochs();
        for (base, end, _) in all.iter().rev().filter(|(base, end, records)| records.is_empty() && end - base > 2) {
            let to = Offset(base + 2);
            make(&store, &log, Step { truncate: Some(to), ..Step::default() }).await;
            assert_eq!(log.offsets().log_end, to, "exactly there");
            let left = read(&log, 0, to.0, 1 << 20).await;
            assert_eq!(left.last().map(|last| (last.0, last.1)), Some((*base, to.0)));
            assert!(end > &to.0);
        }
        let end = log.offsets().log_end;
        let expected: Vec<_> = epochs.into_iter().filter(|entry| entry.start < end).collect();
        assert_eq!(log.epochs(), expected);
        store.close().await.expect("closes");
        drop((store, log));
        let (store, _) = Store::open(env.clone(), roomy()).await.expect("opens");
        assert_eq!(store.log(partition(0)).offsets().log_end, end);
    });
}

#[test]
fn what_is_young_or_not_committed_stays() {
    simulate(|env| async move {
        let shared = Shared::default();
        let (store, _) = Store::open(env.clone(), roomy()).await.expect("opens");
        let log = store.log(partition(0));
        let with = |change: fn(&mut Compaction)| {
            let mut options = compacting();
            options.compaction.as_mut().map(change).expect("it is compacted");
            log.set_options(options);
        };
        with(|_| {});
        produce(&store, &log, &shared, 30).await;
        store.checkpoint().await.expect("a checkpoint");
        let clean = async || store.clean(&CleanerOptions::default()).await.expect("nothing is in its way");
        log.set_options(LogOptions { compaction: None, ..compacting() });
        assert_eq!(clean().await, None, "it is not compacted");
        with(|compaction| compaction.dirty_ratio_min_millionths = 1_000_000);
        assert_eq!(clean().await, None, "no log is dirtier than that");
        with(|compaction| compaction.lag_min_ms = i64::MAX);
        assert_eq!(clean().await, None, "all is too young");
        log.note_high_watermark(Offset(0));
        with(|_| {});
        assert_eq!(clean().await, None, "nothing is committed");
        log.note_high_watermark(Offset(20));
        let cleaned = clean().await.expect("some is committed");
        assert!(cleaned.end <= Offset(20) && cleaned.bytes_after < cleaned.bytes_before, "{cleaned:?}");
        assert_eq!(clean().await, None);
        let end = log.offsets().log_end;
        log.note_high_watermark(end);
        with(|compaction| compaction.dirty_ratio_min_millionths = 999_999);
        assert_eq!(clean().await, None, "part of it is clean");
        // The wall clock is far behind the oldest record's age: what is dirty is due, the open segment, too.
        with(|compaction| {
            compaction.dirty_ratio_min_millionths = 1_000_000;
            compaction.lag_max_ms = 1;
        });
        let mut last = Offset(0);
        while let Some(cleaned) = clean().await {
            last = cleaned.end;
        }
        assert_eq!(last, end, "it was closed, so that it could be compacted");
        check(&log, &shared).await;
    });
}

#[test]
fn rot_in_what_is_compacted_is_told_of_with_all_of_it() {
    simulate(|env| async move {
        let shared = Shared::default();
        let (store, log) = compacted(&env, &shared, 30).await;
        store.close().await.expect("closes");
        drop((store, log));
        let dir = format!("{DIR}/seg/{}", partition(0));
        let names = env.disk().list(Path::new(&dir)).await.expect("a directory");
        let name = names.iter().find(|name| name.contains("-c")).expect("a compacted segment");
        assert!(name.starts_with("00000000000000000000-c"), "{names:?}");
        let file = env.disk().open(&Path::new(&dir).join(name), OpenOptions::WRITE).await.expect("it is there");
        let byte = file.read_at(40, 1).await.expect("readable");
        file.write_at(40, vec![vec![byte[0] ^ 4].into()]).await.expect("writable");
        file.sync_data().await.expect("synced");
        let (store, _) = Store::open(env.clone(), roomy()).await.expect("opens");
        let log = store.log(partition(0));
        log.set_options(compacting());
        let end = log.offsets().log_end;
        log.note_high_watermark(end);
        let found = log.read(Offset(0), end, 1, true).await;
        assert!(found.is_err(), "{names:?}: {found:?}");
        let damage = log.damage();
        assert_eq!((damage.len(), damage[0].start), (1, Offset(0)));
        assert!(damage[0].end > Offset(20), "{damage:?}: what a peer has may be less compacted");
        assert!(matches!(store.clean(&CleanerOptions::default()).await, Ok(None) | Err(CleanError::Read(_))));
    });
}
