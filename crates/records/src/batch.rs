//! One batch as a view over refcounted bytes, and iteration over several that lie behind one another.
//!
//! Invariants
//! - A [`Batch`] holds the bytes of exactly one batch, and its header is what those bytes say.
//! - Iteration ends at the first batch that is cut off (not an error: a fetch may end anywhere) and at the first bad header
//!   (an error), and says which.
//!
//! Not here: the records inside ([`crate::record`]), the checks of a broker ([`crate::validate()`]).

use bytes::Bytes;
use quipu_base::checksum::{Crc32c, crc32c};

use crate::{BatchError, BatchHeader, HEADER_BYTES, Records, compression::decompress, header::CRC_FROM_POSITION};

/// Exactly one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

impl Batch {
    /// Takes exactly one batch. The CRC is not looked at.
    ///
    /// Errors: those of [`BatchHeader::parse`], `Truncated`, `TrailingBytes`.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let needed_bytes = header.total_bytes();
        match bytes.len().checked_sub(needed_bytes) {
            None => Err(BatchError::Truncated { needed_bytes, available_bytes: bytes.len() }),
            Some(0) => Ok(Self { bytes, header }),
            Some(trailing) => Err(BatchError::TrailingBytes(trailing)),
        }
    }

    /// Takes exactly one batch and checks its CRC.
    ///
    /// Errors: those of [`Batch::parse`], `Crc`.
    pub fn parse_checked(bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::parse(bytes)?;
        batch.check_crc()?;
        Ok(batch)
    }

    /// Computes the CRC. Error: `Crc`.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        check_crc(&self.header, &self.bytes)
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What follows the header: the records, compressed as they are.
    #[must_use]
    pub fn body(&self) -> Bytes {
        // `parse` has seen at least a header.
        self.bytes.slice(HEADER_BYTES..)
    }

    /// The records, decompressed if need be to at most `bytes_max` bytes.
    ///
    /// Errors: `UnknownCodec`, `Decompress`. Records are checked one by one as they are iterated.
    pub fn records(&self, bytes_max: usize) -> Result<Records, BatchError> {
        let body = decompress(self.header.codec()?, &self.body(), bytes_max)?;
        Ok(Records::new(self.header, body))
    }
}

/// Checks the CRC of the batch that `bytes` is. Error: `Crc`.
pub(crate) fn check_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c(bytes.get(CRC_FROM_POSITION..).unwrap_or_default());
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

/// The CRC of a batch made of this header and these records.
pub(crate) fn crc_of(header: &BatchHeader, body: &[u8]) -> u32 {
    let encoded = header.encode();
    let mut crc = Crc32c::new();
    crc.update(encoded.get(CRC_FROM_POSITION..).unwrap_or_default());
    crc.update(body);
    crc.finish()
}

/// The batches that lie behind one another in refcounted bytes. CRCs are not looked at.
///
/// Yields an error once, then nothing more. Ends without one where the last batch is cut off: see [`Batches::rest`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    /// Begins at the first byte.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, failed: false }
    }

    /// The bytes not yet yielded. At the end: nothing, the part of a batch that was cut off, or what begins with a bad header.
    #[must_use]
    pub const fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match next_header(&self.rest)? {
            Ok(header) => {
                // `next_header` has seen that the whole batch is there.
                let bytes = self.rest.split_to(header.total_bytes());
                Some(Ok(Batch { bytes, header }))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// The batches that lie behind one another in a slice: each header with the bytes of its batch. CRCs are not looked at.
///
/// Ends as [`Batches`] does.
#[derive(Clone, Debug)]
pub struct BatchSlices<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> BatchSlices<'a> {
    /// Begins at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, failed: false }
    }

    /// The bytes not yet yielded; see [`Batches::rest`].
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for BatchSlices<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match next_header(self.rest)? {
            Ok(header) => {
                let (batch, rest) = self.rest.split_at_checked(header.total_bytes())?;
                self.rest = rest;
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// The header of the batch at the start of `rest`; none if there is no whole batch.
fn next_header(rest: &[u8]) -> Option<Result<BatchHeader, BatchError>> {
    match BatchHeader::parse(rest) {
        Err(BatchError::Truncated { .. }) => None,
        Ok(header) if header.total_bytes() > rest.len() => None,
        result => Some(result),
    }
}
