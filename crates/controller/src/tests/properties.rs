//! Random requests: whatever is asked, in whatever order, what is written fits together.
//!
//! That no record contradicts the image, or is newer than `metadata.version` allows, is asserted by every decision itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select, sample::subsequence};
use quipu_base::{BrokerId, LeaderEpoch, TopicId, TopicIdPartition};
use quipu_metadata::{Image, PartitionState};

use super::script::Script;

const BROKERS: core::ops::Range<i32> = 1..5;

fn request_command() -> impl Strategy<Value = String> {
    let name = || select(vec!["a", "b", "a.b", "a_b", ".."]);
    let broker = || BROKERS;
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
            "flush.ms 9",
            "unclean.leader.election.enable true",
        ])
    };
    let verb = select(vec!["set", "append", "subtract", "delete"]);
    let validate = || select(vec!["", "", "", " validate"]);
    prop_oneof![
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
        1 => validate().prop_map(|validate| format!("feature metadata.version 2{validate}")),
    ]
}

fn brokers(count_min: usize) -> impl Strategy<Value = String> {
    subsequence(BROKERS.collect::<Vec<_>>(), count_min..5)
        .prop_shuffle()
        .prop_map(|brokers| brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn cluster_command() -> impl Strategy<Value = String> {
    let broker = || BROKERS;
    let partition = || (select(vec!["a", "b"]), 0..3).prop_map(|(name, index)| format!("{name}-{index}"));
    let reason = select(vec!["CannotLead", "NotActive", "WriteFailed", "Removed"]);
    let report = (broker(), 0..3, 0..3, select(vec!["", "", ":faulty"]));
    let reports = vec(report, 0..4).prop_map(|reports| {
        let text = |(broker, label, end, faulty): &(i32, i32, i32, &str)| format!("{broker}:{label}:{end}{faulty}");
        reports.iter().map(text).collect::<Vec<_>>().join(",")
    });
    prop_oneof![
        3 => (broker(), 1..9_u8, select(vec!["", "", " dir=9"]))
            .prop_map(|(broker, start, dir)| format!("register {broker} start={start}{dir}")),
        8 => broker().prop_map(|broker| format!("unfence {broker}")),
        5 => broker().prop_map(|broker| format!("fence {broker}")),
        1 => broker().prop_map(|broker| format!("stop {broker}")),
        1 => broker().prop_map(|broker| format!("unregister {broker}")),
        8 => (partition(), broker(), brokers(1), 1..5_u16)
            .prop_map(|(id, by, members, quorum)| format!("change {id} by={by} members={members} quorum={quorum}")),
        4 => (partition(), broker(), reason).prop_map(|(id, by, reason)| format!("giveup {id} by={by} reason={reason}")),
        2 => (partition(), broker(), broker()).prop_map(|(id, by, other)| format!("prefer {id} by={by} for={other}")),
        2 => partition().prop_map(|id| format!("preferred {id}")),
        1 => (0..4).prop_map(|most| format!("balance {most}")),
        2 => (0..4).prop_map(|most| format!("leaderless {most}")),
        3 => (partition(), reports, select(vec!["", " forced"]))
            .prop_map(|(id, reports, forced)| {
                let reports = if reports.is_empty() { reports } else { format!(" reports={reports}") };
                format!("unclean {id}{reports}{forced}")
            }),
        4 => (partition(), brokers(1)).prop_map(|(id, to)| format!("reassign {id} to={to} factor")),
        1 => partition().prop_map(|id| format!("reassign {id}")),
        1 => (0..7).prop_map(|seconds| format!("later {seconds}")),
        1 => brokers(0).prop_map(|silent| format!("silent {silent}")),
    ]
}

/// What holds of every history.
#[derive(Default)]
struct Checker {
    names_of_ids: BTreeSet<(TopicId, String)>,
    leaders: BTreeMap<(TopicIdPartition, LeaderEpoch), BrokerId>,
}

impl Checker {
    fn check(&mut self, command: &str, before: &Image, after: &Image) -> Result<(), TestCaseError> {
        if command.ends_with(" validate") {
            prop_assert_eq!(after, before, "{} wrote something", command);
        }
        for topic in after.topics() {
            self.names_of_ids.insert((topic.topic_id(), topic.name().to_owned()));
            prop_assert!(topic.partition_count() >= 1);
        }
        for (id, state) in after.partitions() {
            prop_assert_eq!(state.check(), Ok(()));
            if let Some(leader) = state.leader {
                let known = *self.leaders.entry((id, state.leader_epoch)).or_insert(leader);
                prop_assert_eq!(known, leader, "two leaders of {} in epoch {}", id, state.leader_epoch);
            }
            match before.partition(id) {
                Some(old) => check_change(command, after, old, state)?,
                None => prop_assert!(serves(after, state.leader), "{} is led by nobody who serves", id),
            }
        }
        // One that was fenced before may lead: it has registered, and nobody else could take over.
        for (broker, _) in before.brokers().filter(|(_, state)| !state.fenced) {
            let is_fenced = command == format!("fence {broker}");
            prop_assert!(!is_fenced || after.partitions_led_by(broker).count() == 0, "{} leads fenced", broker);
        }
        let ids: BTreeSet<_> = self.names_of_ids.iter().map(|(topic_id, _)| topic_id).collect();
        prop_assert_eq!(ids.len(), self.names_of_ids.len(), "an id is never used twice");
        Ok(())
    }
}

fn check_change(command: &str, after: &Image, old: &PartitionState, new: &PartitionState) -> Result<(), TestCaseError> {
    let verb = command.split(' ').next().unwrap_or("");
    prop_assert!(old.leader_epoch <= new.leader_epoch);
    prop_assert!(old.leader == new.leader || old.leader_epoch < new.leader_epoch, "a leader without an epoch");
    if new.leader != old.leader && new.leader.is_some() {
        prop_assert!(serves(after, new.leader), "elected {:?}, who does not serve", new.leader);
    }
    let (was, is) = (&old.configuration, &new.configuration);
    prop_assert!(was == is || was.version < is.version, "a configuration without a version");
    let is_other = (&was.members, was.quorum) != (&is.members, is.quorum);
    prop_assert!(!is_other || verb == "change" || verb == "unclean", "{} changed C or Q", command);
    prop_assert!(old.unclean_epoch == new.unclean_epoch || verb == "unclean");
    prop_assert!(old.unclean_epoch == new.unclean_epoch || new.unclean_epoch == new.leader_epoch);
    // Only a change of C ends a reassignment, or another one; and nobody leaves the replicas before he has left C.
    let has_moved = old.replicas != new.replicas || old.replication_factor != new.replication_factor;
    prop_assert!(!has_moved || verb == "change" || verb == "reassign");
    Ok(())
}

fn serves(image: &Image, leader: Option<BrokerId>) -> bool {
    leader.and_then(|leader| image.broker(leader)).is_some_and(|state| state.is_serving())
}

/// Runs the commands and checks every step.
fn run(script: &mut Script, commands: &[String]) -> Result<(), TestCaseError> {
    let mut checker = Checker::default();
    for command in commands {
        let before = script.image.clone();
        script.run(command);
        checker.check(command, &before, &script.image)?;
    }
    script.assert_replays();
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_asked_the_log_fits_together(
        is_old in any::<bool>(),
        commands in vec(prop_oneof![request_command(), cluster_command()], 1..40),
    ) {
        let mut script = Script::new();
        script.run("ready 1");
        if is_old {
            script.run("old");
        }
        run(&mut script, &commands)?;
    }

    #[test]
    fn leaders_change_in_order_whatever_happens_to_brokers(
        racks in prop::collection::vec(select(vec!["a", "b"]), 4),
        commands in vec(cluster_command(), 1..80),
    ) {
        let mut script = Script::new();
        for (broker, rack) in BROKERS.zip(&racks) {
            script.run(&format!("ready {broker} rack={rack}"));
        }
        script.run("create a partitions=3 factor=3 min.insync.replicas=2");
        script.run("create b partitions=3 factor=2 unclean.leader.election.enable=true");
        run(&mut script, &commands)?;
        // After everything healed, everybody has a leader who serves, unless nobody of C has the disk that is a member.
        for broker in BROKERS {
            script.run(&format!("register {broker} start=99"));
            script.run(&format!("unfence {broker}"));
        }
        script.run("later 9");
        script.run("leaderless 99");
        for (id, state) in script.image.partitions() {
            let has_disk = |member: &quipu_metadata::Member| {
                script.image.broker(member.broker).is_some_and(|known| known.registration.directory_id == member.directory_id)
            };
            let can_be_led = state.configuration.members.iter().any(has_disk);
            prop_assert!(!can_be_led || serves(&script.image, state.leader), "{} has no leader: {:?}", id, state);
        }
    }
}
