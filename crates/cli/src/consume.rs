//! `quipu consume`: prints the records of topics, by itself or as a member of a group.
//!
//! Invariants
//! - Records of a partition are printed in order of offset, none twice, none skipped in silence.
//! - Brokers that go away are waited for and told of, or, where there is an end to reach, they are a failure.
//! - A reader of stdout that goes away ends the command quietly, also while nothing comes; one that is slow holds up the reading, not
//!   the connections.
//! - In a group what was printed is committed, and nothing else: another member goes on behind it.
//!
//! Not here: how a record is printed (`template`, `json`). Read `reading` next, then `member`.

mod from;
mod json;
mod member;
mod reading;
mod template;

use std::{collections::BTreeSet, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use quipu_client::{
    Client, ClientConfig, ConsumerConfig, ConsumerRecord, GroupConfig, GroupProtocol, OffsetReset, PartitionIndex,
    Position, TopicPartition,
};
use quipu_env_tokio::{Signals, TokioEnv};

use crate::{
    USAGE,
    client::{self, Failure, check_partition, find_topic, with_bootstrap},
    time,
};
use member::{Member, Source};
use reading::{Ends, Reading};
use template::Template;

/// Records that are printed at a time.
const RECORDS_MAX: usize = 4000;

pub(crate) fn command() -> Command {
    let command = Command::new("consume")
        .about("Print the records of topics")
        .long_about(
            "Print the records of topics, and go on with those that come, until Ctrl-C. Records of one partition come in order; \
             among partitions there is none. No offsets are stored anywhere, unless --group joins a group: then its members share \
             the partitions, and what was printed is committed.",
        )
        .arg(client::topic_arg().action(ArgAction::Append).help("The topics' names"))
        .args(group_args())
        .arg(
            Arg::new("partition")
                .long("partition")
                .value_name("N")
                .action(ArgAction::Append)
                .value_parser(value_parser!(i32).range(0..))
                .help("Only this partition; may be repeated [default: all]"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("WHERE")
                .allow_hyphen_values(true)
                .value_parser(|text: &str| from::position(text, time::now()))
                .default_value("start")
                .help("Where to begin: start, end, an offset, or a time")
                .long_help(
                    "Where to begin, in each partition; with --group start or end, and only where the group has committed nothing:\n  start                   the first record there is\n  end                     what \
                     comes from now on\n  1234                    this offset\n  2026-03-01T12:00:00Z    the first record from this \
                     time on (RFC 3339)\n  @1772366400000          the same in milliseconds since 1970\n  -10m                    the \
                     same, so long before now; units ms, s, m, h, d",
                ),
        )
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after this many records"),
        )
        .arg(
            Arg::new("exit-at-end")
                .long("exit-at-end")
                .action(ArgAction::SetTrue)
                .help("End behind the last record that was there at the start; with --group once the group has read that far"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("TEMPLATE")
                .value_parser(template::parse)
                .default_value("%v\\n")
                .conflicts_with("json")
                .help("How a record is printed: %t %p %o %T %k %v %h \\n \\t")
                .long_help(
                    "How a record is printed:\n  %t  topic\n  %p  partition\n  %o  offset\n  %T  timestamp, milliseconds since 1970; \
                     -1 for none\n  %k  key, nothing for none\n  %v  value, nothing for none\n  %h  headers, NAME=VALUE with \
                     commas between\n  %%  a percent sign\n  \\n \\t \\r \\0 \\\\  newline, tab, carriage return, zero byte, backslash\n\
                     Keys and values are printed as the bytes they are.",
                ),
        );
    let json = "Print one JSON object a line; key_base64 and value_base64 for what is not UTF-8";
    client::with_json(with_bootstrap(command), json)
}

/// To join a group.
fn group_args() -> [Arg; 2] {
    let group = Arg::new("group")
        .long("group")
        .value_name("GROUP")
        .conflicts_with("partition")
        .help("Read as a member of this group, and commit what was printed");
    let protocol = Arg::new("group-protocol")
        .long("group-protocol")
        .value_name("PROTOCOL")
        .requires("group")
        .value_parser(["consumer", "classic"])
        .default_value("consumer")
        .help("Who shares out the partitions: the broker (KIP-848), or the members");
    [group, protocol]
}

/// How a record is printed.
enum Format {
    Template(Template),
    Json,
}

impl Format {
    fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        match self {
            Self::Template(template) => template.write(record, out),
            Self::Json => json::write(record, out),
        }
    }
}

/// What the command line asks for.
struct Wanted {
    config: ClientConfig,
    topics: Vec<String>,
    /// To join, and how.
    group: Option<(String, GroupProtocol)>,
    /// None is all.
    partitions: BTreeSet<i32>,
    position: Position,
    count: Option<u64>,
    exits_at_end: bool,
    format: Format,
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let template = || matches.get_one::<Template>("format").expect("it has a default").clone();
    let is_classic = matches.get_one::<String>("group-protocol").is_some_and(|name| name == "classic");
    let protocol = if is_classic { GroupProtocol::Classic } else { GroupProtocol::Consumer };
    let wanted = Wanted {
        config: client::config(matches),
        topics: matches.get_many::<String>("topic").expect("clap requires it").cloned().collect(),
        group: matches.get_one::<String>("group").map(|group| (group.clone(), protocol)),
        partitions: matches.get_many("partition").unwrap_or_default().copied().collect(),
        position: *matches.get_one("from").expect("it has a default"),
        count: matches.get_one("count").copied(),
        exits_at_end: matches.get_flag("exit-at-end"),
        format: if matches.get_flag("json") { Format::Json } else { Format::Template(template()) },
    };
    if wanted.group.is_some() && !matches!(wanted.position, Position::Start | Position::End) {
        eprintln!(
            "quipu: with --group, --from is start or end; `quipu group reset-offsets` sets where a group goes on"
        );
        return ExitCode::from(USAGE);
    }
    client::run(matches, |client| consume(client, wanted))
}

async fn consume(client: Client<TokioEnv>, wanted: Wanted) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new()?;
    let (source, ends) = tokio::select! { biased;
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
        begun = begin(&client, &wanted) => begun?,
    };
    let Wanted { config, format, count, .. } = wanted;
    let reading =
        Reading { env: client.env().clone(), config, source, signals, ends, left: count, format, is_troubled: false };
    reading.run().await?;
    Ok(ExitCode::SUCCESS)
}

/// A consumer of what is wanted, and where to end, if anywhere.
async fn begin(client: &Client<TokioEnv>, wanted: &Wanted) -> Result<(Source, Option<Ends>), Failure> {
    let mut partitions = Vec::new();
    for name in &wanted.topics {
        let topic = find_topic(client, name).await?;
        for partition in &wanted.partitions {
            check_partition(&topic, *partition)?;
        }
        let numbers = topic.partitions.iter().map(|partition| partition.index);
        let is_wanted = |number: &PartitionIndex| wanted.partitions.is_empty() || wanted.partitions.contains(&number.0);
        partitions.extend(numbers.filter(is_wanted).map(|number| TopicPartition::new(topic.name.clone(), number)));
    }
    // In a group what was given and not printed would have to be given again.
    let most = usize::try_from(wanted.count.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let config = ConsumerConfig { poll_records_max: RECORDS_MAX.min(most), ..Default::default() };
    let mut consumer = client.consumer(config.clone())?;
    let ends = if wanted.exits_at_end {
        Some(partitions.iter().cloned().zip(consumer.end_offsets(&partitions).await?).collect())
    } else {
        None
    };
    if let Some((group, protocol)) = &wanted.group {
        let is_end = wanted.position == Position::End;
        let offset_reset = if is_end { OffsetReset::End } else { OffsetReset::Start };
        let consumer = ConsumerConfig { offset_reset, ..config };
        let config = GroupConfig { protocol: *protocol, consumer, auto_commit: None, ..GroupConfig::new(group) };
        return Ok((Source::Group(Box::new(Member::join(client, config, &wanted.topics)?)), ends));
    }
    consumer.assign(partitions.into_iter().map(|partition| (partition, wanted.position)));
    Ok((Source::Own(Box::new(consumer)), ends))
}
