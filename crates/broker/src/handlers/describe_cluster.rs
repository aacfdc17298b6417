//! DescribeCluster (KIP-700, KIP-919, KIP-1073).

use std::sync::Arc;

use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Str,
    messages::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse},
};

use crate::node::Node;

/// In the request: the brokers, not the controllers.
const BROKERS: i8 = 1;

pub(super) fn respond<E: Env>(node: &Arc<Node<E>>, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            2 => (ErrorCode::MismatchedEndpointType, "this is a broker's listener, not a controller's"),
            _ => (ErrorCode::UnsupportedEndpointType, "there are no endpoints of that type"),
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Str::from_static(message)),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let view = node.view();
    let brokers = view
        .image
        .brokers()
        .filter(|(_, state)| request.include_fenced_brokers || !state.fenced)
        .filter_map(|(id, state)| {
            let listener = state.registration.listener(crate::CLIENT_LISTENER)?;
            Some(DescribeClusterBroker {
                broker_id: id.get(),
                host: listener.host.as_str().into(),
                port: i32::from(listener.port),
                rack: state.registration.rack.as_deref().map(Str::from),
                is_fenced: state.fenced && request.include_fenced_brokers,
            })
        })
        .collect();
    DescribeClusterResponse {
        cluster_id: node.identity.cluster_id.to_string().into(),
        controller_id: view.image.controller().map_or(-1, |controller| controller.controller.get()),
        brokers,
        ..Default::default()
    }
}
