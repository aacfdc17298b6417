//! What this broker knows and holds right now: the cluster's image, and each partition of which it holds a replica.
//!
//! Invariants
//! - Image and partitions belong together: a partition is in the map if and only if the image says that this broker holds a
//!   replica of it. One task changes the view (the controller's), everybody else holds clones, which cost nothing.
//! - The shards hear of a change before the view is published: whoever sees a partition here finds it at its shard.
//!
//! Not here: how the image changes ([`crate::quorum`]), who leads and how far records are committed ([`crate::shard`]).

use core::time::Duration;
use std::sync::Arc;

use imbl::OrdMap;
use quipu_base::{BrokerId, PartitionIndex, TopicId, TopicIdPartition};
use quipu_env::{Env, Instant, ShardId};
use quipu_metadata::{
    ConfigResource, Delta, Image,
    config::{BrokerConfig, ClientMetrics, ConfigLayers, StaticConfig, TopicConfig},
};
use quipu_protocol::ErrorCode;
use quipu_storage::{Compaction, LogOptions, Retention, Store};

use crate::{
    errors::{self, Refusal},
    lagging::Lagging,
    partition::{Partition, shard_of},
    shard::{Opened, Update, broker_view, partition_state},
};

/// A broker that is lost is still listed for so long: as long as clients take to learn of the leaders that follow it.
const LOST_LISTED_FOR: Duration = Duration::from_secs(5);

/// What is known and held, as of one offset of the metadata log.
pub(crate) struct View<E: Env> {
    pub(crate) image: Image,
    node_id: BrokerId,
    partitions: OrdMap<TopicIdPartition, Arc<Partition<E>>>,
    topic_configs: OrdMap<TopicId, Arc<TopicConfig>>,
    broker_config: Arc<BrokerConfig>,
    /// Which metrics clients are asked for.
    pub(crate) client_metrics: Arc<ClientMetrics>,
    lagging: Arc<Lagging>,
    /// Since when brokers that served before are fenced, as far as this node has seen it.
    lost: OrdMap<BrokerId, Instant>,
}

impl<E: Env> Clone for View<E> {
    fn clone(&self) -> Self {
        Self {
            image: self.image.clone(),
            node_id: self.node_id,
            partitions: self.partitions.clone(),
            topic_configs: self.topic_configs.clone(),
            broker_config: Arc::clone(&self.broker_config),
            client_metrics: Arc::clone(&self.client_metrics),
            lagging: Arc::clone(&self.lagging),
            lost: self.lost.clone(),
        }
    }
}

/// What each shard has to do, in the order of the shards.
pub(crate) struct Updates<E: Env>(pub(crate) Vec<Update<E>>);

impl<E: Env> Updates<E> {
    fn new(shard_count: u16) -> Self {
        Self((0..shard_count).map(|_| Update::default()).collect())
    }

    fn of(&mut self, shard: ShardId) -> &mut Update<E> {
        &mut self.0[usize::from(shard.0)]
    }

    fn shard_count(&self) -> u16 {
        u16::try_from(self.0.len()).expect("it was made from a u16")
    }
}

impl<E: Env> View<E> {
    /// Nothing is held yet.
    pub(crate) fn new(image: Image, node_id: BrokerId, statics: &StaticConfig) -> Self {
        let broker_config = Arc::new(ConfigLayers::new(&image, statics, node_id).broker());
        Self {
            client_metrics: Arc::new(ClientMetrics::new(&image)),
            image,
            node_id,
            partitions: OrdMap::new(),
            topic_configs: OrdMap::new(),
            broker_config,
            lagging: Arc::default(),
            lost: OrdMap::new(),
        }
    }

    /// The partition, if this broker leads it or should. Errors: the one that a client must get.
    pub(crate) fn partition(&self, id: TopicIdPartition) -> Result<Arc<Partition<E>>, Refusal> {
        let Some(state) = self.image.partition(id) else { return Err(errors::unknown_topic(false)) };
        match self.partitions.get(&id) {
            Some(partition) if partition.is_active() => Ok(Arc::clone(partition)),
            // A damaged replica that nobody can replace: the client is told why, not sent around.
            Some(partition) if state.leader.is_none_or(|leader| leader == self.node_id) => {
                errors::check_sound(&partition.log)?;
                Err(Refusal::plain(ErrorCode::NotLeaderOrFollower))
            }
            _ => Err(Refusal::plain(ErrorCode::NotLeaderOrFollower)),
        }
    }

    /// Whether this broker is to lead the partition, and does not serve it yet.
    pub(crate) fn is_about_to_lead(&self, id: TopicIdPartition) -> bool {
        let leader = self.image.partition(id).and_then(|state| state.leader);
        leader == Some(self.node_id) && !self.partitions.get(&id).is_some_and(|partition| partition.is_active())
    }

    /// This broker.
    pub(crate) fn node_id(&self) -> BrokerId {
        self.node_id
    }

    /// Which replicas lag.
    pub(crate) fn lagging(&self) -> &Arc<Lagging> {
        &self.lagging
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

    /// Whether this broker holds a replica of the partition.
    pub(crate) fn holds(&self, id: TopicIdPartition) -> bool {
        self.partitions.contains_key(&id)
    }

    /// All partitions of which this broker holds a replica.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition<E>>> {
        self.partitions.values()
    }

    /// The partitions of one topic of which this broker holds a replica.
    pub(crate) fn partitions_of(&self, topic_id: TopicId) -> impl Iterator<Item = &Arc<Partition<E>>> {
        let all = [PartitionIndex(0), PartitionIndex(i32::MAX)];
        let [first, last] = all.map(|partition| TopicIdPartition { topic_id, partition });
        self.partitions.range(first..=last).map(|(_, partition)| partition)
    }

    /// The partition, if this broker and no other can lead it, and it does not do so yet.
    pub(crate) fn to_be_led_alone(&self, id: TopicIdPartition) -> Option<&Arc<Partition<E>>> {
        let state = self.image.partition(id)?;
        let alone = state.leader == Some(self.node_id) && state.configuration.members.len() == 1;
        self.partitions.get(&id).filter(|partition| alone && !partition.is_active())
    }

    /// Moves on to `image`, which differs by `delta`. The shards are to be told what comes out before the view is published.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        image: Image,
        delta: &Delta,
        statics: &StaticConfig,
        store: &Store<E>,
        shard_count: u16,
    ) -> Updates<E> {
        self.note_lost(now, &image, delta);
        self.image = image;
        let mut updates = Updates::new(shard_count);
        let everything = [ConfigResource::BrokerDefault, ConfigResource::Broker(self.node_id)];
        if everything.iter().any(|resource| delta.configs_changed.contains(resource)) {
            self.broker_config = Arc::new(ConfigLayers::new(&self.image, statics, self.node_id).broker());
            let all: Vec<TopicId> = self.image.topics().map(quipu_metadata::Topic::topic_id).collect();
            all.into_iter().for_each(|topic_id| self.resolve(topic_id, statics, &mut updates));
        }
        if delta.configs_changed.iter().any(|resource| matches!(resource, ConfigResource::ClientMetrics(_))) {
            self.client_metrics = Arc::new(ClientMetrics::new(&self.image));
        }
        for (topic_id, topic) in &delta.topics_deleted {
            self.topic_configs.remove(topic_id);
            for partition in (0..).map(PartitionIndex).take(topic.partition_count) {
                self.close(TopicIdPartition { topic_id: *topic_id, partition }, store, &mut updates);
            }
        }
        for topic_id in &delta.topics_created {
            self.resolve(*topic_id, statics, &mut updates);
        }
        for resource in &delta.configs_changed {
            if let ConfigResource::Topic(name) = resource
                && let Some(topic_id) = self.image.topic_id(name)
            {
                self.resolve(topic_id, statics, &mut updates);
            }
        }
        for broker in &delta.brokers_changed {
            let view = self.image.broker(*broker).map(broker_view);
            updates.0.iter_mut().for_each(|update| update.brokers.push((*broker, view)));
        }
        for id in &delta.partitions_changed {
            self.follow(*id, store, &mut updates);
        }
        updates
    }

    fn note_lost(&mut self, now: Instant, image: &Image, delta: &Delta) {
        let serves = |image: &Image, broker| image.broker(broker).is_some_and(|state| !state.fenced);
        for broker in &delta.brokers_changed {
            if serves(image, *broker) || image.broker(*broker).is_none() {
                self.lost.remove(broker);
            } else if serves(&self.image, *broker) {
                self.lost.insert(*broker, now);
            }
        }
    }

    /// Whether clients are told of the broker: it serves, or did until a moment ago. A client that finds the leader that it uses
    /// missing in the same answer that names the next one forgets, as librdkafka does, to go there before it asks again.
    pub(crate) fn is_listed(&self, broker: BrokerId, now: Instant) -> bool {
        let serves = self.image.broker(broker).is_some_and(|state| !state.fenced);
        serves || self.lost.get(&broker).is_some_and(|since| now - *since < LOST_LISTED_FOR)
    }

    /// Resolves a topic's configs anew and gives them to the logs that are open.
    fn resolve(&mut self, topic_id: TopicId, statics: &StaticConfig, updates: &mut Updates<E>) {
        let Some(topic) = self.image.topic_by_id(topic_id) else { return };
        let config = ConfigLayers::new(&self.image, statics, self.node_id).topic_with(topic.configs());
        for (partition, _) in topic.partitions() {
            if let Some(partition) = self.partitions.get(&TopicIdPartition { topic_id, partition }) {
                partition.log.set_options(log_options(&config));
                let count = insync_replicas_min(&config);
                updates.of(partition.shard).insync_replicas_min.push((partition.id, count));
            }
        }
        self.topic_configs.insert(topic_id, Arc::new(config));
    }

    /// A partition is new, or its record changed.
    fn follow(&mut self, id: TopicIdPartition, store: &Store<E>, updates: &mut Updates<E>) {
        let held = self.image.partition(id).filter(|state| state.replicas.contains(&self.node_id));
        let Some(record) = held.map(partition_state) else {
            return self.close(id, store, updates);
        };
        let shard = shard_of(id, updates.shard_count());
        if self.partitions.contains_key(&id) {
            updates.of(shard).records.push((id, record));
            return;
        }
        let log = store.log(id);
        let config = self.topic_configs.get(&id.topic_id);
        if let Some(config) = config {
            log.set_options(log_options(config));
        }
        let lag_time_max = Duration::from_millis(self.broker_config.replica_lag_max_ms);
        let insync_replicas_min = config.map_or(1, |config| insync_replicas_min(config));
        let lagging = Arc::clone(&self.lagging);
        let partition = Arc::new(Partition::new(id, self.node_id, log, updates.shard_count(), lagging));
        self.partitions.insert(id, Arc::clone(&partition));
        updates.of(shard).opened.push(Opened { partition, record, insync_replicas_min, lag_time_max });
    }

    /// The log goes at once, and not only when the shard comes to it: who holds the partition again before that would get what is about
    /// to be deleted. Nobody waits: the removal is durable in the metadata, and a start deletes what is left.
    fn close(&mut self, id: TopicIdPartition, store: &Store<E>, updates: &mut Updates<E>) {
        if let Some(partition) = self.partitions.remove(&id) {
            let _ticket = store.delete(id);
            updates.of(partition.shard).closed.push(id);
        }
    }

    /// Partitions that this node is to hold by `image` and does not.
    pub(crate) fn to_be_opened(&self, image: &Image, delta: &Delta) -> impl Iterator<Item = TopicIdPartition> {
        let is_held =
            |id: TopicIdPartition| image.partition(id).is_some_and(|state| state.replicas.contains(&self.node_id));
        delta.partitions_changed.iter().copied().filter(move |id| is_held(*id) && !self.partitions.contains_key(id))
    }
}

fn insync_replicas_min(config: &TopicConfig) -> usize {
    usize::try_from(config.insync_replicas_min.0).unwrap_or(usize::MAX)
}

fn log_options(config: &TopicConfig) -> LogOptions {
    let retention = Retention { ms: config.retention_ms, bytes: config.retention_bytes };
    LogOptions {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        retention: if config.cleanup.deletes { retention } else { Retention::default() },
        compaction: config.cleanup.compacts.then_some(Compaction {
            dirty_ratio_min_millionths: config.dirty_ratio_min_millionths,
            lag_min_ms: config.compaction_lag_min_ms,
            lag_max_ms: config.compaction_lag_max_ms,
            tombstone_retention_ms: config.tombstone_retention_ms,
        }),
        file_delete_delay_ms: config.file_delete_delay_ms,
    }
}
