//! The commands of a script, and how records and replies are written down.
//!
//! | command | request |
//! |---|---|
//! | `bootstrap NODE [voters=]`, `epoch NODE EPOCH [dir=] [voters=]` | `Bootstrap`, `StartEpoch` |
//! | `register BROKER [start=] [dir=] [rack=] [cluster=] [level=] [listeners=]` | `RegisterBroker` |
//! | `unfence BROKER [epoch=]`, `fence`, `stop` | `UnfenceBroker`, `FenceBroker`, `ControlledShutdown`, under the current broker epoch if none is given |
//! | `unregister BROKER` | `UnregisterBroker` |
//! | `change T-P by=B members=1,2 quorum=2 [epoch=] [version=] [dir1=9]` | `AskPartitions`: another configuration; `dir1` is broker 1's directory |
//! | `giveup T-P by=B [reason=CannotLead] [epoch=]`, `prefer T-P by=B for=B [epoch=]` | `AskPartitions` |
//! | `preferred [T-P] ..` | `ElectPreferred`; all if none is named |
//! | `balance N`, `leaderless N` | `BalanceLeaders`, `ElectLeaderless` |
//! | `unclean T-P [forced] [reports=1:LABEL:END,2:LABEL:END:faulty] [epoch=]` | `ElectUnclean` |
//! | `electorate T-P` | `unclean_electorate` |
//! | `reassign T-P [to=1,2] [factor]` | `AlterPartitionReassignments`; cancelled without `to` |
//! | `feature NAME LEVEL [validate]` | `UpdateFeatures` |
//! | `silent B,B`, `later SECONDS` | nothing was heard of these; time passes |
//! | `old` | the cluster is as an older release left it: at metadata.version 1, without group.version |
//! | `ready BROKER [rack=]` | a cluster if there is none, the broker registered and unfenced, silently |
//! | `create NAME [partitions=] [factor=] [assign=] [CONFIG=VALUE] .. [validate]` | `CreateTopics`; several with ` + ` |
//! | `grow NAME COUNT [assign=] [validate]` | `CreatePartitions`; several with ` + ` |
//! | `delete NAME` or `#ID` | `DeleteTopics`; several with ` + ` |
//! | `alter RESOURCE (set NAME VALUE / delete NAME / append .. / subtract ..) .. [validate]` | `AlterConfigs` |
//! | `replace RESOURCE [NAME=VALUE] .. [validate]` | `ReplaceConfigs` |
//! | `ids BROKER [epoch=]` | `AllocateProducerIds` |
//! | `show topics`, `topic NAME`, `brokers`, `configs`, `reassignments` | looks at the image |

mod cluster;

use std::collections::BTreeSet;

use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, LeaderEpoch, Offset, PartitionIndex, ProducerId,
    TopicId, TopicIdPartition,
};
use quipu_env::Instant;
use quipu_metadata::{
    ConfigResource, Configs, Configuration, ConfigurationVersion, Delta, Member, PartitionState, codec,
    record::{Assignment, Election, FeatureRange, Listener, Registration, StartId, Voter},
};

use crate::*;

pub(super) struct Script {
    pub(super) image: Image,
    statics: StaticConfig,
    written: Vec<(Offset, Vec<u8>)>,
    topic_count: u8,
    pub(super) doubts: Doubts,
    now: Instant,
    silent: BTreeSet<BrokerId>,
}

/// `key=value` among the words of a command.
fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not such a number"))
}

fn bytes(words: &[&str], key: &str, default: u8) -> [u8; 16] {
    [option(words, key).map_or(default, number); 16]
}

fn brokers(text: &str) -> Vec<BrokerId> {
    text.split(',').filter(|broker| !broker.is_empty()).map(|broker| BrokerId(number(broker))).collect()
}

fn default_directory(broker: BrokerId) -> u8 {
    u8::try_from(broker.get()).unwrap_or(0)
}

impl Script {
    pub(super) fn new() -> Self {
        Self {
            image: Image::new(),
            statics: StaticConfig::new(),
            written: Vec::new(),
            topic_count: 0,
            doubts: Doubts::new(),
            now: Instant::ZERO,
            silent: BTreeSet::new(),
        }
    }

    /// Runs one command; what it wrote and answered, a line each.
    pub(super) fn run(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let validate_only = words.contains(&"validate");
        let words: Vec<&str> = words.into_iter().filter(|word| *word != "validate").collect();
        let (verb, rest) = words.split_first().expect("a command");
        let items: Vec<&[&str]> = rest.split(|word| *word == "+").collect();
        match *verb {
            "ready" => self.ready(rest),
            "bootstrap" => {
                let node = BrokerId(number(rest[0]));
                let directory_id = DirectoryId(bytes(rest, "dir", default_directory(node)));
                let voters = voters(rest, Voter { node, directory_id });
                let (cluster_id, controller_epoch) = (ClusterId([1; 16]), ControllerEpoch(1));
                self.decide(&Bootstrap { cluster_id, node, directory_id, controller_epoch, voters }, no_reply)
            }
            "epoch" => self.start_epoch(rest),
            "register" => self.decide(&registration(rest), no_reply),
            "unfence" => {
                let (broker, broker_epoch) = self.broker_epoch(rest);
                self.decide(&UnfenceBroker { broker, broker_epoch }, no_reply)
            }
            "fence" => {
                let (broker, broker_epoch) = self.broker_epoch(rest);
                self.decide(&FenceBroker { broker, broker_epoch }, no_reply)
            }
            "create" => {
                let topics = items.iter().map(|item| new_topic(item)).collect();
                self.decide(&CreateTopics { topics, validate_only }, |reply| named(reply, created))
            }
            "grow" => {
                let topics = items.iter().map(|item| more_partitions(item)).collect();
                self.decide(&CreatePartitions { topics, validate_only }, |reply| named(reply, |()| "ok".into()))
            }
            "delete" => {
                let topics = items.iter().map(|item| topic_ref(item[0])).collect();
                let deleted = |topic: DeletedTopic| format!("{} {}", topic.name, short(topic.topic_id));
                self.decide(&DeleteTopics { topics }, |reply| {
                    let reply = reply.into_iter().map(|(topic, result)| (format!("{topic:?}"), result)).collect();
                    named(reply, deleted)
                })
            }
            "alter" => {
                let resources = items.iter().map(|item| (resource(item[0]), operations(&item[1..]))).collect();
                self.decide(&AlterConfigs { resources, validate_only }, altered)
            }
            "replace" => {
                let resources = items.iter().map(|item| (resource(item[0]), values(&item[1..]))).collect();
                self.decide(&ReplaceConfigs { resources, validate_only }, altered)
            }
            "ids" => {
                let (broker, broker_epoch) = self.broker_epoch(rest);
                let block = |block: ProducerIdBlock| vec![format!("from {} {}", block.first, block.count)];
                self.decide(&AllocateProducerIds { broker, broker_epoch }, block)
            }
            "show" => self.show(rest),
            _ => cluster::run(self, verb, rest, validate_only),
        }
    }

    /// Decides, writes down, and applies, as a broker would.
    pub(super) fn decide<R: Request>(
        &mut self,
        request: &R,
        answer: impl FnOnce(R::Reply) -> Vec<String>,
    ) -> Vec<String> {
        let mut new_topic_id = || {
            self.topic_count += 1;
            TopicId([self.topic_count; 16])
        };
        self.doubts.refresh(self.now, self.silent.clone());
        let mut context = Context {
            node: BrokerId(1),
            statics: &self.statics,
            new_topic_id: &mut new_topic_id,
            doubts: &mut self.doubts,
        };
        let Decision { records, reply } = match handle(request, &self.image, &mut context) {
            Ok(decision) => decision,
            Err(error) => return vec![format!("! {}: {error}", kind(&error))],
        };
        let mut lines = Vec::new();
        for record in &records {
            let offset = self.image.next_offset();
            lines.push(format!("{offset} {}", line(record)));
            self.image.apply(offset, record, &mut Delta::default()).expect("the controller decides what can be");
            self.written.push((offset, codec::encode(record).to_vec()));
        }
        lines.extend(answer(reply).into_iter().map(|line| format!("> {line}")));
        lines
    }

    /// Replaying what was written, and a snapshot, give the same image.
    pub(super) fn assert_replays(&self) {
        let mut replayed = Image::new();
        for (offset, bytes) in &self.written {
            let record = codec::decode(bytes).expect("it was encoded a moment ago");
            replayed.apply(*offset, &record, &mut Delta::default()).expect("it was applied before");
        }
        assert_eq!(replayed, self.image);
        let rebuilt = Image::rebuild(self.image.next_offset(), &self.image.to_records());
        assert_eq!(rebuilt.as_ref(), Ok(&self.image));
    }

    fn ready(&mut self, words: &[&str]) -> Vec<String> {
        if self.image.cluster_id().is_none() {
            self.run("bootstrap 1");
        }
        self.run(&format!("register {} start=1", words.join(" ")));
        self.run(&format!("unfence {}", words[0]));
        Vec::new()
    }

    fn start_epoch(&mut self, words: &[&str]) -> Vec<String> {
        let node = BrokerId(number(words[0]));
        let directory_id = DirectoryId(bytes(words, "dir", default_directory(node)));
        let controller_epoch = ControllerEpoch(number(words[1]));
        let voters = voters(words, Voter { node: BrokerId(1), directory_id: DirectoryId([1; 16]) });
        self.decide(&StartEpoch { node, directory_id, controller_epoch, voters }, no_reply)
    }

    /// What [`find_unclean`] finds: `NAME-INDEX: BROKERS`.
    pub(super) fn find_unclean(&mut self, count_max: usize) -> Vec<String> {
        let mut new_topic_id = || TopicId::ZERO;
        let (statics, doubts) = (&self.statics, &mut self.doubts);
        let context = Context { node: BrokerId(1), statics, new_topic_id: &mut new_topic_id, doubts };
        let found = find_unclean(&self.image, &context, count_max);
        let line = |(id, epoch, electorate): (TopicIdPartition, LeaderEpoch, Vec<BrokerId>)| {
            assert_eq!(self.image.partition(id).map(|state| state.leader_epoch), Some(epoch));
            let name = self.image.topic_by_id(id.topic_id).expect("it was found").name();
            format!("{name}-{}: {}", id.partition, ids(&electorate))
        };
        found.into_iter().map(line).collect()
    }

    /// The partition `NAME-INDEX`.
    pub(super) fn id(&self, word: &str) -> TopicIdPartition {
        let (name, index) = word.rsplit_once('-').expect("topic-partition");
        let topic_id = self.image.topic_id(name).unwrap_or(TopicId([0xee; 16]));
        TopicIdPartition { topic_id, partition: PartitionIndex(number(index)) }
    }

    fn broker_epoch(&self, words: &[&str]) -> (BrokerId, BrokerEpoch) {
        let broker = BrokerId(number(words[0]));
        let current = self.image.broker(broker).map_or(BrokerEpoch(-1), |state| state.broker_epoch);
        (broker, option(words, "epoch").map_or(current, |epoch| BrokerEpoch(number(epoch))))
    }

    fn show(&self, words: &[&str]) -> Vec<String> {
        let configs =
            |configs: &Configs| configs.iter().map(|(key, value)| format!(" {key}={value}")).collect::<String>();
        match words {
            ["topics"] => {
                self.image.topics().map(|topic| format!("{} {}", short(topic.topic_id()), topic.name())).collect()
            }
            ["topic", name] => {
                let topic = self.image.topic(name).expect("a topic to show");
                let head = format!("{} {}{}", short(topic.topic_id()), topic.name(), configs(topic.configs()));
                let partitions = topic.partitions().map(|(index, state)| format!("{index}: {}", partition(state)));
                std::iter::once(head).chain(partitions).collect()
            }
            ["brokers"] => {
                let line = |(broker, state): (BrokerId, &quipu_metadata::record::BrokerState)| {
                    let unfenced = state.unfenced_epoch.map_or("never".to_owned(), |epoch| epoch.to_string());
                    let stopping = if state.in_controlled_shutdown { " about to stop" } else { "" };
                    let (epoch, fenced) = (state.broker_epoch, state.fenced);
                    format!("{broker} epoch {epoch} fenced {fenced} last unfenced {unfenced}{stopping}")
                };
                self.image.brokers().map(line).collect()
            }
            ["configs"] => self
                .image
                .configured_resources()
                .map(|(resource, values)| format!("{resource}:{}", configs(values)))
                .collect(),
            ["reassignments"] => list_reassignments(&self.image)
                .map(|ongoing| {
                    let OngoingReassignment { topic, partition, replicas, adding, removing } = ongoing;
                    let (replicas, adding, removing) = (ids(&replicas), ids(&adding), ids(&removing));
                    format!("{topic}-{partition} replicas {replicas} adding {adding} removing {removing}")
                })
                .collect(),
            _ => panic!("nothing to show: {words:?}"),
        }
    }
}

/// Those named, with their usual directories, or the one.
fn voters(words: &[&str], only: Voter) -> Vec<Voter> {
    let voter = |node| Voter { node, directory_id: DirectoryId([default_directory(node); 16]) };
    option(words, "voters").map_or(vec![only], |list| brokers(list).into_iter().map(voter).collect())
}

fn registration(words: &[&str]) -> RegisterBroker {
    let broker = BrokerId(number(words[0]));
    let listener = |name: &str| Listener { name: name.into(), host: "h".into(), port: 9092 };
    let features = match option(words, "level") {
        Some(level) => vec![FeatureRange { name: METADATA_VERSION.into(), level_min: 0, level_max: number(level) }],
        None => Bootstrap::supported_features(),
    };
    RegisterBroker {
        cluster_id: ClusterId(bytes(words, "cluster", 1)),
        broker,
        registration: Registration {
            directory_id: DirectoryId(bytes(words, "dir", default_directory(broker))),
            start_id: StartId(bytes(words, "start", 1)),
            listeners: option(words, "listeners").unwrap_or("P").split(',').map(listener).collect(),
            rack: option(words, "rack").map(Into::into),
            features,
        },
    }
}

fn new_topic(words: &[&str]) -> NewTopic {
    let name = match words[0].split_once('*') {
        Some((_, length)) => "n".repeat(number(length)),
        None => words[0].trim_matches('\'').to_owned(),
    };
    let assignment = |part: &str| {
        let (partition, replicas) = part.split_once(':').expect("partition:replicas");
        (PartitionIndex(number(partition)), brokers(replicas))
    };
    let is_config = |word: &&&str| !["partitions", "factor", "assign"].contains(&word.split('=').next().unwrap_or(""));
    let configs: Vec<&str> = words[1..].iter().filter(is_config).copied().collect();
    NewTopic {
        name,
        partition_count: option(words, "partitions").map_or(-1, number),
        replication_factor: option(words, "factor").map_or(-1, number),
        assignments: option(words, "assign").into_iter().flat_map(|text| text.split(';')).map(assignment).collect(),
        configs: values(&configs),
    }
}

fn more_partitions(words: &[&str]) -> MorePartitions {
    MorePartitions {
        name: words[0].into(),
        partition_count: number(words[1]),
        assignments: option(words, "assign").map(|text| text.split(';').map(brokers).collect()),
    }
}

fn topic_ref(word: &str) -> TopicRef {
    match word.strip_prefix('#') {
        Some(id) => TopicRef::Id(TopicId([u8::from_str_radix(id, 16).expect("two hex digits"); 16])),
        None => TopicRef::Name(word.into()),
    }
}

fn resource(word: &str) -> ConfigResource {
    match word.split_once('-') {
        Some(("broker", id)) => ConfigResource::Broker(BrokerId(number(id))),
        Some(("group", name)) => ConfigResource::Group(name.into()),
        Some(("all", "brokers")) => ConfigResource::BrokerDefault,
        _ => ConfigResource::Topic(word.into()),
    }
}

fn operations(words: &[&str]) -> Vec<ConfigOperation> {
    let kind = |word: &str| match word {
        "set" => Some(OperationKind::Set),
        "delete" => Some(OperationKind::Delete),
        "append" => Some(OperationKind::Append),
        "subtract" => Some(OperationKind::Subtract),
        _ => None,
    };
    let (mut words, mut operations) = (words.iter(), Vec::new());
    while let Some(word) = words.next() {
        let kind = kind(word).expect("set, delete, append or subtract");
        let name = words.next().expect("a config").to_string();
        let value = if kind == OperationKind::Delete { None } else { words.next().map(ToString::to_string) };
        operations.push(ConfigOperation { name, kind, value });
    }
    operations
}

fn values(words: &[&str]) -> NamedValues {
    let value = |word: &&str| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => ((*word).to_owned(), None),
    };
    words.iter().map(value).collect()
}

fn no_reply((): ()) -> Vec<String> {
    vec!["ok".into()]
}

fn named<T>(reply: Vec<(String, Result<T, ControllerError>)>, ok: impl Fn(T) -> String) -> Vec<String> {
    let line = |(name, result): (String, Result<T, ControllerError>)| match result {
        Ok(value) => format!("{}: {}", abbreviated(&name), ok(value)),
        Err(error) => format!("{}: {}: {}", abbreviated(&name), kind(&error), abbreviated(&error.to_string())),
    };
    reply.into_iter().map(line).collect()
}

fn altered(reply: AlteredConfigs) -> Vec<String> {
    named(reply.into_iter().map(|(resource, result)| (resource.to_string(), result)).collect(), |()| "ok".into())
}

fn created(topic: CreatedTopic) -> String {
    let is_own = |entry: &&CreatedConfig| entry.source == quipu_metadata::config::ConfigSource::DynamicTopic;
    let own: String =
        topic.configs.iter().filter(is_own).map(|entry| format!(" {}={}", entry.name, entry.value)).collect();
    format!("{} {} partition(s) of {}{own}", short(topic.topic_id), topic.partition_count, topic.replication_factor)
}

/// The variant's name.
fn kind(error: &ControllerError) -> String {
    let debug = format!("{error:?}");
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn abbreviated(text: &str) -> String {
    text.replace(&"n".repeat(249), "<249 n>")
}

/// The ids of scripts repeat one byte.
fn short(topic_id: TopicId) -> String {
    format!("#{:02x}", topic_id.0[0])
}

fn ids(brokers: &[BrokerId]) -> String {
    brokers.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(",")
}

fn partition(state: &PartitionState) -> String {
    let members: Vec<BrokerId> = state.configuration.members.iter().map(|member| member.broker).collect();
    let leader = state.leader.map_or("none".to_owned(), |leader| leader.to_string());
    let changing = |name: &str, brokers: &[BrokerId]| {
        if brokers.is_empty() { String::new() } else { format!(" {name} {}", ids(brokers)) }
    };
    let mut line = format!(
        "replicas {} members {} quorum {} version {} leader {leader} epoch {}",
        ids(&state.replicas),
        ids(&members),
        state.configuration.quorum,
        state.configuration.version.0,
        state.leader_epoch
    );
    line += &changing("adding", &state.adding);
    line += &changing("removing", &state.removing);
    if usize::from(state.replication_factor) != state.replicas.len() {
        line += &format!(" factor {}", state.replication_factor);
    }
    if state.unclean_epoch != LeaderEpoch::NONE {
        line += &format!(" unclean {}", state.unclean_epoch);
    }
    line
}

/// The broker, and its directory if that is not its usual one.
fn member(member: &Member) -> String {
    match member.directory_id {
        DirectoryId([first, ..]) if first != default_directory(member.broker) => {
            format!("{}(dir {first})", member.broker)
        }
        _ => member.broker.to_string(),
    }
}

fn line(record: &MetadataRecord) -> String {
    match record {
        MetadataRecord::EpochStart { controller_epoch, controller, voters } => {
            let voters: Vec<BrokerId> = voters.iter().map(|voter| voter.node).collect();
            format!("EpochStart {controller_epoch} controller {controller} voters {}", ids(&voters))
        }
        MetadataRecord::RegisterBroker { broker, registration } => {
            format!("RegisterBroker {broker} start {}", registration.start_id.0[0])
        }
        MetadataRecord::UnfenceBroker { broker, broker_epoch } => {
            format!("UnfenceBroker {broker} epoch {broker_epoch}")
        }
        MetadataRecord::Topic { name, topic_id } => format!("Topic {} {}", abbreviated(name), short(*topic_id)),
        MetadataRecord::Partition { topic_id, partition: index, state } => {
            format!("Partition {}-{index} {}", short(*topic_id), partition(state))
        }
        MetadataRecord::PartitionChange { partition, election, configuration, assignment } => {
            let mut line = format!("PartitionChange {}-{}", short(partition.topic_id), partition.partition);
            if let Some(Election { leader, leader_epoch, unclean }) = election {
                let leader = leader.map_or("none".to_owned(), |leader| leader.to_string());
                line += &format!(" leader {leader} epoch {leader_epoch}{}", if *unclean { " unclean" } else { "" });
            }
            if let Some(Configuration { members, quorum, version }) = configuration {
                let members: Vec<String> = members.iter().map(member).collect();
                line += &format!(" members {} quorum {quorum} version {}", members.join(","), version.0);
            }
            if let Some(Assignment { replicas, adding, removing, replication_factor }) = assignment {
                let (replicas, adding, removing) = (ids(replicas), ids(adding), ids(removing));
                line +=
                    &format!(" replicas {replicas} adding {adding} removing {removing} factor {replication_factor}");
            }
            line
        }
        MetadataRecord::FenceBroker { broker, broker_epoch } => format!("FenceBroker {broker} epoch {broker_epoch}"),
        MetadataRecord::BrokerShutdown { broker, broker_epoch } => {
            format!("BrokerShutdown {broker} epoch {broker_epoch}")
        }
        MetadataRecord::RemoveTopic { topic_id } => format!("RemoveTopic {}", short(*topic_id)),
        MetadataRecord::Config { resource, key, value } => match value {
            Some(value) => format!("Config {resource} {key}={value}"),
            None => format!("Config {resource} {key} taken away"),
        },
        MetadataRecord::ProducerIds { broker, next_producer_id: ProducerId(next) } => {
            format!("ProducerIds broker {broker} next {next}")
        }
        other => format!("{other:?}"),
    }
}
