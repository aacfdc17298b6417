//! Producer ids for idempotent producers, given out of a block that the controller gave this broker.
//!
//! Invariant: an id is given out once. A block is durable in the metadata log before its first id leaves; what is left of it
//! is lost when the process ends.

use quipu_base::ProducerId;
use quipu_controller::{AllocateProducerIds, ProducerIdBlock};
use tokio::sync::Mutex;

use crate::{
    node::Identity,
    quorum::{AskError, ControllerHandle},
};

/// The ids at hand.
pub(crate) struct ProducerIds {
    identity: Identity,
    controller: ControllerHandle,
    block: Mutex<ProducerIdBlock>,
}

impl ProducerIds {
    pub(crate) fn new(identity: Identity, controller: ControllerHandle) -> Self {
        Self { identity, controller, block: Mutex::new(ProducerIdBlock { first: ProducerId(0), count: 0 }) }
    }

    /// An id that nobody else has. Those who ask while a block is being fetched wait for it.
    pub(crate) async fn next(&self) -> Result<ProducerId, AskError> {
        let mut block = self.block.lock().await;
        if block.count == 0 {
            let request =
                AllocateProducerIds { broker: self.identity.node_id, broker_epoch: self.identity.broker_epoch };
            *block = self.controller.ask(request).await?;
        }
        let id = block.first;
        *block = ProducerIdBlock { first: ProducerId(id.get() + 1), count: block.count - 1 };
        Ok(id)
    }
}
