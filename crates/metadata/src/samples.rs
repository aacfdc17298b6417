//! Records for tests: one of each kind, and arbitrary ones over few names and numbers, so that many of them fit together.

use proptest::{collection::vec, option, prelude::*};
use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, LeaderEpoch, PartitionIndex, ProducerId, TopicId,
    TopicIdPartition,
};

use crate::{
    Configuration, ConfigurationVersion, Member, MetadataRecord, PartitionState,
    record::{Assignment, BrokerState, ConfigResource, Election, FeatureRange, Listener, Registration, StartId, Voter},
};

pub(crate) fn topic_id(number: u8) -> TopicId {
    TopicId([number; 16])
}

pub(crate) fn directory_id(broker: i32) -> DirectoryId {
    DirectoryId([u8::try_from(broker).unwrap(); 16])
}

pub(crate) fn registration(broker: i32, start: u8) -> Registration {
    Registration {
        directory_id: directory_id(broker),
        start_id: StartId([start; 16]),
        listeners: vec![Listener { name: "PLAIN".into(), host: "127.0.0.1".into(), port: 9092 }],
        rack: (broker % 2 == 0).then(|| "a".into()),
        features: vec![FeatureRange { name: "metadata.version".into(), level_min: 1, level_max: 300 }],
    }
}

/// A sound partition, the first of `replicas` leading.
pub(crate) fn partition(replicas: &[i32], leader_epoch: i32) -> PartitionState {
    let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
    let member = |broker: &BrokerId| Member { broker: *broker, directory_id: directory_id(broker.get()) };
    PartitionState {
        configuration: Configuration {
            members: replicas.iter().map(member).collect(),
            quorum: u16::try_from(replicas.len() / 2 + 1).unwrap(),
            version: ConfigurationVersion(0),
        },
        leader: replicas.first().copied(),
        leader_epoch: LeaderEpoch(leader_epoch),
        unclean_epoch: LeaderEpoch::NONE,
        replication_factor: u16::try_from(replicas.len()).unwrap(),
        replicas,
        adding: vec![],
        removing: vec![],
    }
}

/// One of each kind, in the order of their numbers, with every field in use.
pub(crate) fn one_of_each() -> Vec<MetadataRecord> {
    let (broker, broker_epoch) = (BrokerId(2), BrokerEpoch(300));
    let partition_id = TopicIdPartition { topic_id: topic_id(9), partition: PartitionIndex(1) };
    let state = PartitionState { adding: vec![BrokerId(3)], removing: vec![BrokerId(1)], ..partition(&[1, 2, 3], 7) };
    vec![
        MetadataRecord::EpochStart {
            controller_epoch: ControllerEpoch(5),
            controller: broker,
            voters: vec![Voter { node: broker, directory_id: directory_id(2) }],
        },
        MetadataRecord::Cluster { cluster_id: ClusterId([0xc1; 16]) },
        MetadataRecord::Feature { name: "f".into(), level: 300 },
        MetadataRecord::RegisterBroker { broker, registration: registration(2, 0x51) },
        MetadataRecord::UnfenceBroker { broker, broker_epoch },
        MetadataRecord::FenceBroker { broker, broker_epoch },
        MetadataRecord::UnregisterBroker { broker, broker_epoch },
        MetadataRecord::Topic { name: "t".into(), topic_id: topic_id(9) },
        MetadataRecord::Partition { topic_id: topic_id(9), partition: PartitionIndex(1), state },
        MetadataRecord::PartitionChange {
            partition: partition_id,
            election: Some(Election { leader: Some(broker), leader_epoch: LeaderEpoch(8), unclean: true }),
            configuration: Some(Configuration {
                members: vec![Member { broker, directory_id: directory_id(2) }],
                quorum: 1,
                version: ConfigurationVersion(4),
            }),
            assignment: Some(Assignment {
                replicas: vec![broker],
                adding: vec![broker],
                removing: vec![broker],
                replication_factor: 1,
            }),
        },
        MetadataRecord::RemoveTopic { topic_id: topic_id(9) },
        MetadataRecord::Config {
            resource: ConfigResource::Topic("t".into()),
            key: "k".into(),
            value: Some("v".into()),
        },
        MetadataRecord::ProducerIds { broker, next_producer_id: ProducerId(1000) },
        MetadataRecord::Broker {
            broker,
            state: BrokerState {
                broker_epoch,
                registration: registration(2, 0x51),
                fenced: true,
                unfenced_epoch: Some(BrokerEpoch(200)),
                in_controlled_shutdown: false,
            },
        },
    ]
}

/// What only version 2 can say.
pub(crate) fn of_version_2() -> Vec<MetadataRecord> {
    let (broker, broker_epoch) = (BrokerId(2), BrokerEpoch(300));
    let partition_id = TopicIdPartition { topic_id: topic_id(9), partition: PartitionIndex(1) };
    let sound = partition(&[1, 2, 3], 7);
    let new = |state| MetadataRecord::Partition { topic_id: topic_id(9), partition: PartitionIndex(1), state };
    vec![
        new(PartitionState { replication_factor: 2, removing: vec![BrokerId(1)], ..sound.clone() }),
        new(PartitionState { unclean_epoch: LeaderEpoch(6), ..sound }),
        MetadataRecord::PartitionChange {
            partition: partition_id,
            election: None,
            configuration: None,
            assignment: Some(Assignment {
                replicas: vec![broker, BrokerId(3)],
                adding: vec![broker],
                removing: vec![BrokerId(3)],
                replication_factor: 1,
            }),
        },
        MetadataRecord::Broker {
            broker,
            state: BrokerState {
                broker_epoch,
                registration: registration(2, 0x51),
                fenced: false,
                unfenced_epoch: Some(BrokerEpoch(300)),
                in_controlled_shutdown: true,
            },
        },
        MetadataRecord::BrokerShutdown { broker, broker_epoch },
    ]
}

fn broker() -> impl Strategy<Value = BrokerId> {
    (1..4_i32).prop_map(BrokerId)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())]
}

fn replicas() -> impl Strategy<Value = Vec<i32>> {
    prop_oneof![
        8 => Just(vec![1]),
        8 => Just(vec![2, 1]),
        8 => Just(vec![1, 2, 3]),
        1 => Just(vec![]),
        1 => Just(vec![1, 1]),
    ]
}

fn resource() -> impl Strategy<Value = ConfigResource> {
    prop_oneof![
        4 => name().prop_map(ConfigResource::Topic),
        1 => broker().prop_map(ConfigResource::Broker),
        1 => Just(ConfigResource::BrokerDefault),
        1 => name().prop_map(ConfigResource::Group),
        1 => name().prop_map(ConfigResource::ClientMetrics),
    ]
}

fn partition_change() -> impl Strategy<Value = MetadataRecord> {
    let election = (option::of(broker()), 0..20_i32, any::<bool>()).prop_map(|(leader, leader_epoch, unclean)| {
        Election { leader, leader_epoch: LeaderEpoch(leader_epoch), unclean }
    });
    let configuration = (replicas(), 0..10_u32).prop_map(|(members, version)| Configuration {
        version: ConfigurationVersion(version),
        ..partition(&members, 0).configuration
    });
    let assignment = (replicas(), 0..3_u16).prop_map(|(replicas, fewer)| Assignment {
        replication_factor: u16::try_from(replicas.len()).unwrap().saturating_sub(fewer),
        replicas: replicas.into_iter().map(BrokerId).collect(),
        adding: vec![],
        removing: vec![],
    });
    let partition = (1..8_u8, 0..3_i32).prop_map(|(topic, partition)| TopicIdPartition {
        topic_id: topic_id(topic),
        partition: PartitionIndex(partition),
    });
    (partition, option::of(election), option::of(configuration), option::of(assignment)).prop_map(
        |(partition, election, configuration, assignment)| MetadataRecord::PartitionChange {
            partition,
            election,
            configuration,
            assignment,
        },
    )
}

fn broker_change() -> impl Strategy<Value = MetadataRecord> {
    // Broker epochs are offsets, and a test that applies records in turn puts them at 0, 1, 2, ...
    (broker(), (0..60_i64).prop_map(BrokerEpoch), 0..10).prop_map(|(broker, broker_epoch, kind)| match kind {
        0..6 => MetadataRecord::UnfenceBroker { broker, broker_epoch },
        6..8 => MetadataRecord::FenceBroker { broker, broker_epoch },
        8 => MetadataRecord::BrokerShutdown { broker, broker_epoch },
        _ => MetadataRecord::UnregisterBroker { broker, broker_epoch },
    })
}

/// Any record of the log.
pub(crate) fn record() -> impl Strategy<Value = MetadataRecord> {
    let topic = 1..8_u8;
    let epoch_start = (0..9_i32, vec(broker(), 0..3)).prop_map(|(epoch, voters)| MetadataRecord::EpochStart {
        controller_epoch: ControllerEpoch(epoch),
        controller: BrokerId(1),
        voters: voters.into_iter().map(|node| Voter { node, directory_id: directory_id(node.get()) }).collect(),
    });
    let config = (resource(), name(), option::weighted(0.7, name()))
        .prop_map(|(resource, key, value)| MetadataRecord::Config { resource, key, value });
    let new_partition = (topic.clone(), 0..3_i32, replicas()).prop_map(|(topic, index, replicas)| {
        let (topic_id, partition) = (topic_id(topic), PartitionIndex(index));
        MetadataRecord::Partition { topic_id, partition, state: self::partition(&replicas, 0) }
    });
    prop_oneof![
        1 => epoch_start,
        1 => (1..3_u8).prop_map(|id| MetadataRecord::Cluster { cluster_id: ClusterId([id; 16]) }),
        1 => (name(), 0..3_i16).prop_map(|(name, level)| MetadataRecord::Feature { name, level }),
        3 => (1..4_i32, any::<u8>()).prop_map(|(broker, start)| MetadataRecord::RegisterBroker {
            broker: BrokerId(broker),
            registration: registration(broker, start),
        }),
        6 => broker_change(),
        6 => (name(), topic.clone()).prop_map(|(name, topic)| MetadataRecord::Topic { name, topic_id: topic_id(topic) }),
        12 => new_partition,
        12 => partition_change(),
        1 => topic.prop_map(|topic| MetadataRecord::RemoveTopic { topic_id: topic_id(topic) }),
        4 => config,
        1 => (broker(), 0..5_i64).prop_map(|(broker, id)| MetadataRecord::ProducerIds {
            broker,
            next_producer_id: ProducerId(id * 1000),
        }),
    ]
}
