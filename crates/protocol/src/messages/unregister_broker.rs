//! Brokers that will not come back (KIP-500).

use crate::Str;

message! {
    /// Asks to forget a broker.
    UnregisterBrokerRequest: Request of 64, versions 0..=0, flexible 0.. {
        /// Node id.
        broker_id: i32,
    }
}

message! {
    /// What became of it.
    UnregisterBrokerResponse: Response of 64, versions 0..=0, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
    }
}
