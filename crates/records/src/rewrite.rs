//! What a broker changes in a batch that it has validated: offsets and epoch in place, timestamps by a new header, the codec by
//! compressing again; and what a client changes in one that it sends again.
//!
//! Invariant: records are carried over byte for byte; only the header, and for [`recompress`] their compression, changes.
//!
//! Not here: building a batch from records ([`crate::builder`]).

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{
    Batch, BatchError, BatchHeader, Codec, CompressError, HEADER_BYTES, TimestampType,
    batch::crc_of,
    compression::{compress_bounded, decompress},
    header::LENGTH_PREFIX_BYTES,
};

/// The header of a batch as it is stored: with its offset and leader epoch. Both lie outside the CRC, which stays as it is.
#[must_use]
pub fn patched_header(header: &BatchHeader, base_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; HEADER_BYTES] {
    BatchHeader { base_offset, leader_epoch, ..*header }.encode()
}

/// The header that makes `timestamp` the time of all of the batch's records, with its new CRC (one pass over the batch).
/// The records that follow it stay as they are.
#[must_use]
pub fn log_append_time_header(batch: &Batch, timestamp: Timestamp) -> BatchHeader {
    let attributes = batch.header().attributes.with_timestamp_type(TimestampType::LogAppendTime);
    sealed(BatchHeader { attributes, max_timestamp: timestamp, ..*batch.header() }, &batch.body())
}

/// A copy of the batch in which `timestamp` is the time of all records. Where header and records are written apart anyway,
/// [`log_append_time_header`] spares the copy.
#[must_use]
pub fn with_log_append_time(batch: &Batch, timestamp: Timestamp) -> Batch {
    with_header(batch, log_append_time_header(batch, timestamp))
}

/// A copy of the batch as of another idempotent producer, epoch or sequence: for a client that sends it under a new epoch.
#[must_use]
pub fn with_producer(batch: &Batch, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Batch {
    let header = BatchHeader { producer_id: id, producer_epoch: epoch, base_sequence, ..*batch.header() };
    with_header(batch, sealed(header, &batch.body()))
}

/// A copy of the batch with another max timestamp.
pub(crate) fn with_max_timestamp(batch: &Batch, max_timestamp: Timestamp) -> Batch {
    with_header(batch, sealed(BatchHeader { max_timestamp, ..*batch.header() }, &batch.body()))
}

/// Why a batch could not be compressed anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecompressError {
    /// The batch is bad, or larger than the bound when decompressed.
    Batch(BatchError),
    /// The new codec failed.
    Compress(CompressError),
    /// More bytes than a batch's length field can count.
    TooLarge {
        /// The size that the new batch would have.
        batch_bytes: usize,
    },
}

/// The same records under another codec; the batch itself if it has that codec already, whatever the level.
///
/// `level`: see [`Codec::levels`]; none is the codec's default. `decompressed_bytes_max` bounds the records in memory,
/// `batch_bytes_max` the new batch.
///
/// Errors: see [`RecompressError`]; a validated batch can only meet those of the level and of the size.
pub fn recompress(
    batch: &Batch,
    codec: Codec,
    level: Option<i32>,
    decompressed_bytes_max: usize,
    batch_bytes_max: usize,
) -> Result<Batch, RecompressError> {
    let old_codec = batch.header().codec().map_err(RecompressError::Batch)?;
    if old_codec == codec {
        return Ok(batch.clone());
    }
    let records = decompress(old_codec, &batch.body(), decompressed_bytes_max)
        .map_err(|cause| RecompressError::Batch(cause.into()))?;
    let mut bytes = vec![0; HEADER_BYTES];
    compress_bounded(codec, level, &records, &mut bytes, batch_bytes_max).map_err(RecompressError::Compress)?;
    let attributes = batch.header().attributes.with_codec(codec);
    seal(BatchHeader { attributes, ..*batch.header() }, bytes)
        .map_err(|batch_bytes| RecompressError::TooLarge { batch_bytes })
}

/// Makes a batch of a header and bytes that leave [`HEADER_BYTES`] free for it: sets length and CRC.
///
/// Error: the size, if the length field cannot count it.
pub(crate) fn seal(header: BatchHeader, mut bytes: Vec<u8>) -> Result<Batch, usize> {
    let size = bytes.len();
    let batch_length = i32::try_from(size.saturating_sub(LENGTH_PREFIX_BYTES)).map_err(|_| size)?;
    let (head, body) = bytes.split_first_chunk_mut::<HEADER_BYTES>().ok_or(size)?;
    *head = sealed(BatchHeader { batch_length, ..header }, body).encode();
    // Bytes pin the whole allocation; what compression saved must not stay behind.
    bytes.shrink_to_fit();
    Batch::parse(Bytes::from(bytes)).map_err(|_| size)
}

/// The header with the CRC that it and these records have.
fn sealed(header: BatchHeader, body: &[u8]) -> BatchHeader {
    BatchHeader { crc: crc_of(&header, body), ..header }
}

fn with_header(batch: &Batch, header: BatchHeader) -> Batch {
    let mut bytes = Vec::with_capacity(batch.bytes().len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(&batch.body());
    Batch::parse(Bytes::from(bytes)).expect("a header of the same length before the same records")
}

impl core::fmt::Display for RecompressError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Batch(cause) => cause.fmt(f),
            Self::Compress(cause) => cause.fmt(f),
            Self::TooLarge { batch_bytes } => write!(f, "the recompressed batch would have {batch_bytes} bytes"),
        }
    }
}

impl core::error::Error for RecompressError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Batch(cause) => Some(cause),
            Self::Compress(cause) => Some(cause),
            Self::TooLarge { .. } => None,
        }
    }
}
