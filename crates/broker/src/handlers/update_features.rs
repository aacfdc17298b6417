//! UpdateFeatures (KIP-584): levels of the features that all brokers can work with.

use std::sync::Arc;

use quipu_controller::UpdateFeatures;
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response,
    messages::update_features::{UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse},
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: UpdateFeaturesRequest) -> Response {
    let updates = request.feature_updates.iter();
    let updates = updates.map(|update| (update.feature.to_string(), update.max_version_level)).collect();
    let asked = node.controller.ask(UpdateFeatures { updates, validate_only: request.validate_only }).await;
    let refusal = asked.err().map(|error| errors::ask(&error));
    let error_code = refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code).code();
    let error_message = refusal.and_then(|refusal| refusal.text());
    let results = request.feature_updates.into_iter().map(|update| UpdatableFeatureResult {
        feature: update.feature,
        error_code,
        error_message: error_message.clone(),
    });
    Response::UpdateFeatures(UpdateFeaturesResponse {
        results: results.collect(),
        error_code,
        error_message,
        ..Default::default()
    })
}
