//! What consumers of the classic protocol tell each other, as far as the coordinator reads and writes it.
//!
//! ```text
//! subscription  version i16 | topics: count i32, each text | user data: length i32, bytes
//!               1: owned: count i32, each topic text, partitions: count i32, each i32 | 2: generation i32 | 3: rack text
//! assignment    version i16 | count i32, each topic text, partitions: count i32, each i32 | user data: length i32, bytes
//! text          length i16, UTF-8; -1 is none
//! ```
//!
//! Not here: who assigns (a member of the classic protocol, or `consumer`).

use std::collections::BTreeSet;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Partitions by topic.
pub(crate) type Named = Vec<(String, Vec<i32>)>;

/// A consumer's subscription.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Subscription {
    pub(crate) version: i16,
    pub(crate) topics: BTreeSet<String>,
    /// What it reads and would keep.
    pub(crate) owned: Named,
    pub(crate) rack: Option<String>,
}

/// The topics; none if it is no subscription of a consumer.
pub(crate) fn topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    Reader(metadata).start().map(|(_, topics)| topics)
}

/// All of a subscription; none if it is none.
pub(crate) fn parse(metadata: &[u8]) -> Option<Subscription> {
    let mut reader = Reader(metadata);
    let (version, topics) = reader.start()?;
    let mut subscription = Subscription { version, topics, ..Subscription::default() };
    reader.user_data()?;
    if version >= 1 {
        subscription.owned = reader.named()?;
    }
    if version >= 2 {
        reader.int()?;
    }
    if version >= 3 {
        subscription.rack = reader.text()?.filter(|rack| !rack.is_empty());
    }
    Some(subscription)
}

/// What an assignment gives; nothing if it is empty or none.
pub(crate) fn assigned(assignment: &[u8]) -> Named {
    let mut reader = Reader(assignment);
    reader.version().and_then(|_| reader.named()).unwrap_or_default()
}

/// An assignment that a consumer reads.
pub(crate) fn assignment(version: i16, named: &Named) -> Bytes {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    bytes.put_i32(count(named.len()));
    for (topic, partitions) in named {
        bytes.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(count(partitions.len()));
        partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn int(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok()
    }

    fn version(&mut self) -> Option<i16> {
        self.short().filter(|version| *version >= 0)
    }

    /// Some(None) is a text that is none.
    fn text(&mut self) -> Option<Option<String>> {
        let length = self.short()?;
        let Ok(length) = usize::try_from(length) else { return (length == -1).then_some(None) };
        let text = core::str::from_utf8(self.take(length)?).ok()?;
        Some(Some(text.to_owned()))
    }

    fn start(&mut self) -> Option<(i16, BTreeSet<String>)> {
        let version = self.version()?;
        let mut topics = BTreeSet::new();
        for _ in 0..self.count()? {
            topics.insert(self.text()??);
        }
        Some((version, topics))
    }

    fn user_data(&mut self) -> Option<()> {
        let length = self.int()?;
        self.take(usize::try_from(length).unwrap_or(0)).map(drop)
    }

    fn named(&mut self) -> Option<Named> {
        let mut named = Named::new();
        for _ in 0..self.count()? {
            let topic = self.text()??;
            let mut partitions = Vec::new();
            for _ in 0..self.count()? {
                partitions.push(self.int()?);
            }
            named.push((topic, partitions));
        }
        Some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_and_nonsense_is_not() {
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(topics(bytes), Some(BTreeSet::from(["a".to_owned(), "bc".to_owned()])));
        for cut in 0..13 {
            assert_eq!(topics(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(topics(b"\0\0\x7f\xff\xff\xff"), None);
        assert_eq!(topics(b"\xff\xff\0\0\0\0"), None);
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x01\xff"), None);
    }

    #[test]
    fn all_of_a_subscription_is_read() {
        let bytes =
            b"\0\x03\0\0\0\x01\0\x01a\0\0\0\x01u\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x05\0\x01r";
        let whole = parse(bytes).unwrap();
        assert_eq!((whole.version, whole.rack.as_deref()), (3, Some("r")));
        assert_eq!(whole.owned, [("a".to_owned(), vec![1, 2])]);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse(b"\0\0\0\0\0\0\xff\xff\xff\xff"), Some(Subscription::default()));
    }

    #[test]
    fn an_assignment_is_read_as_it_is_written() {
        let named = vec![("a".to_owned(), vec![0, 7]), ("b".to_owned(), vec![])];
        let bytes = assignment(1, &named);
        assert_eq!(&bytes[..], b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x01b\0\0\0\0\xff\xff\xff\xff");
        assert_eq!(assigned(&bytes), named);
        assert_eq!((assigned(b""), assigned(b"\0\0\0\0\0\x01")), (Named::new(), Named::new()));
    }
}
