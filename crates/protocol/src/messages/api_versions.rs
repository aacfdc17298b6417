//! What a broker serves (KIP-35, KIP-511, KIP-584, KIP-1242). A broker answers a version that it does not know in
//! version 0.

use crate::Str;

message! {
    /// Asks what a broker serves: the first request of every connection.
    ApiVersionsRequest: Request of 18, versions 0..=5, flexible 3.. {
        /// The client library's name.
        client_software_name: Str [since(3), ignorable],
        /// The client library's version.
        client_software_version: Str [since(3), ignorable],
        /// The cluster that the client believes to talk to; null if it does not know.
        cluster_id: Option<Str> [since(5), nullable, ignorable] = None,
        /// The node that the client believes to talk to; -1 if it does not know.
        node_id: i32 [since(5), ignorable] = -1,
    }
}

message! {
    /// Says what a broker serves.
    ApiVersionsResponse: Response of 18, versions 0..=5, flexible 3.. {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What this broker serves.
        api_keys: Vec<ApiVersion>,
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// Feature levels that this broker could do.
        supported_features: Vec<SupportedFeatureKey> [since(3), tag(0), ignorable],
        /// Rises with every change of those levels; -1 if unknown.
        finalized_features_epoch: i64 [since(3), tag(1), ignorable] = -1,
        /// Feature levels that the cluster has agreed on.
        finalized_features: Vec<FinalizedFeatureKey> [since(3), tag(2), ignorable],
        /// Always false since ZooKeeper is gone.
        zk_migration_ready: bool [since(3), tag(3), ignorable],
    }

    /// The versions of one API.
    ApiVersion {
        /// Number of the API.
        api_key: i16,
        /// The first version.
        min_version: i16,
        /// The last version.
        max_version: i16,
    }

    /// A feature that this broker could do.
    SupportedFeatureKey {
        /// Feature name.
        name: Str,
        /// The lowest level.
        min_version: i16,
        /// The highest level.
        max_version: i16,
    }

    /// A feature that the cluster has agreed on.
    FinalizedFeatureKey {
        /// Feature name.
        name: Str,
        /// The highest level.
        max_version_level: i16,
        /// The lowest level.
        min_version_level: i16,
    }
}
