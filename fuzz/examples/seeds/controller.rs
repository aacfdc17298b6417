//! Requests to the controller, and answers.

use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
};
use quipu_controller::{
    AlterConfigs, AnyReply, AnyRequest, AskPartitions, Bootstrap, ConfigOperation, ControllerError, CreateTopics,
    DeleteTopics, ElectPreferred, ElectUnclean, GiveUpReason, LogReport, NewTopic, OperationKind, PartitionAnswer,
    PartitionAsk, RegisterBroker, TopicRef, UncleanElection, Verdict, encode_answer,
};
use quipu_metadata::{
    ConfigResource, ConfigurationVersion, Member,
    record::{Listener, Registration, StartId},
};

use crate::Seeds;

pub(crate) fn add(seeds: &mut Seeds) {
    for (name, request) in requests() {
        seeds.good("controller_message", name, request.encode().expect("small").to_vec());
    }
    let partition = TopicIdPartition { topic_id: TopicId([9; 16]), partition: PartitionIndex(1) };
    let answer = PartitionAnswer { partition, verdict: Verdict::Conflict, state: None };
    let why = ControllerError::InvalidPartitions("why".into());
    for (name, answer) in [
        ("answer", Ok(AnyReply::AskPartitions(vec![answer]))),
        ("answers", Ok(AnyReply::CreatePartitions(vec![("t".into(), Ok(())), ("u".into(), Err(why.clone()))]))),
        ("declined", Err(why)),
    ] {
        seeds.good("controller_message", name, encode_answer(&answer).expect("small").to_vec());
    }
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("newer", b"\x02\x04\x04"),
        ("unknown-kind", b"\x01\x63\x04"),
        ("many-topics", b"\x01\x05\xff\xff\xff\xff\x0f"),
    ] {
        seeds.bad("controller_message", name, bytes.to_vec());
    }
}

fn requests() -> Vec<(&'static str, AnyRequest)> {
    let (broker, broker_epoch, leader_epoch) = (BrokerId(2), BrokerEpoch(300), LeaderEpoch(7));
    let member = Member { broker, directory_id: DirectoryId([2; 16]) };
    let partition = TopicIdPartition { topic_id: TopicId([9; 16]), partition: PartitionIndex(1) };
    let registration = Registration {
        directory_id: member.directory_id,
        start_id: StartId([5; 16]),
        listeners: vec![Listener { name: "PLAIN".into(), host: "h".into(), port: 9092 }],
        rack: Some("a".into()),
        features: Bootstrap::supported_features(),
    };
    let (version, members) = (ConfigurationVersion(3), vec![member]);
    let asks = vec![
        (partition, PartitionAsk::ChangeConfiguration { leader_epoch, version, members, quorum: 1 }),
        (partition, PartitionAsk::GiveUpLeadership { leader_epoch, reason: GiveUpReason::NotActive }),
        (partition, PartitionAsk::PreferLeader { leader_epoch, reporter: member }),
    ];
    let report =
        LogReport { member, broker_epoch, label: leader_epoch, log_end: Offset(10), is_faulty: true, is_active: false };
    let election = UncleanElection { partition, leader_epoch, reports: vec![report] };
    let operation = ConfigOperation { name: "k".into(), kind: OperationKind::Append, value: Some("v".into()) };
    let resources = vec![(ConfigResource::Broker(broker), vec![operation])];
    vec![
        ("register", RegisterBroker { cluster_id: ClusterId([1; 16]), broker, registration }.into()),
        ("create", CreateTopics { topics: vec![NewTopic::with_defaults("t")], validate_only: true }.into()),
        ("delete", DeleteTopics { topics: vec![TopicRef::Name("t".into()), TopicRef::Id(TopicId([9; 16]))] }.into()),
        ("alter", AlterConfigs { resources, validate_only: false }.into()),
        ("ask", AskPartitions { broker, broker_epoch, asks }.into()),
        ("elect", ElectPreferred { partitions: Some(vec![("t".into(), vec![PartitionIndex(0)])]) }.into()),
        ("elect-unclean", ElectUnclean { partitions: vec![election], is_forced: true }.into()),
    ]
}
