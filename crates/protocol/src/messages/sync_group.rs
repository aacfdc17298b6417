//! Handing out a generation's assignment (classic protocol).

use bytes::Bytes;

use crate::Str;

message! {
    /// The leader brings everybody's assignment; every member asks for its own.
    SyncGroupRequest: Request of 14, versions 0..=5, flexible 4.. {
        /// The group.
        group_id: Str,
        /// The generation.
        generation_id: i32,
        /// The member.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [since(3), nullable] = None,
        /// What the group is for.
        protocol_type: Option<Str> [since(5), nullable, ignorable] = None,
        /// The protocol in use.
        protocol_name: Option<Str> [since(5), nullable, ignorable] = None,
        /// From the leader: what each member gets.
        assignments: Vec<SyncGroupRequestAssignment>,
    }

    /// What one member gets.
    SyncGroupRequestAssignment {
        /// The member.
        member_id: Str,
        /// Opaque to the coordinator.
        assignment: Bytes,
    }
}

message! {
    /// The member's own assignment.
    SyncGroupResponse: Response of 14, versions 0..=5, flexible 4.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What the group is for.
        protocol_type: Option<Str> [since(5), nullable, ignorable] = None,
        /// The protocol in use.
        protocol_name: Option<Str> [since(5), nullable, ignorable] = None,
        /// Opaque to the coordinator.
        assignment: Bytes,
    }
}
