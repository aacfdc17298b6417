//! The same records through `kafka-protocol`'s encoder and decoder, in both directions, with every codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    indexmap::IndexMap,
    protocol::StrBytes,
    records::{Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};
use proptest::prelude::*;
use quipu_base::{ProducerEpoch, ProducerId, Sequence};
use quipu_records::{BatchBuilder, Codec, ValidateLimits, validate};

use crate::{OwnedRecord, build, properties::any_records, read};

const PRODUCER_ID: i64 = 4711;
const PRODUCER_EPOCH: i16 = 3;
const BASE_SEQUENCE: i32 = 17;

const fn theirs(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

/// Their model keeps headers in a map with text keys: duplicates and other bytes are left to our own round trips.
fn simplified(mut records: Vec<OwnedRecord>) -> Vec<OwnedRecord> {
    for record in &mut records {
        for (index, (key, _)) in record.headers.iter_mut().enumerate() {
            *key = format!("{index}").into_bytes();
        }
    }
    records
}

fn to_theirs(index: usize, record: &OwnedRecord) -> Record {
    let index = i32::try_from(index).expect("few records");
    let headers = record.headers.iter().map(|(key, value)| {
        let key = StrBytes::from_string(String::from_utf8(key.clone()).expect("digits"));
        (key, value.clone().map(Bytes::from))
    });
    Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: PRODUCER_ID,
        producer_epoch: PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(index),
        sequence: BASE_SEQUENCE + index,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: headers.collect::<IndexMap<_, _>>(),
    }
}

proptest! {
    #[test]
    fn they_read_what_we_build(records in any_records(), codec in prop::sample::select(&Codec::ALL)) {
        let records = simplified(records);
        let builder = BatchBuilder::new().codec(codec, None).transactional().producer(
            ProducerId(PRODUCER_ID),
            ProducerEpoch(PRODUCER_EPOCH),
            Sequence(BASE_SEQUENCE),
        );
        let mut bytes = build(&records, builder).into_bytes();
        let decoded = RecordBatchDecoder::decode(&mut bytes).expect("they can read it");
        let expected: Vec<_> = records.iter().enumerate().map(|(index, record)| to_theirs(index, record)).collect();
        prop_assert_eq!(decoded.records, expected);
    }

    #[test]
    fn we_validate_and_read_what_they_build(records in any_records(), codec in prop::sample::select(&Codec::ALL)) {
        let records = simplified(records);
        let encoded: Vec<_> = records.iter().enumerate().map(|(index, record)| to_theirs(index, record)).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: theirs(codec) };
        RecordBatchEncoder::encode(&mut bytes, &encoded, &options).expect("they can write it");
        let valid = validate(bytes.freeze(), &ValidateLimits::default()).expect("a valid batch");
        prop_assert_eq!(valid.batch.header().codec(), Ok(codec));
        prop_assert!(valid.batch.header().is_transactional());
        prop_assert_eq!(valid.batch.header().base_sequence, Sequence(BASE_SEQUENCE));
        prop_assert_eq!(read(&valid.batch), records);
    }
}
