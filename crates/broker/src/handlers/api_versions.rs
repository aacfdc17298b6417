//! ApiVersions (KIP-35, KIP-511, KIP-1242): the first request of every connection.

use std::sync::Arc;

use quipu_env::Env;
use quipu_protocol::{
    ApiKey, ErrorCode,
    messages::api_versions::{
        ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
    },
};

use crate::node::Node;

/// The answer to a version that we don't know: version 0, the range of ApiVersions alone; the client asks again.
pub(super) fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![api_version(ApiKey::ApiVersions)],
        ..Default::default()
    }
}

pub(super) fn respond<E: Env>(node: &Arc<Node<E>>, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if version >= 3
        && !(is_software_text(&request.client_software_name) && is_software_text(&request.client_software_version))
    {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    let view = node.view();
    let other_cluster =
        request.cluster_id.as_ref().is_some_and(|wanted| wanted.as_str() != node.identity.cluster_id.to_string());
    let other_node = request.node_id >= 0 && request.node_id != node.identity.node_id.get();
    let error_code = if other_cluster || other_node { ErrorCode::RebootstrapRequired } else { ErrorCode::None };
    let features = || view.image.features();
    ApiVersionsResponse {
        error_code: error_code.code(),
        api_keys: ApiKey::ALL.iter().copied().map(api_version).collect(),
        supported_features: features()
            .map(|(name, level)| SupportedFeatureKey { name: name.into(), min_version: 1, max_version: level })
            .collect(),
        finalized_features_epoch: view.image.next_offset().get(),
        finalized_features: features()
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.into(),
                max_version_level: level,
                min_version_level: level,
            })
            .collect(),
        ..Default::default()
    }
}

fn api_version(api: ApiKey) -> ApiVersion {
    let versions = api.advertised();
    ApiVersion { api_key: api.to_wire(), min_version: versions.min, max_version: versions.max }
}

/// Kafka's pattern: letters and digits, with `-` and `.` between them.
fn is_software_text(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_the_pattern() {
        for good in ["librdkafka", "a", "apache-kafka-java", "4.4.0", "v2.0-1"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "é", "a_b"] {
            assert!(!is_software_text(bad), "{bad}");
        }
    }
}
