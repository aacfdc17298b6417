//! librdkafka of today, through the `rdkafka` crate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::subject::Subject;
use crate::text;

const LIMIT: Duration = Duration::from_secs(60);

/// The number given with a record, and at which offset it landed.
pub(crate) type Delivery = (usize, Result<i64, String>);

/// Notes each delivery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

impl Deliveries {
    /// All so far.
    pub(crate) fn all(&self) -> Vec<Delivery> {
        self.0.lock().unwrap().clone()
    }

    /// How many so far.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The numbers of the acknowledged records.
    pub(crate) fn acknowledged(&self) -> Vec<usize> {
        self.all().into_iter().filter(|(_, result)| result.is_ok()).map(|(number, _)| number).collect()
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let result = result.as_ref().map(|message| message.offset()).map_err(|(error, _)| error.to_string());
        self.0.lock().unwrap().push((*number, result));
    }
}

/// The producer of these tests.
pub(crate) type TestProducer = ThreadedProducer<Deliveries>;

/// An idempotent producer with acks=all, and its deliveries.
pub(crate) fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> (TestProducer, Deliveries) {
    let deliveries = Deliveries::default();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("acks", "all").set("enable.idempotence", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    (config.create_with_context(deliveries.clone()).unwrap(), deliveries)
}

/// A consumer of one partition from its beginning.
pub(crate) fn consumer(bootstrap: &str, topic: &str, partition: i32) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "tests").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&places).unwrap();
    consumer
}

#[test]
fn records_come_back_with_keys_headers_and_timestamps() {
    let subject = Subject::start("librdkafka");
    subject.topic("whole", 1);
    let (producer, deliveries) = producer(&subject.bootstrap(), &[]);
    let lines = text::lines(5000);
    for (number, line) in lines.iter().enumerate() {
        let key = format!("key {number}");
        let header = rdkafka::message::Header { key: "number", value: Some(&key) };
        let record = BaseRecord::with_opaque_to("whole", Box::new(number))
            .partition(0)
            .key(&key)
            .payload(line)
            .timestamp(1_700_000_000_000 + i64::try_from(number).unwrap())
            .headers(OwnedHeaders::new().insert(header));
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    let expected: Vec<_> = (0..5000).map(|number| (number, Ok(i64::try_from(number).unwrap()))).collect();
    assert_eq!(deliveries.all(), expected, "acknowledged in order, at dense offsets");

    let consumer = consumer(&subject.bootstrap(), "whole", 0);
    for (number, line) in lines.iter().enumerate() {
        let message = consumer.poll(LIMIT).expect("a record").unwrap();
        let key = format!("key {number}");
        assert_eq!(message.payload(), Some(line.as_bytes()));
        assert_eq!(message.key(), Some(key.as_bytes()));
        assert_eq!(message.timestamp().to_millis(), Some(1_700_000_000_000 + i64::try_from(number).unwrap()));
        let header = message.headers().unwrap().get(0);
        assert_eq!((header.key, header.value), ("number", Some(key.as_bytes())));
    }
    assert_eq!(consumer.fetch_watermarks("whole", 0, LIMIT).unwrap(), (0, 5000));
}

#[test]
fn a_waiting_consumer_gets_a_record_as_it_is_written() {
    let subject = Subject::start("librdkafka-tail");
    subject.topic("tail", 1);
    let consumer = consumer(&subject.bootstrap(), "tail", 0);
    let (producer, _) = producer(&subject.bootstrap(), &[("linger.ms", "0")]);
    for number in 0..50 {
        let value = format!("record {number}");
        let record: BaseRecord<'_, (), _, _> =
            BaseRecord::with_opaque_to("tail", Box::new(number)).partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        let message = consumer.poll(LIMIT).expect("a record").unwrap();
        assert_eq!(message.payload(), Some(value.as_bytes()));
    }
}

#[test]
fn one_connection_each_for_a_hundred_producers() {
    let subject = Subject::start("librdkafka-many");
    subject.topic("shared", 3);
    let bootstrap = subject.bootstrap();
    std::thread::scope(|scope| {
        for client in 0..100_usize {
            let bootstrap = bootstrap.as_str();
            scope.spawn(move || {
                let (producer, deliveries) = producer(bootstrap, &[]);
                for number in 0..20 {
                    let value = format!("{client} {number}");
                    let partition = i32::try_from(client % 3).unwrap();
                    let record: BaseRecord<'_, (), _, _> =
                        BaseRecord::with_opaque_to("shared", Box::new(number)).partition(partition).payload(&value);
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                }
                producer.flush(LIMIT).unwrap();
                assert_eq!(deliveries.acknowledged(), (0..20).collect::<Vec<_>>());
            });
        }
    });
    let mut wire = subject.wire();
    let ends: i64 = (0..3).map(|partition| wire.list_offset("shared", partition, -1).unwrap().1).sum();
    assert_eq!(ends, 2000);
}
