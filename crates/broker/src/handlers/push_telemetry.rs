//! PushTelemetry (KIP-714): a client's metrics.

use std::sync::Arc;

use quipu_base::ClientInstanceId;
use quipu_env::{Clock, Env};
use quipu_metadata::config::Client;
use quipu_protocol::{
    ErrorCode,
    messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse},
};

use crate::{client_metrics::Push, node::Node};

/// `client` is who pushes; its id is the request's.
pub(super) fn respond<E: Env>(
    node: &Arc<Node<E>>,
    mut client: Client,
    request: PushTelemetryRequest,
) -> PushTelemetryResponse {
    if request.client_instance_id == ClientInstanceId::ZERO {
        return PushTelemetryResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    client.instance_id = request.client_instance_id;
    let push = Push {
        subscription_id: request.subscription_id,
        terminating: request.terminating,
        codec: request.compression_type,
        metrics: request.metrics,
    };
    let bytes_max = node.broker_config().telemetry_bytes_max;
    let now = node.env.clock().now();
    let pushed = node.client_pushes.push(now, &node.view().client_metrics, &client, bytes_max, &push);
    let error_code = pushed.err().unwrap_or(ErrorCode::None);
    tracing::debug!(client = %client.instance_id, client_id = client.client_id, bytes = push.metrics.len(), ?error_code, "a client pushed its metrics");
    PushTelemetryResponse { error_code: error_code.code(), ..Default::default() }
}
