//! The content of a file: a sparse map of 4 KiB blocks that share their memory between snapshots.
//!
//! Invariants
//! - A missing block reads as zeros and takes no space; a block of zeros that was written takes space but shares its memory.
//! - Cloning costs the same whatever the size.
//!
//! Not here: which content is durable (`file`).

use core::ops::Range;
use std::sync::{Arc, LazyLock};

use imbl::OrdMap;

/// What a disk writes as one piece, at best.
pub const SECTOR_BYTES: usize = 512;
/// What the page cache holds and the file system allocates as one piece.
pub const BLOCK_BYTES: usize = 4096;

const SECTORS_PER_BLOCK: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

pub(super) type Sector = [u8; SECTOR_BYTES];
type Block = Arc<[u8; BLOCK_BYTES]>;

static ZERO_BLOCK: LazyLock<Block> = LazyLock::new(|| Arc::new([0; BLOCK_BYTES]));

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    map: OrdMap<u64, Block>,
}

/// Half-open numbers of the sectors that bytes `[position, position + length)` touch.
pub(super) fn sectors_of(position: u64, length: u64) -> Range<u64> {
    if length == 0 {
        return 0..0;
    }
    position / SECTOR_BYTES as u64..(position + length).div_ceil(SECTOR_BYTES as u64)
}

/// Where in a block a position lies. Lossless, since it is below 4,096.
fn within_block(position: u64) -> usize {
    usize::try_from(position % BLOCK_BYTES as u64).expect("a remainder of 4,096 fits")
}

impl Blocks {
    /// Blocks that take space.
    pub(super) fn count(&self) -> u64 {
        self.map.len() as u64
    }

    /// Whether the block with this number takes space.
    pub(super) fn holds(&self, block: u64) -> bool {
        self.map.contains_key(&block)
    }

    /// Fills `buffer` with the bytes from `position`.
    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let at = position + done as u64;
            let start = within_block(at);
            let count = (BLOCK_BYTES - start).min(buffer.len() - done);
            let target = &mut buffer[done..done + count];
            match self.map.get(&(at / BLOCK_BYTES as u64)) {
                Some(block) => target.copy_from_slice(&block[start..start + count]),
                None => target.fill(0),
            }
            done += count;
        }
    }

    /// Puts `bytes` at `position`.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let start = within_block(at);
            let count = (BLOCK_BYTES - start).min(bytes.len() - done);
            self.write_in_block(at / BLOCK_BYTES as u64, start, &bytes[done..done + count]);
            done += count;
        }
    }

    fn write_in_block(&mut self, number: u64, start: usize, bytes: &[u8]) {
        if bytes.len() == BLOCK_BYTES {
            let block = if bytes == ZERO_BLOCK.as_slice() {
                Arc::clone(&ZERO_BLOCK)
            } else {
                Arc::new(bytes.try_into().expect("the length was compared"))
            };
            self.map.insert(number, block);
            return;
        }
        let block = self.map.entry(number).or_insert_with(|| Arc::clone(&ZERO_BLOCK));
        Arc::make_mut(block)[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// One sector's bytes.
    pub(super) fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        self.read(sector * SECTOR_BYTES as u64, &mut bytes);
        bytes
    }

    /// Replaces one sector.
    pub(super) fn set_sector(&mut self, sector: u64, bytes: &Sector) {
        if !self.holds(sector / SECTORS_PER_BLOCK) && bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        self.write(sector * SECTOR_BYTES as u64, bytes);
    }

    /// Makes everything from `length` on a hole.
    pub(super) fn truncate(&mut self, length: u64) {
        let start = within_block(length);
        let first_gone = length.div_ceil(BLOCK_BYTES as u64);
        if self.map.get_max().is_some_and(|(last, _)| *last >= first_gone) {
            self.map = self.map.split(&first_gone).0;
        }
        if start > 0
            && let Some(block) = self.map.get_mut(&(length / BLOCK_BYTES as u64))
            && block[start..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(block)[start..].fill(0);
        }
    }

    /// Flips one bit of the byte at `position`.
    pub(super) fn flip_bit(&mut self, position: u64, bit: u8) {
        let mut byte = [0];
        self.read(position, &mut byte);
        byte[0] ^= 1 << (bit % 8);
        self.write(position, &byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_sparse_and_snapshots_do_not_see_later_writes() {
        let mut blocks = Blocks::default();
        blocks.write(BLOCK_BYTES as u64 - 1, b"abc");
        assert_eq!(blocks.count(), 2);
        let snapshot = blocks.clone();
        blocks.write(BLOCK_BYTES as u64, b"XY");
        let read = |blocks: &Blocks| {
            let mut buffer = [9; 5];
            blocks.read(BLOCK_BYTES as u64 - 2, &mut buffer);
            buffer
        };
        assert_eq!(&read(&snapshot), b"\0abc\0");
        assert_eq!(&read(&blocks), b"\0aXY\0");
    }

    #[test]
    fn truncation_leaves_holes_and_zeros_in_the_last_block() {
        let mut blocks = Blocks::default();
        blocks.write(0, &[7; 3 * BLOCK_BYTES]);
        blocks.truncate(BLOCK_BYTES as u64 + 10);
        assert_eq!(blocks.count(), 2);
        let mut buffer = [1; 2 * BLOCK_BYTES];
        blocks.read(BLOCK_BYTES as u64, &mut buffer);
        assert!(buffer[..10].iter().all(|byte| *byte == 7));
        assert!(buffer[10..].iter().all(|byte| *byte == 0));
        blocks.truncate(0);
        assert_eq!(blocks.count(), 0);
    }

    #[test]
    fn zero_blocks_take_space_but_share_their_memory() {
        let mut blocks = Blocks::default();
        blocks.write(0, &[0; 4 * BLOCK_BYTES]);
        assert_eq!(blocks.count(), 4);
        assert!(blocks.map.values().all(|block| Arc::ptr_eq(block, &ZERO_BLOCK)));
    }

    #[test]
    fn sectors_of_a_range() {
        assert_eq!(sectors_of(0, 0), 0..0);
        assert_eq!(sectors_of(511, 2), 0..2);
        assert_eq!(sectors_of(512, 512), 1..2);
    }
}
