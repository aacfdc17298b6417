//! Bytes that others wrote: by hand from the format's description, and by real clients (`golden/`).
//!
//! `golden/java-*` come from Apache Kafka's Java client 4.4.0 (`golden/Golden.java` makes them), `golden/aiokafka-*` from aiokafka
//! 0.14.0 and `golden/kafka-python-*` from kafka-python 3.0.12, whose builders were given the same three records.

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_records::{Batch, BatchBuilder, Codec, TimestampType, ValidateLimits, validate};

use crate::{OwnedRecord, build, read, short_records};

/// The three short records of producer 4711, epoch 3, sequence 17, transactional.
#[rustfmt::skip]
const BY_HAND: [u8; 101] = [
    0, 0, 0, 0, 0, 0, 0, 0,                                 // base offset
    0, 0, 0, 89,                                            // batch length: 101 - 12
    0xff, 0xff, 0xff, 0xff,                                 // leader epoch: none
    2,                                                      // magic
    0x32, 0xae, 0xd4, 0x9e,                                 // CRC-32C of the 80 bytes that follow
    0, 0x10,                                                // attributes: transactional
    0, 0, 0, 2,                                             // last offset delta
    0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0,                     // base timestamp: 1,700,000,000,000
    0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 5,                     // max timestamp
    0, 0, 0, 0, 0, 0, 0x12, 0x67,                           // producer id: 4711
    0, 3,                                                   // producer epoch
    0, 0, 0, 17,                                            // base sequence
    0, 0, 0, 3,                                             // record count
    // Zigzag: a length n is 2n, and -1 is 1.
    24, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 2, b'x',     // 12 bytes: +0 ms, +0, "k" = "v", one header "h" = "x"
    22, 0, 10, 2, 1, 10, b'v', b'a', b'l', b'u', b'e', 0,   // 11 bytes: +5 ms, +1, null = "value"
    28, 0, 4, 4, 6, b'k', b'e', b'y', 1, 4,                 // 14 bytes: +2 ms, +2, "key" = null, two headers:
    2, b'a', 1, 0, 0,                                       // "a" = null, "" = ""
];

fn producer(builder: BatchBuilder) -> BatchBuilder {
    builder.producer(ProducerId(4711), ProducerEpoch(3), Sequence(17))
}

#[test]
fn written_by_hand_reads_as_meant() {
    let batch = Batch::parse_checked(Bytes::from_static(&BY_HAND)).unwrap();
    let header = batch.header();
    assert_eq!(header.base_offset, Offset(0));
    assert_eq!(header.batch_length, 89);
    assert_eq!(header.total_bytes(), 101);
    assert_eq!(header.leader_epoch, LeaderEpoch::NONE);
    assert_eq!(header.crc, 0x32ae_d49e);
    assert_eq!(header.codec(), Ok(Codec::None));
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert!(header.is_transactional() && !header.is_control() && header.delete_horizon().is_none());
    assert_eq!(header.last_offset(), Offset(2));
    assert_eq!(header.next_offset(), Offset(3));
    assert_eq!(header.base_timestamp, Timestamp(1_700_000_000_000));
    assert_eq!(header.max_timestamp, Timestamp(1_700_000_000_005));
    assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(4711), ProducerEpoch(3)));
    assert_eq!((header.base_sequence, header.last_sequence()), (Sequence(17), Sequence(19)));
    assert_eq!(header.record_count, 3);
    assert_eq!(header.encode(), BY_HAND[..61]);
    assert_eq!(read(&batch), short_records());
}

#[test]
fn builder_writes_what_was_written_by_hand() {
    let batch = build(&short_records(), producer(BatchBuilder::new()).transactional());
    assert_eq!(batch.bytes().as_ref(), BY_HAND);
}

#[test]
fn validation_finds_what_a_broker_needs() {
    let valid = validate(Bytes::from_static(&BY_HAND), &ValidateLimits::default()).unwrap();
    assert_eq!(valid.batch.bytes().as_ref(), BY_HAND);
    assert_eq!(valid.record_count, 3);
    assert_eq!(valid.min_timestamp, Timestamp(1_700_000_000_000));
    assert_eq!((valid.max_timestamp, valid.max_timestamp_offset_delta), (Timestamp(1_700_000_000_005), 1));
    assert_eq!(valid.first_null_key, Some(1));
    assert_eq!(valid.decompressed_bytes, 40);
    assert!(!valid.corrected);
}

fn check_short(name: &str, bytes: &'static [u8], codec: Codec) {
    let valid = validate(Bytes::from_static(bytes), &ValidateLimits::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let header = valid.batch.header();
    assert_eq!(header.codec(), Ok(codec), "{name}");
    assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(4711), ProducerEpoch(3)), "{name}");
    assert_eq!(header.base_sequence, Sequence(17), "{name}");
    assert!(!valid.corrected, "{name}");
    assert_eq!(valid.max_timestamp_offset_delta, 1, "{name}");
    assert_eq!(read(&valid.batch), short_records(), "{name}");
}

#[test]
fn short_batches_of_real_clients() {
    assert_eq!(include_bytes!("golden/java-short-none.bin"), &BY_HAND);
    check_short("java", include_bytes!("golden/java-short-none.bin"), Codec::None);
    check_short("java", include_bytes!("golden/java-short-gzip.bin"), Codec::Gzip);
    check_short("java", include_bytes!("golden/java-short-snappy.bin"), Codec::Snappy);
    check_short("java", include_bytes!("golden/java-short-lz4.bin"), Codec::Lz4);
    check_short("java", include_bytes!("golden/java-short-zstd.bin"), Codec::Zstd);
    check_short("aiokafka", include_bytes!("golden/aiokafka-short-none.bin"), Codec::None);
    check_short("aiokafka", include_bytes!("golden/aiokafka-short-gzip.bin"), Codec::Gzip);
    check_short("aiokafka", include_bytes!("golden/aiokafka-short-snappy.bin"), Codec::Snappy);
    check_short("aiokafka", include_bytes!("golden/aiokafka-short-lz4.bin"), Codec::Lz4);
    check_short("aiokafka", include_bytes!("golden/aiokafka-short-zstd.bin"), Codec::Zstd);
    check_short("kafka-python", include_bytes!("golden/kafka-python-short-none.bin"), Codec::None);
}

/// Records of more than one snappy chunk and more than one LZ4 block.
fn long_records() -> Vec<OwnedRecord> {
    (0..1000)
        .map(|index| {
            let value = format!("value {index} ").repeat(10);
            OwnedRecord::new(1_700_000_000_000 + index, None, Some(value.as_bytes()), &[])
        })
        .collect()
}

#[test]
fn long_batches_of_the_java_client() {
    let golden: [(Codec, &'static [u8]); 4] = [
        (Codec::Gzip, include_bytes!("golden/java-long-gzip.bin")),
        (Codec::Snappy, include_bytes!("golden/java-long-snappy.bin")),
        (Codec::Lz4, include_bytes!("golden/java-long-lz4.bin")),
        (Codec::Zstd, include_bytes!("golden/java-long-zstd.bin")),
    ];
    for (codec, bytes) in golden {
        let valid = validate(Bytes::from_static(bytes), &ValidateLimits::default()).unwrap();
        assert_eq!(valid.batch.header().codec(), Ok(codec));
        assert_eq!(valid.record_count, 1000);
        assert_eq!(valid.max_timestamp_offset_delta, 999);
        assert_eq!(read(&valid.batch), long_records(), "{codec}");
    }
}
