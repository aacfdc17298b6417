//! Bounds of what the controller decides at once and remembers, with the reason for each.

use core::time::Duration;

use quipu_base::limits::PARTITIONS_PER_REQUEST_MAX;

/// Leaderships that one decision moves. What is left is found by [`crate::ElectLeaderless`]: a decision is one batch of the
/// metadata log, and a change takes some 30 bytes of it.
pub const ELECTIONS_PER_DECISION_MAX: usize = 16_384;
/// Partitions about which one [`crate::AskPartitions`], [`crate::ElectUnclean`] or [`crate::AlterPartitionReassignments`] asks. Who has
/// more sends more requests.
pub const ASKS_PER_REQUEST_MAX: usize = 16_384;
/// A broker that said that it can't lead a partition is not elected for this long, unless it registers anew: as long as a full disk or
/// a repair may well take, and short enough that nobody waits for an operator.
pub const UNFIT_TIME: Duration = Duration::from_secs(5);
/// What brokers said of partitions that they cannot lead, remembered at once. What is said beyond it is not remembered, and they may
/// be elected in vain.
pub const UNFIT_MAX: usize = 100_000;
/// A broker not heard of for this many heartbeat intervals is elected only if nobody else can be.
pub const SILENT_HEARTBEATS: u32 = 2;
/// A broker whose connection was lost has this many heartbeat intervals left to be heard of.
pub const PROBE_HEARTBEATS: u32 = 2;
/// Largest request or answer between two nodes, encoded: names and configs of 10,000 topics fit.
pub const FORWARD_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = {
    assert!(ELECTIONS_PER_DECISION_MAX >= PARTITIONS_PER_REQUEST_MAX, "10,000 partitions fail over in one batch");
    assert!(UNFIT_MAX >= ASKS_PER_REQUEST_MAX);
};
