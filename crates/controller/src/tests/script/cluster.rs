//! The commands about leaders, configurations and brokers that go.

use core::time::Duration;

use super::*;

pub(super) fn run(script: &mut Script, verb: &str, words: &[&str], validate_only: bool) -> Vec<String> {
    match verb {
        "stop" => {
            let (broker, broker_epoch) = script.broker_epoch(words);
            let progress = |progress: ShutdownProgress| vec![format!("{} left", progress.leaderships_left)];
            script.decide(&ControlledShutdown { broker, broker_epoch }, progress)
        }
        "unregister" => script.decide(&UnregisterBroker { broker: BrokerId(number(words[0])) }, no_reply),
        "change" | "giveup" | "prefer" => ask(script, verb, words),
        "preferred" => {
            let named = |word: &&str| {
                let (name, index) = word.rsplit_once('-').expect("topic-partition");
                (name.to_owned(), vec![PartitionIndex(number(index))])
            };
            let partitions = (!words.is_empty()).then(|| words.iter().map(named).collect());
            script.decide(&ElectPreferred { partitions }, by_partition)
        }
        "balance" => script.decide(&BalanceLeaders { changes_max: number(words[0]) }, left),
        "leaderless" => script.decide(&ElectLeaderless { changes_max: number(words[0]) }, left),
        "unclean" => unclean(script, words),
        "electorate" => {
            let electorate = unclean_electorate(&script.image, script.id(words[0]));
            vec![electorate.map_or("none".into(), |(epoch, brokers)| format!("{} at epoch {epoch}", ids(&brokers)))]
        }
        "reassign" => {
            let (topic, index) = words[0].rsplit_once('-').expect("topic-partition");
            let (topic, partition) = (topic.to_owned(), PartitionIndex(number(index)));
            let replicas = option(words, "to").map(brokers);
            let partitions = vec![Reassignment { topic, partition, replicas }];
            let allow_replication_factor_change = words.contains(&"factor");
            let request = AlterPartitionReassignments { partitions, allow_replication_factor_change };
            script.decide(&request, by_partition)
        }
        "feature" => {
            let updates = words.chunks(2).map(|pair| (pair[0].to_owned(), number(pair[1]))).collect();
            script.decide(&UpdateFeatures { updates, validate_only }, no_reply)
        }
        "silent" => {
            script.silent = brokers(words.first().unwrap_or(&"")).into_iter().collect();
            Vec::new()
        }
        "later" => {
            script.now = script.now + Duration::from_secs(number(words[0]));
            Vec::new()
        }
        "sound" => {
            let id = script.id(words[0]);
            script.doubts.note_sound(id, BrokerId(number(words[1])));
            Vec::new()
        }
        "old" => {
            for (name, level) in [(METADATA_VERSION, 1), (GROUP_VERSION, 0)] {
                let record = MetadataRecord::Feature { name: name.into(), level };
                let offset = script.image.next_offset();
                script.image.apply(offset, &record, &mut Delta::default()).expect("an older release wrote it");
                script.written.push((offset, codec::encode(&record).to_vec()));
            }
            Vec::new()
        }
        _ => panic!("no such command: {verb} {words:?}"),
    }
}

fn left(left: usize) -> Vec<String> {
    vec![format!("{left} left")]
}

fn by_partition(reply: Vec<(String, PartitionIndex, Result<(), ControllerError>)>) -> Vec<String> {
    named(reply.into_iter().map(|(name, index, result)| (format!("{name}-{index}"), result)).collect(), |()| {
        "ok".into()
    })
}

fn leader_epoch(script: &Script, words: &[&str]) -> LeaderEpoch {
    let current = script.image.partition(script.id(words[0])).map_or(LeaderEpoch::NONE, |state| state.leader_epoch);
    option(words, "epoch").map_or(current, |epoch| LeaderEpoch(number(epoch)))
}

/// Under its usual directory, or the one that `dirN=` gives.
fn member_of(broker: BrokerId, words: &[&str]) -> Member {
    let directory_id = DirectoryId(bytes(words, &format!("dir{broker}"), default_directory(broker)));
    Member { broker, directory_id }
}

fn ask(script: &mut Script, verb: &str, words: &[&str]) -> Vec<String> {
    let partition = script.id(words[0]);
    let (broker, broker_epoch) = script.broker_epoch(&[option(words, "by").expect("by=BROKER")]);
    let leader_epoch = leader_epoch(script, words);
    let broker_named = |key: &str| BrokerId(number(option(words, key).expect("a broker")));
    let ask = match verb {
        "change" => {
            let known = script.image.partition(partition).map(|state| state.configuration.version).unwrap_or_default();
            let version = option(words, "version").map_or(known, |version| ConfigurationVersion(number(version)));
            let members = brokers(option(words, "members").expect("members="));
            let members = members.into_iter().map(|broker| member_of(broker, words)).collect();
            let quorum = number(option(words, "quorum").expect("quorum="));
            PartitionAsk::ChangeConfiguration { leader_epoch, version, members, quorum }
        }
        "giveup" => {
            let reason = match option(words, "reason").unwrap_or("NotActive") {
                "CannotLead" => GiveUpReason::CannotLead,
                "NotActive" => GiveUpReason::NotActive,
                "CannotCommit" => GiveUpReason::CannotCommit,
                "WriteFailed" => GiveUpReason::WriteFailed,
                "Removed" => GiveUpReason::Removed,
                other => panic!("no such reason: {other}"),
            };
            PartitionAsk::GiveUpLeadership { leader_epoch, reason }
        }
        _ => PartitionAsk::PreferLeader { leader_epoch, reporter: member_of(broker_named("for"), words) },
    };
    let answers = |answers: Vec<PartitionAnswer>| {
        let line = |answer: PartitionAnswer| {
            format!(
                "{:?}: {}",
                answer.verdict,
                answer.state.as_ref().map_or("no such partition".into(), super::partition)
            )
        };
        answers.into_iter().map(line).collect()
    };
    script.decide(&AskPartitions { broker, broker_epoch, asks: vec![(partition, ask)] }, answers)
}

fn unclean(script: &mut Script, words: &[&str]) -> Vec<String> {
    let report = |text: &str| {
        let mut parts = text.split(':');
        let mut next = || parts.next().unwrap_or("");
        let broker = BrokerId(number(next()));
        LogReport {
            member: member_of(broker, words),
            broker_epoch: script.image.broker(broker).map_or(BrokerEpoch(-1), |state| state.broker_epoch),
            label: LeaderEpoch(number(next())),
            log_end: Offset(number(next())),
            is_faulty: next() == "faulty",
            is_active: false,
        }
    };
    let reports = option(words, "reports").into_iter().flat_map(|list| list.split(',')).map(report).collect();
    let election =
        UncleanElection { partition: script.id(words[0]), leader_epoch: leader_epoch(script, words), reports };
    let request = ElectUnclean { partitions: vec![election], is_forced: words.contains(&"forced") };
    script.decide(&request, |reply| {
        let line = |(_, result): (TopicIdPartition, Result<BrokerId, ControllerError>)| match result {
            Ok(leader) => format!("leader {leader}"),
            Err(error) => format!("{}: {error}", kind(&error)),
        };
        reply.into_iter().map(line).collect()
    })
}
