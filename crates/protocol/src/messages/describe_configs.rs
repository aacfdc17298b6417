//! Reading settings.

use crate::Str;

message! {
    /// Asks for settings.
    DescribeConfigsRequest: Request of 32, versions 1..=4, flexible 4.. {
        /// Whose settings.
        resources: Vec<DescribeConfigsResource>,
        /// Whether to list all sources of each value.
        include_synonyms: bool,
        /// Whether to explain each setting.
        include_documentation: bool [since(3)],
    }

    /// A topic, broker or group whose settings are wanted.
    DescribeConfigsResource {
        /// 2 topic, 4 broker, 8 logger, 16 client metrics, 32 group.
        resource_type: i8,
        /// Its name: topic, group or node id; empty for all brokers.
        resource_name: Str,
        /// Names of the settings wanted; null for all.
        configuration_keys: Option<Vec<Str>> [nullable],
    }
}

message! {
    /// Settings.
    DescribeConfigsResponse: Response of 32, versions 1..=4, flexible 4.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// An answer for each.
        results: Vec<DescribeConfigsResult>,
    }

    /// The settings of one resource.
    DescribeConfigsResult {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
        /// 2 topic, 4 broker, 8 logger, 16 client metrics, 32 group.
        resource_type: i8,
        /// Its name: topic, group or node id; empty for all brokers.
        resource_name: Str,
        /// The settings.
        configs: Vec<DescribeConfigsResourceResult>,
    }

    /// One setting.
    DescribeConfigsResourceResult {
        /// Name of the setting.
        name: Str,
        /// The value; null if it is a secret or not set.
        value: Option<Str> [nullable],
        /// Whether it cannot be changed.
        read_only: bool,
        /// Where the value comes from: 1 topic, 2 broker, 3 all brokers, 4 static, 5 default, 6 logger; -1 unknown.
        config_source: i8 = -1,
        /// Whether the value is a secret, and so not sent.
        is_sensitive: bool,
        /// All sources of the value, the strongest first.
        synonyms: Vec<DescribeConfigsSynonym>,
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0 unknown.
        config_type: i8 [since(3), ignorable],
        /// What the setting does.
        documentation: Option<Str> [since(3), nullable, ignorable],
    }

    /// One source of a value.
    DescribeConfigsSynonym {
        /// Name of the setting.
        name: Str,
        /// The value; null if it is a secret or not set.
        value: Option<Str> [nullable],
        /// Where the value comes from, as `config_source`.
        source: i8,
    }
}
