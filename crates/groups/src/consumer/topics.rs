//! What groups know of topics: names, ids, partitions, racks; and Kafka's hash over it, by which a change is noticed.
//!
//! ```text
//! topic  xxh3-64 of: 0x00 | id's upper and lower half u64 | name | partitions i32 | each: index i32 | each rack, sorted: length i32, rack
//! group  xxh3-64 of: the topics' hashes, in the order of their names; 0 without topics
//! text   UTF-16 units, then their number i32; all numbers are little-endian
//! ```
//!
//! Source: `Utils.computeTopicHash` and `computeGroupHash` of Kafka 4.4, over hash4j.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::OrdMap;
use quipu_base::TopicId;
use twox_hash::XxHash3_64;

/// One topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// For each partition, the racks of its replicas, as far as they are known.
    pub racks: Vec<BTreeSet<Arc<str>>>,
}

/// All topics at one moment. A clone costs nothing.
#[derive(Clone, Default, Debug)]
pub struct Topics {
    version: i64,
    topics: OrdMap<Arc<str>, Arc<Topic>>,
    names: OrdMap<TopicId, Arc<str>>,
}

impl Topics {
    /// `version`: of the metadata, which grows with every change.
    #[must_use]
    pub fn new(version: i64, topics: BTreeMap<Arc<str>, Topic>) -> Self {
        let names = topics.iter().map(|(name, topic)| (topic.id, Arc::clone(name))).collect();
        Self { version, topics: topics.into_iter().map(|(name, topic)| (name, Arc::new(topic))).collect(), names }
    }

    /// A topic is new, or another than before.
    pub fn insert(&mut self, name: Arc<str>, topic: Topic) {
        if let Some(before) = self.topics.get(&name) {
            self.names.remove(&before.id);
        }
        self.names.insert(topic.id, Arc::clone(&name));
        self.topics.insert(name, Arc::new(topic));
    }

    /// A topic is gone.
    pub fn remove(&mut self, id: TopicId) {
        if let Some(name) = self.names.remove(&id) {
            self.topics.remove(&name);
        }
    }

    /// All of this is so as of that version of the metadata.
    pub fn set_version(&mut self, version: i64) {
        self.version = version;
    }

    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    /// The topic of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name).map(Arc::as_ref)
    }

    pub(crate) fn name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// The hash over those of `names` that exist.
    pub(crate) fn hash<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) -> i64 {
        let known = names.filter_map(|name| self.topics.get(name).map(|topic| topic_hash(name, topic)));
        let bytes: Vec<u8> = known.flat_map(u64::to_le_bytes).collect();
        if bytes.is_empty() { 0 } else { XxHash3_64::oneshot(&bytes).cast_signed() }
    }
}

fn topic_hash(name: &str, topic: &Topic) -> u64 {
    let mut bytes = vec![0];
    let (upper, lower) = topic.id.0.split_at(8);
    for half in [upper, lower] {
        bytes.extend(half.iter().rev());
    }
    put_text(&mut bytes, name);
    put_count(&mut bytes, topic.racks.len());
    for (index, racks) in topic.racks.iter().enumerate() {
        put_count(&mut bytes, index);
        for rack in racks {
            put_count(&mut bytes, rack.encode_utf16().count());
            put_text(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    put_count(bytes, text.encode_utf16().count());
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(i32::try_from(count).unwrap_or(i32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(partitions: usize, rack: &str) -> Topic {
        Topic { id: TopicId([7; 16]), racks: vec![BTreeSet::from([rack.into()]); partitions] }
    }

    #[test]
    fn a_topic_made_anew_has_one_id() {
        let of = |id| Topic { id: TopicId([id; 16]), racks: Vec::new() };
        let mut topics = Topics::new(1, BTreeMap::from([("a".into(), of(1))]));
        topics.insert("a".into(), of(2));
        assert_eq!(
            (topics.name(TopicId([1; 16])), topics.get("a").map(|topic| topic.id)),
            (None, Some(TopicId([2; 16])))
        );
        topics.remove(TopicId([1; 16]));
        assert!(topics.get("a").is_some());
        topics.remove(TopicId([2; 16]));
        assert!(topics.get("a").is_none() && topics.names().count() == 0);
    }

    #[test]
    fn a_hash_changes_with_everything_that_matters_and_only_with_it() {
        let topics = |name: &str, topic: Topic| Topics::new(1, BTreeMap::from([(name.into(), topic)]));
        let names: Vec<Arc<str>> = vec!["a".into(), "b".into(), "ab".into()];
        let hash = |topics: &Topics| topics.hash(names.iter());
        let base = hash(&topics("a", topic(2, "r")));
        assert_eq!(base, hash(&topics("a", topic(2, "r"))));
        assert_ne!(base, hash(&topics("b", topic(2, "r"))));
        assert_ne!(base, hash(&topics("a", topic(3, "r"))));
        assert_ne!(base, hash(&topics("a", topic(2, "s"))));
        assert_ne!(base, hash(&topics("a", Topic { id: TopicId([8; 16]), ..topic(2, "r") })));
        assert_eq!(hash(&Topics::default()), 0);
        assert_eq!(hash(&topics("unread", topic(1, "r"))), 0);
    }
}
