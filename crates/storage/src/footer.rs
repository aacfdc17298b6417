//! What a sealed segment has behind its batches, so that it can be read without a scan.
//!
//! ```text
//! segment file:  batches, verbatim, back to back | footer            all numbers of the footer little-endian
//!
//! footer
//!    0  8  magic "QuipuFtr"
//!    8  2  version, 1
//!   10  2  zeros
//!   12  4  number of blocks
//!   16  4  number of epochs
//!   20  4  bytes of producer state
//!   24  8  base offset of the segment
//!   32  8  offset after its last record
//!   40  8  bytes of batches: where the footer begins
//!   48 24  per block: offset delta 4, position 4, max timestamp 8, number of batches 4, CRC-32C over their 61-byte headers 4
//!   .. 12  per epoch: leader epoch 4, start offset 8
//!   ..  .  producer state, exact at the segment's end: postcard, a sequence of `ProducerState`
//!   ..  4  length of the footer
//!   ..  4  CRC-32C over the footer up to here
//! ```
//!
//! The CRC covers the footer only. The batches are covered by their own CRCs and, for the bytes that those leave out, by the
//! blocks' header CRCs. Position and length of the footer stand in the manifest; the last 8 bytes serve a reader without one.
//!
//! Invariant: a footer adds nothing that the batches and the segments before do not say; a bad one costs a scan, never data.
//!
//! Version history: 1, the first. The index of aborted transactions comes with transactions, in a version of its own.
//!
//! Not here: when a segment is sealed (`checkpoint`).

use core::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quipu_base::{LeaderEpoch, Offset, Timestamp, checksum::crc32c};

use crate::{
    epochs::{EpochStart, EpochTable},
    index::{Block, SparseIndex},
    producers::{ProducerState, Producers},
};

const MAGIC: [u8; 8] = *b"QuipuFtr";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 48;
const BLOCK_BYTES: usize = 24;
const EPOCH_BYTES: usize = 12;
const TRAILER_BYTES: usize = 8;

/// A footer, read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub(crate) end: Offset,
    pub(crate) index: SparseIndex,
    pub(crate) epochs: EpochTable,
    pub(crate) producers: Producers,
}

/// Why bytes are no footer of the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FooterError {
    /// A checksum, a length or a field is not what it should be.
    Damaged(&'static str),
    /// Written by a later release.
    Newer(u16),
}

impl fmt::Display for FooterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "bad segment footer: {why}"),
            Self::Newer(version) => {
                write!(
                    f,
                    "segment footer of version {version}, this release knows up to {VERSION}: start a later release"
                )
            }
        }
    }
}

impl Footer {
    pub(crate) fn encode(&self, base: Offset) -> Bytes {
        let states: Vec<&ProducerState> = self.producers.states().collect();
        let producers = postcard::to_allocvec(&states).expect("plain data encodes");
        let (blocks, epochs) = (self.index.blocks(), self.epochs.entries());
        let length =
            FIXED_BYTES + blocks.len() * BLOCK_BYTES + epochs.len() * EPOCH_BYTES + producers.len() + TRAILER_BYTES;
        let count = |count: usize| u32::try_from(count).expect("a segment has less than 4 GiB");
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(VERSION);
        bytes.put_u16_le(0);
        bytes.put_u32_le(count(blocks.len()));
        bytes.put_u32_le(count(epochs.len()));
        bytes.put_u32_le(count(producers.len()));
        bytes.put_i64_le(base.0);
        bytes.put_i64_le(self.end.0);
        bytes.put_u64_le(self.index.end_position().into());
        for block in blocks {
            bytes.put_u32_le(block.offset_delta);
            bytes.put_u32_le(block.position);
            bytes.put_i64_le(block.max_timestamp.0);
            bytes.put_u32_le(block.batches);
            bytes.put_u32_le(block.headers_crc);
        }
        for entry in epochs {
            bytes.put_i32_le(entry.epoch.0);
            bytes.put_i64_le(entry.start.0);
        }
        bytes.put_slice(&producers);
        bytes.put_u32_le(count(length));
        let crc = crc32c(&bytes);
        bytes.put_u32_le(crc);
        bytes.freeze()
    }

    /// Reads a footer from exactly its bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FooterError> {
        if bytes.len() < FIXED_BYTES + TRAILER_BYTES || bytes[..8] != MAGIC {
            return Err(FooterError::Damaged("no footer begins here"));
        }
        let (covered, mut stored) = bytes.split_at(bytes.len() - 4);
        if crc32c(covered) != stored.get_u32_le() {
            return Err(FooterError::Damaged("checksum"));
        }
        let mut fields = &covered[8..];
        let version = fields.get_u16_le();
        if version != VERSION {
            return Err(FooterError::Newer(version));
        }
        fields.advance(2);
        let blocks = u64::from(fields.get_u32_le());
        let epochs = u64::from(fields.get_u32_le());
        let producers = u64::from(fields.get_u32_le());
        let base = Offset(fields.get_i64_le());
        let end = Offset(fields.get_i64_le());
        let data_bytes = fields.get_u64_le();
        // Three 32-bit counts times small constants: no overflow in 64 bits.
        let lists = blocks * BLOCK_BYTES as u64 + epochs * EPOCH_BYTES as u64 + producers;
        if lists + 4 != fields.len() as u64 {
            return Err(FooterError::Damaged("length"));
        }
        let blocks: Vec<Block> = (0..blocks).map(|_| take_block(&mut fields)).collect();
        if !are_in_order(base, &blocks, data_bytes) {
            return Err(FooterError::Damaged("order of the blocks"));
        }
        let epochs = (0..epochs)
            .map(|_| EpochStart { epoch: LeaderEpoch(fields.get_i32_le()), start: Offset(fields.get_i64_le()) })
            .collect();
        let states: Vec<ProducerState> =
            postcard::from_bytes(&fields[..fields.len() - 4]).map_err(|_| FooterError::Damaged("producer state"))?;
        let data_bytes = u32::try_from(data_bytes).map_err(|_| FooterError::Damaged("size of the data"))?;
        Ok(Self {
            end,
            index: SparseIndex::from_blocks(base, blocks, data_bytes),
            epochs: EpochTable::from_entries(epochs),
            producers: Producers::from_states(states),
        })
    }
}

/// Whether blocks begin where an index of `data_bytes` bytes may have them, and can be counted.
fn are_in_order(base: Offset, blocks: &[Block], data_bytes: u64) -> bool {
    let starts_at_0 = blocks.first().is_none_or(|first| first.position == 0);
    let rise = |pair: &[Block]| pair[0].position < pair[1].position && pair[0].offset_delta <= pair[1].offset_delta;
    let ends_inside = blocks
        .last()
        .is_none_or(|last| u64::from(last.position) < data_bytes && base.checked_add(last.offset_delta).is_some());
    let count = blocks.iter().try_fold(0_u32, |count, block| count.checked_add(block.batches));
    starts_at_0 && blocks.windows(2).all(rise) && ends_inside && count.is_some()
}

fn take_block(fields: &mut &[u8]) -> Block {
    Block {
        offset_delta: fields.get_u32_le(),
        position: fields.get_u32_le(),
        max_timestamp: Timestamp(fields.get_i64_le()),
        batches: fields.get_u32_le(),
        headers_crc: fields.get_u32_le(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_at, produced};

    fn footer() -> Footer {
        let mut index = SparseIndex::new(Offset(100));
        let mut producers = Producers::default();
        let mut epochs = EpochTable::default();
        for offset in 100..130 {
            let batch = batch_at(offset, 1, 500, offset);
            index.push(batch.header(), batch.bytes(), 1000);
            epochs.assign(LeaderEpoch(i32::try_from(offset / 10).expect("small")), Offset(offset));
        }
        for id in 0..5 {
            producers.record(produced(id, 3, 2, 10).header(), Timestamp(9));
        }
        Footer { end: Offset(130), index, epochs, producers }
    }

    #[test]
    fn it_round_trips() {
        let footer = footer();
        assert_eq!(Footer::decode(&footer.encode(Offset(100))), Ok(footer));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let bytes = footer().encode(Offset(100));
        for length in 0..bytes.len() {
            assert!(Footer::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[position] ^= 1 << bit;
                assert!(Footer::decode(&flipped).is_err(), "bit {bit} of byte {position}");
            }
        }
    }

    /// A good footer with other bytes at `at`, and the checksum that goes with them.
    fn with(at: usize, bytes: &[u8]) -> Result<Footer, FooterError> {
        let mut footer = footer().encode(Offset(100)).to_vec();
        footer[at..at + bytes.len()].copy_from_slice(bytes);
        let covered = footer.len() - 4;
        let crc = crc32c(&footer[..covered]).to_le_bytes();
        footer[covered..].copy_from_slice(&crc);
        Footer::decode(&footer)
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        assert_eq!(with(8, &[2]), Err(FooterError::Newer(2)));
    }

    #[test]
    fn blocks_out_of_order_are_no_index() {
        let second = FIXED_BYTES + BLOCK_BYTES;
        let largest = u32::MAX.to_le_bytes();
        for (what, at, bytes) in [
            ("an offset beyond the next block's", second, &largest[..]),
            ("a position beyond the data", second + 4, &largest),
            ("a position before the block before", second + 4, &[0; 4]),
            ("more batches than can be counted", second + 16, &largest),
            ("a first block that is not at the start", FIXED_BYTES + 4, &[1]),
            ("offsets past the largest", 24, &i64::MAX.to_le_bytes()),
        ] {
            assert_eq!(with(at, bytes), Err(FooterError::Damaged("order of the blocks")), "{what}");
        }
    }
}
