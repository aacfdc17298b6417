//! The records of a batch, one by one, as slices of the (decompressed) batch.
//!
//! ```text
//!  length | attributes | timestamp delta | offset delta | key length, key | value length, value | header count | headers
//!  varint | 1 byte, 0  | varlong         | varint       | varint, -1 null | varint, -1 null     | varint       |
//!                                                     header: key length, key (varint) | value length, value (varint, -1 null)
//! ```
//!
//! Invariant: every field of a yielded record, headers included, has been bounds-checked, so [`Record::headers`] cannot fail.
//!
//! Not here: whether offsets are dense and timestamps valid for a producer ([`crate::validate()`]); compacted batches have gaps.

use bytes::Bytes;
use quipu_base::{Offset, Timestamp};

use crate::{BatchError, BatchHeader, RecordFault, TimestampType, cursor::Cursor};

/// The records of one batch, decompressed.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
}

impl Records {
    pub(crate) const fn new(header: BatchHeader, body: Bytes) -> Self {
        Self { header, body }
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records' bytes, decompressed.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// A part of a record as refcounted bytes, which keep the whole batch in memory.
    ///
    /// # Panics
    /// If `part` was not taken from a record of this batch.
    #[must_use]
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.body.slice_ref(part)
    }

    /// The records in order. Yields an error once, then nothing more.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { header: self.header, cursor: Cursor::new(&self.body), index: 0, failed: false }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp; under log append time the batch's.
    pub timestamp: Timestamp,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: u32,
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Number of its headers.
    #[must_use]
    pub const fn header_count(&self) -> u32 {
        self.header_count
    }

    /// Its headers in order. Keys may repeat.
    #[must_use]
    pub const fn headers(&self) -> HeaderIter<'a> {
        HeaderIter { cursor: Cursor::new(self.headers), left: self.header_count }
    }
}

/// One header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader<'a> {
    /// Its name, UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.left = self.left.checked_sub(1)?;
        // The record's parser has walked these bytes before.
        parse_header(&mut self.cursor).ok()
    }
}

/// The records of one batch in order.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    header: BatchHeader,
    cursor: Cursor<'a>,
    index: u32,
    failed: bool,
}

impl<'a> RecordIter<'a> {
    fn parse_next(&mut self) -> Result<Option<Record<'a>>, BatchError> {
        let record_count = u32::try_from(self.header.record_count).unwrap_or(0);
        if self.index >= record_count {
            return match self.cursor.rest().len() {
                0 => Ok(None),
                trailing => Err(BatchError::TrailingRecordBytes(trailing)),
            };
        }
        let record_index = self.index;
        let record = self.parse_record().map_err(|fault| BatchError::Record { record_index, fault })?;
        self.index = self.index.saturating_add(1);
        Ok(Some(record))
    }

    fn parse_record(&mut self) -> Result<Record<'a>, RecordFault> {
        let raw = parse_raw(&mut self.cursor)?;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => record_timestamp(self.header.base_timestamp, raw.timestamp_delta)?,
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = self.header.base_offset.0.checked_add(i64::from(raw.offset_delta));
        Ok(Record {
            offset: offset.map(Offset).ok_or(RecordFault::OffsetDelta(raw.offset_delta))?,
            timestamp,
            key: raw.key,
            value: raw.value,
            header_count: raw.header_count,
            headers: raw.headers,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.parse_next();
        self.failed = result.is_err();
        result.transpose()
    }
}

/// A record as it lies in the batch.
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) header_count: u32,
    pub(crate) headers: &'a [u8],
}

/// The timestamp that a delta stands for: at least 0, or none.
#[inline(always)]
pub(crate) fn record_timestamp(base_timestamp: Timestamp, delta_ms: i64) -> Result<Timestamp, RecordFault> {
    match base_timestamp.0.checked_add(delta_ms) {
        Some(timestamp) if timestamp >= Timestamp::NONE.0 => Ok(Timestamp(timestamp)),
        _ => Err(RecordFault::TimestampDelta { base_timestamp, delta_ms }),
    }
}

/// Reads one record, and checks that its length is exact.
#[inline(always)]
pub(crate) fn parse_raw<'a>(cursor: &mut Cursor<'a>) -> Result<RawRecord<'a>, RecordFault> {
    let length = cursor.varint()?;
    let length = usize::try_from(length).map_err(|_| RecordFault::Length(length))?;
    let mut fields = Cursor::new(cursor.take(length)?);
    // Unused by every version so far; Kafka ignores it, and so do we.
    fields.byte()?;
    let timestamp_delta = fields.varlong()?;
    let offset_delta = fields.varint()?;
    let key = nullable(&mut fields, RecordFault::KeyLength)?;
    let value = nullable(&mut fields, RecordFault::ValueLength)?;
    let header_count = fields.varint()?;
    let header_count = u32::try_from(header_count).map_err(|_| RecordFault::HeaderCount(header_count))?;
    let headers = fields.rest();
    for _ in 0..header_count {
        parse_header(&mut fields)?;
    }
    match fields.rest().len() {
        0 => Ok(RawRecord { timestamp_delta, offset_delta, key, value, header_count, headers }),
        slack => Err(RecordFault::Slack(slack)),
    }
}

fn parse_header<'a>(fields: &mut Cursor<'a>) -> Result<RecordHeader<'a>, RecordFault> {
    let key_length = fields.varint()?;
    let key = fields.take(usize::try_from(key_length).map_err(|_| RecordFault::HeaderKeyLength(key_length))?)?;
    let value = nullable(fields, RecordFault::HeaderValueLength)?;
    Ok(RecordHeader { key, value })
}

/// Bytes behind their length, where -1 stands for none.
#[inline(always)]
fn nullable<'a>(fields: &mut Cursor<'a>, fault: fn(i32) -> RecordFault) -> Result<Option<&'a [u8]>, RecordFault> {
    match fields.varint()? {
        -1 => Ok(None),
        length => fields.take(usize::try_from(length).map_err(|_| fault(length))?).map(Some),
    }
}
