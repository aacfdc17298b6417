//! Round trips of arbitrary records, and what must hold for arbitrary damage.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_records::{
    BatchBuilder, BatchHeader, BatchSlices, Batches, Codec, HEADER_BYTES, ValidateLimits, rewrite, validate,
};

use crate::{OwnedRecord, build, build_with, read, reseal, short_records};

prop_compose! {
    fn any_record()(
        timestamp in prop_oneof![Just(-1), 0_i64..4_000_000_000_000, Just(i64::MAX / 2)],
        key in option::of(vec(any::<u8>(), 0..20)),
        value in option::of(prop_oneof![vec(any::<u8>(), 0..100), vec(Just(7_u8), 8000..9000)]),
        headers in vec((vec(any::<u8>(), 0..10), option::of(vec(any::<u8>(), 0..70))), 0..4),
    ) -> OwnedRecord {
        OwnedRecord { timestamp, key, value, headers }
    }
}

pub(crate) fn any_records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    vec(any_record(), 1..30)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&Codec::ALL)
}

proptest! {
    #[test]
    fn built_batches_validate_and_read_back(records in any_records(), codec in any_codec()) {
        let batch = build_with(&records, codec);
        let valid = validate(batch.bytes().clone(), &ValidateLimits::default()).expect("valid");
        prop_assert_eq!(&valid.batch, &batch);
        prop_assert!(!valid.corrected);
        prop_assert_eq!(usize::try_from(valid.record_count).expect("small"), records.len());
        let timestamps = || records.iter().map(|record| record.timestamp);
        let max = timestamps().max().expect("a record");
        prop_assert_eq!(valid.max_timestamp, Timestamp(max));
        prop_assert_eq!(valid.min_timestamp.0, timestamps().filter(|time| *time >= 0).min().unwrap_or(-1));
        let max_index = timestamps().position(|time| time == max).expect("a record");
        prop_assert_eq!(usize::try_from(valid.max_timestamp_offset_delta).expect("small"), max_index);
        let null_key = records.iter().position(|record| record.key.is_none());
        prop_assert_eq!(valid.first_null_key.map(|index| usize::try_from(index).expect("small")), null_key);
        let plain_bytes = build_with(&records, Codec::None).bytes().len() - HEADER_BYTES;
        prop_assert_eq!(valid.decompressed_bytes, plain_bytes);
        prop_assert_eq!(read(&batch), records);
    }

    #[test]
    fn the_size_estimate_is_exact_and_bounded(records in any_records()) {
        let mut builder = BatchBuilder::new();
        for record in &records {
            let headers: Vec<_> = record.headers.iter()
                .map(|(key, value)| quipu_records::RecordHeader { key, value: value.as_deref() })
                .collect();
            let record = quipu_records::NewRecord {
                timestamp: Timestamp(record.timestamp),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            };
            let before = builder.size_bytes();
            builder.push(&record).expect("fits");
            prop_assert!(builder.size_bytes() - before <= BatchBuilder::record_bytes_max(&record));
        }
        let size_bytes = builder.size_bytes();
        prop_assert_eq!(builder.build().expect("fits").bytes().len(), size_bytes);
    }

    #[test]
    fn recompression_keeps_every_record(records in any_records(), from in any_codec(), to in any_codec()) {
        let builder = BatchBuilder::new().codec(from, None).base_offset(Offset(9)).leader_epoch(LeaderEpoch(4));
        let batch = build(&records, builder.producer(ProducerId(1), ProducerEpoch(2), Sequence(3)));
        let again = rewrite::recompress(&batch, to, None, 1 << 26, usize::MAX).expect("recompresses");
        prop_assert_eq!(again.check_crc(), Ok(()));
        prop_assert_eq!(again.header().codec(), Ok(to));
        let same_but = BatchHeader {
            crc: again.header().crc,
            batch_length: again.header().batch_length,
            attributes: again.header().attributes,
            ..*batch.header()
        };
        prop_assert_eq!(again.header(), &same_but);
        prop_assert_eq!(again.header().attributes, batch.header().attributes.with_codec(to));
        prop_assert_eq!(read(&again), records);
    }

    #[test]
    fn headers_round_trip(bytes in any::<[u8; HEADER_BYTES - 17]>(), length in 49_i32.., epoch in any::<[u8; 4]>()) {
        let mut header = [0_u8; HEADER_BYTES];
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&epoch);
        header[16] = 2;
        header[17..].copy_from_slice(&bytes);
        let parsed = BatchHeader::parse(&header).expect("any fields");
        prop_assert_eq!(parsed.encode(), header);
    }

    /// Whatever stands behind a valid CRC: an error or a batch that can be read to its end, and the same after any rewriting.
    #[test]
    fn tampered_batches_are_refused_or_readable(
        records in vec(any_record(), 1..5),
        codec in any_codec(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = build_with(&records, codec).bytes().to_vec();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        reseal(&mut bytes);
        if let Ok(valid) = validate(Bytes::from(bytes), &ValidateLimits::default()) {
            prop_assert_eq!(valid.batch.check_crc(), Ok(()));
            let records = read(&valid.batch);
            prop_assert_eq!(records.len(), usize::try_from(valid.record_count).expect("small"));
            let again = rewrite::recompress(&valid.batch, Codec::Zstd, None, 1 << 26, usize::MAX).expect("recompresses");
            prop_assert_eq!(read(&again), records);
        }
    }

    #[test]
    fn garbage_ends_in_an_error(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(validate(Bytes::from(bytes.clone()), &ValidateLimits::default()).is_err());
        prop_assert!(Batches::new(Bytes::from(bytes)).all(|batch| batch.is_err()));
    }

    #[test]
    fn garbage_in_every_codec_ends_in_an_error(codec in any_codec(), body in vec(any::<u8>(), 0..100)) {
        // No three records come out of random bytes: each would have to have its own offset delta.
        let bytes = crate::with_body(codec, 3, &body);
        prop_assert!(validate(bytes, &ValidateLimits::default()).is_err());
    }

    #[test]
    fn batches_behind_one_another(counts in vec(1_usize..4, 0..5), cut in any::<prop::sample::Index>()) {
        let short = short_records();
        let batches: Vec<_> = counts.iter().map(|count| build_with(&short[..*count], Codec::None)).collect();
        let bytes: Vec<u8> = batches.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
        let cut = cut.index(bytes.len() + 1);
        let ends: Vec<_> = batches.iter().scan(0, |end, batch| { *end += batch.bytes().len(); Some(*end) }).collect();
        let whole = &batches[..ends.partition_point(|end| *end <= cut)];
        let end = if whole.is_empty() { 0 } else { ends[whole.len() - 1] };
        let mut views = Batches::new(Bytes::from(bytes[..cut].to_vec()));
        let read: Vec<_> = views.by_ref().map(|batch| batch.expect("no bad header")).collect();
        prop_assert_eq!(read.as_slice(), whole);
        prop_assert_eq!(views.rest().len(), cut - end);
        let mut slices = BatchSlices::new(&bytes[..cut]);
        for batch in whole {
            prop_assert_eq!(slices.next(), Some(Ok((*batch.header(), batch.bytes().as_ref()))));
        }
        prop_assert!(slices.next().is_none());
        prop_assert_eq!(slices.rest(), &bytes[end..cut]);
    }
}
