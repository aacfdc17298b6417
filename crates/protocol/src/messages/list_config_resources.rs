//! What has a configuration (KIP-714, KIP-1142).

use crate::Str;

message! {
    /// Asks what has a configuration.
    ListConfigResourcesRequest: Request of 74, versions 0..=1, flexible 0.. {
        /// Types wanted; none for all that are supported.
        resource_types: Vec<i8> [since(1)],
    }
}

message! {
    /// What has a configuration.
    ListConfigResourcesResponse: Response of 74, versions 0..=1, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What has a configuration.
        config_resources: Vec<ConfigResource>,
    }

    /// A resource with a configuration.
    ConfigResource {
        /// Its name: topic, group or node id; empty for all brokers.
        resource_name: Str,
        /// 2 topic, 4 broker, 8 logger, 16 client metrics, 32 group.
        resource_type: i8 [since(1), ignorable] = 16,
    }
}
