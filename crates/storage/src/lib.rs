//! Storage: one write-ahead log per data directory, segments behind it, recovery of both.
//!
//! Invariants
//! - What is reported durable has been synced, and is found again after any crash.
//! - Bytes that fail a checksum are never handed out, and never cut silently.
//!
//! Not here: retention and compaction; which batches are valid (`quipu-records`); who may append (`quipu-broker`).
//! Read `superblock` and `wal` next.

mod epochs;
mod error;
mod footer;
mod index;
mod manifest;
mod partition;
mod producers;
pub mod superblock;
#[cfg(test)]
mod testing;
pub mod wal;

pub use epochs::EpochStart;
pub use error::{AppendError, ChangeError, Fault, ReadError, StoreFull};
pub use manifest::ManifestError;
pub use producers::{ProducerBatch, ProducerState};
