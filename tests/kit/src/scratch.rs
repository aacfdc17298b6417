//! Fresh directories below `target/scratch`, removed when dropped.
//!
//! Invariant: a directory belongs to one owner, and its name is never used twice by one process. When the owner panics
//! the directory stays, so that a failed test can be looked into; the path is printed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Failure, Result, paths};

/// A fresh directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes `target/scratch/<name>-<pid>-<n>`, empty.
    pub fn new(name: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = paths::target_dir().join("scratch").join(format!("{name}-{}-{number}", std::process::id()));
        if path.exists() {
            // Left by an earlier process with our pid.
            std::fs::remove_dir_all(&path).map_err(Failure::context(format!("cannot clear {}", path.display())))?;
        }
        std::fs::create_dir_all(&path).map_err(Failure::context(format!("cannot create {}", path.display())))?;
        Ok(Self { path, keep: false })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps the directory when this is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        use std::io::Write;
        if self.keep || std::thread::panicking() {
            // Past the test's capture of stderr, and deaf to a closed one: this is a hint, nothing relies on it.
            drop(writeln!(std::io::stderr(), "kept for a look: {}", self.path.display()));
        } else {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}
