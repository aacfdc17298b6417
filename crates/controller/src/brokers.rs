//! Brokers come: they register, make their broker epoch durable, and are unfenced.
//!
//! | state | on | becomes |
//! |---|---|---|
//! | unknown, fenced or unfenced | `RegisterBroker` of a new process start | fenced, under a new broker epoch; what it leads has a new leader epoch |
//! | fenced | `UnfenceBroker` under its broker epoch | unfenced; it leads what nobody led and it is a member of |
//!
//! Not here: fencing, which needs sessions and moves leaderships, and comes with the cluster.

use quipu_base::{BrokerEpoch, BrokerId, ClusterId, TopicIdPartition};
use quipu_metadata::{
    Image, MetadataRecord,
    record::{BrokerState, Election, Registration},
};

use crate::{Context, ControllerError, Decision, Request, draft::Draft};

/// A broker process has started and wants to serve.
///
/// Its broker epoch is the offset of its record, so it stands in the image once the decision is applied. The broker makes
/// it durable, and then asks to be unfenced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    /// The cluster that it belongs to.
    pub cluster_id: ClusterId,
    /// The broker.
    pub broker: BrokerId,
    /// What it says of itself.
    pub registration: Registration,
}

impl Request for RegisterBroker {
    type Reply = ();

    /// Asked twice by the same process start, it decides nothing the second time.
    ///
    /// Errors: [`ControllerError::NoCluster`], [`ControllerError::OtherCluster`], [`ControllerError::UnsupportedFeature`],
    /// [`ControllerError::DuplicateBroker`], [`ControllerError::InvalidRequest`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let known = image.cluster_id().ok_or(ControllerError::NoCluster)?;
        if known != self.cluster_id {
            return Err(ControllerError::OtherCluster { known, found: self.cluster_id });
        }
        self.check_registration(image)?;
        let mut draft = Draft::new(image);
        let start_id = |state: &BrokerState| state.registration.start_id;
        if image.broker(self.broker).map(start_id) != Some(self.registration.start_id) {
            let registration = self.registration.clone();
            draft.push(MetadataRecord::RegisterBroker { broker: self.broker, registration });
        }
        Ok(draft.finish((), false))
    }
}

impl RegisterBroker {
    fn check_registration(&self, image: &Image) -> Result<(), ControllerError> {
        if self.broker.get() < 0 {
            return Err(ControllerError::InvalidRequest(format!("Broker id {} is negative.", self.broker)));
        }
        let names: Vec<&str> = self.registration.listeners.iter().map(|listener| listener.name.as_str()).collect();
        if names.iter().enumerate().any(|(index, name)| names[..index].contains(name)) {
            return Err(ControllerError::InvalidRequest("Two listeners have the same name.".to_owned()));
        }
        for (name, level) in image.features() {
            let supports = |range: &&quipu_metadata::record::FeatureRange| {
                range.name == name && (range.level_min..=range.level_max).contains(&level)
            };
            if !self.registration.features.iter().any(|range| supports(&range)) {
                return Err(ControllerError::UnsupportedFeature { name: name.to_owned(), level });
            }
        }
        match image.broker(self.broker) {
            Some(state) if !state.fenced && state.registration.directory_id != self.registration.directory_id => {
                let serving = state.registration.directory_id;
                Err(ControllerError::DuplicateBroker { broker: self.broker, serving })
            }
            _ => Ok(()),
        }
    }
}

/// A registered broker has caught up, has made its broker epoch durable, and wants to lead and count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnfenceBroker {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
}

impl Request for UnfenceBroker {
    type Reply = ();

    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let state = check_broker_epoch(image, self.broker, self.broker_epoch)?;
        let mut draft = Draft::new(image);
        if state.fenced {
            draft.push(MetadataRecord::UnfenceBroker { broker: self.broker, broker_epoch: self.broker_epoch });
            for (partition, election) in elections(image, self.broker, state) {
                draft.push(MetadataRecord::PartitionChange {
                    partition,
                    election: Some(election),
                    configuration: None,
                    assignment: None,
                });
            }
        }
        Ok(draft.finish((), false))
    }
}

/// The partitions without a leader that the broker, with the directory that it has, is a member of.
fn elections(image: &Image, broker: BrokerId, state: &BrokerState) -> Vec<(TopicIdPartition, Election)> {
    let directory_id = state.registration.directory_id;
    let is_member = |member: &quipu_metadata::Member| member.broker == broker && member.directory_id == directory_id;
    image
        .partitions()
        .filter(|(_, partition)| partition.leader.is_none() && partition.configuration.members.iter().any(is_member))
        .map(|(id, partition)| {
            (id, Election { leader: Some(broker), leader_epoch: partition.leader_epoch.next(), unclean: false })
        })
        .collect()
}

/// The registered broker, if `found` is its current registration.
pub(crate) fn check_broker_epoch(
    image: &Image,
    broker: BrokerId,
    found: BrokerEpoch,
) -> Result<&BrokerState, ControllerError> {
    let state = image.broker(broker).ok_or(ControllerError::BrokerNotRegistered { broker })?;
    if state.broker_epoch != found {
        return Err(ControllerError::StaleBrokerEpoch { broker, current: state.broker_epoch, found });
    }
    Ok(state)
}
