//! Elections that nobody's loss forces: preferred leaders come back, unclean ones where an operator wants them; and which replicas
//! count as in sync.

use core::time::Duration;

use quipu_base::BrokerId;
use quipu_broker::Config;
use quipu_protocol::{
    Response,
    messages::elect_leaders::{ElectLeadersRequest, TopicPartitions},
};
use quipu_sim::World;

use crate::cluster::{Cluster, MS, SECOND, run};

fn set(config: &mut Config, pairs: &[(&str, &str)]) {
    for (name, value) in pairs {
        config.defaults.set(name, value).unwrap();
    }
}

/// Five brokers, of which three vote: two can be lost without the quorum.
fn five(world: &World, pairs: &'static [(&'static str, &'static str)]) -> Cluster {
    let mut cluster = Cluster::new(world, 5);
    cluster.change(|config| {
        config.voters.retain(|voter, _| *voter < BrokerId(4));
        set(config, pairs);
    });
    cluster
}

#[test]
fn preferred_leaders_lead_again_after_the_interval() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[("leader.imbalance.check.interval.seconds", "3")]);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5, 1], &[]).await;
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 4).await;
        cluster.node(4).kill();
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 5).await;
        cluster.start(4).await;
        let back = world.elapsed();
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 4).await;
        assert!(world.elapsed() - back < 5 * SECOND, "after {:?}", world.elapsed() - back);
    });
}

#[test]
fn preferred_leaders_wait_to_be_asked_where_that_is_wanted() {
    run(0..2, |world| async move {
        let pairs = &[("leader.imbalance.check.interval.seconds", "1"), ("auto.leader.rebalance.enable", "false")];
        let mut cluster = five(&world, pairs);
        cluster.start_all().await;
        cluster.create_on(1, "topic", &[4, 5, 1], &[]).await;
        cluster.node(4).kill();
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 5).await;
        cluster.start(4).await;
        world.sleep(5 * SECOND).await;
        assert_eq!(cluster.partition(1, "topic").await.leader_id, 5);
    });
}

/// Broker 5 has missed a record that 4 alone holds, and 4 is gone.
async fn leave_the_worse_one(cluster: &mut Cluster, configs: &[(&str, &str)]) {
    cluster.start_all().await;
    cluster.create_on(1, "topic", &[4, 5], configs).await;
    cluster.produce(1, "topic", "both have it").await;
    cluster.node(5).kill();
    cluster.wait_for_partition(1, "topic", |partition| partition.isr_nodes == [4]).await;
    cluster.produce(1, "topic", "one has it").await;
    cluster.node(4).power_cut();
    cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == -1).await;
    cluster.start(5).await;
}

const LOST: &[(i64, &str)] = &[(0, "both have it"), (1, "after")];

async fn assert_stored(cluster: &Cluster, expected: &[(i64, &str)]) {
    let stored = cluster.stored(1, "topic").await;
    let stored: Vec<(i64, &str)> = stored.iter().map(|(offset, value)| (*offset, value.as_str())).collect();
    assert_eq!(stored, expected);
}

#[test]
fn a_topic_that_may_lose_records_is_led_by_what_is_left() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[]);
        leave_the_worse_one(&mut cluster, &[("unclean.leader.election.enable", "true")]).await;
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 5).await;
        cluster.produce(1, "topic", "after").await;
        // The other one gives way, and has what the leader has.
        cluster.start(4).await;
        cluster.wait_for_partition(2, "topic", |partition| partition.isr_nodes.len() == 2).await;
        assert_stored(&cluster, LOST).await;
        cluster.node(5).kill();
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 4).await;
        assert_stored(&cluster, LOST).await;
    });
}

async fn elect_unclean(cluster: &Cluster, topic: &str) -> (i16, Option<String>) {
    let partitions = vec![TopicPartitions { topic: topic.into(), partitions: vec![0] }];
    let request = ElectLeadersRequest { election_type: 1, topic_partitions: Some(partitions), timeout_ms: 5000 };
    let Ok(Response::ElectLeaders(response)) = cluster.call(2, 2, request).await else { panic!("another answer") };
    assert_eq!(response.error_code, 0);
    let result = &response.replica_election_results[0].partition_result[0];
    (result.error_code, result.error_message.as_ref().map(ToString::to_string))
}

const ELECTION_NOT_NEEDED: i16 = 84;

#[test]
fn any_other_topic_waits_until_an_operator_asks() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[]);
        leave_the_worse_one(&mut cluster, &[]).await;
        world.sleep(5 * SECOND).await;
        assert_eq!(cluster.partition(1, "topic").await.leader_id, -1, "an acknowledged record would be lost");
        assert_eq!(elect_unclean(&cluster, "topic").await, (0, None));
        cluster.wait_for_partition(1, "topic", |partition| partition.leader_id == 5).await;
        cluster.produce(1, "topic", "after").await;
        assert_stored(&cluster, LOST).await;
        assert_eq!(elect_unclean(&cluster, "topic").await.0, ELECTION_NOT_NEEDED, "somebody leads");
        assert_eq!(elect_unclean(&cluster, "no-such-topic").await.0, 3);
    });
}

/// The ISR as every node tells it.
async fn wait_for_isr(cluster: &Cluster, expected: &[i32]) {
    for id in [1, 2, 3, 4] {
        let is_expected = |isr: &[i32]| {
            let mut isr = isr.to_vec();
            isr.sort_unstable();
            isr == expected
        };
        cluster.wait_for_partition(id, "topic", |partition| is_expected(&partition.isr_nodes)).await;
    }
}

#[test]
fn a_replica_that_lags_is_told_although_it_lives() {
    run(0..3, |world| async move {
        let mut cluster = five(&world, &[("replica.lag.time.max.ms", "2000")]);
        cluster.start_all().await;
        // Without it the configuration would be too small, so it stays a member.
        cluster.create_on(1, "topic", &[4, 5], &[("min.insync.replicas", "2")]).await;
        cluster.produce(1, "topic", "both have it").await;
        wait_for_isr(&cluster, &[4, 5]).await;
        cluster.node(5).stall_disk(Duration::from_secs(12));
        let begun = world.elapsed();
        let refused = cluster.try_produce(4, "topic", "one has it", SECOND).await.unwrap_err();
        assert!(refused.contains("RequestTimedOut"), "{refused}");
        wait_for_isr(&cluster, &[4]).await;
        let took = world.elapsed() - begun;
        assert!(took > 1900 * MS && took < 4 * SECOND, "told after {took:?}");
        let brokers = cluster.metadata(1).await.brokers.len();
        assert_eq!(brokers, 5, "it lives all the while");
        world.sleep(12 * SECOND).await;
        wait_for_isr(&cluster, &[4, 5]).await;
        cluster.produce(1, "topic", "both have it again").await;
    });
}
