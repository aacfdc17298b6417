//! Commits, one after the other.
//!
//! Invariants
//! - Commits are sent in the order in which they were asked for, each tried until it has its outcome: an older one never takes the
//!   place of a newer one.
//! - A commit that was refused only because the group has a newer generation, or the member a newer epoch, is sent again under that
//!   one, as long as the member has lost nothing in between: what it committed is still its own, since no partition is given
//!   up before the commits of it have their outcome (`changes`).
//! - Any other refusal is told to whoever asked.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use std::collections::BTreeMap;

use quipu_env::{Clock, Env, Rng, watch};
use quipu_protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use super::{GroupConfig, GroupError, GroupProtocol, ledger::Membership, listener::OffsetToCommit};
use crate::{Client, ClientError, TopicPartition, admin::Committer};

/// Commits that wait for the ones before them.
pub(crate) const COMMITS_WAITING_MAX: usize = 1000;
/// Tries after which a topic that the coordinator doesn't know does not exist.
const UNKNOWN_TOPIC_TRIES: u32 = 5;

/// Offsets by partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, OffsetToCommit>;

/// A commit that waits.
pub(crate) struct Wanted {
    pub(crate) offsets: Offsets,
    /// Who the member was when it was asked for.
    pub(crate) membership: Membership,
    pub(crate) done: oneshot::Sender<Result<(), GroupError>>,
}

/// A commit under way: ends with its outcome. May be dropped: the offsets are committed all the same.
#[must_use = "a commit tells whether the offsets were committed"]
pub struct Commit(pub(crate) oneshot::Receiver<Result<(), GroupError>>);

impl Future for Commit {
    type Output = Result<(), GroupError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or(Err(ClientError::Closed.into())))
    }
}

/// The task's state.
pub(crate) struct Commits<E: Env> {
    client: Client<E>,
    config: GroupConfig,
    membership: watch::Receiver<Membership>,
    rng: Rng,
}

impl<E: Env> Commits<E> {
    pub(crate) fn new(client: &Client<E>, config: GroupConfig, membership: watch::Receiver<Membership>) -> Self {
        Self { client: client.clone(), config, membership, rng: client.env().rng("client.commits") }
    }

    /// Runs until nobody can ask any more and all that was asked for is done.
    pub(crate) async fn run(mut self, mut wanted: mpsc::Receiver<Wanted>) {
        while let Some(Wanted { offsets, membership, done }) = wanted.recv().await {
            let outcome = if offsets.is_empty() { Ok(()) } else { self.commit(&offsets, membership).await };
            // An error means that nobody waits for it.
            drop(done.send(outcome));
        }
    }

    async fn commit(&mut self, offsets: &Offsets, membership: Membership) -> Result<(), GroupError> {
        let clock = self.client.env().clock().clone();
        let after = self.client.config().api_timeout;
        let deadline = clock.now() + after;
        let mut failures = 0_u32;
        let mut generation = membership.generation;
        loop {
            let error = match self.commit_once(offsets, &membership, generation).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            failures = failures.saturating_add(1);
            let is_gone = error.code() == Some(ErrorCode::UnknownTopicOrPartition) && failures >= UNKNOWN_TOPIC_TRIES;
            if is_gone || !self.may_pass(&error, &membership)? {
                return Err(GroupError::Client(error));
            }
            let pause = self.client.shared().backoff().pause(failures, &mut self.rng);
            if clock.now() + pause >= deadline {
                let what = format!("commit offsets of group {}", self.config.group);
                return Err(ClientError::TimedOut { what, after, last: Some(Box::new(error)) }.into());
            }
            let awaits_news = error.code().is_some_and(is_of_a_rebalance);
            tokio::select! { biased;
                changed = self.membership.changed(), if awaits_news => if changed.is_err() {
                    // No news come any more.
                    clock.sleep(pause).await;
                },
                () = clock.sleep(pause) => {}
            }
            let now = self.membership.borrow_and_update().clone();
            if now.incarnation == membership.incarnation {
                generation = now.generation.or(generation);
            }
        }
    }

    async fn commit_once(
        &self,
        offsets: &Offsets,
        membership: &Membership,
        generation: Option<i32>,
    ) -> Result<(), ClientError> {
        let committer = Committer {
            member_id: membership.member_id.clone(),
            generation: generation.unwrap_or(-1),
            instance_id: self.config.instance_id.as_deref().map(Into::into),
            has_epoch: self.config.protocol == GroupProtocol::Consumer,
        };
        let outcomes = self.client.admin().commit_once(&self.config.group, &committer, offsets).await?;
        outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
    }

    /// Whether it can be tried again. Errors: the member is none any more.
    fn may_pass(&self, error: &ClientError, then: &Membership) -> Result<bool, GroupError> {
        let Some(code) = error.code() else { return Ok(error.is_retriable()) };
        let group = || self.config.group.clone();
        let is_same = self.membership.borrow().incarnation == then.incarnation;
        match code {
            _ if is_of_a_rebalance(code) && is_same => Ok(true),
            _ if is_of_a_rebalance(code) => Err(GroupError::Stale { group: group(), code: Some(code) }),
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                Err(GroupError::Stale { group: group(), code: Some(code) })
            }
            ErrorCode::FencedInstanceId => {
                let instance_id = self.config.instance_id.clone().unwrap_or_default();
                Err(GroupError::Fenced { group: group(), instance_id, code })
            }
            _ => Ok(error.is_retriable()),
        }
    }
}

/// Refusals that pass once the member knows its new generation or epoch.
const fn is_of_a_rebalance(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch)
}
