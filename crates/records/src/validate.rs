//! What a broker checks before it appends a producer's batch: everything, in one pass, without copying.
//!
//! As Kafka does, with these differences, none of which an honest client meets:
//! - Attribute bits without meaning, the delete horizon bit and log append time are refused. Kafka ignores some of them.
//! - Lengths below -1 and timestamps below -1 are refused. Kafka takes the former for null and keeps the latter.
//! - Bytes behind the compressed stream are refused. Kafka ignores them.
//!
//! As Kafka does: a max timestamp that is not the records' largest is corrected, not refused ([`ValidBatch::corrected`]);
//! producer epoch and base sequence mean nothing without a producer id (kafkajs sends zeros); the leader epoch is ignored.
//!
//! Invariant: every record of a [`ValidBatch`] can be read, and its offset deltas are 0, 1, 2 and so on.
//!
//! Not here: limits on how old or new a timestamp may be, keys that compaction needs (the result has what those checks need),
//! and whether the sequence follows the producer's last one.

use bytes::Bytes;
use quipu_base::{Offset, Timestamp, limits};

use crate::{
    Batch, BatchError, BatchHeader, Codec, RecordFault, TimestampType,
    compression::decompress,
    cursor::Cursor,
    record::{parse_raw, record_timestamp},
    rewrite,
};

/// How large a batch may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValidateLimits {
    /// As it lies on the wire, header included (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// Its records, decompressed.
    pub decompressed_bytes_max: usize,
}

impl Default for ValidateLimits {
    fn default() -> Self {
        Self { batch_bytes_max: limits::BATCH_BYTES_MAX, decompressed_bytes_max: limits::DECOMPRESSED_BYTES_MAX }
    }
}

/// A batch fit to be appended, and what the check found out about its records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidBatch {
    /// The batch, its max timestamp corrected if it was wrong.
    pub batch: Batch,
    /// Number of records, at least 1.
    pub record_count: u32,
    /// The smallest timestamp of the records that have one, none if no record has.
    pub min_timestamp: Timestamp,
    /// The largest timestamp of the records, none if no record has one.
    pub max_timestamp: Timestamp,
    /// The first record that has the largest timestamp.
    pub max_timestamp_offset_delta: u32,
    /// The first record without a key, which a compacted topic does not take.
    pub first_null_key: Option<u32>,
    /// Bytes of the records, decompressed.
    pub decompressed_bytes: usize,
    /// The max timestamp was wrong, so `batch` is a corrected copy.
    pub corrected: bool,
}

/// Checks exactly one batch as a producer may send it.
///
/// Errors: any [`BatchError`]; the first cause in the order header, size, CRC, attributes, counts, producer, records.
pub fn validate(bytes: Bytes, limits: &ValidateLimits) -> Result<ValidBatch, BatchError> {
    let batch = Batch::parse(bytes)?;
    let batch_bytes = batch.bytes().len();
    if batch_bytes > limits.batch_bytes_max {
        return Err(BatchError::TooLarge { batch_bytes, batch_bytes_max: limits.batch_bytes_max });
    }
    batch.check_crc()?;
    let codec = check_attributes(batch.header())?;
    let record_count = check_offsets(batch.header())?;
    check_producer(batch.header())?;
    let found = match codec {
        Codec::None => scan_body(batch.header(), record_count, batch.body().as_ref())?,
        codec => {
            let body = decompress(codec, &batch.body(), limits.decompressed_bytes_max)?;
            scan_body(batch.header(), record_count, &body)?
        }
    };
    let corrected = batch.header().max_timestamp != found.max_timestamp;
    Ok(ValidBatch {
        batch: if corrected { rewrite::with_max_timestamp(&batch, found.max_timestamp) } else { batch },
        record_count,
        min_timestamp: found.min_timestamp,
        max_timestamp: found.max_timestamp,
        max_timestamp_offset_delta: found.max_timestamp_offset_delta,
        first_null_key: found.first_null_key,
        decompressed_bytes: found.decompressed_bytes,
        corrected,
    })
}

fn check_attributes(header: &BatchHeader) -> Result<Codec, BatchError> {
    let attributes = header.attributes;
    let codec = attributes.codec()?;
    if attributes.unknown_bits() != 0 {
        return Err(BatchError::UnknownAttributes(attributes.0));
    }
    if attributes.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if attributes.has_delete_horizon() {
        return Err(BatchError::DeleteHorizon);
    }
    match attributes.timestamp_type() {
        TimestampType::CreateTime => Ok(codec),
        TimestampType::LogAppendTime => Err(BatchError::LogAppendTime),
    }
}

fn check_offsets(header: &BatchHeader) -> Result<u32, BatchError> {
    if header.base_offset != Offset::ZERO {
        return Err(BatchError::BaseOffset(header.base_offset));
    }
    let record_count = u32::try_from(header.record_count).unwrap_or(0);
    if record_count == 0 {
        return Err(BatchError::RecordCount(header.record_count));
    }
    if header.last_offset_delta.checked_add(1) != Some(header.record_count) {
        return Err(BatchError::LastOffsetDelta {
            last_offset_delta: header.last_offset_delta,
            record_count: header.record_count,
        });
    }
    Ok(record_count)
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    if !header.has_producer_id() {
        return if header.is_transactional() { Err(BatchError::TransactionalWithoutProducer) } else { Ok(()) };
    }
    if header.producer_id.0 < 0 {
        return Err(BatchError::ProducerId(header.producer_id));
    }
    if header.producer_epoch.0 < 0 {
        return Err(BatchError::ProducerEpoch(header.producer_epoch));
    }
    if header.base_sequence.0 < 0 {
        return Err(BatchError::BaseSequence(header.base_sequence));
    }
    Ok(())
}

/// What a pass over the records finds out.
struct Found {
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
    max_timestamp_offset_delta: u32,
    first_null_key: Option<u32>,
    decompressed_bytes: usize,
}

fn scan_body(header: &BatchHeader, record_count: u32, body: &[u8]) -> Result<Found, BatchError> {
    let mut cursor = Cursor::new(body);
    let mut min_timestamp = i64::MAX;
    let mut max_timestamp = i64::MIN;
    let mut max_timestamp_offset_delta = 0;
    let mut first_null_key = None;
    for record_index in 0..record_count {
        let (timestamp, has_key) = scan_record(header, &mut cursor, record_index)
            .map_err(|fault| BatchError::Record { record_index, fault })?;
        if timestamp.0 > max_timestamp {
            max_timestamp = timestamp.0;
            max_timestamp_offset_delta = record_index;
        }
        if timestamp.0 < min_timestamp && timestamp != Timestamp::NONE {
            min_timestamp = timestamp.0;
        }
        if !has_key && first_null_key.is_none() {
            first_null_key = Some(record_index);
        }
    }
    match cursor.rest().len() {
        0 => Ok(Found {
            min_timestamp: if min_timestamp == i64::MAX { Timestamp::NONE } else { Timestamp(min_timestamp) },
            max_timestamp: Timestamp(max_timestamp),
            max_timestamp_offset_delta,
            first_null_key,
            decompressed_bytes: body.len(),
        }),
        trailing => Err(BatchError::TrailingRecordBytes(trailing)),
    }
}

#[inline(always)]
fn scan_record(
    header: &BatchHeader,
    cursor: &mut Cursor<'_>,
    record_index: u32,
) -> Result<(Timestamp, bool), RecordFault> {
    let record = parse_raw(cursor)?;
    if record.offset_delta.cast_unsigned() != record_index {
        return Err(RecordFault::OffsetDelta(record.offset_delta));
    }
    let timestamp = record_timestamp(header.base_timestamp, record.timestamp_delta)?;
    Ok((timestamp, record.key.is_some()))
}
