//! Everything that is neither producing nor consuming: topics, settings, brokers, offsets. Every API that the brokers serve.
//!
//! Invariants
//! - Requests go where they belong: changes to the controller, offsets to leaders, what concerns a group to its coordinator, a
//!   broker's own settings to that broker.
//! - Passing trouble is tried again until [`crate::ClientConfig::api_timeout`]; a topic that is not known is looked for a few
//!   seconds, since brokers learn of it one after the other.
//! - Answers are in the order of the question, one for each thing asked about.
//!
//! A change whose reply was lost is tried again, too: what it made then exists already, what it deleted is gone already, and the
//! caller is told so.
//!
//! Not here: transactions, reassignment, ACLs, quotas, which come with the brokers' own.

mod brokers;
mod configs;
mod group_offsets;
mod groups;
mod members;
mod offsets;
mod quorum;
mod topics;

use quipu_env::Env;
use quipu_protocol::ErrorCode;

pub use brokers::{Coordinator, CoordinatorKind, LogDir, LogDirPartition, ProducerIdentity};
pub use configs::{ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigSource};
pub(crate) use group_offsets::Committer;
pub use group_offsets::GroupOffset;
pub use groups::{GroupListing, GroupProtocolType, GroupState};
pub use members::{GroupDescription, GroupMember};
pub use offsets::{EpochEnd, ListedOffset, OffsetSpec};
pub use quorum::{Quorum, QuorumReplica};
pub use topics::{NewPartitions, NewTopic, TopicName};

use crate::{Client, ClientError, client::Retry};

/// One thing's outcome.
pub(crate) type Outcome<T> = Result<T, ClientError>;

/// Looks at and changes a cluster. Cheap to clone.
pub struct Admin<E: Env> {
    client: Client<E>,
}

impl<E: Env> Clone for Admin<E> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone() }
    }
}

impl<E: Env> Admin<E> {
    pub(crate) fn new(client: &Client<E>) -> Self {
        Self { client: client.clone() }
    }

    fn rounds<K: Clone, T>(&self, what: &str, items: Vec<K>) -> Rounds<E, K, T> {
        let outcomes = items.iter().map(|_| None).collect();
        Rounds { retry: self.client.retry(what), items, outcomes, trouble: None }
    }

    /// How long a broker may take, as requests say it.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Asks about several things, and again about those that failed in passing.
struct Rounds<E: Env, K, T> {
    retry: Retry<E>,
    items: Vec<K>,
    outcomes: Vec<Option<Outcome<T>>>,
    trouble: Option<ClientError>,
}

/// Tries after which a topic that nobody knows does not exist.
const UNKNOWN_TOPIC_TRIES: u32 = 5;

impl<E: Env, K: Clone, T> Rounds<E, K, T> {
    /// What is still to be asked about, after a pause if some of it was asked about before. None: everything has its outcome.
    async fn next(&mut self) -> Option<Vec<(usize, K)>> {
        let open = |(at, outcome): (usize, &Option<Outcome<T>>)| outcome.is_none().then_some(at);
        let open: Vec<usize> = self.outcomes.iter().enumerate().filter_map(open).collect();
        if open.is_empty() {
            return None;
        }
        if let Some(trouble) = self.trouble.take()
            && let Err(error) = self.retry.pause(&trouble).await
        {
            for at in open {
                self.outcomes[at] = Some(Err(error.clone()));
            }
            return None;
        }
        Some(open.into_iter().map(|at| (at, self.items[at].clone())).collect())
    }

    fn settle(&mut self, at: usize, outcome: Outcome<T>) {
        match outcome {
            Err(error) if self.is_passing(&error) => self.trouble = Some(error),
            outcome => self.outcomes[at] = Some(outcome),
        }
    }

    /// One trouble for all of these.
    fn settle_all(&mut self, asked: impl IntoIterator<Item = usize>, error: &ClientError) {
        for at in asked {
            self.settle(at, Err(error.clone()));
        }
    }

    fn is_passing(&self, error: &ClientError) -> bool {
        match error.code() {
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
                self.retry.failures() < UNKNOWN_TOPIC_TRIES
            }
            _ => error.is_retriable(),
        }
    }

    /// Things with their outcomes.
    fn finish(self) -> Vec<(K, Outcome<T>)> {
        let outcomes = self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(left_out())));
        self.items.into_iter().zip(outcomes).collect()
    }
}

/// The broker does not say anything of what it was asked about.
fn left_out() -> ClientError {
    ClientError::refused(
        "read the reply",
        ErrorCode::UnknownServerError.code(),
        Some("it leaves out what was asked about"),
    )
}

/// An answer's error, if it is one.
fn check(what: impl FnOnce() -> String, code: i16, message: Option<&str>) -> Outcome<()> {
    if code == ErrorCode::None.code() { Ok(()) } else { Err(ClientError::refused(what(), code, message)) }
}

/// The reply of the kind that was asked for.
macro_rules! expect_reply {
    ($answer:expr, $kind:ident) => {
        match $answer.response {
            quipu_protocol::Response::$kind(response) => response,
            other => unreachable!("a {} reply to another request", other.api()),
        }
    };
}
use expect_reply;
