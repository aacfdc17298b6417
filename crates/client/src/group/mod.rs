//! A member of a consumer group: shares topics with other members, and keeps in the group how far it has read.
//!
//! ```text
//!                     poll                      changes: revoked, committed, given up; looked up, added, assigned
//! application <--> GroupConsumer --------------------------> Consumer (positions, fetches)
//!                   |        |  ^
//!                   |        |  `-- what to change -- Session (a task: joins, signs of life) <--> coordinator
//!                   |        `----- Command --------->
//!                   `-- offsets --> Commits (a task: one commit after the other) -----------> coordinator
//! ```
//!
//! Invariants
//! - Records come from partitions that the group has given to this member, as far as anybody can know: from the moment it was told
//!   of, to the moment it was told of the contrary or was silent for too long.
//! - A partition is given up only after every commit of it that was asked for has its outcome.
//! - What is committed by itself was given by an earlier poll than the present one.
//! - A commit that the group does not take is told: to who waits for it, or by the next poll if nobody can.
//!
//! Not here: reading (`consumer`), one commit's fate (`commits`), the two protocols (`classic`, `modern`). Read `session` next,
//! then `changes`.

mod assign;
mod changes;
mod classic;
mod commits;
mod config;
mod error;
mod ledger;
mod listener;
mod modern;
mod session;
mod topics;
pub(crate) mod wire;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use quipu_base::Offset;
use quipu_env::{Clock, Env, Instant, watch};
use tokio::sync::{mpsc, oneshot};

pub use assign::Assignor;
pub use commits::Commit;
pub use config::{GroupConfig, GroupProtocol};
pub use error::GroupError;
pub use listener::{OffsetToCommit, RebalanceListener};
pub use topics::Subscription;

use crate::{Client, ClientError, Consumer, ConsumerRecord, GroupOffset, Position, TopicPartition};
use changes::Changes;
use commits::{COMMITS_WAITING_MAX, Commits, Offsets, Wanted};
use ledger::Membership;
use listener::NoListener;
use session::{Command, News, Session};

/// Who a member of a group is at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMembership {
    /// The group.
    pub group: String,
    /// The member's id; empty until the group has given one.
    pub member_id: String,
    /// The group's generation (classic) or the member's epoch (consumer protocol); none while it is no member.
    pub generation: Option<i32>,
}

/// Reads what a group gives it. See the [crate's example](crate).
///
/// Poll it again and again: within [`GroupConfig::poll_interval_max`], or others get its partitions. Dropping it leaves the group
/// without a commit; [`Self::close`] commits before.
pub struct GroupConsumer<E: Env> {
    client: Client<E>,
    config: GroupConfig,
    consumer: Consumer<E>,
    listener: Box<dyn RebalanceListener>,
    commands: mpsc::UnboundedSender<Command>,
    /// As many as changes: one after the other, each waits for the application.
    news: mpsc::UnboundedReceiver<News>,
    commits: mpsc::Sender<Wanted>,
    membership: watch::Receiver<Membership>,
    is_subscribed: bool,
    changes: Changes,
    /// What the next poll tells.
    troubles: VecDeque<GroupError>,
    /// Owned, and nobody knows where to begin.
    unplaced: BTreeSet<TopicPartition>,
    /// What was last asked to be committed of each partition, or found committed.
    committed: BTreeMap<TopicPartition, Offset>,
    /// Commits that nobody waits for.
    own_commits: VecDeque<Commit>,
    commit_at: Instant,
}

impl<E: Env> GroupConsumer<E> {
    pub(crate) fn new(client: &Client<E>, config: GroupConfig) -> Result<Self, ClientError> {
        config.check()?;
        let (commands, commanded) = mpsc::unbounded_channel();
        let (tell, news) = mpsc::unbounded_channel();
        let (members, membership) = watch::channel(Membership::default());
        let (commits, wanted) = mpsc::channel(COMMITS_WAITING_MAX);
        let env = client.env();
        let session = Session::new(client, config.clone(), tell, members).run(commanded);
        drop(env.spawn(env.current_shard(), "client.group", session));
        let committing = Commits::new(client, config.clone(), membership.clone()).run(wanted);
        drop(env.spawn(env.current_shard(), "client.commits", committing));
        Ok(Self {
            consumer: client.consumer(config.consumer.clone())?,
            client: client.clone(),
            listener: Box::new(NoListener),
            commands,
            news,
            commits,
            membership,
            is_subscribed: false,
            changes: Changes::default(),
            troubles: VecDeque::new(),
            unplaced: BTreeSet::new(),
            committed: BTreeMap::new(),
            own_commits: VecDeque::new(),
            commit_at: client.now() + config.auto_commit.unwrap_or_default(),
            config,
        })
    }

    /// Is told from now on of partitions that come and go.
    pub fn set_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Box::new(listener);
    }

    /// Joins the group, or changes what to read in it. What was subscribed to before and is not now is given up.
    ///
    /// Errors: [`ClientError::Config`].
    pub fn subscribe(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        subscription.check()?;
        self.is_subscribed = true;
        self.tell(Command::Subscribe(subscription));
        Ok(())
    }

    /// Leaves the group, as [`Self::close`] does, and can subscribe again.
    ///
    /// Errors: the last commit was not accepted; the group was left all the same.
    pub async fn unsubscribe(&mut self) -> Result<(), GroupError> {
        if !core::mem::take(&mut self.is_subscribed) {
            return Ok(());
        }
        let mut outcome = self.troubles.drain(..).next().map_or(Ok(()), Err);
        for commit in self.give_up_all() {
            let ended = match commit {
                Ok(commit) => commit.await,
                Err(error) => Err(error),
            };
            outcome = outcome.and(ended);
        }
        let (done, left) = oneshot::channel();
        self.tell(Command::Leave(done));
        // An error means that the session is gone, and with it the membership.
        drop(left.await);
        self.forget_news();
        outcome
    }

    /// Gives up everything, commits positions if that is done by itself, leaves the group, and ends when that is done.
    ///
    /// Errors: the last commit was not accepted; the group was left all the same.
    pub async fn close(mut self) -> Result<(), GroupError> {
        self.unsubscribe().await
    }

    /// Who this member is at the moment.
    #[must_use]
    pub fn membership(&self) -> GroupMembership {
        let membership = self.membership.borrow();
        GroupMembership {
            group: self.config.group.clone(),
            member_id: membership.member_id.to_string(),
            generation: membership.generation,
        }
    }

    /// The partitions that this member reads, in order.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.consumer.assignment().chain(&self.unplaced).collect::<BTreeSet<_>>().into_iter()
    }

    /// Records that follow, at most [`crate::ConsumerConfig::poll_records_max`] of them. Waits at most `wait_max` for the first; none
    /// then is no error. Partitions come and go in here. If this future is dropped, nothing is lost.
    ///
    /// Errors: a partition's trouble, a commit that nobody waited for, or the end of the membership: see [`GroupError`]. Only after
    /// [`GroupError::Fenced`] and errors that are neither a partition's nor a commit's there is nothing to poll any more.
    pub async fn poll(&mut self, wait_max: Duration) -> Result<Vec<ConsumerRecord>, GroupError> {
        let clock = self.client.env().clock().clone();
        let deadline = clock.now() + wait_max;
        // Others must not think that the application is gone while it waits here.
        let wait_each = (self.config.poll_interval_max / 3).max(Duration::from_millis(1));
        self.commit_if_due();
        loop {
            self.tell(Command::Polled);
            while let Ok(news) = self.news.try_recv() {
                self.take_news(news);
            }
            self.carry_out();
            self.look_at_commits();
            if let Some(trouble) = self.troubles.pop_front() {
                return Err(trouble);
            }
            if !self.is_subscribed {
                return Err(GroupError::NotSubscribed);
            }
            let left = deadline.since(clock.now());
            let records = tokio::select! { biased;
                news = self.news.recv() => {
                    news.into_iter().for_each(|news| self.take_news(news));
                    continue;
                }
                step = self.changes.step() => {
                    self.take_step(step);
                    continue;
                }
                records = self.consumer.poll(left.min(wait_each)) => records?,
            };
            if !records.is_empty() {
                return Ok(records);
            }
            if clock.now() >= deadline {
                let unplaced = self.unplaced.first().cloned();
                return unplaced.map_or(Ok(Vec::new()), |partition| Err(GroupError::NoOffset(partition)));
            }
        }
    }

    /// Commits the positions of all partitions, up to the last record that a poll gave, and ends when that is done.
    ///
    /// Errors: [`GroupError::Stale`] if the group does not count on this member any more, and others.
    pub async fn commit(&mut self) -> Result<(), GroupError> {
        self.commit_async()?.await
    }

    /// The same, and does not wait: the commit goes on by itself, after those that were asked for before.
    ///
    /// Errors: [`GroupError::TooManyCommits`], [`GroupError::Stale`].
    pub fn commit_async(&mut self) -> Result<Commit, GroupError> {
        let offsets = self.positions(|_| true);
        self.queue(offsets)
    }

    /// Commits these offsets, and ends when that is done.
    ///
    /// Errors: [`GroupError::NotOwned`], and as of [`Self::commit`].
    pub async fn commit_offsets(&mut self, offsets: Offsets) -> Result<(), GroupError> {
        self.commit_offsets_async(offsets)?.await
    }

    /// The same, and does not wait.
    ///
    /// Errors: [`GroupError::NotOwned`], and as of [`Self::commit_async`].
    pub fn commit_offsets_async(&mut self, offsets: Offsets) -> Result<Commit, GroupError> {
        let owned: BTreeSet<&TopicPartition> = self.assignment().collect();
        if let Some(other) = offsets.keys().find(|partition| !owned.contains(partition)) {
            return Err(GroupError::NotOwned(other.clone()));
        }
        self.queue(offsets)
    }

    /// What the group has committed of these partitions, this member's or not. A partition without a committed offset is left out.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, GroupOffset>, GroupError> {
        Ok(self.client.admin().list_group_offsets(&self.config.group, Some(partitions)).await?)
    }

    /// Goes on there.
    ///
    /// Errors: [`GroupError::NotOwned`].
    pub fn seek(&mut self, partition: &TopicPartition, position: Position) -> Result<(), GroupError> {
        if self.unplaced.remove(partition) {
            self.consumer.add(partition.clone(), position);
            return Ok(());
        }
        Ok(self.consumer.seek(partition, position)?)
    }

    /// The offset of the next record to come; none until it is known where to begin.
    ///
    /// Errors: [`GroupError::NotOwned`].
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<Offset>, GroupError> {
        if self.unplaced.contains(partition) { Ok(None) } else { Ok(self.consumer.position(partition)?) }
    }

    /// How many offsets lie between the position and the end of what may be read, as of the last fetch; none before the first.
    ///
    /// Errors: [`GroupError::NotOwned`].
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<u64>, GroupError> {
        if self.unplaced.contains(partition) { Ok(None) } else { Ok(self.consumer.lag(partition)?) }
    }

    /// Gives no more records of a partition until it is resumed, or given to this member anew.
    ///
    /// Errors: [`GroupError::NotOwned`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), GroupError> {
        Ok(self.consumer.pause(partition)?)
    }

    /// Gives records of a partition again.
    ///
    /// Errors: [`GroupError::NotOwned`].
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), GroupError> {
        if self.changes.is_giving_up(partition) { Ok(()) } else { Ok(self.consumer.resume(partition)?) }
    }

    /// The reader behind it: for ends of partitions.
    #[must_use]
    pub const fn consumer(&self) -> &Consumer<E> {
        &self.consumer
    }

    /// An error means that the session's task is gone, which the news say.
    fn tell(&self, command: Command) {
        drop(self.commands.send(command));
    }

    /// Positions of these partitions, as commits.
    fn positions(&self, is_wanted: impl Fn(&TopicPartition) -> bool) -> Offsets {
        let place = |partition: &TopicPartition| {
            let (offset, leader_epoch) = self.consumer.place(partition)?;
            Some((partition.clone(), OffsetToCommit { offset, leader_epoch, metadata: String::new() }))
        };
        self.consumer.assignment().filter(|partition| is_wanted(partition)).filter_map(place).collect()
    }

    /// Positions that were not committed yet.
    fn uncommitted(&self, is_wanted: impl Fn(&TopicPartition) -> bool) -> Offsets {
        let mut offsets = self.positions(is_wanted);
        offsets.retain(|partition, position| self.committed.get(partition) != Some(&position.offset));
        offsets
    }

    /// Hands a commit over.
    fn queue(&mut self, offsets: Offsets) -> Result<Commit, GroupError> {
        let membership = self.membership.borrow().clone();
        if membership.generation.is_none() && !offsets.is_empty() {
            return Err(GroupError::Stale { group: self.config.group.clone(), code: None });
        }
        self.committed.extend(offsets.iter().map(|(partition, to_commit)| (partition.clone(), to_commit.offset)));
        let (done, outcome) = oneshot::channel();
        match self.commits.try_send(Wanted { offsets, membership, done }) {
            Ok(()) => Ok(Commit(outcome)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(GroupError::TooManyCommits),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ClientError::Closed.into()),
        }
    }

    /// Commits what the polls before this one gave, if it is time to.
    fn commit_if_due(&mut self) {
        let now = self.client.now();
        let Some(interval) = self.config.auto_commit.filter(|_| now >= self.commit_at) else { return };
        self.commit_at = now + interval;
        let offsets = self.uncommitted(|partition| !self.changes.is_giving_up(partition));
        if offsets.is_empty() || self.membership.borrow().generation.is_none() {
            return;
        }
        match self.queue(offsets) {
            Ok(commit) => self.own_commits.push_back(commit),
            Err(error) => self.troubles.push_back(error),
        }
    }

    /// Commits that nobody waits for and that failed are told by the poll.
    fn look_at_commits(&mut self) {
        while let Some(commit) = self.own_commits.front_mut() {
            let outcome = match commit.0.try_recv() {
                Ok(outcome) => outcome,
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => Err(ClientError::Closed.into()),
            };
            self.own_commits.pop_front();
            if let Err(error) = outcome {
                // The position is committed next time, if it is still ours.
                self.committed.clear();
                self.troubles.push_back(error);
            }
        }
    }
}

/// Partitions in order, for a listener.
fn listed(partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
    partitions.iter().map(|partition| TopicPartition::new(Arc::clone(&partition.topic), partition.partition)).collect()
}
