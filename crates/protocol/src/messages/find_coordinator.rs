//! Coordinators of groups, transactions and share partitions; from version 4 on for several keys at once (KIP-699).

use crate::Str;

message! {
    /// Asks which broker coordinates a group or a transaction.
    FindCoordinatorRequest: Request of 10, versions 0..=6, flexible 3.. {
        /// Group id, transactional id or share partition.
        key: Str [until(3)],
        /// 0 group, 1 transaction, 2 share partition.
        key_type: i8 [since(1)],
        /// Group ids, transactional ids or share partitions, as the key type says.
        coordinator_keys: Vec<Str> [since(4)],
    }
}

message! {
    /// Which broker coordinates.
    FindCoordinatorResponse: Response of 10, versions 0..=6, flexible 3.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none. Up to version 3, as are the fields below.
        error_code: i16 [until(3)],
        /// What went wrong, in words.
        error_message: Option<Str> [since(1), until(3), nullable, ignorable],
        /// Node id.
        node_id: i32 [until(3)],
        /// Host name or address to connect to.
        host: Str [until(3)],
        /// TCP port.
        port: i32 [until(3)],
        /// An answer for each key.
        coordinators: Vec<Coordinator> [since(4)],
    }

    /// The coordinator of one key.
    Coordinator {
        /// The key that this is about.
        key: Str,
        /// Node id.
        node_id: i32,
        /// Host name or address to connect to.
        host: Str,
        /// TCP port.
        port: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
    }
}
