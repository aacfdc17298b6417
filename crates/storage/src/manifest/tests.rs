use std::{path::Path, sync::Arc};

use bytes::BytesMut;
use quipu_base::{DirectoryId, Offset, PartitionIndex, TopicId};

use super::{record::*, *};
use crate::partition::{PartitionState, Partitions};

const FILE_ID: u64 = 0x1234_5678_9abc_def0;
const DIRECTORY_ID: DirectoryId = DirectoryId([9; 16]);

fn partition(number: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId([7; 16]), partition: PartitionIndex(number) }
}

fn state(end: i64) -> PartitionState {
    PartitionState { end: Offset(end), applied: 3, ..PartitionState::default() }
}

fn edit(covered: u64, number: i32, end: i64) -> Edit {
    let update = PartitionState::default().update_to(&state(end));
    Edit { covered, updates: vec![(partition(number), update)], deleted: Vec::new() }
}

/// A snapshot of two parts, and three edits. Also where each record begins, and where the last ends.
fn file() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = encode_head(FILE_ID, DIRECTORY_ID);
    let mut starts = Vec::new();
    let mut put = |bytes: &mut BytesMut, kind, edit: &Edit| {
        starts.push(bytes.len());
        let sequence = starts.len() as u64;
        encode_record(bytes, FILE_ID, kind, sequence, edit);
    };
    put(&mut bytes, Kind::SnapshotPart, &edit(0, 1, 10));
    put(&mut bytes, Kind::SnapshotEnd, &edit(5, 2, 20));
    put(&mut bytes, Kind::Edit, &edit(6, 3, 30));
    let deletion = Edit { covered: 6, updates: Vec::new(), deleted: vec![(partition(1), 8)] };
    put(&mut bytes, Kind::Edit, &deletion);
    put(&mut bytes, Kind::Edit, &edit(7, 2, 25));
    starts.push(bytes.len());
    bytes.extend_from_slice(&[0; 300]);
    (bytes.to_vec(), starts)
}

fn read(bytes: &[u8]) -> Result<Loaded, ManifestError> {
    parse(bytes, Path::new("manifest"))
}

fn ends(loaded: &Loaded) -> Vec<(i32, i64)> {
    loaded.partitions.iter().map(|(partition, state)| (partition.partition.0, state.end.0)).collect()
}

#[test]
fn it_reads_back_what_was_written() {
    let (bytes, starts) = file();
    let loaded = read(&bytes).expect("reads");
    assert_eq!(ends(&loaded), [(2, 25), (3, 30)]);
    assert_eq!(loaded.covered, GroupSequence(7));
    assert_eq!(loaded.tombstones.get(&partition(1)).copied(), Some(GroupSequence(8)));
    assert_eq!(loaded.end, starts[5] as u64);
    assert_eq!((loaded.torn, loaded.half_written, loaded.damaged.len()), (None, None, 0));
}

#[test]
fn a_snapshot_of_many_partitions_round_trips() {
    let partitions: Partitions = (0..2000).map(|n| (partition(n), Arc::new(state(n.into())))).collect();
    let tombstones = Tombstones::from([(partition(5000), GroupSequence(99))]);
    let contents = Contents { covered: GroupSequence(9), tombstones: &tombstones, partitions: &partitions };
    let (bytes, next) = super::writer::encode_snapshot(FILE_ID, DIRECTORY_ID, &contents);
    assert_eq!(next, 5);
    let loaded = read(&bytes).expect("reads");
    let expected: Vec<_> = (0..2000).map(|n| (n, i64::from(n))).collect();
    assert_eq!(ends(&loaded), expected);
    assert_eq!((loaded.covered, loaded.tombstones), (GroupSequence(9), tombstones));
}

/// Cut or torn anywhere, a manifest gives the state of a record boundary, or an error if the snapshot is hit.
#[test]
fn a_cut_anywhere_gives_a_whole_number_of_edits() {
    let (bytes, starts) = file();
    for length in 0..bytes.len() {
        let result = read(&bytes[..length]);
        // Of the last record one copy is enough.
        let whole = starts.windows(2).filter(|record| (record[0] + record[1]) / 2 <= length).count();
        match result {
            Err(_) => assert!(whole < 2, "cut at {length}"),
            Ok(loaded) => {
                assert!(whole >= 2, "cut at {length}");
                assert_eq!(loaded.covered, GroupSequence([5, 6, 6, 7][whole - 2]), "cut at {length}");
            }
        }
    }
}

#[test]
fn one_bad_copy_is_survived_and_reported() {
    let (bytes, starts) = file();
    for position in 0..starts[5] {
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x10;
        let loaded = read(&flipped).unwrap_or_else(|error| panic!("byte {position}: {error}"));
        assert_eq!(ends(&loaded), [(2, 25), (3, 30)], "byte {position}");
        let last = position >= starts[4];
        let reported = if last { loaded.half_written.as_slice() } else { &loaded.damaged };
        assert!(
            matches!(reported, [extent]
                if (extent.position..extent.position + extent.length).contains(&(position as u64))),
            "byte {position}: {reported:?}"
        );
    }
}

#[test]
fn two_bad_copies_before_the_last_record_are_damage() {
    let (bytes, starts) = file();
    for record in starts.windows(2).take(4) {
        let mut bad = bytes.clone();
        bad[record[0] + 30] ^= 1;
        bad[usize::midpoint(record[0], record[1]) + 30] ^= 1;
        let error = read(&bad).expect_err("damage in the middle");
        assert!(matches!(error, ManifestError::Damaged { position, .. } if position == record[0] as u64), "{error}");
    }
    let mut torn = bytes.clone();
    torn[starts[4] + 30] ^= 1;
    torn[usize::midpoint(starts[4], starts[5]) + 30] ^= 1;
    let loaded = read(&torn).expect("the last record may be torn");
    assert_eq!(loaded.covered, GroupSequence(6));
    assert!(loaded.torn.is_some());
}

#[test]
fn newer_formats_and_records_of_other_files_are_refused() {
    let (bytes, starts) = file();
    let mut newer = bytes.clone();
    let length = (starts[5] - starts[4]) / 2;
    for copy in newer[starts[4]..starts[5]].chunks_exact_mut(length) {
        copy[RECORD_HEAD_BYTES] = 7;
        let mut crc = quipu_base::checksum::Crc32c::new();
        crc.update(&FILE_ID.to_le_bytes());
        crc.update(&copy[..20]);
        crc.update(&copy[RECORD_HEAD_BYTES..]);
        copy[20..24].copy_from_slice(&crc.finish().to_le_bytes());
    }
    assert!(matches!(read(&newer), Err(ManifestError::Newer { found: 7, .. })));

    let mut newer = bytes.clone();
    newer[8] = 9;
    let mut crc = quipu_base::checksum::Crc32c::new();
    crc.update(&newer[..12]);
    crc.update(&newer[16..512]);
    newer[12..16].copy_from_slice(&crc.finish().to_le_bytes());
    assert!(matches!(read(&newer), Err(ManifestError::Newer { found: 9, .. })));

    let mut other = bytes;
    other[..RECORDS_AT].copy_from_slice(&encode_head(FILE_ID + 1, DIRECTORY_ID));
    assert!(matches!(read(&other), Err(ManifestError::Damaged { .. })), "no record has this file's id");
}

/// A snapshot of one partition, faulty from offset 12 on, as the releases before payload version 2 wrote it.
const VERSION_1: &str = "\
    514d726302000000010000000000000075000000c543e697014c01070707070707070707070707070707070206284d0200010201180184\
    0704effdb6f50d80a0abfef962e8a7abfef96201c102010108020112020a01000610160c000001010403010203010b2f642f77616c2f30\
    30303080208040180362616401070707070707070707070707070707070446514d72630201000001000000000000007500000080f191f2\
    014c01070707070707070707070707070707070206284d02000102011801840704effdb6f50d80a0abfef962e8a7abfef96201c1020101\
    08020112020a01000610160c000001010403010203010b2f642f77616c2f30303030802080401803626164010707070707070707070707\
    07070707070446";

fn version_1() -> Vec<u8> {
    let digits: Vec<u32> = VERSION_1.chars().map(|digit| digit.to_digit(16).expect("a hex digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
}

#[test]
fn payloads_of_version_1_are_read_and_added_to() {
    let mut bytes = encode_head(FILE_ID, DIRECTORY_ID);
    bytes.extend_from_slice(&version_1());
    let old = read(&bytes).expect("reads");
    assert_eq!((old.covered, old.tombstones.len()), (GroupSequence(76), 0));
    let state = old.partitions[&partition(1)].clone();
    assert_eq!((state.log_start, state.end, state.applied), (Offset(3), Offset(20), 77));
    assert_eq!((state.segments.len(), state.segments[0].end, state.segments[0].footer_bytes), (1, Offset(12), 321));
    assert_eq!(state.segments[0].headers(), (4, 0xdead_beef));
    assert_eq!(state.epochs.entries()[0].start, Offset(1));
    assert_eq!(state.producers.states().next().map(|state| state.batches[0].last_offset), Some(Offset(11)));
    assert_eq!(state.states, std::collections::BTreeMap::from([(4, vec![1, 2, 3])]));
    assert_eq!(state.fault.as_ref().map(|fault| fault.offset), Some(Offset(12)));
    // What it did not say is what is known least of.
    assert_eq!(state.damaged.ranges(), [Offset(12)..Offset(i64::MAX)]);
    assert_eq!(state.high_watermark, Offset::ZERO);

    let mut newer = state.clone();
    newer.damaged.remove(&(Offset(12)..Offset(15)));
    newer.high_watermark = Offset(9);
    let edit = Edit { covered: 80, updates: vec![(partition(1), state.update_to(&newer))], deleted: Vec::new() };
    encode_record(&mut bytes, FILE_ID, Kind::Edit, 2, &edit);
    assert_eq!(read(&bytes).expect("reads").partitions[&partition(1)], newer);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn mutated_files_never_panic(
            edits in proptest::collection::vec((0_usize..3000, any::<u8>()), 1..20),
            cut in 0_usize..3000,
        ) {
            let (mut bytes, _) = file();
            for (position, value) in edits {
                let length = bytes.len();
                bytes[position % length] = value;
            }
            bytes.truncate(cut.max(1));
            if let Ok(loaded) = read(&bytes) {
                prop_assert!(loaded.end <= bytes.len() as u64);
            }
        }
    }
}
