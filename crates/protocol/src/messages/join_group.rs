//! Joining a group of the classic protocol (KIP-62, KIP-345, KIP-394, KIP-814).

use bytes::Bytes;

use crate::Str;

message! {
    /// Asks to become, or to stay, a member in the next generation.
    JoinGroupRequest: Request of 11, versions 0..=9, flexible 6.. {
        /// The group.
        group_id: Str,
        /// Without a heartbeat for this long the member is out, in milliseconds.
        session_timeout_ms: i32,
        /// How long a rebalance waits for the member to join again, in milliseconds; without it, the session's time-out.
        rebalance_timeout_ms: i32 [since(1), ignorable] = -1,
        /// What the coordinator called the member, or nothing.
        member_id: Str,
        /// What the consumer's owner calls it (static membership).
        group_instance_id: Option<Str> [since(5), nullable] = None,
        /// What the group is for: `consumer`, `connect`, ...
        protocol_type: Str,
        /// What the member can do, best first.
        protocols: Vec<JoinGroupRequestProtocol>,
        /// Why it joins, in words.
        reason: Option<Str> [since(8), nullable, ignorable] = None,
    }

    /// One of a member's protocols.
    JoinGroupRequestProtocol {
        /// The assignor's name.
        name: Str,
        /// The member's subscription, for the leader.
        metadata: Bytes,
    }
}

message! {
    /// The generation that was formed.
    JoinGroupResponse: Response of 11, versions 0..=9, flexible 6.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(2), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// The generation.
        generation_id: i32 = -1,
        /// What the group is for.
        protocol_type: Option<Str> [since(7), nullable, ignorable] = None,
        /// The protocol that all members have in common.
        protocol_name: Option<Str> [nullable_since(7)] = Some(Str::EMPTY),
        /// The member that assigns.
        leader: Str,
        /// Whether the leader must not assign anew (KIP-814).
        skip_assignment: bool [since(9)],
        /// What the coordinator calls the member.
        member_id: Str,
        /// For the leader: everybody, with the protocol's metadata.
        members: Vec<JoinGroupResponseMember>,
    }

    /// A member, as the leader is told of it.
    JoinGroupResponseMember {
        /// What the coordinator calls it.
        member_id: Str,
        /// What its owner calls it.
        group_instance_id: Option<Str> [since(5), nullable, ignorable] = None,
        /// Its subscription.
        metadata: Bytes,
    }
}
