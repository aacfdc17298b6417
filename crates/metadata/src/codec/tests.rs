//! Golden bytes of every record kind, and what damaged bytes do.

use proptest::prelude::*;

use super::*;
use crate::samples;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Version 1: every kind that it has, with every field in use. A difference here is another format: it takes a new version.
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

/// What version 2 has besides.
const GOLDEN_2: &[&str] = &[
    "02080909090909090909090909090909090902030204060200010203020101010101010101010101010101010104020202020202020202020202020202020603030303030303030303030303030303020001020e01",
    "020809090909090909090909090909090909020302040603000003020101010101010101010101010101010104020202020202020202020202020202020603030303030303030303030303030303020001020e0c",
    "020909090909090909090909090909090909020000010204060104010601",
    "020d04d80402020202020202020202020202020202515151515151515151515151515151510105504c41494e093132372e302e302e31844701016101106d657461646174612e76657273696f6e02d8040001d80401",
    "020e04d804",
];

#[test]
fn what_is_new_in_version_2_keeps_its_bytes() {
    let records = samples::of_version_2();
    let found: Vec<String> = records.iter().map(|record| hex(&encode(record))).collect();
    assert_eq!(found, GOLDEN_2, "the format of a record changed");
    for record in &records {
        assert_eq!(version_of(record), 2);
        assert_eq!(decode(&encode(record)).as_ref(), Ok(record));
        // The same bytes with the older version in front are something else, or nothing.
        let mut bytes = encode(record).to_vec();
        bytes[0] = 1;
        assert_ne!(decode(&bytes).as_ref(), Ok(record));
    }
}

#[test]
fn what_version_1_leaves_out_has_one_value() {
    let decoded = |index: usize| decode(&unhex(GOLDEN[index])).unwrap();
    let MetadataRecord::Partition { state, .. } = decoded(8) else { panic!("kind 8 is a partition") };
    assert_eq!((state.replication_factor, state.unclean_epoch), (3, quipu_base::LeaderEpoch::NONE));
    let MetadataRecord::PartitionChange { assignment, .. } = decoded(9) else { panic!("kind 9 is a change") };
    assert_eq!(assignment.map(|assignment| assignment.replication_factor), Some(1));
    let MetadataRecord::Broker { state, .. } = decoded(13) else { panic!("kind 13 is a broker") };
    assert!(!state.in_controlled_shutdown);
}

/// The metadata log of a single node that was started twice, as the release before clusters wrote it: offsets and records.
const LOG_OF_A_SINGLE_NODE: &[&str] = &[
    "01000202010201010101010101010101010101010101",
    "0101c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1",
    "0102106d657461646174612e76657273696f6e02",
    "010302010101010101010101010101010101015151515151515151515151515151515101\
     05504c41494e093132372e302e302e3184470001106d657461646174612e76657273696f6e0202",
    "01040206",
    "0107017409090909090909090909090909090909",
    "01080909090909090909090909090909090900010200000102010101010101010101010101010101010100010200",
    "010b0001740a7365676d656e742e6d73010135",
    "010c02d00f",
    "01000402010201010101010101010101010101010101",
    "010302010101010101010101010101010101015252525252525252525252525252525201\
     05504c41494e093132372e302e302e3184470001106d657461646174612e76657273696f6e0202",
    "01040214",
];

#[test]
fn the_log_of_a_single_node_loads_unchanged() {
    let mut image = crate::Image::new();
    for hex in LOG_OF_A_SINGLE_NODE {
        let record = decode(&unhex(hex)).unwrap();
        assert_eq!(encode(&record), unhex(hex), "it is still written as it was");
        image.apply(image.next_offset(), &record, &mut crate::Delta::default()).unwrap();
    }
    assert_eq!(image.feature_level("metadata.version"), 1);
    let (_, broker) = image.brokers().next().unwrap();
    assert_eq!((broker.broker_epoch.get(), broker.fenced, broker.in_controlled_shutdown), (10, false, false));
    let (_, state) = image.partitions().next().unwrap();
    assert_eq!((state.leader_epoch.get(), state.replication_factor, state.configuration.quorum), (1, 1, 1));
    // And its snapshot could be read by the same release.
    assert!(image.records().all(|record| version_of(&record) == 1));
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: String = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_both_versions_can_say_is_read_in_both() {
    for record in samples::one_of_each() {
        let newer = postcard::to_extend(&record, vec![2]).unwrap();
        assert_eq!(decode(&newer), Ok(record));
    }
}

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
    for record in samples::one_of_each().into_iter().chain(samples::of_version_2()) {
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
    assert_eq!(error, DecodeError::NewerVersion { found: 3 });
    assert_eq!(
        error.to_string(),
        "the metadata log has a record of format version 3, but this build knows versions up to 2: a newer Quipu wrote \
         it, and that or a later one must read it"
    );
    bytes[0] = 0;
    assert_eq!(decode(&bytes), Err(DecodeError::BadVersion));
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
}

#[test]
fn a_kind_that_nobody_knows_is_refused() {
    let count = u8::try_from(samples::one_of_each().len()).unwrap();
    assert!(matches!(decode(&[1, count, 2, 2]), Err(DecodeError::Malformed(_))), "BrokerShutdown comes with version 2");
    assert!(matches!(decode(&[2, count + 1, 2, 2]), Err(DecodeError::Malformed(_))));
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
    fn any_bytes_are_read_or_refused(version in 1..=FORMAT_VERSION, kind in 0_u8..20, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[version, kind][..], &rest].concat();
        if let Ok(record) = decode(&bytes) {
            // postcard also takes varints that are longer than they need be, so only the meaning must come back.
            prop_assert_eq!(decode(&encode(&record)), Ok(record));
        }
    }
}
