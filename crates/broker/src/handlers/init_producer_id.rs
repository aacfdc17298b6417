//! InitProducerId (KIP-98, KIP-360): ids for idempotent producers. Transactions are refused until they exist.

use std::sync::Arc;

use quipu_base::ProducerId;
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response,
    messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
};

use crate::{
    errors::{self, Refusal},
    node::Node,
};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: InitProducerIdRequest) -> Response {
    let response = match init(&node, &request).await {
        // A producer that comes back with an id it had gets a fresh one: its old batches stay recognisable as such.
        Ok(id) => InitProducerIdResponse { producer_id: id.get(), producer_epoch: 0, ..Default::default() },
        Err(refusal) => InitProducerIdResponse {
            error_code: refusal.code.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    };
    Response::InitProducerId(response)
}

async fn init<E: Env>(node: &Arc<Node<E>>, request: &InitProducerIdRequest) -> Result<ProducerId, Refusal> {
    if request.transactional_id.is_some() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "transactions are not supported yet"));
    }
    if (request.producer_id < 0) != (request.producer_epoch < 0) {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "producer id and epoch go together"));
    }
    node.producer_ids.next().await.map_err(|error| errors::ask(&error))
}
