//! How often a request names each thing: one that it names twice is declined, and answered once.

use std::collections::BTreeMap;

pub(crate) struct Mentions<K>(BTreeMap<K, u32>);

/// What to do with an item of a request.
pub(crate) enum Mention {
    /// Named once: decide it.
    Only,
    /// Named again further on: decline it.
    First,
    /// Declined before.
    Again,
}

impl<K: Ord> Mentions<K> {
    pub(crate) fn count(keys: impl IntoIterator<Item = K>) -> Self {
        let mut counts = BTreeMap::new();
        for key in keys {
            *counts.entry(key).or_default() += 1;
        }
        Self(counts)
    }

    /// To be asked of each item in turn.
    pub(crate) fn take(&mut self, key: &K) -> Mention {
        match self.0.remove(key) {
            Some(1) => Mention::Only,
            Some(_) => Mention::First,
            None => Mention::Again,
        }
    }
}
