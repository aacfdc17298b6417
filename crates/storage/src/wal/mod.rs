//! The write-ahead log: one per data directory, shared by all its partitions.
//!
//! ```text
//! <data-dir>/wal/0000, 0001, ...    zero-filled when made, then written from the start, group after group; a file all of whose
//!                                   groups are covered by a checkpoint is written again from the start (see `format`)
//! <data-dir>/cut/...                what recovery cut from the log's end, kept for a look
//! ```
//!
//! Invariants
//! - A frame is reported durable only when its group and every group before it have been synced.
//! - At most two groups are being written at once, and group N is formed only when group N-2 has been synced: what a crash can
//!   tear are the last two groups, never more.
//! - A group counts only if its generation is in the superblock and its sequence lies in that generation's range.
//!
//! Not here: what the frames mean; when to checkpoint (`store`). Read `types`, then `format`, `writer`, `scan`.

mod fill;
pub(crate) mod format;
mod handle;
mod resume;
mod scan;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod types;
mod writer;

pub use handle::{SpacePermit, StartError, Wal, WalFull};
pub use resume::Resume;
pub use scan::{
    Affected, CutReport, Damage, ScanEnd, ScanError, ScanMode, ScanOptions, ScannedFrame, ScannedGroup, Scanner,
};
pub use shared::WalOptions;
pub(crate) use shared::file_path;
pub use types::{Class, DurableFrame, Frame, FrameKind, GroupSequence, Ticket, WalSink, WalSpace};

/// One start's mark on the groups that it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalGeneration {
    /// A random number.
    pub generation: u64,
    /// The first group that may carry it; every later one does, up to the first of the next generation.
    pub first: GroupSequence,
}
