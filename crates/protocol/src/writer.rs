//! Writing a frame: one growing buffer, with the records left out of it.
//!
//! Small fields go into one buffer. A large piece of records is remembered with its place in the buffer, and the buffer is cut
//! there at the end, so that record bytes are never copied and a hole for a file range costs nothing.
//!
//! Invariant: `splices` are in order of position, and each position is within the buffer.

use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::records::{Piece, Records};

/// Pieces of records up to this size are copied into the buffer: cheaper than one more segment to send.
const COPY_BYTES_MAX: usize = 512;

/// Part of a frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// From memory.
    Bytes(Bytes),
    /// What a [`Piece::Hole`] stands for.
    Hole {
        /// The hole's id.
        id: u32,
        /// How many bytes.
        length: u32,
    },
}

impl Chunk {
    /// Bytes on the wire.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            // A `usize` has at least 32 bits where this runs.
            Self::Hole { length, .. } => *length as usize,
        }
    }

    /// Whether it is no bytes at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A value that cannot be written at the version asked for: our own fault, or the request's for choosing that version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// The message has no such version.
    Version {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The field has a value of its own, and this version cannot carry it.
    NotInVersion {
        /// As `Struct.field`.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The field is null, which it may not be at this version.
    Null {
        /// As `Struct.field`.
        field: &'static str,
    },
    /// A string above 32,767 bytes, an array, records or a frame above 2 GiB.
    TooLong {
        /// As `Struct.field`; empty for the frame.
        field: &'static str,
        /// Bytes or elements.
        length: usize,
    },
    /// A hole inside a tagged field, which no message of Kafka's has.
    Hole {
        /// As `Struct.field`.
        field: &'static str,
    },
}

impl EncodeError {
    /// Says in which field it was, unless an inner field has said so before.
    #[cold]
    pub(crate) const fn within(mut self, name: &'static str) -> Self {
        match &mut self {
            Self::Null { field } | Self::TooLong { field, .. } | Self::Hole { field } if field.is_empty() => {
                *field = name
            }
            _ => {}
        }
        self
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Version { message, version } => write!(f, "{message} has no version {version}"),
            Self::NotInVersion { field, version } => {
                write!(
                    f,
                    "{field} has a value that version {version} cannot carry: use a later version or leave it out"
                )
            }
            Self::Null { field } => write!(f, "{field} may not be null at this version"),
            Self::TooLong { field: "", length } => write!(f, "a frame of {length} bytes is longer than 2 GiB"),
            Self::TooLong { field, length } => write!(f, "{field} is too long to send: {length}"),
            Self::Hole { field } => write!(f, "{field} is a tagged field and cannot carry a file range"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Where a piece goes between the bytes of the buffer.
#[derive(Debug)]
struct Splice {
    position: usize,
    piece: Piece,
}

/// Collects one frame at the end of a buffer that may be used again and again.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut BytesMut,
    splices: Vec<Splice>,
    spliced_bytes: usize,
    tag_depth: u32,
}

impl<'a> Writer<'a> {
    /// Writes into `buffer`, which is emptied first; its memory is used again once nobody holds earlier frames.
    #[must_use]
    pub fn new(buffer: &'a mut BytesMut) -> Self {
        buffer.clear();
        Self { buffer, splices: Vec::new(), spliced_bytes: 0, tag_depth: 0 }
    }

    /// Bytes written so far, records included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_add(self.spliced_bytes)
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves room for the length that goes in front of a frame.
    pub(crate) fn begin_frame(&mut self) {
        self.buffer.put_i32(0);
    }

    /// Puts the length of all that follows the first four bytes there. Errors: a frame longer than 2 GiB.
    pub(crate) fn end_frame(&mut self) -> Result<(), EncodeError> {
        let length = self.len().saturating_sub(4);
        let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong { field: "", length })?;
        if let Some(place) = self.buffer.first_chunk_mut::<4>() {
            *place = prefix.to_be_bytes();
        }
        Ok(())
    }

    /// Everything written, in order; empty chunks are left out.
    #[must_use]
    pub fn finish(self) -> Vec<Chunk> {
        let mut chunks = Vec::with_capacity(self.splices.len().saturating_mul(2).saturating_add(1));
        let mut taken: usize = 0;
        for Splice { position, piece } in self.splices {
            let count = position.saturating_sub(taken);
            if count > 0 {
                chunks.push(Chunk::Bytes(self.buffer.split_to(count).freeze()));
            }
            taken = position;
            chunks.push(match piece {
                Piece::Bytes(bytes) => Chunk::Bytes(bytes),
                Piece::Hole { id, length } => Chunk::Hole { id, length },
            });
        }
        if !self.buffer.is_empty() {
            chunks.push(Chunk::Bytes(self.buffer.split().freeze()));
        }
        chunks
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// An unsigned number in groups of seven bits, lowest first.
    #[inline]
    pub(crate) fn varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.buffer.put_u8(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(low_bits(value));
    }

    /// A count or a length of at most 2 GiB: compact as one more, 0 being null; otherwise as `i32`, -1 being null.
    #[inline]
    pub(crate) fn length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        let value = match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong { field: "", length })?,
        };
        if flexible {
            self.varint(value.cast_unsigned().wrapping_add(1));
        } else {
            self.buffer.put_i32(value);
        }
        Ok(())
    }

    /// The length of a string: the same with `i16`.
    #[inline]
    pub(crate) fn string_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        let value = match length {
            None => -1,
            Some(length) => i16::try_from(length).map_err(|_| EncodeError::TooLong { field: "", length })?,
        };
        if flexible {
            self.varint(i32::from(value).cast_unsigned().wrapping_add(1));
        } else {
            self.buffer.put_i16(value);
        }
        Ok(())
    }

    /// The bytes of records, after their length.
    pub(crate) fn records(&mut self, records: &Records) -> Result<(), EncodeError> {
        let mut outcome = Ok(());
        records.for_each(|piece| match piece {
            Piece::Bytes(bytes) if bytes.len() <= COPY_BYTES_MAX || self.tag_depth > 0 => self.put(&bytes),
            Piece::Hole { length: 0, .. } => {}
            Piece::Hole { .. } if self.tag_depth > 0 => outcome = Err(EncodeError::Hole { field: "" }),
            piece => {
                self.spliced_bytes = self.spliced_bytes.saturating_add(piece.len());
                self.splices.push(Splice { position: self.buffer.len(), piece });
            }
        });
        outcome
    }

    /// A tagged field: its tag, the size of its value, and the value.
    ///
    /// The size comes first but is known last. Nearly all values are shorter than 128 bytes, whose size takes one byte; for the
    /// others the value is moved up to make room.
    pub(crate) fn tagged(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.varint(tag);
        let place = self.buffer.len();
        self.buffer.put_u8(0);
        let start = self.buffer.len();
        self.tag_depth = self.tag_depth.saturating_add(1);
        write(self)?;
        self.tag_depth = self.tag_depth.saturating_sub(1);
        let length = self.buffer.len().saturating_sub(start);
        let size = u32::try_from(length).map_err(|_| EncodeError::TooLong { field: "", length })?;
        if let (true, Some(byte)) = (size <= 0x7f, self.buffer.get_mut(place)) {
            *byte = low_bits(size);
        } else {
            let value = self.buffer.split_off(start);
            self.buffer.truncate(place);
            self.varint(size);
            self.put(&value);
        }
        Ok(())
    }
}

const fn low_bits(value: u32) -> u8 {
    (value & 0x7f) as u8
}

macro_rules! numbers {
    ($($type:ident $put:ident)*) => {
        impl Writer<'_> {
            $(
                #[inline]
                pub(crate) fn $type(&mut self, value: $type) {
                    self.buffer.$put(value);
                }
            )*
        }
    };
}
numbers!(i8 put_i8 i16 put_i16 i32 put_i32 i64 put_i64 u16 put_u16 f64 put_f64);
