//! The commands of the scripts, and the world that they run in: a shard whose records are kept at once, unless they are held.

pub(super) mod modern;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use quipu_coordinator::{Context, Effect, Machine as _, Record, Shard, Token, WriteId};
use quipu_env::Instant;

use crate::{
    Groups, Settings,
    codec::{self, Said},
    consumer::{ConsumerSettings, Migration},
    request::*,
    subscription::{self, Named},
};

/// One line.
struct Command<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
    /// `a=0,1`: values of words that are no options.
    pairs: Vec<(&'a str, &'a str)>,
}

const OPTIONS: [&str; 23] = [
    "session",
    "rebalance",
    "protocols",
    "instance",
    "type",
    "protocol",
    "gen",
    "id",
    "states",
    "types",
    "topics",
    "retain",
    "delay",
    "size",
    "retention",
    "beat",
    "reason",
    "regex",
    "assignor",
    "rack",
    "owned",
    "epoch",
    "migration",
];

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Self {
        let mut command = Self { words: Vec::new(), options: BTreeMap::new(), pairs: Vec::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if OPTIONS.contains(&name) => drop(command.options.insert(name, value)),
                Some(pair) => command.pairs.push(pair),
                None => command.words.push(word.trim_matches('\'')),
            }
        }
        command
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).copied()
    }

    fn time(&self, name: &str, default: Duration) -> Duration {
        self.text(name).map_or(default, time)
    }
}

fn time(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).expect("a unit"));
    let number = number.parse().expect("a number");
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_mins(number),
        "h" => Duration::from_hours(number),
        _ => panic!("no unit: {unit}"),
    }
}

fn partition(text: &str) -> TopicPartition {
    let (topic, partition) = text.rsplit_once('-').expect("topic-partition");
    TopicPartition { topic: topic.into(), partition: PartitionIndex(partition.parse().expect("a number")) }
}

/// A consumer's subscription to these topics.
fn wanting(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics.split(',').collect();
    let mut bytes = vec![0, 0];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

/// `t:0,t:1` by topic; `none` for nothing.
fn named(text: &str) -> Named {
    let mut named = Named::new();
    for piece in text.split(',').filter(|piece| *piece != "none") {
        let (topic, partition) = piece.split_once(':').expect("topic:partition");
        let partition = partition.parse().expect("a number");
        match named.iter_mut().find(|(known, _)| known == topic) {
            Some((_, partitions)) => partitions.push(partition),
            None => named.push((topic.to_owned(), vec![partition])),
        }
    }
    named
}

/// An assignment: a real one if it names partitions.
fn assignment(text: &str) -> Bytes {
    if text.contains(':') { subscription::assignment(1, &named(text)) } else { text.to_owned().into() }
}

/// The same, to be read.
fn shown(assignment: &[u8]) -> String {
    let named = subscription::assigned(assignment);
    if named.is_empty() && !(assignment.len() >= 10 && assignment.starts_with(&[0])) {
        return format!("{:?}", String::from_utf8_lossy(assignment));
    }
    let pieces = named.iter().flat_map(|(topic, all)| all.iter().map(move |partition| format!("{topic}:{partition}")));
    let pieces: Vec<String> = pieces.collect();
    if pieces.is_empty() { "nothing".to_owned() } else { pieces.join(",") }
}

pub(super) struct Script {
    shard: Shard<Groups>,
    settings: Settings,
    migration: Migration,
    now: Instant,
    fresh: u8,
    tokens: u64,
    log: Vec<Record>,
    under_way: BTreeMap<WriteId, Vec<Record>>,
    holds: bool,
    /// Who waits, and in what group.
    waiting: BTreeMap<Token, (String, String)>,
    /// Member ids and generations, by group and name.
    members: BTreeMap<(String, String), (Arc<str>, i32)>,
    names: BTreeMap<Arc<str>, String>,
    /// What members of the consumer protocol were last told to read, by group and name.
    told: BTreeMap<(String, String), crate::consumer::request::Partitions>,
    story: Vec<String>,
}

impl Script {
    pub(super) fn new() -> Self {
        let settings = Settings::default();
        let mut script = Self {
            shard: Shard::new(Groups::new(settings.clone()), &context(Instant::ZERO, 0)),
            settings,
            migration: ConsumerSettings::default().migration,
            now: Instant::ZERO,
            fresh: 0,
            tokens: 0,
            log: Vec::new(),
            under_way: BTreeMap::new(),
            holds: false,
            waiting: BTreeMap::new(),
            members: BTreeMap::new(),
            names: BTreeMap::new(),
            told: BTreeMap::new(),
            story: Vec::new(),
        };
        script.reload();
        script
    }

    pub(super) fn run(&mut self, line: &str) -> Vec<String> {
        let command = Command::parse(line);
        match command.words[0] {
            "set" => self.set(&command),
            "tick" => self.tick(&command),
            "reload" => self.reload(),
            "hold" => self.holds = true,
            "keep" => {
                self.holds = false;
                self.settle(true);
            }
            "lose" => {
                self.holds = true;
                self.settle(false);
            }
            "old" => {
                let (id, generation) = self.members[&("g".to_owned(), command.words[1].to_owned())].clone();
                self.members.insert(("g".to_owned(), "old".to_owned()), (id, generation));
            }
            _ => {
                let request = self.request(&command);
                let group = command.words.get(1).copied().unwrap_or_default();
                let name = command.words.get(2).copied().unwrap_or(command.words[0]);
                self.ask(group, name, request);
            }
        }
        core::mem::take(&mut self.story)
    }

    fn set(&mut self, command: &Command<'_>) {
        self.settings.initial_rebalance_delay = command.time("delay", self.settings.initial_rebalance_delay);
        self.settings.offsets_retention = command.time("retention", self.settings.offsets_retention);
        if let Some(size) = command.text("size") {
            self.settings.group_size_max = size.parse().expect("a number");
        }
        if let Some(text) = command.text("migration") {
            self.migration = Migration { upgrades: text.contains("up"), downgrades: text.contains("down") };
        }
        self.reload();
    }

    /// Time passes, deadline by deadline. `beat=g/a`: the member sends heartbeats meanwhile.
    fn tick(&mut self, command: &Command<'_>) {
        let end = self.now + time(command.words[1]);
        let beat = command.text("beat").map(|text| text.split_once('/').expect("group/member"));
        loop {
            let deadline = self.shard.next_deadline().filter(|at| *at <= end);
            let step = beat.map(|_| self.now + Duration::from_secs(3)).filter(|at| *at <= end);
            let Some(at) = [deadline, step].into_iter().flatten().min() else { break };
            self.now = self.now.max(at);
            if let Some((group, name)) = beat {
                let member = self.member(group, name, &Command::parse("beat"));
                let told = self.story.len();
                self.ask(group, name, Request::Heartbeat(member));
                self.story.truncate(told);
            }
            let context = self.context();
            self.shard.on_deadline(&context);
            self.carry_out();
        }
        self.now = end;
    }

    fn context(&mut self) -> Context {
        self.fresh = self.fresh.wrapping_add(1);
        context(self.now, self.fresh)
    }

    /// A new leader: replay is all that it has.
    fn reload(&mut self) {
        for (_, (_, name)) in core::mem::take(&mut self.waiting) {
            self.story.push(format!("{name}: unanswered"));
        }
        let (group_size_max, migration) = (self.settings.group_size_max, self.migration);
        let consumer = ConsumerSettings { group_size_max, migration, ..ConsumerSettings::default() };
        let mut groups = Groups::new(self.settings.clone()).with_consumer_settings(consumer);
        self.log.iter().for_each(|record| groups.replay(record));
        self.under_way.clear();
        let context = self.context();
        self.shard = Shard::new(groups, &context);
        self.carry_out();
    }

    fn ask(&mut self, group: &str, name: &str, request: Request) {
        self.tokens += 1;
        self.waiting.insert(Token(self.tokens), (group.to_owned(), name.to_owned()));
        let context = self.context();
        self.shard.handle(&context, Token(self.tokens), request);
        self.carry_out();
    }

    fn settle(&mut self, is_kept: bool) {
        while let Some((id, records)) = self.under_way.pop_first() {
            if is_kept {
                self.log.extend(records);
            }
            self.shard.handle_written(id, is_kept);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        for effect in self.shard.take_effects() {
            match effect {
                Effect::Write { id, records } => {
                    for record in &records {
                        let line = self.written(record);
                        self.story.push(line);
                    }
                    self.under_way.insert(id, records);
                }
                Effect::Reply { to, reply } => {
                    let (group, name) = self.waiting.remove(&to).expect("whoever is answered has asked");
                    let line = match reply {
                        Ok(reply) => self.reply(&group, &name, reply),
                        Err(error) => format!("{error:?}"),
                    };
                    self.story.push(format!("{name}: {line}"));
                }
            }
        }
        if !self.holds && !self.under_way.is_empty() {
            self.settle(true);
        }
    }

    fn member(&self, group: &str, name: &str, command: &Command<'_>) -> MemberOf {
        let known = self.members.get(&(group.to_owned(), name.to_owned()));
        let (id, generation) = match known {
            Some((id, generation)) => (Arc::clone(id), *generation),
            None if name == "-" => ("".into(), -1),
            None => (name.into(), 1),
        };
        MemberOf {
            group: group.into(),
            member_id: command.text("id").map_or(id, Into::into),
            instance_id: command.text("instance").map(Into::into),
            generation: command.text("gen").map_or(generation, |text| text.parse().expect("a number")),
        }
    }

    fn request(&self, command: &Command<'_>) -> Request {
        let group = command.words.get(1).copied().unwrap_or_default();
        let name = command.words.get(2).copied().unwrap_or_default();
        let partitions = || command.words[2..].iter().map(|text| partition(text)).collect();
        let set = |name| {
            let text: Option<&str> = command.text(name);
            text.map_or_else(BTreeSet::new, |text| text.split(',').map(str::to_lowercase).collect())
        };
        match command.words[0] {
            "join" => Request::Join(self.join(command)),
            "sync" => Request::Sync(Sync {
                member: self.member(group, name, command),
                protocol_type: command.text("type").map(str::to_owned),
                protocol: command.text("protocol").map(str::to_owned),
                assignments: command
                    .pairs
                    .iter()
                    .map(|(name, value)| (self.member(group, name, command).member_id, assignment(value)))
                    .collect(),
            }),
            "beat" => Request::Heartbeat(self.member(group, name, command)),
            "leave" => {
                let leaver = |name: &&str| match name.strip_prefix('@') {
                    Some(instance) => Leaver { member_id: "".into(), instance_id: Some(instance.into()), reason: None },
                    None => {
                        let member_id = self.member(group, name, command).member_id;
                        Leaver { member_id, instance_id: None, reason: None }
                    }
                };
                Request::Leave(Leave { group: group.into(), members: command.words[2..].iter().map(leaver).collect() })
            }
            "commit" => Request::Commit(Commit {
                member: self.member(group, name, command),
                retention: command.text("retain").map(time),
                offsets: command.pairs.iter().map(committed).collect(),
            }),
            "fetch" if name == "all" => Request::Fetch(Fetch { group: group.into(), partitions: None }),
            "fetch" => Request::Fetch(Fetch { group: group.into(), partitions: Some(partitions()) }),
            "drop-offsets" => Request::DeleteOffsets(DeleteOffsets { group: group.into(), partitions: partitions() }),
            "topics-deleted" => Request::TopicsDeleted(vec![group.into()]),
            "list" => Request::List(List { states: set("states"), types: set("types") }),
            "describe" => Request::Describe(group.into()),
            "delete" => Request::Delete(group.into()),
            other => Request::Consumer(self.consumer_request(command, other)),
        }
    }

    fn join(&self, command: &Command<'_>) -> Join {
        let (group, name) = (command.words[1], command.words[2]);
        let member_id = match command.text("instance") {
            // A static member that starts anew knows no id.
            Some(_) => command.text("id").unwrap_or_default().into(),
            None => {
                let known = self.members.get(&(group.to_owned(), name.to_owned()));
                let known = known.map_or_else(|| "".into(), |(id, _)| Arc::clone(id));
                command.text("id").map_or(known, Into::into)
            }
        };
        let metadata = command.text("topics").map_or_else(|| format!("of {name}").into(), wanting);
        let metadata = match command.text("owned") {
            // Version 1 goes on as an assignment of version 1 begins.
            Some(text) => {
                let owned = subscription::assignment(1, &named(text));
                [&[0, 1], &metadata[2..], &owned[2..owned.len() - 4]].concat().into()
            }
            None => metadata,
        };
        let protocols = command.text("protocols").unwrap_or("range");
        Join {
            group: group.into(),
            member_id,
            instance_id: command.text("instance").map(Into::into),
            client_id: name.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: command.time("session", Duration::from_secs(10)),
            rebalance_timeout: command.time("rebalance", Duration::from_mins(1)),
            protocol_type: command.text("type").unwrap_or("consumer").to_owned(),
            protocols: protocols
                .split(',')
                .filter(|name| !name.is_empty())
                .map(|name| Protocol { name: name.to_owned(), metadata: metadata.clone() })
                .collect(),
            reason: None,
            takes_member_id: !command.has("v3"),
            skips_assignment: !command.has("v3") && !command.has("v8"),
        }
    }

    fn reply(&mut self, group: &str, name: &str, reply: Reply) -> String {
        match reply {
            Reply::Join(joined) => self.joined(group, name, &joined),
            Reply::Sync(Ok(synced)) => format!("assigned {}", shown(&synced.assignment)),
            Reply::Sync(Err(error)) | Reply::Heartbeat(Err(error)) | Reply::Delete(Err(error)) => format!("{error:?}"),
            Reply::Leave(Err(error)) | Reply::DeleteOffsets(Err(error)) | Reply::Describe(Err(error)) => {
                format!("{error:?}")
            }
            Reply::Heartbeat(Ok(())) | Reply::Delete(Ok(())) | Reply::TopicsDeleted => "ok".to_owned(),
            Reply::Leave(Ok(left)) => {
                let left = left.into_iter().map(|(_, result)| outcome(result));
                left.collect::<Vec<_>>().join(", ")
            }
            Reply::Commit(results) | Reply::DeleteOffsets(Ok(results)) => {
                results.into_iter().map(outcome).collect::<Vec<_>>().join(", ")
            }
            Reply::Fetch(fetched) => {
                let one = |fetched: Fetched| match fetched.committed {
                    Some(committed) => format!("{}={}", at(&fetched.partition), of(&committed)),
                    None => format!("{} none", at(&fetched.partition)),
                };
                fetched.into_iter().map(one).collect::<Vec<_>>().join(", ")
            }
            Reply::List(listed) => {
                let one = |listed: Listed| {
                    format!("{} {} {:?} {}", listed.group, listed.state, listed.protocol_type, listed.kind)
                };
                listed.into_iter().map(one).collect::<Vec<_>>().join("; ")
            }
            Reply::Describe(Ok(described)) => self.described(&described),
            Reply::Consumer(reply) => self.consumer_reply(group, name, reply),
        }
    }

    fn joined(&mut self, group: &str, name: &str, joined: &Joined) -> String {
        if !joined.member_id.is_empty() && name != "old" {
            let count = self.names.len() + 1;
            self.names.entry(Arc::clone(&joined.member_id)).or_insert_with(|| format!("{name}#{count}"));
            let known = (Arc::clone(&joined.member_id), joined.generation);
            self.members.insert((group.to_owned(), name.to_owned()), known);
        }
        if let Some(error) = joined.error {
            return format!("{error:?} {}", self.name(&joined.member_id));
        }
        let mut text = format!(
            "{} is in generation {} by {:?}, led by {}",
            self.name(&joined.member_id),
            joined.generation,
            joined.protocol.as_deref().unwrap_or_default(),
            self.name(&joined.leader)
        );
        if joined.skip_assignment {
            text += ", not to assign";
        }
        for member in &joined.members {
            let metadata = String::from_utf8_lossy(&member.metadata);
            write!(text, "; {} {metadata:?}", self.name(&member.member_id)).unwrap();
        }
        text
    }

    fn described(&self, described: &Described) -> String {
        let mut text = format!("{} {:?} {:?}", described.state, described.protocol_type, described.protocol);
        for member in &described.members {
            write!(
                text,
                "; {} {:?} from {} assigned {}",
                self.name(&member.member_id),
                member.instance_id.as_deref().unwrap_or_default(),
                member.client_host,
                shown(&member.assignment)
            )
            .unwrap();
        }
        text
    }

    fn name(&self, id: &str) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| format!("{id:?}"))
    }

    fn written(&self, record: &Record) -> String {
        match codec::decode(record).expect("it was just made") {
            Said::Offset { group, partition, kept: Some(kept) } => {
                let expires = kept.expire_ms.map_or_else(String::new, |at| format!(" until {at}"));
                format!("write {group} {}={}{expires}", at(&partition), of(&kept.committed))
            }
            Said::Offset { group, partition, kept: None } => format!("write {group} {} forgotten", at(&partition)),
            Said::Group { group, value: Some(value) } => {
                let member = |member: &quipu_protocol::group_records::MemberMetadata| {
                    format!("; {} {}", self.name(&member.member_id), shown(&member.assignment))
                };
                let members: String = value.members.iter().map(member).collect();
                let protocol = value.protocol.as_deref().unwrap_or("none");
                format!("write {group} generation {} by {protocol}{members}", value.generation)
            }
            Said::Group { group, value: None } => format!("write {group} gone"),
            Said::Consumer { group, said } => format!("write {group} {}", modern::said(&said)),
            Said::Other => unreachable!("nothing else is written"),
        }
    }
}

fn context(now: Instant, fresh: u8) -> Context {
    let wall = i64::try_from(now.as_nanos() / 1_000_000).expect("not that long");
    let mut bytes = [0; 16];
    bytes[15] = fresh;
    Context { now, wall: Timestamp(wall), fresh: bytes }
}

fn outcome(result: Result<(), crate::GroupError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
}

fn at(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.partition)
}

fn of(committed: &Committed) -> String {
    if committed.metadata.is_empty() {
        committed.offset.to_string()
    } else {
        format!("{}/{}", committed.offset, committed.metadata)
    }
}

/// `t-0=5`, `t-0=5/metadata`, `t-0=5/@5000` for so many characters.
fn committed((name, value): &(&str, &str)) -> (TopicPartition, Committed) {
    let (offset, metadata) = value.split_once('/').unwrap_or((value, ""));
    let metadata = match metadata.strip_prefix('@') {
        Some(length) => "x".repeat(length.parse().expect("a length")),
        None => metadata.to_owned(),
    };
    let committed = Committed {
        offset: Offset(offset.parse().expect("an offset")),
        leader_epoch: LeaderEpoch(1),
        metadata,
        topic_id: TopicId::ZERO,
    };
    (partition(name), committed)
}
