//! The five codecs of record batches, each in the framing that Kafka's clients write and read.
//!
//! | codec | framing | level |
//! |---|---|---|
//! | none | the bytes themselves | |
//! | gzip | one gzip member | 1 to 9, default 6 |
//! | snappy | read: Java's framing ("xerial") or one raw block; written: Java's framing | |
//! | lz4 | one LZ4 frame of independent blocks, which is all that the Java client reads | |
//! | zstd | zstd frames | -131072 to 22, default 3 |
//!
//! Invariants
//! - Output is never allocated beyond the caller's bound, whatever sizes the input claims. Working memory beside it is fixed by
//!   the codec: at most 8 MiB (lz4 with 4 MiB blocks), otherwise well below 1 MiB.
//! - The whole input is one stream: bytes behind it are an error, so no reader sees other records than we checked.
//!
//! Not here: what the bytes mean. Read one of the codecs' modules next.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use core::{fmt, ops::RangeInclusive, str::FromStr};
use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::{CompressError, DecompressError};

/// How the records of a batch are compressed. The number is that of the attribute bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy.
    Snappy = 2,
    /// LZ4.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number, if there is one.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number in the attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Its name in Kafka's settings (`compression.type`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The levels it has, if it has any.
    #[must_use]
    pub const fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(-131_072..=22),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No codec has this name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownCodecName(pub String);

impl fmt::Display for UnknownCodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no compression type: none, gzip, snappy, lz4 and zstd are", self.0)
    }
}

impl core::error::Error for UnknownCodecName {}

impl FromStr for Codec {
    type Err = UnknownCodecName;

    fn from_str(name: &str) -> Result<Self, UnknownCodecName> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| UnknownCodecName(name.to_owned()))
    }
}

/// Decompresses to at most `bytes_max` bytes. Without a codec the bytes are passed on, whatever their size.
///
/// Errors: see [`DecompressError`].
pub fn decompress(codec: Codec, compressed: &Bytes, bytes_max: usize) -> Result<Bytes, DecompressError> {
    let decompressed = match codec {
        Codec::None => return Ok(compressed.clone()),
        Codec::Gzip => gzip::decompress(compressed, bytes_max)?,
        Codec::Snappy => snappy::decompress(compressed, bytes_max)?,
        Codec::Lz4 => lz4::decompress(compressed, bytes_max)?,
        Codec::Zstd => zstandard::decompress(compressed, bytes_max)?,
    };
    Ok(Bytes::from(decompressed))
}

/// Appends `plain`, compressed, to `out`. `level`: one of [`Codec::levels`]; none is the codec's default.
///
/// Errors: see [`CompressError`]; `out` may then hold a part.
pub fn compress_into(codec: Codec, level: Option<i32>, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    compress_bounded(codec, level, plain, out, usize::MAX)
}

/// The same, of which `out` grows to at most `bytes_max` bytes.
pub(crate) fn compress_bounded(
    codec: Codec,
    level: Option<i32>,
    plain: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), CompressError> {
    if let Some(level) = level
        && codec.levels().is_none_or(|levels| !levels.contains(&level))
    {
        return Err(CompressError::Level { codec, level });
    }
    let mut out = Output { bytes: out, bytes_max, overrun: false };
    let result = match codec {
        Codec::None => out.write_all(plain).map_err(|error| failed(codec, error)),
        Codec::Gzip => gzip::compress_into(level, plain, &mut out),
        Codec::Snappy => snappy::compress_into(plain, &mut out),
        Codec::Lz4 => lz4::compress_into(plain, &mut out),
        Codec::Zstd => zstandard::compress_into(level, plain, &mut out),
    };
    if out.overrun { Err(CompressError::TooLarge { codec, bytes_max }) } else { result }
}

/// Where compressed bytes go.
struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    bytes_max: usize,
    /// More was written than there may be; what is left out is missed by nobody, since the whole is refused.
    overrun: bool,
}

impl Write for Output<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.bytes_max.saturating_sub(self.bytes.len()) {
            self.overrun = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn corrupt(codec: Codec, detail: impl fmt::Display) -> DecompressError {
    DecompressError::Corrupt { codec, detail: detail.to_string() }
}

fn failed(codec: Codec, detail: impl fmt::Display) -> CompressError {
    CompressError::Failed { codec, detail: detail.to_string() }
}

fn check_trailing(codec: Codec, trailing: &[u8]) -> Result<(), DecompressError> {
    if trailing.is_empty() {
        Ok(())
    } else {
        Err(DecompressError::TrailingBytes { codec, trailing_bytes: trailing.len() })
    }
}

/// First size of an output whose size nobody has told us.
const OUTPUT_BYTES_MIN: usize = 4096;

/// Reads a decompressor to its end. The output begins at `hint_bytes` and doubles, never past `bytes_max`.
fn read_bounded(
    codec: Codec,
    reader: &mut impl Read,
    hint_bytes: usize,
    bytes_max: usize,
) -> Result<Vec<u8>, DecompressError> {
    let mut out = vec![0; hint_bytes.max(OUTPUT_BYTES_MIN).min(bytes_max)];
    let mut filled = 0_usize;
    loop {
        let space = out.get_mut(filled..).unwrap_or_default();
        if space.is_empty() {
            // Full. More room only if more comes, and none beyond the bound.
            let mut next = [0];
            if read_some(codec, reader, &mut next)? == 0 {
                return Ok(out);
            }
            let size =
                out.len().saturating_mul(2).clamp(OUTPUT_BYTES_MIN, bytes_max.max(OUTPUT_BYTES_MIN)).min(bytes_max);
            if size == out.len() {
                return Err(DecompressError::TooLarge { codec, bytes_max });
            }
            out.reserve_exact(size.saturating_sub(out.len()));
            out.extend_from_slice(&next);
            filled = out.len();
            out.resize(size, 0);
            continue;
        }
        match read_some(codec, reader, space)? {
            0 => {
                out.truncate(filled);
                return Ok(out);
            }
            count => filled = filled.saturating_add(count),
        }
    }
}

fn read_some(codec: Codec, reader: &mut impl Read, space: &mut [u8]) -> Result<usize, DecompressError> {
    loop {
        match reader.read(space) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|error| corrupt(codec, error)),
        }
    }
}
