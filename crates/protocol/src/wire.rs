//! How each type looks on the wire.
//!
//! Two encodings exist: the old one with fixed-width lengths, and from a message's first flexible version on the compact one
//! (KIP-482). Null is length -1, or compact 0; for a structure, a leading byte -1 instead of 1.

use bytes::Bytes;
use quipu_base::{ClientInstanceId, DirectoryId, TopicId};

use crate::{
    reader::{DecodeError, DecodeFault, Reader},
    records::Records,
    schema::{Kind, Plain, Rules},
    str::Str,
    writer::{EncodeError, Writer},
};

/// At which version a value is read or written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) version: i16,
    /// Compact lengths and tagged fields.
    pub(crate) flexible: bool,
    /// The value may be null.
    pub(crate) nullable: bool,
}

impl Format {
    /// For a field with these rules.
    #[inline]
    pub(crate) const fn field(self, rules: Rules) -> Self {
        Self { nullable: rules.is_nullable(self.version), ..self }
    }

    /// For the elements of an array, which are never null.
    const fn element(self) -> Self {
        Self { nullable: false, ..self }
    }
}

/// A type of Kafka's protocol.
pub(crate) trait Wire: Sized + PartialEq {
    const KIND: Kind;
    /// Whether the Rust type can say null.
    const OPTIONAL: bool = false;

    /// Kafka's default for a field of this type that declares none.
    fn zero() -> Self;
    /// Bytes that any value takes at least.
    fn bytes_min(at: Format) -> usize;
    fn read(reader: &mut Reader, at: Format) -> Result<Self, DecodeError>;
    fn write(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError>;
    fn plain(&self) -> Plain;
}

/// A type that has a null.
pub(crate) trait Nullable: Wire {
    /// Whether null is the default of a field that declares none.
    const ZERO_IS_NULL: bool = false;

    fn read_nullable(reader: &mut Reader, at: Format) -> Result<Option<Self>, DecodeError>;
    fn write_null(writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError>;
    /// Writes a value where null is possible.
    fn write_some(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        self.write(writer, at)
    }
    /// Bytes that null takes.
    fn null_bytes(at: Format) -> usize {
        Self::bytes_min(at)
    }
}

impl<T: Nullable> Wire for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    fn zero() -> Self {
        if T::ZERO_IS_NULL { None } else { Some(T::zero()) }
    }

    fn bytes_min(at: Format) -> usize {
        if at.nullable { T::null_bytes(at) } else { T::bytes_min(at) }
    }

    #[inline]
    fn read(reader: &mut Reader, at: Format) -> Result<Self, DecodeError> {
        if at.nullable { T::read_nullable(reader, at) } else { T::read(reader, at).map(Some) }
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        match self {
            Some(value) if at.nullable => value.write_some(writer, at),
            Some(value) => value.write(writer, at),
            None if at.nullable => T::write_null(writer, at),
            None => Err(EncodeError::Null { field: "" }),
        }
    }

    fn plain(&self) -> Plain {
        self.as_ref().map_or(Plain::Null, Wire::plain)
    }
}

/// The value, or the error that there is none.
#[inline]
fn present<T>(value: Option<T>, reader: &Reader) -> Result<T, DecodeError> {
    value.ok_or_else(|| reader.error(DecodeFault::Null))
}

macro_rules! numbers {
    ($($type:ident $kind:ident $plain:expr;)*) => { $(
        impl Wire for $type {
            const KIND: Kind = Kind::$kind;

            fn zero() -> Self {
                Self::default()
            }

            fn bytes_min(_at: Format) -> usize {
                size_of::<Self>()
            }

            #[inline]
            fn read(reader: &mut Reader, _at: Format) -> Result<Self, DecodeError> {
                reader.$type()
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>, _at: Format) -> Result<(), EncodeError> {
                writer.$type(*self);
                Ok(())
            }

            fn plain(&self) -> Plain {
                $plain(*self)
            }
        }
    )* };
}
numbers! {
    i8 Int8 |value| Plain::Integer(i64::from(value));
    i16 Int16 |value| Plain::Integer(i64::from(value));
    u16 Uint16 |value| Plain::Integer(i64::from(value));
    i32 Int32 |value| Plain::Integer(i64::from(value));
    i64 Int64 Plain::Integer;
    f64 Float64 Plain::Float;
}

impl Wire for bool {
    const KIND: Kind = Kind::Bool;

    fn zero() -> Self {
        false
    }

    fn bytes_min(_at: Format) -> usize {
        1
    }

    /// Anything but 0 is true, as in Kafka.
    #[inline]
    fn read(reader: &mut Reader, _at: Format) -> Result<Self, DecodeError> {
        Ok(reader.i8()? != 0)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, _at: Format) -> Result<(), EncodeError> {
        writer.i8(i8::from(*self));
        Ok(())
    }

    fn plain(&self) -> Plain {
        Plain::Bool(*self)
    }
}

macro_rules! ids {
    ($($type:ident)*) => { $(
        impl Wire for $type {
            const KIND: Kind = Kind::Uuid;

            fn zero() -> Self {
                Self::ZERO
            }

            fn bytes_min(_at: Format) -> usize {
                16
            }

            #[inline]
            fn read(reader: &mut Reader, _at: Format) -> Result<Self, DecodeError> {
                reader.uuid().map(Self)
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>, _at: Format) -> Result<(), EncodeError> {
                writer.put(&self.0);
                Ok(())
            }

            fn plain(&self) -> Plain {
                Plain::Uuid(self.0)
            }
        }
    )* };
}
ids!(TopicId DirectoryId ClientInstanceId);

impl Wire for Str {
    const KIND: Kind = Kind::String;

    fn zero() -> Self {
        Self::EMPTY
    }

    fn bytes_min(at: Format) -> usize {
        if at.flexible { 1 } else { 2 }
    }

    fn read(reader: &mut Reader, at: Format) -> Result<Self, DecodeError> {
        let value = Self::read_nullable(reader, at)?;
        present(value, reader)
    }

    fn write(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.string_length(Some(self.len()), at.flexible)?;
        writer.put(self.as_bytes());
        Ok(())
    }

    fn plain(&self) -> Plain {
        Plain::Text(self.to_string())
    }
}

impl Nullable for Str {
    fn read_nullable(reader: &mut Reader, at: Format) -> Result<Option<Self>, DecodeError> {
        let Some(length) = reader.string_length(at.flexible)? else { return Ok(None) };
        let bytes = reader.bytes(length)?;
        Self::from_utf8(bytes).map(Some).map_err(|_| reader.error(DecodeFault::NotUtf8))
    }

    fn write_null(writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.string_length(None, at.flexible)
    }
}

/// Bytes that the shortest bytes, records or array take: their length.
const fn length_bytes(at: Format) -> usize {
    if at.flexible { 1 } else { 4 }
}

impl Wire for Bytes {
    const KIND: Kind = Kind::Bytes;

    fn zero() -> Self {
        Self::new()
    }

    fn bytes_min(at: Format) -> usize {
        length_bytes(at)
    }

    fn read(reader: &mut Reader, at: Format) -> Result<Self, DecodeError> {
        let value = Self::read_nullable(reader, at)?;
        present(value, reader)
    }

    fn write(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.length(Some(self.len()), at.flexible)?;
        writer.put(self);
        Ok(())
    }

    fn plain(&self) -> Plain {
        Plain::Sequence(self.len())
    }
}

impl Nullable for Bytes {
    fn read_nullable(reader: &mut Reader, at: Format) -> Result<Option<Self>, DecodeError> {
        reader.bytes_length(at.flexible)?.map(|length| reader.bytes(length)).transpose()
    }

    fn write_null(writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.length(None, at.flexible)
    }
}

impl Wire for Records {
    const KIND: Kind = Kind::Records;

    fn zero() -> Self {
        Self::EMPTY
    }

    fn bytes_min(at: Format) -> usize {
        length_bytes(at)
    }

    fn read(reader: &mut Reader, at: Format) -> Result<Self, DecodeError> {
        Bytes::read(reader, at).map(Self::from)
    }

    fn write(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.length(Some(self.len()), at.flexible)?;
        writer.records(self)
    }

    fn plain(&self) -> Plain {
        Plain::Sequence(self.len())
    }
}

impl Nullable for Records {
    const ZERO_IS_NULL: bool = true;

    fn read_nullable(reader: &mut Reader, at: Format) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_nullable(reader, at)?.map(Self::from))
    }

    fn write_null(writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.length(None, at.flexible)
    }
}

impl<T: Wire> Wire for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);

    fn zero() -> Self {
        Self::new()
    }

    fn bytes_min(at: Format) -> usize {
        length_bytes(at)
    }

    #[inline]
    fn read(reader: &mut Reader, at: Format) -> Result<Self, DecodeError> {
        let value = Self::read_nullable(reader, at)?;
        present(value, reader)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.length(Some(self.len()), at.flexible)?;
        self.iter().try_for_each(|element| element.write(writer, at.element()))
    }

    fn plain(&self) -> Plain {
        Plain::Sequence(self.len())
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(reader: &mut Reader, at: Format) -> Result<Option<Self>, DecodeError> {
        let at = at.element();
        let Some(count) = reader.array_count(at.flexible, T::bytes_min(at), size_of::<T>())? else { return Ok(None) };
        // The reader has bounded the count by what remains of the frame and by the allowance.
        let mut elements = Self::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(reader, at)?);
        }
        Ok(Some(elements))
    }

    fn write_null(writer: &mut Writer<'_>, at: Format) -> Result<(), EncodeError> {
        writer.length(None, at.flexible)
    }
}
