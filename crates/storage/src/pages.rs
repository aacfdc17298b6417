//! Reading a piece of a file of which the device can't read some pages.
//!
//! Invariant: a page that can't be read comes as zeros, which no checksum here takes for right.
//!
//! Not here: what is made of such a piece (`wal`, `segment`).

use std::io;

use bytes::{Bytes, BytesMut};
use quipu_env::File;

/// What may be unreadable by itself: a page of the cache.
const PAGE_BYTES: usize = 4096;

/// Pages of one piece that may be unreadable before the device, not a page, is taken to be broken.
const UNREADABLE_PAGES_MAX: usize = 16;

/// What could be read of a piece.
pub(crate) struct Pages {
    /// Shorter than what was asked for if the file ends before.
    pub(crate) bytes: Bytes,
    /// Pages that can't be read.
    pub(crate) unreadable: usize,
    /// The last error if so many pages can't be read that the rest was not asked for.
    pub(crate) broken: Option<io::Error>,
}

/// Reads `length` bytes from `position`, page by page. A page that can't be read is asked for `tries` times: each time, the device may
/// do better.
pub(crate) async fn read_pages<F: File>(file: &F, position: u64, length: usize, tries: usize) -> Pages {
    let mut bytes = BytesMut::zeroed(length);
    let mut unreadable = 0;
    for from in (0..length).step_by(PAGE_BYTES) {
        let page = from..length.min(from + PAGE_BYTES);
        let at = position + from as u64;
        match read_page(file, at, page.len(), tries).await {
            Ok(read) => {
                bytes[from..from + read.len()].copy_from_slice(&read);
                if read.len() < page.len() {
                    bytes.truncate(from + read.len());
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(path = %file.path().display(), position = at, %error, "unreadable page");
                unreadable += 1;
                if unreadable > UNREADABLE_PAGES_MAX {
                    return Pages { bytes: bytes.freeze(), unreadable, broken: Some(error) };
                }
            }
        }
    }
    Pages { bytes: bytes.freeze(), unreadable, broken: None }
}

async fn read_page<F: File>(file: &F, position: u64, length: usize, tries: usize) -> io::Result<Bytes> {
    let mut result = file.read_at(position, length).await;
    for _ in 1..tries {
        if result.is_ok() {
            break;
        }
        result = file.read_at(position, length).await;
    }
    result
}
