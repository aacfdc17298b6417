//! Latency at a fixed rate: records leave by the clock, whether or not earlier ones were acknowledged, one per request.
//!
//! Latency counts from the time at which a record was to be sent, so a server that stalls pays for every record that waits. The
//! longest time between two acknowledgements is told as well: what a failover costs.
//! Read [`crate::consume`] next.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quipu_testkit::{Failure, Result};
use rdkafka::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};

use crate::Target;
use crate::produce::{config, pool, value};
use crate::stats::{self, Latencies};

#[derive(Debug, Default)]
struct Seen {
    latencies: Latencies,
    failure: Option<String>,
    /// When the last acknowledgement came, and the longest time between two.
    last: Option<Instant>,
    gap: Duration,
}

impl Seen {
    fn with_capacity(records: usize) -> Self {
        Self { latencies: Latencies::with_capacity(records), ..Self::default() }
    }

    fn acknowledged(&mut self, latency: Duration) {
        self.latencies.add(latency);
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.gap = self.gap.max(now - last);
        }
    }
}

#[derive(Clone, Debug)]
struct Recorder(Arc<Mutex<Seen>>);

impl ClientContext for Recorder {}

impl ProducerContext<NoCustomPartitioner> for Recorder {
    /// When the record was to be sent.
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: Box<Instant>) {
        let latency = intended.elapsed();
        let mut seen = self.0.lock().expect("nobody panics with the lock");
        match result {
            Ok(_) => seen.acknowledged(latency),
            Err((error, _)) => drop(seen.failure.get_or_insert_with(|| error.to_string())),
        }
    }
}

/// Runs the workload.
pub(crate) fn run(target: &Target, rate: u32, seconds: u32, in_flight: Option<u32>) -> Result<Value> {
    let records =
        usize::try_from(u64::from(rate) * u64::from(seconds)).map_err(Failure::context("too many records"))?;
    let recorder = Recorder(Arc::new(Mutex::new(Seen::with_capacity(records))));
    let mut config = config(&target.bootstrap);
    config.set("linger.ms", "0").set("batch.num.messages", "1");
    if let Some(in_flight) = in_flight {
        config.set("max.in.flight.requests.per.connection", in_flight.to_string());
    }
    let producer: ThreadedProducer<Recorder> =
        config.create_with_context(recorder.clone()).map_err(Failure::context("cannot make a producer"))?;
    let pool = pool(target.record_bytes);
    let partitions = usize::try_from(target.partitions).map_err(Failure::context("--partitions"))?;
    warm_up(&producer, target, partitions, &pool)?;
    *recorder.0.lock().expect("nobody panics with the lock") = Seen::with_capacity(records);

    let begin = Instant::now();
    let mut late = Duration::ZERO;
    for number in 0..records {
        let intended = begin + Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate));
        late = late.max(wait_until(intended));
        send(&producer, target, number, partitions, &pool, intended)?;
    }
    producer.flush(Duration::from_secs(1800)).map_err(Failure::context("not everything was acknowledged"))?;
    let took = begin.elapsed();
    let seen = std::mem::take(&mut *recorder.0.lock().expect("nobody panics with the lock"));
    if let Some(failure) = seen.failure {
        return Err(Failure::new(format!("a record was not delivered: {failure}")));
    }
    if seen.latencies.count() != records {
        return Err(Failure::new(format!("{} of {records} records were acknowledged", seen.latencies.count())));
    }
    let throughput = stats::throughput(records, target.record_bytes, took);
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let spans = json!({ "generator_late_us": micros(late), "gap_max_us": micros(seen.gap) });
    Ok(stats::merge(stats::merge(throughput, seen.latencies.into_json()), spans))
}

/// One record to each partition, so that connections and metadata are there.
fn warm_up(producer: &ThreadedProducer<Recorder>, target: &Target, partitions: usize, pool: &[u8]) -> Result<()> {
    for number in 0..partitions {
        send(producer, target, number, partitions, pool, Instant::now())?;
    }
    producer.flush(Duration::from_secs(60)).map_err(Failure::context("the first records were not acknowledged"))
}

fn send(
    producer: &ThreadedProducer<Recorder>,
    target: &Target,
    number: usize,
    partitions: usize,
    pool: &[u8],
    intended: Instant,
) -> Result<()> {
    let partition = i32::try_from(number % partitions).expect("it is below the number of partitions");
    let record: BaseRecord<'_, (), [u8], Box<Instant>> = BaseRecord::with_opaque_to(&target.topic, Box::new(intended))
        .partition(partition)
        .payload(value(pool, number, target.record_bytes));
    producer.send(record).map_err(|(error, _)| Failure::new(format!("cannot queue a record: {error}")))
}

/// Sleeps until `time`; tells how late it woke.
fn wait_until(time: Instant) -> Duration {
    let now = Instant::now();
    match time.checked_duration_since(now) {
        // The rate is the workload: this sleep is its clock, it synchronises nothing.
        Some(left) if !left.is_zero() => {
            std::thread::sleep(left);
            time.elapsed()
        }
        _ => now - time,
    }
}
