//! How each record changes the image.
//!
//! Invariants
//! - Deterministic: the same image and record give the same image and the same answer, on every node and after every
//!   restart. Nothing else is looked at.
//! - A record that is refused leaves the image as it was. The controller never writes one that would be refused, so a
//!   refusal means damage, or a fault of ours, and the reader stops.
//! - The leader epoch of a partition never falls, and a partition's leader never leads twice in one epoch: it rises at
//!   every election, and with every registration of the leader.
//!
//! A registration raises the leader epochs by itself, instead of one record per partition: whoever is registered can then
//! not lead in an epoch of an earlier start, a start costs one small record however much the broker leads, and 10,000
//! partitions are raised in some milliseconds.
//!
//! Read `snapshot` next.

mod error;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId, TopicIdPartition};

pub use self::error::ApplyError;
use crate::{
    delta::{DeletedTopic, Delta},
    image::{ControllerState, Image, ProducerIdsState, Topic},
    partition::{Configuration, PartitionState},
    record::{Assignment, BrokerState, ConfigResource, Election, MetadataRecord, Registration},
};

impl Image {
    /// Applies the record at `offset` of the metadata log, and notes in `delta` what it changed.
    ///
    /// Offsets rise, but need not be dense: the quorum's own records take some.
    ///
    /// Errors: [`ApplyError`]; the image is then as before.
    pub fn apply(&mut self, offset: Offset, record: &MetadataRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        if offset < self.next_offset {
            return Err(ApplyError::OffsetBehind { offset, next_offset: self.next_offset });
        }
        match record {
            MetadataRecord::RegisterBroker { broker, registration } => {
                self.register_broker(*broker, BrokerEpoch(offset.get()), registration, delta);
            }
            MetadataRecord::Broker { .. } => return Err(ApplyError::OnlyInSnapshots),
            _ => self.apply_state(record, delta)?,
        }
        self.next_offset = offset.next();
        Ok(())
    }

    /// Applies what means the same at any offset.
    pub(crate) fn apply_state(&mut self, record: &MetadataRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::EpochStart { controller_epoch, controller, voters } => {
                let state = ControllerState {
                    controller_epoch: *controller_epoch,
                    controller: *controller,
                    voters: voters.as_slice().into(),
                };
                self.start_controller_epoch(state, delta)
            }
            MetadataRecord::Cluster { cluster_id } => match self.cluster_id.replace(*cluster_id) {
                Some(known) if known != *cluster_id => {
                    self.cluster_id = Some(known);
                    Err(ApplyError::OtherCluster { known, found: *cluster_id })
                }
                _ => Ok(()),
            },
            MetadataRecord::Feature { name, level } => {
                if *level == 0 {
                    self.features.remove(name);
                } else {
                    self.features.insert(name.clone(), *level);
                }
                delta.features_changed = true;
                Ok(())
            }
            MetadataRecord::RegisterBroker { .. } => Err(ApplyError::NotInSnapshots),
            MetadataRecord::UnfenceBroker { broker, broker_epoch } => {
                let state = self.broker_mut(*broker, *broker_epoch, delta)?;
                state.fenced = false;
                state.unfenced_epoch = Some(*broker_epoch);
                Ok(())
            }
            MetadataRecord::FenceBroker { broker, broker_epoch } => {
                let state = self.broker_mut(*broker, *broker_epoch, delta)?;
                state.fenced = true;
                state.in_controlled_shutdown = false;
                Ok(())
            }
            MetadataRecord::BrokerShutdown { broker, broker_epoch } => {
                let state = self.broker_mut(*broker, *broker_epoch, delta)?;
                state.in_controlled_shutdown = !state.fenced;
                Ok(())
            }
            MetadataRecord::UnregisterBroker { broker, broker_epoch } => {
                self.broker_mut(*broker, *broker_epoch, delta)?;
                self.brokers.remove(broker);
                Ok(())
            }
            MetadataRecord::Topic { name, topic_id } => self.create_topic(name, *topic_id, delta),
            MetadataRecord::Partition { topic_id, partition, state } => {
                let partition = TopicIdPartition { topic_id: *topic_id, partition: *partition };
                self.create_partition(partition, state, delta)
            }
            MetadataRecord::PartitionChange { partition, election, configuration, assignment } => {
                self.change_partition(*partition, *election, configuration.as_ref(), assignment.as_ref(), delta)
            }
            MetadataRecord::RemoveTopic { topic_id } => self.remove_topic(*topic_id, delta),
            MetadataRecord::Config { resource, key, value } => self.set_config(resource, key, value.as_deref(), delta),
            MetadataRecord::ProducerIds { broker, next_producer_id } => {
                self.give_producer_ids(*broker, *next_producer_id)
            }
            MetadataRecord::Broker { broker, state } => {
                self.brokers.insert(*broker, Arc::new(state.clone()));
                delta.brokers_changed.insert(*broker);
                Ok(())
            }
        }
    }

    fn start_controller_epoch(&mut self, state: ControllerState, delta: &mut Delta) -> Result<(), ApplyError> {
        if let Some(known) = &self.controller
            && state.controller_epoch <= known.controller_epoch
        {
            let (known, found) = (known.controller_epoch, state.controller_epoch);
            return Err(ApplyError::ControllerEpochBehind { known, found });
        }
        if state.voters.is_empty() {
            return Err(ApplyError::NoVoters);
        }
        self.controller = Some(state);
        delta.controller_changed = true;
        Ok(())
    }

    fn register_broker(
        &mut self,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        registration: &Registration,
        delta: &mut Delta,
    ) {
        let unfenced_epoch = self.broker(broker).and_then(|known| known.unfenced_epoch);
        let state = BrokerState {
            broker_epoch,
            registration: registration.clone(),
            fenced: true,
            unfenced_epoch,
            in_controlled_shutdown: false,
        };
        self.brokers.insert(broker, Arc::new(state));
        delta.brokers_changed.insert(broker);
        self.raise_leader_epochs(broker, delta);
    }

    fn raise_leader_epochs(&mut self, broker: BrokerId, delta: &mut Delta) {
        let led: Vec<TopicIdPartition> = self.partitions_led_by(broker).map(|(partition, _)| partition).collect();
        for partition in led {
            let state = self.partition_mut(partition).expect("it was listed a moment ago");
            state.leader_epoch = state.leader_epoch.next();
            delta.partitions_changed.insert(partition);
        }
    }

    fn broker_mut(
        &mut self,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        delta: &mut Delta,
    ) -> Result<&mut BrokerState, ApplyError> {
        let known = self.broker(broker).ok_or(ApplyError::UnknownBroker { broker })?.broker_epoch;
        if known != broker_epoch {
            return Err(ApplyError::OtherBrokerEpoch { broker, known, found: broker_epoch });
        }
        delta.brokers_changed.insert(broker);
        self.brokers.get_mut(&broker).map(Arc::make_mut).ok_or(ApplyError::UnknownBroker { broker })
    }

    fn create_topic(&mut self, name: &str, topic_id: TopicId, delta: &mut Delta) -> Result<(), ApplyError> {
        if self.topic_ids.contains_key(name) {
            return Err(ApplyError::TopicNameTaken { name: name.to_owned() });
        }
        if self.topics.contains_key(&topic_id) {
            return Err(ApplyError::TopicIdTaken { topic_id });
        }
        let name: Arc<str> = name.into();
        self.topic_ids.insert(Arc::clone(&name), topic_id);
        let topic = Topic { topic_id, name, partitions: imbl::Vector::new(), configs: imbl::OrdMap::new() };
        self.topics.insert(topic_id, Arc::new(topic));
        delta.topics_created.insert(topic_id);
        Ok(())
    }

    fn create_partition(
        &mut self,
        partition: TopicIdPartition,
        state: &PartitionState,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        state.check().map_err(|defect| ApplyError::ImpossiblePartition { partition, defect })?;
        let topic = self.topic_mut(partition.topic_id)?;
        let next = i32::try_from(topic.partitions.len()).map(PartitionIndex).ok();
        if next != Some(partition.partition) {
            return Err(ApplyError::PartitionOutOfOrder { partition, partition_count: topic.partitions.len() });
        }
        topic.partitions.push_back(Arc::new(state.clone()));
        delta.partitions_changed.insert(partition);
        Ok(())
    }

    fn change_partition(
        &mut self,
        partition: TopicIdPartition,
        election: Option<Election>,
        configuration: Option<&Configuration>,
        assignment: Option<&Assignment>,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let known = self.partition(partition).ok_or(ApplyError::UnknownPartition { partition })?;
        let mut state = known.clone();
        if let Some(election) = election {
            check_epoch_rises(partition, known.leader_epoch, election.leader_epoch)?;
            state.leader = election.leader;
            state.leader_epoch = election.leader_epoch;
            if election.unclean {
                state.unclean_epoch = election.leader_epoch;
            }
        }
        if let Some(configuration) = configuration {
            let (known, found) = (known.configuration.version, configuration.version);
            if found <= known {
                return Err(ApplyError::ConfigurationBehind { partition, known, found });
            }
            state.configuration = configuration.clone();
        }
        if let Some(assignment) = assignment {
            state.replicas.clone_from(&assignment.replicas);
            state.adding.clone_from(&assignment.adding);
            state.removing.clone_from(&assignment.removing);
            state.replication_factor = assignment.replication_factor;
        }
        state.check().map_err(|defect| ApplyError::ImpossiblePartition { partition, defect })?;
        *self.partition_mut(partition)? = state;
        delta.partitions_changed.insert(partition);
        Ok(())
    }

    fn remove_topic(&mut self, topic_id: TopicId, delta: &mut Delta) -> Result<(), ApplyError> {
        let topic = self.topics.remove(&topic_id).ok_or(ApplyError::UnknownTopic { topic_id })?;
        self.topic_ids.remove(&topic.name);
        let deleted = DeletedTopic { name: Arc::clone(&topic.name), partition_count: topic.partitions.len() };
        delta.delete_topic(topic_id, deleted);
        Ok(())
    }

    fn set_config(
        &mut self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let configs = match resource {
            ConfigResource::Topic(name) => {
                let topic_id =
                    self.topic_id(name).ok_or_else(|| ApplyError::UnknownTopicName { name: name.clone() })?;
                &mut self.topic_mut(topic_id)?.configs
            }
            _ => self.configs.entry(resource.clone()).or_default(),
        };
        match value {
            Some(value) => configs.insert(key.to_owned(), value.to_owned()),
            None => configs.remove(key),
        };
        if self.configs.get(resource).is_some_and(imbl::OrdMap::is_empty) {
            self.configs.remove(resource);
        }
        delta.configs_changed.insert(resource.clone());
        Ok(())
    }

    fn give_producer_ids(&mut self, broker: BrokerId, next_producer_id: ProducerId) -> Result<(), ApplyError> {
        let known = self.next_producer_id();
        if next_producer_id <= known {
            return Err(ApplyError::ProducerIdsBehind { known, found: next_producer_id });
        }
        self.producer_ids = Some(ProducerIdsState { broker, next_producer_id });
        Ok(())
    }

    fn topic_mut(&mut self, topic_id: TopicId) -> Result<&mut Topic, ApplyError> {
        self.topics.get_mut(&topic_id).map(Arc::make_mut).ok_or(ApplyError::UnknownTopic { topic_id })
    }

    fn partition_mut(&mut self, partition: TopicIdPartition) -> Result<&mut PartitionState, ApplyError> {
        let index =
            usize::try_from(partition.partition.get()).map_err(|_| ApplyError::UnknownPartition { partition })?;
        let topic = self.topic_mut(partition.topic_id)?;
        let state = topic.partitions.get_mut(index).ok_or(ApplyError::UnknownPartition { partition })?;
        Ok(Arc::make_mut(state))
    }
}

fn check_epoch_rises(partition: TopicIdPartition, known: LeaderEpoch, found: LeaderEpoch) -> Result<(), ApplyError> {
    if found <= known {
        return Err(ApplyError::LeaderEpochBehind { partition, known, found });
    }
    Ok(())
}
