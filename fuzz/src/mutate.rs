//! Deterministic damage: the same seed gives the same mutations, on every machine.
//!
//! What a coverage-guided fuzzer finds is better; this is what an ordinary test can do in seconds, so that a parser that loses
//! a check fails at once.

/// A small generator of numbers (splitmix64). Not for anything but tests.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a size has at most 64 bits");
        usize::try_from(self.next() % bound).expect("below a size")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Numbers at which parsers go wrong.
const NUMBERS: [&[u8]; 12] = [
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xfe",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x08",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\x7f\xff",
    b"\x00\x00\x00\x01",
];
/// An input grows to at most this, in bytes.
const LENGTH_MAX: usize = 64 * 1024;

/// `input` with one to four damages. `other` is another input, from which pieces are taken.
#[must_use]
pub fn mutated(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        damage(random, &mut bytes, other);
    }
    bytes.truncate(LENGTH_MAX);
    bytes
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        bytes.push(random.byte());
        return;
    }
    // Most of a format's sense lies at its start.
    let near = if random.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
    let at = random.below(near);
    let length = 1 + random.below(near.min(32));
    let end = (at + length).min(bytes.len());
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.byte(),
        2 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let end = (at + number.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        3 => bytes[at] = bytes[at].wrapping_add(1).wrapping_sub(2 * u8::try_from(random.below(2)).expect("0 or 1")),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end)),
        6 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ if other.is_empty() => bytes[at] = 0,
        _ => {
            let from = random.below(other.len());
            let piece = &other[from..(from + length).min(other.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(seed: u64) -> Vec<Vec<u8>> {
        let mut random = Random::new(seed);
        (0..1000).map(|_| mutated(&mut random, b"an input of some bytes", b"another one")).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_mutations() {
        assert_eq!(many(1), many(1));
        assert_ne!(many(1), many(2));
    }

    #[test]
    fn mutations_differ_from_the_input_and_from_each_other() {
        let mut all = many(3);
        let unchanged = all.iter().filter(|mutation| mutation[..] == b"an input of some bytes"[..]).count();
        assert!(unchanged < 100, "{unchanged} of 1000 did nothing");
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 800, "{} of 1000 differ", all.len());
        assert!(!mutated(&mut Random::new(1), b"", b"").is_empty());
    }
}
