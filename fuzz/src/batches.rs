//! Record batches: one as a producer sends it, many as a segment or a fetch has them.

use bytes::Bytes;
use quipu_base::{Timestamp, checksum::crc32c, limits::KIB};
use quipu_records::{
    Batch, BatchBuilder, BatchSlices, Batches, Codec, HEADER_BYTES, NewRecord, RecordHeader, TimestampType, ValidBatch,
    ValidateLimits,
    header::CRC_FROM_POSITION,
    rewrite::{patched_header, recompress, with_log_append_time},
    validate,
};

use crate::{Outcome, compressed::working_bytes, memory, refuse};

const LIMITS: ValidateLimits =
    ValidateLimits { batch_bytes_max: quipu_base::limits::BATCH_BYTES_MAX, decompressed_bytes_max: 256 * KIB };
const CRC_POSITION: usize = 17;

/// A batch as a producer sends it: once as it is, and once with length, magic and CRC made right, so that what lies behind
/// these checks is reached.
pub fn batch(data: &[u8]) -> Outcome {
    let outcome = check(Bytes::copy_from_slice(data));
    match sealed(data) {
        Some(bytes) => outcome.or(check(bytes)),
        None => outcome,
    }
}

fn sealed(data: &[u8]) -> Option<Bytes> {
    let mut bytes = data.to_vec();
    let length = i32::try_from(bytes.len().checked_sub(12)?).ok()?;
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    bytes[..8].fill(0);
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c(&bytes[CRC_FROM_POSITION..]);
    bytes[CRC_POSITION..CRC_FROM_POSITION].copy_from_slice(&crc.to_be_bytes());
    Some(bytes.into())
}

fn check(bytes: Bytes) -> Outcome {
    let codec = bytes.get(22).and_then(|attributes| Codec::from_id(attributes & 7)).unwrap_or_default();
    // A corrected copy, and the records if they are compressed.
    let plain_bytes = if codec == Codec::None { 0 } else { LIMITS.decompressed_bytes_max };
    let bytes_max = bytes.len() + plain_bytes + working_bytes(codec);
    let valid = memory::at_most(bytes_max, "validating a batch", || validate(bytes.clone(), &LIMITS));
    match valid {
        Ok(valid) => {
            assert_eq!(valid.batch.bytes().len(), bytes.len());
            assert_eq!(valid.batch.body(), bytes[HEADER_BYTES..], "only the header is ever corrected");
            assert!(valid.corrected || valid.batch.bytes() == &bytes);
            check_valid(&valid);
            Outcome::Accepted
        }
        Err(error) => refuse(&error),
    }
}

/// A batch that was accepted is what the check says of it, whatever is done with it next.
fn check_valid(valid: &ValidBatch) {
    let batch = &valid.batch;
    assert_eq!(batch.header().encode(), batch.bytes()[..HEADER_BYTES]);
    assert_eq!(batch.check_crc(), Ok(()));
    let stored = patched_header(batch.header(), quipu_base::Offset(1 << 40), quipu_base::LeaderEpoch(9));
    let stored = Batch::parse_checked([&stored[..], &batch.body()].concat().into()).expect("it is stored so");
    assert_eq!(stored.header().base_offset.0, 1 << 40);
    let again = validate(batch.bytes().clone(), &LIMITS).expect("a batch that was accepted is accepted again");
    assert_eq!(again, ValidBatch { corrected: false, ..valid.clone() });

    let records = read(batch);
    assert_eq!(records.len(), usize::try_from(valid.record_count).expect("a count fits memory"));
    let times = records.iter().map(|record| record.timestamp);
    assert_eq!(times.clone().max(), Some(valid.max_timestamp));
    let least = times.clone().filter(|time| *time != Timestamp::NONE).min();
    assert_eq!(least.unwrap_or(Timestamp::NONE), valid.min_timestamp);
    let index = |found: Option<usize>| found.map(|index| u32::try_from(index).expect("a count has 31 bits"));
    let first_newest = times.clone().position(|time| time == valid.max_timestamp);
    assert_eq!(index(first_newest), Some(valid.max_timestamp_offset_delta));
    assert_eq!(index(records.iter().position(|record| record.key.is_none())), valid.first_null_key);

    let rebuilt = validate(rebuild(batch, &records).into_bytes(), &LIMITS).expect("a built batch is accepted");
    assert_eq!(read(&rebuilt.batch), records);
    assert!(rebuilt.decompressed_bytes <= valid.decompressed_bytes, "the shortest numbers are written");
    check_rewritten(batch, &records);
}

fn check_rewritten(batch: &Batch, records: &[Owned]) {
    let appended = read(&with_log_append_time(batch, Timestamp(77)));
    let expected: Vec<_> = records.iter().map(|record| Owned { timestamp: Timestamp(77), ..record.clone() }).collect();
    assert_eq!(appended, expected);
    // One codec a time, since some take long to set up.
    let codec = Codec::ALL[batch.bytes().len() % Codec::ALL.len()];
    let recompressed = recompress(batch, codec, None, LIMITS.decompressed_bytes_max, usize::MAX)
        .expect("an accepted batch can be recompressed");
    recompressed.check_crc().expect("a new batch has its checksum");
    assert_eq!(read(&recompressed), records);
}

/// A record with all that it has.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Owned {
    timestamp: Timestamp,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
}

/// All records of a batch that has been accepted.
fn read(batch: &Batch) -> Vec<Owned> {
    let records = batch.records(LIMITS.decompressed_bytes_max).expect("an accepted batch can be read");
    let mut next_offset = batch.header().base_offset;
    let mut all = Vec::new();
    for record in &records {
        let record = record.expect("a record of an accepted batch can be read");
        assert_eq!(record.offset, next_offset, "offsets are dense");
        next_offset = next_offset.next();
        let header =
            |header: RecordHeader<'_>| (records.share(header.key), header.value.map(|part| records.share(part)));
        let headers: Vec<_> = record.headers().map(header).collect();
        assert_eq!(headers.len(), usize::try_from(record.header_count()).expect("a count fits memory"));
        let share = |part: Option<&[u8]>| part.map(|part| records.share(part));
        all.push(Owned { timestamp: record.timestamp, key: share(record.key), value: share(record.value), headers });
    }
    assert_eq!(next_offset, batch.header().next_offset());
    all
}

/// The same records in a batch of our own making.
fn rebuild(batch: &Batch, records: &[Owned]) -> Batch {
    let header = batch.header();
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime, "producers do not set the other");
    let mut builder = BatchBuilder::new();
    if header.has_producer_id() {
        builder = builder.producer(header.producer_id, header.producer_epoch, header.base_sequence);
    }
    if header.is_transactional() {
        builder = builder.transactional();
    }
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect();
        let new = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let (size_bytes, bytes_max) = (builder.size_bytes(), BatchBuilder::record_bytes_max(&new));
        builder.push(&new).expect("what was in a batch fits a batch");
        assert!(builder.size_bytes() <= size_bytes + bytes_max);
    }
    builder.build().expect("a batch with records can be built")
}

/// Any bytes as batches behind one another, as they are read from a segment or a fetch response.
pub fn batches(data: &[u8]) -> Outcome {
    let bytes = Bytes::copy_from_slice(data);
    let mut slices = BatchSlices::new(data);
    let mut batches = Batches::new(bytes.clone());
    let mut position = 0;
    let mut outcome = Outcome::Refused;
    loop {
        let item = batches.next();
        let slice = slices.next();
        assert_eq!(batches.rest(), slices.rest());
        match (item, slice) {
            (Some(Ok(batch)), Some(Ok((header, slice)))) => {
                assert_eq!((batch.header(), &batch.bytes()[..]), (&header, slice));
                assert!(batch.bytes().len() >= HEADER_BYTES, "iteration goes on");
                assert_eq!(slice, &data[position..position + slice.len()], "no byte is passed over");
                position += slice.len();
                outcome = walk(&batch).or(outcome);
            }
            (Some(Err(error)), Some(Err(same))) => {
                assert_eq!(error, same);
                assert!(batches.next().is_none() && slices.next().is_none(), "an error is the end");
                refuse(&error);
                break;
            }
            (None, None) => break,
            (item, slice) => panic!("{item:?} and {slice:?}"),
        }
    }
    assert_eq!(batches.rest(), &data[position..]);
    outcome
}

/// Reads the records of a batch that nobody has checked.
fn walk(batch: &Batch) -> Outcome {
    let header = batch.header();
    assert_eq!(header.encode(), batch.bytes()[..HEADER_BYTES]);
    assert!(header.next_offset() >= header.last_offset());
    let records = match batch.records(LIMITS.decompressed_bytes_max) {
        Ok(records) => records,
        Err(error) => return refuse(&error),
    };
    let mut count = 0;
    for record in &records {
        match record {
            Ok(record) => {
                count += 1;
                assert_eq!(record.headers().count(), usize::try_from(record.header_count()).expect("it fits memory"));
            }
            Err(error) => {
                refuse(&error);
                assert!(count <= header.record_count.max(0));
                return Outcome::Refused;
            }
        }
    }
    assert_eq!(count, header.record_count.max(0), "without an error there are as many as the header says");
    Outcome::Accepted
}
