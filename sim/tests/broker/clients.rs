//! Clients: producers that never give up, readers that follow, and the one who looks at everything at the end.
//!
//! Invariants
//! - A producer sends each partition's batches in order, and again until they are acknowledged, always with the same sequence
//!   numbers. So what it sends is there once, however often it is sent.
//! - An answer may fail only in ways that a client is told to expect; everything else ends the run.

use core::time::Duration;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use quipu_base::{ProducerEpoch, ProducerId, Sequence};
use quipu_env::{Clock, Env, Rng};
use quipu_protocol::{
    ErrorCode, Response,
    messages::{fetch::FetchResponse, metadata::MetadataRequest, produce::PartitionProduceResponse},
};
use quipu_sim::SimEnv;
use quipu_wire_client::{
    CallError, Connection,
    requests::{self, FetchBounds, Producer, TopicRef},
};
use rand::RngExt;

use crate::{
    history::{History, RecordId, Watermarks},
    server::connect,
    setup::{Setup, TOPIC, pick},
};

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a produce request gives the broker.
const PRODUCE_TIMEOUT_MS: i32 = 1500;

/// What all clients of a world share.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) setup: Arc<Setup>,
    pub(crate) history: History,
    /// Readers end when it is set.
    pub(crate) over: Arc<AtomicBool>,
    /// Error codes that were met, by which a test sees that what it arranged took place.
    pub(crate) refusals: Arc<Mutex<BTreeSet<i16>>>,
    /// Told of each record that was acknowledged or read, at that moment: partition and value.
    pub(crate) witness: Witness,
}

/// See [`Scene::witness`].
pub(crate) type Witness = Arc<dyn Fn(i32, &Bytes) + Send + Sync>;

impl Scene {
    pub(crate) fn new(setup: &Arc<Setup>) -> Self {
        Self {
            setup: Arc::clone(setup),
            history: History::default(),
            over: Arc::default(),
            refusals: Arc::default(),
            witness: Arc::new(|_, _| {}),
        }
    }

    fn note_refusal(&self, code: ErrorCode) {
        self.refusals.lock().expect("nobody panics with it").insert(code.code());
    }

    /// Whether a producer was ever refused with this code.
    pub(crate) fn was_refused(&self, code: ErrorCode) -> bool {
        self.refusals.lock().expect("nobody panics with it").contains(&code.code())
    }
}

/// A client that connects again whenever its connection fails.
struct Client {
    env: SimEnv,
    rng: Rng,
    connection: Option<Connection<SimEnv>>,
}

impl Client {
    fn new(env: &SimEnv) -> Self {
        Self { env: env.clone(), rng: env.rng("client"), connection: None }
    }

    /// The connection, made if there is none.
    async fn connection(&mut self) -> &mut Connection<SimEnv> {
        while self.connection.is_none() {
            match connect(&self.env, PATIENCE).await {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => self.pause().await,
            }
        }
        self.connection.as_mut().expect("it has just been made")
    }

    async fn pause(&mut self) {
        let pause = Duration::from_micros(self.rng.random_range(1_000..50_000));
        self.env.clock().sleep(pause).await;
    }

    /// Calls until there is a reply.
    async fn call(&mut self, version: i16, request: impl Into<quipu_protocol::Request>) -> Response {
        let request = request.into();
        loop {
            match self.connection().await.call(version, request.clone()).await {
                Ok(response) => return response,
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn failed(&mut self, error: &CallError) {
        assert!(!error.is_broken_promise(), "{error}");
        self.connection = None;
        self.pause().await;
    }
}

/// Makes the topic, and answers with what it is called.
pub(crate) async fn create_topic(env: SimEnv, setup: Arc<Setup>) -> TopicRef {
    let mut client = Client::new(&env);
    loop {
        let request = requests::create_topic(TOPIC, setup.partitions, &[]);
        let Response::CreateTopics(response) = client.call(7, request).await else { panic!("another reply") };
        let topic = &response.topics[0];
        match ErrorCode::from_code(topic.error_code) {
            Some(ErrorCode::None) => return TopicRef { name: TOPIC.into(), id: topic.topic_id },
            Some(ErrorCode::TopicAlreadyExists) => return find_topic(&mut client).await,
            Some(ErrorCode::KafkaStorageError | ErrorCode::CoordinatorNotAvailable) => client.pause().await,
            other => panic!("creating the topic: {other:?} {:?}", topic.error_message),
        }
    }
}

async fn find_topic(client: &mut Client) -> TopicRef {
    let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
    let Response::Metadata(response) = client.call(12, request).await else { panic!("another reply") };
    let topic = response.topics.iter().find(|topic| topic.name.as_deref() == Some(TOPIC)).expect("the topic exists");
    TopicRef { name: TOPIC.into(), id: topic.topic_id }
}

/// A batch on its way.
struct Pending {
    records: Vec<RecordId>,
    values: Vec<Bytes>,
    bytes: Bytes,
    acknowledged: bool,
}

/// What a producer sends to one partition.
struct Queue {
    partition: i32,
    batches_left: u32,
    /// Records in all batches so far, which is the next sequence number.
    records: u32,
    /// From the first batch that is not acknowledged on.
    pending: VecDeque<Pending>,
}

/// Sends everything it has to; ends when all of it is acknowledged. Answers how many records it sent to each partition.
pub(crate) async fn produce(env: SimEnv, scene: Scene, topic: TopicRef, number: u32) -> Vec<u32> {
    let mut client = Client::new(&env);
    let who = init_producer_id(&mut client).await;
    let setup = Arc::clone(&scene.setup);
    let queue = |partition| Queue { partition, batches_left: setup.batches, records: 0, pending: VecDeque::new() };
    let mut queues: Vec<Queue> = (0..setup.partitions).map(queue).collect();
    loop {
        for queue in &mut queues {
            queue.fill(&mut client, &setup, number, who);
        }
        if queues.iter().all(|queue| queue.pending.is_empty()) {
            return queues.iter().map(|queue| queue.records).collect();
        }
        if let Err(error) = round(&mut client, &scene, &topic, &mut queues).await {
            client.failed(&error).await;
        }
        if client.rng.random_range(0..4) == 0 {
            client.pause().await;
        }
    }
}

async fn init_producer_id(client: &mut Client) -> Producer {
    loop {
        let response = client.call(4, requests::init_producer_id()).await;
        let Response::InitProducerId(response) = response else { panic!("another reply") };
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {
                let (id, epoch) = (ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch));
                return Producer { id, epoch, sequence: Sequence(0) };
            }
            Some(ErrorCode::KafkaStorageError | ErrorCode::CoordinatorNotAvailable) => client.pause().await,
            other => panic!("no producer id: {other:?}"),
        }
    }
}

/// Sends what is not acknowledged, in one request after the other, then takes in the replies.
async fn round(client: &mut Client, scene: &Scene, topic: &TopicRef, queues: &mut [Queue]) -> Result<(), CallError> {
    let setup = &scene.setup;
    let mut depths = Vec::new();
    for depth in 0..setup.pipelined {
        let batches: Vec<(i32, Bytes)> = queues.iter().filter_map(|queue| queue.at(depth)).collect();
        if !batches.is_empty() {
            let request = requests::produce(topic, -1, PRODUCE_TIMEOUT_MS, batches);
            client.connection().await.send(setup.produce_version, request).await?;
            depths.push(depth);
        }
    }
    for depth in depths {
        let response = client.connection().await.receive().await?;
        let Response::Produce(response) = response else { panic!("another reply") };
        for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            queues[index(answer.index)].take_in(scene, depth, answer);
        }
    }
    Ok(())
}

impl Queue {
    /// Makes batches, as many as may be under way from the first one on that is not acknowledged.
    fn fill(&mut self, client: &mut Client, setup: &Setup, producer: u32, who: Producer) {
        while self.pending.front().is_some_and(|first| first.acknowledged) {
            self.pending.pop_front();
        }
        while self.pending.len() < setup.pipelined && self.batches_left > 0 {
            self.batches_left -= 1;
            let count = client.rng.random_range(1..=setup.records_max);
            let records: Vec<RecordId> =
                (self.records..self.records + count).map(|number| RecordId { producer, number }).collect();
            let mut value = |record: &RecordId| {
                let bytes = client.rng.random_range(0..=setup.value_bytes_max);
                record.value(self.partition, bytes)
            };
            let values: Vec<Bytes> = records.iter().map(&mut value).collect();
            let sequence = Sequence(i32::try_from(self.records).expect("a short run"));
            let batch = requests::batch(&values, client.env.clock().wall(), Some(Producer { sequence, ..who }));
            self.pending.push_back(Pending { records, values, bytes: batch.into_bytes(), acknowledged: false });
            self.records += count;
        }
    }

    /// The batch at that place, if it is to be sent.
    fn at(&self, depth: usize) -> Option<(i32, Bytes)> {
        let pending = self.pending.get(depth).filter(|pending| !pending.acknowledged)?;
        Some((self.partition, pending.bytes.clone()))
    }

    fn take_in(&mut self, scene: &Scene, depth: usize, answer: &PartitionProduceResponse) {
        let partition = self.partition;
        let first_left = self.pending.iter().position(|pending| !pending.acknowledged);
        match ErrorCode::from_code(answer.error_code).expect("one of Kafka's codes") {
            ErrorCode::None => {
                let pending = &mut self.pending[depth];
                pending.acknowledged = true;
                scene.history.acknowledged(partition, answer.base_offset, pending.records.iter().copied());
                pending.values.iter().for_each(|value| (scene.witness)(partition, value));
            }
            // What failed before it left a gap.
            code @ ErrorCode::OutOfOrderSequenceNumber if first_left.is_some_and(|first| first < depth) => {
                scene.note_refusal(code);
            }
            code @ (ErrorCode::RequestTimedOut | ErrorCode::KafkaStorageError) => scene.note_refusal(code),
            code => panic!("partition {partition}: produce failed with {}: {:?}", code.name(), answer.error_message),
        }
    }
}

/// Reads all partitions from the beginning, and then whatever comes, until the scene is over.
pub(crate) async fn follow(env: SimEnv, scene: Scene, topic: TopicRef) {
    let mut client = Client::new(&env);
    let mut watermarks = Watermarks::default();
    let mut positions: Vec<(i32, i64)> = (0..scene.setup.partitions).map(|partition| (partition, 0)).collect();
    while !scene.over.load(Ordering::Relaxed) {
        let jump = client.rng.random_range(0..8) == 0;
        let mut from = positions.clone();
        if jump {
            // Somewhere in the middle, for once.
            for (partition, offset) in &mut from {
                *offset = client.rng.random_range(0..=scene.history.end(*partition).max(*offset));
            }
        }
        let Some(response) = fetch(&mut client, &scene, &topic, &from).await else { continue };
        let ends = take_in_fetch(&scene, &mut watermarks, &from, &response);
        if !jump {
            positions = ends;
        }
    }
}

/// What is known before a request, and the reply to it.
struct Fetched {
    known: Vec<i64>,
    response: FetchResponse,
}

async fn fetch(client: &mut Client, scene: &Scene, topic: &TopicRef, from: &[(i32, i64)]) -> Option<Fetched> {
    let bounds = FetchBounds {
        min_bytes: *pick(&mut client.rng, &[0, 1, 500]),
        max_bytes: *pick(&mut client.rng, &[1, 10_000, i32::MAX]),
        partition_max_bytes: *pick(&mut client.rng, &[1, 1000, 1 << 20]),
        max_wait_ms: *pick(&mut client.rng, &[0, 20, 500]),
    };
    // Made before: what becomes known while it connects is not what the broker was asked after.
    client.connection().await;
    let known = from.iter().map(|(partition, _)| scene.history.end(*partition)).collect();
    let request = requests::fetch(topic, from, bounds);
    match client.connection().await.call(scene.setup.fetch_version, request).await {
        Ok(Response::Fetch(response)) => Some(Fetched { known, response }),
        Ok(_) => panic!("another reply"),
        Err(error) => {
            client.failed(&error).await;
            None
        }
    }
}

/// Checks what came, and answers where each partition goes on.
fn take_in_fetch(
    scene: &Scene,
    watermarks: &mut Watermarks,
    from: &[(i32, i64)],
    Fetched { known, response }: &Fetched,
) -> Vec<(i32, i64)> {
    assert_eq!(response.error_code, 0, "fetch failed");
    let mut ends = from.to_vec();
    for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
        let partition = data.partition_index;
        let code = ErrorCode::from_code(data.error_code).expect("one of Kafka's codes");
        assert_eq!(code, ErrorCode::None, "partition {partition}: fetch from {from:?}");
        watermarks.check(partition, known[index(partition)], data.high_watermark);
        let wanted = from[index(partition)].1;
        let records = requests::records_of(data).unwrap_or_else(|error| panic!("partition {partition}: {error}"));
        let mut next = records.first().map_or(wanted, |(first, _)| *first);
        assert!(next <= wanted, "partition {partition}: the first batch begins at {next}, after {wanted}");
        for (offset, value) in &records {
            assert_eq!(*offset, next, "partition {partition}: a gap in what was fetched from {wanted}");
            assert!(*offset < data.high_watermark, "partition {partition}: {offset} is not below the high watermark");
            scene.history.read(partition, *offset, value);
            (scene.witness)(partition, value);
            next += 1;
        }
        assert!(records.is_empty() || next > wanted, "partition {partition}: nothing of what was wanted from {wanted}");
        ends[index(partition)].1 = next.max(wanted);
    }
    ends
}

/// Reads all partitions whole, and compares them with what the producers say they sent.
pub(crate) async fn audit(env: SimEnv, scene: Scene, topic: TopicRef, sent: Vec<Vec<u32>>) {
    let mut client = Client::new(&env);
    for partition in 0..scene.setup.partitions {
        let end = latest(&mut client, &topic, partition).await;
        let mut log: Vec<(i64, Bytes)> = Vec::new();
        loop {
            let next = log.last().map_or(0, |(offset, _)| offset + 1);
            if next == end {
                break;
            }
            let request = requests::fetch(&topic, &[(partition, next)], FetchBounds::NOW);
            let Response::Fetch(response) = client.call(scene.setup.fetch_version, request).await else {
                panic!("another reply")
            };
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, 0, "partition {partition} from {next}");
            assert_eq!(data.high_watermark, end, "partition {partition}: nobody writes any more");
            let records = requests::records_of(data).unwrap_or_else(|error| panic!("partition {partition}: {error}"));
            assert!(!records.is_empty(), "partition {partition}: nothing at {next} of {end}");
            log.extend(records.into_iter().filter(|(offset, _)| *offset >= next));
        }
        let sent: Vec<u32> = sent.iter().map(|sent| sent[index(partition)]).collect();
        scene.history.check_all(partition, &log, &sent);
    }
}

/// A partition's end, by ListOffsets; its beginning must be 0.
async fn latest(client: &mut Client, topic: &TopicRef, partition: i32) -> i64 {
    let mut found = [0, 0];
    for (timestamp, found) in [-2, -1].into_iter().zip(&mut found) {
        let request = requests::list_offsets(topic, [partition], timestamp);
        let Response::ListOffsets(response) = client.call(7, request).await else { panic!("another reply") };
        let answer = &response.topics[0].partitions[0];
        assert_eq!(answer.error_code, 0, "partition {partition}: offset for {timestamp}");
        *found = answer.offset;
    }
    assert_eq!(found[0], 0, "partition {partition}: nothing is ever removed");
    found[1]
}

/// A partition's place in lists.
fn index(partition: i32) -> usize {
    usize::try_from(partition).expect("partitions count from 0")
}
