//! OpenTelemetry's `MetricsData` (v1), as far as it is needed: which metrics, and how many data points of each.
//!
//! ```text
//! MetricsData     1 resource_metrics: ResourceMetrics *
//! ResourceMetrics 2 scope_metrics: ScopeMetrics *
//! ScopeMetrics    2 metrics: Metric *
//! Metric          1 name: text; 5 gauge, 7 sum, 9 histogram, 10 exponential histogram, 11 summary: Data
//! Data            1 data points *
//! ```
//!
//! Protobuf: fields of a tag (number << 3 | kind, as a varint) and a value; kinds 0 varint, 1 eight bytes, 2 length and bytes, 5
//! four bytes. Fields of other numbers are passed over.
//!
//! Invariant: whatever the bytes, reading them takes time and memory in proportion to their number.

use std::collections::BTreeMap;

/// Names longer than this are no metric's.
const NAME_BYTES_MAX: usize = 255;

/// Data points by the metric's name; none if it is no such message.
pub(super) fn points_by_name(bytes: &[u8]) -> Option<BTreeMap<String, u64>> {
    let mut points = BTreeMap::new();
    for resource in messages(bytes, &[1])? {
        for scope in messages(resource, &[2])? {
            for metric in messages(scope, &[2])? {
                let name = messages(metric, &[1])?.last().copied().unwrap_or_default();
                let name = core::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_BYTES_MAX)?;
                let count = points.entry(name.to_owned()).or_insert(0);
                for data in messages(metric, &[5, 7, 9, 10, 11])? {
                    *count += u64::try_from(messages(data, &[1])?.len()).ok()?;
                }
            }
        }
    }
    Some(points)
}

/// The values of the fields with these numbers, all of which have a length.
fn messages<'a>(mut bytes: &'a [u8], numbers: &[u64]) -> Option<Vec<&'a [u8]>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let is_wanted = numbers.contains(&(tag >> 3));
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(length)?;
        if is_wanted {
            if tag & 7 != 2 {
                return None;
            }
            found.push(value);
        }
        bytes = rest;
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(value.len() & 0x7f).unwrap() | 0x80];
        bytes.push(u8::try_from(value.len() >> 7).unwrap());
        bytes.extend_from_slice(value);
        bytes
    }

    /// A message with so many data points of one metric.
    pub(crate) fn message(name: &str, kind: u8, points: usize) -> Vec<u8> {
        // A point with a time (fixed64, 3) and a count (varint, 6).
        let point = field(1, &[3 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, 6 << 3, 0x96, 0x01]);
        let metric = [field(1, name.as_bytes()), field(3, b"ms"), field(kind, &point.repeat(points))].concat();
        field(1, &[field(1, b""), field(2, &[field(1, b""), field(2, &metric)].concat())].concat())
    }

    #[test]
    fn points_are_counted_by_name_over_all_kinds() {
        let bytes = [message("a", 5, 2), message("b", 7, 1), message("a", 9, 3), message("c", 11, 0)].concat();
        let points = points_by_name(&bytes).unwrap();
        let expected = [("a", 5), ("b", 1), ("c", 0)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(points, BTreeMap::from(expected));
        assert_eq!(points_by_name(&[]), Some(BTreeMap::new()));
    }

    #[test]
    fn what_is_cut_or_random_is_no_message_and_no_panic() {
        let bytes = message("some.metric", 10, 3);
        for length in 1..bytes.len() {
            assert_eq!(points_by_name(&bytes[..length]), None, "cut at {length}");
        }
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << bit;
                drop(points_by_name(&flipped));
            }
        }
        assert_eq!(points_by_name(&[0xff; 40]), None);
        assert_eq!(points_by_name(&message(&"n".repeat(256), 5, 1)), None);
    }
}
