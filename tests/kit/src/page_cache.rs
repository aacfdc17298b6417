//! Forgetting what the kernel has cached of files, so that the next read comes from the device.
//!
//! `posix_fadvise(DONTNEED)` drops only clean pages: each file is synced first. Pages that another process has mapped stay.

use std::fs::File;
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

fn forget_file(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    file.sync_data()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}
