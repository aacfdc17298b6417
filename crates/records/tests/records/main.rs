//! Record batches against bytes written by hand and by real clients, against another implementation, and against damage.
//!
//! Not here: memory (`../memory.rs`), which needs a process of its own.

mod codecs;
mod differential;
mod golden;
mod hostile;
mod properties;
mod rewriting;

use bytes::Bytes;
use quipu_base::{Timestamp, checksum::crc32c};
use quipu_records::{Batch, BatchBuilder, Codec, NewRecord, RecordHeader};

/// A header as its own bytes.
type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

/// A record as its own bytes, comparable with what any implementation read or is to write.
#[derive(Clone, PartialEq, Eq, Debug)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

impl OwnedRecord {
    fn new(timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], Option<&[u8]>)]) -> Self {
        Self {
            timestamp,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: headers.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// Three records with everything that a record can have or lack.
fn short_records() -> Vec<OwnedRecord> {
    const TIME: i64 = 1_700_000_000_000;
    vec![
        OwnedRecord::new(TIME, Some(b"k"), Some(b"v"), &[(b"h", Some(b"x"))]),
        OwnedRecord::new(TIME + 5, None, Some(b"value"), &[]),
        OwnedRecord::new(TIME + 2, Some(b"key"), None, &[(b"a", None), (b"", Some(b""))]),
    ]
}

fn build(records: &[OwnedRecord], mut builder: BatchBuilder) -> Batch {
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect();
        let record = NewRecord {
            timestamp: Timestamp(record.timestamp),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        builder.push(&record).expect("a record that fits");
    }
    builder.build().expect("a batch that fits")
}

fn build_with(records: &[OwnedRecord], codec: Codec) -> Batch {
    build(records, BatchBuilder::new().codec(codec, None))
}

/// All records of a batch, whose offsets must be dense from its base offset.
fn read(batch: &Batch) -> Vec<OwnedRecord> {
    let records = batch.records(1 << 26).expect("decompresses");
    let mut offset = batch.header().base_offset;
    records
        .iter()
        .map(|record| {
            let record = record.expect("well-formed");
            assert_eq!(record.offset, offset);
            offset = offset.next();
            OwnedRecord {
                timestamp: record.timestamp.0,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        })
        .collect()
}

/// The bytes changed by `change`, then with the CRC that they have.
fn tampered(batch: &Batch, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.bytes().to_vec();
    change(&mut bytes);
    reseal(&mut bytes);
    Bytes::from(bytes)
}

fn reseal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch of `count` records whose part behind the header is `body`, with right length and CRC.
fn with_body(codec: Codec, count: i32, body: &[u8]) -> Bytes {
    let mut bytes = build_with(&short_records(), Codec::None).bytes()[..61].to_vec();
    bytes.extend_from_slice(body);
    let length = i32::try_from(bytes.len() - 12).expect("small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = codec.id();
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    reseal(&mut bytes);
    Bytes::from(bytes)
}
