//! The commands of the consumer protocol.
//!
//! | command | |
//! |---|---|
//! | `topics t=3 u=2/r1,r2` | the topics from now on: partitions, and each partition's rack |
//! | `come g a topics=t regex=t.* instance=i rack=r assignor=range rebalance=1m` | a join; `*` in a name's place for none |
//! | `go g a owned=t:0,t:1` | a heartbeat; `owned=told`: what it was last told, `owned=none`: nothing; `topics=`, `regex=` if they change |
//! | `join g a owned=t:0`, `sync g a a=t:0` | as in the classic protocol, with what a consumer means by it; `set migration=up,down` |
//! | `quit g a`, `quit g a away` | leaving |
//! | `commit-as g a t-0=1`, `fetch-as g a t-0`, `about g` | offsets with epochs, descriptions |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use quipu_base::{PartitionIndex, TopicId};

use super::{Command, Script, at, committed, of, outcome, partition};
use crate::{
    codec::consumer::SaidOf,
    consumer::{
        Held, Topic, Topics,
        request::{
            ConsumerBeat, ConsumerDescribed, ConsumerHeartbeat, ConsumerReply, ConsumerRequest, FetchAs, Partitions,
        },
    },
    request::{Commit, Fetch, MemberOf},
};

/// A topic's id: its name.
pub(crate) fn topic_id(name: &str) -> TopicId {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    TopicId(id)
}

fn topic_name(id: TopicId) -> String {
    String::from_utf8(id.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

pub(crate) fn topics(version: i64, pairs: &[(&str, &str)]) -> ConsumerRequest {
    let topic = |(name, value): &(&str, &str)| {
        let (count, racks) = value.split_once('/').unwrap_or((value, ""));
        let mut racks = racks.split(',').filter(|rack| !rack.is_empty());
        let racks = (0..count.parse().unwrap()).map(|_| racks.next().into_iter().map(Arc::from).collect());
        (Arc::from(*name), Topic { id: topic_id(name), racks: racks.collect() })
    };
    ConsumerRequest::Topics(Arc::new(Topics::new(version, pairs.iter().map(topic).collect())))
}

fn partitions(text: &str) -> Partitions {
    let mut partitions = Partitions::new();
    for piece in text.split(',').filter(|piece| *piece != "none") {
        let (topic, partition) = piece.split_once(':').unwrap();
        partitions.entry(topic_id(topic)).or_default().insert(PartitionIndex(partition.parse().unwrap()));
    }
    partitions
}

fn told(partitions: &Partitions) -> String {
    let piece = |topic: &TopicId, partition: &PartitionIndex| format!("{}:{partition}", topic_name(*topic));
    let pieces = partitions.iter().flat_map(|(topic, held)| held.iter().map(move |partition| piece(topic, partition)));
    let pieces: Vec<String> = pieces.collect();
    if pieces.is_empty() { "none".to_owned() } else { pieces.join(",") }
}

fn held(held: &Held) -> String {
    let pieces = held.iter().flat_map(|(topic, held)| {
        held.iter().map(move |(partition, epoch)| format!("{}:{partition}@{epoch}", topic_name(*topic)))
    });
    let pieces: Vec<String> = pieces.collect();
    if pieces.is_empty() { "none".to_owned() } else { pieces.join(",") }
}

fn names<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    names.into_iter().map(|name| &**name).collect::<Vec<_>>().join(",")
}

/// What a record says.
pub(super) fn said(said: &SaidOf) -> String {
    match said {
        SaidOf::Group(Some((epoch, hash))) => {
            format!("epoch {epoch}{}", if *hash == 0 { " without topics" } else { "" })
        }
        SaidOf::Member(id, Some(member)) => {
            format!("{id} wants {} {:?}", names(&member.names), member.regex.as_deref().unwrap_or_default())
        }
        SaidOf::TargetEpoch(Some(epoch)) => format!("targets are of epoch {epoch}"),
        SaidOf::Target(id, Some(target)) => format!("{id} is to have {}", told(target)),
        SaidOf::Current(id, Some(current)) => {
            let revoking = if current.revoking.is_empty() {
                String::new()
            } else {
                format!(", gives up {}", held(&current.revoking))
            };
            let (state, epoch, before) = (current.state, current.epoch, current.previous_epoch);
            format!("{id} {state:?} epoch {epoch} after {before} has {}{revoking}", held(&current.assigned))
        }
        SaidOf::Regex(regex, Some(resolved)) => format!("{regex} means {}", names(&resolved.topics)),
        SaidOf::Group(None) => "gone".to_owned(),
        SaidOf::TargetEpoch(None) => "targets gone".to_owned(),
        SaidOf::Member(id, None) => format!("{id} gone"),
        SaidOf::Target(id, None) => format!("{id} is to have nothing"),
        SaidOf::Current(id, None) => format!("{id} has nothing"),
        SaidOf::Regex(regex, None) => format!("{regex} unused"),
    }
}

impl Script {
    pub(super) fn consumer_request(&self, command: &Command<'_>, verb: &str) -> ConsumerRequest {
        let group = command.words.get(1).copied().unwrap_or_default();
        let name = command.words.get(2).copied().unwrap_or_default();
        let (id, epoch) = self.of_member(group, name, command);
        match verb {
            "topics" => topics(i64::try_from(self.tokens).unwrap(), &command.pairs),
            "come" => ConsumerRequest::Heartbeat(self.come(command)),
            "go" => ConsumerRequest::Heartbeat(ConsumerHeartbeat {
                member_epoch: epoch,
                rebalance_timeout: command.text("rebalance").map(super::time),
                subscribed_names: command.text("topics").map(wanted),
                ..self.come(command)
            }),
            "quit" => ConsumerRequest::Heartbeat(ConsumerHeartbeat {
                member_epoch: if command.has("away") { -2 } else { -1 },
                ..self.come(command)
            }),
            "about" => ConsumerRequest::Describe(group.into()),
            "commit-as" => ConsumerRequest::Commit(Commit {
                member: MemberOf { group: group.into(), member_id: id, instance_id: None, generation: epoch },
                retention: None,
                offsets: command.pairs.iter().map(committed).collect(),
            }),
            "fetch-as" => ConsumerRequest::Fetch(FetchAs {
                member_id: (name != "-").then_some(id),
                member_epoch: epoch,
                fetch: Fetch {
                    group: group.into(),
                    partitions: Some(command.words[3..].iter().map(|text| partition(text)).collect()),
                },
            }),
            other => panic!("no command: {other}"),
        }
    }

    fn of_member(&self, group: &str, name: &str, command: &Command<'_>) -> (Arc<str>, i32) {
        let known = self.members.get(&(group.to_owned(), name.to_owned()));
        let (id, epoch) = known.cloned().unwrap_or_else(|| (name.into(), if name == "-" { -1 } else { 0 }));
        (id, command.text("epoch").map_or(epoch, |text| text.parse().expect("a number")))
    }

    fn come(&self, command: &Command<'_>) -> ConsumerHeartbeat {
        let (group, name) = (command.words[1], command.words.get(2).copied().unwrap_or_default());
        let owned = match command.text("owned") {
            Some("told") => self.told.get(&(group.to_owned(), name.to_owned())).cloned(),
            Some(text) => Some(partitions(text)),
            None => (command.words[0] == "come").then(Partitions::new),
        };
        ConsumerHeartbeat {
            group: group.into(),
            member_id: command.text("id").unwrap_or(name).into(),
            member_epoch: command.text("epoch").map_or(0, |text| text.parse().expect("a number")),
            instance_id: command.text("instance").map(Into::into),
            rack_id: command.text("rack").map(Into::into),
            rebalance_timeout: (!command.has("hasty"))
                .then(|| command.time("rebalance", core::time::Duration::from_mins(5))),
            subscribed_names: command.text("topics").map(wanted),
            subscribed_regex: command.text("regex").map(|text| text.trim_matches('\'').into()),
            assignor: command.text("assignor").map(Into::into),
            owned,
            client_id: name.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            makes_id: !command.has("v0"),
        }
    }

    pub(super) fn consumer_reply(&mut self, group: &str, name: &str, reply: ConsumerReply) -> String {
        match reply {
            ConsumerReply::Heartbeat(Ok(beat)) => self.beaten(group, name, beat),
            ConsumerReply::Heartbeat(Err(error)) => format!("{error:?}"),
            ConsumerReply::Describe(Err(error)) | ConsumerReply::Commit(Err(error)) => format!("{error:?}"),
            ConsumerReply::Fetch(Err(error)) => format!("{error:?}"),
            ConsumerReply::Commit(Ok(results)) => results.into_iter().map(outcome).collect::<Vec<_>>().join(", "),
            ConsumerReply::Fetch(Ok(fetched)) => {
                let one = |fetched: &crate::request::Fetched| {
                    let committed = fetched.committed.as_ref().map_or_else(|| "none".to_owned(), of);
                    format!("{}={committed}", at(&fetched.partition))
                };
                fetched.iter().map(one).collect::<Vec<_>>().join(", ")
            }
            ConsumerReply::Describe(Ok(described)) => about(&described),
            ConsumerReply::Noted => "ok".to_owned(),
        }
    }

    fn beaten(&mut self, group: &str, name: &str, beat: ConsumerBeat) -> String {
        let key = (group.to_owned(), name.to_owned());
        self.members.insert(key.clone(), (Arc::clone(&beat.member_id), beat.member_epoch));
        let mut text = format!("epoch {}", beat.member_epoch);
        if let Some(assignment) = beat.assignment {
            write!(text, " reads {}", told(&assignment)).unwrap();
            self.told.insert(key, assignment);
        }
        text
    }
}

fn wanted(text: &str) -> Vec<Arc<str>> {
    text.split(',').filter(|name| *name != "*").map(Arc::from).collect()
}

fn about(described: &ConsumerDescribed) -> String {
    let ConsumerDescribed { state, group_epoch, assignment_epoch, assignor, members } = described;
    let mut text = format!("{state} epoch {group_epoch} targets {assignment_epoch} by {assignor}");
    for member in members {
        let all = |topics: &[crate::consumer::request::AssignedTopic]| {
            let topics: BTreeMap<TopicId, BTreeSet<PartitionIndex>> =
                topics.iter().map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect())).collect();
            told(&topics)
        };
        let (has, target) = (all(&member.assignment), all(&member.target));
        write!(text, "; {} epoch {} has {has} of {target}", member.member_id, member.member_epoch).unwrap();
    }
    text
}
