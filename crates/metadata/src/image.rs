//! The cluster as the metadata log describes it up to one offset.
//!
//! Invariants
//! - An image is a function of the records applied to it, and of nothing else.
//! - Cloning costs the same however large the cluster is: the maps are persistent and share what has not changed. A reader
//!   may therefore keep an image for as long as it likes.
//! - `topics` and `topic_ids` name the same topics; the partitions of a topic are numbered from 0 without gaps.
//!
//! Not here: how records change it (`apply`), what a group of records changed (`delta`), how it is written down whole
//! (`snapshot`). There is no index from brokers to partitions: a scan of 100,000 partitions takes milliseconds, happens
//! when a broker starts or fails, and cannot disagree with what it indexes. Read `apply` next.

use std::sync::Arc;

use imbl::{OrdMap, Vector, ordmap::DiffItem};
use quipu_base::{BrokerId, ClusterId, ControllerEpoch, Offset, PartitionIndex, ProducerId, TopicId, TopicIdPartition};

use crate::{
    partition::PartitionState,
    record::{BrokerState, ConfigResource, Voter},
};

/// Dynamic configs of one resource, by name.
pub type Configs = OrdMap<String, String>;

/// The cluster, as of [`Image::next_offset`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    pub(crate) next_offset: Offset,
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) controller: Option<ControllerState>,
    pub(crate) features: OrdMap<String, i16>,
    pub(crate) brokers: OrdMap<BrokerId, Arc<BrokerState>>,
    pub(crate) topics: OrdMap<TopicId, Arc<Topic>>,
    pub(crate) topic_ids: OrdMap<Arc<str>, TopicId>,
    /// Of everything but topics, which hold theirs themselves.
    pub(crate) configs: OrdMap<ConfigResource, Configs>,
    pub(crate) producer_ids: Option<ProducerIdsState>,
}

/// Who leads the metadata quorum, and who votes in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerState {
    /// The leadership.
    pub controller_epoch: ControllerEpoch,
    /// The node that leads.
    pub controller: BrokerId,
    /// The voters.
    pub voters: Arc<[Voter]>,
}

/// The last block of producer ids given to a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdsState {
    /// Who got it.
    pub broker: BrokerId,
    /// The first id after it.
    pub next_producer_id: ProducerId,
}

/// A topic with its partitions and configs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub(crate) topic_id: TopicId,
    pub(crate) name: Arc<str>,
    pub(crate) partitions: Vector<Arc<PartitionState>>,
    pub(crate) configs: Configs,
}

impl Topic {
    /// Its identity.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name, shared.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// How many partitions it has: they are numbered from 0.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// The partition of that number.
    #[must_use]
    pub fn partition(&self, partition: PartitionIndex) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(partition.get()).ok()?).map(Arc::as_ref)
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &PartitionState)> {
        (0..).map(PartitionIndex).zip(self.partitions.iter().map(Arc::as_ref))
    }

    /// The configs set on the topic itself.
    #[must_use]
    pub fn configs(&self) -> &Configs {
        &self.configs
    }
}

impl Image {
    /// The image of an empty metadata log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The offset after the last record applied: the lowest that the next record may have.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Goes on at `offset`, if that is further on: what lies before it are the quorum's own entries, which have offsets like any
    /// record. Who decides on an image calls this, so that a broker epoch is the offset that the registration gets.
    pub fn skip_to(&mut self, offset: Offset) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// The cluster's identity; none before the cluster is made.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// Who leads the metadata quorum; none before the cluster is made.
    #[must_use]
    pub fn controller(&self) -> Option<&ControllerState> {
        self.controller.as_ref()
    }

    /// The finalized level of a feature, 0 if it is not in use.
    #[must_use]
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All features in use with their levels, by name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// The registered broker of that id, fenced or not.
    #[must_use]
    pub fn broker(&self, broker: BrokerId) -> Option<&BrokerState> {
        self.brokers.get(&broker).map(Arc::as_ref)
    }

    /// All registered brokers by id, fenced ones included.
    pub fn brokers(&self) -> impl Iterator<Item = (BrokerId, &BrokerState)> {
        self.brokers.iter().map(|(id, state)| (*id, state.as_ref()))
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topic_by_id(*self.topic_ids.get(name)?)
    }

    /// The topic of that id.
    #[must_use]
    pub fn topic_by_id(&self, topic_id: TopicId) -> Option<&Topic> {
        self.topics.get(&topic_id).map(Arc::as_ref)
    }

    /// The id of the topic of that name.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// The topics of `before`, an earlier image, that are gone by now. What the two share costs nothing.
    pub fn topics_gone_since(&self, before: &Self) -> Vec<Arc<Topic>> {
        let gone = before.topics.diff(&self.topics).filter_map(|item| match item {
            DiffItem::Remove(_, topic) => Some(Arc::clone(topic)),
            DiffItem::Add(..) | DiffItem::Update { .. } => None,
        });
        gone.collect()
    }

    /// The topics that `before`, an earlier image, does not have, or has otherwise. What the two share costs nothing.
    pub fn topics_changed_since(&self, before: &Self) -> Vec<Arc<Topic>> {
        let changed = before.topics.diff(&self.topics).filter_map(|item| match item {
            DiffItem::Add(_, topic) | DiffItem::Update { new: (_, topic), .. } => Some(Arc::clone(topic)),
            DiffItem::Remove(..) => None,
        });
        changed.collect()
    }

    /// Whether nothing but topics has been configured since `before`, an earlier image, as far as that is known at no cost.
    #[must_use]
    pub fn shares_configs_with(&self, before: &Self) -> bool {
        self.configs.ptr_eq(&before.configs)
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topic_ids.values().filter_map(|topic_id| self.topic_by_id(*topic_id))
    }

    /// The topics whose names are at or after `name`, by name: where a paged listing goes on.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Topic> {
        self.topic_ids.range(Arc::from(name)..).filter_map(|(_, topic_id)| self.topic_by_id(*topic_id))
    }

    /// All about one partition.
    #[must_use]
    pub fn partition(&self, partition: TopicIdPartition) -> Option<&PartitionState> {
        self.topic_by_id(partition.topic_id)?.partition(partition.partition)
    }

    /// All partitions, by topic id and number.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicIdPartition, &PartitionState)> {
        self.topics.iter().flat_map(|(topic_id, topic)| {
            topic.partitions().map(|(partition, state)| (TopicIdPartition { topic_id: *topic_id, partition }, state))
        })
    }

    /// The partitions that the broker leads, by topic id and number.
    pub fn partitions_led_by(&self, broker: BrokerId) -> impl Iterator<Item = (TopicIdPartition, &PartitionState)> {
        self.partitions().filter(move |(_, state)| state.leader == Some(broker))
    }

    /// The dynamic configs of a resource; none if it has none, or if it is a topic that does not exist.
    #[must_use]
    pub fn configs(&self, resource: &ConfigResource) -> Option<&Configs> {
        match resource {
            ConfigResource::Topic(name) => self.topic(name).map(Topic::configs),
            _ => self.configs.get(resource),
        }
    }

    /// The resources other than topics that have dynamic configs.
    pub fn configured_resources(&self) -> impl Iterator<Item = (&ConfigResource, &Configs)> {
        self.configs.iter()
    }

    /// The first producer id that no broker has been given.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.producer_ids.map_or(ProducerId(0), |state| state.next_producer_id)
    }
}
