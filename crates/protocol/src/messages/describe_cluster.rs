//! Members of the cluster (KIP-700, KIP-919).

use crate::Str;

message! {
    /// Asks who is in the cluster.
    DescribeClusterRequest: Request of 60, versions 0..=2, flexible 0.. {
        /// Whether to say what the caller may do to the cluster.
        include_cluster_authorized_operations: bool,
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [since(1)] = 1,
        /// Whether to list brokers that are fenced as well.
        include_fenced_brokers: bool [since(2)],
    }
}

message! {
    /// Who is in the cluster.
    DescribeClusterResponse: Response of 60, versions 0..=2, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable] = None,
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [since(1)] = 1,
        /// The cluster's id.
        cluster_id: Str,
        /// Node id of the controller, or of a broker that forwards to it; -1 if unknown.
        controller_id: i32 = -1,
        /// The brokers, or the controllers.
        brokers: Vec<DescribeClusterBroker>,
        /// Bit set of what the caller may do to the cluster; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32 = i32::MIN,
    }

    /// A member of the cluster.
    DescribeClusterBroker {
        /// Node id.
        broker_id: i32,
        /// Host name or address to connect to.
        host: Str,
        /// TCP port.
        port: i32,
        /// The broker's rack.
        rack: Option<Str> [nullable] = None,
        /// Whether the broker is fenced.
        is_fenced: bool [since(2)],
    }
}
