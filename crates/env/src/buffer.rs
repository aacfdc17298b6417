//! Memory that direct I/O accepts, made without `unsafe`.

use core::ops::Range;

use bytes::Bytes;
use quipu_base::limits::WAL_ALIGN_BYTES;

/// A fixed span of zeroed memory that starts at a multiple of 4 KiB and has a length that is one.
///
/// Made by allocating one page more than needed. Turns into refcounted [`Bytes`] without a copy.
pub struct AlignedBuf {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuf {
    /// `length` zero bytes.
    ///
    /// # Panics
    /// If `length` is no multiple of 4 KiB.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        assert!(length.is_multiple_of(WAL_ALIGN_BYTES), "direct I/O takes whole pages, not {length} bytes");
        let memory = vec![0; length + WAL_ALIGN_BYTES];
        let start = memory.as_ptr().align_offset(WAL_ALIGN_BYTES);
        assert!(start < WAL_ALIGN_BYTES, "a byte pointer can always be aligned");
        Self { memory, start, length }
    }

    /// Bytes in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Ends it at `length`, which must be a multiple of 4 KiB and at most [`Self::len`].
    pub fn truncate(&mut self, length: usize) {
        assert!(length.is_multiple_of(WAL_ALIGN_BYTES) && length <= self.length);
        self.length = length;
    }

    /// The same memory, refcounted. The start stays aligned; a slice of it need not be.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    const fn span(&self) -> Range<usize> {
        self.start..self.start + self.length
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.span()]
    }
}

impl AsMut<[u8]> for AlignedBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        let span = self.span();
        &mut self.memory[span]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_before_and_after_freezing() {
        for pages in [0, 1, 3, 100] {
            let mut buffer = AlignedBuf::zeroed(pages * WAL_ALIGN_BYTES);
            assert!(buffer.as_ref().as_ptr().addr().is_multiple_of(WAL_ALIGN_BYTES));
            buffer.as_mut().fill(7);
            let frozen = buffer.freeze();
            assert_eq!(frozen.len(), pages * WAL_ALIGN_BYTES);
            assert!(frozen.iter().all(|byte| *byte == 7));
            assert!(frozen.is_empty() || frozen.as_ptr().addr().is_multiple_of(WAL_ALIGN_BYTES));
        }
    }
}
