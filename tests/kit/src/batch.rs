//! Record batches (magic 2), written and read independently of the product's own codec.
//!
//! ```text
//! base offset i64 | length i32 | leader epoch i32 | magic i8 | CRC-32C u32 | attributes i16 | last offset delta i32
//! | base timestamp i64 | max timestamp i64 | producer id i64 | producer epoch i16 | base sequence i32 | count i32 | records
//! ```
//!
//! All big-endian. `length` counts what follows it; the CRC covers everything after itself. Only uncompressed records are
//! read and written here: compression is what real clients are for. Read [`crate::wire`] next.

use crate::{Failure, Result};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what the length field counts.
pub const LENGTH_END: usize = 12;

/// Who produced a batch: producer id, epoch and the sequence of the first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Producer id, -1 for none.
    pub id: i64,
    /// Its epoch, -1 for none.
    pub epoch: i16,
    /// Sequence of the batch's first record, -1 for none.
    pub sequence: i32,
}

impl Producer {
    /// No idempotence.
    pub const NONE: Self = Self { id: -1, epoch: -1, sequence: -1 };
}

/// The fields of a batch header that tests look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Leader epoch at which the broker appended it.
    pub leader_epoch: i32,
    /// Attributes: codec in the low three bits, bit 3 for log append time.
    pub attributes: i16,
    /// Largest timestamp, milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// Who wrote it.
    pub producer: Producer,
    /// Records in it.
    pub count: i32,
    /// The whole batch's size.
    pub bytes: usize,
}

impl Header {
    /// The codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes & 7
    }
}

/// An uncompressed batch of records without keys, base offset 0, ready for a Produce request.
pub fn build<V: AsRef<[u8]>>(values: &[V], timestamp_ms: i64, producer: Producer) -> Vec<u8> {
    let mut records = Vec::new();
    for (delta, value) in values.iter().enumerate() {
        put_record(&mut records, i64::try_from(delta).expect("a batch holds few records"), value.as_ref());
    }
    let count = i32::try_from(values.len()).expect("a batch holds few records");
    let mut covered = Vec::with_capacity(HEADER_BYTES + records.len());
    covered.extend_from_slice(&0_i16.to_be_bytes());
    covered.extend_from_slice(&(count - 1).to_be_bytes());
    covered.extend_from_slice(&timestamp_ms.to_be_bytes());
    covered.extend_from_slice(&timestamp_ms.to_be_bytes());
    covered.extend_from_slice(&producer.id.to_be_bytes());
    covered.extend_from_slice(&producer.epoch.to_be_bytes());
    covered.extend_from_slice(&producer.sequence.to_be_bytes());
    covered.extend_from_slice(&count.to_be_bytes());
    covered.extend_from_slice(&records);

    let mut batch = Vec::with_capacity(LENGTH_END + 9 + covered.len());
    batch.extend_from_slice(&0_i64.to_be_bytes());
    let length = i32::try_from(9 + covered.len()).expect("a batch is smaller than 2 GiB");
    batch.extend_from_slice(&length.to_be_bytes());
    batch.extend_from_slice(&0_i32.to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&crc32c(&covered).to_be_bytes());
    batch.extend_from_slice(&covered);
    batch
}

/// The headers of the whole batches in `bytes`; a partial batch at the end is left out, as clients do.
pub fn headers(bytes: &[u8]) -> Result<Vec<Header>> {
    let mut found = Vec::new();
    for batch in split(bytes)? {
        found.push(header(batch)?);
    }
    Ok(found)
}

/// Offset and value of every record in `bytes`. Errors: a compressed batch, a bad CRC, anything malformed.
pub fn records(bytes: &[u8]) -> Result<Vec<(i64, Vec<u8>)>> {
    let mut found = Vec::new();
    for batch in split(bytes)? {
        let header = header(batch)?;
        if header.codec() != 0 {
            return Err(Failure::new(format!("batch at offset {} is compressed", header.base_offset)));
        }
        let stored = u32::from_be_bytes(take(batch, 17)?);
        if stored != crc32c(&batch[21..]) {
            return Err(Failure::new(format!("batch at offset {} has a bad CRC", header.base_offset)));
        }
        let mut rest = &batch[HEADER_BYTES..];
        for _ in 0..header.count {
            let (delta, value) = take_record(&mut rest)?;
            found.push((header.base_offset + delta, value));
        }
    }
    Ok(found)
}

/// CRC-32C of `bytes`, a byte at a time: an independent check, not a fast one.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc32c_table();
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

const fn crc32c_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0_u32;
    while index < 256 {
        let mut crc = index;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
}

fn split(mut bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let mut batches = Vec::new();
    while bytes.len() >= LENGTH_END {
        let length = i32::from_be_bytes(take(bytes, 8)?);
        let length = usize::try_from(length).map_err(Failure::context("negative batch length"))?;
        if length < HEADER_BYTES - LENGTH_END {
            return Err(Failure::new(format!("a batch of {length} bytes is too short for its header")));
        }
        let Some((batch, rest)) = bytes.split_at_checked(LENGTH_END + length) else { break };
        batches.push(batch);
        bytes = rest;
    }
    Ok(batches)
}

fn header(batch: &[u8]) -> Result<Header> {
    if batch[16] != 2 {
        return Err(Failure::new(format!("magic {} where 2 was expected", batch[16])));
    }
    Ok(Header {
        base_offset: i64::from_be_bytes(take(batch, 0)?),
        leader_epoch: i32::from_be_bytes(take(batch, 12)?),
        attributes: i16::from_be_bytes(take(batch, 21)?),
        max_timestamp_ms: i64::from_be_bytes(take(batch, 35)?),
        producer: Producer {
            id: i64::from_be_bytes(take(batch, 43)?),
            epoch: i16::from_be_bytes(take(batch, 51)?),
            sequence: i32::from_be_bytes(take(batch, 53)?),
        },
        count: i32::from_be_bytes(take(batch, 57)?),
        bytes: batch.len(),
    })
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..at + N).ok_or_else(|| Failure::new(format!("batch ends before byte {}", at + N)))?;
    Ok(field.try_into().expect("the range has N bytes"))
}

fn put_record(out: &mut Vec<u8>, delta: i64, value: &[u8]) {
    let mut body = vec![0];
    put_varint(&mut body, 0);
    put_varint(&mut body, delta);
    put_varint(&mut body, -1);
    put_varint(&mut body, i64::try_from(value.len()).expect("a value is smaller than 2 GiB"));
    body.extend_from_slice(value);
    put_varint(&mut body, 0);
    put_varint(out, i64::try_from(body.len()).expect("a record is smaller than 2 GiB"));
    out.extend_from_slice(&body);
}

fn take_record(rest: &mut &[u8]) -> Result<(i64, Vec<u8>)> {
    let length = take_length(rest)?.ok_or_else(|| Failure::new("a record of negative length"))?;
    let (mut body, after) =
        rest.split_at_checked(length).ok_or_else(|| Failure::new("a record runs past its batch"))?;
    *rest = after;
    body = body.get(1..).ok_or_else(|| Failure::new("an empty record"))?;
    take_varint(&mut body)?;
    let delta = take_varint(&mut body)?;
    if let Some(key) = take_length(&mut body)? {
        body = body.get(key..).ok_or_else(|| Failure::new("a key runs past its record"))?;
    }
    let value = match take_length(&mut body)? {
        None => Vec::new(),
        Some(length) => body.get(..length).ok_or_else(|| Failure::new("a value runs past its record"))?.to_vec(),
    };
    Ok((delta, value))
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag.to_le_bytes()[0]);
}

/// A length, or `None` for -1 (null).
fn take_length(bytes: &mut &[u8]) -> Result<Option<usize>> {
    let length = take_varint(bytes)?;
    if length == -1 { Ok(None) } else { usize::try_from(length).map(Some).map_err(Failure::context("bad length")) }
}

fn take_varint(bytes: &mut &[u8]) -> Result<i64> {
    let mut zigzag = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(|| Failure::new("a number runs past its record"))?;
        *bytes = rest;
        zigzag |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
        }
    }
    Err(Failure::new("a number of more than ten bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_built_reads_back() {
        let values = [b"".to_vec(), b"one".to_vec(), vec![7; 300]];
        let batch = build(&values, 1_700_000_000_000, Producer { id: 5, epoch: 1, sequence: 9 });
        let header = headers(&batch).unwrap()[0];
        assert_eq!((header.count, header.codec(), header.bytes), (3, 0, batch.len()));
        assert_eq!(header.producer, Producer { id: 5, epoch: 1, sequence: 9 });
        let back: Vec<_> = records(&batch).unwrap();
        assert_eq!(back, (0..).zip(values).collect::<Vec<_>>());
    }

    #[test]
    fn a_flipped_bit_shows() {
        let mut batch = build(&[b"value"], 0, Producer::NONE);
        let last = batch.len() - 3;
        batch[last] ^= 1;
        assert!(records(&batch).is_err());
    }
}
