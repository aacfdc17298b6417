//! Feature levels of the cluster (KIP-584).

use crate::Str;

message! {
    /// Asks for other levels.
    UpdateFeaturesRequest: Request of 57, versions 0..=2, flexible 0.. {
        /// How long to wait, in milliseconds.
        timeout_ms: i32 = 60_000,
        /// Which levels.
        feature_updates: Vec<FeatureUpdateKey>,
        /// Whether only to say what would happen.
        validate_only: bool [since(1)],
    }

    /// One feature.
    FeatureUpdateKey {
        /// Its name.
        feature: Str,
        /// The highest level that may be used from now on; 0 takes the feature away.
        max_version_level: i16,
        /// Whether the level may become lower.
        allow_downgrade: bool [until(0)],
        /// 1 only upwards, 2 downwards if nothing is lost, 3 downwards in any case.
        upgrade_type: i8 [since(1)] = 1,
    }
}

message! {
    /// What became of it.
    UpdateFeaturesResponse: Response of 57, versions 0..=2, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode) of the whole request; 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
        /// By feature.
        results: Vec<UpdatableFeatureResult> [until(1), ignorable],
    }

    /// One feature.
    UpdatableFeatureResult {
        /// Its name.
        feature: Str,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
    }
}
