//! What the metadata tells a shard, and how its records become those of `quipu-replication`.

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{BrokerId, TopicIdPartition};
use quipu_env::Env;
use quipu_metadata::record::BrokerState;
use quipu_replication::{BrokerView, Configuration, ConfigurationVersion, Member, PartitionState};

use crate::partition::Partition;

/// A replica that this node is to hold from now on.
pub(crate) struct Opened<E: Env> {
    pub(crate) partition: Arc<Partition<E>>,
    pub(crate) record: PartitionState,
    /// The topic's `min.insync.replicas`.
    pub(crate) insync_replicas_min: usize,
    /// `replica.lag.time.max.ms`.
    pub(crate) lag_time_max: Duration,
}

/// How the metadata moved on, for one shard. To be carried out in the order of the fields.
pub(crate) struct Update<E: Env> {
    /// Partitions that are gone, or of which this node holds no replica any more.
    pub(crate) closed: Vec<TopicIdPartition>,
    /// Brokers that came, went (none), were fenced or unfenced.
    pub(crate) brokers: Vec<(BrokerId, Option<BrokerView>)>,
    /// `min.insync.replicas` that changed.
    pub(crate) insync_replicas_min: Vec<(TopicIdPartition, usize)>,
    /// Records that changed.
    pub(crate) records: Vec<(TopicIdPartition, PartitionState)>,
    /// New replicas.
    pub(crate) opened: Vec<Opened<E>>,
}

impl<E: Env> Default for Update<E> {
    fn default() -> Self {
        Self {
            closed: Vec::new(),
            brokers: Vec::new(),
            insync_replicas_min: Vec::new(),
            records: Vec::new(),
            opened: Vec::new(),
        }
    }
}

impl<E: Env> Update<E> {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.closed.is_empty()
            && self.brokers.is_empty()
            && self.insync_replicas_min.is_empty()
            && self.records.is_empty()
            && self.opened.is_empty()
    }
}

/// The metadata's record of a partition, as a replica takes it.
pub(crate) fn partition_state(state: &quipu_metadata::PartitionState) -> PartitionState {
    let members = state.configuration.members.iter();
    let members = members.map(|member| Member { node: member.broker, directory_id: member.directory_id });
    let mut members: Vec<Member> = members.collect();
    members.sort_unstable();
    PartitionState {
        replicas: state.replicas.clone(),
        replication_factor: usize::from(state.replication_factor),
        adding: state.adding.clone(),
        removing: state.removing.clone(),
        configuration: Configuration { members, quorum: usize::from(state.configuration.quorum) },
        version: ConfigurationVersion(state.configuration.version.0),
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        unclean_epoch: state.unclean_epoch,
    }
}

/// The metadata's record of a broker, as a replica takes it.
pub(crate) fn broker_view(state: &BrokerState) -> BrokerView {
    BrokerView { directory_id: state.registration.directory_id, broker_epoch: state.broker_epoch, live: !state.fenced }
}
