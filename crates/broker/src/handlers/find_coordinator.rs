//! FindCoordinator (KIP-699): there are no coordinators yet. It is answered all the same, because librdkafka sends lz4 only
//! to brokers that have it.

use quipu_protocol::{
    ErrorCode, Str,
    messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
};

pub(super) fn respond(version: i16, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let error_code = ErrorCode::CoordinatorNotAvailable.code();
    let error_message = Some(Str::from_static("groups and transactions are not supported yet"));
    if version < 4 {
        return FindCoordinatorResponse { error_code, error_message, node_id: -1, port: -1, ..Default::default() };
    }
    let coordinators = request
        .coordinator_keys
        .iter()
        .map(|key| Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code,
            error_message: error_message.clone(),
            ..Default::default()
        })
        .collect();
    FindCoordinatorResponse { coordinators, ..Default::default() }
}
