//! Golden bytes of every record kind, and what damaged bytes do.

use proptest::prelude::*;

use super::*;
use crate::samples;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every kind with every field in use. A difference here is another format: it takes a new version.
const GOLDEN: &[&str] = &[
    "01000a04010402020202020202020202020202020202",
    "0101c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1",
    "01020166d804",
    "01030402020202020202020202020202020202515151515151515151515151515151510105504c41494e093132372e302e302e31844701016101106d657461646174612e76657273696f6e02d804",
    "010404d804",
    "010504d804",
    "010604d804",
    "0107017409090909090909090909090909090909",
    "01080909090909090909090909090909090902030204060106010203020101010101010101010101010101010104020202020202020202020202020202020603030303030303030303030303030303020001020e",
    "01090909090909090909090909090909090902010104100101010402020202020202020202020202020202010401010401040104",
    "010a09090909090909090909090909090909",
    "010b000174016b010176",
    "010c04d00f",
    "010d04d80402020202020202020202020202020202515151515151515151515151515151510105504c41494e093132372e302e302e31844701016101106d657461646174612e76657273696f6e02d80401019003",
];

#[test]
fn every_kind_keeps_its_bytes() {
    let records = samples::one_of_each();
    let found: Vec<String> = records.iter().map(|record| hex(&encode(record))).collect();
    assert_eq!(found, GOLDEN, "the format of a record changed");
    for (number, record) in records.iter().enumerate() {
        let bytes = encode(record);
        assert_eq!(usize::from(bytes[1]), number, "kinds are numbered in their order: {record:?}");
        assert_eq!(decode(&bytes).as_ref(), Ok(record));
    }
}

#[test]
fn a_record_cut_anywhere_is_refused() {
    for record in samples::one_of_each() {
        let bytes = encode(&record);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{record:?} cut to {length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode(&longer), Err(DecodeError::TrailingBytes { count: 1 }));
    }
}

#[test]
fn other_versions_are_refused_with_the_reason() {
    let mut bytes = encode(&samples::one_of_each()[0]).to_vec();
    bytes[0] = FORMAT_VERSION + 1;
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::NewerVersion { found: 2 });
    assert_eq!(
        error.to_string(),
        "the metadata log has a record of format version 2, but this build knows versions up to 1: a newer Quipu wrote \
         it, and that or a later one must read it"
    );
    bytes[0] = 0;
    assert_eq!(decode(&bytes), Err(DecodeError::BadVersion));
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
}

#[test]
fn a_kind_that_nobody_knows_is_refused() {
    let count = u8::try_from(samples::one_of_each().len()).unwrap();
    assert!(matches!(decode(&[FORMAT_VERSION, count]), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_huge_count_allocates_nothing() {
    // EpochStart, controller epoch 0, controller 0, 2^32 - 1 voters.
    let bytes = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(decode(&bytes), Err(DecodeError::Malformed(_))));
}

proptest! {
    #[test]
    fn any_record_round_trips(record in samples::record()) {
        prop_assert_eq!(decode(&encode(&record)), Ok(record));
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in 0_u8..20, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[FORMAT_VERSION, kind][..], &rest].concat();
        if let Ok(record) = decode(&bytes) {
            // postcard also takes varints that are longer than they need be, so only the meaning must come back.
            prop_assert_eq!(decode(&encode(&record)), Ok(record));
        }
    }
}
