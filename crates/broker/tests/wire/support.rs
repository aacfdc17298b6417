//! A broker in a fresh directory and a client that speaks single requests, for tests of what the wire shows: the one of
//! `quipu_wire_client`, for which every error is the test's end.

use std::{net::SocketAddr, path::PathBuf, sync::atomic::AtomicU32, time::Duration};

use bytes::Bytes;
use quipu_base::{ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};
use quipu_broker::{Broker, Config, HostPort, Origin};
use quipu_env::Env;
use quipu_env_tokio::{Options, Runtime, TokioEnv};
use quipu_protocol::{
    ErrorCode, Request, Response, Str,
    messages::{
        api_versions::ApiVersionsRequest,
        fetch::{FetchRequest, PartitionData},
        produce::{PartitionProduceResponse, ProduceRequest},
    },
};
use quipu_records::{Batch, BatchBuilder, NewRecord};
use quipu_wire_client::{
    CallError, Connection,
    requests::{self, FetchBounds, Producer, TopicRef},
};

/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(55);

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
    pub(crate) async fn client(&self) -> Client {
        Client(Connection::connect(&self.env, self.address, PATIENCE).await.unwrap())
    }

    /// Whether one more connection gets an answer; a refused one is reset, before or after it is seen to be made.
    pub(crate) async fn is_served(&self) -> bool {
        let Ok(mut connection) = Connection::connect(&self.env, self.address, PATIENCE).await else { return false };
        connection.call(0, ApiVersionsRequest::default()).await.is_ok()
    }
}

/// One connection.
pub(crate) struct Client(Connection<TokioEnv>);

impl Client {
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.send_bytes(Bytes::copy_from_slice(bytes)).await.unwrap();
    }

    pub(crate) async fn send(&mut self, version: i16, request: impl Into<Request>) {
        self.0.send(version, request).await.unwrap();
    }

    /// Sends a request that has no reply.
    pub(crate) async fn send_only(&mut self, version: i16, request: impl Into<Request>) {
        self.send(version, request).await;
        self.0.expect_no_reply();
    }

    /// The next frame, without its length; none when the broker closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        match self.0.receive_frame().await {
            Ok(frame) => Some(frame),
            Err(CallError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The reply to the first request that has none.
    pub(crate) async fn receive(&mut self) -> Response {
        self.0.receive().await.unwrap()
    }

    pub(crate) async fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        self.0.call(version, request).await.unwrap()
    }

    pub(crate) async fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let request = requests::create_topic(name, partitions, configs);
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

/// A topic for versions that know it by its name.
fn named(topic: &str) -> TopicRef {
    TopicRef { name: topic.to_owned(), id: TopicId::ZERO }
}

pub(crate) fn produce_request(topic: &str, partition: i32, batch: Batch, acks: i16) -> ProduceRequest {
    requests::produce(&named(topic), acks, 30_000, vec![(partition, batch.into_bytes())])
}

pub(crate) fn fetch_request(topic: &str, offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    requests::fetch(&named(topic), &[(0, offset)], FetchBounds { min_bytes, max_wait_ms, ..FetchBounds::NOW })
}

/// A batch of these values, with the wall clock's time.
pub(crate) fn batch(values: &[&str]) -> Batch {
    requests::batch(values, now(), None)
}

pub(crate) fn idempotent(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Batch {
    let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch), sequence: Sequence(sequence) };
    requests::batch(values, now(), Some(producer))
}

#[expect(clippy::disallowed_types, reason = "a test on the real system knows its clock")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

/// A batch of these values as this builder makes it.
pub(crate) fn fill(mut builder: BatchBuilder, values: &[&str], timestamp: Timestamp) -> Batch {
    for value in values {
        builder.push(&NewRecord { timestamp, key: None, value: Some(value.as_bytes()), headers: &[] }).unwrap();
    }
    builder.build().unwrap()
}

/// Offsets and values of what was fetched.
pub(crate) fn records_of(data: &PartitionData) -> Vec<(i64, String)> {
    let found = requests::records_of(data).unwrap();
    found.into_iter().map(|(offset, value)| (offset, String::from_utf8(value.to_vec()).unwrap())).collect()
}

pub(crate) fn name(text: &str) -> Option<Str> {
    Some(text.into())
}
