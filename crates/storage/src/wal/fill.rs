//! Makes WAL files and fills them with zeros, ahead of the writer.
//!
//! Writing over zeros that are on the device already costs less than half of writing where nothing was: no blocks to allocate, no
//! extents to convert, no size to change.
//!
//! Invariants
//! - A file is given to the writer when all of it has been written and synced, and its name as well.
//! - A file whose name could not be synced is removed, and its successor is another file: a name that a failed sync has lost is
//!   not brought back by the next one. Nothing is lost by that, so it does not end the process; directories are opened to be
//!   synced, and that fails also when there are no file descriptors left.
//! - Filling is slow unless somebody waits.
//!
//! Not here: when a file is needed and how large it is to be (`space`).

use core::time::Duration;
use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use quipu_base::limits::MIB;
use quipu_env::{AlignedBuf, Clock, Disk, Env, Fatal, File, Lane, OpenOptions, Probe, SyncError};

use super::{
    format::PAGE_BYTES,
    shared::{FileOf, Shared, Stage, WalOptions, file_path},
};

/// Bytes written at once.
const STEP_BYTES: usize = MIB;
/// Bytes between two syncs.
const SYNC_BYTES: u64 = 8 * MIB as u64;
/// Filling goes at 256 MiB a second unless somebody waits.
const STEP_PAUSE: Duration = Duration::from_micros(3900);
/// How long to wait before trying again on a full disk.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Why a file could not be made.
#[derive(Debug)]
pub(crate) enum FillError {
    Io(io::Error),
    /// Of its contents.
    Sync(SyncError),
    /// Of the directory that it is in. Perhaps that could not even be opened.
    Name(SyncError),
}

/// The options to open a WAL file with for writing groups.
pub(crate) fn writing(options: &WalOptions) -> OpenOptions {
    OpenOptions { direct: options.direct, lane: Lane::Wal, ..OpenOptions::WRITE }
}

/// Makes WAL file `number` with `size` zero bytes, durable. With `pace` it pauses between steps unless somebody waits, and
/// answers none when the WAL ends. What was made in vain is removed.
async fn make_file<E: Env>(
    env: &E,
    options: &WalOptions,
    number: u32,
    size: u64,
    pace: Option<&Shared<E>>,
) -> Result<Option<FileOf<E>>, FillError> {
    let path = file_path(&options.dir, number);
    let result = match fill(env, options, &path, size, pace).await {
        Ok(true) => name_and_open(env, options, &path).await.map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    if !matches!(result, Ok(Some(_)))
        && let Err(error) = env.disk().remove(&path).await
    {
        tracing::warn!(path = %path.display(), %error, "an unfinished WAL file could not be removed");
    }
    result
}

async fn name_and_open<E: Env>(env: &E, options: &WalOptions, path: &Path) -> Result<FileOf<E>, FillError> {
    if !env.probe().planted("wal.file-name-unsynced") {
        let dir = options.wal_dir();
        let mut synced = env.disk().sync_dir(&dir).await;
        if synced.is_err() && env.probe().planted("wal.name-sync-retried") {
            synced = env.disk().sync_dir(&dir).await;
        }
        synced.map_err(FillError::Name)?;
    }
    env.disk().open(path, writing(options)).await.map_err(FillError::Io)
}

/// False if the WAL ended meanwhile.
async fn fill<E: Env>(
    env: &E,
    options: &WalOptions,
    path: &Path,
    size: u64,
    pace: Option<&Shared<E>>,
) -> Result<bool, FillError> {
    // A file that is left of another attempt may have lost its name to a sync that failed, and then gets none that is durable.
    match env.disk().remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FillError::Io(error)),
        _ => {}
    }
    let making = OpenOptions { direct: options.direct, ..OpenOptions::CREATE_NEW };
    let file = env.disk().open(path, making).await.map_err(FillError::Io)?;
    let zeros: Bytes = AlignedBuf::zeroed(STEP_BYTES).freeze();
    let mut position = 0;
    let mut unsynced = 0;
    while position < size {
        if let Some(shared) = pace
            && !pause(shared).await
        {
            return Ok(false);
        }
        let step = zeros.slice(..usize::try_from(size - position).map_or(STEP_BYTES, |left| left.min(STEP_BYTES)));
        let step_bytes = step.len() as u64;
        file.write_at(position, vec![step]).await.map_err(FillError::Io)?;
        position += step_bytes;
        unsynced += step_bytes;
        if unsynced >= SYNC_BYTES || position == size {
            file.sync_data().await.map_err(FillError::Sync)?;
            unsynced = 0;
        }
    }
    Ok(true)
}

/// Makes the first file, without pauses.
pub(crate) async fn make_first<E: Env>(
    env: &E,
    options: &WalOptions,
    number: u32,
    size: u64,
) -> Result<FileOf<E>, FillError> {
    let file = make_file(env, options, number, size, None).await?;
    Ok(file.expect("nothing ends the filling of the first file"))
}

/// Makes files for as long as the WAL is open.
pub(crate) async fn run<E: Env>(shared: Arc<Shared<E>>) {
    loop {
        let (stage, next) = {
            let state = shared.lock();
            (state.stage, state.space.next_file())
        };
        if stage != Stage::Running {
            return;
        }
        match next {
            None => shared.wake_fill.notified().await,
            Some((number, size)) => {
                if !make_next(&shared, number, size).await {
                    disk_is_full(&shared).await;
                }
            }
        }
    }
}

/// False if it can't be made now.
async fn make_next<E: Env>(shared: &Shared<E>, number: u32, size: u64) -> bool {
    let Some(size) = affordable(shared, size).await else { return false };
    match make_file(&shared.env, &shared.options, number, size, Some(shared)).await {
        Ok(Some(handle)) => {
            tracing::debug!(number, size, "a WAL file was added");
            {
                let mut state = shared.lock();
                state.handles.insert(number, handle);
                state.space.add_free(number, size);
            }
            shared.space_changed.notify_waiters();
            shared.wake_writer.notify_one();
            true
        }
        Ok(None) => true,
        Err(FillError::Io(error)) => {
            let path = file_path(&shared.options.dir, number);
            tracing::warn!(path = %path.display(), size, %error, "cannot make another WAL file; trying again");
            false
        }
        // Nothing was written to that file, and it is gone: what is made in its place gets a name of its own.
        Err(FillError::Name(error)) => {
            shared.env.probe().sometimes("wal.name-not-synced");
            tracing::warn!(number, size, %error, "the name of a new WAL file is not durable; making another one");
            false
        }
        Err(FillError::Sync(error)) => shared.env.halt(Fatal::WalSync, &format!("write-ahead log: {error}")),
    }
}

/// The size that leaves the other half of the free space to the segments, at least that of a first file.
async fn affordable<E: Env>(shared: &Shared<E>, size: u64) -> Option<u64> {
    let least = shared.options.limits().start_bytes();
    let Ok((free, _)) = shared.env.disk().space(&shared.options.dir).await else { return Some(size) };
    let half = free / 2;
    (half >= least).then(|| size.min(half - half % PAGE_BYTES as u64))
}

async fn pause<E: Env>(shared: &Shared<E>) -> bool {
    let (running, hurry) = {
        let state = shared.lock();
        (state.stage == Stage::Running, state.space.is_wanted())
    };
    if running && !hurry {
        shared.env.clock().sleep(STEP_PAUSE).await;
    }
    running
}

/// Tells who waits, then waits itself, until a while has passed or something has changed.
async fn disk_is_full<E: Env>(shared: &Shared<E>) {
    shared.lock().space.disk_full = true;
    shared.space_changed.notify_waiters();
    let deadline = shared.env.clock().now() + FULL_PAUSE;
    let timer = shared.env.clock().sleep_until(deadline);
    tokio::pin!(timer);
    while shared.lock().stage == Stage::Running && shared.env.clock().now() < deadline {
        tokio::select! {
            biased;
            () = &mut timer => {}
            () = shared.wake_fill.notified() => {}
        }
    }
}
