//! What records do to an image, and what an image refuses.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use quipu_base::{ClusterId, ControllerEpoch};

use super::*;
use crate::{
    codec,
    partition::{ConfigurationVersion, PartitionDefect},
    record::Voter,
    samples::{directory_id, partition, record, registration, topic_id},
};

/// Applies each record at the next offset. All must fit.
fn image_of(records: &[MetadataRecord]) -> Image {
    let mut image = Image::new();
    for record in records {
        image.apply(image.next_offset(), record, &mut Delta::default()).unwrap();
    }
    image
}

/// What the image says to one more record. It must be left as it was.
fn refusal(image: &Image, record: &MetadataRecord) -> ApplyError {
    let (mut after, mut delta) = (image.clone(), Delta::default());
    let error = after.apply(image.next_offset(), record, &mut delta).unwrap_err();
    assert_eq!(&after, image, "a refused record changed the image");
    assert!(delta.is_empty(), "a refused record is in the delta: {delta:?}");
    error
}

fn topic(name: &str, number: u8) -> MetadataRecord {
    MetadataRecord::Topic { name: name.into(), topic_id: topic_id(number) }
}

fn new_partition(topic: u8, index: i32, state: PartitionState) -> MetadataRecord {
    MetadataRecord::Partition { topic_id: topic_id(topic), partition: PartitionIndex(index), state }
}

fn id(topic: u8, index: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: topic_id(topic), partition: PartitionIndex(index) }
}

fn register(broker: i32, start: u8) -> MetadataRecord {
    MetadataRecord::RegisterBroker { broker: BrokerId(broker), registration: registration(broker, start) }
}

fn elect(partition: TopicIdPartition, leader: Option<i32>, leader_epoch: i32) -> MetadataRecord {
    let election = Election { leader: leader.map(BrokerId), leader_epoch: LeaderEpoch(leader_epoch), unclean: false };
    MetadataRecord::PartitionChange { partition, election: Some(election), configuration: None, assignment: None }
}

fn topic_config(name: &str, value: Option<&str>) -> MetadataRecord {
    let (resource, value) = (ConfigResource::Topic(name.into()), value.map(Into::into));
    MetadataRecord::Config { resource, key: "segment.ms".into(), value }
}

/// Topic `a` with partitions [1, 2] and [2, 1], brokers 1 and 2 registered at offsets 3 and 4.
fn two_brokers() -> Vec<MetadataRecord> {
    vec![
        topic("a", 1),
        new_partition(1, 0, partition(&[1, 2], 0)),
        new_partition(1, 1, partition(&[2, 1], 0)),
        register(1, 1),
        register(2, 1),
    ]
}

#[test]
fn a_registration_raises_the_leader_epochs_of_its_broker_alone() {
    let mut image = image_of(&two_brokers());
    let epochs = |image: &Image| image.partitions().map(|(_, state)| state.leader_epoch.get()).collect::<Vec<_>>();
    assert_eq!(epochs(&image), [1, 1], "each leader registered once");

    let mut delta = Delta::default();
    image.apply(image.next_offset(), &register(1, 2), &mut delta).unwrap();
    assert_eq!(epochs(&image), [2, 1]);
    assert_eq!(delta.partitions_changed, BTreeSet::from([id(1, 0)]));
    assert_eq!(delta.brokers_changed, BTreeSet::from([BrokerId(1)]));

    // Whom nobody follows any more has nothing to raise.
    image.apply(image.next_offset(), &elect(id(1, 0), None, 3), &mut delta).unwrap();
    image.apply(image.next_offset(), &register(1, 3), &mut delta).unwrap();
    assert_eq!(epochs(&image), [3, 1]);
}

#[test]
fn a_broker_remembers_under_which_epoch_it_was_last_unfenced() {
    let mut image = image_of(&[register(1, 1)]);
    let state = |image: &Image| {
        let state = image.broker(BrokerId(1)).unwrap();
        (state.broker_epoch.get(), state.fenced, state.unfenced_epoch.map(BrokerEpoch::get))
    };
    let mut apply = |record: MetadataRecord| {
        image.apply(image.next_offset(), &record, &mut Delta::default()).unwrap();
        state(&image)
    };
    let (broker, broker_epoch) = (BrokerId(1), BrokerEpoch(0));
    assert_eq!(apply(MetadataRecord::UnfenceBroker { broker, broker_epoch }), (0, false, Some(0)));
    assert_eq!(apply(MetadataRecord::FenceBroker { broker, broker_epoch }), (0, true, Some(0)));
    assert_eq!(apply(register(1, 2)), (3, true, Some(0)), "a new epoch, fenced, the old one not forgotten");
    let broker_epoch = BrokerEpoch(3);
    assert_eq!(apply(MetadataRecord::UnfenceBroker { broker, broker_epoch }), (3, false, Some(3)));
}

#[test]
fn a_topic_goes_with_its_partitions_and_configs() {
    let mut records = two_brokers();
    records.push(topic_config("a", Some("5")));
    records.push(MetadataRecord::RemoveTopic { topic_id: topic_id(1) });
    records.push(topic("a", 2));
    let image = image_of(&records);
    assert_eq!(image.topic_id("a"), Some(topic_id(2)));
    assert_eq!(image.topic("a").unwrap().partition_count(), 0);
    assert!(image.topic("a").unwrap().configs().is_empty());
    assert!(image.topic_by_id(topic_id(1)).is_none() && image.partition(id(1, 0)).is_none());
}

#[test]
fn a_delta_does_not_mention_what_came_and_went() {
    let (mut image, mut delta) = (Image::new(), Delta::default());
    let mut records = two_brokers();
    records.push(topic_config("a", Some("5")));
    records.push(MetadataRecord::RemoveTopic { topic_id: topic_id(1) });
    for record in &records {
        image.apply(image.next_offset(), record, &mut delta).unwrap();
    }
    let brokers_changed = BTreeSet::from([BrokerId(1), BrokerId(2)]);
    assert_eq!(delta, Delta { brokers_changed, ..Delta::default() });
}

#[test]
fn a_config_taken_away_leaves_nothing_behind() {
    let broker = |value: Option<&str>| MetadataRecord::Config {
        resource: ConfigResource::Broker(BrokerId(1)),
        key: "k".into(),
        value: value.map(Into::into),
    };
    let image = image_of(&[broker(Some("1")), broker(None), broker(None)]);
    assert_eq!(image.configured_resources().count(), 0);
    let image = image_of(&[topic("a", 1), topic_config("a", Some("5")), topic_config("a", None)]);
    assert_eq!(image.configs(&ConfigResource::Topic("a".into())).map(imbl::OrdMap::len), Some(0));
}

#[test]
fn topics_are_listed_by_name_from_any_name_on() {
    let image = image_of(&[topic("b", 1), topic("c", 2), topic("a", 3)]);
    let names =
        |topics: &mut dyn Iterator<Item = &Topic>| topics.map(|topic| topic.name().to_owned()).collect::<String>();
    assert_eq!(names(&mut image.topics()), "abc");
    assert_eq!(names(&mut image.topics_from("b")), "bc");
    assert_eq!(names(&mut image.topics_from("bb")), "c");
}

#[test]
fn offsets_may_skip_but_not_return() {
    let mut image = image_of(&[topic("a", 1)]);
    image.apply(Offset(10), &topic("b", 2), &mut Delta::default()).unwrap();
    assert_eq!(image.next_offset(), Offset(11));
    let error = image.apply(Offset(10), &topic("c", 3), &mut Delta::default()).unwrap_err();
    assert_eq!(error, ApplyError::OffsetBehind { offset: Offset(10), next_offset: Offset(11) });
    image.skip_to(Offset(20));
    image.skip_to(Offset(15));
    assert_eq!(image.next_offset(), Offset(20));
    let error = image.apply(Offset(19), &topic("c", 3), &mut Delta::default()).unwrap_err();
    assert_eq!(error, ApplyError::OffsetBehind { offset: Offset(19), next_offset: Offset(20) });
}

#[test]
fn what_contradicts_the_image_is_refused() {
    let mut records = two_brokers();
    let voters = vec![Voter { node: BrokerId(1), directory_id: directory_id(1) }];
    let (controller, cluster_id) = (BrokerId(1), ClusterId([1; 16]));
    let epoch_start = |epoch: i32, voters: &[Voter]| MetadataRecord::EpochStart {
        controller_epoch: ControllerEpoch(epoch),
        controller,
        voters: voters.to_vec(),
    };
    let producer_ids = |id: i64| MetadataRecord::ProducerIds { broker: controller, next_producer_id: ProducerId(id) };
    records.extend([epoch_start(2, &voters), MetadataRecord::Cluster { cluster_id }, producer_ids(1000)]);
    let image = image_of(&records);
    let said = |record: &MetadataRecord| refusal(&image, record).to_string();

    for (record, expected) in [
        (epoch_start(2, &voters), "controller epoch 2 starts after controller epoch 2"),
        (epoch_start(3, &[]), "a controller epoch starts without voters"),
        (
            MetadataRecord::Cluster { cluster_id: ClusterId([2; 16]) },
            "cluster AQEBAQEBAQEBAQEBAQEBAQ becomes cluster AgICAgICAgICAgICAgICAg",
        ),
        (topic("a", 2), "topic a is created twice"),
        (topic("b", 1), "the topic with id AQEBAQEBAQEBAQEBAQEBAQ is created twice"),
        (MetadataRecord::RemoveTopic { topic_id: topic_id(7) }, "no topic has the id BwcHBwcHBwcHBwcHBwcHBw"),
        (topic_config("z", Some("1")), "there is no topic z"),
        (
            new_partition(1, 1, partition(&[1], 0)),
            "partition AQEBAQEBAQEBAQEBAQEBAQ-1 is created when its topic has 2 partitions",
        ),
        (
            new_partition(1, 3, partition(&[1], 0)),
            "partition AQEBAQEBAQEBAQEBAQEBAQ-3 is created when its topic has 2 partitions",
        ),
        (
            new_partition(1, -1, partition(&[1], 0)),
            "partition AQEBAQEBAQEBAQEBAQEBAQ--1 is created when its topic has 2 partitions",
        ),
        (new_partition(7, 0, partition(&[1], 0)), "no topic has the id BwcHBwcHBwcHBwcHBwcHBw"),
        (elect(id(1, 9), None, 9), "there is no partition AQEBAQEBAQEBAQEBAQEBAQ-9"),
        (elect(id(1, 0), Some(2), 1), "leader epoch 1 of partition AQEBAQEBAQEBAQEBAQEBAQ-0 comes after 1"),
        (elect(id(1, 0), Some(3), 2), "partition AQEBAQEBAQEBAQEBAQEBAQ-0 gets impossible values (its leader)"),
        (producer_ids(1000), "producer ids up to 1000 are given out after those up to 1000"),
        (
            MetadataRecord::FenceBroker { broker: BrokerId(1), broker_epoch: BrokerEpoch(99) },
            "broker 1 is registered under broker epoch 3, not 99",
        ),
        (
            MetadataRecord::UnfenceBroker { broker: BrokerId(9), broker_epoch: BrokerEpoch(3) },
            "broker 9 is not registered",
        ),
        (
            MetadataRecord::Broker { broker: BrokerId(1), state: image.broker(BrokerId(1)).unwrap().clone() },
            "a record that belongs into a snapshot stands in the log",
        ),
    ] {
        assert_eq!(said(&record), format!("the metadata log contradicts itself: {expected}"));
    }
}

#[test]
fn a_configuration_changes_only_to_a_sound_one_of_a_higher_version() {
    let image = image_of(&two_brokers());
    let change = |members: &[i32], version: u32| MetadataRecord::PartitionChange {
        partition: id(1, 0),
        election: None,
        configuration: Some(Configuration {
            version: ConfigurationVersion(version),
            ..partition(members, 0).configuration
        }),
        assignment: None,
    };
    let (known, found) = (ConfigurationVersion(0), ConfigurationVersion(0));
    assert_eq!(
        refusal(&image, &change(&[1], 0)),
        ApplyError::ConfigurationBehind { partition: id(1, 0), known, found }
    );
    let impossible = |defect| ApplyError::ImpossiblePartition { partition: id(1, 0), defect };
    assert_eq!(refusal(&image, &change(&[2], 1)), impossible(PartitionDefect::Leader));
    assert_eq!(refusal(&image, &change(&[1, 3], 1)), impossible(PartitionDefect::Members));

    let mut after = image;
    after.apply(after.next_offset(), &change(&[1], 1), &mut Delta::default()).unwrap();
    let state = after.partition(id(1, 0)).unwrap();
    assert_eq!((state.configuration.members.len(), state.leader_epoch), (1, LeaderEpoch(1)));
}

#[test]
fn a_snapshot_takes_no_registrations() {
    assert_eq!(Image::rebuild(Offset(1), &[register(1, 1)]), Err(ApplyError::NotInSnapshots));
}

/// What must be in the delta between two images, by looking at both.
fn assert_delta_tells(delta: &Delta, before: &Image, after: &Image) {
    let topics = |image: &Image| image.topics().map(|topic| (topic.topic_id(), topic.name().to_owned())).collect();
    let (old, new): (BTreeMap<TopicId, String>, BTreeMap<TopicId, String>) = (topics(before), topics(after));
    let created: BTreeSet<TopicId> = new.keys().filter(|id| !old.contains_key(id)).copied().collect();
    assert_eq!(delta.topics_created, created);
    let deleted: BTreeMap<TopicId, String> =
        old.into_iter().filter(|(topic_id, _)| !new.contains_key(topic_id)).collect();
    let told = delta.topics_deleted.iter().map(|(topic_id, topic)| (*topic_id, topic.name.to_string()));
    assert_eq!(told.collect::<BTreeMap<_, _>>(), deleted);
    for (partition, state) in after.partitions() {
        let is_same = before.partition(partition) == Some(state);
        assert!(is_same || delta.partitions_changed.contains(&partition), "{partition} changed unseen");
    }
    assert!(delta.partitions_changed.iter().all(|partition| after.partition(*partition).is_some()));
    for (broker, state) in after.brokers() {
        assert!(before.broker(broker) == Some(state) || delta.brokers_changed.contains(&broker));
    }
    for topic in after.topics() {
        let resource = ConfigResource::Topic(topic.name().to_owned());
        let old = before.topic_by_id(topic.topic_id()).map(Topic::configs);
        let is_same = old.map_or(topic.configs().is_empty(), |configs| configs == topic.configs());
        assert!(is_same || delta.configs_changed.contains(&resource), "{resource} changed unseen");
    }
    for (resource, configs) in after.configured_resources() {
        assert!(before.configs(resource) == Some(configs) || delta.configs_changed.contains(resource));
    }
}

proptest! {
    #[test]
    fn replay_and_snapshot_give_the_same_image(records in vec(record(), 0..60), split in 0..60_usize) {
        let (mut image, mut accepted, mut middle) = (Image::new(), Vec::new(), None);
        let mut delta = Delta::default();
        let mut topic_ids_used = BTreeSet::new();
        for (index, record) in records.iter().enumerate() {
            // An id that had a topic never has another: the controller sees to that, no image can.
            if let MetadataRecord::Topic { topic_id, .. } = record && !topic_ids_used.insert(*topic_id) {
                continue;
            }
            if index == split {
                middle = Some(image.clone());
                delta = Delta::default();
            }
            let before = image.clone();
            let offset = Offset(i64::try_from(index).unwrap());
            if image.apply(offset, record, &mut delta).is_ok() {
                accepted.push((offset, codec::encode(record)));
                for (partition, state) in image.partitions() {
                    prop_assert_eq!(state.check(), Ok(()));
                    let epoch = before.partition(partition).map(|state| state.leader_epoch);
                    prop_assert!(epoch.is_none_or(|epoch| state.leader_epoch >= epoch), "a leader epoch fell");
                }
            } else {
                prop_assert_eq!(&image, &before);
            }
        }
        assert_delta_tells(&delta, &middle.unwrap_or_default(), &image);

        let mut replayed = Image::new();
        for (offset, bytes) in &accepted {
            replayed.apply(*offset, &codec::decode(bytes).unwrap(), &mut Delta::default()).unwrap();
        }
        prop_assert_eq!(&replayed, &image);

        let snapshot = image.to_records();
        let rebuilt = Image::rebuild(image.next_offset(), &snapshot).unwrap();
        prop_assert_eq!(&rebuilt, &image);
        prop_assert_eq!(rebuilt.to_records(), snapshot);
    }
}
