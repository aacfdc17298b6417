//! Reading a frame within its bounds.
//!
//! Invariants
//! - `position <= end <= frame.len()` at all times; nothing beyond `end` is looked at.
//! - Vectors are allocated only after the bytes for their elements have been seen to be there, and only while their sum stays
//!   within [`allowance`].
//!
//! Not here: what the fields are (`message`), how each type looks on the wire (`wire`).

use core::fmt;

use bytes::Bytes;
use quipu_base::limits::{ARRAY_LENGTH_MAX, MIB, TAGGED_FIELDS_MAX};

/// Memory that the vectors of one decoded message may take, for a frame of `frame_bytes`: the frame's own size, and 16 MiB.
///
/// A message of many tiny elements is larger in memory than on the wire (a string of one byte takes 32); without this bound a
/// frame of 100 MiB could become 2 GiB. 16 MiB holds 170,000 topics of a Metadata request, or 220,000 partitions of a Fetch.
#[must_use]
pub const fn allowance(frame_bytes: usize) -> usize {
    (16 * MIB).saturating_add(frame_bytes)
}

/// What was wrong with the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeFault {
    /// The bytes end inside a field.
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that were left.
        left: usize,
    },
    /// A length below zero where null isn't allowed, or below -1.
    BadLength(i64),
    /// More elements, or tagged fields, than the rest of the message can hold or than are allowed at all.
    TooMany {
        /// How many were announced.
        count: usize,
        /// How many were possible.
        max: usize,
    },
    /// A string that is longer than Kafka's 32,767 bytes.
    StringTooLong(usize),
    /// A null where this version has none.
    Null,
    /// A string that is not UTF-8.
    NotUtf8,
    /// A variable-length number of more than five bytes, or above 32 bits.
    BadVarint,
    /// A nullable structure that begins with neither -1 nor 1.
    BadPresence(i8),
    /// A tagged field whose value ends before or after its size.
    TagSize {
        /// Its tag.
        tag: u32,
        /// Bytes that its size says.
        size: usize,
    },
    /// Bytes after the message's end.
    Trailing(usize),
    /// The message would take more memory than a frame of its size may.
    TooLarge {
        /// The bound, in bytes.
        max: usize,
    },
}

/// Bytes that are not the message they should be: the peer's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// What was wrong.
    pub fault: DecodeFault,
    /// In which field, as `Struct.field`; empty if in none.
    pub field: &'static str,
    /// Where in the frame, in bytes after the length prefix.
    pub position: usize,
}

impl DecodeError {
    /// Says in which field it was, unless an inner field has said so before.
    #[cold]
    pub(crate) const fn within(mut self, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the frame" } else { self.field };
        write!(f, "{field} at byte {}: ", self.position)?;
        match self.fault {
            DecodeFault::Truncated { needed, left } => write!(f, "it needs {needed} bytes, {left} are left"),
            DecodeFault::BadLength(length) => write!(f, "{length} is no length"),
            DecodeFault::TooMany { count, max } => write!(f, "{count} elements announced, at most {max} possible"),
            DecodeFault::StringTooLong(length) => write!(f, "a string of {length} bytes, 32767 are allowed"),
            DecodeFault::Null => f.write_str("null, which this version does not have"),
            DecodeFault::NotUtf8 => f.write_str("the string is not UTF-8"),
            DecodeFault::BadVarint => f.write_str("the variable-length number has more than 32 bits"),
            DecodeFault::BadPresence(byte) => write!(f, "a structure begins with -1 (null) or 1, not {byte}"),
            DecodeFault::TagSize { tag, size } => write!(f, "tagged field {tag} does not fill its {size} bytes"),
            DecodeFault::Trailing(left) => write!(f, "{left} bytes after the end of the message"),
            DecodeFault::TooLarge { max } => write!(f, "decoded, it would take more than {max} bytes of memory"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A place in a frame, and the end of what may be read.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    end: usize,
    /// What vectors may still take, in bytes.
    allowance: usize,
    /// What it was at first.
    allowance_max: usize,
}

impl Reader {
    /// At the start of `frame` (without its length prefix), with vectors bounded by [`allowance`].
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        let allowance = allowance(frame.len());
        Self::with_allowance(frame, allowance)
    }

    /// The same with another bound, in bytes, for the vectors.
    #[must_use]
    pub fn with_allowance(frame: Bytes, allowance: usize) -> Self {
        let end = frame.len();
        Self { frame, position: 0, end, allowance, allowance_max: allowance }
    }

    /// Bytes not yet read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.end.saturating_sub(self.position)
    }

    /// Bytes that the vectors decoded so far take. Whoever budgets memory adds this to the frame's size.
    #[must_use]
    pub const fn allocated(&self) -> usize {
        self.allowance_max.saturating_sub(self.allowance)
    }

    /// Checks that everything has been read. Errors: [`DecodeFault::Trailing`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(DecodeFault::Trailing(left))),
        }
    }

    #[cold]
    pub(crate) const fn error(&self, fault: DecodeFault) -> DecodeError {
        DecodeError { fault, field: "", position: self.position }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let end = self.position.saturating_add(N);
        let bytes = if end <= self.end { self.frame.get(self.position..end) } else { None };
        match bytes.and_then(|bytes| bytes.first_chunk::<N>()) {
            Some(bytes) => {
                self.position = end;
                Ok(*bytes)
            }
            None => Err(self.truncated(N)),
        }
    }

    #[cold]
    const fn truncated(&self, needed: usize) -> DecodeError {
        self.error(DecodeFault::Truncated { needed, left: self.remaining() })
    }

    /// The next `count` bytes, shared with the frame.
    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if count > self.remaining() {
            return Err(self.truncated(count));
        }
        let end = self.position.saturating_add(count);
        let bytes = self.frame.slice(self.position..end);
        self.position = end;
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub(crate) const fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        if count > self.remaining() {
            return Err(self.truncated(count));
        }
        self.position = self.position.saturating_add(count);
        Ok(())
    }

    /// An unsigned number in groups of seven bits, lowest first.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value: u32 = 0;
        for shift in [0_u32, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeFault::BadVarint))
    }

    /// A length or count: none is null. Compact is one more than the value, as a varint; otherwise a signed number whose -1 is
    /// null.
    #[inline]
    fn compact(&mut self) -> Result<Option<usize>, DecodeError> {
        let raw = self.varint()?;
        // Kafka's own lengths are signed 32-bit numbers.
        let value =
            raw.checked_sub(1).map(|value| i32::try_from(value).ok().and_then(|value| usize::try_from(value).ok()));
        match value {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(self.error(DecodeFault::BadLength(i64::from(raw).saturating_sub(1)))),
        }
    }

    #[inline]
    fn signed(&self, value: i32) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) if value == -1 => Ok(None),
            Err(_) => Err(self.error(DecodeFault::BadLength(i64::from(value)))),
        }
    }

    /// The length of a string.
    #[inline]
    pub(crate) fn string_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let length = if flexible {
            self.compact()?
        } else {
            let value = self.i16()?;
            self.signed(i32::from(value))?
        };
        match length {
            Some(length) if length > 0x7fff => Err(self.error(DecodeFault::StringTooLong(length))),
            length => Ok(length),
        }
    }

    /// The length of bytes or records.
    #[inline]
    pub(crate) fn bytes_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact()
        } else {
            let value = self.i32()?;
            self.signed(value)
        }
    }

    /// The count of an array whose elements take at least `element_bytes_min` on the wire and `element_memory` in a vector.
    #[inline]
    pub(crate) fn array_count(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        element_memory: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.bytes_length(flexible)? else { return Ok(None) };
        let fitting = self.remaining().checked_div(element_bytes_min.max(1)).unwrap_or(0);
        let max = fitting.min(ARRAY_LENGTH_MAX);
        if count > max {
            return Err(self.error(DecodeFault::TooMany { count, max }));
        }
        match self.allowance.checked_sub(count.saturating_mul(element_memory)) {
            Some(left) => self.allowance = left,
            None => return Err(self.error(DecodeFault::TooLarge { max: self.allowance_max })),
        }
        Ok(Some(count))
    }

    /// How many tagged fields follow. Each has a tag and a size of at least one byte.
    #[inline]
    pub(crate) fn tag_count(&mut self) -> Result<u32, DecodeError> {
        let raw = self.varint()?;
        let count = usize::try_from(raw).unwrap_or(usize::MAX);
        let max = self.remaining().checked_div(2).unwrap_or(0).min(TAGGED_FIELDS_MAX);
        if count > max {
            return Err(self.error(DecodeFault::TooMany { count, max }));
        }
        Ok(raw)
    }

    /// The tag of the next tagged field, and the size of its value, which is all there.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<(u32, usize), DecodeError> {
        let tag = self.varint()?;
        let raw = self.varint()?;
        let size = usize::try_from(raw).unwrap_or(usize::MAX);
        if size > self.remaining() {
            return Err(self.truncated(size));
        }
        Ok((tag, size))
    }

    /// Reads the value of a tagged field, which must fill its size.
    pub(crate) fn tagged<T>(
        &mut self,
        tag: u32,
        size: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let outer_end = self.end;
        self.end = self.position.saturating_add(size).min(outer_end);
        let value = read(self)?;
        if self.position != self.end {
            return Err(self.error(DecodeFault::TagSize { tag, size }));
        }
        self.end = outer_end;
        Ok(value)
    }

    /// Passes over tagged fields of which none is known.
    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.tag_count()? {
            let (_, size) = self.tag()?;
            self.skip(size)?;
        }
        Ok(())
    }
}

macro_rules! numbers {
    ($($type:ident)*) => {
        impl Reader {
            $(
                #[inline]
                pub(crate) fn $type(&mut self) -> Result<$type, DecodeError> {
                    Ok($type::from_be_bytes(self.array()?))
                }
            )*
        }
    };
}
numbers!(i8 i16 i32 i64 u16 f64);

impl Reader {
    /// Sixteen bytes of an id.
    #[inline]
    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }
}
