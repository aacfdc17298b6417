//! What a group of records changed, for those who must act on it: replicas to open and close, configs to resolve again.
//!
//! Invariants
//! - It tells the difference between the image before the group and the image after it: a topic that was created and
//!   deleted within the group is not mentioned.
//! - It names what changed and says nothing of how: that is read from the image after.
//!
//! Read `image` next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{BrokerId, PartitionIndex, TopicId, TopicIdPartition};

use crate::record::ConfigResource;

/// What changed between two images.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delta {
    /// Topics that are new.
    pub topics_created: BTreeSet<TopicId>,
    /// Topics that are gone.
    pub topics_deleted: BTreeMap<TopicId, DeletedTopic>,
    /// Partitions that are new, or whose leader, leader epoch, configuration or replicas changed.
    pub partitions_changed: BTreeSet<TopicIdPartition>,
    /// Resources whose dynamic configs changed; topics that are gone are not among them.
    pub configs_changed: BTreeSet<ConfigResource>,
    /// Brokers that registered, left, or were fenced or unfenced.
    pub brokers_changed: BTreeSet<BrokerId>,
    /// Whether another controller leads, or the same one anew.
    pub controller_changed: bool,
    /// Whether a feature's level changed.
    pub features_changed: bool,
}

/// What a topic was before it went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    /// Its name, which another topic may have by now.
    pub name: Arc<str>,
    /// How many partitions it had.
    pub partition_count: usize,
}

impl Delta {
    /// Whether nothing changed that anybody would act on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn delete_topic(&mut self, topic_id: TopicId, topic: DeletedTopic) {
        let first = TopicIdPartition { topic_id, partition: PartitionIndex(0) };
        let last = TopicIdPartition { topic_id, partition: PartitionIndex(i32::MAX) };
        let gone: Vec<TopicIdPartition> = self.partitions_changed.range(first..=last).copied().collect();
        for partition in gone {
            self.partitions_changed.remove(&partition);
        }
        self.configs_changed.remove(&ConfigResource::Topic(topic.name.to_string()));
        if !self.topics_created.remove(&topic_id) {
            self.topics_deleted.insert(topic_id, topic);
        }
    }
}
