//! Groups of the classic protocol and their members.

use bytes::Bytes;

use crate::Str;

message! {
    /// Asks about groups.
    DescribeGroupsRequest: Request of 15, versions 0..=6, flexible 5.. {
        /// The groups.
        groups: Vec<Str>,
        /// Whether to say what the caller may do to them.
        include_authorized_operations: bool [since(3)],
    }
}

message! {
    /// What is known of them.
    DescribeGroupsResponse: Response of 15, versions 0..=6, flexible 5.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// The groups.
        groups: Vec<DescribedGroup>,
    }

    /// One group.
    DescribedGroup {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [since(6), nullable] = None,
        /// The group.
        group_id: Str,
        /// Its state's name.
        group_state: Str,
        /// What it is for.
        protocol_type: Str,
        /// The protocol in use.
        protocol_data: Str,
        /// Its members.
        members: Vec<DescribedGroupMember>,
        /// Bit set of what the caller may do to it; `i32::MIN` if not asked for.
        authorized_operations: i32 [since(3)] = i32::MIN,
    }

    /// One member.
    DescribedGroupMember {
        /// What the coordinator calls it.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [since(4), nullable, ignorable] = None,
        /// What its client calls itself.
        client_id: Str,
        /// Where it connects from.
        client_host: Str,
        /// Its subscription.
        member_metadata: Bytes,
        /// Its assignment.
        member_assignment: Bytes,
    }
}
