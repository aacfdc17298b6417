//! A client's connection, which is made again whenever it fails, and what the client knows.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use quipu_env::{Clock, Env, Net, Rng};
use quipu_protocol::{ErrorCode, Request, Response};
use quipu_sim::SimEnv;
use quipu_wire_client::{CallError, Connection, requests::TopicRef};
use rand::RngExt;

use super::{PORT, Scene};
use crate::{
    history::LogIndex,
    plan::{self, BROKER},
};

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
    connection: Option<Connection<SimEnv>>,
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
            connection: None,
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
        let addresses = self.env.net().resolve(BROKER, PORT).await.ok()?;
        Connection::connect(&self.env, *addresses.first()?, self.patience()).await.ok()
    }

    /// The client's connection, made if there is none.
    pub(super) async fn connection(&mut self) -> &mut Connection<SimEnv> {
        while self.connection.is_none() {
            match self.connect().await {
                Some(connection) => self.connection = Some(connection),
                None => self.pause().await,
            }
        }
        self.connection.as_mut().expect("it has just been made")
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
        match self.connection().await.call(version, request).await {
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
        self.connection = None;
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
        if self.scene.plan.is_deleted(topic) { wanted.max(by_id_since) } else { wanted }
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
