//! Brokers register, and are forgotten.
//!
//! | state | on | becomes |
//! |---|---|---|
//! | unknown, fenced or unfenced | `RegisterBroker` of a new process start | fenced, under a new broker epoch; what it led is led by others, or by itself in a new leader epoch |
//! | fenced | `UnregisterBroker` | unknown |
//!
//! Invariant: of two data directories under one broker id only one serves; which one is settled by who was unfenced first.
//!
//! Read `fencing` for what happens between the two.

use quipu_base::{BrokerEpoch, BrokerId, ClusterId};
use quipu_metadata::{
    Image, MetadataRecord,
    record::{BrokerState, Registration},
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request,
    draft::Draft,
    election::{IfNobody, move_away},
    limits::ELECTIONS_PER_DECISION_MAX,
};

/// A broker process has started and wants to serve.
///
/// Its broker epoch is the offset of its record, so it stands in the image once the decision is applied. The broker makes
/// it durable, and then asks to be unfenced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let known = image.cluster_id().ok_or(ControllerError::NoCluster)?;
        if known != self.cluster_id {
            return Err(ControllerError::OtherCluster { known, found: self.cluster_id });
        }
        self.check_registration(image)?;
        let mut draft = Draft::new(image);
        let start_id = |state: &BrokerState| state.registration.start_id;
        if image.broker(self.broker).map(start_id) != Some(self.registration.start_id) {
            context.doubts.forget(self.broker);
            let known = image.broker(self.broker).map(|state| state.registration.directory_id);
            // On the same disk it can lead again what nobody else can; on another one it has nothing to lead with.
            let is_same_disk = known == Some(self.registration.directory_id);
            let if_nobody = if is_same_disk { IfNobody::Keep } else { IfNobody::Without };
            move_away(&mut draft, context.doubts, self.broker, if_nobody, ELECTIONS_PER_DECISION_MAX);
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

/// A broker that has stopped for good is to be forgotten. What it holds replicas of still names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnregisterBroker {
    /// The broker.
    pub broker: BrokerId,
}

impl Request for UnregisterBroker {
    type Reply = ();

    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::BrokerServing`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let broker = self.broker;
        let state = image.broker(broker).ok_or(ControllerError::BrokerNotRegistered { broker })?;
        if !state.fenced {
            return Err(ControllerError::BrokerServing { broker });
        }
        let mut draft = Draft::new(image);
        draft.push(MetadataRecord::UnregisterBroker { broker, broker_epoch: state.broker_epoch });
        Ok(draft.finish((), false))
    }
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
