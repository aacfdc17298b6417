//! The sparse index of one segment: where each block of about 8 KiB begins, and what is in it.
//!
//! A block is a run of whole batches; a batch of more than the interval is a block of its own. One checksum over the headers of
//! a block's batches covers what Kafka's own CRC does not (base offset, length, leader epoch, magic): with it and the batches'
//! CRCs every byte of the block is covered.
//!
//! Invariants
//! - Blocks are contiguous from position 0; positions and offsets rise strictly.
//! - The index is a function of the segment's bytes, of the interval, and of where flushes ended; a rebuilt one may differ in
//!   where blocks are cut, never in what it answers.
//!
//! Not here: where an index is stored (`footer`) and how it is rebuilt (`segment`).

use core::ops::Range;

use quipu_base::{
    Offset, Timestamp,
    checksum::{crc32c, crc32c_combine},
};
use quipu_records::{BatchHeader, HEADER_BYTES};

/// Bytes of the part of each batch that the blocks' checksums cover.
pub(crate) const COVERED_HEADER_BYTES: usize = HEADER_BYTES;

/// One block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// Base offset of its first batch, counted from the segment's base offset. Compacted or damaged logs have gaps.
    pub(crate) offset_delta: u32,
    /// Where it begins.
    pub(crate) position: u32,
    /// The largest max timestamp of its batches.
    pub(crate) max_timestamp: Timestamp,
    /// Number of batches.
    pub(crate) batches: u32,
    /// CRC-32C over the 61-byte headers of its batches, one after the other.
    pub(crate) headers_crc: u32,
}

/// The blocks of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SparseIndex {
    base: Offset,
    blocks: Vec<Block>,
    end_position: u32,
}

impl SparseIndex {
    pub(crate) const fn new(base: Offset) -> Self {
        Self { base, blocks: Vec::new(), end_position: 0 }
    }

    pub(crate) const fn from_blocks(base: Offset, blocks: Vec<Block>, end_position: u32) -> Self {
        Self { base, blocks, end_position }
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) const fn end_position(&self) -> u32 {
        self.end_position
    }

    /// Memory it takes.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + size_of::<Self>()
    }

    /// Adds the next batch, whose first 61 bytes are `bytes`, as `header` says.
    ///
    /// # Panics
    /// If the segment would pass 4 GiB or 2^32 offsets: the roll prevents both.
    pub(crate) fn push(&mut self, header: &BatchHeader, bytes: &[u8], interval: u32) {
        let crc = crc32c(&bytes[..COVERED_HEADER_BYTES]);
        let position = self.end_position;
        let size = u32::try_from(header.total_bytes()).expect("a batch's length has 31 bits");
        self.end_position = position.checked_add(size).expect("a segment is rolled below 4 GiB");
        if let Some(last) = self.blocks.last_mut()
            && position - last.position < interval
            && last.batches > 0
        {
            last.max_timestamp = last.max_timestamp.max(header.max_timestamp);
            last.batches += 1;
            last.headers_crc = crc32c_combine(last.headers_crc, crc, COVERED_HEADER_BYTES as u64);
            return;
        }
        let delta = header.base_offset.records_since(self.base);
        self.blocks.push(Block {
            offset_delta: u32::try_from(delta).expect("a segment is rolled below 2^32 offsets"),
            position,
            max_timestamp: header.max_timestamp,
            batches: 1,
            headers_crc: crc,
        });
    }

    /// Adds a range that can't be read, as a block without batches, up to `end_position`.
    pub(crate) fn push_bad(&mut self, offset: Offset, end_position: u32) {
        let delta = u32::try_from(offset.records_since(self.base)).expect("a segment is rolled below 2^32 offsets");
        let position = std::mem::replace(&mut self.end_position, end_position);
        let max_timestamp = Timestamp::NONE;
        self.blocks.push(Block { offset_delta: delta, position, max_timestamp, batches: 0, headers_crc: 0 });
    }

    /// An index to be filled with what follows, without what lies before the last block.
    pub(crate) fn fork(&self) -> Self {
        let last = self.blocks.last().copied();
        Self { base: self.base, blocks: last.into_iter().collect(), end_position: self.end_position }
    }

    /// Takes over what a [`Self::fork`] was filled with. Answers the number of the first block that is new.
    ///
    /// # Panics
    /// If this index has changed since the fork.
    pub(crate) fn join(&mut self, fork: &Self) -> usize {
        let known = self.blocks.len();
        if let Some(last) = self.blocks.pop() {
            assert!(fork.blocks.first().is_some_and(|first| first.position == last.position), "a fork of this index");
        }
        self.blocks.extend_from_slice(&fork.blocks);
        self.end_position = fork.end_position;
        known
    }

    /// The first offset in block `index`.
    pub(crate) fn offset_of(&self, index: usize) -> Offset {
        self.base.checked_add(self.blocks[index].offset_delta).expect("an offset that was appended")
    }

    /// The block that holds `offset` if any does: the last that begins at or below it.
    pub(crate) fn block_at(&self, offset: Offset) -> Option<usize> {
        let delta = offset.records_since(self.base);
        self.blocks.partition_point(|block| u64::from(block.offset_delta) <= delta).checked_sub(1)
    }

    /// The block that holds the byte at `position`.
    pub(crate) fn block_at_position(&self, position: u32) -> Option<usize> {
        self.blocks.partition_point(|block| block.position <= position).checked_sub(1)
    }

    /// The bytes of block `index`.
    pub(crate) fn range_of(&self, index: usize) -> Range<u32> {
        let end = self.blocks.get(index + 1).map_or(self.end_position, |next| next.position);
        self.blocks[index].position..end
    }

    /// The end of the last block that ends at or below `position`; the start of the first if none does.
    pub(crate) fn boundary_at_or_below(&self, position: u64) -> u32 {
        if u64::from(self.end_position) <= position {
            return self.end_position;
        }
        let later = self.blocks.partition_point(|block| u64::from(block.position) <= position);
        later.checked_sub(1).map_or(0, |index| self.blocks[index].position)
    }

    /// The first block from `from` on that has a record at or after `timestamp`.
    pub(crate) fn block_since(&self, from: usize, timestamp: Timestamp) -> Option<usize> {
        (from..self.blocks.len()).find(|index| self.blocks[*index].max_timestamp >= timestamp)
    }

    /// Number of batches and checksum over their headers, all blocks together.
    pub(crate) fn headers(&self) -> (u32, u32) {
        combined_headers(&self.blocks)
    }
}

/// Number of batches and checksum over their headers in adjacent blocks.
pub(crate) fn combined_headers(blocks: &[Block]) -> (u32, u32) {
    blocks.iter().fold((0, crc32c(b"")), |(count, crc), block| {
        (count + block.batches, crc32c_combine(crc, block.headers_crc, covered_bytes(block.batches)))
    })
}

/// Header bytes of that many batches.
pub(crate) fn covered_bytes(batches: u32) -> u64 {
    u64::from(batches) * COVERED_HEADER_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch_at;

    fn index(sizes: &[usize]) -> (SparseIndex, Vec<u8>) {
        let (mut index, mut bytes) = (SparseIndex::new(Offset(100)), Vec::new());
        for (offset, size) in (100..).zip(sizes) {
            let batch = batch_at(offset, 1, *size, offset * 10);
            index.push(batch.header(), batch.bytes(), 1000);
            bytes.extend_from_slice(batch.bytes());
        }
        (index, bytes)
    }

    #[test]
    fn blocks_are_cut_at_the_interval_and_found() {
        let (index, bytes) = index(&[300, 300, 300, 5000, 10, 10]);
        let starts: Vec<_> = index.blocks().iter().map(|block| block.offset_delta).collect();
        assert_eq!(starts, [0, 3, 4], "{index:?}");
        assert_eq!(u64::from(index.end_position()), bytes.len() as u64);
        assert_eq!(index.block_at(Offset(99)), Some(0));
        assert_eq!(index.block_at(Offset(102)), Some(0));
        assert_eq!(index.block_at(Offset(103)), Some(1));
        assert_eq!(index.block_at(Offset(1000)), Some(2));
        assert_eq!(index.block_since(0, Timestamp(1021)), Some(1));
        assert_eq!(index.block_since(0, Timestamp(1060)), None);
        assert_eq!(index.boundary_at_or_below(0), 0);
        assert_eq!(index.boundary_at_or_below(u64::MAX), index.end_position());
        assert_eq!(index.boundary_at_or_below(u64::from(index.blocks()[1].position) + 1), index.blocks()[1].position);
        assert_eq!(index.block_at_position(index.blocks()[1].position - 1), Some(0));
        assert_eq!(index.range_of(2).end, index.end_position());
    }

    #[test]
    fn the_combined_checksum_is_that_of_all_headers() {
        let (index, bytes) = index(&[10, 2000, 10, 10, 3000]);
        let mut headers = Vec::new();
        for batch in quipu_records::BatchSlices::new(&bytes) {
            headers.extend_from_slice(&batch.expect("a good batch").1[..COVERED_HEADER_BYTES]);
        }
        assert_eq!(index.headers(), (5, crc32c(&headers)));
    }

    #[test]
    fn a_fork_that_joins_equals_an_index_built_at_once() {
        let sizes = [300, 300, 300, 5000, 10, 10, 900, 900, 10];
        let (whole, _) = index(&sizes);
        for cut in 0..=sizes.len() {
            let (mut first, _) = index(&sizes[..cut]);
            let mut fork = first.fork();
            for (offset, size) in (100..).zip(sizes).skip(cut) {
                let batch = batch_at(offset, 1, size, offset * 10);
                fork.push(batch.header(), batch.bytes(), 1000);
            }
            let known = first.blocks().len();
            assert_eq!(first.join(&fork), known);
            assert_eq!(first, whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_bad_range_is_a_block_of_its_own() {
        let (mut index, _) = index(&[300]);
        let from = index.end_position();
        index.push_bad(Offset(101), from + 50);
        let batch = batch_at(110, 1, 10, 0);
        index.push(batch.header(), batch.bytes(), 1000);
        assert_eq!(index.blocks().len(), 3);
        assert_eq!(index.range_of(1), from..from + 50);
        assert_eq!((index.block_at(Offset(105)), index.offset_of(2)), (Some(1), Offset(110)));
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        let index = SparseIndex::new(Offset(5));
        assert_eq!((index.block_at(Offset(5)), index.boundary_at_or_below(9)), (None, 0));
        assert_eq!(index.headers(), (0, crc32c(b"")));
    }
}
