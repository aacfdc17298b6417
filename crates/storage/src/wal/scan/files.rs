//! The WAL's files as recovery reads them: in large pieces, and around single pages that can't be read.

use std::{io, path::PathBuf};

use bytes::{Bytes, BytesMut};
use quipu_env::{Disk, Env, File, Lane, OpenOptions};

use super::{ScanMode, ScanOptions, report::ScanError};
use crate::wal::{
    format::PAGE_BYTES,
    shared::{FileOf, file_path},
};

/// Bytes read at once.
pub(super) const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Pages of one piece that may be unreadable before the device, not a page, is taken to be broken.
const UNREADABLE_PAGES_MAX: usize = 16;
const PAGE: u64 = PAGE_BYTES as u64;

/// A place in the log: a file, by its number, and a position in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) position: u64,
}

pub(super) struct WalFile<E: Env> {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    /// Whole pages, bytes.
    pub(super) size: u64,
    handle: FileOf<E>,
    /// The first page, which is asked for again and again; empty if there is none.
    head: Bytes,
    /// The piece read last, and where it starts.
    chunk: Option<(u64, Bytes)>,
}

/// Opens every WAL file of the directory, in the order of their numbers. For recovery what is in them is synced first, and taken
/// out of the page cache: after a failed sync the cache may hold what the device does not, and what recovery finds must be
/// durable before anybody is told of it.
pub(super) async fn open_all<E: Env>(env: &E, options: &ScanOptions) -> Result<Vec<WalFile<E>>, ScanError> {
    let wal_dir = options.dir.join("wal");
    let names = match env.disk().list(&wal_dir).await {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(ScanError::Io { path: wal_dir, source }),
    };
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| file_number(name)).collect();
    numbers.sort_unstable();
    let mut files = Vec::with_capacity(numbers.len());
    for number in numbers {
        files.push(open(env, options, number).await?);
    }
    Ok(files)
}

fn file_number(name: &str) -> Option<u32> {
    let digits = name.len() >= 4 && name.bytes().all(|byte| byte.is_ascii_digit());
    let number = name.parse().ok().filter(|_| digits);
    if number.is_none() {
        tracing::warn!(name, "a file in the WAL's directory is none of its files; it is left alone");
    }
    number
}

async fn open<E: Env>(env: &E, options: &ScanOptions, number: u32) -> Result<WalFile<E>, ScanError> {
    let path = file_path(&options.dir, number);
    let how = match options.mode {
        ScanMode::Recover => OpenOptions::WRITE,
        ScanMode::Inspect => OpenOptions::READ,
    };
    let how = OpenOptions { direct: options.direct, lane: Lane::Pool, ..how };
    let failed = |source| ScanError::Io { path: path.clone(), source };
    let handle = env.disk().open(&path, how).await.map_err(failed)?;
    let size = handle.size().await.map_err(failed)?;
    if options.mode == ScanMode::Recover {
        handle.sync_data().await.map_err(ScanError::Sync)?;
        handle.forget_cached(0, size).await;
    }
    let size = size - size % PAGE;
    let mut file = WalFile { number, path, size, handle, head: Bytes::new(), chunk: None };
    if size > 0 {
        file.head = file.read(0, PAGE_BYTES).await?;
    }
    Ok(file)
}

impl<E: Env> WalFile<E> {
    /// `length` bytes from `position`, or none if the file ends before. Unreadable pages are zeros.
    pub(super) async fn bytes(&mut self, position: u64, length: usize) -> Result<Option<Bytes>, ScanError> {
        let end = position + length as u64;
        if end > self.size {
            return Ok(None);
        }
        if position == 0 && length <= self.head.len() {
            return Ok(Some(self.head.slice(..length)));
        }
        if let Some((start, chunk)) = &self.chunk
            && *start <= position
            && end <= start + chunk.len() as u64
        {
            let from = usize::try_from(position - start).expect("inside a piece");
            return Ok(Some(chunk.slice(from..from + length)));
        }
        let left = usize::try_from(self.size - position).unwrap_or(usize::MAX);
        let chunk = self.read(position, length.max(CHUNK_BYTES).min(left)).await?;
        let bytes = chunk.slice(..length);
        self.chunk = Some((position, chunk));
        Ok(Some(bytes))
    }

    async fn read(&self, position: u64, length: usize) -> Result<Bytes, ScanError> {
        match self.handle.read_at(position, length).await {
            Ok(bytes) if bytes.len() == length => Ok(bytes),
            Ok(_) => Err(self.failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), position, length, %error, "reading page by page");
                self.read_pages(position, length).await
            }
        }
    }

    async fn read_pages(&self, position: u64, length: usize) -> Result<Bytes, ScanError> {
        let mut bytes = BytesMut::zeroed(length);
        let mut unreadable = 0;
        for (page_position, page) in (position..).step_by(PAGE_BYTES).zip(bytes.chunks_mut(PAGE_BYTES)) {
            match self.handle.read_at(page_position, page.len()).await {
                Ok(read) if read.len() == page.len() => page.copy_from_slice(&read),
                Ok(_) => return Err(self.failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
                Err(error) => {
                    unreadable += 1;
                    tracing::warn!(path = %self.path.display(), position = page_position, %error, "unreadable page");
                    if unreadable > UNREADABLE_PAGES_MAX {
                        return Err(self.failed(error));
                    }
                }
            }
        }
        Ok(bytes.freeze())
    }

    fn failed(&self, source: io::Error) -> ScanError {
        ScanError::Io { path: self.path.clone(), source }
    }
}
