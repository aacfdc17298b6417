//! Brokers go and come back: leaderships move with them.
//!
//! | state | on | becomes |
//! |---|---|---|
//! | fenced | `UnfenceBroker` under its broker epoch | unfenced; partitions without a live leader that it is a member of get one |
//! | unfenced | `ControlledShutdown` | about to stop; what others can lead they lead |
//! | unfenced, or about to stop | `FenceBroker` | fenced; what it led is led by others, or by nobody |
//!
//! The configurations stay as they are: a fenced member leaves C when the partition's leader asks for it.
//!
//! Not here: when a broker is fenced (`sessions`); registering (`brokers`).

use quipu_base::{BrokerEpoch, BrokerId};
use quipu_metadata::{Image, MetadataRecord, PartitionState};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request,
    brokers::check_broker_epoch,
    draft::Draft,
    election::{IfNobody, fill, move_away},
    limits::ELECTIONS_PER_DECISION_MAX,
    metadata_version,
};

/// A registered broker has caught up, has made its broker epoch durable, and wants to lead and count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnfenceBroker {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
}

impl Request for UnfenceBroker {
    type Reply = ();

    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`].
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let state = check_broker_epoch(image, self.broker, self.broker_epoch)?;
        let directory_id = state.registration.directory_id;
        let mut draft = Draft::new(image);
        if state.fenced {
            draft.push(MetadataRecord::UnfenceBroker { broker: self.broker, broker_epoch: self.broker_epoch });
            let is_member = |partition: &PartitionState| {
                let member = partition.configuration.member_on(self.broker);
                member.is_some_and(|member| member.directory_id == directory_id)
                    && partition.leader != Some(self.broker)
            };
            fill(&mut draft, context.doubts, ELECTIONS_PER_DECISION_MAX, is_member);
        }
        Ok(draft.finish((), false))
    }
}

/// A broker has stopped answering, or says its last word: it neither leads nor counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FenceBroker {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
}

impl Request for FenceBroker {
    type Reply = ();

    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`].
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let state = check_broker_epoch(image, self.broker, self.broker_epoch)?;
        let mut draft = Draft::new(image);
        if !state.fenced {
            draft.push(MetadataRecord::FenceBroker { broker: self.broker, broker_epoch: self.broker_epoch });
            move_away(&mut draft, context.doubts, self.broker, IfNobody::Without, ELECTIONS_PER_DECISION_MAX);
        }
        Ok(draft.finish((), false))
    }
}

/// A broker wants to stop. It asks again and again until it may; what nobody else can lead it keeps to the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ControlledShutdown {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
}

/// What a broker that wants to stop is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShutdownProgress {
    /// How many of its leaderships are still to be moved. At 0 it may stop.
    pub leaderships_left: usize,
}

impl Request for ControlledShutdown {
    type Reply = ShutdownProgress;

    /// At a `metadata.version` of 1 the broker is not marked: it may then be elected again before it stops.
    ///
    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`].
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        let state = check_broker_epoch(image, self.broker, self.broker_epoch)?;
        let mut draft = Draft::new(image);
        if state.is_serving() && metadata_version(image) >= 2 {
            let (broker, broker_epoch) = (self.broker, self.broker_epoch);
            draft.push(MetadataRecord::BrokerShutdown { broker, broker_epoch });
        }
        let leaderships_left =
            move_away(&mut draft, context.doubts, self.broker, IfNobody::Keep, ELECTIONS_PER_DECISION_MAX);
        Ok(draft.finish(ShutdownProgress { leaderships_left }, false))
    }
}
