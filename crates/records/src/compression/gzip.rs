//! gzip (RFC 1952): one member, its CRC and size checked by the library.

use std::io::Write;

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};

use super::{Codec, Output, check_trailing, failed, read_bounded};
use crate::{CompressError, DecompressError};

const CODEC: Codec = Codec::Gzip;
/// Deflate cannot do better than this.
const RATIO_MAX: usize = 1032;

pub(super) fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut decoder = GzDecoder::new(compressed);
    let plain = read_bounded(CODEC, &mut decoder, size_hint(compressed), bytes_max)?;
    check_trailing(CODEC, decoder.into_inner())?;
    Ok(plain)
}

/// The member ends with its plain size modulo 2^32, unless it lies.
fn size_hint(compressed: &[u8]) -> usize {
    let claimed = compressed.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
    usize::try_from(claimed).unwrap_or(0).min(compressed.len().saturating_mul(RATIO_MAX))
}

pub(super) fn compress_into(level: Option<i32>, plain: &[u8], out: &mut Output<'_>) -> Result<(), CompressError> {
    let level = level.map_or(Compression::default(), |level| Compression::new(level.unsigned_abs()));
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(plain).map_err(|error| failed(CODEC, error))?;
    encoder.finish().map(|_| ()).map_err(|error| failed(CODEC, error))
}
