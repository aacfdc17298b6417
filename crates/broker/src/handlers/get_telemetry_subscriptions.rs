//! GetTelemetrySubscriptions (KIP-714): which metrics a client is to push.

use std::sync::Arc;

use quipu_base::ClientInstanceId;
use quipu_env::{Clock, Env};
use quipu_metadata::config::Client;
use quipu_protocol::{
    ErrorCode, Str,
    messages::get_telemetry_subscriptions::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse},
};

use crate::{client_metrics::CODECS, node::Node};

/// `client` is who asks; its id is the request's.
pub(super) fn respond<E: Env>(
    node: &Arc<Node<E>>,
    mut client: Client,
    request: &GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    client.instance_id = match request.client_instance_id {
        ClientInstanceId::ZERO => node.client_pushes.new_id(),
        known => known,
    };
    let asked = node.client_pushes.ask(node.env.clock().now(), &node.view().client_metrics, &client);
    let client_instance_id = client.instance_id;
    match asked {
        Ok(wanted) => GetTelemetrySubscriptionsResponse {
            throttle_time_ms: 0,
            error_code: ErrorCode::None.code(),
            client_instance_id,
            subscription_id: wanted.subscription_id,
            accepted_compression_types: CODECS.map(|codec| codec.id().cast_signed()).to_vec(),
            push_interval_ms: wanted.interval_ms,
            telemetry_max_bytes: i32::try_from(node.broker_config().telemetry_bytes_max).unwrap_or(i32::MAX),
            delta_temporality: true,
            requested_metrics: wanted.metrics.into_iter().map(Str::from).collect(),
        },
        Err(code) => GetTelemetrySubscriptionsResponse { error_code: code.code(), ..Default::default() },
    }
}
