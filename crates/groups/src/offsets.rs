//! The committed offsets of one group, and when they expire.

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{PartitionIndex, Timestamp};

use crate::request::{Committed, TopicPartition};

/// An offset, with its times.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Kept {
    pub(crate) committed: Committed,
    /// When it was committed, milliseconds since 1970.
    pub(crate) commit_ms: i64,
    /// When it expires, if its client has said so.
    pub(crate) expire_ms: Option<i64>,
}

/// From when on an offset's retention counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Since {
    /// Its commit.
    Commit,
    /// Its commit, or this time if that is later: since then the group has no members.
    Empty(i64),
}

impl Kept {
    /// Whether it is to be forgotten.
    pub(crate) fn is_expired(&self, now: Timestamp, since: Since, retention: Duration) -> bool {
        if let Some(at) = self.expire_ms {
            return now.get() >= at;
        }
        let base = match since {
            Since::Commit => self.commit_ms,
            Since::Empty(since) => since,
        };
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        now.get().saturating_sub(base) >= retention
    }
}

/// All offsets of one group.
#[derive(Default, Debug)]
pub(crate) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<PartitionIndex, Kept>>,
    count: usize,
}

impl Offsets {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<&Kept> {
        self.topics.get(&partition.topic)?.get(&partition.partition)
    }

    pub(crate) fn insert(&mut self, partition: TopicPartition, kept: Kept) {
        let topic = self.topics.entry(partition.topic).or_default();
        if topic.insert(partition.partition, kept).is_none() {
            self.count += 1;
        }
    }

    pub(crate) fn remove(&mut self, partition: &TopicPartition) -> bool {
        let Some(topic) = self.topics.get_mut(&partition.topic) else { return false };
        let is_removed = topic.remove(&partition.partition).is_some();
        self.count -= usize::from(is_removed);
        if topic.is_empty() {
            self.topics.remove(&partition.topic);
        }
        is_removed
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Kept)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(|(partition, kept)| (TopicPartition { topic: Arc::clone(topic), partition: *partition }, kept))
        })
    }

    /// Those of one topic.
    pub(crate) fn of_topic(&self, topic: &Arc<str>) -> Vec<TopicPartition> {
        let partitions = self.topics.get(topic).into_iter().flat_map(BTreeMap::keys);
        partitions.map(|partition| TopicPartition { topic: Arc::clone(topic), partition: *partition }).collect()
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{LeaderEpoch, Offset, TopicId};

    use super::*;

    #[test]
    fn retention_counts_from_the_commit_or_from_the_last_member() {
        let committed = Committed {
            offset: Offset(1),
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
            topic_id: TopicId::ZERO,
        };
        let kept = Kept { committed, commit_ms: 1000, expire_ms: None };
        let retention = Duration::from_secs(10);
        assert!(!kept.is_expired(Timestamp(10_999), Since::Commit, retention));
        assert!(kept.is_expired(Timestamp(11_000), Since::Commit, retention));
        assert!(!kept.is_expired(Timestamp(14_999), Since::Empty(5000), retention));
        assert!(kept.is_expired(Timestamp(15_000), Since::Empty(5000), retention));
        let own = Kept { expire_ms: Some(2000), ..kept };
        assert!(own.is_expired(Timestamp(2000), Since::Empty(5000), retention));
        assert!(!own.is_expired(Timestamp(1999), Since::Commit, retention));
    }
}
