//! What an unchanged librdkafka producer and its consumers do and are told, noted as the history that the simulator's checkers read.
//!
//! Every record is one send; what a consumer got in one go is one poll. Payloads are compared on the spot.
//!
//! Not here: what is right and what is wrong (`quipu_hunt::check`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quipu_hunt::history::{Found, History, LogIndex, Op, Outcome, Value, What};
use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, ProducerContext, ThreadedProducer};

use crate::crash::{PARTITIONS, SETTINGS, TOPIC};
use crate::librdkafka::consumer;

/// Who sends; consumers follow, one for each partition.
const SENDER: u32 = 0;
/// Who reads everything at the end.
const READER: u32 = 100;
/// Between two records: enough to have some in flight at any moment, few enough for a history of ten minutes.
const PACE: Duration = Duration::from_micros(400);
/// Records of one poll.
const POLL_RECORDS_MAX: usize = 500;

/// A clone is the same.
#[derive(Clone)]
pub(super) struct Recorder {
    begun: Instant,
    history: Arc<Mutex<History>>,
    acknowledged: Arc<AtomicUsize>,
}

impl ClientContext for Recorder {}

impl ProducerContext<NoCustomPartitioner> for Recorder {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let result = result.as_ref().map(Message::offset).map_err(|(error, _)| error.to_string());
        match result {
            Ok(offset) => self.complete(*index, offset),
            Err(error) => self.strange("unexpected-error", &format!("a send failed: {error}")),
        }
    }
}

pub(super) type RecordedProducer = ThreadedProducer<Recorder>;

impl Recorder {
    pub(super) fn new() -> Self {
        let mut history = History { is_cluster: true, ..History::default() };
        for partition in 0..PARTITIONS {
            history.log(TOPIC, "", partition);
        }
        Self { begun: Instant::now(), history: Arc::new(Mutex::new(history)), acknowledged: Arc::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap()
    }

    /// A send was acknowledged.
    fn complete(&self, index: usize, offset: i64) {
        let now = self.now();
        let op = &mut self.history.lock().unwrap().ops[index];
        (op.completed, op.outcome) = (Some(now), Outcome::Ok);
        let What::Send { base_offset, .. } = &mut op.what else { unreachable!("only sends are delivered") };
        // librdkafka knows no offset where it takes a later acknowledgement for this one's, too.
        *base_offset = (offset >= 0).then_some(offset);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, op: Op) -> usize {
        let mut history = self.history.lock().unwrap();
        history.ops.push(op);
        history.ops.len() - 1
    }

    fn strange(&self, checker: &str, detail: &str) {
        let what = What::Strange { checker: checker.to_owned(), detail: detail.to_owned() };
        let now = self.now();
        self.note(Op { client: SENDER, invoked: now, completed: Some(now), outcome: Outcome::Ok, what });
    }

    /// An idempotent producer with acks=all.
    pub(super) fn producer(&self, bootstrap: &str) -> RecordedProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("acks", "all").set("enable.idempotence", "true");
        // A minority never acknowledges: the producer is to outlast the trouble.
        config.set("message.timeout.ms", "600000");
        for (key, value) in SETTINGS {
            config.set(key, value);
        }
        config.create_with_context(self.clone()).unwrap()
    }

    /// Records acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Sends numbered records, each to the partition of its number; returns how many.
    pub(super) fn send_until(&self, producer: &RecordedProducer, stop: &AtomicBool) -> usize {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let (value, partition) = (payload(number), partition(number));
            let log = LogIndex(u32::try_from(partition).unwrap());
            let values = vec![Value { client: SENDER, number }];
            let what = What::Send { log, values, base_offset: None };
            let op = Op { client: SENDER, invoked: self.now(), completed: None, outcome: Outcome::Info, what };
            let index = self.note(op);
            loop {
                let record: BaseRecord<'_, (), _, _> =
                    BaseRecord::with_opaque_to(TOPIC, Box::new(index)).partition(partition).payload(&value);
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        std::thread::sleep(PACE * 5)
                    }
                    Err((error, _)) => panic!("cannot queue record {number}: {error}"),
                }
            }
            number += 1;
            std::thread::sleep(PACE);
        }
        usize::try_from(number).unwrap()
    }

    /// Reads a partition from its beginning as it grows.
    pub(super) fn follow(&self, bootstrap: &str, partition: i32, stop: &AtomicBool) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", "tests").set("enable.auto.commit", "false");
        // An offset that is gone is to be told, not skipped.
        config.set("auto.offset.reset", "error");
        config.set("reconnect.backoff.ms", "5").set("reconnect.backoff.max.ms", "50");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut places = rdkafka::TopicPartitionList::new();
        places.add_partition_offset(TOPIC, partition, rdkafka::Offset::Offset(0)).unwrap();
        consumer.assign(&places).unwrap();
        let client = SENDER + 1 + u32::try_from(partition).unwrap();
        let mut from = 0;
        while !stop.load(Ordering::Relaxed) {
            let invoked = self.now();
            let records = self.poll(&consumer, partition);
            if let Some(last) = records.last() {
                let stands = last.offset + 1;
                self.note_poll(client, invoked, partition, from, records, stands);
                from = stands;
            }
        }
    }

    fn poll(&self, consumer: &BaseConsumer, partition: i32) -> Vec<Found> {
        let mut records = Vec::new();
        let mut wait = Duration::from_millis(100);
        while records.len() < POLL_RECORDS_MAX {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => records.push(self.found(&message, partition)),
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code();
                    if matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) {
                        self.strange(
                            "unexpected-error",
                            &format!("partition {partition}: a consumer was told {error}"),
                        );
                    }
                    // Passing trouble is told here, and tried again by the client.
                }
            }
            wait = Duration::ZERO;
        }
        records
    }

    fn found(&self, message: &BorrowedMessage<'_>, partition_read: i32) -> Found {
        let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        let number = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
        if number == u32::MAX || text != payload(number) || partition(number) != partition_read {
            let detail = format!("partition {partition_read} offset {}: {text:?} was never sent", message.offset());
            self.strange("served-bytes", &detail);
        }
        Found { offset: message.offset(), value: Value { client: SENDER, number } }
    }

    fn note_poll(&self, client: u32, invoked: u64, partition: i32, from: i64, records: Vec<Found>, stands: i64) {
        let log = LogIndex(u32::try_from(partition).unwrap());
        let what = What::Poll { log, from, records, stands, high_watermark: -1, last_stable: -1, log_start: -1 };
        self.note(Op { client, invoked, completed: Some(self.now()), outcome: Outcome::Ok, what });
    }

    /// When nobody writes any more: reads all of every partition.
    pub(super) fn audit(&self, bootstrap: &str) {
        for partition in 0..PARTITIONS {
            let (invoked, deadline) = (self.now(), Instant::now() + Duration::from_secs(120));
            let consumer = consumer(bootstrap, TOPIC, partition);
            let (start, end) = loop {
                match consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(5)) {
                    Ok(watermarks) => break watermarks,
                    Err(error) => assert!(Instant::now() < deadline, "partition {partition}: {error}"),
                }
            };
            let mut records: Vec<Found> = Vec::new();
            while records.last().map_or(start, |last| last.offset + 1) < end {
                assert!(Instant::now() < deadline, "partition {partition}: {} records up to {end}", records.len());
                records.extend(self.poll(&consumer, partition));
            }
            let log = LogIndex(u32::try_from(partition).unwrap());
            let what = What::Audit { log, start, end, records };
            self.note(Op { client: READER, invoked, completed: Some(self.now()), outcome: Outcome::Ok, what });
        }
    }

    /// What the checkers say of it, and that all of `sent` was acknowledged.
    pub(super) fn check(&self, sent: usize) {
        let history = self.history.lock().unwrap();
        let acknowledged = history.ops.iter().filter(|op| op.is_ok() && matches!(op.what, What::Send { .. })).count();
        let violations = quipu_hunt::check::check(&history, quipu_hunt::plan::Loss::None);
        let told: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
        assert!(told.is_empty(), "{} violations: {told:#?}", violations.len());
        assert_eq!(acknowledged, sent, "idempotent retries cover every failover");
        let audited: usize = history
            .ops
            .iter()
            .map(|op| if let What::Audit { records, .. } = &op.what { records.len() } else { 0 })
            .sum();
        assert_eq!(audited, sent, "as many records are there as were sent");
    }
}

fn payload(number: u32) -> String {
    format!("{number} {}", "x".repeat(number as usize % 400))
}

fn partition(number: u32) -> i32 {
    i32::try_from(number).unwrap() % PARTITIONS
}
