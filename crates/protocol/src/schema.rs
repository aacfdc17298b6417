//! What a declaration says, as data: for the comparison with Kafka's own schemas, and for tools that print or generate messages.

/// The versions `min..=max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// The first.
    pub min: i16,
    /// The last.
    pub max: i16,
}

impl Versions {
    /// Whether `version` is one of them.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Client to broker.
    Request,
    /// Broker to client.
    Response,
    /// Key or value of a record in an internal topic.
    Record,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct MessageSchema {
    /// Kafka's number of the API.
    pub key: i16,
    /// Which of the two it is.
    pub direction: Direction,
    /// The versions that are declared.
    pub versions: Versions,
    /// From which version on the compact encodings and tagged fields are used; none if never.
    pub flexible_since: Option<i16>,
    /// Its fields.
    pub root: &'static StructSchema,
}

impl MessageSchema {
    /// Whether `version` uses compact encodings and tagged fields.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        match self.flexible_since {
            Some(since) => version >= since,
            None => false,
        }
    }
}

/// The fields of a message, or of an element in it.
#[derive(Clone, Copy, Debug)]
pub struct StructSchema {
    /// Kafka's name.
    pub name: &'static str,
    /// In the order of the wire.
    pub fields: &'static [FieldSchema],
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct FieldSchema {
    /// Kafka's name in snake case.
    pub name: &'static str,
    /// Its type on the wire.
    pub kind: Kind,
    /// In which versions, and how.
    pub rules: Rules,
    /// Its value where the version does not carry it.
    pub default: fn() -> Plain,
}

/// A type on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// A signed byte.
    Int8,
    /// Big-endian, signed.
    Int16,
    /// Big-endian, unsigned.
    Uint16,
    /// Big-endian, signed.
    Int32,
    /// Big-endian, signed.
    Int64,
    /// IEEE 754, big-endian.
    Float64,
    /// 16 bytes.
    Uuid,
    /// Length and UTF-8.
    String,
    /// Length and bytes.
    Bytes,
    /// Length and record batches.
    Records,
    /// Count and elements.
    Array(&'static Kind),
    /// Its fields, one after the other.
    Struct(&'static StructSchema),
}

/// A value that a default can have.
#[derive(Clone, PartialEq, Debug)]
pub enum Plain {
    /// Null.
    Null,
    /// A truth value.
    Bool(bool),
    /// Any integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// A string.
    Text(String),
    /// An id.
    Uuid([u8; 16]),
    /// Bytes, records or an array, with its length.
    Sequence(usize),
    /// A structure.
    Struct,
}

/// In which versions a field exists, and how it is written there. Built by the words of a declaration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The versions that carry it.
    pub versions: Versions,
    /// From which version on it may be null; none if never.
    pub nullable_since: Option<i16>,
    /// Its tag, if it is a tagged field.
    pub tag: Option<u32>,
    /// Whether a value may be dropped silently where the version does not carry it.
    pub ignorable: bool,
}

impl Rules {
    /// In all versions, never null, not tagged, not ignorable.
    pub const ALWAYS: Self =
        Self { versions: Versions { min: 0, max: i16::MAX }, nullable_since: None, tag: None, ignorable: false };

    /// From this version on.
    #[must_use]
    pub const fn since(mut self, version: i16) -> Self {
        self.versions.min = version;
        self
    }

    /// Up to and including this version.
    #[must_use]
    pub const fn until(mut self, version: i16) -> Self {
        self.versions.max = version;
        self
    }

    /// May be null wherever it exists.
    #[must_use]
    pub const fn nullable(self) -> Self {
        self.nullable_since(0)
    }

    /// May be null from this version on.
    #[must_use]
    pub const fn nullable_since(mut self, version: i16) -> Self {
        self.nullable_since = Some(version);
        self
    }

    /// Is a tagged field: left out when it has its default.
    #[must_use]
    pub const fn tag(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    /// A version that does not carry it drops its value; without this, such a value is an error.
    #[must_use]
    pub const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    /// Whether `version` carries it among the fields in order.
    #[must_use]
    pub const fn is_inline(&self, version: i16) -> bool {
        self.tag.is_none() && self.versions.contains(version)
    }

    /// Whether `version` carries it as a tagged field.
    #[must_use]
    pub const fn is_tagged(&self, version: i16) -> bool {
        self.tag.is_some() && self.versions.contains(version)
    }

    /// Whether it may be null at `version`.
    #[must_use]
    pub const fn is_nullable(&self, version: i16) -> bool {
        match self.nullable_since {
            Some(since) => version >= since,
            None => false,
        }
    }
}
