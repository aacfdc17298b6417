//! Zstandard frames. Decompressed in one go into the output, so that no frame can ask for a window beside it.
//!
//! Each thread keeps one decompressor (about 100 KiB): making one takes 8 us, ten times what a small batch takes. It carries
//! nothing over from one call to the next. Compressors are not kept: what they hold grows with level and size.

use core::cell::RefCell;
use std::io::{self, Write};

use zstd::{
    bulk::{Compressor, Decompressor},
    stream::write::Encoder,
};

use super::{Codec, Output, corrupt, failed};
use crate::{CompressError, DecompressError};

const CODEC: Codec = Codec::Zstd;
/// The library's words for output that does not fit.
const DOES_NOT_FIT: &str = "Destination buffer is too small";

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    if compressed.is_empty() {
        return Err(corrupt(CODEC, "no frame"));
    }
    // The sizes in the frame headers, or what the number of blocks allows; the frames may lie, the bound holds all the same.
    let claimed_bytes = Decompressor::upper_bound(compressed).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(claimed_bytes.min(bytes_max));
    match decompress_into(compressed, &mut out) {
        Ok(_) if out.len() <= bytes_max => Ok(out),
        Ok(_) => Err(DecompressError::TooLarge { codec: CODEC, bytes_max }),
        Err(error) if claimed_bytes > bytes_max && error.to_string().contains(DOES_NOT_FIT) => {
            Err(DecompressError::TooLarge { codec: CODEC, bytes_max })
        }
        Err(error) => Err(corrupt(CODEC, error)),
    }
}

/// Fills the spare capacity of `out`, no more.
fn decompress_into(compressed: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(compressed, out)
    })
}

pub(super) fn compress_into(level: Option<i32>, plain: &[u8], out: &mut Output<'_>) -> Result<(), CompressError> {
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    let from = out.bytes.len();
    let most = from.saturating_add(zstd::zstd_safe::compress_bound(plain.len()));
    if most > out.bytes_max {
        return compress_in_pieces(level, plain, out).map_err(|error| failed(CODEC, error));
    }
    let mut compressor = Compressor::new(level).map_err(|error| failed(CODEC, error))?;
    out.bytes.resize(most, 0);
    let space = out.bytes.get_mut(from..).unwrap_or_default();
    let written = compressor.compress_to_buffer(plain, space).map_err(|error| failed(CODEC, error))?;
    out.bytes.truncate(from.saturating_add(written));
    Ok(())
}

/// Without room for the worst case: slower, stopped by the output's bound.
fn compress_in_pieces(level: i32, plain: &[u8], out: &mut Output<'_>) -> io::Result<()> {
    let mut encoder = Encoder::new(out, level)?;
    encoder.set_pledged_src_size(Some(plain.len() as u64))?;
    encoder.write_all(plain)?;
    encoder.finish().map(|_| ())
}
