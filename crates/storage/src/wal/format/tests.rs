use proptest::prelude::*;

use super::*;

fn frame(number: u8, payload: &[u8]) -> Frame {
    let split = payload.len() / 3;
    Frame {
        partition: TopicIdPartition { topic_id: TopicId([number; 16]), partition: PartitionIndex(i32::from(number)) },
        kind: FrameKind::from_number(1 + number % 13).unwrap(),
        leader_epoch: LeaderEpoch(i32::from(number) * 3),
        base_offset: Offset(i64::from(number) << 33),
        head: Bytes::copy_from_slice(&payload[..split]),
        body: Bytes::copy_from_slice(&payload[split..]),
    }
}

fn plan(generation: u64) -> GroupPlan {
    GroupPlan {
        generation,
        sequence: GroupSequence(9),
        synced_up_to: GroupSequence(7),
        file: 3,
        position: 5 * PAGE_BYTES as u64,
        previous_hash: Some(0xfeed_beef),
        reach: 1 << 23,
        directory_tag: 0x0102_0304_0506_0708,
    }
}

fn front(bytes: &[u8]) -> HeaderReading {
    GroupHeader::decode(bytes)
}

fn end(bytes: &[u8]) -> HeaderReading {
    GroupHeader::decode(&bytes[bytes.len() - HEADER_BYTES..])
}

fn header(bytes: &[u8]) -> GroupHeader {
    match front(bytes) {
        HeaderReading::Valid(header, Copy::Front) => header,
        other => panic!("{other:?}"),
    }
}

/// What a reader who knows the generation gets out of a group, whichever copies it needs: entries with their payloads.
fn read(bytes: &Bytes, generation: u64) -> Option<Vec<(Entry, Option<Bytes>)>> {
    let header = [(front(bytes), Copy::Front), (end(bytes), Copy::End)].into_iter().find_map(
        |(reading, expected)| match reading {
            HeaderReading::Valid(header, copy) if copy == expected && header.generation == generation => Some(header),
            _ => None,
        },
    )?;
    if header.length != bytes.len() as u64 {
        return None;
    }
    match decode_body(&header, bytes) {
        BodyReading::Frames { frames, .. } => {
            Some(frames.into_iter().map(|frame| (frame.entry, frame.payload)).collect())
        }
        BodyReading::NoDirectory | BodyReading::UnknownKind(_) => None,
    }
}

#[test]
fn layout_is_as_documented() {
    let group = encode_group(&plan(0x1122_3344_5566_7788), &[(frame(2, b"abc"), GroupSequence(4))]);
    let bytes = &group.bytes;
    assert_eq!(bytes.len(), PAGE_BYTES);
    assert_eq!(&bytes[0..8], b"QuipuWAL");
    assert_eq!(bytes[8..12], [1, 0, 0, 0]);
    assert_eq!(bytes[16..24], 0x1122_3344_5566_7788_u64.to_le_bytes());
    assert_eq!(bytes[24..32], 9_u64.to_le_bytes());
    assert_eq!(bytes[32..40], 7_u64.to_le_bytes());
    assert_eq!(bytes[40..48], 20_480_u64.to_le_bytes());
    assert_eq!(bytes[48..52], 3_u32.to_le_bytes());
    assert_eq!(bytes[52..56], 0xfeed_beef_u32.to_le_bytes());
    assert_eq!(bytes[56..64], 4096_u64.to_le_bytes());
    assert_eq!(bytes[64..68], 1_u32.to_le_bytes());
    assert_eq!(bytes[72..80], 3_u64.to_le_bytes());
    assert_eq!(bytes[80..88], (1_u64 << 23).to_le_bytes());
    let entry = &bytes[96..152];
    assert_eq!(entry[0..16], [2; 16]);
    assert_eq!(entry[16..20], 2_i32.to_le_bytes());
    assert_eq!(entry[20], 3);
    assert_eq!(entry[24..28], 6_i32.to_le_bytes());
    assert_eq!(entry[32..40], (2_i64 << 33).to_le_bytes());
    assert_eq!(entry[40..44], 3_u32.to_le_bytes());
    assert_eq!(entry[48..56], 4_u64.to_le_bytes());
    assert_eq!(bytes[152..155], *b"abc");
    assert_eq!((group.payloads[0].clone(), group.payloads.len()), (152..155, 1));
    assert_eq!(bytes[4096 - 96 - 56..4096 - 96], *entry);
    assert_eq!(bytes[4000..4010], *b"QuipuWAL\x01\x00");
    assert_eq!(bytes[4010], 1);
    assert_eq!(group.hash.to_le_bytes(), bytes[12..16]);
    // The checksums, by the words of the documentation.
    let mut crc = Crc32c::new();
    crc.update(&bytes[16..24]);
    crc.update(&bytes[0..12]);
    crc.update(&bytes[16..96]);
    assert_eq!(crc.finish().to_le_bytes(), bytes[12..16]);
    let mut crc = Crc32c::new();
    crc.update(&bytes[16..24]);
    crc.update(b"abc");
    assert_eq!(crc.finish().to_le_bytes(), entry[28..32]);
}

#[test]
fn no_flipped_bit_is_accepted() {
    let generation = 0x0123_4567_89ab_cdef;
    let frames = [(frame(1, b"first payload"), GroupSequence(3)), (frame(2, b"second"), GroupSequence(8))];
    let group = encode_group(&plan(generation), &frames);
    let whole = read(&group.bytes, generation).unwrap();
    for bit in 0..group.bytes.len() * 8 {
        let mut bytes = group.bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let bytes = Bytes::from(bytes);
        let headers = [front(&bytes), end(&bytes)];
        assert!(headers.iter().any(|reading| matches!(reading, HeaderReading::Valid(..))), "one bit harms one copy");
        let found = read(&bytes, generation).unwrap();
        assert_eq!(found.len(), whole.len());
        for (found, whole) in found.iter().zip(&whole) {
            assert_eq!(found.0, whole.0, "bit {bit}");
            assert!(found.1.is_none() || found.1 == whole.1, "bit {bit}");
        }
        let in_payload = group.payloads.iter().any(|range| range.contains(&(bit / 8)));
        assert_eq!(found.iter().any(|(_, payload)| payload.is_none()), in_payload, "bit {bit}");
    }
}

#[test]
fn no_truncated_group_is_whole() {
    let frames = [(frame(1, &[7; 5000]), GroupSequence(3)), (frame(2, b"second"), GroupSequence(8))];
    let group = encode_group(&plan(5), &frames);
    let header = header(&group.bytes);
    for length in 0..group.bytes.len() {
        let kept = &group.bytes[..length];
        assert_eq!(front(kept) == HeaderReading::Invalid, length < HEADER_BYTES);
        // What a crash leaves is padded to the group's length by what lay there before.
        let mut bytes = kept.to_vec();
        bytes.resize(group.bytes.len(), 0);
        let BodyReading::Frames { frames, both_copies } = decode_body(&header, &Bytes::from(bytes)) else {
            assert!(length < HEADER_BYTES + 2 * ENTRY_BYTES);
            continue;
        };
        // The group's last bytes are zeros.
        assert_eq!(both_copies, group.bytes[length..].iter().all(|byte| *byte == 0));
        for (frame, range) in frames.iter().zip(&group.payloads) {
            assert_eq!(frame.payload.is_some(), range.end <= length);
        }
    }
}

#[test]
fn another_generations_group_does_not_pass() {
    let group = encode_group(&plan(5), &[(frame(1, b"x"), GroupSequence::NONE)]);
    let header = header(&group.bytes);
    assert_eq!(read(&group.bytes, 6), None);
    // Even if somebody puts the number into the header.
    let mut bytes = group.bytes.to_vec();
    bytes[16..24].copy_from_slice(&6_u64.to_le_bytes());
    assert_eq!(front(&bytes), HeaderReading::Invalid);
    let forged = GroupHeader { generation: 6, ..header };
    assert!(matches!(decode_body(&forged, &group.bytes), BodyReading::NoDirectory));
}

#[test]
fn newer_versions_are_told_from_damage() {
    let mut bytes = header(&encode_group(&plan(5), &[]).bytes).encode(Copy::Front);
    bytes[8] = 2;
    assert_eq!(front(&bytes), HeaderReading::Invalid);
    let crc = header_crc(&bytes);
    bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(front(&bytes), HeaderReading::Newer { version: 2, generation: 5 });
}

#[test]
fn headers_that_contradict_themselves_are_invalid() {
    let good = header(&encode_group(&plan(5), &[(frame(1, b"x"), GroupSequence::NONE)]).bytes);
    for bad in [
        GroupHeader { length: 8192, ..good },
        GroupHeader { length: 0, ..good },
        GroupHeader { frame_count: u32::MAX, ..good },
        GroupHeader { payload_bytes: u64::MAX, ..good },
        GroupHeader { payload_bytes: 1 << 32, ..good },
        GroupHeader { position: 17, ..good },
        GroupHeader { position: u64::MAX - 4095, ..good },
        GroupHeader { synced_up_to: good.sequence, ..good },
    ] {
        assert_eq!(front(&bad.encode(Copy::Front)), HeaderReading::Invalid, "{bad:?}");
    }
    assert_eq!(front(&good.encode(Copy::Front)), HeaderReading::Valid(good, Copy::Front));
}

#[test]
fn an_unknown_kind_is_named() {
    let group = encode_group(&plan(5), &[(frame(1, b"x"), GroupSequence::NONE)]);
    let mut bytes = group.bytes.to_vec();
    bytes[96 + 20] = 99;
    let header = GroupHeader { directory_crc: seeded_crc(5, &bytes[96..152]), ..header(&group.bytes) };
    assert!(matches!(decode_body(&header, &Bytes::from(bytes)), BodyReading::UnknownKind(99)));
}

fn frames() -> impl Strategy<Value = Vec<(Frame, GroupSequence)>> {
    let one = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..3000), any::<u64>());
    let frames = prop::collection::vec(one, 0..20);
    frames.prop_map(|frames| {
        frames.into_iter().map(|(number, payload, group)| (frame(number, &payload), GroupSequence(group))).collect()
    })
}

proptest! {
    #[test]
    fn groups_round_trip(generation in any::<u64>(), frames in frames(), lose_front in any::<bool>()) {
        let group = encode_group(&plan(generation), &frames);
        prop_assert!(group.bytes.len().is_multiple_of(PAGE_BYTES));
        let mut bytes = group.bytes.to_vec();
        if lose_front {
            bytes[..HEADER_BYTES + frames.len() * ENTRY_BYTES].fill(0);
        }
        let found = read(&Bytes::from(bytes), generation).unwrap();
        prop_assert_eq!(found.len(), frames.len());
        for ((entry, payload), (frame, previous)) in found.iter().zip(&frames) {
            let expected = [&frame.head[..], &frame.body[..]].concat();
            prop_assert_eq!(payload.as_deref(), Some(&expected[..]));
            prop_assert_eq!(
                (entry.partition, entry.kind, entry.leader_epoch, entry.base_offset, entry.previous),
                (frame.partition, frame.kind, frame.leader_epoch, frame.base_offset, *previous)
            );
        }
    }

    /// Nothing that was overwritten in part is taken for what it was.
    #[test]
    fn torn_groups_never_lie(
        frames in frames(),
        before in any::<u8>(),
        lost in prop::collection::vec(any::<bool>(), 128),
    ) {
        let group = encode_group(&plan(77), &frames);
        let mut bytes = group.bytes.to_vec();
        for (sector, lost) in bytes.chunks_mut(512).zip(lost.iter().cycle()) {
            if *lost {
                sector.fill(before);
            }
        }
        if let Some(found) = read(&Bytes::from(bytes), 77) {
            for ((_, payload), (frame, _)) in found.iter().zip(&frames) {
                let expected = [&frame.head[..], &frame.body[..]].concat();
                prop_assert!(payload.is_none() || payload.as_deref() == Some(&expected[..]));
            }
        }
    }
}
