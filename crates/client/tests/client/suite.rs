//! What must hold on every broker and in every world: each scenario makes topics of its own, so that all can run at once.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use quipu_client::*;
use quipu_env::Clock;
use rand::RngExt;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// So that groups of few members need not wait, and notice soon: Kafka's own names.
pub(crate) const GROUP_SETTINGS: [(&str, &str); 3] = [
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "100"),
];

pub(crate) fn partition(topic: &str, index: i32) -> TopicPartition {
    TopicPartition::new(topic, PartitionIndex(index))
}

pub(crate) async fn create<E: Env>(client: &Client<E>, topic: NewTopic) {
    let name = topic.name.clone();
    let mut created = client.admin().create_topics(vec![topic], false).await;
    created.remove(0).1.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Reads until `count` records came.
pub(crate) async fn read<E: Env>(consumer: &mut Consumer<E>, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = consumer.poll(PATIENCE).await.unwrap();
        assert!(!more.is_empty(), "{} of {count} records came", records.len());
        records.extend(more);
    }
    assert_eq!(records.len(), count);
    records
}

async fn values<E: Env>(client: &Client<E>, topic: &str, partitions: i32, count: usize) -> Vec<ConsumerRecord> {
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign((0..partitions).map(|index| (partition(topic, index), Position::Start)));
    read(&mut consumer, count).await
}

/// Every codec: keys choose partitions, records come back as they were sent, in order, each once.
pub(crate) async fn every_codec<E: Env>(client: &Client<E>) {
    for codec in Codec::ALL {
        let topic = format!("codec-{}", codec.name());
        create(client, NewTopic::new(&topic, 3)).await;
        let config = ProducerConfig { compression: codec, batch_bytes: 2000, ..Default::default() };
        let producer = client.producer(config).unwrap();
        let mut deliveries = Vec::new();
        for number in 0..400 {
            let key = format!("key {}", number % 17);
            let mut record = ProducerRecord::new(&*topic, format!("value {number} {}", "x".repeat(number % 50)));
            record.key = Some(key.into());
            record.headers =
                vec![Header::new("number", number.to_string()), Header { key: "none".into(), value: None }];
            record.timestamp = Some(Timestamp(1_700_000_000_000 + i64::try_from(number).unwrap()));
            deliveries.push(producer.send(record).await.unwrap());
        }
        let tombstone = ProducerRecord { value: None, ..ProducerRecord::new(&*topic, "").with_key("key 3") };
        deliveries.push(producer.send(tombstone).await.unwrap());
        producer.flush().await;
        let mut expected: BTreeMap<(i32, i64), usize> = BTreeMap::new();
        for (number, delivery) in deliveries.into_iter().enumerate() {
            let landed = delivery.await.unwrap();
            let key = format!("key {}", if number == 400 { 3 } else { number % 17 });
            assert_eq!(landed.partition, partition_for_key(key.as_bytes(), 3));
            assert_eq!(expected.insert((landed.partition.0, landed.offset.unwrap().0), number), None);
        }
        producer.close().await;
        let mut last = BTreeMap::new();
        for record in values(client, &topic, 3, 401).await {
            let number = expected[&(record.partition.0, record.offset.0)];
            assert!(last.insert(record.partition, number).is_none_or(|before| before < number), "{topic}: order");
            if number == 400 {
                assert_eq!((record.value, record.key), (None, Some("key 3".into())));
                continue;
            }
            let value = format!("value {number} {}", "x".repeat(number % 50));
            assert_eq!(record.value, Some(Bytes::from(value)), "{topic}");
            assert_eq!(record.headers[0], Header::new("number", number.to_string()));
            assert_eq!(record.headers[1], Header { key: "none".into(), value: None });
            assert_eq!(record.timestamp.0, 1_700_000_000_000 + i64::try_from(number).unwrap());
            assert_eq!(record.timestamp_type, TimestampType::CreateTime);
        }
    }
}

/// Acks 0 and 1, with and without idempotence, and records without a key.
pub(crate) async fn every_acks<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("acks", 2)).await;
    // Acks 0 comes last: a new topic's leader may not be there yet, and it would be told to nobody.
    let settings = [(Acks::All, true), (Acks::All, false), (Acks::Leader, false), (Acks::None, false)];
    for (acks, idempotence) in settings {
        let config = ProducerConfig { acks, idempotence, linger: Duration::ZERO, ..Default::default() };
        let producer = client.producer(config).unwrap();
        for number in 0..50 {
            let record = ProducerRecord::new("acks", format!("{acks:?} {idempotence} {number}"));
            let landed = producer.send_and_wait(record).await.unwrap();
            assert_eq!(landed.offset.is_some(), acks != Acks::None);
        }
        producer.close().await;
        let error = producer.send(ProducerRecord::new("acks", "late")).await.err().unwrap();
        assert_eq!((error.written, error.cause), (Written::No, ClientError::Closed));
    }
    let mut found: Vec<Bytes> = values(client, "acks", 2, 200).await.into_iter().filter_map(|r| r.value).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 200);
}

/// Seek, position, lag, pause, ends, times.
pub(crate) async fn positions<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("positions", 2)).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let own = partition("positions", 1);
    for number in 0..100 {
        let mut record = ProducerRecord::new("positions", number.to_string()).with_partition(own.partition);
        record.timestamp = Some(Timestamp(1_700_000_000_000 + number * 1000));
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let mut consumer = client.consumer(ConsumerConfig { poll_records_max: 7, ..Default::default() }).unwrap();
    consumer.assign([(own.clone(), Position::Offset(Offset(40)))]);
    let first = consumer.poll(PATIENCE).await.unwrap();
    assert_eq!((first.len(), first[0].offset), (7, Offset(40)));
    assert_eq!(consumer.position(&own), Ok(Some(Offset(47))));
    assert_eq!(consumer.lag(&own), Ok(Some(53)));
    let epoch = first[6].leader_epoch.unwrap();
    consumer.seek(&own, Position::OffsetAndEpoch(Offset(47), epoch)).unwrap();
    assert_eq!(consumer.poll(PATIENCE).await.unwrap()[0].offset, Offset(47));
    for (position, offset) in [
        (Position::Start, 0),
        (Position::Timestamp(Timestamp(1_700_000_000_000 + 63_500)), 64),
        (Position::Offset(Offset(99)), 99),
    ] {
        consumer.seek(&own, position).unwrap();
        assert_eq!(consumer.poll(PATIENCE).await.unwrap()[0].offset, Offset(offset), "{position:?}");
    }
    consumer.seek(&own, Position::End).unwrap();
    while consumer.position(&own).unwrap().is_none() {
        assert_eq!(consumer.poll(Duration::from_millis(10)).await.unwrap(), []);
    }
    let late = ProducerRecord::new("positions", "late").with_partition(own.partition);
    drop(producer.send(late).await.unwrap());
    assert_eq!(read(&mut consumer, 1).await[0].offset, Offset(100));
    consumer.seek(&own, Position::Start).unwrap();
    consumer.pause(&own).unwrap();
    assert_eq!(consumer.poll(Duration::from_millis(200)).await.unwrap(), []);
    consumer.resume(&own).unwrap();
    assert_eq!(consumer.poll(PATIENCE).await.unwrap()[0].offset, Offset(0));
    let both = [own.clone(), partition("positions", 0)];
    assert_eq!(consumer.beginning_offsets(&both).await, Ok(vec![Offset(0), Offset(0)]));
    assert_eq!(consumer.end_offsets(&both).await, Ok(vec![Offset(101), Offset(0)]));
    let times = both.map(|partition| (partition, Timestamp(1_700_000_000_000 + 98_001)));
    assert_eq!(consumer.offsets_for_times(&times).await, Ok(vec![Some(Offset(99)), None]));
    assert!(consumer.remove(&own) && !consumer.remove(&own));
    assert_eq!(consumer.position(&own), Err(ConsumerError::NotAssigned(own)));
    producer.close().await;
}

/// A fetch that waits for one partition keeps nobody waiting for another: not one that was added, resumed or sought meanwhile, nor
/// one of which little may lie ahead.
pub(crate) async fn nobody_waits_for_another<E: Env>(client: &Client<E>) {
    const WAIT: Duration = Duration::from_secs(20);
    create(client, NewTopic::new("waits", 3)).await;
    let [idle, busy, other] = [0, 1, 2].map(|index| partition("waits", index));
    let producer = client.producer(ProducerConfig { batch_bytes: 1000, ..Default::default() }).unwrap();
    for number in 0..200 {
        for partition in [&busy, &other] {
            let value = format!("{number} {}", "w".repeat(300));
            drop(producer.send(ProducerRecord::new("waits", value).with_partition(partition.partition)).await.unwrap());
        }
    }
    producer.flush().await;
    let config = ConsumerConfig {
        fetch_wait_max: WAIT,
        prefetch_bytes: 2000,
        partition_bytes_max: 3000,
        poll_records_max: 3,
        ..Default::default()
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([(idle.clone(), Position::Start)]);
    assert_eq!(consumer.poll(Duration::from_millis(300)).await.unwrap(), []);
    let clock = client.env().clock();
    let begun_at = clock.now();
    consumer.add(busy.clone(), Position::Start);
    let offsets = |records: Vec<ConsumerRecord>| records.into_iter().map(|record| record.offset.0).collect::<Vec<_>>();
    assert_eq!(offsets(read(&mut consumer, 200).await), (0..200).collect::<Vec<_>>());
    // It has nothing more, and waits as well; a third one comes, and the second is read once more.
    assert_eq!(consumer.poll(Duration::from_millis(300)).await.unwrap(), []);
    consumer.add(other.clone(), Position::Start);
    assert_eq!(offsets(read(&mut consumer, 200).await), (0..200).collect::<Vec<_>>());
    consumer.seek(&busy, Position::Offset(Offset(198))).unwrap();
    assert_eq!(offsets(read(&mut consumer, 2).await), [198, 199]);
    consumer.pause(&busy).unwrap();
    consumer.seek(&busy, Position::Start).unwrap();
    assert_eq!(consumer.poll(Duration::from_millis(300)).await.unwrap(), []);
    consumer.resume(&busy).unwrap();
    assert_eq!(offsets(read(&mut consumer, 200).await), (0..200).collect::<Vec<_>>());
    // What the fetch waits for comes at once.
    producer.send_and_wait(ProducerRecord::new("waits", "new").with_partition(idle.partition)).await.unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].partition, idle.partition);
    let taken = clock.now().since(begun_at);
    assert!(taken < WAIT, "{taken:?}");
    producer.close().await;
}

/// What is the caller's fault is told at once, and so is a position that is not in the log.
pub(crate) async fn callers_faults<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("faults", 1)).await;
    let config = ProducerConfig {
        send_timeout: Duration::from_millis(700),
        request_bytes_max: 10_000,
        batch_bytes: 5_000,
        ..Default::default()
    };
    let producer = client.producer(config).unwrap();
    let refused = |record| async { producer.send(record).await.err().unwrap() };
    let too_large = refused(ProducerRecord::new("faults", vec![0; 20_000])).await;
    assert_eq!((too_large.kind(), too_large.written), (ErrorKind::Caller, Written::No));
    let nowhere = refused(ProducerRecord::new("faults", "x").with_partition(PartitionIndex(7))).await;
    assert_eq!(nowhere.kind(), ErrorKind::Caller, "{nowhere}");
    let unknown = refused(ProducerRecord::new("no-such-topic", "x")).await;
    assert!(matches!(unknown.cause, ClientError::TimedOut { .. }), "{unknown}");
    assert!(unknown.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{unknown}");
    let invalid = refused(ProducerRecord::new("no/topic", "x")).await;
    assert_eq!(invalid.cause.code(), Some(ErrorCode::InvalidTopicException));
    let good = producer.send_and_wait(ProducerRecord::new("faults", "x")).await.unwrap();
    assert_eq!(good.offset, Some(Offset(0)));
    let admin = client.admin();
    let again = admin.create_topics(vec![NewTopic::new("faults", 1)], false).await.remove(0).1.unwrap_err();
    assert_eq!((again.code(), again.kind()), (Some(ErrorCode::TopicAlreadyExists), ErrorKind::Caller));
    let own = partition("faults", 0);
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign([(own.clone(), Position::Offset(Offset(77)))]);
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error, ConsumerError::OffsetOutOfRange { partition: own.clone(), position: Offset(77) });
    assert_eq!(consumer.poll(Duration::from_millis(1)).await, Err(error), "told again while there is nothing else");
    consumer.seek(&own, Position::Start).unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].offset, Offset(0));
    let config = ConsumerConfig { offset_reset: OffsetReset::Start, ..Default::default() };
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([(own, Position::Offset(Offset(77)))]);
    assert_eq!(read(&mut consumer, 1).await[0].offset, Offset(0));
}

/// A batch that the topic does not take whole is cut, as often as it takes; a record that does not fit alone is refused.
pub(crate) async fn large_batches<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("large", 1).with_config("max.message.bytes", "1000")).await;
    let config = ProducerConfig { batch_bytes: 20_000, linger: Duration::from_millis(100), ..Default::default() };
    let producer = client.producer(config).unwrap();
    let mut deliveries = Vec::new();
    for number in 0..60 {
        let record = ProducerRecord::new("large", format!("{number} {}", "y".repeat(250)));
        deliveries.push(producer.send(record).await.unwrap());
    }
    for (number, delivery) in (0..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(Offset(number)));
    }
    let alone = producer.send_and_wait(ProducerRecord::new("large", vec![0; 3000])).await.unwrap_err();
    assert_eq!((alone.cause.code(), alone.written), (Some(ErrorCode::MessageTooLarge), Written::No));
    // It left no gap.
    assert_eq!(producer.send_and_wait(ProducerRecord::new("large", "z")).await.unwrap().offset, Some(Offset(60)));
    producer.close().await;
}

/// Batches that are compressed and decompressed elsewhere keep their order and their contents, among small ones.
pub(crate) async fn compressed_elsewhere<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("elsewhere", 2)).await;
    let mut rng = client.env().rng("suite");
    let value = |number: u32, noise: &[u8]| Bytes::from([&number.to_be_bytes(), noise].concat());
    // Some large as they are, some only once one looks into them, some small.
    let noise: Vec<Vec<u8>> = (0..60)
        .map(|number| match number % 6 {
            0 | 1 => (0..40_000).map(|_| rng.random()).collect(),
            2 => vec![7; 300_000],
            _ => vec![7; 10],
        })
        .collect();
    for compression in [Codec::Gzip, Codec::Zstd] {
        let config = ProducerConfig { compression, batch_bytes: 100_000, ..Default::default() };
        let producer = client.producer(config).unwrap();
        let mut deliveries = Vec::new();
        for (number, noise) in (0..).zip(&noise) {
            let at = PartitionIndex(i32::from(number % 4 == 0));
            let record = ProducerRecord { value: Some(value(number, noise)), ..ProducerRecord::new("elsewhere", "") };
            deliveries.push(producer.send(record.with_partition(at)).await.unwrap());
        }
        producer.flush().await;
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        producer.close().await;
    }
    let mut last: BTreeMap<PartitionIndex, Vec<u32>> = BTreeMap::new();
    for record in values(client, "elsewhere", 2, 120).await {
        let found = record.value.unwrap();
        let number = u32::from_be_bytes(*found.first_chunk().unwrap());
        assert_eq!(found, value(number, &noise[usize::try_from(number).unwrap()]));
        last.entry(record.partition).or_default().push(number);
    }
    for numbers in last.into_values() {
        let (first, second) = numbers.split_at(numbers.len() / 2);
        assert!(first.is_sorted() && first == second, "{numbers:?}");
    }
}

/// A topic that is deleted and made again is another one: the producer goes on with it, and the consumer is told, or begins anew.
pub(crate) async fn made_anew<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("anew", 1)).await;
    let (own, admin) = (partition("anew", 0), client.admin());
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let config = |offset_reset| ConsumerConfig { offset_reset, ..Default::default() };
    let mut strict = client.consumer(config(OffsetReset::Error)).unwrap();
    let mut lenient = client.consumer(config(OffsetReset::Start)).unwrap();
    for number in 0..3 {
        producer.send_and_wait(ProducerRecord::new("anew", format!("old {number}"))).await.unwrap();
    }
    for consumer in [&mut strict, &mut lenient] {
        consumer.assign([(own.clone(), Position::Start)]);
        read(consumer, 3).await;
    }
    admin.delete_topics(vec!["anew".into()]).await.remove(0).1.unwrap();
    // Apache Kafka takes a moment to forget the name.
    let clock = client.env().clock();
    let deadline = clock.now() + PATIENCE;
    while let Err(error) = admin.create_topics(vec![NewTopic::new("anew", 1)], false).await.remove(0).1 {
        assert!(error.code() == Some(ErrorCode::TopicAlreadyExists) && clock.now() < deadline, "{error}");
        clock.sleep(Duration::from_millis(20)).await;
    }
    for number in 0..5 {
        let landed = producer.send_and_wait(ProducerRecord::new("anew", format!("new {number}"))).await.unwrap();
        assert_eq!(landed.offset, Some(Offset(number)));
    }
    let values: Vec<_> = read(&mut lenient, 5).await.into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, ["new 0", "new 1", "new 2", "new 3", "new 4"]);
    let error = loop {
        match strict.poll(PATIENCE).await {
            Ok(records) => assert_eq!(records, []),
            Err(error) => break error,
        }
    };
    let diverging = Some(Offset(0));
    let expected = ConsumerError::TruncationDetected { partition: own.clone(), position: Offset(3), diverging };
    assert_eq!(error, expected);
    strict.seek(&own, Position::Start).unwrap();
    assert_eq!(read(&mut strict, 5).await[0].value, Some("new 0".into()));
    producer.close().await;
}

/// Records that are deleted under a consumer: it gives what it has, and then tells, or goes on at what is left.
pub(crate) async fn deleted_records<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("deleted", 1)).await;
    let own = partition("deleted", 0);
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let config = |offset_reset| ConsumerConfig {
        offset_reset,
        poll_records_max: 1,
        partition_bytes_max: 1,
        prefetch_bytes: 100,
        ..Default::default()
    };
    for number in 0..20 {
        producer.send_and_wait(ProducerRecord::new("deleted", format!("{number}"))).await.unwrap();
    }
    let mut strict = client.consumer(config(OffsetReset::Error)).unwrap();
    let mut lenient = client.consumer(config(OffsetReset::Start)).unwrap();
    for consumer in [&mut strict, &mut lenient] {
        consumer.assign([(own.clone(), Position::Start)]);
        assert_eq!(consumer.poll(PATIENCE).await.unwrap()[0].offset, Offset(0));
    }
    let deleted = client.admin().delete_records(vec![(own.clone(), Some(Offset(18)))]).await.remove(0).1;
    assert_eq!(deleted, Ok(Offset(18)));
    let mut offsets = Vec::new();
    while offsets.last() != Some(&19) {
        offsets.extend(lenient.poll(PATIENCE).await.unwrap().into_iter().map(|record| record.offset.0));
    }
    assert!(offsets.ends_with(&[18, 19]) && offsets.is_sorted() && offsets.len() < 19, "{offsets:?}");
    let mut next = 1;
    let position = loop {
        match strict.poll(PATIENCE).await {
            Ok(records) => {
                assert_eq!(records[0].offset, Offset(next));
                next += 1;
            }
            Err(ConsumerError::OffsetOutOfRange { position, .. }) => break position,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((position, strict.position(&own)), (Offset(next), Ok(Some(Offset(next)))));
    strict.seek(&own, Position::Start).unwrap();
    assert_eq!(strict.poll(PATIENCE).await.unwrap()[0].offset, Offset(18));
    producer.close().await;
}

/// Little memory: who sends waits, and all of it arrives.
pub(crate) async fn little_memory<E: Env>(client: &Client<E>) {
    create(client, NewTopic::new("memory", 2)).await;
    let config = ProducerConfig { memory_bytes: 4000, batch_bytes: 1000, linger: PATIENCE, ..Default::default() };
    let producer = client.producer(config).unwrap();
    for number in 0..100 {
        let record = ProducerRecord::new("memory", format!("{number} {}", "m".repeat(300)));
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await;
    assert_eq!(values(client, "memory", 2, 100).await.len(), 100);
}

/// Every API of the admin. `is_kafka`: what only Apache Kafka has.
pub(crate) async fn admin<E: Env>(client: &Client<E>, is_kafka: bool) {
    let admin = client.admin();
    let cluster = admin.describe_cluster().await.unwrap();
    let (broker, described) = cluster.brokers.first_key_value().unwrap();
    assert!(cluster.id.is_some() && cluster.controller.is_some() && described.address.port != 0);
    let validated = admin.create_topics(vec![NewTopic::new("admin", 2)], true).await;
    assert!(validated[0].1.is_ok());
    create(client, NewTopic::new("admin", 2).with_config("segment.ms", "3600000")).await;
    let topics = admin.describe_topics(vec!["admin".into(), "missing".into()]).await;
    let topic = topics[0].1.clone().unwrap();
    assert_eq!((topic.partitions.len(), topic.partitions[1].replicas.len()), (2, 1));
    assert_eq!(topic.partitions[0].leader, Some(*broker));
    assert_eq!(topics[1].1.as_ref().unwrap_err().code(), Some(ErrorCode::UnknownTopicOrPartition));
    let grow = NewPartitions { topic: "admin".into(), count: 3, assignments: None };
    admin.create_partitions(vec![grow], false).await.remove(0).1.unwrap();
    let paged = admin.describe_topic_partitions(&["admin"]).await.unwrap();
    assert_eq!((paged[0].id, paged[0].partitions.len()), (topic.id, 3));
    assert!(admin.list_topics().await.unwrap().iter().any(|listed| *listed.name == *"admin"));
    configs(client, *broker).await;
    records(client).await;
    let directories = admin.describe_log_dirs(vec![*broker]).await.remove(0).1.unwrap();
    let partitions = directories[0].partitions.as_ref().unwrap();
    assert!(partitions.contains_key(&partition("admin", 2)));
    let identity = admin.init_producer_id(None).await.unwrap();
    assert!(identity.id.0 >= 0 && admin.init_producer_id(None).await.unwrap().id != identity.id);
    if is_kafka {
        assert_eq!(admin.find_coordinator(CoordinatorKind::Group, "g").await.unwrap().id, *broker);
    }
    admin.delete_topics(vec![topic.id.into()]).await.remove(0).1.unwrap();
    let gone = admin.delete_topics(vec!["admin".into()]).await.remove(0).1.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

async fn configs<E: Env>(client: &Client<E>, broker: BrokerId) {
    let (admin, clock) = (client.admin(), client.env().clock());
    let own = ConfigResource::Topic("admin".into());
    let value = async |name: &str| {
        let described = admin.describe_configs(vec![own.clone()], true).await.remove(0).1.unwrap();
        let entry = described.into_iter().find(|entry| entry.name == name).unwrap();
        (entry.value.unwrap(), entry.source)
    };
    // Apache Kafka's brokers hear of a change a moment after it was answered.
    let becomes = async |name: &str, wanted: Option<&str>| {
        let deadline = clock.now() + PATIENCE;
        loop {
            let (found, source) = value(name).await;
            let is_own = source == ConfigSource::Topic;
            if wanted.map_or(!is_own, |wanted| is_own && found == wanted) {
                return;
            }
            assert!(clock.now() < deadline, "{name}: {found} of {source:?}, not {wanted:?}");
            clock.sleep(Duration::from_millis(20)).await;
        }
    };
    becomes("segment.ms", Some("3600000")).await;
    let operations = vec![
        ("segment.ms".to_owned(), ConfigOperation::Delete),
        ("segment.bytes".to_owned(), ConfigOperation::Set("2000000".into())),
    ];
    let change = ConfigChange { resource: own.clone(), operations };
    admin.alter_configs(vec![change], false).await.remove(0).1.unwrap();
    becomes("segment.ms", None).await;
    becomes("segment.bytes", Some("2000000")).await;
    let all = vec![("max.message.bytes".to_owned(), "1000000".to_owned())];
    admin.replace_configs(vec![(own.clone(), all)], false).await.remove(0).1.unwrap();
    becomes("max.message.bytes", Some("1000000")).await;
    becomes("segment.bytes", None).await;
    let bad = ConfigChange {
        resource: own.clone(),
        operations: vec![("segment.bytes".to_owned(), ConfigOperation::Set("many".into()))],
    };
    let error = admin.alter_configs(vec![bad], false).await.remove(0).1.unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some(ErrorCode::InvalidConfig), ErrorKind::Caller));
    let of_broker = admin.describe_configs(vec![ConfigResource::Broker(broker)], false).await.remove(0).1.unwrap();
    assert!(!of_broker.is_empty());
    assert!(admin.list_config_resources().await.unwrap().contains(&own));
}

async fn records<E: Env>(client: &Client<E>) {
    let (admin, own) = (client.admin(), partition("admin", 0));
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for number in 0..10 {
        let mut record = ProducerRecord::new("admin", number.to_string()).with_partition(own.partition);
        record.timestamp = Some(Timestamp(1_700_000_000_000 + number));
        producer.send_and_wait(record).await.unwrap();
    }
    let deleted = admin.delete_records(vec![(own.clone(), Some(Offset(4)))]).await.remove(0).1;
    assert_eq!(deleted, Ok(Offset(4)));
    let error = admin.delete_records(vec![(own.clone(), Some(Offset(40)))]).await.remove(0).1.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    let list = async |spec| {
        let listed = admin.list_offsets(vec![(own.clone(), spec)], Isolation::ReadUncommitted).await;
        listed.into_iter().next().unwrap().1.unwrap().offset
    };
    assert_eq!(list(OffsetSpec::Earliest).await, Some(Offset(4)));
    assert_eq!(list(OffsetSpec::Latest).await, Some(Offset(10)));
    assert_eq!(list(OffsetSpec::MaxTimestamp).await, Some(Offset(9)));
    assert_eq!(list(OffsetSpec::EarliestLocal).await, Some(Offset(4)));
    assert_eq!(list(OffsetSpec::LatestTiered).await, None);
    assert_eq!(list(OffsetSpec::Timestamp(Timestamp(1_700_000_000_007))).await, Some(Offset(7)));
    assert_eq!(list(OffsetSpec::Timestamp(Timestamp(1_800_000_000_000))).await, None);
    let topic = admin.describe_topics(vec!["admin".into()]).await.remove(0).1.unwrap();
    let epoch = topic.partitions[0].leader_epoch;
    let ends = admin.offsets_for_leader_epochs(vec![(own.clone(), epoch)]).await.remove(0).1.unwrap();
    assert_eq!((ends.leader_epoch, ends.end_offset), (Some(epoch), Some(Offset(10))));
    let all = admin.delete_records(vec![(own, None)]).await.remove(0).1;
    assert_eq!(all, Ok(Offset(10)));
    producer.close().await;
}

/// Everything, one after the other.
pub(crate) async fn all<E: Env>(client: &Client<E>, is_kafka: bool) {
    every_codec(client).await;
    every_acks(client).await;
    positions(client).await;
    nobody_waits_for_another(client).await;
    callers_faults(client).await;
    large_batches(client).await;
    little_memory(client).await;
    compressed_elsewhere(client).await;
    made_anew(client).await;
    deleted_records(client).await;
    admin(client, is_kafka).await;
}
