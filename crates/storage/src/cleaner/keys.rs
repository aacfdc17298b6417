//! The newest offset of each key, in memory of a fixed size: hashes of 128 bits in a table with open addressing.
//!
//! Two keys with the same hash would be taken for one, and a record lost. Hashes are keyed by 256 random bits that nobody outside
//! knows, so that this takes chance alone, once in 10^26 pairs of keys.
//!
//! Invariant: once [`Keys::add`] has said no, nothing is added any more.

use core::hash::Hasher;
use std::hash::DefaultHasher;

use quipu_base::Offset;

/// A key's hash, and its newest offset.
#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    offset: i64,
}

const FREE: Slot = Slot { hash: [0; 2], offset: -1 };
/// Of eight slots so many are used at most.
const USED_OF_EIGHT: usize = 6;
const SLOTS_MIN: usize = 16;

/// See the module.
pub(super) struct Keys {
    hashers: [DefaultHasher; 2],
    slots: Vec<Slot>,
    used: usize,
}

impl Keys {
    /// For at most `count` keys, in no more than `memory_bytes`. `secret` is drawn anew for each.
    pub(super) fn new(memory_bytes: usize, count: u64, secret: [u64; 4]) -> Self {
        let most = (memory_bytes / size_of::<Slot>()).max(SLOTS_MIN);
        let wanted = usize::try_from(count).unwrap_or(most).saturating_mul(8) / USED_OF_EIGHT + SLOTS_MIN;
        let hasher = |secret: &[u64]| {
            let mut hasher = DefaultHasher::new();
            secret.iter().for_each(|word| hasher.write_u64(*word));
            hasher
        };
        let hashers = [hasher(&secret[..2]), hasher(&secret[2..])];
        Self { hashers, slots: vec![FREE; wanted.min(most)], used: 0 }
    }

    /// Takes note of a record. False if there is no room for its key.
    pub(super) fn add(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let index = self.find(hash);
        let most = self.slots.len() / 8 * USED_OF_EIGHT;
        let slot = &mut self.slots[index];
        if slot.offset >= 0 {
            slot.offset = slot.offset.max(offset.0);
            return true;
        }
        if self.used == most {
            return false;
        }
        *slot = Slot { hash, offset: offset.0 };
        self.used += 1;
        true
    }

    /// The newest offset of a key, if it was met.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(self.hash(key))];
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| {
            let mut hasher = hasher.clone();
            hasher.write(key);
            hasher.finish()
        })
    }

    /// Where the hash is, or would be.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len() as u64;
        let mut index = usize::try_from(hash[0] % count).expect("it is below their number");
        while self.slots[index].offset >= 0 && self.slots[index].hash != hash {
            index = (index + 1) % self.slots.len();
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_is_kept_until_there_is_no_room() {
        let mut keys = Keys::new(100 * size_of::<Slot>(), u64::MAX, [1, 2, 3, 4]);
        let key = |number: i64| format!("key {number}").into_bytes();
        let mut count = 0;
        while keys.add(&key(count), Offset(count)) {
            count += 1;
        }
        assert_eq!(count, 72, "of 100 slots");
        assert!(keys.add(&key(7), Offset(1000)) && keys.add(&key(7), Offset(500)));
        for number in 0..count {
            let expected = if number == 7 { 1000 } else { number };
            assert_eq!(keys.newest(&key(number)), Some(Offset(expected)));
        }
        assert_eq!(keys.newest(&key(count)), None);
    }

    #[test]
    fn memory_is_taken_for_as_many_as_there_may_be() {
        let few = Keys::new(1 << 20, 10, [0; 4]);
        assert!(few.slots.len() < 64);
        let many = Keys::new(1 << 20, 1 << 40, [0; 4]);
        assert_eq!(many.slots.len(), (1 << 20) / size_of::<Slot>());
        assert!(Keys::new(0, 0, [0; 4]).add(b"", Offset(0)), "there is always room for some");
    }
}
