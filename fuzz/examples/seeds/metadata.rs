//! One metadata record of each kind, a short log, and configs.

use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, LeaderEpoch, PartitionIndex, ProducerId, TopicId,
    TopicIdPartition,
};
use quipu_metadata::{
    ConfigResource, Configuration, ConfigurationVersion, Delta, Image, Member, MetadataRecord, PartitionState,
    codec::encode,
    config::{BROKER_KEYS, GROUP_KEYS, TOPIC_KEYS},
    record::{Assignment, BrokerState, Election, FeatureRange, Listener, Registration, StartId, Voter},
};

use crate::Seeds;

pub(crate) fn add(seeds: &mut Seeds) {
    let mut log = Vec::new();
    for (name, record) in records() {
        let encoded = encode(&record).to_vec();
        log.extend(u16::try_from(encoded.len()).expect("a small record").to_be_bytes());
        log.extend_from_slice(&encoded);
        seeds.good("metadata_record", name, encoded);
    }
    seeds.good("metadata_log", "one-of-each", log.clone());
    let mut image = Image::new();
    for (_, record) in records() {
        // Those that don't fit leave it as it was.
        drop(image.apply(image.next_offset(), &record, &mut Delta::default()));
    }
    let snapshot = image.to_pieces(1000).collect::<Vec<_>>().concat();
    seeds.good("metadata_snapshot", "one-of-each", snapshot.clone());
    seeds.bad("metadata_snapshot", "half", snapshot[..snapshot.len() / 2].to_vec());
    seeds.bad("metadata_snapshot", "longer", [&snapshot[..], &[0]].concat());
    seeds.bad("metadata_snapshot", "newer", vec![2]);
    seeds.bad("metadata_snapshot", "empty", Vec::new());
    log.truncate(log.len() / 2);
    seeds.good("metadata_log", "half", log);
    seeds.bad("metadata_log", "empty", Vec::new());
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("version-0", b"\0\x01"),
        ("newer", b"\x03\x01"),
        ("unknown-kind", b"\x01\x7f"),
        ("many-voters", b"\x01\0\x02\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("long-name", b"\x01\x02\xff\xff\xff\xff\x0f"),
        ("trailing", b"\x01\x02\x01f\x02\0"),
    ] {
        seeds.bad("metadata_record", name, bytes.to_vec());
    }
    add_configs(seeds);
}

fn records() -> Vec<(&'static str, MetadataRecord)> {
    let (broker, broker_epoch, topic_id) = (BrokerId(2), BrokerEpoch(3), TopicId([9; 16]));
    let partition = TopicIdPartition { topic_id, partition: PartitionIndex(0) };
    let directory_id = DirectoryId([2; 16]);
    let configuration = |version| Configuration {
        members: vec![Member { broker, directory_id }],
        quorum: 1,
        version: ConfigurationVersion(version),
    };
    let state = PartitionState {
        replicas: vec![broker],
        replication_factor: 1,
        adding: vec![],
        removing: vec![],
        configuration: configuration(0),
        leader: Some(broker),
        leader_epoch: LeaderEpoch(0),
        unclean_epoch: LeaderEpoch::NONE,
    };
    let voters = vec![Voter { node: broker, directory_id }];
    let config = |value: Option<&str>| MetadataRecord::Config {
        resource: ConfigResource::Topic("t".into()),
        key: "segment.bytes".into(),
        value: value.map(str::to_owned),
    };
    vec![
        (
            "epoch-start",
            MetadataRecord::EpochStart { controller_epoch: ControllerEpoch(5), controller: broker, voters },
        ),
        ("cluster", MetadataRecord::Cluster { cluster_id: ClusterId([0xc1; 16]) }),
        ("feature", MetadataRecord::Feature { name: "metadata.version".into(), level: 300 }),
        ("register", MetadataRecord::RegisterBroker { broker, registration: registration(directory_id) }),
        ("unfence", MetadataRecord::UnfenceBroker { broker, broker_epoch }),
        ("topic", MetadataRecord::Topic { name: "t".into(), topic_id }),
        ("partition", MetadataRecord::Partition { topic_id, partition: PartitionIndex(0), state }),
        ("config", config(Some("1048576"))),
        ("producer-ids", MetadataRecord::ProducerIds { broker, next_producer_id: ProducerId(1000) }),
        (
            "partition-change",
            MetadataRecord::PartitionChange {
                partition,
                election: Some(Election { leader: Some(broker), leader_epoch: LeaderEpoch(8), unclean: true }),
                configuration: Some(configuration(4)),
                assignment: Some(Assignment {
                    replicas: vec![broker],
                    adding: vec![],
                    removing: vec![],
                    replication_factor: 1,
                }),
            },
        ),
        ("fence", MetadataRecord::FenceBroker { broker, broker_epoch }),
        ("no-config", config(None)),
        ("remove-topic", MetadataRecord::RemoveTopic { topic_id }),
        ("unregister", MetadataRecord::UnregisterBroker { broker, broker_epoch }),
        (
            "broker",
            MetadataRecord::Broker {
                broker,
                state: BrokerState {
                    broker_epoch,
                    registration: registration(directory_id),
                    fenced: true,
                    unfenced_epoch: Some(BrokerEpoch(1)),
                    in_controlled_shutdown: false,
                },
            },
        ),
        ("broker-shutdown", MetadataRecord::BrokerShutdown { broker, broker_epoch }),
    ]
}

fn registration(directory_id: DirectoryId) -> Registration {
    Registration {
        directory_id,
        start_id: StartId([0x51; 16]),
        listeners: vec![Listener { name: "PLAIN".into(), host: "127.0.0.1".into(), port: 9092 }],
        rack: Some("a".into()),
        features: vec![FeatureRange { name: "metadata.version".into(), level_min: 1, level_max: 300 }],
    }
}

fn add_configs(seeds: &mut Seeds) {
    for (choice, key) in (0..).zip(TOPIC_KEYS.iter().chain(BROKER_KEYS).chain(GROUP_KEYS)) {
        let name = format!("{choice:03}-{}", key.name);
        seeds.good("config", name, [&[choice], key.default.as_bytes()].concat());
    }
    seeds.good("config", "by-name", b"\xffmax.message.bytes= 1048588 ".to_vec());
    seeds.bad("config", "nothing", Vec::new());
    seeds.bad("config", "unknown", b"\xffno.such.config=1".to_vec());
    seeds.bad("config", "not-yet", b"\xffretention.bytes=1000".to_vec());
    seeds.bad("config", "too-large", b"\xffmax.message.bytes=99999999999999999999".to_vec());
    seeds.bad("config", "no-number", b"\xffmax.message.bytes=0x10".to_vec());
}
