//! `quipu log`: looks into a data directory that no broker uses, or into a copy of one; and gives a copy an id of its own.
//!
//! Invariant: nothing in the directory is changed, but its id by `reidentify`.
//!
//! Not here: reading it (`quipu_storage::{dump, verify, reidentify}`). Read `dump` and `verify` next, then `names`.

mod dump;
mod names;
mod reidentify;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_storage::{OpenError, VerifyError};

use crate::{FAILED, output::Output};

pub(crate) fn command() -> Command {
    Command::new("log")
        .about("Look into a data directory that no broker uses, or give a restored one a new id")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_common(Command::new("dump"))
                .about("List the record batches in a data directory")
                .long_about(
                    "List the record batches in a data directory: what a broker would find if it started there. Batches that are \
                     only in the write-ahead log come last.\n\nExits with 1 if anything is damaged.",
                )
                .arg(Arg::new("topic").long("topic").value_name("T").help("Only this topic: its name or its id"))
                .arg(
                    Arg::new("partition")
                        .long("partition")
                        .value_name("N")
                        .value_parser(value_parser!(i32).range(0..))
                        .help("Only partitions of this number"),
                )
                .arg(
                    Arg::new("wal")
                        .long("wal")
                        .action(ArgAction::SetTrue)
                        .help("List the write-ahead log's groups and frames as well"),
                ),
        )
        .subcommand(
            with_common(Command::new("verify"))
                .about("Check every byte that a data directory relies on")
                .long_about(
                    "Check every byte that a data directory relies on: superblock, manifest, segments, write-ahead log.\n\nExits \
                     with 1 if anything is damaged. What an interrupted write has left at an end is no damage: it is told as cut.",
                ),
        )
        .subcommand(
            with_common(Command::new("reidentify"))
                .about("Give a data directory that was restored from a copy an id of its own")
                .long_about(
                    "Give a data directory that was restored from a copy an id of its own, before a node of a cluster starts on it.\n\n\
                     A copy does not know what its node has acknowledged and promised since it was made, and the cluster would count \
                     on that. With another id it is a new disk that already holds much of what it needs: the other nodes bring it \
                     up to date before it counts, and it gets its vote back by itself. A node without others needs no new id, and \
                     would not start with one.",
                ),
        )
}

fn with_common(command: Command) -> Command {
    let directory = Arg::new("directory").value_name("DATA-DIR").required(true).value_parser(value_parser!(PathBuf));
    command
        .arg(directory.help("The data directory, or a copy of one"))
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON instead of a table"))
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("clap requires one of the subcommands");
    let directory = matches.get_one::<PathBuf>("directory").expect("clap requires it").clone();
    let output = Output::new(matches.get_flag("json"));
    let runtime = match TokioEnv::start(Options { shards: 1 }) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quipu: the system gives no more threads or files: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let env = runtime.env();
    let ended = if name == "dump" {
        let wanted = dump::Wanted {
            topic: matches.get_one::<String>("topic").cloned(),
            partition: matches.get_one::<i32>("partition").copied(),
            wal: matches.get_flag("wal"),
        };
        runtime.block_on(async move { dump::run(&env, &directory, wanted, output).await })
    } else if name == "verify" {
        runtime.block_on(async move { verify::run(&env, &directory, output).await })
    } else {
        runtime.block_on(async move { reidentify::run(&env, &directory, output).await })
    };
    ended.unwrap_or_else(|error| {
        eprintln!("quipu: {error}");
        ExitCode::from(error.exit_status())
    })
}

/// Why a command gave no answer.
#[derive(Debug)]
enum LogError {
    /// The directory can't be read.
    Directory(VerifyError),
    /// It can't be given another id.
    Reidentify(OpenError),
    /// `--topic` is neither the name nor the id of a topic in there.
    UnknownTopic { topic: String, directory: PathBuf },
    /// The answer can't be written.
    Output(std::io::Error),
}

impl LogError {
    const fn exit_status(&self) -> u8 {
        match self {
            Self::Directory(error) => error.exit_status(),
            Self::Reidentify(error) => error.exit_status(),
            Self::UnknownTopic { .. } | Self::Output(_) => FAILED,
        }
    }

    fn unknown_topic(topic: &str, directory: &Path) -> Self {
        Self::UnknownTopic { topic: topic.to_owned(), directory: directory.to_owned() }
    }
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::Reidentify(error) => error.fmt(f),
            Self::UnknownTopic { topic, directory } => write!(
                f,
                "{topic} is neither the name nor the id of a topic in {}; without --topic all of them are listed",
                directory.display()
            ),
            Self::Output(error) => write!(f, "cannot write the answer: {error}"),
        }
    }
}

impl core::error::Error for LogError {}

impl From<VerifyError> for LogError {
    fn from(error: VerifyError) -> Self {
        Self::Directory(error)
    }
}

impl From<std::io::Error> for LogError {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}
