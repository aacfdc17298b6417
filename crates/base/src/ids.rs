//! 128-bit identities, written as Kafka writes its UUIDs: 22 characters of URL-safe base64 without padding.

use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

use crate::PartitionIndex;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TEXT_LENGTH: usize = 22;

/// The text is not 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdParseError;

impl fmt::Display for IdParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 22 characters of URL-safe base64 (A-Z a-z 0-9 - _) that stand for 16 bytes")
    }
}

impl core::error::Error for IdParseError {}

fn encode(bytes: [u8; 16]) -> [u8; TEXT_LENGTH] {
    let value = u128::from_be_bytes(bytes);
    // 22 sextets hold 132 bits: the last one carries the 2 lowest bits of the value in its 2 highest.
    core::array::from_fn(|index| {
        let sextet = if index == TEXT_LENGTH - 1 { (value << 4) & 0x3f } else { (value >> (122 - 6 * index)) & 0x3f };
        ALPHABET[usize::try_from(sextet).expect("six bits")]
    })
}

fn decode(text: &str) -> Result<[u8; 16], IdParseError> {
    let text = text.as_bytes();
    if text.len() != TEXT_LENGTH {
        return Err(IdParseError);
    }
    let mut value: u128 = 0;
    for (index, character) in text.iter().enumerate() {
        let sextet = ALPHABET.iter().position(|known| known == character).ok_or(IdParseError)? as u128;
        value = if index == TEXT_LENGTH - 1 {
            if sextet & 0x0f != 0 {
                return Err(IdParseError);
            }
            (value << 2) | (sextet >> 4)
        } else {
            (value << 6) | sextet
        };
    }
    Ok(value.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// All zeros: "none" on the wire.
            pub const ZERO: Self = Self([0; 16]);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(core::str::from_utf8(&encode(self.0)).expect("base64 is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                decode(text).map(Self)
            }
        }
    };
}

id! {
    /// A topic's identity; a topic that is deleted and created again has another (KIP-516).
    TopicId
}
id! {
    /// A data directory's identity, made once when it is formatted (KIP-858).
    DirectoryId
}
id! {
    /// A cluster's identity, made once when its first metadata is written.
    ClusterId
}

id! {
    /// A client that sends metrics, for as long as it lives (KIP-714).
    ClientInstanceId
}

impl TopicId {
    /// The metadata log's topic (KIP-595 reserves this id): 00000000-0000-0000-0000-000000000001.
    pub const METADATA: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Its last eight bytes as a number: tells topics apart where only a number fits.
    #[must_use]
    pub const fn low(self) -> i64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// One partition of one topic, whatever the topic is called. Written `<topic id>-<partition>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TopicIdPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's number in it.
    pub partition: PartitionIndex,
}

impl TopicIdPartition {
    /// The only partition of the metadata log.
    pub const METADATA: Self = Self { topic_id: TopicId::METADATA, partition: PartitionIndex(0) };
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_matches_kafka() {
        // What Kafka's `Uuid.toString` gives for 00000000-0000-0000-0000-000000000001.
        assert_eq!(TopicId::METADATA.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for seed in 0_u8..=255 {
            let id = TopicId(core::array::from_fn(|index| {
                seed.wrapping_mul(31).wrapping_add(u8::try_from(index).expect("16").wrapping_mul(71))
            }));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAA!", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(text.parse::<TopicId>(), Err(IdParseError), "{text}");
        }
    }
}
