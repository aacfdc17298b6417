//! CRC-32C (Castagnoli), the one checksum of Kafka's record batches and of our own files.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    truncate(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC-32C of two pieces one after the other, from the checksum of each and the length of the second.
#[must_use]
pub fn crc32c_combine(first: u32, second: u32, second_length: u64) -> u32 {
    truncate(crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, first.into(), second.into(), second_length))
}

/// CRC-32C over bytes that arrive in pieces.
pub struct Crc32c(Digest);

impl Crc32c {
    /// Over nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces so far.
    #[must_use]
    pub fn finish(&self) -> u32 {
        truncate(self.0.finalize())
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a 32-bit CRC in a 64-bit answer")]
const fn truncate(crc: u64) -> u32 {
    crc as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_catalogue() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn combined_pieces_equal_the_whole() {
        let whole = b"123456789";
        for cut in 0..=whole.len() {
            let (first, second) = whole.split_at(cut);
            let combined = crc32c_combine(crc32c(first), crc32c(second), second.len() as u64);
            assert_eq!(combined, crc32c(whole), "cut at {cut}");
        }
    }

    #[test]
    fn pieces_equal_the_whole() {
        let mut crc = Crc32c::new();
        crc.update(b"1234");
        crc.update(b"");
        crc.update(b"56789");
        assert_eq!(crc.finish(), crc32c(b"123456789"));
    }
}
