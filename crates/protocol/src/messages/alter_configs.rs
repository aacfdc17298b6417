//! Replacing all settings of a resource; clients prefer `incremental_alter_configs`.

use crate::Str;

message! {
    /// Replaces all settings.
    AlterConfigsRequest: Request of 33, versions 0..=2, flexible 2.. {
        /// What to change.
        resources: Vec<AlterConfigsResource>,
        /// Whether to check without doing it.
        validate_only: bool,
    }

    /// A topic, broker or group to change.
    AlterConfigsResource {
        /// 2 topic, 4 broker, 8 logger, 16 client metrics, 32 group.
        resource_type: i8,
        /// Its name: topic, group or node id; empty for all brokers.
        resource_name: Str,
        /// The settings.
        configs: Vec<AlterableConfig>,
    }

    /// A setting to change.
    AlterableConfig {
        /// Name of the setting.
        name: Str,
        /// The value; null to delete or for the default.
        value: Option<Str> [nullable],
    }
}

message! {
    /// What became of each resource.
    AlterConfigsResponse: Response of 33, versions 0..=2, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// An answer for each.
        responses: Vec<AlterConfigsResourceResponse>,
    }

    /// What became of one resource.
    AlterConfigsResourceResponse {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
        /// 2 topic, 4 broker, 8 logger, 16 client metrics, 32 group.
        resource_type: i8,
        /// Its name: topic, group or node id; empty for all brokers.
        resource_name: Str,
    }
}
