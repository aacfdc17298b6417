//! Storage: one write-ahead log per data directory, segments behind it, recovery of both.
//!
//! Invariants
//! - What is reported durable has been synced, and is found again after any crash.
//! - Bytes that fail a checksum are never handed out, and never cut silently.
//!
//! Not here: which batches are valid (`quipu-records`); who may append (`quipu-broker`).
//! Read `superblock` and `wal` next.

mod checkpoint;
mod cleaner;
mod concurrent;
mod damage;
mod epochs;
mod error;
mod footer;
mod index;
mod log;
mod manifest;
mod pages;
mod partition;
mod producers;
mod segment;
mod store;
pub mod superblock;
mod tail;
#[cfg(test)]
mod testing;
mod verify;
pub mod wal;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use cleaner::{CleanError, Cleaned, CleanerOptions, Compaction};
pub use epochs::EpochStart;
pub use error::{AppendError, ChangeError, Fault, ReadError, StoreFull};
pub use log::{
    Appended, BadStep, Check, Log, LogOffsets, LogOptions, ReadResult, Reservation, Retention, ScrubPlace, Scrubbed,
    StateKind, Step, TailRead,
};
pub use manifest::ManifestError;
pub use producers::{ProducerBatch, ProducerState};
pub use store::{Identity, IdentityError, OpenError, OpenReport, Store, StoreOptions, StoreStats, reidentify};
pub use verify::{
    CutRange, DamagedRange, DumpEntry, DumpOptions, DumpedBatch, DumpedFrame, DumpedGroup, LiveRange, VerifyError,
    VerifyReport, dump, verify,
};
pub use wal::{Class, CutReport, Damage, Ticket};

/// Locks a mutex. One that a panic has poisoned guards values that are still whole: nothing here panics between two changes that
/// belong together, and in production a panic ends the process.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
