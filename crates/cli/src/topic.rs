//! `quipu topic`: creates, lists, describes, alters and deletes topics.
//!
//! With `--json` every answer is one object a line, one for each topic. What fails goes to stderr, the rest is done all the same, and
//! the status is 1.
//!
//! Read `change` next, then `describe`.

mod change;
mod describe;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};

use crate::{
    client::{self, with_bootstrap, with_json},
    output::Output,
};

pub(crate) fn command() -> Command {
    Command::new("topic")
        .about("Create, list, describe, alter and delete topics")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_common(create()))
        .subcommand(with_common(Command::new("list").about("List the topics there are")))
        .subcommand(with_common(
            Command::new("describe")
                .about("Show partitions, leaders, replicas in sync, and configs that differ from the default")
                .arg(
                    Arg::new("topic")
                        .value_name("TOPIC")
                        .action(ArgAction::Append)
                        .help("Topics' names [default: all of them]"),
                ),
        ))
        .subcommand(with_common(alter()))
        .subcommand(with_common(
            Command::new("delete")
                .about("Delete topics, with everything in them")
                .arg(topics())
                .arg(switch("if-exists", "A topic that does not exist is no failure")),
        ))
}

fn create() -> Command {
    Command::new("create")
        .about("Create topics")
        .arg(topics())
        .arg(
            Arg::new("partitions")
                .long("partitions")
                .value_name("N")
                .value_parser(value_parser!(i32).range(1..))
                .help("How many partitions [default: the broker's num.partitions]"),
        )
        .arg(
            Arg::new("replication-factor")
                .long("replication-factor")
                .value_name("N")
                .value_parser(value_parser!(i16).range(1..))
                .help("How many replicas of each [default: the broker's default.replication.factor]"),
        )
        .arg(configs("Set a topic config, such as --config compression.type=zstd; may be repeated"))
        .arg(switch("if-not-exists", "A topic that exists already is left as it is, and is no failure"))
}

fn alter() -> Command {
    Command::new("alter")
        .about("Add partitions to a topic, set and unset its configs")
        .long_about(
            "Add partitions to a topic, set and unset its configs. Everything is checked before anything is changed.\n\nWith \
             more partitions, records with a key go to other ones than before.",
        )
        .arg(client::topic_arg())
        .arg(
            Arg::new("partitions")
                .long("partitions")
                .value_name("N")
                .value_parser(value_parser!(i32).range(1..))
                .help("How many partitions the topic shall have in all; never fewer than it has"),
        )
        .arg(configs("Set a topic config; may be repeated"))
        .arg(
            Arg::new("unset")
                .long("unset")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("Set a topic config back to its default; may be repeated"),
        )
        .group(ArgGroup::new("change").args(["partitions", "config", "unset"]).required(true).multiple(true))
}

fn topics() -> Arg {
    Arg::new("topic").value_name("TOPIC").required(true).action(ArgAction::Append).help("Topics' names")
}

fn configs(help: &'static str) -> Arg {
    Arg::new("config").long("config").value_name("NAME=VALUE").action(ArgAction::Append).value_parser(config).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn with_common(command: Command) -> Command {
    with_json(with_bootstrap(command), "Print one JSON object a line, one for each topic")
}

/// A config as it is written on the command line.
type Config = (String, String);

fn config(text: &str) -> Result<Config, &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as compression.type=zstd")?;
    if name.is_empty() {
        return Err("the name before `=` is missing");
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// All values of an argument that may be repeated.
fn all<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    matches.get_many::<T>(name).unwrap_or_default().cloned().collect()
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("clap requires one of the subcommands");
    let output = Output::new(matches.get_flag("json"));
    match name {
        "create" => {
            let wanted = change::Wanted {
                topics: all(matches, "topic"),
                partitions: matches.get_one("partitions").copied(),
                replication_factor: matches.get_one("replication-factor").copied(),
                configs: all::<Config>(matches, "config").into_iter().collect(),
                may_exist: matches.get_flag("if-not-exists"),
            };
            client::run(matches, |client| change::create(client, wanted, output))
        }
        "list" => client::run(matches, |client| describe::list(client, output)),
        "describe" => {
            let topics = all(matches, "topic");
            client::run(matches, |client| describe::describe(client, topics, output))
        }
        "alter" => {
            let altered = change::Altered {
                topic: matches.get_one::<String>("topic").expect("clap requires it").clone(),
                partitions: matches.get_one("partitions").copied(),
                set: all(matches, "config"),
                unset: all(matches, "unset"),
            };
            client::run(matches, |client| change::alter(client, altered, output))
        }
        "delete" => {
            let (topics, may_lack) = (all(matches, "topic"), matches.get_flag("if-exists"));
            client::run(matches, move |client| change::delete(client, topics, may_lack, output))
        }
        _ => unreachable!("clap knows the subcommands"),
    }
}
