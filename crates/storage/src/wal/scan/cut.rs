//! Keeps what recovery cuts from the log's end, before anything can overwrite it.
//!
//! ```text
//! <data-dir>/cut/<group>-<WAL file>-<position>[.n]     the bytes, verbatim
//! ```
//!
//! Invariants
//! - A file in there is never changed. The same bytes are not kept twice, however often a recovery is itself cut short.
//! - At most 16 files of at most 16 MiB; the oldest groups' make room.
//! - It never keeps a broker from starting: on a full disk the cut is logged and not kept.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quipu_env::{Disk, Env, File, OpenOptions};

/// Most bytes kept of one cut.
pub(super) const CUT_BYTES_MAX: usize = 16 * 1024 * 1024;
const CUT_FILES_MAX: usize = 16;

/// Keeps `bytes`; answers where. `stem` tells what they are.
pub(super) async fn keep<E: Env>(env: &E, dir: &Path, stem: &str, bytes: Bytes) -> Option<PathBuf> {
    match try_keep(env, dir, stem, bytes).await {
        Ok(path) => Some(path),
        Err(error) => {
            tracing::error!(stem, %error, "what was cut from the write-ahead log could not be kept");
            None
        }
    }
}

async fn try_keep<E: Env>(env: &E, dir: &Path, stem: &str, bytes: Bytes) -> io::Result<PathBuf> {
    let disk = env.disk();
    let cut_dir = dir.join("cut");
    disk.create_dir_all(&cut_dir).await?;
    disk.sync_dir(dir).await.map_err(io::Error::other)?;
    let names = disk.list(&cut_dir).await?;
    let mut name = stem.to_owned();
    for count in 1.. {
        if !names.contains(&name) {
            break;
        }
        let path = cut_dir.join(&name);
        if is_same(env, &path, &bytes).await? {
            // Its name and bytes may not be durable yet.
            let file = disk.open(&path, OpenOptions::WRITE).await?;
            file.sync_data().await.map_err(io::Error::other)?;
            disk.sync_dir(&cut_dir).await.map_err(io::Error::other)?;
            return Ok(path);
        }
        name = format!("{stem}.{count}");
    }
    make_room(env, &cut_dir, names).await?;
    let path = cut_dir.join(&name);
    let file = disk.open(&path, OpenOptions::CREATE_NEW).await?;
    file.write_sync(0, vec![bytes]).await?.map_err(io::Error::other)?;
    disk.sync_dir(&cut_dir).await.map_err(io::Error::other)?;
    Ok(path)
}

async fn is_same<E: Env>(env: &E, path: &Path, bytes: &Bytes) -> io::Result<bool> {
    let file = env.disk().open(path, OpenOptions::READ).await?;
    Ok(file.size().await? == bytes.len() as u64 && file.read_at(0, bytes.len()).await? == *bytes)
}

/// Names sort by group.
async fn make_room<E: Env>(env: &E, cut_dir: &Path, mut names: Vec<String>) -> io::Result<()> {
    names.sort_unstable();
    let excess = (names.len() + 1).saturating_sub(CUT_FILES_MAX);
    for name in names.iter().take(excess) {
        env.disk().remove(&cut_dir.join(name)).await?;
    }
    Ok(())
}
