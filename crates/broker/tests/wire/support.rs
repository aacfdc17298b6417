//! A broker in a fresh directory and a client that speaks single requests, for tests of what the wire shows.

use std::{net::SocketAddr, path::PathBuf, sync::atomic::AtomicU32, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use quipu_base::{ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};
use quipu_broker::{Broker, Config, HostPort, Origin};
use quipu_env::{ConnectError, Env, Net, NetReader, NetWriter, Segment, WriteQueue};
use quipu_env_tokio::{Options, Runtime, TokioEnv};
use quipu_protocol::{
    ApiKey, Chunk, ErrorCode, Records, Request, RequestHeader, Response, Str, frame,
    messages::{
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData},
        produce::{PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData},
    },
};
use quipu_records::{Batch, BatchBuilder, Batches, NewRecord};

/// Runs `test` against a fresh broker with these settings of `[defaults]`.
pub(crate) fn with_broker<F, Fut>(defaults: &[(&str, &str)], test: F)
where
    F: FnOnce(Fixture) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let runtime = TokioEnv::start(Options { shards: 2 }).unwrap();
    let directory = Directory::new();
    let config = directory.config(defaults);
    let env = runtime.env();
    let started = env.clone();
    let broker = run(&runtime, async move { Broker::start(config, started).await.unwrap() });
    let fixture = Fixture { env, address: broker.address() };
    run(&runtime, test(fixture));
    run(&runtime, async move { broker.shutdown().await.unwrap() });
    runtime.shutdown();
}

/// Runs a future to its end, for at most a minute.
pub(crate) fn run<F>(runtime: &Runtime, future: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let env = runtime.env();
    runtime.block_on(async move {
        tokio::select! { biased;
            output = future => output,
            () = quipu_env::Clock::sleep(env.clock(), Duration::from_secs(60)) => panic!("the test hangs"),
        }
    })
}

/// A data directory that is removed when dropped.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("quipu-broker-test-{}-{number}", std::process::id()));
        Self(path)
    }

    pub(crate) fn config(&self, defaults: &[(&str, &str)]) -> Config {
        let mut config = Config {
            data_dir: self.0.clone(),
            listen: HostPort { host: "127.0.0.1".into(), port: 0 },
            ..Config::default()
        };
        for (name, value) in defaults {
            config.apply_default(name, value, Origin::Flag("test".into())).unwrap();
        }
        config
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It may never have been made.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running broker.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) env: TokioEnv,
    pub(crate) address: SocketAddr,
}

impl Fixture {
    pub(crate) async fn client(&self) -> Client<TokioEnv> {
        Client::connect(&self.env, self.address).await.unwrap()
    }

    /// Whether one more connection gets an answer; a refused one is reset, before or after it is seen to be made.
    pub(crate) async fn is_served(&self) -> bool {
        let Ok(mut client) = Client::connect(&self.env, self.address).await else { return false };
        let mut queue = WriteQueue::new();
        queue.push(Segment::Bytes(Bytes::from_static(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 5, 0, 0])));
        client.writer.write(&mut queue).await.is_ok() && client.receive_frame().await.is_some()
    }
}

/// One connection.
pub(crate) struct Client<E: Env> {
    reader: <E::Net as Net>::Reader,
    writer: <E::Net as Net>::Writer,
    buffer: BytesMut,
    correlation_id: i32,
}

impl<E: Env> Client<E> {
    pub(crate) async fn connect(env: &E, address: SocketAddr) -> Result<Self, ConnectError> {
        let (reader, writer) = env.net().connect(address, Duration::from_secs(5)).await?;
        Ok(Self { reader, writer, buffer: BytesMut::new(), correlation_id: 0 })
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let mut queue = WriteQueue::new();
        queue.push(Segment::Bytes(Bytes::copy_from_slice(bytes)));
        while !queue.is_empty() {
            self.writer.write(&mut queue).await.unwrap();
        }
    }

    pub(crate) async fn send(&mut self, version: i16, request: impl Into<Request>) -> (ApiKey, i16, i32) {
        let request = request.into();
        self.correlation_id += 1;
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id: self.correlation_id,
            client_id: Some("test".into()),
        };
        let mut bytes = BytesMut::new();
        for chunk in frame::encode_request(&mut BytesMut::new(), &header, &request).unwrap() {
            let Chunk::Bytes(chunk) = chunk else { panic!("a request has no holes") };
            bytes.extend_from_slice(&chunk);
        }
        self.send_bytes(&bytes).await;
        (header.api, version, header.correlation_id)
    }

    /// The next frame, without its length; none when the broker closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                let length = usize::try_from(i32::from_be_bytes(*prefix)).unwrap();
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Some(self.buffer.split_to(length).freeze());
                }
            }
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn receive(&mut self, (api, version, correlation_id): (ApiKey, i16, i32)) -> Response {
        let frame = self.receive_frame().await.expect("the broker closed the connection");
        let (answered, response) = frame::decode_response(frame, api, version).unwrap();
        assert_eq!(answered, correlation_id, "replies come in the order of the requests");
        response
    }

    pub(crate) async fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let sent = self.send(version, request).await;
        self.receive(sent).await
    }

    pub(crate) async fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) })
            .collect();
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let Response::CreateTopics(response) = self.call(7, request).await else { panic!() };
        let topic = &response.topics[0];
        assert_eq!(topic.error_code, ErrorCode::None.code(), "{:?}", topic.error_message);
        topic.topic_id
    }

    /// Produces one batch to partition 0 of a topic, with acks=all.
    pub(crate) async fn produce(&mut self, topic: &str, batch: Batch) -> PartitionProduceResponse {
        let Response::Produce(mut response) = self.call(9, produce_request(topic, 0, batch, -1)).await else {
            panic!()
        };
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Fetches from partition 0 of a topic without waiting.
    pub(crate) async fn fetch(&mut self, topic: &str, offset: i64) -> PartitionData {
        let Response::Fetch(mut response) = self.call(11, fetch_request(topic, offset, 0, 0)).await else { panic!() };
        response.responses.remove(0).partitions.remove(0)
    }
}

pub(crate) fn produce_request(topic: &str, partition: i32, batch: Batch, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(batch.into_bytes())),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn fetch_request(topic: &str, offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A batch of these values, with the wall clock's time.
pub(crate) fn batch(values: &[&str]) -> Batch {
    fill(BatchBuilder::new(), values, now())
}

#[expect(clippy::disallowed_types, reason = "a test on the real system knows its clock")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn fill(mut builder: BatchBuilder, values: &[&str], timestamp: Timestamp) -> Batch {
    for value in values {
        builder.push(&NewRecord { timestamp, key: None, value: Some(value.as_bytes()), headers: &[] }).unwrap();
    }
    builder.build().unwrap()
}

pub(crate) fn idempotent(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Batch {
    fill(BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence)), values, now())
}

/// Offsets and values of what was fetched.
pub(crate) fn records_of(data: &PartitionData) -> Vec<(i64, String)> {
    let bytes = data.records.clone().expect("records are never null").into_bytes().unwrap();
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        for record in batch.records(1 << 20).unwrap().iter() {
            let record = record.unwrap();
            found.push((record.offset.get(), String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    found
}

pub(crate) fn name(text: &str) -> Option<Str> {
    Some(text.into())
}
