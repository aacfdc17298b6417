//! Clients that use the Rust client, `quipu-client`, as applications do: its producer, its consumer, its
//! members of groups, its admin.
//!
//! Invariants
//! - What is asked is noted before, and what is told when it is told, as by the clients of the wire.
//! - A change is asked for until it is made or refused. A record is given to the producer once: what became of it is the producer's
//!   word, and the checkers hold it to that.
//! - Topics that somebody deletes are left to the wire: the library knows topics by name, and a name may mean another topic by then.
//!
//! Not here: versions and sequences of requests that no library sends ([`super`]). Read `produce`, then `consume`, then `member`.

mod admin;
mod consume;
mod member;
mod produce;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_client::{BrokerAddress, Client, ClientConfig, ClientError, Producer, Topic, TopicPartition};
use quipu_env::{Clock, Env, Rng};
use quipu_protocol::{ApiKey, ErrorCode};
use quipu_sim::SimEnv;
use rand::RngExt;

use super::{Following, PORT, Scene, hostile, produce::is_refusal};
use crate::{
    history::LogIndex,
    plan::{self, Kind, Loss, operation::Operation},
};

/// How long a call of the library may take before it is made again.
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// The first and the longest pause of the library before it tries again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Whether the plan's client is one of these.
pub(super) fn takes(deleted: &BTreeSet<String>, spec: &plan::Client) -> bool {
    let reads_or_writes = |operation: &&Operation| {
        matches!(
            operation,
            Operation::Produce { .. } | Operation::Poll { .. } | Operation::Follow { .. } | Operation::Seek { .. }
        )
    };
    let mut topics = spec.operations.iter().filter(reads_or_writes).filter_map(Operation::topic);
    spec.kind == Kind::Client && !topics.any(|topic| deleted.contains(topic))
}

/// Does all operations of the plan's client of that number.
pub(super) async fn run(env: SimEnv, scene: Scene, number: u32) {
    let plan = Arc::clone(&scene.plan);
    let spec = &plan.workload.clients[number as usize];
    let mut own = Library::new(&env, &scene, number, spec);
    let done = scene.following().get(&number).map_or(0, |following| following.operation);
    for (place, operation) in spec.operations.iter().enumerate().skip(done) {
        if let Operation::Crash { ms } = operation {
            // The end of this task is the end of the process: whatever else runs in it ends without a word.
            let at = Some(scene.now() + ms * 1_000_000);
            scene.following().insert(number, Following { operation: place + 1, at });
            return;
        }
        own.run_operation(operation).await;
        own.sleep_ms(spec.pace_ms).await;
    }
    own.finish().await;
}

/// One client.
struct Library {
    env: SimEnv,
    scene: Scene,
    number: u32,
    spec: plan::Client,
    rng: Rng,
    client: Client<SimEnv>,
    /// By name, as first found: none of them is made anew.
    topics: BTreeMap<String, Arc<Topic>>,
    /// Topics that were lost with their disk: nobody waits for each record until it is told so.
    lost: BTreeSet<String>,
    /// Records that it has sent.
    records: u32,
    producer: Option<Producer<SimEnv>>,
    /// Who waits for the producers' word.
    waiting: Vec<<SimEnv as Env>::Task>,
    /// By topic.
    readers: BTreeMap<String, consume::Reader>,
    member: Option<member::Member>,
}

/// What an answer means for who asked.
enum Judged<T> {
    Done(T),
    /// It will not be done.
    Refused(ErrorCode),
    Again,
}

impl Library {
    fn new(env: &SimEnv, scene: &Scene, number: u32, spec: &plan::Client) -> Self {
        let config = ClientConfig {
            bootstrap: {
                let config = &scene.plan.config;
                config.brokers().map(|node| BrokerAddress::new(&config.machine(node), PORT)).collect()
            },
            client_id: spec.name.clone(),
            connect_timeout: Duration::from_millis(spec.patience_ms.max(1)),
            request_timeout: Duration::from_millis(spec.patience_ms.max(1)),
            api_timeout: API_TIMEOUT,
            retry_backoff: BACKOFF.0,
            retry_backoff_max: BACKOFF.1,
            metadata_max_age: Duration::from_millis(spec.client_metadata_ms.max(1)),
            ..ClientConfig::default()
        };
        Self {
            env: env.clone(),
            scene: scene.clone(),
            number,
            spec: spec.clone(),
            rng: env.rng("client"),
            client: Client::new(env.clone(), config).expect("the plan was checked"),
            topics: BTreeMap::new(),
            lost: BTreeSet::new(),
            records: 0,
            producer: None,
            waiting: Vec::new(),
            readers: BTreeMap::new(),
            member: None,
        }
    }

    async fn run_operation(&mut self, operation: &Operation) {
        match operation {
            Operation::Produce { topic, batches } => self.produce(topic, batches).await,
            Operation::Poll { topic, times } => self.poll(topic, *times).await,
            Operation::Follow { topic } => self.follow(topic).await,
            Operation::Seek { topic, permille } => self.seek(topic, *permille).await,
            Operation::Create { topic, partitions } => self.create(topic, *partitions).await,
            Operation::Delete { topic } => self.delete(topic).await,
            Operation::Grow { topic, partitions } => self.grow(topic, *partitions).await,
            Operation::Alter { topic, name, value } => self.alter(topic, name, value).await,
            Operation::Replace { topic, name, value } => self.replace(topic, name, value).await,
            Operation::DeleteRecords { topic, partition, permille } => {
                self.delete_records(topic, *partition, *permille).await;
            }
            Operation::Ask(question) => self.ask(*question).await,
            Operation::Sleep { ms } => self.sleep_ms(*ms).await,
            Operation::Join { group, topics } => self.join(group, topics).await,
            Operation::Take { times } => self.take(*times).await,
            Operation::Serve => self.serve().await,
            Operation::Leave => self.leave().await,
            Operation::Crash { .. } => unreachable!("whoever asks ends the process"),
            Operation::Reassign { topic, partition, brokers } => {
                let mut wire = super::client::Client::new(&self.env, &self.scene, self.number, &self.spec);
                super::admin::reassign(&mut wire, topic, *partition, brokers).await;
            }
            Operation::Garbage { .. } | Operation::Half { .. } | Operation::Huge | Operation::Storm { .. } => {
                let mut wire = super::client::Client::new(&self.env, &self.scene, self.number, &self.spec);
                hostile::run(&mut wire, operation).await;
            }
        }
    }

    async fn sleep_ms(&self, ms: u64) {
        if ms > 0 {
            self.env.clock().sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Waits a little, before something is tried again.
    async fn pause(&mut self) {
        let pause = Duration::from_micros(self.rng.random_range(1_000..50_000));
        self.env.clock().sleep(pause).await;
    }

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, quipu_client::PartitionIndex(partition))
    }

    fn log(&self, topic: &Topic, partition: i32) -> LogIndex {
        self.scene.recorder.log(&topic.name, &topic.id.to_string(), partition)
    }

    fn strange(&self, checker: &str, detail: impl Into<String>) {
        self.scene.strange(self.number, checker, detail);
    }

    fn loses(&self) -> bool {
        self.scene.plan.budget.loss > Loss::None
    }

    /// A topic; none if there is none, or nobody says.
    async fn find(&mut self, topic: &str) -> Option<Arc<Topic>> {
        if let Some(known) = self.topics.get(topic) {
            return Some(Arc::clone(known));
        }
        loop {
            let found = self.client.admin().describe_topics(vec![topic.to_owned()]).await;
            let outcome = found.into_iter().next().map(|(_, outcome)| outcome)?;
            match self.judge("describe a topic", ApiKey::Metadata, outcome, &[ErrorCode::UnknownTopicOrPartition]) {
                Judged::Done(found) => {
                    self.topics.insert(topic.to_owned(), Arc::clone(&found));
                    return Some(found);
                }
                Judged::Refused(_) => return None,
                Judged::Again => self.pause().await,
            }
        }
    }

    /// Notes what an answer tells, and whether to ask again. Other refusals than those `expected` are told of.
    fn judge<T>(&self, asked: &str, api: ApiKey, outcome: Result<T, ClientError>, expected: &[ErrorCode]) -> Judged<T> {
        let error = match outcome {
            Ok(value) => {
                self.scene.reached(api);
                return Judged::Done(value);
            }
            Err(error) => error,
        };
        self.note_error(asked, &error);
        match code_of(&error) {
            Some(code) if expected.contains(&code) => Judged::Refused(code),
            Some(code) if self.scene.is_passing(code) || error.is_retriable() => Judged::Again,
            Some(code) => {
                if !is_refusal(code, self.scene.plan.budget.loss) {
                    self.strange("unexpected-error", format!("{asked}: {error}"));
                }
                Judged::Refused(code)
            }
            None => Judged::Again,
        }
    }

    /// Notes an error, and tells of it if no broker may cause it.
    fn note_error(&self, asked: &str, error: &ClientError) {
        if let Some(code) = code_of(error) {
            self.scene.met(code);
        }
        let is_broken = matches!(
            error,
            ClientError::Malformed { .. } | ClientError::Version { .. } | ClientError::Unencodable { .. }
        );
        if is_broken {
            self.strange("broken-promise", format!("{asked}: {error}"));
        }
    }
}

/// The broker's code in an error; of a time-out, that of the last try.
fn code_of(error: &ClientError) -> Option<ErrorCode> {
    match error {
        ClientError::TimedOut { last: Some(last), .. } => code_of(last),
        _ => error.code(),
    }
}
