//! `message!`: one declaration per message gives the struct, its defaults, its decoder, its encoder and its schema.
//!
//! ```text
//! message! {
//!     /// Documentation.
//!     FooRequest: Request of 0, versions 3..=13, flexible 9.. {
//!         /// In all versions; its default is 0.
//!         acks: i16,
//!         /// From version 8 to 10, may be null; where it's missing it is null, and a value that can't be sent is dropped.
//!         rack: Option<Str> [since(8), until(10), nullable, ignorable] = None,
//!         /// A tagged field: sent only when it isn't the default.
//!         leader: Leader [since(10), tag(0)],
//!     }
//!     /// A structure in it.
//!     Leader {
//!         leader_id: i32 = -1,
//!     }
//! }
//! ```
//!
//! The Rust type is the wire type: `Str` is `string`, `Vec` an array, `Option` what may be null (`wire` has them all). The words
//! in brackets are the builders of [`Rules`](crate::schema::Rules). A field without `since` and `until` exists wherever its
//! structure does. A default that isn't written is Kafka's: zero, false, empty (not null, except for records).
//!
//! Invariants
//! - Tags ascend within a structure (a test of all schemas holds this).
//! - A field is an `Option` if and only if it is nullable (checked when compiled).

use crate::{
    reader::{DecodeError, Reader},
    schema::MessageSchema,
    writer::{EncodeError, Writer},
};

/// A declared message.
pub trait Message: Clone + Default + PartialEq + core::fmt::Debug {
    /// The declaration.
    const SCHEMA: MessageSchema;

    /// Reads its body at `version`, which must be one of [`MessageSchema::versions`]. Bytes may be left in the reader.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes its body. Errors: no such version, a value that the version cannot carry, a null that it does not have, a string
    /// or array that is too long.
    fn encode(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), EncodeError>;
}

/// A field's default: the one written, or Kafka's for its type.
macro_rules! default_of {
    ($type:ty) => {
        <$type as $crate::wire::Wire>::zero()
    };
    ($type:ty, $default:expr) => {{
        let default: $type = $default;
        default
    }};
}

/// A structure: everything but what only whole messages have. See the module's documentation.
macro_rules! structure {
    (
        $(#[$doc:meta])*
        $name:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident: $type:ty
                    $([ $($rule:ident $(($argument:literal))?),* $(,)? ])?
                    $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: default_of!($type $(, $default)?), )* }
            }
        }

        impl $crate::wire::Wire for $name {
            const KIND: $crate::schema::Kind = $crate::schema::Kind::Struct(const {
                &$crate::schema::StructSchema {
                    name: stringify!($name),
                    fields: &[ $(
                        $crate::schema::FieldSchema {
                            name: stringify!($field),
                            kind: <$type as $crate::wire::Wire>::KIND,
                            rules: {
                                let rules = $crate::schema::Rules::ALWAYS $($( .$rule($($argument)?) )*)?;
                                assert!(
                                    rules.nullable_since.is_some() == <$type as $crate::wire::Wire>::OPTIONAL,
                                    "a field is an Option if and only if it is nullable"
                                );
                                rules
                            },
                            default: || $crate::wire::Wire::plain(&default_of!($type $(, $default)?)),
                        },
                    )* ],
                }
            });

            fn zero() -> Self {
                Self::default()
            }

            fn bytes_min(at: $crate::wire::Format) -> usize {
                let mut sum: usize = usize::from(at.flexible);
                $({
                    let rules = const { $crate::schema::Rules::ALWAYS $($( .$rule($($argument)?) )*)? };
                    if rules.is_inline(at.version) {
                        sum = sum.saturating_add(<$type as $crate::wire::Wire>::bytes_min(at.field(rules)));
                    }
                })*
                sum
            }

            fn read(
                reader: &mut $crate::reader::Reader,
                at: $crate::wire::Format,
            ) -> Result<Self, $crate::reader::DecodeError> {
                $(
                    let rules = const { $crate::schema::Rules::ALWAYS $($( .$rule($($argument)?) )*)? };
                    let mut $field: $type = if rules.is_inline(at.version) {
                        <$type as $crate::wire::Wire>::read(reader, at.field(rules))
                            .map_err(|error| error.within(concat!(stringify!($name), ".", stringify!($field))))?
                    } else {
                        default_of!($type $(, $default)?)
                    };
                )*
                if at.flexible {
                    for _ in 0..reader.tag_count()? {
                        let (tag, size) = reader.tag()?;
                        $({
                            let rules = const { $crate::schema::Rules::ALWAYS $($( .$rule($($argument)?) )*)? };
                            if rules.tag == Some(tag) && rules.is_tagged(at.version) {
                                $field = reader
                                    .tagged(tag, size, |reader| {
                                        <$type as $crate::wire::Wire>::read(reader, at.field(rules))
                                    })
                                    .map_err(|error| {
                                        error.within(concat!(stringify!($name), ".", stringify!($field)))
                                    })?;
                                continue;
                            }
                        })*
                        reader.skip(size)?;
                    }
                }
                Ok(Self { $($field),* })
            }

            fn write(
                &self,
                writer: &mut $crate::writer::Writer<'_>,
                at: $crate::wire::Format,
            ) -> Result<(), $crate::writer::EncodeError> {
                let mut tags: u32 = 0;
                $({
                    let rules = const { $crate::schema::Rules::ALWAYS $($( .$rule($($argument)?) )*)? };
                    if rules.is_inline(at.version) {
                        $crate::wire::Wire::write(&self.$field, writer, at.field(rules))
                            .map_err(|error| error.within(concat!(stringify!($name), ".", stringify!($field))))?;
                    } else if (rules.is_tagged(at.version) || !rules.ignorable)
                        && self.$field != default_of!($type $(, $default)?)
                    {
                        if !rules.is_tagged(at.version) {
                            return Err($crate::writer::EncodeError::NotInVersion {
                                field: concat!(stringify!($name), ".", stringify!($field)),
                                version: at.version,
                            });
                        }
                        tags = tags.wrapping_add(1);
                    }
                })*
                if !at.flexible {
                    return Ok(());
                }
                writer.varint(tags);
                $({
                    let rules = const { $crate::schema::Rules::ALWAYS $($( .$rule($($argument)?) )*)? };
                    if let Some(tag) = rules.tag
                        && rules.is_tagged(at.version)
                        && self.$field != default_of!($type $(, $default)?)
                    {
                        writer
                            .tagged(tag, |writer| {
                                $crate::wire::Wire::write(&self.$field, writer, at.field(rules))
                            })
                            .map_err(|error| error.within(concat!(stringify!($name), ".", stringify!($field))))?;
                    }
                })*
                Ok(())
            }

            fn plain(&self) -> $crate::schema::Plain {
                $crate::schema::Plain::Struct
            }
        }

        impl $crate::wire::Nullable for $name {
            fn read_nullable(
                reader: &mut $crate::reader::Reader,
                at: $crate::wire::Format,
            ) -> Result<Option<Self>, $crate::reader::DecodeError> {
                match reader.i8()? {
                    -1 => Ok(None),
                    1 => <Self as $crate::wire::Wire>::read(reader, at).map(Some),
                    byte => Err(reader.error($crate::reader::DecodeFault::BadPresence(byte))),
                }
            }

            fn write_null(
                writer: &mut $crate::writer::Writer<'_>,
                _at: $crate::wire::Format,
            ) -> Result<(), $crate::writer::EncodeError> {
                writer.i8(-1);
                Ok(())
            }

            fn write_some(
                &self,
                writer: &mut $crate::writer::Writer<'_>,
                at: $crate::wire::Format,
            ) -> Result<(), $crate::writer::EncodeError> {
                writer.i8(1);
                $crate::wire::Wire::write(self, writer, at)
            }

            fn null_bytes(_at: $crate::wire::Format) -> usize {
                1
            }
        }
    };
}

/// A message and the structures in it. See the module's documentation.
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident: $direction:ident of $key:literal, versions $min:literal..=$max:literal $(, flexible $flexible:literal..)?
        { $($body:tt)* }
        $( $(#[$inner_doc:meta])* $inner:ident { $($inner_body:tt)* } )*
    ) => {
        structure! { $(#[$doc])* $name { $($body)* } }

        impl $crate::message::Message for $name {
            const SCHEMA: $crate::schema::MessageSchema = $crate::schema::MessageSchema {
                key: $key,
                direction: $crate::schema::Direction::$direction,
                versions: $crate::schema::Versions { min: $min, max: $max },
                flexible_since: message!(@flexible $($flexible)?),
                root: match <Self as $crate::wire::Wire>::KIND {
                    $crate::schema::Kind::Struct(root) => root,
                    _ => unreachable!(),
                },
            };

            fn decode(
                reader: &mut $crate::reader::Reader,
                version: i16,
            ) -> Result<Self, $crate::reader::DecodeError> {
                let flexible = Self::SCHEMA.is_flexible(version);
                let at = $crate::wire::Format { version, flexible, nullable: false };
                <Self as $crate::wire::Wire>::read(reader, at)
            }

            fn encode(
                &self,
                writer: &mut $crate::writer::Writer<'_>,
                version: i16,
            ) -> Result<(), $crate::writer::EncodeError> {
                if !Self::SCHEMA.versions.contains(version) {
                    return Err($crate::writer::EncodeError::Version { message: stringify!($name), version });
                }
                let flexible = Self::SCHEMA.is_flexible(version);
                let at = $crate::wire::Format { version, flexible, nullable: false };
                $crate::wire::Wire::write(self, writer, at)
            }
        }

        $( structure! { $(#[$inner_doc])* $inner { $($inner_body)* } } )*
    };
    (@flexible) => { None };
    (@flexible $flexible:literal) => { Some($flexible) };
}
