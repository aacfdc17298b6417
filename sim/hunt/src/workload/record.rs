//! Records that name themselves: who sent them, which they are, and where to.
//!
//! ```text
//! client.number@topic-partition:filler
//! ```
//!
//! All of a value follows from its beginning and its length, so that damage anywhere in it shows.

use bytes::Bytes;

use crate::history::Value;

/// The bytes of a record with so much filler.
#[must_use]
pub fn encode(value: Value, topic: &str, partition: i32, filler: usize) -> Bytes {
    let label = format!("{}.{}@{topic}-{partition}:", value.client, value.number);
    let rest = label.bytes().cycle().skip(1).take(filler);
    Bytes::from_iter(label.bytes().chain(rest))
}

/// The key of a record of the Rust client; a third of them have none.
#[must_use]
pub fn key(value: Value) -> Option<Bytes> {
    let number = value.number;
    (!number.is_multiple_of(3)).then(|| Bytes::from(format!("k{}", number % 7)))
}

/// Which record this is.
///
/// # Errors
/// If nobody sent such a record to this partition.
pub fn decode(bytes: &[u8], topic: &str, partition: i32) -> Result<Value, String> {
    let parsed = || {
        let end = bytes.iter().position(|byte| *byte == b':')?;
        let label = core::str::from_utf8(&bytes[..end]).ok()?;
        let (value, _place) = label.split_once('@')?;
        let (client, number) = value.split_once('.')?;
        Some((Value { client: client.parse().ok()?, number: number.parse().ok()? }, end + 1))
    };
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    let (value, label_bytes) = parsed().ok_or_else(|| format!("nobody sent {:?}", shown()))?;
    if bytes != encode(value, topic, partition, bytes.len().saturating_sub(label_bytes)) {
        return Err(format!("{:?} ({} bytes) is not what was sent to {topic}-{partition}", shown(), bytes.len()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_by_its_bytes_and_no_bit_may_differ() {
        let value = Value { client: 3, number: 17 };
        for filler in [0, 1, 100] {
            let bytes = encode(value, "knots", 2, filler);
            assert_eq!(decode(&bytes, "knots", 2), Ok(value));
            assert!(decode(&bytes, "knots", 1).is_err() && decode(&bytes, "cords", 2).is_err());
            for position in 0..bytes.len() {
                let mut damaged = bytes.to_vec();
                damaged[position] ^= 1;
                assert_ne!(decode(&damaged, "knots", 2), Ok(value), "byte {position}");
            }
        }
    }
}
