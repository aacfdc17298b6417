//! The load client of `cargo xtask bench`: one workload per run, through librdkafka or (groups, fetch sessions) raw frames, and the sink.
//!
//! A workload prints one line of JSON on stdout and exits 0; a delivery that failed, or a record that is missing, ends it with
//! status 1 and a message. Latencies are in microseconds. The servers under test are started by `xtask`, not here.
//!
//! Read [`produce`] next, then `xtask/src/bench`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool answers on stdout and complains on stderr"
)]

mod consume;
mod groups;
mod open_loop;
mod produce;
mod sink;
mod stats;
mod sync;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Parser};

/// What every workload needs to know.
#[derive(Args, Clone, Debug)]
struct Target {
    /// The broker.
    #[arg(long)]
    bootstrap: String,
    /// An existing topic.
    #[arg(long)]
    topic: String,
    /// How many of its partitions to use, from 0.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Size of a record's value.
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
}

#[derive(Debug, Parser)]
#[command(about, name = "quipu-load")]
enum Command {
    /// As many records as fast as possible, acks=all, default batching; with --in-turn one to each partition in turn.
    Produce {
        #[command(flatten)]
        target: Target,
        /// How many records.
        #[arg(long)]
        records: usize,
        /// Address the partitions in turn instead of leaving the choice to the client.
        #[arg(long)]
        in_turn: bool,
        /// As many keys in turn, instead of none.
        #[arg(long)]
        keys: Option<usize>,
    },
    /// Synchronous producers, each with its own connection and one record under way.
    Sync {
        #[command(flatten)]
        target: Target,
        /// How many producers.
        #[arg(long, default_value_t = 1)]
        clients: usize,
        /// For how long.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Records at a fixed rate, one per request; latency counts from the intended send time.
    OpenLoop {
        #[command(flatten)]
        target: Target,
        /// Records per second.
        #[arg(long, default_value_t = 5000)]
        rate: u32,
        /// For how long.
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Requests under way on a connection; without it as many as the client likes.
        #[arg(long)]
        in_flight: Option<u32>,
    },
    /// Reads records from the beginning of each partition.
    Consume {
        #[command(flatten)]
        target: Target,
        /// How many records, all partitions together.
        #[arg(long)]
        records: usize,
    },
    /// A server that answers canned replies and stores nothing. A topic `x-4` has 4 partitions. Runs until killed.
    Sink {
        /// Where to listen; port 0 picks one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Size of the values in the records that it serves.
        #[arg(long, default_value_t = 1024)]
        record_bytes: usize,
    },
    /// Members that join one classic group at once.
    GroupJoin {
        /// The broker.
        #[arg(long)]
        bootstrap: SocketAddr,
        /// How many.
        #[arg(long)]
        members: usize,
    },
    /// Groups of one member each that commit once a second.
    GroupCommit {
        /// The broker.
        #[arg(long)]
        bootstrap: SocketAddr,
        /// An existing topic.
        #[arg(long)]
        topic: String,
        /// How many groups.
        #[arg(long)]
        groups: usize,
        /// For how long.
        #[arg(long)]
        seconds: u32,
        /// Whose CPU is told.
        #[arg(long)]
        pid: Vec<u32>,
    },
    /// One member more for a group of the consumer protocol.
    GroupGrow {
        /// The broker.
        #[arg(long)]
        bootstrap: SocketAddr,
        /// An existing topic.
        #[arg(long)]
        topic: String,
        /// Its partitions.
        #[arg(long)]
        partitions: i32,
        /// Members before.
        #[arg(long)]
        members: usize,
    },
    /// Polls of a fetch session in which nothing is new.
    IdleFetch {
        /// The broker.
        #[arg(long)]
        bootstrap: SocketAddr,
        /// An existing, empty topic.
        #[arg(long)]
        topic: String,
        /// Its partitions.
        #[arg(long)]
        partitions: i32,
        /// How many.
        #[arg(long)]
        polls: u32,
        /// Whose CPU is told.
        #[arg(long)]
        pid: Vec<u32>,
    },
    /// Creates a topic.
    CreateTopic {
        /// The broker.
        #[arg(long)]
        bootstrap: SocketAddr,
        /// Its name.
        #[arg(long)]
        topic: String,
        /// Its partitions.
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// Replicas of each.
        #[arg(long, default_value_t = 1)]
        replicas: i16,
    },
}

fn main() -> ExitCode {
    let answer = match Command::parse() {
        Command::Produce { target, records, in_turn, keys } => produce::run(&target, records, in_turn, keys),
        Command::Sync { target, clients, seconds } => sync::run(&target, clients, seconds),
        Command::OpenLoop { target, rate, seconds, in_flight } => open_loop::run(&target, rate, seconds, in_flight),
        Command::Consume { target, records } => consume::run(&target, records),
        Command::Sink { listen, record_bytes } => sink::run(listen, record_bytes),
        Command::GroupJoin { bootstrap, members } => groups::join::run(bootstrap, members),
        Command::GroupCommit { bootstrap, topic, groups, seconds, pid } => {
            groups::commit::run(bootstrap, &topic, groups, seconds, pid)
        }
        Command::GroupGrow { bootstrap, topic, partitions, members } => {
            groups::grow::run(bootstrap, &topic, partitions, members)
        }
        Command::IdleFetch { bootstrap, topic, partitions, polls, pid } => {
            groups::idle::run(bootstrap, &topic, partitions, polls, pid)
        }
        Command::CreateTopic { bootstrap, topic, partitions, replicas } => {
            create_topic(bootstrap, &topic, partitions, replicas)
        }
    };
    match answer {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quipu-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create_topic(
    bootstrap: SocketAddr,
    topic: &str,
    partitions: i32,
    replicas: i16,
) -> quipu_testkit::Result<serde_json::Value> {
    let mut wire = quipu_testkit::wire::Wire::connect(bootstrap)?;
    if replicas == 1 {
        wire.create_topic(topic, partitions, &[])?;
    } else {
        wire.create_replicated_topic(topic, partitions, replicas, &[])?;
    }
    Ok(serde_json::json!({ "topic": topic, "partitions": partitions, "replicas": replicas }))
}
