//! All groups of a broker (KIP-518 and KIP-848 for filters).

use crate::Str;

message! {
    /// Asks which groups there are.
    ListGroupsRequest: Request of 16, versions 0..=5, flexible 3.. {
        /// Only groups in these states; empty for all.
        states_filter: Vec<Str> [since(4)],
        /// Only groups of these types; empty for all.
        types_filter: Vec<Str> [since(5)],
    }
}

message! {
    /// The groups that this broker coordinates.
    ListGroupsResponse: Response of 16, versions 0..=5, flexible 3.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32 [since(1), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// The groups.
        groups: Vec<ListedGroup>,
    }

    /// One group.
    ListedGroup {
        /// Its id.
        group_id: Str,
        /// What it is for.
        protocol_type: Str,
        /// Its state's name.
        group_state: Str [since(4), ignorable],
        /// `classic` or `consumer`.
        group_type: Str [since(5), ignorable],
    }
}
