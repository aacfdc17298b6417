//! The metadata plane of simulated clusters: founding, the active controller and its successor, requests through any node, restarts,
//! snapshots, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test")]

mod cluster;
mod elections;
mod hostile;
mod snapshots;
mod trouble;
mod voters;

use core::time::Duration;

use cluster::{Cluster, MS, SECOND, run};
use quipu_broker::{Config, Roles};

#[test]
fn three_nodes_found_a_cluster_and_any_of_them_takes_requests() {
    run(0..5, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        let begun = world.elapsed();
        cluster.start_all().await;
        assert!(world.elapsed() - begun < 3 * SECOND / 2, "three nodes are ready after {:?}", world.elapsed() - begun);
        let ids: Vec<_> = (1..=3).map(|id| cluster.broker(id).cluster_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "one cluster: {ids:?}");
        cluster.one_leader().await;
        for id in 1..=3 {
            let name = format!("through-{id}");
            cluster.create_topic(id, &name, &[]).await;
            assert!(cluster.topics(id).await.contains(&name), "who is answered sees it");
        }
        for id in 1..=3 {
            cluster.wait_for_topics(id, &["through-1", "through-2", "through-3"]).await;
        }
    });
}

#[test]
fn another_controller_takes_over_and_the_old_one_catches_up() {
    run(0..5, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        let old = cluster.one_leader().await;
        cluster.create_topic(old, "before", &[]).await;
        cluster.node(old).kill();
        let killed = world.elapsed();
        let other = (1..=3).find(|id| *id != old).unwrap();
        cluster.create_topic(other, "after", &[]).await;
        let gap = world.elapsed() - killed;
        assert!(gap < SECOND, "the gap was {gap:?}");
        let new = cluster.one_leader().await;
        assert_ne!(new, old);
        cluster.start(old).await;
        cluster.wait_for_topics(old, &["before", "after"]).await;
        cluster.create_topic(old, "again", &[]).await;
        for id in 1..=3 {
            cluster.wait_for_topics(id, &["before", "after", "again"]).await;
        }
    });
}

#[test]
fn a_node_that_is_gone_is_fenced_and_comes_back() {
    run(0..3, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        let leader = cluster.one_leader().await;
        let gone = (1..=3).find(|id| *id != leader).unwrap();
        cluster.wait_for_brokers(leader, &[1, 2, 3]).await;
        cluster.node(gone).power_cut();
        let left: Vec<i32> = (1..=3).filter(|id| *id != gone).collect();
        let cut = world.elapsed();
        cluster.wait_for_brokers(leader, &left).await;
        let took = world.elapsed() - cut;
        assert!(took < 2 * SECOND && took > 50 * MS, "fenced after {took:?}");
        let listed = cluster.listed_brokers(leader).await;
        assert_eq!(listed, [1, 2, 3], "clients find the next leaders first");
        world.sleep(6 * SECOND).await;
        assert_eq!(cluster.listed_brokers(leader).await, left);
        cluster.start(gone).await;
        cluster.wait_for_brokers(gone, &[1, 2, 3]).await;
    });
}

#[test]
fn a_node_that_stops_hands_over_what_it_has() {
    run(0..5, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        for id in [1, 2, 3, 1] {
            cluster.wait_for_brokers(id, &[1, 2, 3]).await;
            let leader = cluster.one_leader().await;
            let begun = world.elapsed();
            cluster.stop(leader).await;
            let took = world.elapsed() - begun;
            assert!(took < SECOND, "stopping took {took:?}");
            let left: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
            let next = cluster.one_leader().await;
            assert!(world.elapsed() - begun < SECOND, "somebody leads at once");
            cluster.wait_for_brokers(next, &left).await;
            assert!(world.elapsed() - begun < SECOND, "nobody waits for a session to end");
            cluster.start(leader).await;
        }
        // The last ones have nobody to hand over to, and stop all the same.
        for id in 1..=3 {
            let begun = world.elapsed();
            cluster.stop(id).await;
            assert!(world.elapsed() - begun < 3 * SECOND);
        }
    });
}

#[test]
fn power_cuts_of_all_nodes_lose_nothing() {
    run(0..5, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        for round in 0..3 {
            cluster.create_topic(1 + round % 3, &format!("topic-{round}"), &[]).await;
            (1..=3).for_each(|id| cluster.node(id).power_cut());
            cluster.start_all().await;
            cluster.one_leader().await;
            for id in 1..=3 {
                let names: Vec<String> = (0..=round).map(|round| format!("topic-{round}")).collect();
                cluster.wait_for_topics(id, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
            }
        }
    });
}

#[test]
fn a_snapshot_is_taken_over_by_who_was_away_for_long() {
    run(0..3, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.change(|config| config.metadata_snapshot_bytes = 16 * 1024);
        cluster.start_all().await;
        let leader = cluster.one_leader().await;
        let away = (1..=3).find(|id| *id != leader).unwrap();
        cluster.node(away).kill();
        let long = "x".repeat(200);
        let mut names = Vec::new();
        for number in 0..12 {
            let name = format!("topic-{number:02}-{long}");
            cluster.create_topic(leader, &name, &[("partitions", "100")]).await;
            names.push(name);
        }
        let status = cluster.status(leader).await;
        assert!(status.log_start.get() > 500, "the log's beginning is gone: {status:?}");
        cluster.start(away).await;
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        cluster.wait_for_topics(away, &all).await;
        let status = cluster.status(away).await;
        assert!(status.log_start.get() > 500, "it began with a snapshot: {status:?}");
        // All nodes start from their snapshots and what follows them.
        (1..=3).for_each(|id| cluster.node(id).power_cut());
        cluster.start_all().await;
        for id in 1..=3 {
            cluster.wait_for_topics(id, &all).await;
        }
        cluster.create_topic(away, "last", &[]).await;
    });
}

#[test]
fn a_broker_that_does_not_vote_and_a_voter_that_is_no_broker_do_their_part() {
    run(0..3, |world| async move {
        let mut cluster = Cluster::new(&world, 4);
        cluster.change(|config| {
            config.voters.remove(&quipu_base::BrokerId(4));
            if config.node_id.0 == 1 {
                config.roles = Roles::Controller;
            }
        });
        cluster.start_all().await;
        cluster.create_topic(4, "through-an-observer", &[]).await;
        cluster.wait_for_topics(2, &["through-an-observer"]).await;
        cluster.wait_for_brokers(3, &[2, 3, 4]).await;
        let status = cluster.status(4).await;
        assert!(status.voters.len() == 3 && status.voters.get(quipu_base::BrokerId(4)).is_none());
    });
}

#[test]
fn a_minority_decides_nothing_and_says_so() {
    run(0..3, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        let leader = cluster.one_leader().await;
        (1..=3).filter(|id| *id != leader).for_each(|id| cluster.node(id).kill());
        let begun = world.elapsed();
        let refused = cluster.try_create_topic(leader, "never", &[]).await.unwrap_err();
        assert!(refused.contains("NotController") || refused.contains("RequestTimedOut"), "{refused}");
        assert!(world.elapsed() - begun < Duration::from_secs(8));
        assert!(!cluster.topics(leader).await.contains(&"never".to_owned()));
    });
}

#[test]
fn what_does_not_belong_together_is_refused_at_the_start() {
    run(0..2, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        // A node of another cluster that is pointed at this one.
        cluster.node(3).kill();
        let alone = Config { data_dir: "alone".into(), ..cluster.config(3) };
        let lonely = Config { voters: std::collections::BTreeMap::new(), ..alone.clone() };
        cluster.start_with(3, lonely).await.unwrap();
        cluster.node(3).kill();
        let (status, why) = cluster.start_with(3, alone).await.unwrap_err();
        assert_eq!(status, 78, "{why}");
        assert!(why.contains("cluster"), "{why}");
    });
}

#[test]
fn founders_with_different_voters_are_told() {
    run(0..2, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.change(|config| {
            if config.node_id.0 == 2 {
                config.voters.remove(&quipu_base::BrokerId(3));
            }
        });
        let first = cluster.begin(1);
        let second = cluster.begin(2);
        let (_, why) = cluster.outcome(first).await.unwrap_err();
        let (status, other) = cluster.outcome(second).await.unwrap_err();
        for why in [why, other] {
            assert!(why.contains("1, 2, 3") && why.contains("need the same list"), "{why}");
        }
        assert_eq!(status, 78);
    });
}

#[test]
fn two_founders_with_one_id_are_told() {
    run(0..3, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        // Somebody copied the first node's file, and forgot the id.
        cluster.change(|config| {
            if config.node_id.0 == 3 {
                config.node_id = quipu_base::BrokerId(1);
            }
        });
        let slots: Vec<_> = (1..=3).map(|id| cluster.begin(id)).collect();
        let (status, why) = cluster.outcome(slots[1].clone()).await.unwrap_err();
        assert_eq!(status, 78, "{why}");
        assert!(why.contains("two nodes are up with node_id 1"), "{why}");
    });
}

#[test]
fn an_advertised_address_that_nobody_can_reach_is_refused() {
    run(0..2, |world| async move {
        let mut cluster = Cluster::new(&world, 1);
        let config = cluster.config(1);
        let told = |host: &str, port| Some(quipu_broker::HostPort { host: host.to_owned(), port });
        let unknown = Config { advertise: told("no-such-host", 9092), ..config.clone() };
        let (status, why) = cluster.start_with(1, unknown).await.unwrap_err();
        assert!(status == 78 && why.contains("no-such-host:9092, to which nobody can connect"), "{status}: {why}");
        // Its own address, and nobody listens on that port.
        let listen = told("n1", 9092).unwrap();
        let closed = Config { listen, advertise: told("n1", 9999), ..config.clone() };
        let (status, why) = cluster.start_with(1, closed).await.unwrap_err();
        assert!(status == 78 && why.contains("n1:9999, to which nobody can connect"), "{status}: {why}");
        let peers = Config { peer_advertise: told("no-such-host", 9192), ..config.clone() };
        let (status, why) = cluster.start_with(1, peers).await.unwrap_err();
        assert!(status == 78 && why.contains("peer_advertise is no-such-host:9192"), "{status}: {why}");
        cluster.start_with(1, config).await.unwrap();
    });
}

#[test]
fn a_leader_that_was_cut_off_with_a_large_entry_catches_up() {
    run(0..6, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        let old = cluster.one_leader().await;
        let others: Vec<i32> = (1..=3).filter(|id| *id != old).collect();
        world.partition(&[cluster.node(old)], &[cluster.node(others[0]), cluster.node(others[1])]);
        // Its entry has many records, and nobody else has it.
        cluster.try_create_topic(old, "never", &[("partitions", "300")]).await.unwrap_err();
        let names: Vec<String> = (0..12).map(|number| format!("topic-{number}")).collect();
        for name in &names {
            cluster.create_topic(others[0], name, &[]).await;
        }
        // What the new leader has ends inside of that entry.
        world.mend(&[cluster.node(old)], &[cluster.node(others[0]), cluster.node(others[1])]);
        cluster.wait_for_topics(old, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(!cluster.topics(old).await.contains(&"never".to_owned()));
    });
}
