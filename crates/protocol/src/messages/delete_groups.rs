//! Deleting groups (KIP-229).

use crate::Str;

message! {
    /// Asks that groups be deleted.
    DeleteGroupsRequest: Request of 42, versions 0..=3, flexible 2.. {
        /// The groups.
        groups_names: Vec<Str>,
    }
}

message! {
    /// What became of each.
    DeleteGroupsResponse: Response of 42, versions 0..=3, flexible 2.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// An answer for each.
        results: Vec<DeletableGroupResult>,
    }

    /// What became of one.
    DeletableGroupResult {
        /// The group.
        group_id: Str,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [since(3), nullable, ignorable] = None,
    }
}
