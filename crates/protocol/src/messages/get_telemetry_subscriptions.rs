//! Which metrics of its own a client is asked for (KIP-714).

use quipu_base::ClientInstanceId;

use crate::Str;

message! {
    /// Asks which metrics are wanted.
    GetTelemetrySubscriptionsRequest: Request of 71, versions 0..=0, flexible 0.. {
        /// The client; zero if it has no id yet.
        client_instance_id: ClientInstanceId,
    }
}

message! {
    /// Which metrics are wanted, and how.
    GetTelemetrySubscriptionsResponse: Response of 71, versions 0..=0, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// The client's id from now on.
        client_instance_id: ClientInstanceId,
        /// To be named with each push: it stands for all that follows.
        subscription_id: i32,
        /// Codecs that are taken, the best first: numbers as in record batches.
        accepted_compression_types: Vec<i8>,
        /// How often to push, in milliseconds.
        push_interval_ms: i32,
        /// How large a push may be, compressed.
        telemetry_max_bytes: i32,
        /// Whether counters are sent as what they grew by.
        delta_temporality: bool,
        /// What the names of the metrics wanted begin with; none for no metrics, an empty one for all.
        requested_metrics: Vec<Str>,
    }
}
