//! The WAL's files as recovery reads them: in large pieces, the next one while this one is looked at, and around single pages
//! that can't be read.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};
use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use quipu_env::{Disk, Env, File, Lane, OpenOptions, Probe};

use super::{ScanMode, ScanOptions, report::ScanError};
use crate::{
    pages::{Pages, read_pages},
    wal::{
        format::PAGE_BYTES,
        shared::{FileOf, file_path},
    },
};

/// Bytes read at once.
pub(super) const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// How often an unreadable page is asked for; each time, the device may do better.
const PAGE_TRIES: usize = 5;
const PAGE: u64 = PAGE_BYTES as u64;

/// A place in the log: a file, by its number, and a position in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) position: u64,
}

type Read = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// The piece after the one read last, on its way.
enum Ahead {
    None,
    Reading(u64, usize, Read),
    Done(u64, usize, io::Result<Bytes>),
}

pub(super) struct WalFile<E: Env> {
    pub(super) number: u32,
    /// Whole pages, bytes.
    pub(super) size: u64,
    source: Source<E>,
    /// The first page, which is asked for again and again; empty if there is none.
    head: Bytes,
    /// The piece read last, and where it starts.
    chunk: Option<(u64, Bytes)>,
    ahead: Ahead,
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
    let gives_up = env.probe().planted("wal.unreadable-once-cut");
    let mut file = WalFile {
        number,
        size,
        source: Source { path, handle, gives_up },
        head: Bytes::new(),
        chunk: None,
        ahead: Ahead::None,
    };
    if size > 0 {
        file.head = file.source.read(0, PAGE_BYTES).await?;
    }
    Ok(file)
}

impl<E: Env> WalFile<E> {
    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }

    /// `length` bytes from `position`, or none if the file ends before. Unreadable pages are zeros.
    pub(super) async fn bytes(&mut self, position: u64, length: usize) -> Result<Option<Bytes>, ScanError> {
        let end = position + length as u64;
        if end > self.size {
            return Ok(None);
        }
        if position == 0 && length <= self.head.len() {
            return Ok(Some(self.head.slice(..length)));
        }
        let mut prefix = Bytes::new();
        if let Some((start, chunk)) = &self.chunk
            && *start <= position
            && position < start + chunk.len() as u64
        {
            let from = usize::try_from(position - start).expect("inside a piece");
            if chunk.len() - from >= length {
                return Ok(Some(chunk.slice(from..from + length)));
            }
            prefix = chunk.slice(from..);
        }
        // What crosses the border of two pieces is put together; the rest is never copied.
        let rest = length - prefix.len();
        self.load(position + prefix.len() as u64, rest).await?;
        let (_, chunk) = self.chunk.as_ref().expect("it was just loaded");
        if prefix.is_empty() {
            return Ok(Some(chunk.slice(..length)));
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&prefix);
        bytes.extend_from_slice(&chunk[..rest]);
        Ok(Some(bytes.freeze()))
    }

    /// Makes the piece from `position`, of at least `least` bytes, the current one, and begins to read the next.
    async fn load(&mut self, position: u64, least: usize) -> Result<(), ScanError> {
        let length = self.piece_at(position).max(least);
        let ready = match core::mem::replace(&mut self.ahead, Ahead::None) {
            Ahead::Reading(at, ahead, read) if at == position && ahead >= least => Some((ahead, read.await)),
            Ahead::Done(at, ahead, read) if at == position && ahead >= least => Some((ahead, read)),
            _ => None,
        };
        let chunk = match ready {
            Some((length, Ok(bytes))) if bytes.len() == length => bytes,
            _ => self.source.read(position, length).await?,
        };
        let next = position + chunk.len() as u64;
        self.chunk = Some((position, chunk));
        self.read_ahead(next).await;
        Ok(())
    }

    fn piece_at(&self, position: u64) -> usize {
        usize::try_from(self.size.saturating_sub(position)).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
    }

    /// Begins to read a piece. The future is polled once, which is what begins it.
    async fn read_ahead(&mut self, position: u64) {
        let length = self.piece_at(position);
        if length == 0 {
            return;
        }
        let handle = self.source.handle.clone();
        let mut read: Read = Box::pin(async move { handle.read_at(position, length).await });
        let begun = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
        self.ahead = match begun {
            Poll::Ready(result) => Ahead::Done(position, length, result),
            Poll::Pending => Ahead::Reading(position, length, read),
        };
    }
}

/// An open file by itself.
struct Source<E: Env> {
    path: PathBuf,
    handle: FileOf<E>,
    /// What can't be read at once is zeros: only in simulations.
    gives_up: bool,
}

impl<E: Env> Source<E> {
    async fn read(&self, position: u64, length: usize) -> Result<Bytes, ScanError> {
        match self.handle.read_at(position, length).await {
            Ok(bytes) if bytes.len() == length => Ok(bytes),
            Ok(_) => Err(self.failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(_) if self.gives_up => Ok(BytesMut::zeroed(length).freeze()),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), position, length, %error, "reading page by page");
                self.read_pages(position, length).await
            }
        }
    }

    /// A page that can't be read may belong to a group that was acknowledged and has no later one to prove it: it would be taken
    /// for torn. So the device gets several chances.
    async fn read_pages(&self, position: u64, length: usize) -> Result<Bytes, ScanError> {
        let Pages { bytes, broken, .. } = read_pages(&self.handle, position, length, PAGE_TRIES).await;
        match broken {
            Some(error) => Err(self.failed(error)),
            None if bytes.len() == length => Ok(bytes),
            None => Err(self.failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }

    fn failed(&self, source: io::Error) -> ScanError {
        ScanError::Io { path: self.path.clone(), source }
    }
}
