//! What no healthy broker does: the client against a broker that answers as a test tells it to, in the simulated world.

use core::time::Duration;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use bytes::{Buf, Bytes, BytesMut};
use quipu_base::{ProducerEpoch, ProducerId, Sequence};
use quipu_client::*;
use quipu_env::{Clock, Listener, Net, NetReader, NetWriter, Segment, ShardId, WriteQueue};
use quipu_protocol::{
    ApiKey, Chunk, Records, Request, RequestError, Response, frame,
    messages::{
        api_versions::{ApiVersion, ApiVersionsResponse},
        fetch::{AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData},
        init_producer_id::InitProducerIdResponse,
        metadata::{MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult},
        produce::{PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse},
    },
};
use quipu_records::{Batch, BatchBuilder, NewRecord};
use quipu_sim::{NodeConfig, Sim, SimConfig, SimEnv, World};

use crate::suite;

const PORT: u16 = 9092;
const ID: TopicId = TopicId([7; 16]);

/// What the broker does with a request.
enum Answer {
    Reply(Response),
    /// Never anything.
    Silence,
    /// Nothing more is read, nor is the connection ended.
    Deaf,
    /// The connection ends.
    Close,
}

type Handler = Box<dyn FnMut(Request) -> Answer + Send>;

/// The broker's connections.
#[derive(Default)]
struct Connections {
    made: AtomicU32,
    open: AtomicU32,
}

/// Runs `test` against a broker that answers by `handler`; ApiVersions and, where the handler leaves it, nothing else by itself.
fn run<F>(
    handler: impl FnMut(Request) -> Answer + Send + 'static,
    test: impl FnOnce(Client<SimEnv>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    run_counting(handler, |client, _| test(client));
}

/// The same, for tests that look at the broker's connections.
fn run_counting<F>(
    handler: impl FnMut(Request) -> Answer + Send + 'static,
    test: impl FnOnce(Client<SimEnv>, Arc<Connections>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let scenario = move |world: World| async move {
        let broker = world.node("broker", NodeConfig::default());
        let clients = world.node("clients", NodeConfig::default());
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(Box::new(handler)));
        let connections = Arc::new(Connections::default());
        let counts = Arc::clone(&connections);
        let _broker = broker.start(move |env| listen(env, handler, counts));
        let work = clients.start(|env| async move {
            let config = ClientConfig {
                bootstrap: vec![BrokerAddress::new("broker", PORT)],
                request_timeout: Duration::from_secs(2),
                connection_idle_max: Duration::from_secs(20),
                ..Default::default()
            };
            test(Client::new(env, config).unwrap(), connections).await;
        });
        work.join().await.expect("nobody ends the clients");
    };
    drop(Sim::new(1, SimConfig::default()).run(scenario));
}

async fn listen(env: SimEnv, handler: Arc<Mutex<Handler>>, connections: Arc<Connections>) {
    use quipu_env::Env as _;
    let mut listener = env.net().bind(format!("0.0.0.0:{PORT}").parse().unwrap()).await.unwrap();
    while let Ok((reader, writer, _)) = listener.accept().await {
        let (handler, connections) = (Arc::clone(&handler), Arc::clone(&connections));
        let served = async move {
            connections.made.fetch_add(1, Ordering::Relaxed);
            connections.open.fetch_add(1, Ordering::Relaxed);
            serve(reader, writer, handler).await;
            connections.open.fetch_sub(1, Ordering::Relaxed);
        };
        drop(env.spawn(ShardId(0), "connection", served));
    }
}

async fn serve<R: NetReader, W: NetWriter>(mut reader: R, mut writer: W, handler: Arc<Mutex<Handler>>) {
    let mut buffer = BytesMut::new();
    loop {
        while buffer.len() >= 4 && buffer.len() - 4 >= (&buffer[..4]).get_u32() as usize {
            let length = buffer.get_u32() as usize;
            let frame = buffer.split_to(length).freeze();
            let (version, id, response) = match frame::decode_request(frame) {
                Ok((header, Request::ApiVersions(_))) => (header.version, header.correlation_id, Some(versions(0, 4))),
                Ok((header, request)) => {
                    let answer = handler.lock().unwrap()(request);
                    match answer {
                        Answer::Reply(response) => (header.version, header.correlation_id, Some(response)),
                        Answer::Silence => (0, 0, None),
                        Answer::Deaf => core::future::pending().await,
                        Answer::Close => return,
                    }
                }
                Err(RequestError::ApiVersions { correlation_id, .. }) => (0, correlation_id, Some(versions(35, 4))),
                Err(error) => panic!("{error}"),
            };
            let Some(response) = response else { continue };
            let mut queue = WriteQueue::new();
            for chunk in frame::encode_response(&mut BytesMut::new(), version, id, &response).unwrap() {
                let Chunk::Bytes(bytes) = chunk else { panic!("no holes") };
                queue.push(Segment::Bytes(bytes));
            }
            while !queue.is_empty() {
                if writer.write(&mut queue).await.is_err() {
                    return;
                }
            }
        }
        if !matches!(reader.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

fn versions(error_code: i16, max: i16) -> Response {
    let api = |api: &ApiKey| {
        let (min_version, max_version) = (api.served().min, api.served().max);
        let max_version = if *api == ApiKey::ApiVersions { max } else { max_version };
        ApiVersion { api_key: api.to_wire(), min_version, max_version }
    };
    ApiVersionsResponse { error_code, api_keys: ApiKey::ALL.iter().map(api).collect(), ..Default::default() }.into()
}

fn metadata(leader_epoch: i32) -> Answer {
    let partition = MetadataResponsePartition { leader_id: 1, leader_epoch, ..Default::default() };
    let topic = MetadataResponseTopic {
        name: Some("knots".into()),
        topic_id: ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let broker = MetadataResponseBroker { node_id: 1, host: "broker".into(), port: i32::from(PORT), rack: None };
    Answer::Reply(MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() }.into())
}

fn producer_id() -> Answer {
    Answer::Reply(InitProducerIdResponse { producer_id: 9, producer_epoch: 0, ..Default::default() }.into())
}

fn produced(code: ErrorCode, base_offset: i64) -> Answer {
    let answer = PartitionProduceResponse { error_code: code.code(), base_offset, ..Default::default() };
    let topic = TopicProduceResponse { topic_id: ID, name: "knots".into(), partition_responses: vec![answer] };
    Answer::Reply(ProduceResponse { responses: vec![topic], ..Default::default() }.into())
}

/// Epoch, first sequence and number of records of the only batch.
fn batch_of(request: ProduceRequest) -> (i16, i32, u32) {
    let data = request.topic_data.into_iter().next().unwrap().partition_data.into_iter().next().unwrap();
    let batch = Batch::parse_checked(data.records.unwrap().into_bytes().unwrap()).unwrap();
    let header = batch.header();
    assert_eq!(header.producer_id, ProducerId(9));
    (header.producer_epoch.0, header.base_sequence.0, u32::try_from(header.record_count).unwrap())
}

/// Epoch, first sequence and number of records of each batch that came.
type Seen = Arc<Mutex<Vec<(i16, i32, u32)>>>;

/// Answers produce requests one after the other, each as told; notes what was sent.
fn producing(answers: Vec<Answer>) -> (Seen, impl FnMut(Request) -> Answer + Send) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut answers = answers.into_iter();
    let notes = Arc::clone(&seen);
    let handler = move |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::InitProducerId(_) => producer_id(),
        Request::Produce(request) => {
            notes.lock().unwrap().push(batch_of(request));
            answers.next().expect("as many answers as batches")
        }
        other => panic!("unexpected {}", other.api()),
    };
    (seen, handler)
}

async fn send(producer: &Producer<SimEnv>, value: &'static str) -> Result<RecordMetadata, ProducerError> {
    producer.send_and_wait(ProducerRecord::new("knots", value)).await
}

#[test]
fn whatever_happens_to_a_batch_it_is_sent_again_as_it_was() {
    let (seen, handler) = producing(vec![
        produced(ErrorCode::NotLeaderOrFollower, -1),
        Answer::Close,
        Answer::Silence,
        produced(ErrorCode::NotEnoughReplicas, -1),
        produced(ErrorCode::DuplicateSequenceNumber, 40),
        produced(ErrorCode::None, 41),
    ]);
    run(handler, |client| async move {
        let producer = client.producer(ProducerConfig::default()).unwrap();
        assert_eq!(send(&producer, "a").await.unwrap().offset, Some(Offset(40)));
        assert_eq!(send(&producer, "b").await.unwrap().offset, Some(Offset(41)));
        producer.close().await;
    });
    let again = [(0, 0, 1); 5];
    assert_eq!(*seen.lock().unwrap(), [&again[..], &[(0, 1, 1)]].concat());
}

#[test]
fn a_broker_that_forgot_the_producer_sees_a_new_epoch() {
    let (seen, handler) = producing(vec![
        produced(ErrorCode::None, 0),
        produced(ErrorCode::OutOfOrderSequenceNumber, -1),
        produced(ErrorCode::None, 1),
        produced(ErrorCode::UnknownProducerId, -1),
        produced(ErrorCode::None, 2),
    ]);
    run(handler, |client| async move {
        let producer = client.producer(ProducerConfig::default()).unwrap();
        for offset in 0..3 {
            assert_eq!(send(&producer, "x").await.unwrap().offset, Some(Offset(offset)));
        }
        producer.close().await;
    });
    assert_eq!(*seen.lock().unwrap(), [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1), (2, 0, 1)]);
}

#[test]
fn what_may_be_there_is_not_sent_under_another_epoch() {
    let (seen, handler) = producing(vec![
        produced(ErrorCode::None, 0),
        Answer::Close,
        produced(ErrorCode::OutOfOrderSequenceNumber, -1),
        produced(ErrorCode::None, 1),
    ]);
    run(handler, |client| async move {
        let producer = client.producer(ProducerConfig::default()).unwrap();
        send(&producer, "a").await.unwrap();
        let error = send(&producer, "b").await.unwrap_err();
        assert_eq!((error.written, error.kind()), (Written::Unknown, ErrorKind::Retriable));
        assert!(matches!(error.cause, ClientError::Disconnected { sent: true, .. }), "{error}");
        send(&producer, "c").await.unwrap();
        producer.close().await;
    });
    assert_eq!(*seen.lock().unwrap(), [(0, 0, 1), (0, 1, 1), (0, 1, 1), (1, 0, 1)]);
}

/// What follows a batch that ran out of time is not refused for it, not even if its own first try is lost.
#[test]
fn behind_a_batch_of_unknown_fate_begins_an_epoch() {
    let (seen, handler) = producing(vec![
        produced(ErrorCode::None, 0),
        Answer::Silence,
        Answer::Silence,
        Answer::Close,
        produced(ErrorCode::None, 1),
    ]);
    run(handler, |client| async move {
        let config = ProducerConfig { delivery_timeout: Duration::from_secs(3), ..Default::default() };
        let producer = client.producer(config).unwrap();
        send(&producer, "a").await.unwrap();
        let error = send(&producer, "b").await.unwrap_err();
        assert_eq!(error.written, Written::Unknown);
        assert!(matches!(error.cause, ClientError::TimedOut { .. }), "{error}");
        assert_eq!(send(&producer, "c").await.unwrap().offset, Some(Offset(1)));
        producer.close().await;
    });
    assert_eq!(*seen.lock().unwrap(), [(0, 0, 1), (0, 1, 1), (0, 1, 1), (1, 0, 1), (1, 0, 1)]);
}

#[test]
fn rejections_are_told_as_such_and_rights_that_are_missing_end_the_producer() {
    let (_, handler) = producing(vec![produced(ErrorCode::InvalidRecord, -1), produced(ErrorCode::None, 0)]);
    run(handler, |client| async move {
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let error = send(&producer, "a").await.unwrap_err();
        assert_eq!((error.written, error.kind()), (Written::No, ErrorKind::Caller), "{error}");
        assert!(error.to_string().contains("knots-0"), "{error}");
        send(&producer, "b").await.unwrap();
    });
    let refusing = |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::InitProducerId(_) => {
            let error_code = ErrorCode::ClusterAuthorizationFailed.code();
            Answer::Reply(InitProducerIdResponse { error_code, ..Default::default() }.into())
        }
        other => panic!("unexpected {}", other.api()),
    };
    run(refusing, |client| async move {
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let error = send(&producer, "a").await.unwrap_err();
        assert_eq!((error.written, error.kind()), (Written::No, ErrorKind::Fatal), "{error}");
        let error = send(&producer, "b").await.unwrap_err();
        assert_eq!(error.cause.code(), Some(ErrorCode::ClusterAuthorizationFailed));
        producer.close().await;
    });
}

/// Memory that is used up is waited for no longer than was said; an end while everything is tried again takes no longer than a
/// delivery may.
#[test]
fn nobody_waits_longer_than_was_said() {
    let handler = |request| match request {
        Request::Metadata(_) => metadata(3),
        _ => Answer::Close,
    };
    run(handler, |client| async move {
        let config = ProducerConfig {
            memory_bytes: 2000,
            batch_bytes: 1000,
            send_timeout: Duration::from_secs(3),
            delivery_timeout: Duration::from_secs(10),
            ..Default::default()
        };
        let (producer, clock) = (client.producer(config).unwrap(), client.env().clock());
        let begun_at = clock.now();
        let taken = producer.send(ProducerRecord::new("knots", vec![7; 1500])).await.unwrap();
        let error = producer.send(ProducerRecord::new("knots", vec![7; 1500])).await.err().unwrap();
        assert!(matches!(error.cause, ClientError::TimedOut { .. }) && error.written == Written::No, "{error}");
        assert!(error.to_string().contains("memory_bytes"), "{error}");
        assert_eq!(clock.now().since(begun_at).as_secs(), 3);
        producer.close().await;
        assert_eq!(clock.now().since(begun_at).as_secs(), 10);
        assert_eq!(taken.await.unwrap_err().written, Written::No);
    });
}

/// Requests without a reply on a connection that takes nothing any more: each ends, and with them whoever waits for the end.
#[test]
fn without_acks_nothing_waits_for_a_broker_that_reads_no_more() {
    let handler = |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::Produce(_) => Answer::Deaf,
        other => panic!("unexpected {}", other.api()),
    };
    run(handler, |client| async move {
        let config = ProducerConfig {
            acks: Acks::None,
            idempotence: false,
            delivery_timeout: Duration::from_secs(10),
            ..Default::default()
        };
        let producer = client.producer(config).unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..200 {
            deliveries.push(producer.send(ProducerRecord::new("knots", vec![7; 10_000])).await.unwrap());
        }
        let clock = client.env().clock();
        let is_closed = tokio::select! { biased;
            () = producer.close() => true,
            () = clock.sleep(Duration::from_secs(30)) => false,
        };
        assert!(is_closed, "close waits for ever");
        let mut lost = 0;
        for delivery in deliveries {
            lost += u32::from(delivery.await.is_err_and(|error| error.written == Written::Unknown));
        }
        assert!((1..200).contains(&lost), "{lost} of 200 did not leave");
    });
}

#[test]
fn connections_without_use_end_and_are_made_anew() {
    let (_, handler) = producing(vec![produced(ErrorCode::None, 0), produced(ErrorCode::None, 1)]);
    run_counting(handler, |client, connections| async move {
        let clock = client.env().clock();
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let open = || connections.open.load(Ordering::Relaxed);
        send(&producer, "a").await.unwrap();
        clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(open(), 2, "one for metadata, one for the producer");
        clock.sleep(Duration::from_secs(11)).await;
        assert_eq!(open(), 0);
        assert_eq!(send(&producer, "b").await.unwrap().offset, Some(Offset(1)));
        assert_eq!(open(), 1);
        producer.close().await;
        drop((producer, client.clone()));
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(open(), 0);
    });
}

/// A broker that takes every connection and ends it at the first request is asked again and again, but not without pauses.
#[test]
fn connections_that_come_to_nothing_keep_pauses() {
    let mut has_told = false;
    let handler = move |request| match request {
        Request::Metadata(_) if !core::mem::replace(&mut has_told, true) => metadata(3),
        _ => Answer::Close,
    };
    run_counting(handler, |client, connections| async move {
        let config = ProducerConfig { delivery_timeout: Duration::from_secs(30), ..Default::default() };
        let producer = client.producer(config).unwrap();
        let (mut consumer, _) = consumer(&client, ConsumerConfig::default());
        let delivery = producer.send(ProducerRecord::new("knots", "a")).await.unwrap();
        assert_eq!(consumer.poll(Duration::from_secs(30)).await, Ok(vec![]));
        assert_eq!(delivery.await.unwrap_err().written, Written::No);
        // Four users of connections, each with a pause of 0.8 to 1.2 s between two of them, but for the first few.
        let made = connections.made.load(Ordering::Relaxed);
        assert!((40..4 * 45).contains(&made), "{made} connections in 30 s");
    });
}

/// Whoever wants a topic that is not there asks for it until its time is over, not as fast as answers come.
#[test]
fn a_topic_that_is_missing_is_asked_for_with_pauses() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let handler = move |request| match request {
        Request::Metadata(request) => {
            count.fetch_add(1, Ordering::Relaxed);
            let topics = request.topics.into_iter().flatten().map(|topic| MetadataResponseTopic {
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                name: topic.name,
                ..Default::default()
            });
            let broker =
                MetadataResponseBroker { node_id: 1, host: "broker".into(), port: i32::from(PORT), rack: None };
            let topics = topics.collect();
            Answer::Reply(MetadataResponse { brokers: vec![broker], topics, ..Default::default() }.into())
        }
        _ => producer_id(),
    };
    run(handler, |client| async move {
        let config = ProducerConfig { send_timeout: Duration::from_secs(10), ..Default::default() };
        let producer = client.producer(config).unwrap();
        let begun_at = client.env().clock().now();
        let sends = ["one", "two"].map(|topic| producer.send(ProducerRecord::new(topic, "a")));
        let [one, two] = sends;
        let (one, two) = tokio::join!(one, two);
        assert!(one.is_err() && two.is_err(), "they are not there");
        assert_eq!(client.env().clock().now().since(begun_at).as_secs(), 10);
        let asked = asked.load(Ordering::Relaxed);
        assert!((20..300).contains(&asked), "asked {asked} times in 10 s");
    });
}

#[test]
fn a_producer_that_is_dropped_says_what_is_not_known() {
    let (_, handler) = producing(vec![Answer::Silence]);
    run(handler, |client| async move {
        let producer = client.producer(ProducerConfig { linger: Duration::ZERO, ..Default::default() }).unwrap();
        let sent = producer.send(ProducerRecord::new("knots", "a")).await.unwrap();
        client.env().clock().sleep(Duration::from_millis(500)).await;
        let kept = producer.send(ProducerRecord::new("knots", "b")).await.unwrap();
        drop(producer);
        let (sent, kept) = (sent.await.unwrap_err(), kept.await.unwrap_err());
        assert_eq!((sent.written, kept.written), (Written::Unknown, Written::No));
        assert_eq!(kept.cause, ClientError::Closed);
    });
}

fn batch(base_offset: i64, leader_epoch: i32, value: &str) -> BatchBuilder {
    let mut builder = BatchBuilder::new().base_offset(Offset(base_offset)).leader_epoch(LeaderEpoch(leader_epoch));
    let value = Some(value.as_bytes());
    builder.push(&NewRecord { timestamp: Timestamp(1), key: None, value, headers: &[] }).unwrap();
    builder
}

fn fetched(request: &FetchRequest, data: PartitionData) -> Answer {
    let topic = FetchableTopicResponse {
        topic_id: request.topics[0].topic_id,
        topic: request.topics[0].topic.clone(),
        partitions: vec![data],
    };
    Answer::Reply(FetchResponse { responses: vec![topic], ..Default::default() }.into())
}

fn records(bytes: Bytes) -> PartitionData {
    PartitionData {
        high_watermark: 100,
        last_stable_offset: 100,
        aborted_transactions: None,
        records: Some(Records::from(bytes)),
        ..Default::default()
    }
}

/// A log that loses its end: led under epoch 3 up to offset 1, then under epoch 4 by a leader that has epoch 3 only up to `end`.
fn truncating(end: i64) -> impl FnMut(Request) -> Answer + Send {
    let mut epoch = 3;
    move |request| match request {
        Request::Metadata(_) => metadata(epoch),
        Request::Fetch(request) => {
            let wanted = &request.topics[0].partitions[0];
            if wanted.current_leader_epoch < epoch || wanted.fetch_offset > 1 && epoch == 3 {
                epoch = 4;
                let error_code = ErrorCode::FencedLeaderEpoch.code();
                return fetched(&request, PartitionData { error_code, ..Default::default() });
            }
            let bytes = match (wanted.fetch_offset, epoch) {
                (offset @ 0..=1, 3) => batch(offset, 3, "old").build().unwrap().into_bytes(),
                (offset, _) => batch(offset, 4, "new").build().unwrap().into_bytes(),
            };
            fetched(&request, records(bytes))
        }
        Request::OffsetForLeaderEpoch(request) => {
            let wanted = &request.topics[0].partitions[0];
            assert_eq!((wanted.leader_epoch, wanted.current_leader_epoch), (3, 4));
            let found = EpochEndOffset { leader_epoch: 3, end_offset: end, ..Default::default() };
            let topic = OffsetForLeaderTopicResult { topic: "knots".into(), partitions: vec![found] };
            Answer::Reply(OffsetForLeaderEpochResponse { topics: vec![topic], ..Default::default() }.into())
        }
        other => panic!("unexpected {}", other.api()),
    }
}

fn consumer(client: &Client<SimEnv>, config: ConsumerConfig) -> (Consumer<SimEnv>, TopicPartition) {
    let own = suite::partition("knots", 0);
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([(own.clone(), Position::Offset(Offset(0)))]);
    (consumer, own)
}

/// Values with their offsets, until there are `count`.
async fn values(consumer: &mut Consumer<SimEnv>, count: usize) -> Vec<(i64, Bytes)> {
    let mut found = Vec::new();
    while found.len() < count {
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        assert!(!records.is_empty(), "{found:?}");
        found.extend(records.into_iter().map(|record| (record.offset.0, record.value.unwrap())));
    }
    found.truncate(count);
    found
}

#[test]
fn a_log_that_was_truncated_is_told_with_the_place() {
    let config = || ConsumerConfig { poll_records_max: 1, prefetch_bytes: 0, ..Default::default() };
    run(truncating(1), move |client| async move {
        let (mut consumer, own) = consumer(&client, config());
        assert_eq!(values(&mut consumer, 2).await, [(0, "old".into()), (1, "old".into())]);
        let error = consumer.poll(Duration::from_secs(5)).await.unwrap_err();
        let diverging = Some(Offset(1));
        let expected = ConsumerError::TruncationDetected { partition: own.clone(), position: Offset(2), diverging };
        assert_eq!((error.kind(), &error), (ErrorKind::Caller, &expected));
        consumer.seek(&own, Position::Offset(Offset(1))).unwrap();
        assert_eq!(values(&mut consumer, 2).await, [(1, "new".into()), (2, "new".into())]);
    });
    run(truncating(1), move |client| async move {
        let (mut consumer, _) = consumer(&client, ConsumerConfig { offset_reset: OffsetReset::Start, ..config() });
        let expected = [(0, "old".into()), (1, "old".into()), (1, "new".into())];
        assert_eq!(values(&mut consumer, 3).await, expected);
    });
}

#[test]
fn a_new_leader_with_the_same_log_is_followed() {
    run(truncating(2), |client| async move {
        let (mut consumer, _) = consumer(&client, ConsumerConfig::default());
        assert_eq!(values(&mut consumer, 3).await, [(0, "old".into()), (1, "old".into()), (2, "new".into())]);
    });
}

#[test]
fn a_fetch_that_parts_is_truncation_as_well() {
    let handler = |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::Fetch(request) => {
            let wanted = &request.topics[0].partitions[0];
            let mut data = records(Bytes::new());
            match wanted.last_fetched_epoch {
                -1 => data.records = Some(Records::from(batch(0, 3, "old").build().unwrap().into_bytes())),
                _ => {
                    data.diverging_epoch.epoch = 2;
                    data.diverging_epoch.end_offset = 0;
                }
            }
            fetched(&request, data)
        }
        other => panic!("unexpected {}", other.api()),
    };
    run(handler, |client| async move {
        let (mut consumer, own) = consumer(&client, ConsumerConfig::default());
        assert_eq!(values(&mut consumer, 1).await, [(0, "old".into())]);
        let error = consumer.poll(Duration::from_secs(5)).await.unwrap_err();
        let diverging = Some(Offset(0));
        assert_eq!(error, ConsumerError::TruncationDetected { partition: own, position: Offset(1), diverging });
    });
}

#[test]
fn a_reader_of_committed_records_does_not_see_aborted_ones() {
    let handler = |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::Fetch(request) => {
            assert_eq!(request.isolation_level, 1);
            if request.topics[0].partitions[0].fetch_offset > 0 {
                return Answer::Silence;
            }
            let own = |builder: BatchBuilder| {
                let builder = builder.producer(ProducerId(5), ProducerEpoch(0), Sequence(0)).transactional();
                builder.build().unwrap().into_bytes()
            };
            let bytes = [own(batch(0, 3, "aborted")), batch(1, 3, "plain").build().unwrap().into_bytes()].concat();
            let aborted = AbortedTransaction { producer_id: 5, first_offset: 0 };
            fetched(&request, PartitionData { aborted_transactions: Some(vec![aborted]), ..records(bytes.into()) })
        }
        other => panic!("unexpected {}", other.api()),
    };
    run(handler, |client| async move {
        let config = ConsumerConfig { isolation: Isolation::ReadCommitted, ..Default::default() };
        let (mut consumer, own) = consumer(&client, config);
        assert_eq!(values(&mut consumer, 1).await, [(1, "plain".into())]);
        assert_eq!(consumer.position(&own), Ok(Some(Offset(2))));
    });
}

#[test]
fn a_damaged_batch_is_told_with_its_place_until_somebody_seeks() {
    let handler = |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::Fetch(request) => {
            let offset = request.topics[0].partitions[0].fetch_offset;
            let mut bytes = batch(offset, 3, "value").build().unwrap().into_bytes().to_vec();
            if offset == 1 {
                *bytes.last_mut().unwrap() ^= 1;
            }
            fetched(&request, records(bytes.into()))
        }
        other => panic!("unexpected {}", other.api()),
    };
    run(handler, |client| async move {
        let (mut consumer, own) = consumer(&client, ConsumerConfig::default());
        assert_eq!(values(&mut consumer, 1).await, [(0, "value".into())]);
        let error = consumer.poll(Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ConsumerError::Corrupt { position: Offset(1), .. }), "{error}");
        consumer.seek(&own, Position::Offset(Offset(2))).unwrap();
        assert_eq!(values(&mut consumer, 1).await, [(2, "value".into())]);
    });
}

#[test]
fn damage_that_only_the_broker_sees_is_told_after_some_tries() {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let handler = move |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::Fetch(request) => match request.topics[0].partitions[0].fetch_offset {
            1 => {
                counted.fetch_add(1, Ordering::Relaxed);
                let error_code = ErrorCode::CorruptMessage.code();
                fetched(&request, PartitionData { error_code, ..Default::default() })
            }
            offset => fetched(&request, records(batch(offset, 3, "value").build().unwrap().into_bytes())),
        },
        other => panic!("unexpected {}", other.api()),
    };
    run(handler, |client| async move {
        let (mut consumer, own) = consumer(&client, ConsumerConfig::default());
        assert_eq!(values(&mut consumer, 1).await, [(0, "value".into())]);
        let error = loop {
            match consumer.poll(Duration::from_secs(5)).await {
                Ok(records) => assert!(records.is_empty()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ConsumerError::Corrupt { position: Offset(1), .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Fatal);
        consumer.seek(&own, Position::Offset(Offset(2))).unwrap();
        assert_eq!(values(&mut consumer, 1).await, [(2, "value".into())]);
    });
    assert_eq!(tries.load(Ordering::Relaxed), 5);
}

#[test]
fn who_is_asked_for_a_pause_sends_nothing_meanwhile() {
    const PAUSE: Duration = Duration::from_secs(7);
    let mut answers = 0;
    let handler = move |request| match request {
        Request::Metadata(_) => metadata(3),
        Request::InitProducerId(_) => producer_id(),
        Request::Produce(_) => {
            answers += 1;
            let Answer::Reply(Response::Produce(mut response)) = produced(ErrorCode::None, answers - 1) else {
                unreachable!("it is one")
            };
            if answers == 1 {
                response.throttle_time_ms = i32::try_from(PAUSE.as_millis()).unwrap();
            }
            Answer::Reply(response.into())
        }
        other => panic!("unexpected {}", other.api()),
    };
    run(handler, |client| async move {
        let producer = client.producer(ProducerConfig { linger: Duration::ZERO, ..Default::default() }).unwrap();
        let clock = client.env().clock();
        send(&producer, "a").await.unwrap();
        let asked_at = clock.now();
        assert_eq!(send(&producer, "b").await.unwrap().offset, Some(Offset(1)));
        let waited = clock.now().since(asked_at);
        assert!(waited >= PAUSE - Duration::from_millis(10) && waited < PAUSE + Duration::from_secs(1), "{waited:?}");
        // It was a pause, not a habit.
        let asked_at = clock.now();
        assert_eq!(send(&producer, "c").await.unwrap().offset, Some(Offset(2)));
        assert!(clock.now().since(asked_at) < Duration::from_secs(1));
        producer.close().await;
    });
}
