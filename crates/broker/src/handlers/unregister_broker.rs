//! UnregisterBroker: forgets a broker that will not come back.

use std::sync::Arc;

use quipu_base::BrokerId;
use quipu_controller::UnregisterBroker;
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response,
    messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse},
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: UnregisterBrokerRequest) -> Response {
    let asked = node.controller.ask(UnregisterBroker { broker: BrokerId(request.broker_id) }).await;
    let refusal = asked.err().map(|error| errors::ask(&error));
    Response::UnregisterBroker(UnregisterBrokerResponse {
        error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code).code(),
        error_message: refusal.and_then(|refusal| refusal.text()),
        ..Default::default()
    })
}
