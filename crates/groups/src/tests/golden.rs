//! Records against bytes that Kafka 4.4's own classes have written (`kafka-4.4.records`: name, `key` or version, hex).

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use quipu_coordinator::Record;
use quipu_protocol::{
    Message,
    group_records::{self, *},
};

use crate::{
    codec::{
        self, Said,
        consumer::{self, SaidOf},
    },
    offsets::Kept,
    request::{Committed, TopicPartition},
};

const RECORDS: &str = include_str!("kafka-4.4.records");
const TOPIC_ID: TopicId = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

fn records() -> Vec<(&'static str, &'static str, Bytes)> {
    let record = |line: &'static str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, what, hex] = words[..] else { panic!("{line}") };
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (name, what, (0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>().into())
    };
    RECORDS.lines().map(record).collect()
}

fn bytes_of(name: &str, what: &str) -> Bytes {
    let found = records().into_iter().find(|(known, version, _)| *known == name && *version == what);
    found.unwrap_or_else(|| panic!("{name} {what} is there")).2
}

/// Read, and written again to the same bytes.
fn again<M: Message>(bytes: &Bytes, is_key: bool) -> Bytes {
    let (number, mut reader) = group_records::split(bytes.clone()).unwrap();
    let version = if is_key { 0 } else { number };
    let message = M::decode(&mut reader, version).unwrap();
    assert_eq!(reader.remaining(), 0);
    if is_key { encode_key(number, &message).unwrap() } else { encode_value(version, &message).unwrap() }
}

#[test]
fn every_record_comes_back_byte_for_byte() {
    let mut seen = 0;
    for (name, what, bytes) in records() {
        let is_key = what == "key";
        let written = match name {
            "OffsetCommitKey" | "LegacyOffsetCommitKey" => again::<OffsetCommitKey>(&bytes, is_key),
            "LegacyOffsetCommitValue" => again::<LegacyOffsetCommitValue>(&bytes, is_key),
            "OffsetCommitValue" => again::<OffsetCommitValue>(&bytes, is_key),
            "GroupMetadataValue" => again::<GroupMetadataValue>(&bytes, is_key),
            "ConsumerGroupMetadataValue" => again::<ConsumerGroupMetadataValue>(&bytes, is_key),
            "ConsumerGroupPartitionMetadataValue" => again::<ConsumerGroupPartitionMetadataValue>(&bytes, is_key),
            "ConsumerGroupMemberMetadataValue" => again::<ConsumerGroupMemberMetadataValue>(&bytes, is_key),
            "ConsumerGroupTargetAssignmentMetadataValue" => {
                again::<ConsumerGroupTargetAssignmentMetadataValue>(&bytes, is_key)
            }
            "ConsumerGroupTargetAssignmentMemberValue" => {
                again::<ConsumerGroupTargetAssignmentMemberValue>(&bytes, is_key)
            }
            "ConsumerGroupCurrentMemberAssignmentValue" => {
                again::<ConsumerGroupCurrentMemberAssignmentValue>(&bytes, is_key)
            }
            "ConsumerGroupRegularExpressionKey" => again::<ConsumerGroupRegularExpressionKey>(&bytes, is_key),
            "ConsumerGroupRegularExpressionValue" => again::<ConsumerGroupRegularExpressionValue>(&bytes, is_key),
            name if name.ends_with("MemberMetadataKey")
                || name.ends_with("AssignmentMemberKey")
                || name.ends_with("MemberAssignmentKey") =>
            {
                again::<GroupMemberKey>(&bytes, is_key)
            }
            _ => again::<GroupKey>(&bytes, is_key),
        };
        assert_eq!(written, bytes, "{name} {what}");
        seen += 1;
    }
    assert_eq!(seen, 29);
}

#[test]
fn an_offset_of_any_version_is_understood() {
    let key = bytes_of("OffsetCommitKey", "key");
    let partition = TopicPartition { topic: "topic".into(), partition: PartitionIndex(7) };
    for version in 0..=4 {
        let value = bytes_of("OffsetCommitValue", &version.to_string());
        let record = Record { key: key.clone(), value: Some(value.clone()) };
        let Ok(Said::Offset { group, partition: of, kept: Some(kept) }) = codec::decode(&record) else { panic!() };
        let committed = Committed {
            offset: Offset(42),
            leader_epoch: if version >= 3 { LeaderEpoch(3) } else { LeaderEpoch(-1) },
            metadata: "meta".to_owned(),
            topic_id: if version == 4 { TOPIC_ID } else { TopicId::ZERO },
        };
        let expire_ms = (version == 1).then_some(1_700_000_001_000);
        let expected = Kept { committed, commit_ms: 1_700_000_000_000, expire_ms };
        assert_eq!((&*group, &of, &kept), ("group", &partition, &expected), "version {version}");
        if matches!(version, 1 | 4) {
            assert_eq!(codec::offset("group", &partition, Some(&kept)), record, "what we write is what Kafka writes");
        }
    }
    let legacy =
        Record { key: bytes_of("LegacyOffsetCommitKey", "key"), value: Some(bytes_of("LegacyOffsetCommitValue", "0")) };
    let Ok(Said::Offset { kept: Some(kept), .. }) = codec::decode(&legacy) else { panic!() };
    assert_eq!((kept.committed.offset, kept.commit_ms), (Offset(42), 9));
}

#[test]
fn a_group_of_any_version_is_restored_and_written_as_kafka_does() {
    let key = bytes_of("GroupMetadataKey", "key");
    for version in 0..=4 {
        let value = bytes_of("GroupMetadataValue", &version.to_string());
        let record = Record { key: key.clone(), value: Some(value) };
        let Ok(Said::Group { group, value: Some(value) }) = codec::decode(&record) else { panic!() };
        let restored = crate::classic::Classic::restore(group, &value);
        assert_eq!((restored.generation, restored.protocol.as_deref()), (5, Some("range")));
        let members: Vec<_> = restored.members().map(|member| (&*member.id, member.rebalance_timeout)).collect();
        let timeout = core::time::Duration::from_millis(if version == 0 { 10_000 } else { 60_000 });
        assert_eq!(members, [("a-1", timeout)]);
        if version == 3 {
            assert_eq!(restored.record(), record);
        }
    }
}

#[test]
fn records_of_the_consumer_protocol_are_written_as_kafka_does() {
    let names = ["Metadata", "MemberMetadata", "TargetAssignmentMetadata", "TargetAssignmentMember"];
    let names = names.into_iter().chain(["CurrentMemberAssignment", "RegularExpression"]);
    for name in names {
        let key = bytes_of(&format!("ConsumerGroup{name}Key"), "key");
        let mut value = bytes_of(&format!("ConsumerGroup{name}Value"), "0");
        if name == "MemberMetadata" {
            // What it can do in the classic protocol is not kept.
            let (version, mut reader) = group_records::split(value).unwrap();
            let member = ConsumerGroupMemberMetadataValue::decode(&mut reader, version).unwrap();
            let member = ConsumerGroupMemberMetadataValue { classic_member_metadata: None, ..member };
            value = encode_value(version, &member).unwrap();
        }
        if name == "CurrentMemberAssignment" {
            // Without an epoch of its own, a partition was assigned in the member's, and that is said from then on.
            let (version, mut reader) = group_records::split(value).unwrap();
            let mut current = ConsumerGroupCurrentMemberAssignmentValue::decode(&mut reader, version).unwrap();
            for topic in &mut current.partitions_pending_revocation {
                topic.assignment_epochs = Some(vec![current.member_epoch; topic.partitions.len()]);
            }
            value = encode_value(version, &current).unwrap();
        }
        for record in [Record { key: key.clone(), value: Some(value) }, Record { key, value: None }] {
            let Ok(Said::Consumer { group, said }) = codec::decode(&record) else { panic!("{name}") };
            let written = match &said {
                SaidOf::Group(value) => consumer::group(&group, *value),
                SaidOf::Member(id, value) => consumer::member(&group, id, value.as_deref()),
                SaidOf::TargetEpoch(value) => consumer::target_epoch(&group, value.map(|epoch| (epoch, 8))),
                SaidOf::Target(id, value) => consumer::target(&group, id, value.as_ref()),
                SaidOf::Current(id, value) => consumer::current(&group, id, value.as_ref()),
                SaidOf::Regex(regex, value) => consumer::regex(&group, regex, value.as_ref()),
            };
            assert_eq!(said.is_end(), record.value.is_none());
            assert_eq!(written, record, "{name}");
            for cut in 1..record.key.len() {
                let cut = Record { key: record.key.slice(..cut), value: None };
                assert!(codec::decode(&cut).is_err(), "{name} cut");
            }
        }
    }
}

#[test]
fn what_is_no_record_is_refused_and_what_is_unknown_passed_over() {
    let share = Record { key: Bytes::from_static(b"\0\x0b\0\0"), value: None };
    assert!(matches!(codec::decode(&share), Ok(Said::Other)));
    for (name, what, bytes) in records().into_iter().filter(|(name, ..)| name.starts_with("OffsetCommit")) {
        for cut in 0..bytes.len() {
            let cut_bytes = bytes.slice(..cut);
            let record = if what == "key" {
                Record { key: cut_bytes, value: None }
            } else {
                Record { key: bytes_of("OffsetCommitKey", "key"), value: Some(cut_bytes) }
            };
            assert!(codec::decode(&record).is_err(), "{name} {what} cut at {cut}");
        }
    }
}
