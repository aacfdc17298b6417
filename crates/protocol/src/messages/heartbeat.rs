//! A member's sign of life (classic protocol).

use crate::Str;

message! {
    /// The member lives.
    HeartbeatRequest: Request of 12, versions 0..=4, flexible 4.. {
        /// The group.
        group_id: Str,
        /// The generation.
        generation_id: i32,
        /// The member.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [since(3), nullable] = None,
    }
}

message! {
    /// Whether the member may go on, or must join again.
    HeartbeatResponse: Response of 12, versions 0..=4, flexible 4.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
