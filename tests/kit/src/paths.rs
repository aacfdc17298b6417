//! Where things are: the workspace, its target directory, programs on the `PATH`.
//!
//! Everything that is fetched or made (Apache Kafka, Python environments, scratch directories) lies below the target
//! directory. Read [`crate::scratch`] next.

use std::path::{Path, PathBuf};

/// The root of the workspace: the directory with the `Cargo.toml` that names the members.
pub fn workspace_root() -> PathBuf {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("tests/kit lies two levels below the root").to_path_buf()
}

/// Cargo's target directory: `CARGO_TARGET_DIR` (relative to the workspace root), else `target`.
pub fn target_dir() -> PathBuf {
    let configured = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    workspace_root().join(configured.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// The `cargo` that runs us, else the one on the `PATH`.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The first executable file called `name` in the directories of `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
