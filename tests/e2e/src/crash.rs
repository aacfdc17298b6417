//! `kill -9` in the middle of a real producer's work, again and again: every acknowledged record is there once, in order.
//!
//! One librdkafka producer (idempotent, acks=all) lives through all rounds and retries across each crash. The moments are drawn
//! from a seed that is printed; the machine's own timing does the rest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quipu_testkit::batch;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use crate::librdkafka::{Deliveries, TestProducer, producer};
use crate::subject::ours;

const ROUNDS: usize = 24;
pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const TOPIC: &str = "survives";

/// Quick to notice that the broker is back.
pub(crate) const SETTINGS: [(&str, &str); 5] = [
    ("reconnect.backoff.ms", "5"),
    ("reconnect.backoff.max.ms", "50"),
    ("retry.backoff.ms", "5"),
    ("queue.buffering.max.messages", "2000"),
    ("linger.ms", "1"),
];

#[test]
#[expect(clippy::print_stdout, reason = "the seed of a failed run is what one wants to see")]
fn acknowledged_records_survive_kill_9_exactly_once_and_in_order() {
    let Some((mut broker, _scratch)) = ours("crash") else { return };
    broker.wire().unwrap().create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let (producer, deliveries) = producer(&broker.bootstrap(), &SETTINGS);
    let stop = AtomicBool::new(false);
    let mut random = seed();
    println!("QUIPU_E2E_SEED={}", random.0);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(&producer, &stop));
        for round in 0..ROUNDS {
            let before = deliveries.count();
            wait_for_more(&deliveries, before, round);
            // The moment of the crash is the test: nothing is synchronised by this sleep.
            std::thread::sleep(Duration::from_micros(random.next_below(60_000)));
            broker.kill();
            broker.restart().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    producer.flush(Duration::from_secs(120)).unwrap();
    let failed: Vec<_> = deliveries.all().into_iter().filter(|(_, result)| result.is_err()).collect();
    assert!(failed.is_empty(), "idempotent retries cover every crash: {failed:?}");
    assert_eq!(deliveries.all().len(), sent);
    println!("{sent} records acknowledged over {ROUNDS} crashes");
    let mut wire = broker.wire().unwrap();
    let stored = |place, _| batch::records(&wire.fetch_all(TOPIC, place, 0).unwrap()).unwrap();
    assert_log_is(stored, &deliveries, sent);
    assert!(broker.stop().unwrap().success(), "it still stops in good order");
}

/// A round crashes a broker that has acknowledged something since its start.
pub(crate) fn wait_for_more(deliveries: &Deliveries, before: usize, round: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while deliveries.count() <= before {
        assert!(std::time::Instant::now() < deadline, "round {round}: nothing was acknowledged for a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends numbered records, each to partition number mod [`PARTITIONS`]; returns how many.
pub(crate) fn send_until(producer: &TestProducer, stop: &AtomicBool) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let value = value(number);
        let record: BaseRecord<'_, (), _, _> =
            BaseRecord::with_opaque_to(TOPIC, Box::new(number)).partition(partition(number)).payload(&value);
        match producer.send(record) {
            Ok(()) => number += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => panic!("cannot queue record {number}: {error}"),
        }
    }
    number
}

fn value(number: usize) -> String {
    format!("{number} {}", "x".repeat(number % 400))
}

fn partition(number: usize) -> i32 {
    i32::try_from(number).unwrap() % PARTITIONS
}

/// The log holds records 0 to `sent`, each once, in order, where its acknowledgement said.
/// `stored` reads a partition that should have so many records.
pub(crate) fn assert_log_is(
    mut stored: impl FnMut(i32, usize) -> Vec<(i64, Vec<u8>)>,
    deliveries: &Deliveries,
    sent: usize,
) {
    let mut acknowledged: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for (number, result) in deliveries.all() {
        let place = (partition(number), result.unwrap());
        assert_eq!(acknowledged.insert(place, number), None, "two records acknowledged at {place:?}");
    }
    let mut found = 0;
    for place in 0..PARTITIONS {
        let numbers = (0..sent).filter(|&number| partition(number) == place);
        let stored = stored(place, numbers.clone().count());
        for (index, (number, (offset, stored))) in numbers.clone().zip(&stored).enumerate() {
            assert_eq!(*offset, i64::try_from(index).unwrap(), "offsets of partition {place} are dense");
            assert_eq!(String::from_utf8_lossy(stored), value(number), "partition {place}, offset {offset}");
            assert_eq!(acknowledged.get(&(place, *offset)), Some(&number), "where its acknowledgement said");
        }
        assert_eq!(stored.len(), numbers.count(), "partition {place} has as many records as were sent to it");
        found += stored.len();
    }
    assert_eq!(found, sent);
}

/// Moments of crashes: from `QUIPU_E2E_SEED`, else from the clock.
pub(crate) fn seed() -> Random {
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let given = std::env::var("QUIPU_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(clock()));
    Random(seed | 1)
}

/// xorshift: good enough to spread moments.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn number(&self) -> u64 {
        self.0
    }

    pub(crate) fn next_below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
