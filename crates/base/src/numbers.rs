//! Newtypes around the plain integers of Kafka's protocol. The wrapped value is the wire value.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl $name {
            /// The wire value.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A record's logical position in its partition: dense, from 0, never reused.
    Offset(i64)
}
number! {
    /// Counts the leaderships of one partition; rises at every election and at every start of the leader.
    LeaderEpoch(i32)
}
number! {
    /// Counts the leaderships of the metadata quorum.
    ControllerEpoch(i32)
}
number! {
    /// One registration of a broker: the offset of its registration record in the metadata log.
    BrokerEpoch(i64)
}
number! {
    /// A node's configured id (`node_id`), at least 0.
    BrokerId(i32)
}
number! {
    /// A partition's number inside its topic, from 0.
    PartitionIndex(i32)
}
number! {
    /// A producer's id, given out in blocks by the controller; -1 is none.
    ProducerId(i64)
}
number! {
    /// Fences earlier instances of the same producer id; -1 is none.
    ProducerEpoch(i16)
}
number! {
    /// Numbers one producer's records in one partition; wraps from `i32::MAX` to 0; -1 is none.
    Sequence(i32)
}
number! {
    /// Wall-clock milliseconds since 1970-01-01 UTC; -1 is none.
    Timestamp(i64)
}

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on, or none past `i64::MAX`.
    #[must_use]
    pub const fn checked_add(self, count: u32) -> Option<Self> {
        match self.0.checked_add(count as i64) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The offset of the record after this one. Saturates at `i64::MAX`, which no record can have.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Records from `earlier` up to this offset, 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn records_since(self, earlier: Self) -> u64 {
        if self.0 > earlier.0 { self.0.abs_diff(earlier.0) } else { 0 }
    }
}

impl LeaderEpoch {
    /// "No epoch" on the wire.
    pub const NONE: Self = Self(-1);

    /// The epoch of the next leadership.
    ///
    /// # Panics
    /// After two thousand million leaderships of one partition.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a partition has had i32::MAX leaderships"))
    }
}

impl ProducerId {
    /// "No producer id" on the wire: the batch is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// "No producer epoch" on the wire.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// "No sequence" on the wire.
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records further on, wrapping from `i32::MAX` to 0.
    #[must_use]
    pub const fn advance(self, count: u32) -> Self {
        // Widened, so that neither the sum nor the mask can overflow; the mask keeps 31 bits, which is modulo 2^31.
        let sum = self.0 as i64 + count as i64;
        Self((sum & 0x7fff_ffff) as i32)
    }
}

impl Timestamp {
    /// "No timestamp" on the wire.
    pub const NONE: Self = Self(-1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(Sequence(i32::MAX).advance(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).advance(4), Sequence(2));
        assert_eq!(Sequence(7).advance(0), Sequence(7));
    }

    #[test]
    fn offsets_count_records() {
        assert_eq!(Offset(9).records_since(Offset(4)), 5);
        assert_eq!(Offset(4).records_since(Offset(9)), 0);
        assert_eq!(Offset(i64::MAX).checked_add(1), None);
    }
}
