//! The bounds of one shard of groups.

use quipu_base::limits::{BATCH_BYTES_MAX, MIB};

/// Groups of one shard. A group takes some 500 bytes when it is empty.
pub const GROUPS_MAX: usize = 100_000;
/// Members of all groups of one shard, with those that were given an id and have not come back. A member takes some 1,000 bytes.
pub const MEMBERS_MAX: usize = 100_000;
/// Subscriptions and assignments of all members of one shard.
pub const MEMBER_BYTES_MAX: usize = 64 * MIB;
/// Subscriptions of all members of one group of the consumer protocol: they are gone through whenever one of them changes.
pub const GROUP_MEMBER_BYTES_MAX: usize = 8 * MIB;
/// Protocols that a member may bring.
pub const PROTOCOLS_MAX: usize = 100;
/// Committed offsets of one shard. One takes some 200 bytes without its metadata.
pub const OFFSETS_MAX: usize = 1_000_000;
/// A group's record, which is written whole, at most: so are all subscriptions of a member, and all assignments of a group.
pub const GROUP_BYTES_MAX: usize = BATCH_BYTES_MAX - 64 * 1024;
/// Length of a regular expression of a subscription, in bytes.
pub const REGEX_BYTES_MAX: usize = 4096;
/// A compiled regular expression, at most: what it takes in memory, and with it the steps that it takes for one topic.
pub const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Tombstones of one step of a sweep for expired offsets.
pub const SWEEP_RECORDS_MAX: usize = 1000;
/// Groups looked at in one step of a sweep.
pub const SWEEP_GROUPS_MAX: usize = 1000;
