//! The bounds of one shard.

use core::time::Duration;

use quipu_base::limits::{BATCH_BYTES_MAX, WAL_STEP_BYTES_MAX};

/// Writes under way at once. While they are, the records of further turns are gathered into one write: few are enough to keep the
/// disk busy, and gathering makes a batch of many small records.
pub const WRITES_UNDER_WAY_MAX: usize = 2;
/// Bytes of records gathered into one write, but for the records of one turn, which stay together.
pub const WRITE_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;
/// Bytes of the records of one turn up to which they are written together: a crash keeps all of them or none. What a machine changes at
/// once and can't have in parts has to be below it.
pub const TURN_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Replies parked at once. A request beyond it is refused before the machine sees it.
pub const PARKED_MAX: usize = 100_000;
/// Bytes of records that wait for their turn to be written. A request beyond it is refused before the machine sees it.
pub const GATHERED_BYTES_MAX: usize = 16 * BATCH_BYTES_MAX;
/// A reply that is parked for this long is answered with [`Unanswered::TimedOut`](crate::Unanswered::TimedOut)
/// (`offsets.commit.timeout.ms`): Kafka's default.
pub const PARKED_TIME_MAX: Duration = Duration::from_secs(5);

const _: () = {
    assert!(WRITE_BYTES_MAX + TURN_BYTES_MAX <= WAL_STEP_BYTES_MAX, "a write is one group of the log");
    assert!(GATHERED_BYTES_MAX > WRITE_BYTES_MAX);
};
