//! Throughput: as many records as librdkafka can send, acks=all, with its own default batching.
//!
//! Time runs from the first record until the last acknowledgement. Read [`crate::sync`] next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quipu_testkit::{Failure, Result};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};
use serde_json::Value;

use crate::{Target, stats};

/// All acknowledgements must have come this long after the last record was queued.
const FLUSH_LIMIT: Duration = Duration::from_secs(120);

/// Producer settings common to all workloads. Memory for a quarter gigabyte of records, else the queue is the limit.
pub(crate) fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("acks", "all");
    config.set("message.timeout.ms", "1800000");
    config.set("queue.buffering.max.messages", "2000000");
    config.set("queue.buffering.max.kbytes", "262144");
    config.set("sticky.partitioning.linger.ms", "10");
    config
}

/// Bytes that look like data: every record of a run is a window of `pool` at another place.
pub(crate) fn pool(record_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..record_bytes + POOL_EXTRA).map(|_| next()).collect()
}

const POOL_EXTRA: usize = 4096;

/// The `number`th record's value.
pub(crate) fn value(pool: &[u8], number: usize, record_bytes: usize) -> &[u8] {
    let start = number % POOL_EXTRA;
    &pool[start..start + record_bytes]
}

/// Counts deliveries, keeps the first failure and the time of the last delivery.
#[derive(Clone, Debug)]
struct Tally {
    wanted: usize,
    delivered: Arc<AtomicUsize>,
    end: Arc<Mutex<Option<Instant>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Tally {
    fn new(wanted: usize) -> Self {
        Self { wanted, delivered: Arc::default(), end: Arc::default(), failure: Arc::default() }
    }
}

impl ClientContext for Tally {}

impl ProducerContext<NoCustomPartitioner> for Tally {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                // `flush` of the binding returns up to 100 ms late: the end is noted here.
                if self.delivered.fetch_add(1, Ordering::Relaxed) + 1 == self.wanted {
                    *self.end.lock().expect("nobody panics with the lock") = Some(Instant::now());
                }
            }
            Err((error, message)) => {
                let mut failure = self.failure.lock().expect("nobody panics with the lock");
                failure.get_or_insert_with(|| format!("partition {}: {error}", message.partition()));
            }
        }
    }
}

/// Runs the workload.
pub(crate) fn run(target: &Target, records: usize, in_turn: bool, keys: Option<usize>) -> Result<Value> {
    let tally = Tally::new(records);
    let producer: BaseProducer<Tally> = config(&target.bootstrap)
        .create_with_context(tally.clone())
        .map_err(Failure::context("cannot make a producer"))?;
    // The connection and the topic's metadata are not part of the measurement.
    let topic = target.topic.as_str();
    producer
        .client()
        .fetch_metadata(Some(topic), Duration::from_secs(30))
        .map_err(Failure::context(format!("no metadata of {topic}")))?;
    let pool = pool(target.record_bytes);
    let begin = Instant::now();
    for number in 0..records {
        let key = keys.map(|keys| format!("key {:012}", number % keys));
        let mut record: BaseRecord<'_, String, [u8]> =
            BaseRecord::to(topic).payload(value(&pool, number, target.record_bytes));
        if let Some(key) = &key {
            record = record.key(key);
        }
        if in_turn {
            record = record.partition(in_turn_partition(number, target.partitions));
        }
        send(&producer, record)?;
        if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(FLUSH_LIMIT).map_err(Failure::context("not everything was acknowledged"))?;
    if let Some(failure) = tally.failure.lock().expect("nobody panics with the lock").take() {
        return Err(Failure::new(format!("a record was not delivered: {failure}")));
    }
    let Some(end) = *tally.end.lock().expect("nobody panics with the lock") else {
        let delivered = tally.delivered.load(Ordering::Relaxed);
        return Err(Failure::new(format!("{delivered} of {records} records were acknowledged")));
    };
    Ok(stats::throughput(records, target.record_bytes, end - begin))
}

fn in_turn_partition(number: usize, partitions: i32) -> i32 {
    let partitions = usize::try_from(partitions).expect("a positive number of partitions");
    i32::try_from(number % partitions).expect("it is below the number of partitions")
}

/// Queues a record, waiting for room when the queue is full.
fn send<'a>(producer: &BaseProducer<Tally>, mut record: BaseRecord<'a, String, [u8]>) -> Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(Failure::new(format!("cannot queue a record: {error}"))),
        }
    }
}
