//! `quipu produce`: sends the lines of a file, one record each.
//!
//! Invariants
//! - Lines of one partition are written in their order; with acks=all none is written twice.
//! - Nothing more is read once a line could not be delivered: what follows a gap is for the user to decide.
//! - Memory is bounded: by the producer's own, a few blocks of input, and [`DELIVERIES_MAX`] records that wait for their outcome.
//!
//! Not here: reading ([`lines`]). Read `job` next.

mod job;
mod lines;
mod progress;

use std::{fs::File, io, io::IsTerminal, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use quipu_client::{Acks, Client, Codec, ConfigResource, Header, PartitionIndex, ProducerConfig, Topic};
use quipu_env_tokio::{Signals, TokioEnv};

use crate::{
    client::{self, Failure, check_partition, find_topic, with_bootstrap, with_json},
    escape,
    output::Output,
};
use job::Job;
use lines::Source;
use progress::Progress;

/// Records whose outcome is not known yet.
const DELIVERIES_MAX: usize = 1 << 20;
/// Largest record where the topic does not tell: Kafka's default.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a partition's lines that go together.
const BATCH_BYTES: usize = 128 * 1024;
/// Bytes of lines that wait for their acknowledgement.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;

pub(crate) fn command() -> Command {
    let command = Command::new("produce")
        .about("Send lines to a topic, one record each")
        .long_about(
            "Send lines to a topic, one record each. A line is bytes, not text; an empty line is an empty value; the newline is not \
             part of it.\n\nStops at the first line that cannot be delivered, and names it. Ctrl-C stops reading, waits until what \
             was read is acknowledged, and is no failure if the lines came from stdin; a second one ends at once. Exits with 1 if \
             any record was not delivered or the file was not read to its end.",
        )
        .arg(client::topic_arg())
        .arg(Arg::new("file").value_name("FILE").default_value("-").help("The file to read; - is stdin"))
        .arg(
            Arg::new("key-separator")
                .long("key-separator")
                .value_name("TEXT")
                .value_parser(escape::bytes)
                .help("What stands before its first occurrence in a line is the key; \\t is a tab. A line without it has no key"),
        )
        .arg(
            Arg::new("acks")
                .long("acks")
                .value_name("WHO")
                .value_parser(["all", "1", "0"])
                .default_value("all")
                .help("Who must have a record: all replicas in sync, the leader (1), nobody (0)"),
        )
        .arg(
            Arg::new("compression")
                .long("compression")
                .value_name("CODEC")
                .value_parser(Codec::ALL.map(Codec::name))
                .default_value("none")
                .help("How batches are compressed"),
        )
        .arg(
            Arg::new("partition")
                .long("partition")
                .value_name("N")
                .value_parser(value_parser!(i32).range(0..))
                .help("The partition [default: by the key, as Kafka's clients do; without a key any]"),
        )
        .arg(
            Arg::new("header")
                .long("header")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .value_parser(header)
                .help("A header for every record; may be repeated"),
        );
    with_json(with_bootstrap(command), "Print the summary as JSON")
}

fn header(text: &str) -> Result<Header, &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok(Header::new(name.as_bytes().to_vec(), value.as_bytes().to_vec()))
}

/// What the command line asks for.
struct Wanted {
    topic: String,
    source: Source,
    /// What the source is called; none is stdin.
    file: Option<String>,
    /// Bytes to come, if that is known.
    source_bytes: Option<u64>,
    acks: Acks,
    compression: Codec,
    partition: Option<i32>,
    separator: Option<Vec<u8>>,
    headers: Vec<Header>,
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let text = |name: &str| matches.get_one::<String>(name).expect("it is required or has a default");
    let file = Some(text("file").clone()).filter(|file| file != "-");
    let (source, source_bytes) = match open(file.as_deref()) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("quipu: cannot read {}: {error}", text("file"));
            return ExitCode::from(crate::FAILED);
        }
    };
    let wanted = Wanted {
        topic: text("topic").clone(),
        source,
        file,
        source_bytes,
        acks: match text("acks").as_str() {
            "0" => Acks::None,
            "1" => Acks::Leader,
            _ => Acks::All,
        },
        compression: text("compression").parse().expect("clap knows the codecs"),
        partition: matches.get_one("partition").copied(),
        separator: matches.get_one("key-separator").cloned(),
        headers: matches.get_many("header").unwrap_or_default().cloned().collect(),
    };
    let output = Output::new(matches.get_flag("json"));
    client::run(matches, |client| produce(client, wanted, output))
}

fn open(file: Option<&str>) -> io::Result<(Source, Option<u64>)> {
    let Some(file) = file else { return Ok((Box::new(io::stdin()), None)) };
    let file = File::open(file)?;
    let metadata = file.metadata()?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), bytes))
}

async fn produce(client: Client<TokioEnv>, wanted: Wanted, mut output: Output) -> Result<ExitCode, Failure> {
    let topic = find_topic(&client, &wanted.topic).await?;
    if let Some(partition) = wanted.partition {
        check_partition(&topic, partition)?;
    }
    let record_bytes_max = record_bytes_max(&client, &topic).await;
    let producer = client.producer(config(&wanted, record_bytes_max))?;
    let is_typed = wanted.file.is_none() && io::stdin().is_terminal();
    let progress = Progress::new(wanted.source_bytes, io::stderr().is_terminal() && !is_typed);
    let mut job = Job {
        producer,
        topic: topic.name.clone(),
        partition: wanted.partition.map(PartitionIndex),
        separator: wanted.separator,
        headers: wanted.headers,
        record_bytes_max,
        deliveries: std::collections::VecDeque::new(),
        tally: job::Tally::default(),
        progress,
    };
    // Until here, where nothing is sent yet, a signal ends the process as it ends any other.
    let mut signals = Signals::new()?;
    let blocks = lines::read(wanted.source, record_bytes_max);
    let ended = job.run(blocks, &mut signals).await;
    let status = job.tell(ended, wanted.file.as_deref(), wanted.acks, &mut output);
    Ok(output.finish(status)?)
}

fn config(wanted: &Wanted, record_bytes_max: usize) -> ProducerConfig {
    let default = ProducerConfig::default();
    let memory_bytes = MEMORY_BYTES.max(record_bytes_max.saturating_mul(2)).min(4 * 1024 * 1024 * 1024 - 1);
    ProducerConfig {
        acks: wanted.acks,
        idempotence: wanted.acks == Acks::All,
        // Without idempotence a retry may overtake what was sent after it.
        in_flight_max: if wanted.acks == Acks::Leader { 1 } else { default.in_flight_max },
        compression: wanted.compression,
        batch_bytes: BATCH_BYTES.min(record_bytes_max),
        memory_bytes,
        request_bytes_max: record_bytes_max,
        ..default
    }
}

/// Largest record of a topic, as its brokers have it; Kafka's default if they don't tell.
async fn record_bytes_max(client: &Client<TokioEnv>, topic: &Topic) -> usize {
    let resource = ConfigResource::Topic(topic.name.to_string());
    let (_, configs) = client.admin().describe_configs(vec![resource], false).await.remove(0);
    let configs = configs.unwrap_or_default();
    let found = configs.iter().find(|config| config.name == "max.message.bytes");
    let bytes: Option<usize> = found.and_then(|config| config.value.as_ref()?.parse().ok());
    bytes.unwrap_or(RECORD_BYTES_MAX).clamp(128, i32::MAX.unsigned_abs() as usize)
}
