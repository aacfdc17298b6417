//! Every kind of request and reply survives its bytes; other bytes are refused.

use proptest::prelude::*;
use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId,
    TopicIdPartition,
};
use quipu_metadata::{
    ConfigResource, ConfigurationVersion, Member,
    config::{ConfigError, ConfigSource, Lookup},
    record::{Listener, Registration, StartId},
};

use super::*;
use crate::*;

const BROKER: BrokerId = BrokerId(2);
const EPOCH: BrokerEpoch = BrokerEpoch(300);

fn id() -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId([9; 16]), partition: PartitionIndex(1) }
}

fn member() -> Member {
    Member { broker: BROKER, directory_id: DirectoryId([2; 16]) }
}

/// One of each kind, in their order.
fn requests() -> Vec<AnyRequest> {
    let (broker, broker_epoch, leader_epoch) = (BROKER, EPOCH, LeaderEpoch(7));
    let registration = Registration {
        directory_id: DirectoryId([2; 16]),
        start_id: StartId([5; 16]),
        listeners: vec![Listener { name: "PLAIN".into(), host: "h".into(), port: 9092 }],
        rack: Some("a".into()),
        features: Bootstrap::supported_features(),
    };
    let (version, members) = (ConfigurationVersion(3), vec![member()]);
    let asks = vec![
        (id(), PartitionAsk::ChangeConfiguration { leader_epoch, version, members, quorum: 1 }),
        (id(), PartitionAsk::GiveUpLeadership { leader_epoch, reason: GiveUpReason::CommittedRecordsMissing }),
        (id(), PartitionAsk::PreferLeader { leader_epoch, reporter: member() }),
    ];
    let report = LogReport {
        member: member(),
        broker_epoch,
        label: leader_epoch,
        log_end: Offset(10),
        is_faulty: true,
        is_active: false,
    };
    let election = UncleanElection { partition: id(), leader_epoch, reports: vec![report] };
    let operation = ConfigOperation { name: "k".into(), kind: OperationKind::Append, value: Some("v".into()) };
    let more = MorePartitions { name: "t".into(), partition_count: 4, assignments: Some(vec![vec![broker]]) };
    let reassignment = Reassignment { topic: "t".into(), partition: PartitionIndex(0), replicas: Some(vec![broker]) };
    vec![
        RegisterBroker { cluster_id: ClusterId([1; 16]), broker, registration }.into(),
        UnfenceBroker { broker, broker_epoch }.into(),
        FenceBroker { broker, broker_epoch }.into(),
        ControlledShutdown { broker, broker_epoch }.into(),
        UnregisterBroker { broker }.into(),
        CreateTopics { topics: vec![NewTopic::with_defaults("t")], validate_only: true }.into(),
        CreatePartitions { topics: vec![more], validate_only: false }.into(),
        DeleteTopics { topics: vec![TopicRef::Name("t".into()), TopicRef::Id(TopicId([9; 16]))] }.into(),
        AlterConfigs { resources: vec![(ConfigResource::Broker(broker), vec![operation])], validate_only: false }
            .into(),
        ReplaceConfigs {
            resources: vec![(ConfigResource::Topic("t".into()), vec![("k".into(), None)])],
            validate_only: true,
        }
        .into(),
        AllocateProducerIds { broker, broker_epoch }.into(),
        AskPartitions { broker, broker_epoch, asks }.into(),
        ElectPreferred { partitions: Some(vec![("t".into(), vec![PartitionIndex(0)])]) }.into(),
        ElectUnclean { partitions: vec![election], is_forced: true }.into(),
        UpdateFeatures { updates: vec![(METADATA_VERSION.into(), 2)], validate_only: false }.into(),
        AlterPartitionReassignments { partitions: vec![reassignment], allow_replication_factor_change: true }.into(),
    ]
}

fn replies() -> Vec<AnyReply> {
    let config =
        CreatedConfig { name: "k".into(), value: "v".into(), source: ConfigSource::StaticBroker, is_read_only: true };
    let created =
        CreatedTopic { topic_id: TopicId([9; 16]), partition_count: 4, replication_factor: 3, configs: vec![config] };
    let declined = || ControllerError::InvalidPartitions("why".into());
    let answer = PartitionAnswer { partition: id(), verdict: Verdict::Declined, state: None };
    vec![
        AnyReply::RegisterBroker(()),
        AnyReply::UnfenceBroker(()),
        AnyReply::FenceBroker(()),
        AnyReply::ControlledShutdown(ShutdownProgress { leaderships_left: 9 }),
        AnyReply::UnregisterBroker(()),
        AnyReply::CreateTopics(vec![("t".into(), Ok(created)), ("u".into(), Err(declined()))]),
        AnyReply::CreatePartitions(vec![("t".into(), Err(declined()))]),
        AnyReply::DeleteTopics(vec![(
            TopicRef::Name("t".into()),
            Ok(DeletedTopic { name: "t".into(), topic_id: TopicId([9; 16]) }),
        )]),
        AnyReply::AlterConfigs(vec![(ConfigResource::BrokerDefault, Ok(()))]),
        AnyReply::ReplaceConfigs(vec![(ConfigResource::Group("g".into()), Err(declined()))]),
        AnyReply::AllocateProducerIds(ProducerIdBlock { first: ProducerId(1000), count: 1000 }),
        AnyReply::AskPartitions(vec![answer]),
        AnyReply::ElectPreferred(vec![("t".into(), PartitionIndex(0), Err(ControllerError::ElectionNotNeeded))]),
        AnyReply::ElectUnclean(vec![(id(), Ok(BROKER))]),
        AnyReply::UpdateFeatures(()),
        AnyReply::AlterPartitionReassignments(vec![("t".into(), PartitionIndex(0), Ok(()))]),
    ]
}

/// One of each kind of error that carries something of its own.
fn errors() -> Vec<ControllerError> {
    let (name, broker) = (|| "n".to_owned(), BROKER);
    let config =
        |lookup: Lookup, key: &str, value: &str| lookup.known(key).and_then(|known| known.accept(value)).unwrap_err();
    let configs: [ConfigError; 4] = [
        config(Lookup::topic("nobody.knows"), "nobody.knows", "1"),
        config(Lookup::topic("remote.storage.enable"), "remote.storage.enable", "true"),
        config(Lookup::topic("flush.messages"), "flush.messages", "2"),
        config(Lookup::topic("segment.ms"), "segment.ms", "soon"),
    ];
    let mut errors: Vec<ControllerError> = configs.into_iter().map(ControllerError::InvalidConfig).collect();
    errors.extend([
        ControllerError::InvalidTopicName(TopicNameError::TooLong { length: 300 }),
        ControllerError::TopicNameCollides { name: name(), existing: name() },
        ControllerError::TopicExists { name: name() },
        ControllerError::UnknownTopic { name: name() },
        ControllerError::UnknownTopicId { topic_id: TopicId([9; 16]) },
        ControllerError::InvalidConfigOperation(name()),
        ControllerError::TooManyPartitions,
        ControllerError::StaleBrokerEpoch { broker, current: EPOCH, found: BrokerEpoch(-1) },
        ControllerError::DuplicateBroker { broker, serving: DirectoryId([2; 16]) },
        ControllerError::OtherCluster { known: ClusterId([1; 16]), found: ClusterId([2; 16]) },
        ControllerError::UnsupportedFeature { name: name(), level: 2 },
        ControllerError::UnknownPartition { topic: name(), partition: PartitionIndex(1) },
        ControllerError::BrokerServing { broker },
        ControllerError::NeedsMetadataVersion { what: "a noun".into(), level: 2, current: 1 },
        ControllerError::PreferredLeaderNotAvailable { broker: Some(broker) },
        ControllerError::StaleLeaderEpoch { current: LeaderEpoch(7), found: LeaderEpoch(6) },
        ControllerError::NoReassignment,
    ]);
    errors
}

#[test]
fn every_request_survives_its_bytes() {
    for (number, request) in requests().into_iter().enumerate() {
        let bytes = request.encode().unwrap();
        assert_eq!(AnyRequest::decode(&bytes).as_ref(), Ok(&request));
        assert_eq!(usize::from(bytes[1]), number, "kinds are numbered in their order: {request:?}");
        for length in 0..bytes.len() {
            assert!(AnyRequest::decode(&bytes[..length]).is_err(), "{request:?} cut to {length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(AnyRequest::decode(&longer), Err(ForwardError::Malformed));
    }
}

#[test]
fn every_answer_survives_its_bytes() {
    assert_eq!(replies().len(), requests().len(), "a reply for each request");
    let answers = replies().into_iter().map(Ok).chain(errors().into_iter().map(Err));
    for answer in answers {
        let bytes = encode_answer(&answer).unwrap();
        assert_eq!(decode_answer(&bytes), Ok(answer));
    }
}

#[test]
fn a_reply_is_taken_only_as_what_it_is() {
    assert_eq!(ControlledShutdown::reply_of(AnyReply::UnfenceBroker(())), None);
    let reply = AnyReply::ControlledShutdown(ShutdownProgress { leaderships_left: 9 });
    assert_eq!(ControlledShutdown::reply_of(reply), Some(ShutdownProgress { leaderships_left: 9 }));
}

#[test]
fn other_bytes_are_refused_with_the_reason() {
    assert_eq!(AnyRequest::decode(&[]), Err(ForwardError::Version { found: None }));
    assert_eq!(AnyRequest::decode(&[2, 4, 4]), Err(ForwardError::Version { found: Some(2) }));
    assert_eq!(AnyRequest::decode(&[1, 99, 4]), Err(ForwardError::Malformed));
    // CreateTopics of 2^32 - 1 topics.
    assert_eq!(AnyRequest::decode(&[1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(ForwardError::Malformed));
    let huge = DeleteTopics { topics: vec![TopicRef::Name("n".repeat(FORWARD_BYTES_MAX))] };
    assert!(matches!(AnyRequest::from(huge).encode(), Err(ForwardError::TooLarge { .. })));
    assert!(matches!(decode_answer(&vec![1; FORWARD_BYTES_MAX + 1]), Err(ForwardError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(kind in 0_u8..20, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[FORMAT_VERSION, kind][..], &rest].concat();
        if let Ok(request) = AnyRequest::decode(&bytes) {
            prop_assert_eq!(AnyRequest::decode(&request.encode().unwrap()), Ok(request));
        }
        if let Ok(answer) = decode_answer(&bytes) {
            prop_assert_eq!(decode_answer(&encode_answer(&answer).unwrap()), Ok(answer));
        }
    }
}
