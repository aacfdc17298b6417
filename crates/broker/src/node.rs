//! What every connection and handler of one broker shares.

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{BrokerEpoch, BrokerId, ClusterId, TopicIdPartition};
use quipu_env::{Env, Segment, ShardId, watch};
use quipu_metadata::config::{BrokerConfig, StaticConfig};
use quipu_protocol::Str;
use quipu_storage::Store;
use tokio::sync::mpsc;

pub(crate) use crate::view::View;
use crate::{
    client_metrics::ClientPushes,
    connection::{Close, FileOf},
    fetch_sessions::{FetchSessions, session::Session},
    groups::Coordinators,
    memory::{self, Budget},
    partition::Partition,
    producer_ids::ProducerIds,
    quorum::{self, ControllerHandle},
    shard::Command,
};

/// Who this broker is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) node_id: BrokerId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) broker_epoch: BrokerEpoch,
}

/// Bounds that do not change while the broker runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) request_bytes_max: usize,
    pub(crate) connection_idle: Duration,
    pub(crate) fetch_sessions_max: usize,
}

/// Shared by all tasks of one broker.
pub(crate) struct Node<E: Env> {
    pub(crate) env: E,
    pub(crate) identity: Identity,
    pub(crate) bounds: Bounds,
    pub(crate) statics: StaticConfig,
    /// Where Kafka clients are listened for.
    pub(crate) bound: core::net::SocketAddr,
    pub(crate) data_dir: std::path::PathBuf,
    pub(crate) store: Store<E>,
    pub(crate) controller: ControllerHandle,
    pub(crate) requests: Budget,
    pub(crate) replies: Budget,
    /// For decompressed batches.
    pub(crate) workspace: Budget,
    pub(crate) stopping: Stopping,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) groups: Coordinators,
    pub(crate) fetch_sessions: FetchSessions<Session<E>>,
    pub(crate) client_pushes: Arc<ClientPushes>,
    pub(crate) shards: Vec<mpsc::Sender<Command<E>>>,
    pub(crate) view: watch::Receiver<View<E>>,
}

impl<E: Env> Node<E> {
    /// What is served now.
    pub(crate) fn view(&self) -> View<E> {
        self.view.borrow().clone()
    }

    /// What is served, with its changes.
    pub(crate) fn views(&self) -> watch::Receiver<View<E>> {
        self.view.clone()
    }

    /// This broker's own configs.
    pub(crate) fn broker_config(&self) -> Arc<BrokerConfig> {
        Arc::clone(self.view.borrow().broker_config())
    }

    /// Hands a command to a shard; waits while it has too many.
    pub(crate) async fn send(&self, shard: ShardId, command: Command<E>) -> Result<(), Close> {
        let sent = self.shards[usize::from(shard.0)].send(command).await;
        sent.map_err(|_| Close("the broker is stopping".into()))
    }

    /// Tells the partition's shard of damage that a read has found, if it has. What finds no place is told with the next read.
    pub(crate) fn tell_damage(&self, partition: &Partition<E>) {
        if !partition.log.damage().is_empty() {
            let shard = &self.shards[usize::from(partition.shard.0)];
            drop(shard.try_send(Command::Damaged(partition.id)));
        }
    }

    /// Tells the partition's shard that there is no room for its records. What finds no place is told with the next batch.
    pub(crate) fn tell_full(&self, partition: &Partition<E>) {
        let shard = &self.shards[usize::from(partition.shard.0)];
        drop(shard.try_send(Command::Full(partition.id)));
    }

    /// Waits until the partitions of these topics that only this broker can lead are led: who has created a topic can use it.
    pub(crate) async fn when_active(&self, names: &[Str]) {
        let view = self.view();
        let topics = names.iter().filter_map(|name| view.image.topic(name));
        let mut partitions = Vec::new();
        for topic in topics {
            let topic_id = topic.topic_id();
            partitions.extend(topic.partitions().map(|(partition, _)| TopicIdPartition { topic_id, partition }));
        }
        quorum::when_active(&view, &self.shards, partitions).await;
    }

    /// What connections hold of budgets that nobody else takes from: nothing, when there is none. (Requests stay as long as batches
    /// that are in no segment.)
    pub(crate) fn taken_by_connections(&self) -> [(&'static str, i64); 2] {
        let taken = |budget: &Budget| i64::try_from(budget.taken()).unwrap_or(i64::MAX);
        [("replies", taken(&self.replies)), ("workspace", taken(&self.workspace))]
    }

    /// Takes the memory of a reply's records from the replies budget. All of it at once, so that no two replies hold a part
    /// each and wait for the other. Small replies are bounded by the number of connections.
    pub(crate) async fn account(&self, segments: &[Segment<FileOf<E>>]) -> Option<memory::Permit> {
        let in_memory = segments.iter().map(|segment| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::File { .. } => 0,
        });
        match in_memory.sum() {
            0..ACCOUNTED_BYTES_MIN => None,
            bytes => Some(self.replies.take(bytes).await),
        }
    }
}

/// See [`Node::account`].
const ACCOUNTED_BYTES_MIN: usize = 4096;

/// Tells everybody when the broker begins to stop.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// And the switch.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (switch, receiver) = watch::channel(false);
        (switch, Self(receiver))
    }

    pub(crate) fn is_reached(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the broker begins to stop.
    pub(crate) async fn reached(&self) {
        let mut receiver = self.0.clone();
        // A switch that is gone means that the broker is gone.
        let _gone = receiver.wait_for(|stopping| *stopping).await.is_err();
    }
}
