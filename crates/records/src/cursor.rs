//! A cursor over the records' bytes: bounded slices and zigzag varints, as protobuf writes them.
//!
//! Invariant: no read goes past the end, and a failed read leaves nothing half-taken that a caller could use.
//!
//! Not here: what the fields mean ([`crate::record`]).

use crate::RecordFault;

/// The bytes not yet read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self) -> Result<u8, RecordFault> {
        let (&byte, rest) = self.rest.split_first().ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A zigzag varint of at most 32 bits.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<i32, RecordFault> {
        let raw = self.unsigned()?;
        let raw = u32::try_from(raw).map_err(|_| RecordFault::Varint)?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// A zigzag varint of at most 64 bits.
    #[inline(always)]
    pub(crate) fn varlong(&mut self) -> Result<i64, RecordFault> {
        let raw = self.unsigned()?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// Most varints of a record have one byte, nearly all others two.
    #[inline(always)]
    fn unsigned(&mut self) -> Result<u64, RecordFault> {
        match *self.rest {
            [low, ref rest @ ..] if low < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | (u64::from(high) << 7))
            }
            _ => self.unsigned_long(),
        }
    }

    #[inline(never)]
    fn unsigned_long(&mut self) -> Result<u64, RecordFault> {
        let mut value = 0_u64;
        let mut rest = self.rest;
        for shift in [0_u32, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let (&byte, after) = rest.split_first().ok_or(RecordFault::Truncated)?;
            rest = after;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.wrapping_shl(shift);
            if shifted.wrapping_shr(shift) != bits {
                return Err(RecordFault::Varint);
            }
            value |= shifted;
            if byte < 0x80 {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(RecordFault::Varint)
    }
}

/// Appends a zigzag varint.
pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(low_byte(raw) | 0x80);
        raw >>= 7;
    }
    out.push(low_byte(raw));
}

/// Bytes that [`put_varlong`] appends.
pub(crate) const fn varlong_bytes(value: i64) -> usize {
    // One byte per seven bits begun; 0 takes one as well.
    let bits = u64::BITS.saturating_sub((zigzag(value) | 1).leading_zeros());
    bits.div_ceil(7) as usize
}

const fn low_byte(raw: u64) -> u8 {
    let [low, ..] = raw.to_le_bytes();
    low
}

const fn zigzag(value: i64) -> u64 {
    (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    #[test]
    fn values_of_the_protobuf_documentation() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-2, &[3]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (8191, &[0xfe, 0x7f]),
            (8192, &[0x80, 0x80, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert_eq!(encoded(value), bytes, "{value}");
            assert_eq!(Cursor::new(bytes).varlong(), Ok(value));
            let narrow = i32::try_from(value).map_err(|_| RecordFault::Varint);
            assert_eq!(Cursor::new(bytes).varint(), narrow);
        }
    }

    #[test]
    fn a_failed_read_takes_nothing() {
        let mut cursor = Cursor::new(&[0x80, 0x80]);
        assert_eq!(cursor.varlong(), Err(RecordFault::Truncated));
        assert_eq!(cursor.take(3), Err(RecordFault::Truncated));
        assert_eq!(cursor.rest(), [0x80, 0x80]);
        assert_eq!(Cursor::new(&[]).byte(), Err(RecordFault::Truncated));
    }

    #[test]
    fn more_bits_than_the_type_are_refused() {
        assert_eq!(Cursor::new(&[0xff; 10]).varlong(), Err(RecordFault::Varint));
        let two_to_the_64th = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
        assert_eq!(Cursor::new(&two_to_the_64th).varlong(), Err(RecordFault::Varint));
        let two_to_the_32nd = [0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(Cursor::new(&two_to_the_32nd).varint(), Err(RecordFault::Varint));
        assert_eq!(Cursor::new(&two_to_the_32nd).varlong(), Ok(1 << 31));
    }

    proptest! {
        #[test]
        fn any_value_round_trips(value in any::<i64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), varlong_bytes(value));
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert!(cursor.rest().is_empty());
            for length in 0..bytes.len() {
                prop_assert_eq!(Cursor::new(&bytes[..length]).varlong(), Err(RecordFault::Truncated));
            }
        }
    }
}
