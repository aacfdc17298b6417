//! Synchronous producers: each its own librdkafka instance and connection, one record under way, no lingering.
//!
//! A request's latency runs from handing the record to librdkafka until its delivery report. Read [`crate::open_loop`] next.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use quipu_testkit::{Failure, Result};
use rdkafka::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, ProducerContext, ThreadedProducer};
use serde_json::Value;

use crate::produce::{config, pool, value};
use crate::stats::{self, Latencies};
use crate::{Target, produce};

/// A record unacknowledged for this long ends the run.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// Hands every delivery to the thread that waits for it. `poll` of the binding sleeps its whole time-out even when an event
/// came, so that a thread of the binding polls and wakes ours.
#[derive(Debug)]
struct Delivery(SyncSender<std::result::Result<(), String>>);

impl ClientContext for Delivery {}

impl ProducerContext<NoCustomPartitioner> for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let answer = result.as_ref().map(drop).map_err(|(error, _)| error.to_string());
        // One record is under way, the channel holds one: it cannot be full, nor its receiver gone before the producer.
        drop(self.0.try_send(answer));
    }
}

/// Runs the workload.
pub(crate) fn run(target: &Target, clients: usize, seconds: f64) -> Result<Value> {
    let start = Arc::new(Barrier::new(clients));
    let limit = Duration::from_secs_f64(seconds);
    let results: Vec<Result<Latencies>> = std::thread::scope(|scope| {
        let run = |client| {
            let start = Arc::clone(&start);
            scope.spawn(move || one_client(target, client, &start, limit))
        };
        let threads: Vec<_> = (0..clients).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    let mut all = Latencies::default();
    for latencies in results {
        all.append(latencies?);
    }
    let throughput = stats::throughput(all.count(), target.record_bytes, limit);
    Ok(stats::merge(throughput, all.into_json()))
}

fn one_client(target: &Target, client: usize, start: &Barrier, limit: Duration) -> Result<Latencies> {
    let made = connect(target, client);
    // Everybody arrives here, also whoever failed: the others would wait for ever.
    start.wait();
    let (producer, deliveries, partition) = made?;
    let pool = produce::pool(target.record_bytes);
    let mut latencies = Latencies::with_capacity(1 << 16);
    let end = Instant::now() + limit;
    let mut number = client * 61;
    while Instant::now() < end {
        let begin = Instant::now();
        round_trip(&producer, &deliveries, &target.topic, partition, value(&pool, number, target.record_bytes))?;
        latencies.add(begin.elapsed());
        number += 1;
    }
    Ok(latencies)
}

type Connected = (ThreadedProducer<Delivery>, Receiver<std::result::Result<(), String>>, i32);

/// A producer with its connection open and its partition known: the first record sees to that, unmeasured.
fn connect(target: &Target, client: usize) -> Result<Connected> {
    let (sender, deliveries) = sync_channel(1);
    let mut config = config(&target.bootstrap);
    config.set("linger.ms", "0");
    config.set("max.in.flight.requests.per.connection", "1");
    let producer: ThreadedProducer<Delivery> =
        config.create_with_context(Delivery(sender)).map_err(Failure::context("cannot make a producer"))?;
    let partitions = usize::try_from(target.partitions).map_err(Failure::context("--partitions"))?;
    let partition = i32::try_from(client % partitions).map_err(Failure::context("--partitions"))?;
    let first = pool(target.record_bytes);
    round_trip(&producer, &deliveries, &target.topic, partition, value(&first, 0, target.record_bytes))?;
    Ok((producer, deliveries, partition))
}

fn round_trip(
    producer: &ThreadedProducer<Delivery>,
    deliveries: &Receiver<std::result::Result<(), String>>,
    topic: &str,
    partition: i32,
    value: &[u8],
) -> Result<()> {
    let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(partition).payload(value);
    producer.send(record).map_err(|(error, _)| Failure::new(format!("cannot queue a record: {error}")))?;
    match deliveries.recv_timeout(REPLY_LIMIT) {
        Ok(answer) => answer.map_err(Failure::context("a record was not delivered")),
        Err(error) => Err(Failure::context(format!("no acknowledgement within {REPLY_LIMIT:?}"))(error)),
    }
}
