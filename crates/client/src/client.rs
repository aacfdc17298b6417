//! The client: what is known of the cluster, shared by its producers, consumers and admins, and calls with retries.
//!
//! Invariants
//! - Nothing is sent before somebody asks for something.
//! - When the last of client, producers, consumers and admins is dropped, every task and connection ends.
//!
//! Read `connection` next, then `producer`, `consumer`, `admin`.

use core::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_base::BrokerId;
use quipu_env::{Clock, Env, Instant, Rng, Task};
use quipu_protocol::{ApiKey, ErrorCode, Request};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Admin, ClientConfig, ClientError, Cluster, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, Producer,
    ProducerConfig,
    connection::{Answer, Call, ReplyTo},
    pool::{Pool, Shared, Target},
    producer::is_stale_metadata,
    refresh::{Question, Refresher},
};

/// A client of one cluster. Cheap to clone; a clone is the same client.
///
/// Tasks are spawned on the shard that polls the caller.
pub struct Client<E: Env>(Arc<Inner<E>>);

impl<E: Env> Clone for Client<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<E: Env> {
    shared: Arc<Shared<E>>,
    /// The client's own connections: metadata, admin, offsets. Never held across an await.
    pool: Arc<Mutex<Pool<E>>>,
    questions: mpsc::UnboundedSender<Question>,
    refresher: E::Task,
}

impl<E: Env> Drop for Inner<E> {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl<E: Env> Client<E> {
    /// A client that has not asked anybody yet.
    ///
    /// Errors: [`ClientError::Config`].
    pub fn new(env: E, config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        let shared = Arc::new(Shared::new(env, config));
        let pool = Arc::new(Mutex::new(Pool::new(Arc::clone(&shared))));
        // As many questions as there are callers who wait: each asks once.
        let (questions, asked) = mpsc::unbounded_channel();
        let refresher = Refresher::new(Arc::clone(&shared), Arc::clone(&pool)).run(asked);
        let env = &shared.env;
        let refresher = env.spawn(env.current_shard(), "client.metadata", refresher);
        Ok(Self(Arc::new(Inner { shared, pool, questions, refresher })))
    }

    /// A client that has found the cluster: each bootstrap address was tried once, until one answered.
    ///
    /// Errors: [`ClientError::Config`], [`ClientError::NoBroker`].
    pub async fn connect(env: E, config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::new(env, config)?;
        client.refresh(&[]).await?;
        Ok(client)
    }

    /// A producer.
    ///
    /// Errors: [`ClientError::Config`].
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer<E>, ClientError> {
        Producer::new(self, config)
    }

    /// A consumer without partitions.
    ///
    /// Errors: [`ClientError::Config`].
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer<E>, ClientError> {
        Consumer::new(self, config)
    }

    /// A member of a group, which joins once it has subscribed.
    ///
    /// Errors: [`ClientError::Config`].
    pub fn group_consumer(&self, config: GroupConfig) -> Result<GroupConsumer<E>, ClientError> {
        GroupConsumer::new(self, config)
    }

    /// Everything that is neither producing nor consuming.
    #[must_use]
    pub fn admin(&self) -> Admin<E> {
        Admin::new(self)
    }

    /// What is known of the cluster now. Topics are in it once somebody used them.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        self.0.shared.cluster()
    }

    /// The world it runs in.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.0.shared.env
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<E>> {
        &self.0.shared
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.0.shared.config
    }

    pub(crate) fn now(&self) -> Instant {
        self.env().clock().now()
    }

    /// Connections for one user alone.
    pub(crate) fn own_pool(&self) -> Pool<E> {
        Pool::new(Arc::clone(&self.0.shared))
    }

    /// Learns anew what is known of these topics and of the brokers, and tells when that is done.
    pub(crate) fn refresh_then(
        &self,
        topics: Vec<Arc<str>>,
        done: impl FnOnce(Result<(), ClientError>) + Send + 'static,
    ) {
        // An error means that the task is gone, and with it the client: nobody listens.
        drop(self.0.questions.send(Question { topics, done: Box::new(done) }));
    }

    /// Learns anew what is known of these topics and of the brokers. One round: every broker is tried once.
    pub(crate) async fn refresh(&self, topics: &[Arc<str>]) -> Result<(), ClientError> {
        let (done, told) = oneshot::channel();
        self.refresh_then(topics.to_vec(), move |outcome| drop(done.send(outcome)));
        told.await.unwrap_or(Err(ClientError::Closed))
    }

    /// One call over the client's own connections.
    pub(crate) async fn call(
        &self,
        target: Target,
        request: impl Into<Request>,
        versions: RangeInclusive<i16>,
    ) -> Result<Answer, ClientError> {
        self.post(target, request, versions).wait(self.shared()).await
    }

    /// The same in two steps, for calls to several brokers at once.
    pub(crate) fn post(&self, target: Target, request: impl Into<Request>, versions: RangeInclusive<i16>) -> Pending {
        post(&self.0.shared, &self.0.pool, target, request.into(), versions)
    }

    /// Hands a call over to the client's own connections.
    pub(crate) fn hand_over(&self, target: Target, call: Call) {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner).call(target, call);
    }

    /// The controller, or any broker as long as no controller is known. Asks if nothing is known.
    pub(crate) async fn controller(&self) -> Result<Target, ClientError> {
        let cluster = self.known_cluster().await?;
        let controller = cluster.controller.filter(|id| cluster.brokers.contains_key(id));
        Ok(controller.map_or_else(|| any_of(&cluster), Target::Broker))
    }

    /// Some broker. Asks if nothing is known.
    pub(crate) async fn any_broker(&self) -> Result<Target, ClientError> {
        Ok(any_of(&*self.known_cluster().await?))
    }

    pub(crate) async fn known_cluster(&self) -> Result<Arc<Cluster>, ClientError> {
        if self.cluster().brokers.is_empty() {
            self.refresh(&[]).await?;
        }
        Ok(self.cluster())
    }

    /// The retries of one call of the API.
    pub(crate) fn retry(&self, what: impl Into<String>) -> Retry<E> {
        let after = self.config().api_timeout;
        let deadline = self.now() + after;
        let rng = self.env().rng("client.retry");
        Retry { client: self.clone(), what: what.into(), deadline, failures: 0, rng }
    }
}

fn any_of(cluster: &Cluster) -> Target {
    let first: Option<BrokerId> = cluster.brokers.keys().next().copied();
    first.map_or(Target::Bootstrap(0), Target::Broker)
}

/// A call that was handed over.
pub(crate) struct Pending {
    api: ApiKey,
    outcome: oneshot::Receiver<Result<Option<Answer>, ClientError>>,
    deadline: Instant,
}

/// Hands a call over. The deadline counts from now, whether or not the connection is up.
pub(crate) fn post<E: Env>(
    shared: &Shared<E>,
    pool: &Mutex<Pool<E>>,
    target: Target,
    request: Request,
    versions: RangeInclusive<i16>,
) -> Pending {
    let (done, outcome) = oneshot::channel();
    let (api, deadline) = (request.api(), shared.env.clock().now() + shared.config.request_timeout);
    // An error means that nobody waits any more.
    let reply = ReplyTo::new(move |outcome| drop(done.send(outcome)));
    let call = Call { request, versions, patience: shared.config.request_timeout, has_reply: true, reply };
    pool.lock().unwrap_or_else(PoisonError::into_inner).call(target, call);
    Pending { api, outcome, deadline }
}

impl Pending {
    /// The reply.
    pub(crate) async fn wait<E: Env>(self, shared: &Shared<E>) -> Result<Answer, ClientError> {
        let Self { api, outcome, deadline } = self;
        let late = || ClientError::TimedOut {
            what: format!("{api} request"),
            after: shared.config.request_timeout,
            last: None,
        };
        let outcome = tokio::select! { biased;
            outcome = outcome => outcome.unwrap_or(Err(ClientError::Closed)),
            () = shared.env.clock().sleep_until(deadline) => return Err(late()),
        };
        outcome?.ok_or_else(late)
    }
}

/// Tries again until the API's time-out.
pub(crate) struct Retry<E: Env> {
    client: Client<E>,
    what: String,
    deadline: Instant,
    failures: u32,
    rng: Rng,
}

impl<E: Env> Retry<E> {
    /// Pauses before the next try. Errors: this error itself, if another try is useless; a time-out, if there is no time for one.
    pub(crate) async fn pause(&mut self, error: &ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() {
            return Err(error.clone());
        }
        self.failures = self.failures.saturating_add(1);
        let pause = self.client.shared().backoff().pause(self.failures, &mut self.rng);
        let clock = self.client.env().clock();
        if clock.now() + pause >= self.deadline {
            let after = self.client.config().api_timeout;
            return Err(ClientError::TimedOut { what: self.what.clone(), after, last: Some(Box::new(error.clone())) });
        }
        clock.sleep(pause).await;
        // The controller may be another one, the broker elsewhere. Should nobody answer, the next try shows it.
        if error.code() == Some(ErrorCode::NotController) || is_stale_metadata(error) {
            drop(self.client.refresh(&[]).await);
        }
        Ok(())
    }

    /// Failures so far.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}
