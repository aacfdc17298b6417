//! Voters whose directories are lost.

use quipu_base::BrokerId;
use quipu_broker::Roles;
use quipu_raft::ReplicaKey;
use quipu_sim::World;

use crate::cluster::{Cluster, MS, SECOND, run};

/// A node loses its directory and is started with an empty one. Which replica it was before.
async fn wipe(world: &World, cluster: &mut Cluster, id: i32, directory: &str) -> ReplicaKey {
    let before = cluster.status(id).await.replica;
    cluster.node(id).power_cut();
    let directory = directory.to_owned();
    cluster.change(|config| {
        if config.node_id.0 == id {
            config.data_dir = directory.clone().into();
        }
    });
    // Half of the runs begin while the others still believe in the old one.
    if world.seed().is_multiple_of(2) {
        world.sleep(2 * SECOND).await;
    }
    cluster.start(id).await;
    before
}

/// Waits until a node votes with the directory that it has.
async fn votes_again(world: &World, cluster: &Cluster, id: i32, before: ReplicaKey) {
    let begun = world.elapsed();
    loop {
        let status = cluster.status(id).await;
        if status.voters.contains(status.replica) {
            assert!(
                status.replica != before && !status.voters.contains(before) && status.voters.len() == 3,
                "{status:?}"
            );
            return;
        }
        assert!(world.elapsed() - begun < 15 * SECOND, "{status:?}");
        world.sleep(50 * MS).await;
    }
}

#[test]
fn a_wiped_voter_votes_again_and_carries_the_quorum() {
    run(0..4, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        cluster.create_topic(1, "kept", &[]).await;
        let before = wipe(&world, &mut cluster, 3, "another").await;
        cluster.wait_for_topics(3, &["kept"]).await;
        votes_again(&world, &cluster, 3, before).await;
        // Its vote counts: without another one the quorum goes on, also after all were cut off.
        cluster.create_topic(1, "with-three", &[]).await;
        let leader = cluster.one_leader().await;
        let gone = if leader == 3 { 1 } else { leader };
        cluster.node(gone).power_cut();
        let left: Vec<i32> = (1..=3).filter(|id| *id != gone).collect();
        cluster.one_leader_of(&left).await;
        cluster.create_topic(3, "with-two", &[]).await;
        cluster.start(gone).await;
        (1..=3).for_each(|id| cluster.node(id).power_cut());
        cluster.start_all().await;
        for id in 1..=3 {
            cluster.wait_for_topics(id, &["kept", "with-three", "with-two"]).await;
            let status = cluster.status(id).await;
            assert!(status.voters.contains(status.replica), "{status:?}");
        }
    });
}

/// Gives the directory of a node that is down another id.
async fn reidentify(cluster: &Cluster, id: i32) {
    let directory = cluster.config(id).data_dir;
    let done =
        cluster.node(id).start(move |env| async move { quipu_storage::reidentify(&env, &directory).await.map(drop) });
    done.join().await.unwrap().unwrap();
}

#[test]
fn a_directory_with_another_id_is_another_voter_that_knows_much() {
    run(0..4, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.start_all().await;
        cluster.create_topic(1, "kept", &[]).await;
        let before = cluster.status(3).await.replica;
        cluster.stop(3).await;
        reidentify(&cluster, 3).await;
        cluster.create_topic(1, "meanwhile", &[]).await;
        cluster.start(3).await;
        votes_again(&world, &cluster, 3, before).await;
        cluster.wait_for_topics(3, &["kept", "meanwhile"]).await;
        // And once more: its files still name the first one.
        let before = cluster.status(3).await.replica;
        cluster.node(3).power_cut();
        reidentify(&cluster, 3).await;
        cluster.start(3).await;
        votes_again(&world, &cluster, 3, before).await;
        cluster.wait_for_topics(3, &["kept", "meanwhile"]).await;
    });
}

#[test]
fn a_node_without_others_does_not_start_as_somebody_else() {
    run(0..1, |world| async move {
        let mut cluster = Cluster::new(&world, 1);
        cluster.start_all().await;
        cluster.create_topic(1, "kept", &[]).await;
        cluster.stop(1).await;
        reidentify(&cluster, 1).await;
        let (status, why) = cluster.start_with(1, cluster.config(1)).await.unwrap_err();
        assert_eq!(status, 78, "{why}");
        assert!(why.contains("only voter"), "{why}");
    });
}

#[test]
fn all_voters_lose_their_directories_one_after_the_other() {
    run(0..2, |world| async move {
        let mut cluster = Cluster::new(&world, 3);
        cluster.change(|config| config.metadata_snapshot_bytes = 4 * 1024);
        cluster.start_all().await;
        for id in 1..=3 {
            cluster.create_topic(id, &format!("before-{id}"), &[("partitions", "40")]).await;
            let before = wipe(&world, &mut cluster, id, "another").await;
            votes_again(&world, &cluster, id, before).await;
        }
        for id in 1..=3 {
            cluster.wait_for_topics(id, &["before-1", "before-2", "before-3"]).await;
        }
    });
}

#[test]
fn a_controller_alone_gets_its_vote_back_and_an_unnamed_node_none() {
    run(0..2, |world| async move {
        let mut cluster = Cluster::new(&world, 4);
        cluster.change(|config| {
            config.voters.remove(&BrokerId(4));
            if config.node_id.0 == 1 {
                config.roles = Roles::Controller;
            }
        });
        cluster.start_all().await;
        let before = wipe(&world, &mut cluster, 1, "another").await;
        votes_again(&world, &cluster, 1, before).await;
        let status = cluster.status(4).await;
        assert!(status.voters.get(BrokerId(4)).is_none(), "{status:?}");
    });
}
