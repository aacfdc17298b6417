//! LZ4 in its frame format: one frame of independent blocks, as the Java client demands. A frame of linked blocks is refused,
//! as Kafka refuses it: the Java consumer could not read it.
//!
//! Written as the Java client does: 64 KiB blocks, no checksums but the header's.

use std::io::{Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Codec, Output, check_trailing, corrupt, failed, read_bounded};
use crate::{CompressError, DecompressError};

const CODEC: Codec = Codec::Lz4;
const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const FLAG_INDEPENDENT: u8 = 0x20;
/// A first guess at the ratio; the output doubles from there.
const RATIO_GUESS: usize = 4;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    match compressed.strip_prefix(&MAGIC) {
        Some([flags, ..]) if flags & FLAG_INDEPENDENT != 0 => {}
        Some([_, ..]) => return Err(corrupt(CODEC, "linked blocks, which not every client reads")),
        _ => return Err(corrupt(CODEC, "not an LZ4 frame")),
    }
    let mut decoder = FrameDecoder::new(Input { rest: compressed, overrun: false });
    let plain = read_bounded(CODEC, &mut decoder, compressed.len().saturating_mul(RATIO_GUESS), bytes_max)?;
    let input = decoder.into_inner();
    if input.overrun {
        return Err(corrupt(CODEC, "the frame has no end mark"));
    }
    check_trailing(CODEC, input.rest)?;
    Ok(plain)
}

/// The compressed bytes, remembering whether more was asked for: the library takes the end of its input between two blocks for
/// the end of the frame.
struct Input<'a> {
    rest: &'a [u8],
    overrun: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        self.overrun |= space.len() > self.rest.len();
        self.rest.read(space)
    }
}

pub(super) fn compress_into(plain: &[u8], out: &mut Output<'_>) -> Result<(), CompressError> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(plain).map_err(|error| failed(CODEC, error))?;
    encoder.finish().map(|_| ()).map_err(|error| failed(CODEC, error))
}
