//! From one seed, a stream of random numbers for every purpose; and the hash that tells whether two runs were the same.
//!
//! Not here: madsim's own generator, which orders the ready tasks and is seeded with the same seed.

use quipu_env::Rng;
use rand::SeedableRng;

/// A hash over words. Not for adversaries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunHash(u64);

impl RunHash {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x51a9_7e3d_0c64_b28f)
    }

    /// Two rounds of multiply and shift: every bit of the input reaches every bit of the state.
    pub(crate) const fn word(&mut self, word: u64) {
        let mut mixed = self.0.rotate_left(23) ^ word;
        mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x9fb2_1c65_1e98_df25);
        mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.0 = mixed ^ (mixed >> 32);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

/// The hash of some bytes alone.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = RunHash::new(0);
    hash.bytes(bytes);
    hash.value()
}

/// The stream of random numbers of one run for one purpose, told apart further by numbers.
pub(crate) fn stream(seed: u64, purpose: &str, numbers: &[u64]) -> Rng {
    let mut hash = RunHash::new(seed);
    hash.bytes(purpose.as_bytes());
    for number in numbers {
        hash.word(*number);
    }
    let mut key = [0; 32];
    for chunk in key.chunks_mut(8) {
        hash.word(1);
        chunk.copy_from_slice(&hash.value().to_le_bytes());
    }
    Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_number_and_by_nothing_else() {
        let first = |seed, purpose, numbers: &[u64]| stream(seed, purpose, numbers).next_u64();
        let base = first(1, "a", &[1]);
        assert_eq!(base, first(1, "a", &[1]));
        for other in [first(2, "a", &[1]), first(1, "b", &[1]), first(1, "a", &[2]), first(1, "a", &[1, 0])] {
            assert_ne!(base, other);
        }
    }
}
