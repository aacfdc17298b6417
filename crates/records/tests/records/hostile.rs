//! Damage and malice: every cause has its own error, nothing panics, nothing is let through.

use bytes::Bytes;
use quipu_base::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_records::{
    Batch, BatchBuilder, BatchError, Batches, Codec, DecompressError, Fault, RecordFault, ValidateLimits,
    compression::{compress_into, decompress},
    validate,
};

use crate::{OwnedRecord, build, build_with, short_records, tampered, with_body};

fn check(bytes: Bytes) -> BatchError {
    validate(bytes, &ValidateLimits::default()).map(|_| "accepted").expect_err("must be refused")
}

/// A plain batch with one change behind the CRC.
fn check_tampered(change: impl FnOnce(&mut Vec<u8>)) -> BatchError {
    let idempotent = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), Sequence(0));
    check(tampered(&build(&short_records(), idempotent), change))
}

/// One record, given byte by byte.
fn check_record(record: &[u8]) -> BatchError {
    check(with_body(Codec::None, 1, record))
}

fn fault(fault: RecordFault) -> BatchError {
    BatchError::Record { record_index: 0, fault }
}

#[test]
fn truncated_at_every_byte() {
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        for length in 0..batch.bytes().len() {
            let cut = batch.bytes().slice(..length);
            assert!(matches!(check(cut.clone()), BatchError::Truncated { .. }), "{codec} {length}");
            let mut batches = Batches::new(cut);
            assert!(batches.next().is_none());
            assert_eq!(batches.rest().len(), length);
        }
    }
}

#[test]
fn compressed_streams_truncated_at_every_byte() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let body = build_with(&short_records(), codec).body();
        for length in 0..body.len() {
            let bytes = with_body(codec, 3, &body[..length]);
            // A snappy stream may end between two chunks; here that leaves no record at all.
            let error = check(bytes);
            let expected = if codec == Codec::Snappy && length == 16 { Fault::Invalid } else { Fault::Corrupt };
            assert_eq!(error.fault(), expected, "{codec} {length}: {error}");
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        for bit in 0..batch.bytes().len() * 8 {
            let mut bytes = batch.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Bytes::from(bytes);
            // Outside the CRC lie length and magic, which are checked by themselves; the leader epoch, which a producer's batch need
            // not have; and the base offset, which must be 0 from a producer, and which only the log's own checksum protects later.
            let validated = validate(flipped.clone(), &ValidateLimits::default());
            assert_eq!(validated.is_ok(), (12..16).contains(&(bit / 8)), "{codec} bit {bit}: {validated:?}");
            let parsed = Batch::parse_checked(flipped);
            assert_eq!(
                parsed.is_ok(),
                [0..8, 12..16].iter().any(|open| open.contains(&(bit / 8))),
                "{codec} bit {bit}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_behind_a_new_crc_is_no_panic() {
    let mut refused = 0;
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        for bit in 0..batch.bytes().len() * 8 {
            let bytes = tampered(&batch, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match validate(bytes, &ValidateLimits::default()) {
                Err(error) => {
                    refused += usize::from(!error.to_string().is_empty());
                }
                Ok(valid) => {
                    let records = valid.batch.records(1 << 20).expect("validated");
                    assert!(records.iter().all(|record| record.is_ok()), "{codec} bit {bit}");
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn headers_are_checked() {
    assert_eq!(check_tampered(|b| b[16] = 0), BatchError::LegacyMagic(0));
    assert_eq!(check_tampered(|b| b[16] = 1), BatchError::LegacyMagic(1));
    assert_eq!(check_tampered(|b| b[16] = 3), BatchError::UnknownMagic(3));
    assert_eq!(check_tampered(|b| b[16] = 0x82), BatchError::UnknownMagic(-126));
    assert_eq!(check_tampered(|b| b[8] = 0x80), BatchError::BatchLength(i32::MIN + 0x59));
    assert_eq!(check_tampered(|b| b[11] = 48), BatchError::BatchLength(48));
    assert_eq!(check_tampered(|b| b[11] = 0x60), BatchError::Truncated { needed_bytes: 0x6c, available_bytes: 101 });
    assert_eq!(check_tampered(|b| b.push(0)), BatchError::TrailingBytes(1));
    assert_eq!(check_tampered(|b| b.extend_from_within(..)), BatchError::TrailingBytes(101));
    assert_eq!(check_tampered(|b| b[21] = 0x80), BatchError::UnknownAttributes(i16::MIN));
    assert_eq!(check_tampered(|b| b[22] = 0x80), BatchError::UnknownAttributes(0x80));
    assert_eq!(check_tampered(|b| b[22] = 5), BatchError::UnknownCodec(5));
    assert_eq!(check_tampered(|b| b[22] = 0x20), BatchError::ControlBatch);
    assert_eq!(check_tampered(|b| b[22] = 0x40), BatchError::DeleteHorizon);
    assert_eq!(check_tampered(|b| b[22] = 0x08), BatchError::LogAppendTime);
    assert_eq!(check_tampered(|b| b[7] = 1), BatchError::BaseOffset(Offset(1)));
    assert_eq!(check_tampered(|b| b[57..61].fill(0)), BatchError::RecordCount(0));
    assert_eq!(check_tampered(|b| b[57..61].fill(0xff)), BatchError::RecordCount(-1));
    let wrong = |last_offset_delta, record_count| BatchError::LastOffsetDelta { last_offset_delta, record_count };
    assert_eq!(check_tampered(|b| b[26] = 3), wrong(3, 3));
    assert_eq!(check_tampered(|b| b[60] = 2), wrong(2, 2));
    assert_eq!(check_tampered(|b| b[23..27].copy_from_slice(&i32::MAX.to_be_bytes())), wrong(i32::MAX, 3));
}

#[test]
fn size_and_checksum_are_checked() {
    let batch = build_with(&short_records(), Codec::None);
    let limits = ValidateLimits { batch_bytes_max: 100, ..ValidateLimits::default() };
    let too_large = BatchError::TooLarge { batch_bytes: 101, batch_bytes_max: 100 };
    assert_eq!(validate(batch.bytes().clone(), &limits), Err(too_large));
    let mut bytes = batch.bytes().to_vec();
    bytes[17] ^= 0xff;
    let (stored, computed) = (batch.header().crc ^ 0xff00_0000, batch.header().crc);
    assert_eq!(check(Bytes::from(bytes.clone())), BatchError::Crc { stored, computed });
    assert_eq!(Batch::parse_checked(Bytes::from(bytes.clone())), Err(BatchError::Crc { stored, computed }));
    assert!(Batch::parse(Bytes::from(bytes)).is_ok());
}

#[test]
fn producers_are_checked() {
    assert_eq!(check_tampered(|b| b[43] = 0x80), BatchError::ProducerId(ProducerId(i64::MIN + 1)));
    assert_eq!(check_tampered(|b| b[51] = 0xff), BatchError::ProducerEpoch(ProducerEpoch(-256)));
    assert_eq!(check_tampered(|b| b[53] = 0xff), BatchError::BaseSequence(Sequence(-0x100_0000)));
    let transactional = BatchBuilder::new().transactional();
    assert_eq!(check(build(&short_records(), transactional).into_bytes()), BatchError::TransactionalWithoutProducer);
    // What kafkajs sends without idempotence.
    let zeros = BatchBuilder::new().producer(ProducerId::NONE, ProducerEpoch(0), Sequence(0));
    assert!(validate(build(&short_records(), zeros).into_bytes(), &ValidateLimits::default()).is_ok());
}

#[test]
fn records_are_checked() {
    // Length, attributes, timestamp delta, offset delta, key, value, header count.
    assert!(validate(with_body(Codec::None, 1, &[12, 0, 0, 0, 1, 1, 0]), &ValidateLimits::default()).is_ok());
    assert_eq!(check_record(&[]), fault(RecordFault::Truncated));
    assert_eq!(check_record(&[14, 0, 0, 0, 1, 1, 0]), fault(RecordFault::Truncated));
    assert_eq!(check_record(&[10, 0, 0, 0, 1, 1, 0]), fault(RecordFault::Truncated));
    assert_eq!(check_record(&[0]), fault(RecordFault::Truncated));
    assert_eq!(check_record(&[1]), fault(RecordFault::Length(-1)));
    assert_eq!(check_record(&[14, 0, 0, 0, 1, 1, 0, 9]), fault(RecordFault::Slack(1)));
    assert_eq!(check_record(&[12, 0, 0, 2, 1, 1, 0]), fault(RecordFault::OffsetDelta(1)));
    assert_eq!(check_record(&[12, 0, 0, 1, 1, 1, 0]), fault(RecordFault::OffsetDelta(-1)));
    assert_eq!(check_record(&[12, 0, 0, 0, 3, 1, 0]), fault(RecordFault::KeyLength(-2)));
    assert_eq!(check_record(&[12, 0, 0, 0, 2, 1, 0]), fault(RecordFault::Truncated));
    assert_eq!(check_record(&[12, 0, 0, 0, 1, 3, 0]), fault(RecordFault::ValueLength(-2)));
    assert_eq!(check_record(&[12, 0, 0, 0, 1, 1, 1]), fault(RecordFault::HeaderCount(-1)));
    assert_eq!(check_record(&[12, 0, 0, 0, 1, 1, 2]), fault(RecordFault::Truncated));
    assert_eq!(check_record(&[14, 0, 0, 0, 1, 1, 2, 1]), fault(RecordFault::HeaderKeyLength(-1)));
    assert_eq!(check_record(&[16, 0, 0, 0, 1, 1, 2, 0, 3]), fault(RecordFault::HeaderValueLength(-2)));
    // Two thousand million headers, keys and records that are not there.
    let huge = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let with_huge = |before: &[u8]| check_record(&[before, &huge].concat());
    assert_eq!(with_huge(&[]), fault(RecordFault::Truncated));
    assert_eq!(with_huge(&[20, 0, 0, 0, 1, 1]), fault(RecordFault::Truncated));
    assert_eq!(with_huge(&[18, 0, 0, 0]), fault(RecordFault::Truncated));
    let many = with_body(Codec::None, i32::MAX, &[12, 0, 0, 0, 1, 1, 0]);
    assert_eq!(check(many), BatchError::Record { record_index: 1, fault: RecordFault::Truncated });
    // Fewer records than there are.
    let fewer = with_body(Codec::None, 1, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 1, 0]);
    assert_eq!(check(fewer), BatchError::TrailingRecordBytes(7));
}

#[test]
fn varints_are_checked() {
    // Longer than needed is allowed, as in Kafka.
    let padded = [16, 0, 0x80, 0x80, 0, 0, 1, 1, 0];
    assert!(validate(with_body(Codec::None, 1, &padded), &ValidateLimits::default()).is_ok());
    assert_eq!(check_record(&[0xff, 0xff, 0xff, 0xff, 0x1f]), fault(RecordFault::Varint));
    assert_eq!(check_record(&[0xff; 11]), fault(RecordFault::Varint));
    let too_wide = [32, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 1, 1, 0, 0];
    assert_eq!(check_record(&too_wide), fault(RecordFault::Varint));
}

#[test]
fn timestamps_are_checked() {
    let base_timestamp = Timestamp(1_700_000_000_000);
    let largest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let overflow = check_record(&[&[30, 0], &largest[..], &[0, 1, 1, 0]].concat());
    assert_eq!(overflow, fault(RecordFault::TimestampDelta { base_timestamp, delta_ms: i64::MAX }));
    assert_eq!(overflow.fault(), Fault::InvalidTimestamp);
    let below = |time: i64| {
        let batch = build(&[OwnedRecord::new(0, None, None, &[])], BatchBuilder::new());
        validate(
            tampered(&batch, |bytes| bytes[27..35].copy_from_slice(&time.to_be_bytes())),
            &ValidateLimits::default(),
        )
    };
    assert_eq!(below(-1).map(|valid| (valid.min_timestamp, valid.max_timestamp)), Ok((Timestamp(-1), Timestamp(-1))));
    let cause = RecordFault::TimestampDelta { base_timestamp: Timestamp(-2), delta_ms: 0 };
    assert_eq!(below(-2).map(|_| ()), Err(fault(cause)));
}

#[test]
fn bombs_are_stopped_at_the_bound() {
    let plain = vec![0_u8; 8 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut body = Vec::new();
        compress_into(codec, None, &plain, &mut body).expect("compresses");
        let too_large = DecompressError::TooLarge { codec, bytes_max: 1 << 20 };
        let limits = ValidateLimits { decompressed_bytes_max: 1 << 20, ..ValidateLimits::default() };
        let error = validate(with_body(codec, 1, &body), &limits).map(|_| ()).expect_err("a bomb");
        assert_eq!(error, BatchError::Decompress(too_large.clone()));
        assert_eq!(error.fault(), Fault::TooLarge);
        let batch = Batch::parse_checked(with_body(codec, 1, &body)).expect("well-formed so far");
        assert_eq!(batch.records(1 << 20).map(|_| ()), Err(BatchError::Decompress(too_large)));
    }
}

#[test]
fn the_bound_is_exact() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for size in [1_usize, 4095, 4096, 4097, 8192, 8193, 40_000, 65_536, 65_537, 300_000] {
            let plain: Vec<u8> = (0..size).map(|index| u8::try_from(index % 251 % 13).expect("small")).collect();
            let mut body = Vec::new();
            compress_into(codec, None, &plain, &mut body).expect("compresses");
            let body = Bytes::from(body);
            for bytes_max in [size, size + 1, usize::MAX / 4] {
                let bound = bytes_max.min(1 << 20);
                assert_eq!(decompress(codec, &body, bound).as_deref(), Ok(plain.as_slice()), "{codec} {size} {bound}");
            }
            for bytes_max in [0, size / 2, size - 1] {
                let too_large = DecompressError::TooLarge { codec, bytes_max };
                assert_eq!(decompress(codec, &body, bytes_max), Err(too_large), "{codec} {size} {bytes_max}");
            }
        }
    }
}

#[test]
fn nothing_may_follow_the_stream() {
    for codec in [Codec::Gzip, Codec::Lz4] {
        let body = build_with(&short_records(), codec).body();
        let twice = with_body(codec, 3, &[body.as_ref(), body.as_ref()].concat());
        let trailing = DecompressError::TrailingBytes { codec, trailing_bytes: body.len() };
        assert_eq!(check(twice), BatchError::Decompress(trailing));
    }
    for codec in [Codec::Snappy, Codec::Zstd] {
        let body = build_with(&short_records(), codec).body();
        let longer = with_body(codec, 3, &[body.as_ref(), b"more"].concat());
        assert_eq!(check(longer).fault(), Fault::Corrupt, "{codec}");
    }
}

#[test]
fn sizes_that_lie_are_refused() {
    // A raw snappy block that claims 16 MiB, and one in Java's framing whose chunk claims more than there is, or less than nothing.
    let claims = [0x80, 0x80, 0x80, 0x08, 0];
    assert_eq!(check(with_body(Codec::Snappy, 1, &claims)).fault(), Fault::Corrupt);
    let framing = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    for length in [5_i32, i32::MAX, -1, 0] {
        let chunk = [&framing[..], &length.to_be_bytes(), &[1, 0, 7]].concat();
        assert_eq!(check(with_body(Codec::Snappy, 1, &chunk)).fault(), Fault::Corrupt, "{length}");
    }
    // A gzip member whose last four bytes claim more than its CRC allows.
    let mut body = build_with(&short_records(), Codec::Gzip).body().to_vec();
    let end = body.len();
    body[end - 4..].fill(0xff);
    assert_eq!(check(with_body(Codec::Gzip, 3, &body)).fault(), Fault::Corrupt);
}

#[test]
fn linked_lz4_blocks_are_refused() {
    let mut body = build_with(&short_records(), Codec::Lz4).body().to_vec();
    body[4] &= !0x20;
    let error = check(with_body(Codec::Lz4, 3, &body));
    assert!(error.to_string().contains("linked"), "{error}");
}

#[test]
fn a_bad_header_stops_the_iteration_where_it_is() {
    let batch = build_with(&short_records(), Codec::None);
    let mut bytes = [batch.bytes().as_ref(), batch.bytes().as_ref(), batch.bytes().as_ref()].concat();
    bytes[101 + 16] = 1;
    let mut batches = Batches::new(Bytes::from(bytes));
    assert_eq!(batches.next(), Some(Ok(batch)));
    assert_eq!(batches.next(), Some(Err(BatchError::LegacyMagic(1))));
    assert_eq!(batches.next(), None);
    assert_eq!(batches.rest().len(), 202);
}
