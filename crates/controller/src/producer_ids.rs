//! Producer ids, given to brokers in blocks, so that a broker need not ask for each.

use quipu_base::{BrokerEpoch, BrokerId, ProducerId, limits::PRODUCER_ID_BLOCK_COUNT};
use quipu_metadata::{Image, MetadataRecord};
use serde::{Deserialize, Serialize};

use crate::{Context, ControllerError, Decision, Request, brokers::check_broker_epoch, draft::Draft};

/// A broker needs producer ids. What it has not given out of an earlier block is lost with its process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AllocateProducerIds {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
}

/// Producer ids that nobody else gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: ProducerId,
    /// How many.
    pub count: u32,
}

impl Request for AllocateProducerIds {
    type Reply = ProducerIdBlock;

    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`],
    /// [`ControllerError::ProducerIdsExhausted`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<ProducerIdBlock>, ControllerError> {
        check_broker_epoch(image, self.broker, self.broker_epoch)?;
        let block = ProducerIdBlock { first: image.next_producer_id(), count: PRODUCER_ID_BLOCK_COUNT };
        let next = block.first.get().checked_add(i64::from(block.count));
        let next_producer_id = next.map(ProducerId).ok_or(ControllerError::ProducerIdsExhausted)?;
        let mut draft = Draft::new(image);
        draft.push(MetadataRecord::ProducerIds { broker: self.broker, next_producer_id });
        Ok(draft.finish(block, false))
    }
}
