//! Carrying out what the group decided: giving partitions up, taking others over.
//!
//! ```text
//! change -> revoked: paused, listener, commit --- committed, or told why not ---> given up --.
//!        -> lost: listener, given up ---------------------------------------------------------+
//!        -> assigned: where the group stands is looked up --> added, listener <---------------'
//!        -> the session hears that it is done
//! ```
//!
//! Invariants
//! - One change is carried out at a time; whatever has to be waited for is waited for elsewhere, so that a poll that is dropped loses
//!   nothing, and partitions that stay go on.
//! - A commit that was refused does not keep a partition: it is told.

use core::future::pending;
use std::collections::{BTreeMap, VecDeque};

use quipu_env::Env;
use tokio::sync::oneshot;

use super::{
    GroupConsumer, GroupError,
    commits::{Commit, Offsets},
    ledger::{Change, Partitions},
    listed,
    session::{Command, News},
};
use crate::{ClientError, GroupOffset, OffsetReset, Position, TopicPartition};

/// Committed offsets that were looked up.
type Found = Result<BTreeMap<TopicPartition, GroupOffset>, ClientError>;

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// The last commit is under way.
    Committing(Commit),
    /// To be looked up.
    Placing,
    LookingUp(oneshot::Receiver<Found>),
}

/// The changes that wait, and the one under way.
#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<Change>,
    current: Option<Change>,
    stage: Stage,
}

/// Something that was waited for.
pub(super) enum Step {
    Committed(Result<(), GroupError>),
    Found(Found),
}

impl Changes {
    /// Waits for what is under way; never ends if nothing is.
    pub(super) async fn step(&mut self) -> Step {
        match &mut self.stage {
            Stage::Committing(commit) => Step::Committed(commit.await),
            Stage::LookingUp(found) => Step::Found(found.await.unwrap_or(Err(ClientError::Closed))),
            Stage::Idle | Stage::Placing => pending().await,
        }
    }

    /// Whether a partition is being given up.
    pub(super) fn is_giving_up(&self, partition: &TopicPartition) -> bool {
        self.current.as_ref().is_some_and(|change| change.revoked.contains(partition))
    }
}

impl<E: Env> GroupConsumer<E> {
    pub(super) fn take_news(&mut self, news: News) {
        match news {
            News::Change(change) => self.changes.waiting.push_back(change),
            News::Failed(error) => {
                self.is_subscribed = false;
                self.troubles.push_back(error);
            }
        }
    }

    /// Does what can be done without waiting.
    pub(super) fn carry_out(&mut self) {
        loop {
            if self.changes.current.is_none() {
                let Some(change) = self.changes.waiting.pop_front() else { return };
                self.begin(change);
            }
            match self.changes.stage {
                Stage::Placing => self.look_up(),
                Stage::Idle => {}
                Stage::Committing(_) | Stage::LookingUp(_) => return,
            }
            if !matches!(self.changes.stage, Stage::Idle) {
                return;
            }
            self.changes.current = None;
            self.tell(Command::Done);
        }
    }

    fn begin(&mut self, change: Change) {
        let revoked = change.revoked.clone();
        let is_lost = change.is_lost;
        self.changes.current = Some(change);
        self.changes.stage = Stage::Placing;
        if revoked.is_empty() {
            return;
        }
        if is_lost {
            self.listener.lost(&listed(&revoked));
            self.give_up(&revoked);
            return;
        }
        match self.revoke(&revoked) {
            Ok(commit) => self.changes.stage = Stage::Committing(commit),
            Err(error) => self.take_step(Step::Committed(Err(error))),
        }
    }

    /// Stops reading partitions, asks the listener, and commits.
    fn revoke(&mut self, revoked: &Partitions) -> Result<Commit, GroupError> {
        for partition in revoked {
            // One without a place is not read at all.
            drop(self.consumer.pause(partition));
        }
        let is_automatic = self.config.auto_commit.is_some();
        let mut offsets =
            if is_automatic { self.uncommitted(|partition| revoked.contains(partition)) } else { Offsets::new() };
        self.listener.revoked(&listed(revoked), &mut offsets);
        offsets.retain(|partition, _| revoked.contains(partition));
        // An empty one has its turn behind those that were asked for before.
        self.queue(offsets)
    }

    fn give_up(&mut self, partitions: &Partitions) {
        for partition in partitions {
            self.consumer.remove(partition);
            self.unplaced.remove(partition);
            self.committed.remove(partition);
        }
    }

    /// Something that was waited for is there.
    pub(super) fn take_step(&mut self, step: Step) {
        match step {
            Step::Committed(outcome) => {
                self.troubles.extend(outcome.err());
                let revoked = self.changes.current.as_ref().map(|change| change.revoked.clone());
                self.give_up(&revoked.unwrap_or_default());
                self.changes.stage = Stage::Placing;
            }
            Step::Found(Ok(found)) => {
                self.take_over(&found);
                self.changes.stage = Stage::Idle;
            }
            Step::Found(Err(error)) => {
                // It has been tried for long. The next poll tries again.
                self.troubles.push_back(error.into());
                self.changes.stage = Stage::Placing;
            }
        }
    }

    /// Looks up where the group stands in what is taken over.
    fn look_up(&mut self) {
        let assigned = self.changes.current.as_ref().map(|change| listed(&change.assigned)).unwrap_or_default();
        if assigned.is_empty() {
            self.changes.stage = Stage::Idle;
            return;
        }
        let (done, found) = oneshot::channel();
        let (admin, group) = (self.client.admin(), self.config.group.clone());
        let env = self.client.env();
        let work = async move {
            // An error means that the consumer is gone.
            drop(done.send(admin.list_group_offsets(&group, Some(&assigned)).await));
        };
        drop(env.spawn(env.current_shard(), "client.group.offsets", work));
        self.changes.stage = Stage::LookingUp(found);
    }

    /// Begins to read what was taken over.
    fn take_over(&mut self, found: &BTreeMap<TopicPartition, GroupOffset>) {
        let assigned = self.changes.current.as_ref().map(|change| change.assigned.clone()).unwrap_or_default();
        let reset = match self.config.consumer.offset_reset {
            OffsetReset::Error => None,
            OffsetReset::Start => Some(Position::Start),
            OffsetReset::End => Some(Position::End),
        };
        let place = |partition: &TopicPartition| {
            let committed = found.get(partition).map(|committed| match committed.leader_epoch {
                Some(epoch) => Position::OffsetAndEpoch(committed.offset, epoch),
                None => Position::Offset(committed.offset),
            });
            (partition.clone(), committed.or(reset))
        };
        let mut places: BTreeMap<TopicPartition, Option<Position>> = assigned.iter().map(place).collect();
        self.listener.assigned(&mut places);
        for partition in assigned {
            self.committed.extend(found.get(&partition).map(|committed| (partition.clone(), committed.offset)));
            match places.get(&partition).copied().flatten() {
                Some(position) => self.consumer.add(partition, position),
                None => {
                    self.troubles.push_back(GroupError::NoOffset(partition.clone()));
                    self.unplaced.insert(partition);
                }
            }
        }
    }

    /// Gives up everything at once, as revoked: the commits that have to end before the group is left.
    pub(super) fn give_up_all(&mut self) -> Vec<Result<Commit, GroupError>> {
        while let Ok(news) = self.news.try_recv() {
            self.take_news(news);
        }
        let mut commits: Vec<_> = self.own_commits.drain(..).map(Ok).collect();
        if let Some(change) = self.changes.current.take() {
            if let Stage::Committing(commit) = core::mem::take(&mut self.changes.stage) {
                // Told already.
                self.give_up(&change.revoked);
                commits.push(Ok(commit));
            }
            self.tell(Command::Done);
        }
        self.changes.stage = Stage::Idle;
        for change in core::mem::take(&mut self.changes.waiting) {
            // What was taken away can't be committed.
            if change.is_lost {
                let lost: Partitions = self.assignment().filter(|one| change.revoked.contains(one)).cloned().collect();
                self.listener.lost(&listed(&lost));
                self.give_up(&lost);
            }
            self.tell(Command::Done);
        }
        let owned: Partitions = self.assignment().cloned().collect();
        if !owned.is_empty() {
            commits.push(self.revoke(&owned));
            self.give_up(&owned);
        }
        commits
    }

    /// The session was told to leave: what it decided before that is of no use.
    pub(super) fn forget_news(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            if let News::Change(_) = news {
                self.tell(Command::Done);
            }
        }
    }
}
