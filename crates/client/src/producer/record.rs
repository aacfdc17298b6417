//! What a producer takes and what it gives back.

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{Offset, PartitionIndex, Timestamp};
use quipu_records::{NewRecord, RecordHeader};

use crate::{ClientError, ErrorKind};

/// A header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its name, UTF-8 by convention. Names may repeat.
    pub key: Bytes,
    /// Its value, if it has one.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }
}

/// A record to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerRecord {
    /// The topic. A clone of one `Arc` spares an allocation for each record.
    pub topic: Arc<str>,
    /// The partition; none lets the producer choose: by the key as Kafka's Java client does, or, without a key, any one for a
    /// batch's worth of records.
    pub partition: Option<PartitionIndex>,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<Header>,
    /// When it happened; none is now. Milliseconds since 1970.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record with a value alone.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The same for this partition.
    #[must_use]
    pub fn with_partition(self, partition: PartitionIndex) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(crate) fn header_views(&self) -> Vec<RecordHeader<'_>> {
        self.headers.iter().map(|header| RecordHeader { key: &header.key, value: header.value.as_deref() }).collect()
    }

    pub(crate) fn view<'a>(&'a self, timestamp: Timestamp, headers: &'a [RecordHeader<'a>]) -> NewRecord<'a> {
        NewRecord { timestamp, key: self.key.as_deref(), value: self.value.as_deref(), headers }
    }
}

/// Where a record went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMetadata {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionIndex,
    /// Its offset; none with [`crate::Acks::None`], and where a broker recognised a repetition so old that it no longer knew the
    /// offset.
    pub offset: Option<Offset>,
    /// Its timestamp: the record's, or the broker's where the topic wants that.
    pub timestamp: Timestamp,
}

/// Whether a record that was not acknowledged is in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Written {
    /// It is not, and never will be: it may be sent again.
    No,
    /// Nobody can tell: it may be there, or may still appear.
    Unknown,
}

/// Why a record was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerError {
    /// Whether the record is in the log.
    pub written: Written,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, if one was chosen.
    pub partition: Option<PartitionIndex>,
    /// What went wrong.
    pub cause: ClientError,
}

impl ProducerError {
    /// What to do about it: see [`ClientError::kind`]. A record of unknown fate that is sent again may be there twice.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }
}

impl fmt::Display for ProducerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.topic)?;
        if let Some(partition) = self.partition {
            write!(f, "-{partition}")?;
        }
        f.write_str(match self.written {
            Written::No => ": the record was not written: ",
            Written::Unknown => ": it is not known whether the record was written: ",
        })?;
        self.cause.fmt(f)
    }
}

impl core::error::Error for ProducerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.cause)
    }
}
