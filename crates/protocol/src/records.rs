//! The `records` type: batches that pass through the codec untouched.

use bytes::Bytes;

/// A part of the records of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that are not here: whoever sends the frame puts them in its place, from a file.
    Hole {
        /// Which range, in the words of whoever made the hole.
        id: u32,
        /// How many bytes.
        length: u32,
    },
}

impl Piece {
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

/// The records of one partition: any number of whole batches, unparsed.
///
/// Decoded, it is one slice of the frame, which it keeps in memory. To be encoded, it may be many pieces; they are sent one
/// after the other.
#[derive(Clone, Debug, Default)]
pub struct Records(Repr);

#[derive(Clone, Debug)]
enum Repr {
    One(Bytes),
    Many(Vec<Piece>),
}

impl Default for Repr {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Records {
    /// No records: what a fetch answers when there are none (never null).
    pub const EMPTY: Self = Self(Repr::One(Bytes::new()));

    /// Bytes on the wire.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(bytes) => bytes.len(),
            Repr::Many(pieces) => pieces.iter().fold(0, |sum, piece| piece.len().saturating_add(sum)),
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are one span in memory: always so after decoding.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Repr::One(bytes) => Some(bytes),
            Repr::Many(_) => None,
        }
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_bytes(self) -> Option<Bytes> {
        match self.0 {
            Repr::One(bytes) => Some(bytes),
            Repr::Many(_) => None,
        }
    }

    /// Calls `take` with each piece, in order.
    pub(crate) fn for_each(&self, mut take: impl FnMut(Piece)) {
        match &self.0 {
            Repr::One(bytes) => take(Piece::Bytes(bytes.clone())),
            Repr::Many(pieces) => pieces.iter().cloned().for_each(take),
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::One(bytes))
    }
}

impl From<Vec<Piece>> for Records {
    fn from(pieces: Vec<Piece>) -> Self {
        Self(Repr::Many(pieces))
    }
}

impl PartialEq for Records {
    /// Whether both have the same bytes, however cut; a hole equals the same hole only.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::One(mine), Repr::One(others)) => mine == others,
            _ => self.joined() == other.joined(),
        }
    }
}

impl Records {
    fn joined(&self) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::new();
        self.for_each(|piece| match (joined.last_mut(), piece) {
            (_, piece) if piece.is_empty() => {}
            (Some(Piece::Bytes(last)), Piece::Bytes(bytes)) => {
                *last = [&last[..], &bytes[..]].concat().into();
            }
            (_, piece) => joined.push(piece),
        });
        joined
    }
}
