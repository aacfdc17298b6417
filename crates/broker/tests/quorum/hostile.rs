//! A voter that keeps no rules: what it says of the metadata log is refused, and ends nobody.

use std::sync::Arc;

use quipu_base::{BrokerId, ClusterId, LeaderEpoch, Offset, Timestamp};
use quipu_env::watch;
use quipu_metadata::{ConfigResource, MetadataRecord, codec};
use quipu_peer::{Frame, Lane, Own, PeerAddress, Peers, Settings};
use quipu_raft::{Body, Data, Entry, LogPoint, Message, Payload, ReplicaKey, encode};
use quipu_records::{BatchBuilder, NewRecord};
use quipu_sim::SimEnv;

use crate::cluster::{Cluster, SECOND, run};

/// An entry of so many records, each of which does nothing that anybody would miss.
fn entry(base: Offset, epoch: LeaderEpoch, records: u32) -> Entry {
    let mut builder = BatchBuilder::new().base_offset(base).leader_epoch(epoch);
    let config = MetadataRecord::Config {
        resource: ConfigResource::Topic("kept".to_owned()),
        key: "max.message.bytes".to_owned(),
        value: Some("100000".to_owned()),
    };
    let value = codec::encode(&config);
    for _ in 0..records {
        let record = NewRecord { timestamp: Timestamp(1), key: None, value: Some(&value), headers: &[] };
        builder.push(&record).unwrap();
    }
    let bytes = builder.build().unwrap().into_bytes();
    Entry { epoch, payload: Payload::Data(Data { records, bytes }) }
}

fn append(epoch: i32, start: LogPoint, entries: Vec<Entry>, high_watermark: Offset) -> (LeaderEpoch, Body) {
    (LeaderEpoch(epoch), Body::Append { start, entries, high_watermark })
}

/// Says these things as another replica, and stays to be heard.
async fn say(env: SimEnv, cluster_id: ClusterId, from: ReplicaKey, to: ReplicaKey, all: Vec<(LeaderEpoch, Body)>) {
    let own = Arc::new(watch::Sender::new(Own {
        cluster_id: Some(cluster_id),
        node_id: from.id,
        directory_id: from.directory,
        start_id: [9; 16],
        broker_epoch: None,
        address: None,
    }));
    let peers = Peers::start(env, own.subscribe(), None, Settings::default(), |_, _| None);
    peers.set_address(to.id, Some(PeerAddress { host: format!("n{}", to.id), port: 9192 }), None);
    for (epoch, body) in all {
        let message = Message { from, to, epoch, body };
        peers.send(to.id, Lane::Quorum, Frame::new(encode(&message).into())).unwrap();
    }
    core::future::pending::<()>().await;
    drop(own);
}

#[test]
fn a_leader_that_names_places_inside_entries_is_refused() {
    run(0..4, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        cluster.create_topic(1, "kept", &[]).await;
        cluster.one_leader().await;
        let (liar, victim) = (cluster.status(3).await.replica, cluster.status(1).await);
        let cluster_id = cluster.broker(3).cluster_id();
        cluster.node(3).kill();
        // In a later epoch than anybody's: an entry of five records, which nobody has committed, and then places inside it.
        let (first, second) = (victim.epoch.get() + 10, victim.epoch.get() + 11);
        let end = victim.log_end;
        let inside = |records: i64| LogPoint { offset: Offset(end.offset.get() + records), epoch: LeaderEpoch(first) };
        let lies = vec![
            append(first, end, vec![entry(end.offset, LeaderEpoch(first), 5)], Offset::ZERO),
            append(second, inside(2), vec![entry(inside(2).offset, LeaderEpoch(second), 1)], Offset::ZERO),
            append(second, end, vec![entry(end.offset, LeaderEpoch(first), 3)], Offset::ZERO),
        ];
        drop(cluster.node(3).start(move |env| say(env, cluster_id, liar, victim.replica, lies)));
        world.sleep(2 * SECOND).await;
        if !cluster.node(1).is_up() {
            panic!("it does not go on: {}", cluster.node(1).wait_down().await);
        }
        cluster.node(3).kill();
        cluster.start(3).await;
        cluster.create_topic(1, "after", &[]).await;
        for id in 1..=3 {
            cluster.wait_for_topics(id, &["kept", "after"]).await;
        }
        assert_eq!(cluster.status(1).await.voters.get(BrokerId(1)), Some(victim.replica));
    });
}
