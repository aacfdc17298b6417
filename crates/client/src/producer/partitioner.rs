//! Which partition a record goes to, as Kafka's Java client chooses: by a hash of the key, or, without a key, one partition for a
//! batch's worth of bytes and then another (KIP-480, KIP-794).
//!
//! Not here: the adaptive part of KIP-794 (partitions of slow brokers chosen less often).

use quipu_base::PartitionIndex;
use quipu_env::Rng;
use rand::RngExt;

/// 32-bit Murmur 2 as Kafka has it, with its seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let length = u32::try_from(data.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (position, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * position);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a key, of `count` in all: those without a leader count as well.
///
/// # Panics
/// If `count` is 0.
#[must_use]
pub fn partition_for_key(key: &[u8], count: u32) -> PartitionIndex {
    let index = (murmur2(key) & 0x7fff_ffff) % count;
    PartitionIndex(i32::try_from(index).expect("31 bits"))
}

/// The partition of records without a key.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sticky {
    current: Option<usize>,
    bytes: usize,
}

impl Sticky {
    /// Where a record of `bytes` goes: where the last one went, unless it has had `batch_bytes` by now. `usable` says which of the
    /// `count` partitions have a leader.
    pub(crate) fn choose(
        &mut self,
        bytes: usize,
        batch_bytes: usize,
        count: usize,
        usable: impl Fn(usize) -> bool,
        rng: &mut Rng,
    ) -> usize {
        let kept = self.current.filter(|current| *current < count && self.bytes < batch_bytes && usable(*current));
        let chosen = kept.unwrap_or_else(|| {
            self.bytes = 0;
            let first = rng.random_range(0..count);
            (first..count).chain(0..first).find(|partition| usable(*partition)).unwrap_or(first)
        });
        self.current = Some(chosen);
        self.bytes = self.bytes.saturating_add(bytes);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn hashes_are_kafkas() {
        // As Kafka's own tests have them, as signed numbers.
        for (key, hash) in [
            (&b"21"[..], -973_932_308_i32),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key).cast_signed(), hash, "{:?}", core::str::from_utf8(key));
        }
    }

    #[test]
    fn a_key_has_one_partition() {
        assert_eq!(partition_for_key(b"21", 100), PartitionIndex((-973_932_308_i32 & 0x7fff_ffff) % 100));
        assert_eq!(partition_for_key(b"", 1), PartitionIndex(0));
    }

    #[test]
    fn records_without_a_key_stay_for_a_batch_and_then_move_on() {
        let mut rng = Rng::seed_from_u64(3);
        let mut sticky = Sticky::default();
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let first = sticky.choose(60, 100, 5, |partition| partition != 2, &mut rng);
            let second = sticky.choose(60, 100, 5, |partition| partition != 2, &mut rng);
            assert_eq!(first, second);
            seen.insert(first);
        }
        assert_eq!(seen, BTreeSet::from([0, 1, 3, 4]));
    }

    #[test]
    fn without_any_leader_some_partition_is_chosen() {
        let mut rng = Rng::seed_from_u64(3);
        assert!(Sticky::default().choose(1, 100, 3, |_| false, &mut rng) < 3);
    }

    #[test]
    fn partitions_that_are_gone_are_left() {
        let mut rng = Rng::seed_from_u64(3);
        let mut sticky = Sticky { current: Some(7), bytes: 0 };
        assert!(sticky.choose(1, 100, 2, |_| true, &mut rng) < 2);
    }
}
