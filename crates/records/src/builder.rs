//! Building a batch record by record: for the client, the metadata log, coordinators and tests.
//!
//! Invariants
//! - Offset deltas are 0, 1, 2 and so on; the base timestamp is the first record's.
//! - A record that is refused leaves the builder as it was.
//!
//! Not here: when a batch is full; [`BatchBuilder::size_bytes`] lets the caller decide.

use core::fmt;

use bytes::BufMut;
use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{
    Attributes, Batch, BatchHeader, Codec, CompressError, HEADER_BYTES, RecordHeader, TimestampType,
    compression::compress_into,
    cursor::{put_varlong, varlong_bytes},
    rewrite::seal,
};

/// One record to be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewRecord<'a> {
    /// When it happened, or none.
    pub timestamp: Timestamp,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: &'a [RecordHeader<'a>],
}

/// Why a record or a batch could not be built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// The batch has no record.
    Empty,
    /// The timestamp is below -1, or too far from the first record's.
    Timestamp(Timestamp),
    /// More than the format's 31-bit lengths can count.
    TooLarge {
        /// The size that the record or the batch would have.
        bytes: usize,
    },
    /// Compression failed.
    Compress(CompressError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a batch has at least one record, and none was added"),
            Self::Timestamp(timestamp) => {
                write!(f, "timestamp {timestamp} is below -1 or too far from the batch's first record")
            }
            Self::TooLarge { bytes } => write!(f, "{bytes} bytes are more than a batch can hold (2 GiB)"),
            Self::Compress(cause) => cause.fmt(f),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Compress(cause) => Some(cause),
            _ => None,
        }
    }
}

/// A batch being filled.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    level: Option<i32>,
    /// Room for the header, then the records so far, not compressed.
    bytes: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch: base offset 0, no leader epoch, no producer, not compressed.
    #[must_use]
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            record_count: 0,
        };
        Self { header, codec: Codec::None, level: None, bytes: vec![0; HEADER_BYTES] }
    }

    /// Compresses with this codec. `level`: one of [`Codec::levels`]; none is its default.
    #[must_use]
    pub const fn codec(mut self, codec: Codec, level: Option<i32>) -> Self {
        self.codec = codec;
        self.level = level;
        self
    }

    /// Where the batch begins in its partition; 0 in a produce request.
    #[must_use]
    pub const fn base_offset(mut self, base_offset: Offset) -> Self {
        self.header.base_offset = base_offset;
        self
    }

    /// The leader that appends the batch.
    #[must_use]
    pub const fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// The idempotent producer, and the sequence of the first record.
    #[must_use]
    pub const fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Marks the records as part of a transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(true);
        self
    }

    /// Marks the records as being for brokers only.
    #[must_use]
    pub const fn control(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_control(true);
        self
    }

    /// Gives all records this timestamp, as a broker does under log append time; the records' own are kept, unseen.
    #[must_use]
    pub const fn log_append_time(mut self, timestamp: Timestamp) -> Self {
        self.header.attributes = self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = timestamp;
        self
    }

    /// Adds a record. Errors: `Timestamp`, `TooLarge`; the batch is then as it was.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BuildError> {
        let first = self.header.record_count == 0;
        let base_timestamp = if first { record.timestamp } else { self.header.base_timestamp };
        let delta_ms = record
            .timestamp
            .0
            .checked_sub(base_timestamp.0)
            .filter(|_| record.timestamp >= Timestamp::NONE)
            .ok_or(BuildError::Timestamp(record.timestamp))?;
        let offset_delta = self.header.record_count;
        let size = record_size(record, delta_ms, offset_delta);
        let bytes = self.bytes.len().saturating_add(size).saturating_add(varlong_bytes(i64::MAX));
        // The batch's length bounds every length and count inside it.
        if i32::try_from(bytes).is_err() {
            return Err(BuildError::TooLarge { bytes });
        }
        put_record(&mut self.bytes, record, size, delta_ms, offset_delta);
        self.header.base_timestamp = base_timestamp;
        self.header.last_offset_delta = offset_delta;
        self.header.record_count = offset_delta.saturating_add(1);
        if self.header.timestamp_type() == TimestampType::CreateTime {
            self.header.max_timestamp = self.header.max_timestamp.max(record.timestamp);
        }
        Ok(())
    }

    /// Number of records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        u32::try_from(self.header.record_count).unwrap_or(0)
    }

    /// No record so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Size of the batch if it were built now without compression.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The most that adding this record can add to [`BatchBuilder::size_bytes`].
    #[must_use]
    pub fn record_bytes_max(record: &NewRecord<'_>) -> usize {
        record_size(record, i64::MIN, i32::MAX).saturating_add(varlong_bytes(i64::from(i32::MAX)))
    }

    /// The batch. Errors: `Empty`, `TooLarge`, `Compress`.
    pub fn build(self) -> Result<Batch, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let bytes = match self.codec {
            Codec::None => self.bytes,
            codec => {
                let records = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
                let mut bytes = Vec::with_capacity(self.bytes.len());
                bytes.put_bytes(0, HEADER_BYTES);
                compress_into(codec, self.level, records, &mut bytes).map_err(BuildError::Compress)?;
                bytes
            }
        };
        let attributes = self.header.attributes.with_codec(self.codec);
        seal(BatchHeader { attributes, ..self.header }, bytes).map_err(|bytes| BuildError::TooLarge { bytes })
    }
}

/// Bytes of a record without its length. Saturates, far above what a batch can hold.
fn record_size(record: &NewRecord<'_>, delta_ms: i64, offset_delta: i32) -> usize {
    let attributes = size_of::<u8>();
    let fixed = attributes
        .saturating_add(varlong_bytes(delta_ms))
        .saturating_add(varlong_bytes(i64::from(offset_delta)))
        .saturating_add(nullable_bytes(record.key))
        .saturating_add(nullable_bytes(record.value))
        .saturating_add(varlong_bytes(length_value(record.headers.len())));
    record.headers.iter().fold(fixed, |size, header| {
        size.saturating_add(nullable_bytes(Some(header.key))).saturating_add(nullable_bytes(header.value))
    })
}

fn put_record(out: &mut Vec<u8>, record: &NewRecord<'_>, size: usize, delta_ms: i64, offset_delta: i32) {
    out.reserve(size);
    put_varlong(out, length_value(size));
    out.push(0);
    put_varlong(out, delta_ms);
    put_varlong(out, i64::from(offset_delta));
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    put_varlong(out, length_value(record.headers.len()));
    for header in record.headers {
        put_nullable(out, Some(header.key));
        put_nullable(out, header.value);
    }
}

fn nullable_bytes(field: Option<&[u8]>) -> usize {
    match field {
        None => varlong_bytes(-1),
        Some(bytes) => varlong_bytes(length_value(bytes.len())).saturating_add(bytes.len()),
    }
}

fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, length_value(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// A length as the number on the wire. Nothing in memory is longer than `i64::MAX`.
fn length_value(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
