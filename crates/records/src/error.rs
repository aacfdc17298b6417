//! Everything that can be wrong with a batch, one variant per cause.
//!
//! Invariants
//! - Each variant is the fault of whoever made the bytes, never ours.
//! - [`BatchError::fault`] sorts every cause into the few kinds that a protocol has answers for.
//!
//! Not here: Kafka's error codes; the broker maps [`Fault`] to them. Read [`crate::header`] next.

use core::fmt;

use quipu_base::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::Codec;

/// What a cause means to whoever sent the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The bytes are not what their maker wrote (Kafka: `CORRUPT_MESSAGE`).
    Corrupt,
    /// Well-formed as far as we can tell, but breaks a rule of the format (Kafka: `INVALID_RECORD`).
    Invalid,
    /// A timestamp breaks a rule (Kafka: `INVALID_TIMESTAMP`).
    InvalidTimestamp,
    /// Larger than allowed (Kafka: `MESSAGE_TOO_LARGE`).
    TooLarge,
    /// Compressed by a codec that does not exist (Kafka: `UNSUPPORTED_COMPRESSION_TYPE`).
    UnknownCodec,
    /// Not record batch v2 (Kafka: `INVALID_RECORD` on Produce, `CORRUPT_MESSAGE` in a log).
    UnsupportedFormat,
}

/// Why a batch was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchError {
    /// The bytes end before the batch does.
    Truncated {
        /// Bytes that the batch (or, as far as can be told, its header) takes.
        needed_bytes: usize,
        /// Bytes that are there.
        available_bytes: usize,
    },
    /// Message format 0 or 1, from before Kafka 0.11.
    LegacyMagic(i8),
    /// No message format that exists.
    UnknownMagic(i8),
    /// The length field is too small for a header.
    BatchLength(i32),
    /// Larger than the limit given.
    TooLarge {
        /// Size of the batch.
        batch_bytes: usize,
        /// The limit.
        batch_bytes_max: usize,
    },
    /// Bytes follow the batch where exactly one is allowed.
    TrailingBytes(usize),
    /// The checksum does not match.
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Attribute bits are set that have no meaning.
    UnknownAttributes(i16),
    /// The codec's number in the attributes does not exist.
    UnknownCodec(u8),
    /// A control batch; only brokers write those.
    ControlBatch,
    /// The delete horizon bit; only compaction sets it.
    DeleteHorizon,
    /// The timestamp type says log append time; only brokers set it.
    LogAppendTime,
    /// A producer's batch begins at 0; the broker assigns offsets.
    BaseOffset(Offset),
    /// The record count is not positive.
    RecordCount(i32),
    /// The last offset delta is not the record count less one.
    LastOffsetDelta {
        /// What the header says.
        last_offset_delta: i32,
        /// Number of records in the header.
        record_count: i32,
    },
    /// The producer id is negative, but not -1.
    ProducerId(ProducerId),
    /// A producer id without an epoch.
    ProducerEpoch(ProducerEpoch),
    /// A producer id without a base sequence.
    BaseSequence(Sequence),
    /// A transactional batch without a producer id.
    TransactionalWithoutProducer,
    /// The compressed part cannot be decompressed.
    Decompress(DecompressError),
    /// A record is malformed.
    Record {
        /// Which record, from 0.
        record_index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// Bytes are left over behind the last record.
    TrailingRecordBytes(usize),
}

/// What is wrong with one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordFault {
    /// A field runs past the end of the record, or the record past the end of the batch.
    Truncated,
    /// A varint has more bits than its type.
    Varint,
    /// The record's length is negative.
    Length(i32),
    /// The record's length counts bytes that no field claims.
    Slack(usize),
    /// The key's length is less than -1.
    KeyLength(i32),
    /// The value's length is less than -1.
    ValueLength(i32),
    /// The number of headers is negative.
    HeaderCount(i32),
    /// A header's key has a negative length.
    HeaderKeyLength(i32),
    /// A header's value has a length less than -1.
    HeaderValueLength(i32),
    /// The offset delta is not the record's index.
    OffsetDelta(i32),
    /// The base timestamp and the record's delta make no timestamp that exists.
    TimestampDelta {
        /// The batch's base timestamp.
        base_timestamp: Timestamp,
        /// The record's delta, in milliseconds.
        delta_ms: i64,
    },
}

/// Why compressed bytes could not be decompressed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecompressError {
    /// Not what the codec's compressor writes.
    Corrupt {
        /// The codec named in the attributes.
        codec: Codec,
        /// The decompressor's words.
        detail: String,
    },
    /// More comes out than is allowed.
    TooLarge {
        /// The codec named in the attributes.
        codec: Codec,
        /// The bound.
        bytes_max: usize,
    },
    /// The compressed stream ends, and bytes follow it.
    TrailingBytes {
        /// The codec named in the attributes.
        codec: Codec,
        /// How many.
        trailing_bytes: usize,
    },
}

/// Why bytes could not be compressed: a setting, a bound, or the compressor's own failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompressError {
    /// The codec has no such level.
    Level {
        /// The codec.
        codec: Codec,
        /// The level asked for.
        level: i32,
    },
    /// More than the bound comes of it.
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The bound, bytes.
        bytes_max: usize,
    },
    /// The compressor failed.
    Failed {
        /// The codec.
        codec: Codec,
        /// The compressor's words.
        detail: String,
    },
}

impl BatchError {
    /// What kind of fault this is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::LegacyMagic(_) | Self::UnknownMagic(_) => Fault::UnsupportedFormat,
            Self::TooLarge { .. } | Self::Decompress(DecompressError::TooLarge { .. }) => Fault::TooLarge,
            Self::UnknownCodec(_) => Fault::UnknownCodec,
            Self::LogAppendTime | Self::Record { fault: RecordFault::TimestampDelta { .. }, .. } => {
                Fault::InvalidTimestamp
            }
            Self::Truncated { .. }
            | Self::BatchLength(_)
            | Self::Crc { .. }
            | Self::Decompress(DecompressError::Corrupt { .. } | DecompressError::TrailingBytes { .. }) => {
                Fault::Corrupt
            }
            Self::TrailingBytes(_)
            | Self::UnknownAttributes(_)
            | Self::ControlBatch
            | Self::DeleteHorizon
            | Self::BaseOffset(_)
            | Self::RecordCount(_)
            | Self::LastOffsetDelta { .. }
            | Self::ProducerId(_)
            | Self::ProducerEpoch(_)
            | Self::BaseSequence(_)
            | Self::TransactionalWithoutProducer
            | Self::Record { .. }
            | Self::TrailingRecordBytes(_) => Fault::Invalid,
        }
    }

    /// The record at fault, if it is one record's (Kafka reports it in `RecordErrors`).
    #[must_use]
    pub const fn record_index(&self) -> Option<u32> {
        match self {
            Self::Record { record_index, .. } => Some(*record_index),
            _ => None,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed_bytes, available_bytes } => {
                write!(f, "the batch takes {needed_bytes} bytes, but only {available_bytes} are there")
            }
            Self::LegacyMagic(magic) => write!(
                f,
                "message format {magic} is not supported: use a client that writes record batch v2 (Kafka 0.11 or later)"
            ),
            Self::UnknownMagic(magic) => write!(f, "magic byte {magic} is no record format; record batch v2 has 2"),
            Self::BatchLength(length) => write!(f, "batch length {length} is too small for a batch header (49)"),
            Self::TooLarge { batch_bytes, batch_bytes_max } => {
                write!(f, "the batch has {batch_bytes} bytes, {batch_bytes_max} are allowed (max.message.bytes)")
            }
            Self::TrailingBytes(count) => {
                write!(f, "{count} bytes follow the batch: exactly one batch per partition is allowed")
            }
            Self::Crc { stored, computed } => {
                write!(f, "the batch's CRC-32C is {stored:#010x}, but its bytes give {computed:#010x}")
            }
            Self::UnknownAttributes(bits) => write!(f, "attributes {bits:#06x} have bits that no version defines"),
            Self::UnknownCodec(id) => write!(f, "compression codec {id} does not exist (0 to 4 do)"),
            Self::ControlBatch => f.write_str("clients may not write control batches"),
            Self::DeleteHorizon => f.write_str("clients may not set the delete horizon bit"),
            Self::LogAppendTime => f.write_str("producers may not set the timestamp type to log append time"),
            Self::BaseOffset(offset) => write!(f, "base offset {offset}: a producer's batch begins at 0"),
            Self::RecordCount(count) => write!(f, "record count {count}: a batch has at least one record"),
            Self::LastOffsetDelta { last_offset_delta, record_count } => {
                write!(f, "last offset delta {last_offset_delta} does not fit {record_count} records")
            }
            Self::ProducerId(id) => write!(f, "producer id {id} is negative, and not -1 (none)"),
            Self::ProducerEpoch(epoch) => write!(f, "producer epoch {epoch} in a batch that has a producer id"),
            Self::BaseSequence(sequence) => write!(f, "base sequence {sequence} in a batch that has a producer id"),
            Self::TransactionalWithoutProducer => f.write_str("a transactional batch without a producer id"),
            Self::Decompress(cause) => cause.fmt(f),
            Self::Record { record_index, fault } => write!(f, "record {record_index} of the batch: {fault}"),
            Self::TrailingRecordBytes(count) => write!(f, "{count} bytes are left over behind the last record"),
        }
    }
}

impl core::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Decompress(cause) => Some(cause),
            Self::Record { fault, .. } => Some(fault),
            _ => None,
        }
    }
}

impl From<DecompressError> for BatchError {
    fn from(cause: DecompressError) -> Self {
        Self::Decompress(cause)
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a field runs past the end"),
            Self::Varint => f.write_str("a varint has more bits than its type"),
            Self::Length(length) => write!(f, "its length is {length}"),
            Self::Slack(bytes) => write!(f, "its length counts {bytes} bytes that no field claims"),
            Self::KeyLength(length) => write!(f, "its key's length is {length}"),
            Self::ValueLength(length) => write!(f, "its value's length is {length}"),
            Self::HeaderCount(count) => write!(f, "it has {count} headers"),
            Self::HeaderKeyLength(length) => write!(f, "a header's key has the length {length}"),
            Self::HeaderValueLength(length) => write!(f, "a header's value has the length {length}"),
            Self::OffsetDelta(delta) => write!(f, "its offset delta is {delta}, and must be its index"),
            Self::TimestampDelta { base_timestamp, delta_ms } => {
                write!(f, "base timestamp {base_timestamp} and delta {delta_ms} make no valid timestamp")
            }
        }
    }
}

impl core::error::Error for RecordFault {}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { codec, detail } => write!(f, "the records are not valid {codec}: {detail}"),
            Self::TooLarge { codec, bytes_max } => {
                write!(f, "the {codec} records decompress to more than {bytes_max} bytes")
            }
            Self::TrailingBytes { codec, trailing_bytes } => {
                write!(f, "{trailing_bytes} bytes follow the {codec} stream")
            }
        }
    }
}

impl core::error::Error for DecompressError {}

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level { codec, level } => match codec.levels() {
                Some(levels) => write!(f, "{codec} has no level {level}: {} to {} exist", levels.start(), levels.end()),
                None => write!(f, "{codec} has no levels, so not {level} either"),
            },
            Self::TooLarge { codec, bytes_max } => {
                write!(f, "compressed with {codec} it has more than {bytes_max} bytes")
            }
            Self::Failed { codec, detail } => write!(f, "{codec} failed to compress: {detail}"),
        }
    }
}

impl core::error::Error for CompressError {}
