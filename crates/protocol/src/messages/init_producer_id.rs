//! Producer ids for idempotence and transactions (KIP-98, KIP-360). Version 6 is not stable in Kafka 4.4 and left out.

use crate::Str;

message! {
    /// Asks for a producer id, or for a new epoch of one.
    InitProducerIdRequest: Request of 22, versions 0..=5, flexible 2.. {
        /// The producer's transactional id; null without transactions.
        transactional_id: Option<Str> [nullable],
        /// How long a transaction may stay idle before it is aborted, in milliseconds.
        transaction_timeout_ms: i32,
        /// The producer id that the client has, to raise its epoch; -1 for a new one.
        producer_id: i64 [since(3)] = -1,
        /// The epoch that the client has; -1 for a new one.
        producer_epoch: i16 [since(3)] = -1,
    }
}

message! {
    /// A producer id and its epoch.
    InitProducerIdResponse: Response of 22, versions 0..=5, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// Producer id; -1 for none.
        producer_id: i64 = -1,
        /// Producer epoch.
        producer_epoch: i16,
    }
}
