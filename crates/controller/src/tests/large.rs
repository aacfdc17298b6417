//! More than fits one decision: what is left is left for the next, and nothing is lost.

use quipu_base::{BrokerId, PartitionIndex, TopicIdPartition};

use super::script::Script;
use crate::{
    limits::{ASKS_PER_REQUEST_MAX, ELECTIONS_PER_DECISION_MAX},
    *,
};

const PARTITION_COUNT: usize = ELECTIONS_PER_DECISION_MAX + 1000;

/// One topic, led by broker 1, that brokers 2 and 3 hold as well.
fn led_by_broker_1() -> Script {
    let mut script = Script::new();
    ["ready 1", "ready 2", "ready 3"].iter().for_each(|command| drop(script.run(command)));
    let half = i32::try_from(PARTITION_COUNT / 2).unwrap();
    let replicas = || vec![BrokerId(1), BrokerId(2), BrokerId(3)];
    let assignments = (0..half).map(|index| (PartitionIndex(index), replicas())).collect();
    let topic = NewTopic { assignments, ..NewTopic::with_defaults("a") };
    script.decide(&CreateTopics { topics: vec![topic], validate_only: false }, |_| Vec::new());
    let assignments = Some((half..2 * half).map(|_| replicas()).collect());
    let more = MorePartitions { name: "a".into(), partition_count: 2 * half, assignments };
    script.decide(&CreatePartitions { topics: vec![more], validate_only: false }, |_| Vec::new());
    script
}

fn led_by(script: &Script, broker: i32) -> usize {
    script.image.partitions_led_by(BrokerId(broker)).count()
}

#[test]
fn a_broker_that_leads_too_much_goes_in_steps() {
    let mut script = led_by_broker_1();
    assert_eq!(led_by(&script, 1), PARTITION_COUNT);
    script.run("fence 1");
    assert_eq!((led_by(&script, 1), led_by(&script, 2)), (1000, ELECTIONS_PER_DECISION_MAX));
    assert_eq!(script.run("leaderless 400").last().unwrap(), "> 600 left");
    assert_eq!(script.run("leaderless 9000").last().unwrap(), "> 0 left");
    assert_eq!(led_by(&script, 2), PARTITION_COUNT);

    script.run("unfence 1");
    script.run("preferred");
    assert_eq!(led_by(&script, 1), ELECTIONS_PER_DECISION_MAX);
    script.run("preferred");
    assert_eq!(led_by(&script, 1), PARTITION_COUNT);

    assert_eq!(script.run("stop 1").last().unwrap(), "> 1000 left");
    assert_eq!(script.run("stop 1").last().unwrap(), "> 0 left");
    assert_eq!(led_by(&script, 2), PARTITION_COUNT);
    script.assert_replays();
}

#[test]
fn a_request_about_too_much_is_declined() {
    let mut script = led_by_broker_1();
    let (broker, broker_epoch) = (BrokerId(1), script.image.broker(BrokerId(1)).unwrap().broker_epoch);
    let (id, state) = script.image.partitions().next().unwrap();
    let leader_epoch = state.leader_epoch;
    let ask = PartitionAsk::GiveUpLeadership { leader_epoch, reason: GiveUpReason::NotActive };
    let asks: Vec<(TopicIdPartition, PartitionAsk)> = vec![(id, ask); ASKS_PER_REQUEST_MAX + 1];
    let count = |answers: Vec<PartitionAnswer>| {
        let accepted = answers.iter().filter(|answer| answer.verdict == Verdict::Accepted).count();
        vec![format!("{accepted} of {}", answers.len())]
    };
    let request = AskPartitions { broker, broker_epoch, asks: asks.clone() };
    assert!(script.decide(&request, count)[0].starts_with("! InvalidRequest: "));
    let request = AskPartitions { broker, broker_epoch, asks: asks[1..].to_vec() };
    assert_eq!(script.decide(&request, count).last().unwrap(), "> 1 of 16384", "the others come after its election");

    let elections =
        vec![UncleanElection { partition: id, leader_epoch, reports: Vec::new() }; ASKS_PER_REQUEST_MAX + 1];
    let request = ElectUnclean { partitions: elections, is_forced: true };
    assert!(script.decide(&request, |_| Vec::new())[0].starts_with("! InvalidRequest: "));
    let moves = vec![
        Reassignment { topic: "a".into(), partition: PartitionIndex(0), replicas: None };
        ASKS_PER_REQUEST_MAX + 1
    ];
    let request = AlterPartitionReassignments { partitions: moves, allow_replication_factor_change: false };
    assert!(script.decide(&request, |_| Vec::new())[0].starts_with("! InvalidRequest: "));
}
