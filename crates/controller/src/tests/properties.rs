//! Random requests: whatever is asked, in whatever order, what is written fits together.
//!
//! That no record contradicts the image is asserted by every decision itself.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};
use quipu_base::{BrokerId, TopicIdPartition};

use super::script::Script;

fn command() -> impl Strategy<Value = String> {
    let name = || select(vec!["a", "b", "a.b", "a_b", ".."]);
    let broker = || 1..4_i32;
    let resource = || select(vec!["a", "b", "a.b", "broker-1", "broker-2", "all-brokers", "group-g"]);
    let config = || {
        select(vec![
            "segment.ms 5",
            "segment.ms x",
            "log.roll.ms 7",
            "min.insync.replicas 2",
            "min.insync.replicas 3",
            "compression.type zstd",
            "cleanup.policy delete",
            "retention.ms 9",
        ])
    };
    let verb = select(vec!["set", "append", "subtract", "delete"]);
    let validate = || select(vec!["", "", "", " validate"]);
    prop_oneof![
        2 => (broker(), 1..9_u8).prop_map(|(broker, start)| format!("register {broker} start={start}")),
        4 => broker().prop_map(|broker| format!("unfence {broker}")),
        6 => (name(), -1..4_i32, -1..4_i16, validate())
            .prop_map(|(name, count, factor, validate)| format!("create {name} partitions={count} factor={factor}{validate}")),
        2 => (name(), name(), broker(), broker())
            .prop_map(|(name, other, x, y)| format!("create {name} assign=0:{x},{y} + {other}")),
        3 => (name(), 0..9_i32, validate()).prop_map(|(name, count, validate)| format!("grow {name} {count}{validate}")),
        1 => (name(), name()).prop_map(|(name, other)| format!("delete {name} + {other}")),
        4 => (resource(), verb, config(), validate())
            .prop_map(|(resource, verb, config, validate)| match config.split_once(' ') {
                Some((name, _)) if verb == "delete" => format!("alter {resource} delete {name}{validate}"),
                _ => format!("alter {resource} {verb} {config}{validate}"),
            }),
        1 => (resource(), config()).prop_map(|(resource, config)| format!("replace {resource} {}", config.replace(' ', "="))),
        1 => broker().prop_map(|broker| format!("ids {broker}")),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_the_log_fits_together(commands in vec(command(), 1..40)) {
        let mut script = Script::new();
        script.run("ready 1");
        let mut names_of_ids = BTreeSet::new();
        for command in &commands {
            let before = script.image.clone();
            script.run(command);
            if command.ends_with(" validate") {
                prop_assert_eq!(&script.image, &before, "{} wrote something", command);
            }
            for topic in script.image.topics() {
                names_of_ids.insert((topic.topic_id(), topic.name().to_owned()));
                prop_assert!(topic.partition_count() >= 1);
                for (index, state) in topic.partitions() {
                    let id = TopicIdPartition { topic_id: topic.topic_id(), partition: index };
                    prop_assert_eq!(state.check(), Ok(()));
                    let old = before.partition(id);
                    prop_assert!(old.is_none_or(|old| old.leader_epoch <= state.leader_epoch));
                    prop_assert!(old.is_some() || serves(&script, state.leader), "{} is led by nobody who serves", id);
                }
            }
        }
        let ids: BTreeSet<_> = names_of_ids.iter().map(|(topic_id, _)| topic_id).collect();
        prop_assert_eq!(ids.len(), names_of_ids.len(), "an id is never used twice");
        script.assert_replays();
    }
}

fn serves(script: &Script, leader: Option<BrokerId>) -> bool {
    leader.and_then(|leader| script.image.broker(leader)).is_some_and(|state| !state.fenced)
}
