//! Memory that direct I/O accepts, made without `unsafe`.

use core::ops::Range;

use bytes::Bytes;
use quipu_base::limits::WAL_ALIGN_BYTES;

/// A span of memory that starts at a multiple of 4 KiB: zeroed at once, or filled bit by bit. Direct I/O takes it when its length
/// is a multiple of 4 KiB, too.
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

    /// No bytes yet, and room for `capacity`. What is going to be overwritten anyway need not be zeroed first.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(capacity + WAL_ALIGN_BYTES);
        let start = memory.as_ptr().align_offset(WAL_ALIGN_BYTES);
        assert!(start < WAL_ALIGN_BYTES, "a byte pointer can always be aligned");
        memory.resize(start, 0);
        Self { memory, start, length: 0 }
    }

    /// Adds `bytes` at the end.
    ///
    /// # Panics
    /// If there is no room: more memory would lie elsewhere, unaligned. If it was truncated before.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.check_room(bytes.len());
        self.memory.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Adds `count` zero bytes at the end.
    ///
    /// # Panics
    /// Like [`Self::extend_from_slice`].
    pub fn extend_with_zeros(&mut self, count: usize) {
        self.check_room(count);
        self.memory.resize(self.memory.len() + count, 0);
        self.length += count;
    }

    fn check_room(&self, count: usize) {
        assert_eq!(self.memory.len(), self.start + self.length, "nothing is added to what was cut or zeroed at once");
        let room = self.memory.capacity() - self.memory.len();
        assert!(count <= room, "{count} bytes for a room of {room}");
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

    #[test]
    fn it_stays_aligned_while_it_is_filled() {
        for pages in [1, 3, 100] {
            let length = pages * WAL_ALIGN_BYTES;
            let mut buffer = AlignedBuf::with_capacity(length);
            assert!(buffer.is_empty());
            buffer.extend_with_zeros(100);
            buffer.extend_from_slice(&vec![7; length - 300]);
            buffer.as_mut()[..100].fill(3);
            buffer.extend_with_zeros(200);
            assert!(buffer.as_ref().as_ptr().addr().is_multiple_of(WAL_ALIGN_BYTES));
            let frozen = buffer.freeze();
            assert_eq!(frozen.len(), length);
            assert!(frozen.as_ptr().addr().is_multiple_of(WAL_ALIGN_BYTES));
            let (head, rest) = frozen.split_at(100);
            let (body, tail) = rest.split_at(length - 300);
            assert!(head.iter().all(|byte| *byte == 3) && body.iter().all(|byte| *byte == 7));
            assert!(tail.iter().all(|byte| *byte == 0));
        }
    }
}
