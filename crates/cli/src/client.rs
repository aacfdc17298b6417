//! What the commands that talk to a cluster share: where it is, the client, and how they fail.
//!
//! Invariant: a cluster that does not answer ends a command within [`CONNECT_TIMEOUT`] for each address, and the message names all
//! that were tried.
//!
//! Not here: what they ask (`topic`, `produce`, `consume`).

use std::{fmt, future::Future, io, process::ExitCode, sync::Arc, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use quipu_client::{Client, ClientConfig, ClientError, ConsumerError, ErrorCode, GroupError, Topic};
use quipu_env_tokio::{Options, TokioEnv};

use crate::{FAILED, output::count};

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take. A broker that accepts connections and says nothing is given up then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a question may take with all its retries.
const API_TIMEOUT: Duration = Duration::from_secs(30);

/// Adds `--bootstrap`.
pub(crate) fn with_bootstrap(command: Command) -> Command {
    command.arg(
        Arg::new("bootstrap")
            .long("bootstrap")
            .value_name("HOST:PORT")
            .env("QUIPU_BOOTSTRAP")
            .default_value("127.0.0.1:9092")
            .value_parser(|text: &str| ClientConfig::bootstrap(text))
            .help("Brokers to ask first, several separated by commas"),
    )
}

/// Adds `--json`.
pub(crate) fn with_json(command: Command, help: &'static str) -> Command {
    command.arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help(help))
}

/// The argument that names one topic.
pub(crate) fn topic_arg() -> Arg {
    Arg::new("topic").value_name("TOPIC").required(true).help("The topic's name")
}

/// The client that the command line asks for.
pub(crate) fn config(matches: &ArgMatches) -> ClientConfig {
    ClientConfig {
        client_id: "quipu".to_owned(),
        connect_timeout: CONNECT_TIMEOUT,
        request_timeout: REQUEST_TIMEOUT,
        api_timeout: API_TIMEOUT,
        ..matches.get_one::<ClientConfig>("bootstrap").expect("it has a default").clone()
    }
}

/// Connects to the cluster that `--bootstrap` names, runs `work` on it, and tells how it failed if it did.
pub(crate) fn run<W, F>(matches: &ArgMatches, work: W) -> ExitCode
where
    W: FnOnce(Client<TokioEnv>) -> F + Send + 'static,
    F: Future<Output = Result<ExitCode, Failure>> + Send + 'static,
{
    let config = config(matches);
    let runtime = match TokioEnv::start(Options { shards: 1 }) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quipu: the system gives no more threads or files: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let env = runtime.env();
    let ended = runtime.block_on(async move { work(Client::connect(env, config).await?).await });
    ended.unwrap_or_else(|failure| {
        eprintln!("quipu: {failure}");
        ExitCode::from(FAILED)
    })
}

/// A topic with its partitions.
///
/// Errors: it does not exist, or nobody could be asked.
pub(crate) async fn find_topic(client: &Client<TokioEnv>, name: &str) -> Result<Arc<Topic>, Failure> {
    let described = client.admin().describe_topics(vec![name.to_owned()]).await;
    let (_, topic) = described.into_iter().next().expect("an answer for each topic");
    topic.map_err(|error| match error.code() {
        Some(ErrorCode::UnknownTopicOrPartition) => Failure::UnknownTopic(name.to_owned()),
        _ => Failure::Client(error),
    })
}

/// That a topic has a partition of this number.
///
/// Errors: it has not.
pub(crate) fn check_partition(topic: &Topic, number: i32) -> Result<(), Failure> {
    if topic.partitions.iter().any(|partition| partition.index.0 == number) {
        return Ok(());
    }
    let partitions = topic.partitions.len();
    let numbers = if partitions > 1 { format!(", 0 to {}", partitions - 1) } else { String::new() };
    Err(Failure::Said(format!(
        "{} has no partition {number}: it has {}{numbers}",
        topic.name,
        count(partitions, "partition")
    )))
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The cluster refuses, or can't be asked.
    Client(ClientError),
    /// A partition can't be read.
    Consumer(ConsumerError),
    /// The group refuses.
    Group(GroupError),
    /// There is no such topic.
    UnknownTopic(String),
    /// Anything else: what happened and what to do.
    Said(String),
    /// The answer can't be written.
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => match error.code().and_then(advice) {
                Some(advice) => write!(f, "{}; {advice}", error.to_string().trim_end_matches('.')),
                None => error.fmt(f),
            },
            Self::Consumer(error) => error.fmt(f),
            Self::Group(error) => error.fmt(f),
            Self::UnknownTopic(topic) => write!(
                f,
                "there is no topic {topic}; `quipu topic list` lists those there are, `quipu topic create {topic}` makes it"
            ),
            Self::Said(what) => f.write_str(what),
            Self::Output(error) => write!(f, "cannot write the answer: {error}"),
        }
    }
}

impl core::error::Error for Failure {}

/// What to do about a refusal.
const fn advice(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopicOrPartition => Some("`quipu topic list` lists the topics there are"),
        ErrorCode::TopicAlreadyExists => Some("--if-not-exists takes it as it is"),
        ErrorCode::InvalidReplicationFactor => Some("there may be at most as many replicas as brokers"),
        ErrorCode::LeaderNotAvailable => Some("`quipu topic describe` shows which partitions have no leader"),
        _ => None,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<ConsumerError> for Failure {
    fn from(error: ConsumerError) -> Self {
        Self::Consumer(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
