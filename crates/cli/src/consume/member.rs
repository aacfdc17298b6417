//! Where records come from: partitions of one's own, or those that a group gives.
//!
//! Invariant: a member commits what was printed, never what was only read: every second, when a partition goes to somebody else, and
//! at the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use quipu_client::{
    Client, Consumer, ConsumerRecord, GroupConfig, GroupConsumer, GroupError, OffsetToCommit, RebalanceListener,
    Subscription, TopicPartition,
};
use quipu_env_tokio::TokioEnv;

use super::reading::Ends;
use crate::client::Failure;

/// Between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at what other members have committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Offsets behind what was printed.
#[derive(Clone, Default)]
pub(super) struct Committed(BTreeMap<TopicPartition, OffsetToCommit>);

impl Committed {
    pub(super) fn note(&mut self, record: &ConsumerRecord) {
        let partition = TopicPartition::new(Arc::clone(&record.topic), record.partition);
        let to_commit =
            OffsetToCommit { leader_epoch: record.leader_epoch, ..OffsetToCommit::new(record.offset.next()) };
        self.0.insert(partition, to_commit);
    }
}

/// Where records come from.
pub(super) enum Source {
    Own(Box<Consumer<TokioEnv>>),
    Group(Box<Member>),
}

impl Source {
    pub(super) async fn poll(&mut self, wait_max: Duration) -> Result<Vec<ConsumerRecord>, GroupError> {
        match self {
            Self::Own(consumer) => consumer.poll(wait_max).await.map_err(GroupError::Consumer),
            Self::Group(member) => {
                member.commit_if_due().await?;
                member.consumer.poll(wait_max).await
            }
        }
    }

    pub(super) const fn is_group(&self) -> bool {
        matches!(self, Self::Group(_))
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        match self {
            Self::Own(consumer) => consumer.assignment().cloned().collect(),
            Self::Group(member) => member.consumer.assignment().cloned().collect(),
        }
    }

    /// For ends of partitions.
    pub(super) const fn reader(&self) -> &Consumer<TokioEnv> {
        match self {
            Self::Own(consumer) => consumer,
            Self::Group(member) => member.consumer.consumer(),
        }
    }

    /// These were printed.
    pub(super) fn note(&self, printed: Committed) {
        if let Self::Group(member) = self {
            lock(&member.printed).extend(printed.0);
        }
    }

    /// Whether everything below these offsets is read. Own partitions that are, are read no further.
    pub(super) async fn is_at(&mut self, ends: &Ends) -> Result<bool, Failure> {
        match self {
            Self::Own(consumer) => {
                for (partition, end) in ends {
                    let position = consumer.position(partition).ok().flatten();
                    if position.is_some_and(|position| position >= *end) {
                        consumer.remove(partition);
                    }
                }
                Ok(consumer.assignment().next().is_none())
            }
            Self::Group(member) => member.is_at(ends).await,
        }
    }

    /// Leaves the group.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Own(_) => Ok(()),
            Self::Group(member) => member.consumer.close().await.map_err(Failure::Group),
        }
    }
}

/// What was printed and not yet committed.
type Printed = Arc<Mutex<BTreeMap<TopicPartition, OffsetToCommit>>>;

fn lock(printed: &Printed) -> std::sync::MutexGuard<'_, BTreeMap<TopicPartition, OffsetToCommit>> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member of a group.
pub(super) struct Member {
    client: Client<TokioEnv>,
    group: String,
    consumer: GroupConsumer<TokioEnv>,
    printed: Printed,
    committed_at: Instant,
    looked_at: Option<Instant>,
}

impl Member {
    pub(super) fn join(client: &Client<TokioEnv>, config: GroupConfig, topics: &[String]) -> Result<Self, Failure> {
        let group = config.group.clone();
        let mut consumer = client.group_consumer(config)?;
        let printed = Printed::default();
        consumer.set_listener(Listener(Arc::clone(&printed)));
        consumer.subscribe(Subscription::topics(topics.iter().map(String::as_str)))?;
        Ok(Self { client: client.clone(), group, consumer, printed, committed_at: Instant::now(), looked_at: None })
    }

    async fn commit_if_due(&mut self) -> Result<(), GroupError> {
        if self.committed_at.elapsed() < COMMIT_INTERVAL {
            return Ok(());
        }
        self.commit().await
    }

    async fn commit(&mut self) -> Result<(), GroupError> {
        self.committed_at = Instant::now();
        let offsets = core::mem::take(&mut *lock(&self.printed));
        if offsets.is_empty() { Ok(()) } else { self.consumer.commit_offsets(offsets).await }
    }

    /// Whether the group has read everything below these offsets: this member by itself, others as far as they have committed.
    async fn is_at(&mut self, ends: &Ends) -> Result<bool, Failure> {
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
        let is_at_end = |partition: &TopicPartition, end| {
            let position = self.consumer.position(partition).ok().flatten();
            position.is_some_and(|position| position >= end)
        };
        let (own, others): (Vec<_>, Vec<_>) =
            ends.iter().partition(|(partition, _)| self.consumer.position(partition).is_ok());
        if !is_due || !own.into_iter().all(|(partition, end)| is_at_end(partition, *end)) {
            return Ok(false);
        }
        self.looked_at = Some(Instant::now());
        let others: Vec<_> =
            others.into_iter().filter(|(_, end)| end.0 > 0).map(|(one, end)| (one.clone(), *end)).collect();
        if others.is_empty() {
            return Ok(true);
        }
        let partitions: Vec<TopicPartition> = others.iter().map(|(partition, _)| partition.clone()).collect();
        let found = self.client.admin().list_group_offsets(&self.group, Some(&partitions)).await?;
        Ok(others.iter().all(|(partition, end)| found.get(partition).is_some_and(|one| one.offset >= *end)))
    }
}

/// Commits what was printed of partitions that go away.
struct Listener(Printed);

impl RebalanceListener for Listener {
    fn revoked(&mut self, partitions: &[TopicPartition], commits: &mut BTreeMap<TopicPartition, OffsetToCommit>) {
        let mut printed = lock(&self.0);
        commits.extend(partitions.iter().filter_map(|partition| printed.remove_entry(partition)));
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        let mut printed = lock(&self.0);
        printed.retain(|partition, _| !partitions.contains(partition));
    }
}
