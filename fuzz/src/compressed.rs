//! The codecs of record batches.

use bytes::Bytes;
use quipu_base::limits::{KIB, MIB};
use quipu_records::{
    Codec, DecompressError,
    compression::{compress_into, decompress},
};

use crate::{Outcome, memory, refuse};

/// What an input may decompress to: small, so that a bomb costs the fuzzer little.
const PLAIN_BYTES_MAX: usize = 256 * KIB;

/// A compressed stream. The first byte chooses the codec.
pub fn compressed(data: &[u8]) -> Outcome {
    let Some((choice, stream)) = data.split_first() else { return Outcome::Refused };
    let codec = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][usize::from(*choice) % 4];
    let stream = Bytes::copy_from_slice(stream);
    round_trip(codec, &stream);
    let bytes_max = PLAIN_BYTES_MAX + working_bytes(codec);
    let decompressed = memory::at_most(bytes_max, codec.name(), || decompress(codec, &stream, PLAIN_BYTES_MAX));
    let plain = match decompressed {
        Ok(plain) => plain,
        Err(error) => return refuse(&error),
    };
    assert!(plain.len() <= PLAIN_BYTES_MAX);
    assert_eq!(decompress(codec, &stream, plain.len()).as_ref(), Ok(&plain), "the bound itself is allowed");
    if let Some(bytes_max) = plain.len().checked_sub(1) {
        assert_eq!(decompress(codec, &stream, bytes_max), Err(DecompressError::TooLarge { codec, bytes_max }));
    }
    round_trip(codec, &plain);
    Outcome::Accepted
}

/// What a codec holds besides its output: see the module documentation of `quipu_records::compression`.
pub(crate) const fn working_bytes(codec: Codec) -> usize {
    match codec {
        Codec::None => 0,
        Codec::Lz4 => 8 * MIB,
        Codec::Gzip | Codec::Snappy | Codec::Zstd => MIB,
    }
}

fn round_trip(codec: Codec, plain: &[u8]) {
    let mut stream = Vec::new();
    compress_into(codec, None, plain, &mut stream).expect("any bytes can be compressed");
    let again = decompress(codec, &Bytes::from(stream), plain.len()).expect("what we compressed can be decompressed");
    assert_eq!(again, plain);
}
