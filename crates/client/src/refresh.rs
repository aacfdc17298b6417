//! Asks again who leads what: when somebody needs to know, and once in a while without need.
//!
//! Invariants
//! - Whoever asks is answered after a round that began after the question.
//! - Rounds that fail, and rounds about topics that are known already or were not there a moment ago, keep a pause between them: a
//!   thousand partitions that lost their leader cost one request, and so does whoever wants what is not there.
//!
//! Not here: what the answers mean (`cluster`).

use core::mem;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use quipu_base::BrokerId;
use quipu_env::{Clock, Env, Instant, Rng};
use quipu_protocol::{
    ErrorCode, Response,
    messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse},
};
use rand::RngExt;
use tokio::sync::mpsc;

use crate::{
    ClientError,
    client::post,
    pool::{Pool, Shared, Target},
};

/// Told how a round went.
pub(crate) type Done = Box<dyn FnOnce(Result<(), ClientError>) + Send>;

/// Somebody needs to know.
pub(crate) struct Question {
    /// About these topics; none is about brokers alone.
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) done: Done,
}

/// The task's state.
pub(crate) struct Refresher<E: Env> {
    shared: Arc<Shared<E>>,
    pool: Arc<Mutex<Pool<E>>>,
    rng: Rng,
    /// Topics that are asked about in every round.
    topics: BTreeSet<Arc<str>>,
    /// Topics that were not there when last asked about, and when that was; for as long as the longest pause.
    missing: BTreeMap<Arc<str>, Instant>,
    waiting: Vec<Done>,
    /// Whether somebody waits for a topic that was not asked about before.
    is_urgent: bool,
    failures: u32,
    last_round: Option<Instant>,
}

impl<E: Env> Refresher<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>, pool: Arc<Mutex<Pool<E>>>) -> Self {
        let rng = shared.env.rng("client.metadata");
        Self {
            shared,
            pool,
            rng,
            topics: BTreeSet::new(),
            missing: BTreeMap::new(),
            waiting: Vec::new(),
            is_urgent: false,
            failures: 0,
            last_round: None,
        }
    }

    /// Runs until nobody can ask any more, or the client aborts it.
    pub(crate) async fn run(mut self, mut questions: mpsc::UnboundedReceiver<Question>) {
        while self.next(&mut questions).await {
            self.pause().await;
            while let Ok(question) = questions.try_recv() {
                self.take(question);
            }
            let waiting = mem::take(&mut self.waiting);
            self.is_urgent = false;
            let outcome = self.round().await;
            self.failures = if outcome.is_ok() { 0 } else { self.failures.saturating_add(1) };
            let now = self.shared.env.clock().now();
            self.last_round = Some(now);
            self.missing.retain(|_, asked| now.since(*asked) < self.shared.config.retry_backoff_max);
            for done in waiting {
                done(outcome.clone());
            }
        }
    }

    /// Waits for a question, or until what is known is old. False: nobody can ask any more.
    async fn next(&mut self, questions: &mut mpsc::UnboundedReceiver<Question>) -> bool {
        let max_age = self.shared.config.metadata_max_age;
        let due = self.last_round.filter(|_| !self.topics.is_empty()).map(|last| last + max_age);
        let clock = self.shared.env.clock().clone();
        let question = match due {
            None => questions.recv().await,
            Some(due) => tokio::select! { biased;
                question = questions.recv() => question,
                () = clock.sleep_until(due) => return true,
            },
        };
        question.is_some_and(|question| {
            self.take(question);
            true
        })
    }

    fn take(&mut self, question: Question) {
        for topic in question.topics {
            let was_missing = self.missing.contains_key(&topic);
            self.is_urgent |= self.topics.insert(topic) && !was_missing;
        }
        self.waiting.push(question.done);
    }

    async fn pause(&mut self) {
        let Some(last) = self.last_round else { return };
        let pause = match self.failures {
            0 if self.is_urgent => return,
            failures => self.shared.backoff().pause(failures, &mut self.rng),
        };
        self.shared.env.clock().sleep_until(last + pause).await;
    }

    /// Asks one broker after the other until one answers.
    async fn round(&mut self) -> Result<(), ClientError> {
        let mut tried: Vec<String> = Vec::new();
        let mut last = ClientError::Closed;
        for target in self.candidates() {
            let address = self.pool.lock().unwrap_or_else(PoisonError::into_inner).address(target);
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            if tried.contains(&address) {
                continue;
            }
            match self.ask(target).await {
                Ok(response) => {
                    self.apply(&response);
                    return Ok(());
                }
                Err(error) => last = error,
            }
            tried.push(address);
        }
        Err(ClientError::NoBroker { tried: tried.join(", "), last: Box::new(last) })
    }

    /// Known brokers, beginning with any of them, then the bootstrap addresses.
    fn candidates(&mut self) -> Vec<Target> {
        let brokers: Vec<BrokerId> = self.shared.cluster().brokers.keys().copied().collect();
        let first = if brokers.len() > 1 { self.rng.random_range(0..brokers.len()) } else { 0 };
        let known = brokers[first..].iter().chain(&brokers[..first]).map(|id| Target::Broker(*id));
        known.chain((0..self.shared.config.bootstrap.len()).map(Target::Bootstrap)).collect()
    }

    async fn ask(&mut self, target: Target) -> Result<MetadataResponse, ClientError> {
        let topic = |name: &Arc<str>| MetadataRequestTopic { name: Some((**name).into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(self.topics.iter().map(topic).collect()),
            allow_auto_topic_creation: self.shared.config.auto_create_topics,
            ..Default::default()
        };
        // Version 0 has no way to ask about no topic, before 4 topics are made whether one wants it or not.
        let pending = post(&self.shared, &self.pool, target, request.into(), 4..=i16::MAX);
        let answer = pending.wait(&self.shared).await?;
        match answer.response {
            Response::Metadata(response) if response.error_code == ErrorCode::None.code() => Ok(response),
            Response::Metadata(response) => Err(ClientError::refused("ask for metadata", response.error_code, None)),
            other => unreachable!("a {} reply to a metadata request", other.api()),
        }
    }

    fn apply(&mut self, response: &MetadataResponse) {
        self.shared.update_cluster(|cluster| cluster.apply(response));
        let now = self.shared.env.clock().now();
        for topic in &response.topics {
            let gone = [ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException];
            if let Some(name) = &topic.name
                && gone.iter().any(|code| code.code() == topic.error_code)
            {
                // Whoever still wants it asks again, by name.
                if let Some(name) = self.topics.take(name.as_str()) {
                    self.missing.insert(name, now);
                }
            }
        }
    }
}
