//! What a broker does to a batch that it stores.

use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_records::{
    Batch, BatchBuilder, BuildError, Codec, CompressError, NewRecord, TimestampType, ValidateLimits, rewrite, validate,
};

use crate::{build, build_with, read, short_records, tampered};

#[test]
fn offsets_and_epoch_are_patched_outside_the_crc() {
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        let mut bytes = rewrite::patched_header(batch.header(), Offset(1000), LeaderEpoch(7)).to_vec();
        bytes.extend_from_slice(&batch.body());
        let stored = Batch::parse_checked(bytes.into()).expect("the CRC holds");
        assert_eq!(stored.header().base_offset, Offset(1000));
        assert_eq!(stored.header().last_offset(), Offset(1002));
        assert_eq!(stored.header().leader_epoch, LeaderEpoch(7));
        assert_eq!(stored.header().crc, batch.header().crc);
        assert_eq!(read(&stored), short_records());
    }
}

#[test]
fn log_append_time_is_everybodys_timestamp() {
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        let stamped = rewrite::with_log_append_time(&batch, Timestamp(42));
        assert_eq!(stamped.check_crc(), Ok(()));
        assert_eq!(stamped.header().timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(stamped.header().max_timestamp, Timestamp(42));
        assert_eq!(stamped.body(), batch.body());
        assert_eq!(rewrite::log_append_time_header(&batch, Timestamp(42)), *stamped.header());
        let mut expected = short_records();
        expected.iter_mut().for_each(|record| record.timestamp = 42);
        assert_eq!(read(&stamped), expected);
        assert_eq!(
            build(&short_records(), BatchBuilder::new().codec(codec, None).log_append_time(Timestamp(42))),
            stamped
        );
    }
}

#[test]
fn another_producer_is_as_if_it_had_built_the_batch() {
    let (id, epoch, sequence) = (ProducerId(9), ProducerEpoch(2), Sequence(77));
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        let changed = rewrite::with_producer(&batch, id, epoch, sequence);
        assert_eq!(changed.check_crc(), Ok(()));
        let builder = BatchBuilder::new().codec(codec, None).producer(id, epoch, sequence);
        assert_eq!(changed, build(&short_records(), builder));
    }
}

#[test]
fn a_wrong_max_timestamp_is_corrected() {
    for codec in Codec::ALL {
        let batch = build_with(&short_records(), codec);
        let wrong = tampered(&batch, |bytes| bytes[35..43].copy_from_slice(&7_i64.to_be_bytes()));
        let valid = validate(wrong, &ValidateLimits::default()).expect("Kafka takes it");
        assert!(valid.corrected);
        assert_eq!(valid.batch, batch);
    }
}

#[test]
fn records_are_shared_not_copied() {
    let batch = build_with(&short_records(), Codec::None);
    let records = batch.records(0).expect("not compressed");
    let record = records.iter().next().expect("three records").expect("well-formed");
    let value = records.share(record.value.expect("has a value"));
    assert_eq!(value.as_ref(), b"v");
    assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn levels_are_honoured_or_refused() {
    let records: Vec<_> = (0..100).flat_map(|_| short_records()).collect();
    let size = |codec, level| build(&records, BatchBuilder::new().codec(codec, Some(level))).bytes().len();
    assert!(size(Codec::Gzip, 9) < size(Codec::Gzip, 1));
    assert!(size(Codec::Zstd, 19) < size(Codec::Zstd, -100));
    let batch = build_with(&records, Codec::None);
    for (codec, level) in [(Codec::Gzip, 0), (Codec::Gzip, 10), (Codec::Zstd, 23), (Codec::Lz4, 1), (Codec::Snappy, 1)]
    {
        let refused = Err(rewrite::RecompressError::Compress(CompressError::Level { codec, level }));
        assert_eq!(rewrite::recompress(&batch, codec, Some(level), 1 << 20, 1 << 20), refused);
    }
}

#[test]
fn compressing_anew_stops_at_the_bound() {
    // Nothing compresses these bytes.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let value: Vec<u8> = (0..100_000).map(|_| noise()).collect();
    let record = NewRecord { timestamp: Timestamp(1), key: None, value: Some(&value), headers: &[] };
    for codec in Codec::ALL {
        let other = if codec == Codec::None { Codec::Gzip } else { Codec::None };
        let mut builder = BatchBuilder::new().codec(other, None);
        builder.push(&record).expect("there is room");
        let batch = builder.build().expect("one record");
        for bytes_max in [100, 5_000, 99_999] {
            let refused = rewrite::RecompressError::Compress(CompressError::TooLarge { codec, bytes_max });
            assert_eq!(rewrite::recompress(&batch, codec, None, 1 << 20, bytes_max), Err(refused));
        }
        let again = rewrite::recompress(&batch, codec, None, 1 << 20, 110_000).expect("there is room");
        assert_eq!(read(&again), read(&batch));
    }
}

#[test]
fn the_builder_refuses_what_the_format_cannot_hold() {
    assert_eq!(BatchBuilder::new().build(), Err(BuildError::Empty));
    let record = |timestamp| NewRecord { timestamp: Timestamp(timestamp), key: None, value: None, headers: &[] };
    let mut builder = BatchBuilder::new();
    assert_eq!(builder.push(&record(-2)), Err(BuildError::Timestamp(Timestamp(-2))));
    builder.push(&record(-1)).expect("no timestamp");
    let before = builder.clone();
    assert_eq!(builder.push(&record(i64::MAX)), Err(BuildError::Timestamp(Timestamp(i64::MAX))));
    assert_eq!(builder.size_bytes(), before.size_bytes());
    assert_eq!(builder.build(), before.build());
}

#[test]
fn control_batches_are_built_for_brokers() {
    let batch = build(&short_records(), BatchBuilder::new().control().transactional());
    assert!(batch.header().is_control() && batch.header().is_transactional());
    assert_eq!(read(&batch), short_records());
}
