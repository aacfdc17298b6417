//! A client's metrics (KIP-714).

use bytes::Bytes;
use quipu_base::ClientInstanceId;

message! {
    /// A client's metrics.
    PushTelemetryRequest: Request of 72, versions 0..=0, flexible 0.. {
        /// The client.
        client_instance_id: ClientInstanceId,
        /// What it was told to send.
        subscription_id: i32,
        /// Whether these are its last ones.
        terminating: bool,
        /// How they are compressed: numbers as in record batches.
        compression_type: i8,
        /// OpenTelemetry's `MetricsData` (v1, protobuf).
        metrics: Bytes,
    }
}

message! {
    /// Whether they were taken.
    PushTelemetryResponse: Response of 72, versions 0..=0, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
