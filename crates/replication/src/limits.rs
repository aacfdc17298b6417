//! Bounds of one replica, with the reason for each.

use core::time::Duration;

/// Replicas of one partition. Kafka knows no bound; nobody runs more than seven.
pub const REPLICAS_MAX: usize = 64;
/// Entries of an epoch table that a message may carry. An entry is a leadership of which records are left; beyond it, retention
/// has failed to do its work for years.
pub const EPOCHS_PER_MESSAGE_MAX: usize = 65_536;
/// Produce and delete requests of one partition that wait for their quorum. Beyond it they are refused, and the client tries
/// again; the bytes that they hold are bounded by the shell.
pub const WAITING_REQUESTS_MAX: usize = 65_536;
/// Steps handed to the shell and not yet synced. A replica of which more are under way accepts nothing from outside.
pub const WRITES_IN_FLIGHT_MAX: usize = 65_536;
/// Damaged ranges remembered apart; more are joined into one.
pub const DAMAGED_RANGES_MAX: usize = 256;
/// A candidate that would have to copy more asks for the best reporter to lead instead: copying 16 MiB takes about as long as
/// another election.
pub const ADOPTION_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A leader that is not active this long after its election gives up its epoch.
pub const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(2);
/// A leader that could not commit for this long gives up its epoch.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(3);
/// A moved high watermark is told to followers within this time, if no append does it earlier.
pub const HIGH_WATERMARK_PUSH_DELAY: Duration = Duration::from_millis(5);

const _: () = {
    assert!(HIGH_WATERMARK_PUSH_DELAY.as_millis() < ACTIVATION_TIMEOUT.as_millis());
    assert!(ACTIVATION_TIMEOUT.as_millis() < COMMIT_TIMEOUT.as_millis());
};
