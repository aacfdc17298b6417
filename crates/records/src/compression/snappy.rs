//! Snappy, raw or in the framing of Java's library ("xerial"), which the Java client writes:
//!
//! ```text
//!  82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version 4 bytes | oldest reader 4 bytes | chunks: length 4 bytes, raw block
//! ```
//!
//! Numbers are big-endian. Clients that write one raw block (librdkafka) and those that write the framing read both.

use std::io::Write;

use super::{Codec, Output, corrupt, failed};
use crate::{CompressError, DecompressError};

const CODEC: Codec = Codec::Snappy;
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: [u8; 4] = 1_u32.to_be_bytes();
/// Magic, version, oldest version that can read it.
const PREAMBLE_BYTES: usize = 16;
/// Plain bytes of a chunk: the Java library's default.
const CHUNK_BYTES: usize = 32 * 1024;
/// A copy element of three bytes gives at most 64: no honest block is denser.
const RATIO_MAX: usize = 64;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    if !compressed.starts_with(&MAGIC) {
        append_block(compressed, bytes_max, &mut out)?;
        return Ok(out);
    }
    // The versions have never changed what follows; Java reads on whatever they say, as long as they are there.
    let mut chunks =
        compressed.get(PREAMBLE_BYTES..).ok_or_else(|| corrupt(CODEC, "the framing's preamble is cut off"))?;
    while !chunks.is_empty() {
        let (length, rest) = chunks.split_first_chunk().ok_or_else(|| corrupt(CODEC, "a chunk's length is cut off"))?;
        let length = i32::from_be_bytes(*length);
        let (block, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or_else(|| corrupt(CODEC, format_args!("a chunk claims {length} of {} bytes", rest.len())))?;
        append_block(block, bytes_max, &mut out)?;
        chunks = rest;
    }
    Ok(out)
}

fn append_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    if block.is_empty() {
        return Err(corrupt(CODEC, "an empty block"));
    }
    let block_bytes = snap::raw::decompress_len(block).map_err(|error| corrupt(CODEC, error))?;
    if block_bytes > block.len().saturating_mul(RATIO_MAX) {
        return Err(corrupt(CODEC, format_args!("{} bytes claim to hold {block_bytes}", block.len())));
    }
    let from = out.len();
    let size = from.saturating_add(block_bytes);
    if size > bytes_max {
        return Err(DecompressError::TooLarge { codec: CODEC, bytes_max });
    }
    if out.capacity() < size {
        let capacity = out.capacity().saturating_mul(2).min(bytes_max).max(size);
        out.reserve_exact(capacity.saturating_sub(from));
    }
    out.resize(size, 0);
    let space = out.get_mut(from..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(block, space).map_err(|error| corrupt(CODEC, error))?;
    if written == block_bytes { Ok(()) } else { Err(corrupt(CODEC, "a block is shorter than it claims")) }
}

pub(super) fn compress_into(plain: &[u8], out: &mut Output<'_>) -> Result<(), CompressError> {
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|error| failed(CODEC, error));
    put(&MAGIC)?;
    put(&VERSION)?;
    put(&VERSION)?;
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(plain.len().min(CHUNK_BYTES))];
    for chunk in plain.chunks(CHUNK_BYTES) {
        let block_bytes = encoder.compress(chunk, &mut block).map_err(|error| failed(CODEC, error))?;
        let length = u32::try_from(block_bytes).map_err(|error| failed(CODEC, error))?;
        put(&length.to_be_bytes())?;
        put(block.get(..block_bytes).unwrap_or_default())?;
    }
    Ok(())
}
