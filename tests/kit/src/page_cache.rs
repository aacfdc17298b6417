//! The kernel's page cache before a measurement: forgetting files, so that the next read comes from the device, and having
//! memory ready, so that nobody pays for what another left behind.
//!
//! `posix_fadvise(DONTNEED)` drops only clean pages: each file is synced first. Pages that another process has mapped stay.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::{Failure, Result};

/// Syncs every file below `directory` and drops its pages from the page cache. Returns how many bytes the files have.
pub fn forget(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = std::fs::read_dir(directory).map_err(Failure::context(directory.display()))?;
    for entry in entries {
        let path = entry.map_err(Failure::context(directory.display()))?.path();
        let meta = path.symlink_metadata().map_err(Failure::context(path.display()))?;
        if meta.is_dir() {
            bytes += forget(&path)?;
        } else if meta.is_file() {
            forget_file(&path).map_err(Failure::context(path.display()))?;
            bytes += meta.len();
        }
    }
    Ok(bytes)
}

/// Touches `bytes` of memory as page cache of a file in `directory`, and frees it.
///
/// A virtual machine's free memory goes back to its host within seconds, and the first touch of a page then costs as much as
/// writing it ten times. Without this the figures tell who came first.
pub fn warm(directory: &Path, bytes: u64) -> Result<()> {
    let path = directory.join("warm");
    let failed = || Failure::context(path.display());
    let mut file = File::create(&path).map_err(failed())?;
    let piece = vec![1; 1 << 20];
    for _ in 0..bytes.div_ceil(1 << 20) {
        file.write_all(&piece).map_err(failed())?;
    }
    drop(file);
    std::fs::remove_file(&path).map_err(failed())
}

fn forget_file(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    file.sync_data()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}
