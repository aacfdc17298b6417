//! What consumers of the classic protocol tell each other through the coordinator: Kafka's `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`, versions 0 to 3, big-endian, never flexible.
//!
//! ```text
//! subscription  version i16 | topics: count i32, each text | user data: length i32 (-1: none), bytes
//!               1: owned: count i32, each topic text, partitions: count i32, each i32 | 2: generation i32 | 3: rack text
//! assignment    version i16 | count i32, each topic text, partitions: count i32, each i32 | user data: length i32, bytes
//! text          length i16, UTF-8; -1 is none
//! ```
//!
//! `cooperative-sticky` repeats the generation in the user data (i32), where members before version 2 look for it.
//!
//! Invariants
//! - What another member sent never makes this panic, and allocates no more than it has bytes.
//! - A later version is read as version 3: fields are only ever added at the end.
//!
//! Not here: who assigns (`assign`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use quipu_base::PartitionIndex;

use crate::TopicPartition;

/// The version that is written, Kafka 4's.
const VERSION: i16 = 3;
/// No generation: the member has not been in the group before.
pub(crate) const NO_GENERATION: i32 = -1;

/// A consumer's subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Subscription {
    pub(crate) topics: BTreeSet<Arc<str>>,
    pub(crate) user_data: Option<Bytes>,
    /// What it reads and would keep.
    pub(crate) owned: BTreeSet<TopicPartition>,
    /// In which generation it was given that.
    pub(crate) generation: i32,
    pub(crate) rack: Option<String>,
}

impl Subscription {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        out.put_i32(count(self.topics.len()));
        self.topics.iter().for_each(|topic| put_text(&mut out, topic));
        put_bytes(&mut out, self.user_data.as_deref());
        put_partitions(&mut out, &self.owned);
        out.put_i32(self.generation);
        match &self.rack {
            Some(rack) => put_text(&mut out, rack),
            None => out.put_i16(-1),
        }
        out.freeze()
    }

    /// None if it is no subscription.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let version = reader.version()?;
        let mut topics = BTreeSet::new();
        for _ in 0..reader.count()? {
            topics.insert(reader.text()??.into());
        }
        let user_data = reader.bytes()?;
        let owned = if version >= 1 { reader.partitions()? } else { BTreeSet::new() };
        let generation = if version >= 2 { reader.int()? } else { generation_in(user_data.as_deref()) };
        let rack = if version >= 3 { reader.text()?.filter(|rack| !rack.is_empty()) } else { None };
        Some(Self { topics, user_data, owned, generation, rack: rack.map(str::to_owned) })
    }
}

/// The generation as `cooperative-sticky` writes it into the user data.
pub(crate) fn generation_data(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

fn generation_in(user_data: Option<&[u8]>) -> i32 {
    let bytes = user_data.and_then(|data| data.try_into().ok());
    bytes.map_or(NO_GENERATION, i32::from_be_bytes)
}

/// What a member is given.
pub(crate) fn encode_assignment(partitions: &BTreeSet<TopicPartition>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_partitions(&mut out, partitions);
    put_bytes(&mut out, None);
    out.freeze()
}

/// None if it is no assignment. No bytes at all are one that gives nothing.
pub(crate) fn decode_assignment(bytes: &[u8]) -> Option<BTreeSet<TopicPartition>> {
    if bytes.is_empty() {
        return Some(BTreeSet::new());
    }
    let mut reader = Reader(bytes);
    reader.version()?;
    reader.partitions()
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Topic names and racks are short: a broker refuses longer ones.
fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    out.put_i32(bytes.map_or(-1, |bytes| count(bytes.len())));
    out.put_slice(bytes.unwrap_or_default());
}

fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<TopicPartition>) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(partition.0);
    }
    out.put_i32(count(topics.len()));
    for (topic, numbers) in topics {
        put_text(out, topic);
        out.put_i32(count(numbers.len()));
        numbers.into_iter().for_each(|number| out.put_i32(number));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
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
    fn text(&mut self) -> Option<Option<&'a str>> {
        let length = self.short()?;
        let Ok(length) = usize::try_from(length) else { return (length == -1).then_some(None) };
        core::str::from_utf8(self.take(length)?).ok().map(Some)
    }

    fn bytes(&mut self) -> Option<Option<Bytes>> {
        let length = self.int()?;
        let Ok(length) = usize::try_from(length) else { return (length == -1).then_some(None) };
        self.take(length).map(|bytes| Some(Bytes::copy_from_slice(bytes)))
    }

    fn partitions(&mut self) -> Option<BTreeSet<TopicPartition>> {
        let mut found = BTreeSet::new();
        for _ in 0..self.count()? {
            let topic: Arc<str> = self.text()??.into();
            for _ in 0..self.count()? {
                found.insert(TopicPartition::new(Arc::clone(&topic), PartitionIndex(self.int()?)));
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(all: &[(&str, i32)]) -> BTreeSet<TopicPartition> {
        all.iter().map(|(topic, number)| TopicPartition::new(*topic, PartitionIndex(*number))).collect()
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: ["knots".into(), "cords".into()].into(),
            user_data: Some(generation_data(7)),
            owned: partitions(&[("knots", 0), ("knots", 2), ("cords", 1)]),
            generation: 7,
            rack: Some("a".to_owned()),
        }
    }

    #[test]
    fn a_subscription_is_laid_out_as_kafka_lays_it_out() {
        let expected: &[&[u8]] = &[
            &[0, 3, 0, 0, 0, 2, 0, 5],
            b"cords",
            &[0, 5],
            b"knots",
            &[0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 2, 0, 5],
            b"cords",
            &[0, 0, 0, 1, 0, 0, 0, 1, 0, 5],
            b"knots",
            &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 7, 0, 1],
            b"a",
        ];
        assert_eq!(subscription().encode(), expected.concat());
        assert_eq!(Subscription::decode(&subscription().encode()), Some(subscription()));
    }

    #[test]
    fn whoever_knows_less_is_understood() {
        // Version 0, as a client of long ago writes it.
        let old = [&[0, 0, 0, 0, 0, 1, 0, 5][..], b"knots", &[0xff, 0xff, 0xff, 0xff]].concat();
        let read = Subscription::decode(&old).unwrap();
        assert_eq!((read.topics.len(), read.owned.len(), read.generation), (1, 0, NO_GENERATION));
        // Version 1 with the generation in the user data.
        let sticky = [&[0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0][..]].concat();
        assert_eq!(Subscription::decode(&sticky).unwrap().generation, 9);
        // A later version with more at its end.
        let mut later = subscription().encode().to_vec();
        later[1] = 9;
        later.extend([1, 2, 3]);
        assert_eq!(Subscription::decode(&later), Some(subscription()));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_none() {
        let whole = subscription().encode();
        for length in 0..whole.len() {
            assert_eq!(Subscription::decode(&whole[..length]), None, "{length}");
        }
        let huge = [0, 3, 0x7f, 0xff, 0xff, 0xff];
        assert_eq!((Subscription::decode(&huge), decode_assignment(&huge)), (None, None));
    }

    #[test]
    fn assignments_come_back() {
        let given = partitions(&[("knots", 0), ("cords", 1)]);
        let bytes = encode_assignment(&given);
        assert_eq!(decode_assignment(&bytes), Some(given));
        assert_eq!(decode_assignment(&bytes[..5]), None);
        assert_eq!(decode_assignment(b""), Some(BTreeSet::new()));
    }
}
