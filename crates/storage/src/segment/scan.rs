//! Walking through the batch headers of a segment's bytes without reading the records.
//!
//! Not here: whether the records are as they were written (`check`).

use bytes::Bytes;
use quipu_env::File;
use quipu_records::{BatchHeader, HEADER_BYTES};

use super::OpenSegment;

/// Read at a time while batches are small.
const CHUNK_BYTES: usize = 256 * 1024;
/// Read at a time while batches are large: little more than a header.
const SPARSE_CHUNK_BYTES: usize = 4096;

/// A batch header in a segment.
pub(crate) struct Scanned {
    pub(crate) header: BatchHeader,
    pub(crate) position: u32,
    /// The header's bytes.
    pub(crate) bytes: Bytes,
}

/// Goes from header to header through `position..end` of a segment.
pub(crate) struct HeaderScan<'a, F> {
    segment: &'a OpenSegment<F>,
    position: u32,
    end: u32,
    chunk: Bytes,
    chunk_at: u32,
    last_bytes: usize,
}

/// What is at this position is no batch that ends within the range, or can't be read.
#[derive(Debug)]
pub(crate) struct NoBatch {
    pub(crate) position: u32,
    pub(crate) why: String,
}

impl<'a, F: File> HeaderScan<'a, F> {
    pub(crate) const fn new(segment: &'a OpenSegment<F>, position: u32, end: u32) -> Self {
        Self { segment, position, end, chunk: Bytes::new(), chunk_at: 0, last_bytes: 0 }
    }

    /// The next header; none at the end of the range.
    pub(crate) async fn next(&mut self) -> Result<Option<Scanned>, NoBatch> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let bytes = self.header_bytes().await;
        let bad = |why| NoBatch { position, why };
        let header = BatchHeader::parse(&bytes).map_err(|error| bad(error.to_string()))?;
        let size = header.total_bytes();
        let next = u32::try_from(size).ok().and_then(|size| position.checked_add(size));
        match next {
            Some(next) if next <= self.end => self.position = next,
            _ => {
                return Err(bad(format!("a batch of {size} bytes does not end within the {} bytes of data", self.end)));
            }
        }
        self.last_bytes = size;
        Ok(Some(Scanned { header, position, bytes }))
    }

    async fn header_bytes(&mut self) -> Bytes {
        let skip = usize::try_from(self.position - self.chunk_at).expect("a segment fits memory");
        if let Some(rest) = self.chunk.get(skip..)
            && rest.len() >= HEADER_BYTES
        {
            return self.chunk.slice(skip..skip + HEADER_BYTES);
        }
        let wanted = if self.last_bytes > CHUNK_BYTES / 4 { SPARSE_CHUNK_BYTES } else { CHUNK_BYTES };
        let left = usize::try_from(self.end - self.position).expect("a segment fits memory");
        self.chunk = self.segment.read_at(self.position, wanted.min(left)).await;
        self.chunk_at = self.position;
        self.chunk.slice(..HEADER_BYTES.min(self.chunk.len()))
    }
}
