//! The image as the node sees it: published once it is applied, and served from the moment on at which the node is registered.
//!
//! Invariants
//! - Nothing is opened before the node is registered: what its replicas were in an earlier start they are not in this one.
//! - An image is published only when all of it is committed and durable here.
//!
//! Not here: what it means to hold a partition ([`crate::view`], [`crate::shard`]).

use quipu_base::{BrokerId, TopicIdPartition};
use quipu_env::{Clock, Env, Probe, watch};
use quipu_metadata::{ConfigResource, DeletedTopic, Delta, Image, config::StaticConfig};
use quipu_peer::Peers;
use quipu_storage::Store;
use tokio::sync::{mpsc, oneshot};

use crate::{
    lagging::Lagging,
    shard::{Begun, Command},
    view::{Updates, View},
};

/// The node is registered: everything that the image says it holds is to be opened.
pub(super) struct Begin<E: Env> {
    pub(super) begun: Begun,
    pub(super) peers: Option<Peers<E>>,
    pub(super) shards: Vec<mpsc::Sender<Command<E>>>,
    /// Gets one receiver for each shard, which ends when what the shard holds is marked.
    pub(super) marked: oneshot::Sender<Vec<oneshot::Receiver<()>>>,
}

/// See the module.
pub(super) struct Serving<E: Env> {
    env: E,
    store: Store<E>,
    statics: StaticConfig,
    shard_count: u16,
    view: View<E>,
    published: watch::Sender<View<E>>,
    /// The shards' queues, once the node is registered: before, they have nothing to do.
    shards: Vec<mpsc::Sender<Command<E>>>,
}

impl<E: Env> Serving<E> {
    pub(super) fn new(env: &E, store: &Store<E>, node_id: BrokerId, statics: StaticConfig, image: Image) -> Self {
        let view = View::new(image, node_id, &statics);
        Self {
            env: env.clone(),
            store: store.clone(),
            shard_count: env.shard_count(),
            published: watch::Sender::new(view.clone()),
            view,
            statics,
            shards: Vec::new(),
        }
    }

    pub(super) fn views(&self) -> watch::Receiver<View<E>> {
        self.published.subscribe()
    }

    pub(super) fn image(&self) -> &Image {
        &self.view.image
    }

    pub(super) fn lagging(&self) -> &Lagging {
        self.view.lagging()
    }

    /// None before the node is registered.
    pub(super) fn shards(&self) -> &[mpsc::Sender<Command<E>>] {
        &self.shards
    }

    pub(super) fn statics(&self) -> &StaticConfig {
        &self.statics
    }

    /// Moves on to an image that differs by `delta`.
    pub(super) async fn advance(&mut self, image: Image, delta: &Delta) {
        if self.shards.is_empty() {
            self.view.image = image;
        } else {
            self.when_deleted(&image, delta).await;
            let updates =
                self.view.advance(self.env.clock().now(), image, delta, &self.statics, &self.store, self.shard_count);
            self.tell(updates).await;
        }
        self.published.send_replace(self.view.clone());
    }

    /// A replica that was removed here and comes back at once begins with an empty log: when the one that it had is gone.
    async fn when_deleted(&self, image: &Image, delta: &Delta) {
        let mut durable = self.store.durable();
        for id in self.view.to_be_opened(image, delta) {
            if let Some(ticket) = self.store.log(id).deleted_by() {
                self.env.probe().sometimes("serving.comes-back");
                // Without the WAL's task the process ends.
                let _ended = durable.wait_for(|durable| *durable >= ticket).await;
            }
        }
    }

    async fn tell(&self, updates: Updates<E>) {
        for (shard, update) in self.shards.iter().zip(updates.0).filter(|(_, update)| !update.is_empty()) {
            if shard.send(Command::Update(update)).await.is_err() {
                tracing::debug!("a shard has ended");
            }
        }
    }

    /// Moves on to an image that has come as a whole.
    pub(super) async fn replace(&mut self, image: Image) {
        let delta = difference(&self.view.image, &image);
        self.advance(image, &delta).await;
    }

    /// Opens everything that the node holds.
    pub(super) async fn begin(&mut self, begin: Begin<E>) {
        self.shards = begin.shards;
        let image = self.view.image.clone();
        let delta = difference(&Image::new(), &image);
        let updates =
            self.view.advance(self.env.clock().now(), image, &delta, &self.statics, &self.store, self.shard_count);
        if !self.env.probe().planted("start.deleted-topic-kept") {
            self.delete_orphans();
        }
        let mut marked = Vec::new();
        for (shard, update) in self.shards.iter().zip(updates.0) {
            let (reply, answer) = oneshot::channel();
            let command = Command::Begin { begun: begin.begun, peers: begin.peers.clone(), update, marked: reply };
            if shard.send(command).await.is_err() {
                tracing::debug!("a shard has ended");
            }
            marked.push(answer);
        }
        // Who waits may be gone.
        drop(begin.marked.send(marked));
        self.published.send_replace(self.view.clone());
    }

    /// Logs that this node is not to hold go before anything is opened. The removal of a topic, or of a replica, is durable in the
    /// metadata before its log goes: a crash in between leaves one, and so does what is removed while the node is down.
    fn delete_orphans(&self) {
        let keeps_moved = self.env.probe().planted("start.moved-replica-kept");
        let is_moved = |id: &TopicIdPartition| self.view.image.topic_by_id(id.topic_id).is_some();
        let orphans = self.store.partitions().into_iter().filter(|id| *id != TopicIdPartition::METADATA);
        for id in orphans.filter(|id| !(self.view.holds(*id) || keeps_moved && is_moved(id))) {
            tracing::info!(partition = %id, "deleting a log that this node does not hold by the metadata");
            let _ticket = self.store.delete(id);
        }
    }
}

/// Ends when each of these partitions that this broker alone is to lead is active at its shard, or can't become so.
pub(crate) async fn when_active<E: Env>(
    view: &View<E>,
    shards: &[mpsc::Sender<Command<E>>],
    partitions: Vec<TopicIdPartition>,
) {
    let mut wanted = vec![Vec::new(); shards.len()];
    for partition in partitions.into_iter().filter_map(|id| view.to_be_led_alone(id)) {
        wanted[usize::from(partition.shard.0)].push(partition.id);
    }
    for (shard, partitions) in shards.iter().zip(wanted).filter(|(_, partitions)| !partitions.is_empty()) {
        let (reply, answer) = oneshot::channel();
        if shard.send(Command::WhenActive { partitions, reply }).await.is_ok() {
            // A shard that is gone makes nothing active.
            drop(answer.await);
        }
    }
}

/// What may differ between two images, of which the second is later: rather too much than too little.
fn difference(before: &Image, after: &Image) -> Delta {
    let is_gone = |topic: &&quipu_metadata::Topic| after.topic_by_id(topic.topic_id()).is_none();
    let gone = before.topics().filter(is_gone).map(|topic| {
        let deleted = DeletedTopic { name: topic.shared_name(), partition_count: topic.partition_count() };
        (topic.topic_id(), deleted)
    });
    let resources = before.configured_resources().chain(after.configured_resources());
    let configs = resources.map(|(resource, _)| resource.clone());
    let everybody = [ConfigResource::BrokerDefault];
    Delta {
        topics_created: after.topics().map(quipu_metadata::Topic::topic_id).collect(),
        topics_deleted: gone.collect(),
        partitions_changed: after.partitions().map(|(id, _)| id).collect(),
        configs_changed: configs.chain(everybody).collect(),
        brokers_changed: before.brokers().chain(after.brokers()).map(|(broker, _)| broker).collect(),
        controller_changed: true,
        features_changed: true,
    }
}
