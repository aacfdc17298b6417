//! Leaving a group (KIP-345 for several members at once, KIP-800 for reasons).

use crate::Str;

message! {
    /// Members leave.
    LeaveGroupRequest: Request of 13, versions 0..=5, flexible 4.. {
        /// The group.
        group_id: Str,
        /// The one that leaves.
        member_id: Str [until(2)],
        /// Those that leave.
        members: Vec<MemberIdentity> [since(3)],
    }

    /// One that leaves.
    MemberIdentity {
        /// What the coordinator calls it, or nothing if its owner's name is given.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [nullable] = None,
        /// Why, in words.
        reason: Option<Str> [since(5), nullable, ignorable] = None,
    }
}

message! {
    /// What became of each.
    LeaveGroupResponse: Response of 13, versions 0..=5, flexible 4.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// An answer for each.
        members: Vec<MemberResponse> [since(3)],
    }

    /// What became of one.
    MemberResponse {
        /// What the coordinator calls it.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [nullable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
    }
}
