//! Reading a stopped, or copied, data directory for people: is it whole ([`verify()`]), and what is in it ([`dump()`]).
//!
//! Invariants
//! - Nothing is written and no lock is taken, so that copies that may not be written to can be read. A directory that a process
//!   holds is refused: it changes while it is read.
//! - [`VerifyReport::live`] names every byte that the store relies on, and every one of them is checked: a bit that is flipped in
//!   there is told in [`VerifyReport::damaged`], or in [`VerifyReport::cut`] where a power cut may have left the same.
//! - Memory is bounded by the manifest, by one WAL group and by what is wrong, never by the log.
//!
//! What is checked: all copies of the superblock; both copies of every manifest record; every segment's flushed range by the
//! checksums over batch headers (footer or manifest) and of each batch, its offsets and leader epochs; footers; both directories,
//! every payload and the padding of each WAL group that no checkpoint covers, by the rule of `wal` for what is torn and what is
//! damaged.
//!
//! Not here: repair; records inside batches; names of topics, which are in the metadata log. Read `report`, then `directory`.

mod directory;
mod dump;
mod group;
mod report;
mod segments;
#[cfg(test)]
mod tests;
mod wal;
mod wal_batches;

use std::path::Path;

use quipu_env::Env;

use self::{directory::Directory, report::Findings};

pub use dump::{DumpEntry, DumpOptions, DumpedBatch, DumpedFrame, DumpedGroup, dump};
pub use report::{CutRange, DamagedRange, LiveRange, VerifyError, VerifyReport};

/// Checks the data directory `dir`.
///
/// # Errors
/// [`VerifyError`] if it can't be checked. Damage is no error: it is in the report.
pub async fn verify<E: Env>(env: &E, dir: &Path) -> Result<VerifyReport, VerifyError> {
    let mut findings = Findings::default();
    let directory = Directory::open(env, dir, &mut findings).await?;
    segments::check_all(&directory, &mut findings).await?;
    wal::check(&directory, &mut findings).await?;
    Ok(findings.into_report())
}
