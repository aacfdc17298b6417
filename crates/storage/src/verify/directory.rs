//! A data directory, opened for reading: its superblock and manifest, as far as they are whole.
//!
//! A damaged superblock leaves the WAL unreadable, a damaged manifest both WAL and segments: what counts of them is not known.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quipu_env::{Disk, Env, File, OpenOptions};

use super::report::{Findings, Span, VerifyError, relative};
use crate::{
    ManifestError,
    manifest::{self, Extent, Loaded, Purpose},
    store::LOCK_FILE_NAME,
    superblock::{self, Superblock, SuperblockError},
};

const SECTOR_BYTES: u64 = 512;

pub(super) struct Directory<E: Env> {
    pub(super) env: E,
    pub(super) path: PathBuf,
    /// None if it is missing or damaged.
    pub(super) superblock: Option<Superblock>,
    /// None if it is missing or damaged.
    pub(super) manifest: Option<Loaded>,
}

impl<E: Env> Directory<E> {
    /// Opens it, unless a process uses it, and tells what of superblock and manifest is live and what is damaged.
    pub(super) async fn open(env: &E, path: &Path, findings: &mut Findings) -> Result<Self, VerifyError> {
        let names = env.disk().list(path).await.map_err(VerifyError::io(path))?;
        let has = |name: &str| names.iter().any(|known| known == name);
        let lock = path.join(LOCK_FILE_NAME);
        env.disk().check_unlocked(&lock).await.map_err(|error| VerifyError::lock(path, &lock, error))?;
        if ![superblock::FILE_NAME, manifest::FILE_NAME, "wal", "seg"].into_iter().any(has) {
            return Err(VerifyError::NotADataDirectory { directory: path.to_owned() });
        }
        // Without them it is a directory whose first start did not get far.
        if ![superblock::FILE_NAME, manifest::FILE_NAME, "wal"].into_iter().any(has) {
            return Ok(Self { env: env.clone(), path: path.to_owned(), superblock: None, manifest: None });
        }
        let superblock = read_superblock(env, path, findings).await?;
        let manifest = read_manifest(env, path, superblock.as_ref(), findings).await?;
        Ok(Self { env: env.clone(), path: path.to_owned(), superblock, manifest })
    }

    pub(super) fn relative(&self, path: &Path) -> String {
        relative(&self.path, path)
    }
}

async fn read_all<E: Env>(env: &E, path: &Path) -> Result<Option<Bytes>, VerifyError> {
    let file = match env.disk().open(path, OpenOptions::READ).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(VerifyError::io(path)(error)),
    };
    let size = file.size().await.map_err(VerifyError::io(path))?;
    // What the device has counts, not what the page cache still holds of it.
    file.forget_cached(0, size).await;
    let length = usize::try_from(size).map_err(|_| VerifyError::io(path)(io::ErrorKind::FileTooLarge.into()))?;
    file.read_at(0, length).await.map(Some).map_err(VerifyError::io(path))
}

async fn read_superblock<E: Env>(
    env: &E,
    dir: &Path,
    findings: &mut Findings,
) -> Result<Option<Superblock>, VerifyError> {
    let file = superblock::FILE_NAME;
    let bytes = read_all(env, &dir.join(file)).await?;
    for copy in 0..superblock::COPY_COUNT {
        let length = superblock::COPY_BYTES as u64;
        let span = Span { file, position: u64::from(copy) * length, length };
        findings.live(span, format!("copy {copy} of the superblock"));
        let Some(bytes) = &bytes else { continue };
        let at = usize::from(copy) * superblock::COPY_BYTES;
        if superblock::is_whole_copy(bytes.get(at..).unwrap_or_default(), copy) {
            continue;
        }
        if superblock::may_be_torn(bytes, copy) {
            findings.cut(span, "this copy of the superblock was not written to its end; others serve");
        } else {
            findings.damaged(span, "this copy of the superblock does not match its checksum");
        }
    }
    if bytes.is_none() {
        let length = u64::from(superblock::COPY_COUNT) * superblock::COPY_BYTES as u64;
        findings.damaged(
            Span { file, position: 0, length },
            "the superblock is missing; the WAL cannot be read without it",
        );
    }
    match superblock::read(env.disk(), dir).await {
        Err(SuperblockError::Damaged { .. }) => Ok(None),
        read => Ok(read?),
    }
}

async fn read_manifest<E: Env>(
    env: &E,
    dir: &Path,
    superblock: Option<&Superblock>,
    findings: &mut Findings,
) -> Result<Option<Loaded>, VerifyError> {
    let file = manifest::FILE_NAME;
    let path = dir.join(file);
    let loaded = match manifest::load(env.disk(), dir, Purpose::Inspect).await {
        Ok(loaded) => loaded,
        Err(ManifestError::Damaged { position, what, .. }) => {
            let length = env.disk().file_size(&path).await.map_err(VerifyError::io(&path))?;
            findings.live(Span { file, position: 0, length }, "manifest".to_owned());
            let span = Span { file, position, length: length.saturating_sub(position) };
            findings.damaged(span, format!("{what}; segments and WAL cannot be checked without it"));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let Some(loaded) = loaded else {
        // It is there before the superblock names the first generation.
        if superblock.is_none_or(|superblock| !superblock.wal_generations.is_empty()) {
            let why = "the manifest is missing; segments and WAL cannot be checked without it";
            findings.damaged(Span { file, position: 0, length: 0 }, why);
        }
        return Ok(None);
    };
    if let Some(superblock) = superblock
        && !loaded.belongs_to(superblock.files_id)
    {
        return Err(VerifyError::Mixed { path });
    }
    findings.live(Span { file, position: 0, length: loaded.end }, "manifest".to_owned());
    let span = |extent: &Extent| Span { file, position: extent.position, length: extent.length };
    for extent in &loaded.damaged {
        findings.damaged(span(extent), "one of two copies does not match its checksum; the other one serves");
    }
    if let Some(extent) = &loaded.half_written {
        let bytes = read_all(env, &path).await?.unwrap_or_default();
        if is_torn(&bytes, *extent) {
            findings
                .cut(span(extent), "the second copy of the last edit was not written to its end; the first one serves");
        } else {
            findings.damaged(span(extent), "one of two copies does not match its checksum; the other one serves");
        }
    }
    if let Some(extent) = &loaded.torn {
        findings.cut(span(extent), "an edit that was not written to its end");
    }
    Ok(Some(loaded))
}

/// Whether a copy of the manifest's last record is one of which some sectors were written, and others are the zeros that were
/// there before. If not, it has been damaged since.
fn is_torn(bytes: &[u8], bad: Extent) -> bool {
    let copy_at = |position: u64| {
        let from = usize::try_from(position).unwrap_or(usize::MAX);
        let length = usize::try_from(bad.length).unwrap_or(usize::MAX);
        bytes.get(from..from.checked_add(length)?)
    };
    let Some(copy) = copy_at(bad.position) else { return false };
    let twins = [bad.position.checked_sub(bad.length), bad.position.checked_add(bad.length)];
    twins.into_iter().flatten().filter_map(copy_at).any(|twin| {
        let mut is_unwritten_somewhere = false;
        let mut at = 0;
        while at < copy.len() {
            let position = bad.position + at as u64;
            let sector_end = (position / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let end = usize::try_from(sector_end - bad.position).unwrap_or(usize::MAX).min(copy.len());
            // The copies differ in their numbers and checksums.
            let is_written = (at..end).all(|index| copy[index] == twin[index] || matches!(index, 5 | 20..24));
            if !is_written {
                if copy[at..end].iter().any(|byte| *byte != 0) {
                    return false;
                }
                is_unwritten_somewhere = true;
            }
            at = end;
        }
        is_unwritten_somewhere
    })
}
