//! Trouble with disks, majorities and damage: who goes on serving, who says why not, and what the metadata log has to bear.

use core::time::Duration;

use quipu_base::{BrokerId, ProducerEpoch, ProducerId, Sequence};
use quipu_broker::Config;
use quipu_protocol::{
    Response,
    messages::alter_partition_reassignments::{
        AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
    },
};
use quipu_sim::World;
use quipu_wire_client::requests::Producer;

use crate::cluster::{Cluster, MS, SECOND, run};

/// Five brokers, of which three vote.
fn five(world: &World, pairs: &'static [(&'static str, &'static str)]) -> Cluster {
    let mut cluster = Cluster::new(world, 5);
    cluster.change(|config| {
        config.voters.retain(|voter, _| *voter < BrokerId(4));
        for (name, value) in pairs {
            config.defaults.set(name, value).unwrap();
        }
    });
    cluster
}

/// Leaves no room on a node's disk.
fn fill(cluster: &Cluster, id: i32) {
    cluster.node(id).with_disk(|disk| {
        let (free, total) = disk.space();
        disk.set_capacity(Some(total - free));
    });
}

fn make_room(cluster: &Cluster, id: i32) {
    cluster.node(id).with_disk(|disk| disk.set_capacity(None));
}

/// Sends large records until so many bytes are acknowledged.
async fn pour(cluster: &Cluster, through: i32, topic: &str, bytes: usize) -> i64 {
    let value = "x".repeat(900 * 1024);
    let mut last = -1;
    for _ in 0..bytes / value.len() {
        last = cluster.produce(through, topic, &value).await;
    }
    last
}

/// More than what a node's write-ahead log has allocated ahead.
const POURED: usize = 48 * 1024 * 1024;

#[test]
fn a_second_node_with_an_id_that_serves_is_refused_and_disturbs_nobody() {
    run(0..4, |world| async move {
        let mut cluster = Cluster::new(&world, 4);
        cluster.change(|config| drop(config.voters.remove(&BrokerId(4))));
        let slots: Vec<_> = (1..=3).map(|id| cluster.begin(id)).collect();
        for slot in slots {
            cluster.outcome(slot).await.unwrap();
        }
        cluster.create_topic(1, "kept", &[]).await;
        let before = cluster.status(1).await;
        // On another machine, with an empty directory, and by its settings the node that serves already.
        let impostor = Config { node_id: BrokerId(2), ..cluster.config(4) };
        let (status, why) = cluster.start_with(4, impostor).await.unwrap_err();
        assert_eq!(status, 78, "{why}");
        assert!(why.contains("node id 2 is in use"), "{why}");
        let after = cluster.status(1).await;
        assert_eq!((after.epoch, after.voters), (before.epoch, before.voters), "nobody was disturbed");
        for id in 1..=3 {
            cluster.create_topic(id, &format!("still-{id}"), &[]).await;
        }
    });
}

#[test]
fn a_minority_never_acknowledges_and_says_why() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5, 3], &[("min.insync.replicas", "2")]).await;
        cluster.produce(1, "topic", "all have it").await;
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 4).await;
        cluster.node(5).kill();
        cluster.node(3).kill();
        // The others are not known to be gone yet, or are: the one or the other is said, and nothing is acknowledged.
        let why = cluster.try_produce(4, "topic", "nobody's", SECOND).await.unwrap_err();
        assert!(["RequestTimedOut", "NotEnoughReplicas"].iter().any(|known| why.contains(known)), "{why}");
        cluster.wait_for_partition(1, "topic", |partition| partition.isr_nodes == [4]).await;
        let why = cluster.try_produce(4, "topic", "nobody's", SECOND).await.unwrap_err();
        assert!(why.contains("NotEnoughReplicas"), "{why}");
        cluster.start(5).await;
        cluster.produce(1, "topic", "two have it").await;
    });
}

#[test]
fn partitions_with_live_leaders_are_served_without_a_controller() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5], &[]).await;
        cluster.produce(1, "topic", "before").await;
        for voter in 1..=3 {
            cluster.node(voter).kill();
        }
        for number in 0..20 {
            cluster.produce(4, "topic", &format!("without {number}")).await;
            world.sleep(500 * MS).await;
        }
        assert_eq!(cluster.stored(5, "topic").await.len(), 21);
        let refused = cluster.try_create_topic(4, "new", &[]).await.unwrap_err();
        assert!(refused.contains("the metadata quorum"), "it says why: {refused}");
        let starting: Vec<_> = (1..=3).map(|voter| cluster.begin(voter)).collect();
        for slot in starting {
            cluster.outcome(slot).await.unwrap();
        }
        cluster.create_topic(4, "new", &[]).await;
        cluster.produce(4, "topic", "after").await;
        assert_eq!(cluster.stored(5, "topic").await.len(), 22);
    });
}

#[test]
fn a_follower_with_a_full_disk_lags_and_is_told_and_stops_nobody() {
    run(0..2, |world| async move {
        let mut cluster = five(&world, &[("replica.lag.time.max.ms", "2000")]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5, 3], &[("min.insync.replicas", "2")]).await;
        cluster.produce(1, "topic", "first").await;
        fill(&cluster, 5);
        let last = pour(&cluster, 1, "topic", POURED).await;
        cluster.wait_for_partition(1, "topic", |partition| !partition.isr_nodes.contains(&5)).await;
        let told = cluster.partition(1, "topic").await;
        assert!(told.leader_id == 4 && told.isr_nodes.len() == 2 && told.replica_nodes.len() == 3, "{told:?}");
        assert!(cluster.node(5).is_up(), "it goes on without");
        make_room(&cluster, 5);
        cluster.wait_for_partition(1, "topic", |partition| partition.isr_nodes.len() == 3).await;
        assert_eq!(cluster.produce(1, "topic", "last").await, last + 1);
    });
}

#[test]
fn a_leader_with_a_full_disk_hands_over() {
    run(0..2, |world| async move {
        let mut cluster = five(&world, &[("replica.lag.time.max.ms", "2000")]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5, 3], &[("min.insync.replicas", "2")]).await;
        cluster.produce(1, "topic", "first").await;
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 4).await;
        fill(&cluster, 4);
        pour(&cluster, 1, "topic", POURED).await;
        let led = cluster.partition(1, "topic").await;
        assert_ne!(led.leader_id, 4, "{led:?}");
        make_room(&cluster, 4);
        cluster.wait_for_partition(1, "topic", |partition| partition.isr_nodes.len() == 3).await;
        cluster.produce(1, "topic", "last").await;
    });
}

#[test]
fn a_controller_without_room_gives_way() {
    run(0..2, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        let full = cluster.one_leader().await;
        fill(&cluster, full);
        let through = (1..=3).find(|id| *id != full).unwrap();
        // Far more than what is set aside for metadata.
        let name = |number: usize| format!("{number:03}-{}", "x".repeat(200));
        for number in 0..40 {
            cluster.create_topic(through, &name(number), &[("partitions", "200")]).await;
        }
        make_room(&cluster, full);
        cluster.wait_for_topics(full, &[&name(0), &name(39)]).await;
        cluster.one_leader().await;
    });
}

/// Flips a bit of the only copy of a record, while its broker is down.
fn damage(cluster: &Cluster, id: i32) {
    cluster.node(id).with_disk(|disk| {
        let seg = std::path::Path::new("data/seg");
        // The metadata log is not meant.
        let directories = disk.list(seg).unwrap();
        let topic = directories.iter().find(|name| !name.starts_with("AAAAAAAA")).unwrap();
        let directory = seg.join(topic);
        let file = disk.list(&directory).unwrap().into_iter().find(|name| name.ends_with(".log")).unwrap();
        disk.flip_bit(&directory.join(file), 70, 3).unwrap();
    });
}

#[test]
fn a_damaged_partition_without_another_copy_does_not_fill_the_metadata_log() {
    run(0..2, |world| async move {
        let mut cluster = five(&world, &[]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[5], &[]).await;
        for number in 0..10 {
            cluster.produce(1, "topic", &format!("record {number}")).await;
        }
        cluster.stop(5).await;
        damage(&cluster, 5);
        cluster.start(5).await;
        // Whoever reads finds it.
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 5).await;
        assert!(cluster.try_fetch(5, "topic").await.is_err());
        cluster.stop(5).await;
        cluster.start(5).await;
        world.sleep(10 * SECOND).await;
        let before = cluster.status(1).await.log_end.offset;
        world.sleep(120 * SECOND).await;
        let after = cluster.status(1).await.log_end.offset;
        assert!(after.get() - before.get() <= 2, "{} records in two minutes", after.get() - before.get());
        assert!(cluster.try_fetch(5, "topic").await.is_err(), "nobody serves it");
    });
}

#[test]
fn a_partition_moves_while_it_is_written() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5], &[("min.insync.replicas", "2")]).await;
        let mut expected = Vec::new();
        for round in 0..6 {
            let to: &[i32] = if round % 2 == 0 { &[1, 2] } else { &[5, 4] };
            let partition = ReassignablePartition { partition_index: 0, replicas: Some(to.to_vec()) };
            let topics = vec![ReassignableTopic { name: "topic".into(), partitions: vec![partition] }];
            let request = AlterPartitionReassignmentsRequest { timeout_ms: 5000, topics, ..Default::default() };
            let Ok(Response::AlterPartitionReassignments(response)) = cluster.call(3, 0, request).await else {
                panic!("another answer")
            };
            assert_eq!((response.error_code, response.responses[0].partitions[0].error_code), (0, 0), "{response:?}");
            let begun = world.elapsed();
            loop {
                let value = format!("record {}", expected.len());
                let sequence = Sequence(i32::try_from(expected.len()).unwrap());
                let producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(0), sequence };
                let offset = cluster.produce_as(3, "topic", &value, Some(producer)).await;
                expected.push((offset, value));
                let now = cluster.partition(3, "topic").await;
                let mut isr = now.isr_nodes.clone();
                isr.sort_unstable();
                let mut wanted = to.to_vec();
                wanted.sort_unstable();
                if now.replica_nodes == to && isr == wanted {
                    break;
                }
                assert!(world.elapsed() - begun < Duration::from_secs(30), "round {round}: {now:?}");
                world.sleep(5 * MS).await;
            }
        }
        assert_eq!(cluster.stored(3, "topic").await, expected);
    });
}
