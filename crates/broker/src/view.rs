//! What this broker serves right now: the cluster's image, and for each partition that it leads the open log.
//!
//! Invariants
//! - Image and partitions belong together: a partition is in the map if and only if the image says that this broker leads
//!   it. One task changes the view (the controller's), everybody else holds clones, which cost nothing.
//! - A partition whose leader epoch changed is another value: nobody appends under an epoch that is over.
//!
//! Not here: how the image changes ([`crate::controller`]).

use std::sync::Arc;

use imbl::OrdMap;
use quipu_base::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition};
use quipu_env::Env;
use quipu_metadata::{
    ConfigResource, Delta, Image,
    config::{BrokerConfig, ConfigLayers, StaticConfig, TopicConfig},
};
use quipu_protocol::ErrorCode;
use quipu_storage::{LogOptions, Store};

use crate::{
    errors::{self, Refusal},
    partition::Partition,
};

/// What is served, as of one offset of the metadata log.
pub(crate) struct View<E: Env> {
    pub(crate) image: Image,
    node_id: BrokerId,
    partitions: OrdMap<TopicIdPartition, Arc<Partition<E>>>,
    topic_configs: OrdMap<TopicId, Arc<TopicConfig>>,
    broker_config: Arc<BrokerConfig>,
}

impl<E: Env> Clone for View<E> {
    fn clone(&self) -> Self {
        Self {
            image: self.image.clone(),
            node_id: self.node_id,
            partitions: self.partitions.clone(),
            topic_configs: self.topic_configs.clone(),
            broker_config: Arc::clone(&self.broker_config),
        }
    }
}

impl<E: Env> View<E> {
    /// Nothing is served yet.
    pub(crate) fn new(image: Image, node_id: BrokerId, statics: &StaticConfig) -> Self {
        let broker_config = Arc::new(ConfigLayers::new(&image, statics, node_id).broker());
        Self { image, node_id, partitions: OrdMap::new(), topic_configs: OrdMap::new(), broker_config }
    }

    /// The partition, if this broker leads it. Errors: the one that a client must get.
    pub(crate) fn partition(&self, id: TopicIdPartition) -> Result<Arc<Partition<E>>, Refusal> {
        match self.partitions.get(&id) {
            Some(partition) => Ok(Arc::clone(partition)),
            None if self.image.partition(id).is_some() => Err(Refusal::plain(ErrorCode::NotLeaderOrFollower)),
            None => Err(errors::unknown_topic(false)),
        }
    }

    /// The configs that hold for a topic.
    pub(crate) fn topic_config(&self, topic_id: TopicId) -> Result<Arc<TopicConfig>, Refusal> {
        self.topic_configs.get(&topic_id).cloned().ok_or_else(|| errors::unknown_topic(false))
    }

    /// The configs that hold for this broker.
    pub(crate) fn broker_config(&self) -> &Arc<BrokerConfig> {
        &self.broker_config
    }

    /// Whether the broker can serve the partition: of another broker we know no better than the image.
    pub(crate) fn is_served_by(&self, broker: BrokerId, id: TopicIdPartition) -> bool {
        broker != self.node_id || self.partitions.get(&id).is_some_and(|partition| partition.log.fault().is_none())
    }

    /// All partitions that are served.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition<E>>> {
        self.partitions.values()
    }

    /// Moves on to `image`, which differs by `delta`: opens, changes and deletes what that means.
    pub(crate) fn advance(
        &mut self,
        image: Image,
        delta: &Delta,
        statics: &StaticConfig,
        store: &Store<E>,
        shard_count: u16,
    ) {
        self.image = image;
        let everything = [ConfigResource::BrokerDefault, ConfigResource::Broker(self.node_id)];
        if everything.iter().any(|resource| delta.configs_changed.contains(resource)) {
            self.broker_config = Arc::new(ConfigLayers::new(&self.image, statics, self.node_id).broker());
            let all: Vec<TopicId> = self.image.topics().map(quipu_metadata::Topic::topic_id).collect();
            all.into_iter().for_each(|topic_id| self.resolve(topic_id, statics));
        }
        for (topic_id, topic) in &delta.topics_deleted {
            self.topic_configs.remove(topic_id);
            for partition in (0..).map(PartitionIndex).take(topic.partition_count) {
                self.delete(TopicIdPartition { topic_id: *topic_id, partition }, store);
            }
        }
        for topic_id in &delta.topics_created {
            self.resolve(*topic_id, statics);
        }
        for resource in &delta.configs_changed {
            if let ConfigResource::Topic(name) = resource
                && let Some(topic_id) = self.image.topic_id(name)
            {
                self.resolve(topic_id, statics);
            }
        }
        for id in &delta.partitions_changed {
            self.open_or_close(*id, store, shard_count);
        }
    }

    /// Resolves a topic's configs anew and gives them to the logs that are open.
    fn resolve(&mut self, topic_id: TopicId, statics: &StaticConfig) {
        let Some(topic) = self.image.topic_by_id(topic_id) else { return };
        let config = ConfigLayers::new(&self.image, statics, self.node_id).topic_with(topic.configs());
        for (partition, _) in topic.partitions() {
            if let Some(partition) = self.partitions.get(&TopicIdPartition { topic_id, partition }) {
                partition.log.set_options(log_options(&config));
            }
        }
        self.topic_configs.insert(topic_id, Arc::new(config));
    }

    fn open_or_close(&mut self, id: TopicIdPartition, store: &Store<E>, shard_count: u16) {
        let leads = self.image.partition(id).filter(|state| state.leader == Some(self.node_id));
        let Some(leader_epoch) = leads.map(|state| state.leader_epoch) else {
            self.partitions.remove(&id);
            return;
        };
        self.open(id, leader_epoch, store, shard_count);
    }

    fn open(&mut self, id: TopicIdPartition, leader_epoch: LeaderEpoch, store: &Store<E>, shard_count: u16) {
        if self.partitions.get(&id).is_some_and(|open| open.leader_epoch == leader_epoch) {
            return;
        }
        let log = store.log(id);
        if let Some(config) = self.topic_configs.get(&id.topic_id) {
            log.set_options(log_options(config));
        }
        self.partitions.insert(id, Arc::new(Partition::new(id, leader_epoch, log, shard_count)));
    }

    fn delete(&mut self, id: TopicIdPartition, store: &Store<E>) {
        if let Some(partition) = self.partitions.remove(&id) {
            partition.waiters.wake();
        }
        // Whoever deletes waits for nothing: the topic's removal is durable, and a start deletes what is left.
        let _ticket = store.delete(id);
    }
}

fn log_options(config: &TopicConfig) -> LogOptions {
    LogOptions { segment_bytes: config.segment_bytes, segment_ms: config.segment_ms }
}
