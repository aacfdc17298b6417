//! The 61 bytes before the records: every field as its own type, parsed and encoded without looking further.
//!
//! Invariants
//! - `encode` of what `parse` gave is the same 61 bytes (magic is 2, all other fields are kept as they came).
//! - A parsed header's `batch_length` is at least that of a batch without records, so [`BatchHeader::total_bytes`] is at least
//!   [`HEADER_BYTES`].
//!
//! Not here: whether the fields make sense together ([`crate::validate()`]). Read [`crate::batch`] next.

use bytes::{Buf, BufMut};
use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{BatchError, Codec};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes that `batch_length` does not count: base offset and the length itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the bytes that the CRC covers begin: at the attributes.
pub const CRC_FROM_POSITION: usize = 21;

const MAGIC: i8 = 2;
const MAGIC_POSITION: usize = 16;
const LENGTH_POSITION: usize = 8;
/// Header less the prefix: the smallest `batch_length`.
const BATCH_LENGTH_MIN: i32 = 49;

/// Who gave the records their timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The producer; each record has its own.
    CreateTime,
    /// The broker, at append; all records have the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// Which codec compressed the records. Error: [`BatchError::UnknownCodec`].
    pub fn codec(self) -> Result<Codec, BatchError> {
        let id = self.codec_id();
        Codec::from_id(id).ok_or(BatchError::UnknownCodec(id))
    }

    /// The codec's number, 0 to 7, whether it exists or not.
    #[must_use]
    pub const fn codec_id(self) -> u8 {
        // Three bits.
        let [_, low] = (self.0 & Self::CODEC).to_be_bytes();
        low
    }

    /// Who gave the records their timestamps.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// The records belong to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// The records are for brokers (transaction markers, quorum records), hidden from applications.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp is when compaction may drop the batch's tombstones (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The bits that no version of the format defines.
    #[must_use]
    pub const fn unknown_bits(self) -> i16 {
        self.0 & !(Self::CODEC | Self::LOG_APPEND_TIME | Self::TRANSACTIONAL | Self::CONTROL | Self::DELETE_HORIZON)
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !Self::CODEC) | i16::from(codec.id()))
    }

    /// The same with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same with the transactional bit set or not.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same with the control bit set or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    /// The same with the delete horizon bit set or not.
    #[must_use]
    pub const fn with_delete_horizon(self, delete_horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, delete_horizon)
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of one batch. The magic byte is always 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record. Not covered by the CRC.
    pub base_offset: Offset,
    /// Bytes from the leader epoch to the end of the batch. Not covered by the CRC.
    pub batch_length: i32,
    /// The leader that appended the batch. Not covered by the CRC.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and kinds of batch.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset. After compaction it may be larger than the record count less one.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from; the delete horizon if the attributes say so.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records; the time of the append under log append time.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// The producer's epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or none.
    pub base_sequence: Sequence,
    /// Number of records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; what follows the 61 bytes is not looked at.
    ///
    /// Errors: `Truncated` (fewer than 61 bytes), `LegacyMagic`, `UnknownMagic`, `BatchLength`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // A message of an older format may be shorter than our header, so its magic is looked at first.
        if let Some(&magic) = bytes.get(MAGIC_POSITION) {
            check_magic(magic.cast_signed())?;
        }
        if let Some(length) = bytes.get(LENGTH_POSITION..).and_then(<[u8]>::first_chunk) {
            check_batch_length(i32::from_be_bytes(*length))?;
        }
        let mut fields: &[u8] = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(BatchError::Truncated { needed_bytes: HEADER_BYTES, available_bytes: bytes.len() })?;
        let base_offset = Offset(fields.get_i64());
        let batch_length = fields.get_i32();
        let leader_epoch = LeaderEpoch(fields.get_i32());
        fields.advance(size_of::<i8>());
        Ok(Self {
            base_offset,
            batch_length,
            leader_epoch,
            crc: fields.get_u32(),
            attributes: Attributes(fields.get_i16()),
            last_offset_delta: fields.get_i32(),
            base_timestamp: Timestamp(fields.get_i64()),
            max_timestamp: Timestamp(fields.get_i64()),
            producer_id: ProducerId(fields.get_i64()),
            producer_epoch: ProducerEpoch(fields.get_i16()),
            base_sequence: Sequence(fields.get_i32()),
            record_count: fields.get_i32(),
        })
    }

    /// The header's 61 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut fields = header.as_mut_slice();
        fields.put_i64(self.base_offset.0);
        fields.put_i32(self.batch_length);
        fields.put_i32(self.leader_epoch.0);
        fields.put_i8(MAGIC);
        fields.put_u32(self.crc);
        fields.put_i16(self.attributes.0);
        fields.put_i32(self.last_offset_delta);
        fields.put_i64(self.base_timestamp.0);
        fields.put_i64(self.max_timestamp.0);
        fields.put_i64(self.producer_id.0);
        fields.put_i16(self.producer_epoch.0);
        fields.put_i32(self.base_sequence.0);
        fields.put_i32(self.record_count);
        header
    }

    /// Size of the whole batch, header included.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0).saturating_add(LENGTH_PREFIX_BYTES)
    }

    /// Offset of the last record. Saturates where a hostile header would overflow.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(self.last_offset_delta as i64))
    }

    /// Offset of the batch that follows this one.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Sequence of the last record, wrapping from `i32::MAX` to 0; none if the batch has none.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 {
            return Sequence::NONE;
        }
        self.base_sequence.advance(u32::try_from(self.last_offset_delta).unwrap_or(0))
    }

    /// Which codec compressed the records. Error: [`BatchError::UnknownCodec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        self.attributes.codec()
    }

    /// Who gave the records their timestamps.
    #[must_use]
    pub const fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// The records belong to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// The records are for brokers, hidden from applications.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// The batch was written by an idempotent producer.
    #[must_use]
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id.0 != ProducerId::NONE.0
    }

    /// When compaction may drop the batch's tombstones, if it has set that.
    #[must_use]
    pub const fn delete_horizon(&self) -> Option<Timestamp> {
        if self.attributes.has_delete_horizon() { Some(self.base_timestamp) } else { None }
    }
}

const fn check_magic(magic: i8) -> Result<(), BatchError> {
    match magic {
        MAGIC => Ok(()),
        0 | 1 => Err(BatchError::LegacyMagic(magic)),
        _ => Err(BatchError::UnknownMagic(magic)),
    }
}

const fn check_batch_length(batch_length: i32) -> Result<(), BatchError> {
    if batch_length < BATCH_LENGTH_MIN { Err(BatchError::BatchLength(batch_length)) } else { Ok(()) }
}
