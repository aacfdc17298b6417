//! Power cuts at every step of taking a snapshot of the metadata, and of taking over another node's.

use quipu_sim::{Down, World};

use crate::cluster::{Cluster, MS, SECOND, run};

fn small_snapshots(world: &World) -> Cluster {
    let mut cluster = Cluster::new(world, 3);
    cluster.change(|config| config.metadata_snapshot_bytes = 16 * 1024);
    cluster
}

/// Makes topics until enough was written for some snapshots. Their names.
async fn write_much(cluster: &Cluster, through: i32, prefix: &str) -> Vec<String> {
    let long = "x".repeat(180);
    let mut names = Vec::new();
    for number in 0..10 {
        let name = format!("{prefix}-{number:02}-{long}");
        cluster.create_topic(through, &name, &[("partitions", "100")]).await;
        names.push(name);
    }
    names
}

async fn all_have(cluster: &Cluster, names: &[String]) {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for id in 1..=3 {
        cluster.wait_for_topics(id, &names).await;
    }
}

/// Waits until the power of a node has gone.
async fn went_down(world: &World, cluster: &Cluster, id: i32, point: &str) {
    let begun = world.elapsed();
    while cluster.node(id).is_up() {
        assert!(world.elapsed() - begun < 20 * SECOND, "{point} was not reached");
        world.sleep(10 * MS).await;
    }
}

#[test]
fn a_power_cut_while_a_snapshot_is_taken_loses_nothing() {
    for point in ["snapshot.written", "snapshot.renamed", "snapshot.named", "snapshot.adopted", "snapshot.cleaning"] {
        run(0..2, |world| async move {
            let mut cluster = small_snapshots(&world);
            cluster.start_all().await;
            let victim = if world.seed() == 0 { cluster.one_leader().await } else { 2 };
            cluster.node(victim).crash_at(point, 1, Down::PowerCut);
            let through = if victim == 1 { 2 } else { 1 };
            let mut names = write_much(&cluster, through, "first").await;
            went_down(&world, &cluster, victim, point).await;
            cluster.start(victim).await;
            names.extend(write_much(&cluster, victim, "second").await);
            all_have(&cluster, &names).await;
            (1..=3).for_each(|id| cluster.node(id).power_cut());
            cluster.start_all().await;
            all_have(&cluster, &names).await;
        });
    }
}

#[test]
fn a_power_cut_while_a_snapshot_is_taken_over_loses_nothing() {
    for point in ["snapshot.piece-written", "snapshot.renamed", "snapshot.named", "snapshot.installing"] {
        run(0..2, |world| async move {
            let mut cluster = small_snapshots(&world);
            cluster.start_all().await;
            let leader = cluster.one_leader().await;
            let away = (1..=3).find(|id| *id != leader).unwrap();
            cluster.node(away).power_cut();
            let names = write_much(&cluster, leader, "topic").await;
            cluster.node(away).crash_at(point, 0, Down::PowerCut);
            drop(cluster.begin(away));
            went_down(&world, &cluster, away, point).await;
            cluster.start(away).await;
            all_have(&cluster, &names).await;
        });
    }
}
