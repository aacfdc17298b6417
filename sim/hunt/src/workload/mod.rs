//! Clients: each does the operations of its part of the plan, in order, and notes what it asked and was told.
//!
//! Invariants
//! - A client never gives up: what fails is tried again until it is answered. It is the run that bounds it.
//! - What a client asks is noted before it asks, and what it is told when it is told it.
//! - Every choice is drawn from the client's own stream.
//!
//! Not here: what is right ([`crate::check`]); when a workload is over ([`mod@crate::run`]). Read `client`, then `produce`;
//! `library` for clients of the other kind.

mod admin;
mod audit;
mod client;
mod consume;
mod echo;
mod hostile;
mod library;
mod produce;
mod questions;
pub mod record;
mod settle;
mod topics;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use quipu_base::TopicIdPartition;
use quipu_protocol::{ApiKey, ErrorCode, Response};
use quipu_records::Batch;
use quipu_sim::{SimEnv, World};

pub use self::{audit::audit, echo::echo, settle::settle};
use self::{client::Client, echo::Last};
use crate::{
    copies::{Given, Served},
    history::{LogIndex, Recorder, What},
    plan::{Loss, Plan, operation::Operation},
};

/// The port of the broker.
pub const PORT: u16 = 9092;
/// Who looks at everything at the end, in histories.
pub const AUDITOR: u32 = u32::MAX;

/// The nodes that hold each log; logs by the end of their topic's id, and their partition.
pub type Holders = Arc<Mutex<BTreeMap<(i64, i64), Vec<u32>>>>;

/// How a client goes on after its process has ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Following {
    /// The first operation that is not done.
    operation: usize,
    /// When, nanoseconds since the run began; none if that process was begun.
    at: Option<u64>,
}

/// What all clients of a run share. A clone is the same.
#[derive(Clone)]
pub struct Scene {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The run.
    pub world: World,
    /// What was asked and told.
    pub recorder: Recorder,
    /// Followers end when it is set and they have read everything.
    pub over: Arc<AtomicBool>,
    /// After a cold start: what is read was on a disk, and no fault is left.
    pub cold: Arc<AtomicBool>,
    /// Operations done.
    pub done: Arc<AtomicU64>,
    /// Error codes that were met, and how often.
    pub codes: Arc<Mutex<BTreeMap<i16, u64>>>,
    /// Requests that had an answer, by Kafka's number, and how often.
    pub apis: Arc<Mutex<BTreeMap<i16, u64>>>,
    /// Topics that somebody deletes.
    deleted: Arc<BTreeSet<String>>,
    /// Who holds what, when the cluster has settled.
    pub holders: Holders,
    /// The last acknowledged batch of each producer in each log.
    last: Arc<Mutex<BTreeMap<(u32, LogIndex), Last>>>,
    /// Behind what groups have taken, by group and log.
    taken: Arc<Mutex<BTreeMap<(String, LogIndex), i64>>>,
    /// Clients whose process has ended to be followed by another one: which operation it begins with, and when.
    following: Arc<Mutex<BTreeMap<u32, Following>>>,
    /// Batches that clients of the wire were given.
    served: Arc<Mutex<Served>>,
}

impl Scene {
    /// Before anything was asked.
    #[must_use]
    pub fn new(world: &World, plan: &Arc<Plan>, recorder: Recorder) -> Self {
        Self {
            plan: Arc::clone(plan),
            world: world.clone(),
            recorder,
            over: Arc::default(),
            cold: Arc::default(),
            done: Arc::default(),
            codes: Arc::default(),
            apis: Arc::default(),
            deleted: Arc::new(plan.deleted()),
            holders: Arc::default(),
            last: Arc::default(),
            taken: Arc::default(),
            following: Arc::default(),
            served: Arc::default(),
        }
    }

    /// Whether a client's process is to be followed by another one that was not begun yet.
    #[must_use]
    pub fn is_followed(&self, client: u32) -> bool {
        self.following().get(&client).is_some_and(|following| following.at.is_some())
    }

    /// Whether a client's next process is to be begun now, which the caller does.
    #[must_use]
    pub fn follows_now(&self, client: u32) -> bool {
        let now = self.now();
        let mut all = self.following();
        all.get_mut(&client).is_some_and(|following| following.at.take_if(|at| *at <= now).is_some())
    }

    fn following(&self) -> MutexGuard<'_, BTreeMap<u32, Following>> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients were given until now.
    pub(crate) fn served(&self) -> Served {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a batch that a client was given. Whether it is the same that others were given at its place.
    fn note_served(&self, partition: TopicIdPartition, batch: &Batch) -> bool {
        let given = Given::of(batch);
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        *served.entry((partition, batch.header().base_offset.0)).or_insert(given) == given
    }

    /// Nanoseconds since the run began.
    fn now(&self) -> u64 {
        u64::try_from(self.world.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many nodes serve clients.
    fn brokers(&self) -> u32 {
        u32::try_from(self.plan.config.brokers().count()).unwrap_or(1)
    }

    /// Whether this is trouble that passes.
    fn is_passing(&self, code: ErrorCode) -> bool {
        let in_clusters = matches!(
            code,
            ErrorCode::NotEnoughReplicas
                | ErrorCode::InvalidReplicationFactor
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
        );
        produce::is_passing(code) || (in_clusters && self.plan.config.is_cluster())
    }

    /// Whether bytes that fail their checksum must not be served.
    fn must_be_sound(&self) -> bool {
        !self.may_be_rotten() || self.cold.load(Ordering::Relaxed)
    }

    /// Whether what is read may be rotten, or be lost.
    fn may_be_rotten(&self) -> bool {
        self.plan.budget.loss > Loss::None || self.plan.rots()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn met(&self, code: ErrorCode) {
        *self.codes.lock().unwrap_or_else(PoisonError::into_inner).entry(code.code()).or_insert(0) += 1;
    }

    fn answered(&self, response: &Response) {
        self.reached(response.api());
    }

    fn reached(&self, api: ApiKey) {
        let number = api as i16;
        *self.apis.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_insert(0) += 1;
    }

    /// Notes what must not be.
    fn strange(&self, client: u32, checker: &str, detail: impl Into<String>) {
        let what = What::Strange { checker: checker.to_owned(), detail: detail.into() };
        self.recorder.note(client, self.now(), what);
    }
}

/// Makes the plan's topics; ends when they are there.
pub async fn make_topics(env: SimEnv, scene: Scene) {
    let mut client = Client::new(&env, &scene, AUDITOR, &crate::plan::Client::default());
    for topic in &scene.plan.workload.topics {
        admin::make_topic(&mut client, topic).await;
    }
}

/// Does all operations of the plan's client of that number.
pub async fn run_client(env: SimEnv, scene: Scene, number: u32) {
    let plan = Arc::clone(&scene.plan);
    let spec = &plan.workload.clients[number as usize];
    if library::takes(&scene.deleted, spec) {
        return library::run(env, scene, number).await;
    }
    let mut client = Client::new(&env, &scene, number, spec);
    let mut producer = produce::Producer::default();
    let mut operations = spec.operations.as_slice();
    while let Some((operation, rest)) = operations.split_first() {
        if let Operation::Produce { .. } = operation {
            // The producer takes as many as may be under way at once.
            let count =
                operations.iter().take_while(|operation| matches!(operation, Operation::Produce { .. })).count();
            let (sends, rest) = operations.split_at(count);
            producer.run(&mut client, sends).await;
            operations = rest;
            continue;
        }
        run_operation(&mut client, operation).await;
        client.rest().await;
        operations = rest;
    }
}

async fn run_operation(client: &mut Client, operation: &Operation) {
    match operation {
        Operation::Produce { .. } => unreachable!("the producer takes these"),
        Operation::Poll { topic, times } => {
            for _ in 0..*times {
                consume::poll(client, topic).await;
            }
        }
        Operation::Follow { topic } => consume::follow(client, topic).await,
        Operation::Seek { topic, permille } => consume::seek(client, topic, *permille).await,
        Operation::Create { topic, partitions } => admin::create(client, topic, *partitions).await,
        Operation::Delete { topic } => admin::delete(client, topic).await,
        Operation::Grow { topic, partitions } => admin::grow(client, topic, *partitions).await,
        Operation::Alter { topic, name, value } => admin::alter(client, topic, name, value).await,
        Operation::Replace { topic, name, value } => admin::replace(client, topic, name, value).await,
        Operation::Reassign { topic, partition, brokers } => admin::reassign(client, topic, *partition, brokers).await,
        Operation::DeleteRecords { topic, partition, permille } => {
            admin::delete_records(client, topic, *partition, *permille).await;
        }
        Operation::Ask(question) => admin::ask(client, *question).await,
        Operation::Sleep { ms } => client.sleep_ms(*ms).await,
        // A plan has these for clients of the other kind only; such a one is here if it reads a topic that somebody deletes.
        Operation::Join { .. }
        | Operation::Take { .. }
        | Operation::Serve
        | Operation::Leave
        | Operation::Crash { .. } => {}
        Operation::Garbage { .. } | Operation::Half { .. } | Operation::Huge | Operation::Storm { .. } => {
            hostile::run(client, operation).await;
        }
    }
}
