//! A client's connections, one to each broker, which are made again whenever one fails, and what the client knows.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use quipu_env::{Clock, Env, Net, Rng};
use quipu_protocol::{ErrorCode, Request, Response};
use quipu_sim::SimEnv;
use quipu_wire_client::{CallError, Connection, requests::TopicRef};
use rand::RngExt;

use super::{PORT, Scene, topics};
use crate::{history::LogIndex, plan};

/// When nothing is wrong, every answer comes within this time.
const LATE: Duration = Duration::from_secs(2);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A topic as a client knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) topic: TopicRef,
    pub(super) partitions: i32,
    /// The leader of each partition, by its node's number; those that have none are missing.
    pub(super) leaders: BTreeMap<i32, u32>,
}

impl Known {
    /// The topic's id, as histories have it.
    pub(super) fn id(&self) -> String {
        self.topic.id.to_string()
    }
}

/// See the module.
pub(super) struct Client {
    pub(super) env: SimEnv,
    pub(super) scene: Scene,
    pub(super) number: u32,
    pub(super) spec: plan::Client,
    pub(super) rng: Rng,
    /// By node.
    connections: BTreeMap<u32, Connection<SimEnv>>,
    /// The broker that it asks for what any of them can answer.
    home: u32,
    /// By name.
    pub(super) known: BTreeMap<String, Known>,
    /// Where it stands, and the history's idea of it.
    pub(super) positions: BTreeMap<LogIndex, i64>,
    /// Records that it has sent.
    pub(super) records: u32,
}

impl Client {
    pub(super) fn new(env: &SimEnv, scene: &Scene, number: u32, spec: &plan::Client) -> Self {
        Self {
            env: env.clone(),
            scene: scene.clone(),
            number,
            spec: spec.clone(),
            rng: env.rng("client"),
            connections: BTreeMap::new(),
            home: number % scene.brokers() + 1,
            known: BTreeMap::new(),
            positions: BTreeMap::new(),
            records: 0,
        }
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.spec.patience_ms.max(1))
    }

    /// A connection beside the client's own.
    pub(super) async fn connect(&self) -> Option<Connection<SimEnv>> {
        self.connect_to(self.home).await
    }

    async fn connect_to(&self, node: u32) -> Option<Connection<SimEnv>> {
        let machine = self.scene.plan.config.machine(node);
        let addresses = self.env.net().resolve(&machine, PORT).await.ok()?;
        Connection::connect(&self.env, *addresses.first()?, self.patience()).await.ok()
    }

    /// The client's connection to any broker, made if there is none.
    pub(super) async fn connection(&mut self) -> &mut Connection<SimEnv> {
        while !self.connections.contains_key(&self.home) {
            match self.connect().await {
                Some(connection) => drop(self.connections.insert(self.home, connection)),
                None => {
                    self.turn_to_another();
                    self.pause().await;
                }
            }
        }
        self.connections.get_mut(&self.home).expect("it has just been made")
    }

    /// The client's connection to a broker; none if that one of several can't be reached.
    pub(super) async fn connection_to(&mut self, node: u32) -> Option<&mut Connection<SimEnv>> {
        if self.scene.brokers() == 1 {
            return Some(self.connection().await);
        }
        if !self.connections.contains_key(&node) {
            let connection = self.connect_to(node).await?;
            self.connections.insert(node, connection);
        }
        self.connections.get_mut(&node)
    }

    /// The broker that it asks for what any of them can answer.
    pub(super) const fn home(&self) -> u32 {
        self.home
    }

    fn turn_to_another(&mut self) {
        self.home = self.home % self.scene.brokers() + 1;
    }

    /// Who leads a partition; whoever is asked for everything, if nobody is known to.
    pub(super) fn leader(&self, known: &Known, partition: i32) -> u32 {
        known.leaders.get(&partition).copied().unwrap_or(self.home)
    }

    /// Waits a little, before something is tried again.
    pub(super) async fn pause(&mut self) {
        let pause = Duration::from_micros(self.rng.random_range(1_000..50_000));
        self.env.clock().sleep(pause).await;
    }

    /// Rests as the plan has it.
    pub(super) async fn rest(&self) {
        self.sleep_ms(self.spec.pace_ms).await;
    }

    pub(super) async fn sleep_ms(&self, ms: u64) {
        if ms > 0 {
            self.env.clock().sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Calls once. None if there was no reply; the connection is gone then.
    pub(super) async fn call_once(&mut self, version: i16, request: impl Into<Request>) -> Option<Response> {
        let request = request.into();
        let outcome = self.connection().await.call(version, request).await;
        self.called(outcome).await
    }

    /// Calls that broker once. None if it can't be reached, or there was no reply; no connection is left then.
    pub(super) async fn call_once_at(
        &mut self,
        node: u32,
        version: i16,
        request: impl Into<Request>,
    ) -> Option<Response> {
        let request = request.into();
        let Some(connection) = self.connection_to(node).await else {
            topics::refresh(self).await;
            self.pause().await;
            return None;
        };
        let outcome = connection.call(version, request).await;
        self.called(outcome).await
    }

    async fn called(&mut self, outcome: Result<Response, CallError>) -> Option<Response> {
        match outcome {
            Ok(response) => {
                self.scene.answered(&response);
                Some(response)
            }
            Err(error) => {
                self.failed(&error).await;
                None
            }
        }
    }

    /// Calls until there is a reply.
    pub(super) async fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let request = request.into();
        loop {
            if let Some(response) = self.call_once(version, request.clone()).await {
                return response;
            }
        }
    }

    pub(super) async fn failed(&mut self, error: &CallError) {
        if error.is_broken_promise() {
            self.strange("broken-promise", error.to_string());
        }
        let is_late = matches!(error, CallError::TimedOut) && self.patience() >= LATE;
        let since = self.scene.now().saturating_sub(nanos(self.patience()));
        if is_late && self.scene.recorder.is_quiet(since) {
            self.strange("late-answer", format!("nothing is wrong, and no answer came in {:?}", self.patience()));
        }
        self.connections.clear();
        self.turn_to_another();
        // Whoever led may be gone.
        if self.scene.plan.config.is_cluster() {
            self.known.clear();
        }
        self.pause().await;
    }

    /// The code that a number stands for.
    pub(super) fn code(&self, number: i16) -> ErrorCode {
        let code = ErrorCode::from_code(number).unwrap_or_else(|| {
            self.strange("unexpected-error", format!("error code {number} is none of Kafka's"));
            ErrorCode::UnknownServerError
        });
        if code != ErrorCode::None {
            self.scene.met(code);
        }
        code
    }

    /// Notes what must not be.
    pub(super) fn strange(&self, checker: &str, detail: impl Into<String>) {
        self.scene.strange(self.number, checker, detail);
    }

    /// A code that no client is told to expect in answer to that.
    pub(super) fn unexpected(&self, asked: &str, code: ErrorCode, message: Option<&str>) {
        let message = message.unwrap_or_default();
        self.strange("unexpected-error", format!("{asked}: {} {message}", code.name()));
    }

    pub(super) fn log(&self, known: &Known, partition: i32) -> LogIndex {
        self.scene.recorder.log(&known.topic.name, &known.id(), partition)
    }

    /// The version for requests that name topics by id if they can: a topic that somebody deletes is only asked for by id, since a
    /// name may mean another topic by the time that the request arrives.
    pub(super) fn version_for(&self, topic: &str, wanted: i16, by_id_since: i16) -> i16 {
        if self.scene.deleted.contains(topic) { wanted.max(by_id_since) } else { wanted }
    }
}

/// The bytes of a reply's message, for people.
pub(super) fn text(message: Option<&quipu_protocol::Str>) -> Option<String> {
    message.map(ToString::to_string)
}

/// What a hostile client sends.
pub(super) fn noise(rng: &mut Rng, bytes: u32) -> Bytes {
    (0..bytes).map(|_| rng.random_range(0..=255_u8)).collect()
}
