//! `quipu group`: lists, describes and deletes consumer groups, shows how far they are, and sets where they go on.
//!
//! With `--json` every answer is one object a line. What fails goes to stderr, the rest is done all the same, and the status is 1.
//!
//! Not here: reading as a member of a group (`consume`). Read `describe` next, then `lag`, `reset`.

mod describe;
mod lag;
mod reset;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use quipu_client::{Offset, Timestamp};

use crate::{
    client::{self, with_bootstrap, with_json},
    output::Output,
    time,
};
use reset::{Place, Selected};

pub(crate) fn command() -> Command {
    Command::new("group")
        .about("Work with consumer groups: members, committed offsets, lag")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_common(Command::new("list").about("List the groups there are")))
        .subcommand(with_common(
            Command::new("describe").about("Show groups, their members and what each of them reads").arg(groups()),
        ))
        .subcommand(with_common(
            Command::new("lag").about("Show how far a group is behind, for each partition").arg(group()).arg(
                Arg::new("watch")
                    .long("watch")
                    .action(ArgAction::SetTrue)
                    .help("Look again every second, until Ctrl-C"),
            ),
        ))
        .subcommand(with_common(
            Command::new("delete")
                .about("Delete groups that have no members, with their committed offsets")
                .arg(groups())
                .arg(
                    Arg::new("if-exists")
                        .long("if-exists")
                        .action(ArgAction::SetTrue)
                        .help("A group that does not exist is no failure"),
                ),
        ))
        .subcommand(with_common(reset_offsets()))
}

fn reset_offsets() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("reset-offsets")
        .about("Set where a group goes on")
        .long_about(
            "Set where a group goes on. The group must have no members. An offset that is not in the log becomes the next one that is; \
             --dry-run shows what would be set.",
        )
        .arg(group())
        .arg(
            Arg::new("topic")
                .long("topic")
                .value_name("TOPIC[:N,N]")
                .action(ArgAction::Append)
                .value_parser(selected)
                .help("Only this topic, or these partitions of it; may be repeated [default: all that the group has committed]"),
        )
        .arg(
            Arg::new("to-offset")
                .long("to-offset")
                .value_name("OFFSET")
                .value_parser(value_parser!(i64).range(0..))
                .help("To this offset"),
        )
        .arg(
            Arg::new("to-time")
                .long("to-time")
                .value_name("WHEN")
                .allow_hyphen_values(true)
                .value_parser(|text: &str| moment(text, time::now()))
                .help("To the first record from this time on: 2026-03-01T12:00:00Z, @1772366400000, or -10m (before now)"),
        )
        .arg(flag("to-start", "To the first record there is"))
        .arg(flag("to-end", "To what comes next"))
        .arg(
            Arg::new("shift-by")
                .long("shift-by")
                .value_name("N")
                .allow_hyphen_values(true)
                .value_parser(value_parser!(i64))
                .help("By so many offsets from where the group is; negative goes back"),
        )
        .group(ArgGroup::new("place").args(["to-offset", "to-time", "to-start", "to-end", "shift-by"]).required(true))
        .arg(flag("dry-run", "Only show what would be set"))
}

fn group() -> Arg {
    Arg::new("group").value_name("GROUP").required(true).help("The group's name")
}

fn groups() -> Arg {
    group().action(ArgAction::Append).help("Groups' names")
}

fn with_common(command: Command) -> Command {
    with_json(with_bootstrap(command), "Print one JSON object a line")
}

/// Reads `TOPIC` or `TOPIC:0,3`.
fn selected(text: &str) -> Result<Selected, String> {
    // A colon can't be in a topic's name.
    let (topic, numbers) = text.split_once(':').map_or((text, None), |(topic, numbers)| (topic, Some(numbers)));
    let number = |number: &str| number.trim().parse::<i32>().ok().filter(|number| *number >= 0);
    let partitions = numbers.map(|numbers| numbers.split(',').map(number).collect::<Option<_>>());
    match partitions {
        _ if topic.is_empty() => Err("the topic's name is missing".to_owned()),
        Some(None) => Err("write TOPIC, or TOPIC:0,3 for some partitions".to_owned()),
        partitions => Ok(Selected { topic: topic.to_owned(), partitions: partitions.flatten() }),
    }
}

/// Reads a moment, or a length of time before `now`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|ms| *ms >= 0).map(Timestamp);
    let before = |text: &str| {
        let before_ms = time::parse_duration_ms(text.strip_prefix('-')?)?;
        Some(Timestamp(now.0.saturating_sub(before_ms).max(0)))
    };
    text.strip_prefix('@')
        .and_then(number)
        .or_else(|| before(text))
        .or_else(|| time::parse(text))
        .ok_or("write 2026-03-01T12:00:00Z, @1772366400000 (milliseconds since 1970) or -10m (before now)")
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("clap requires one of the subcommands");
    let output = Output::new(matches.get_flag("json"));
    let all = || matches.get_many::<String>("group").unwrap_or_default().cloned().collect::<Vec<_>>();
    let one = || matches.get_one::<String>("group").expect("clap requires it").clone();
    match name {
        "list" => client::run(matches, |client| describe::list(client, output)),
        "describe" => {
            let groups = all();
            client::run(matches, |client| describe::describe(client, groups, output))
        }
        "lag" => {
            let (group, watch) = (one(), matches.get_flag("watch"));
            client::run(matches, move |client| lag::lag(client, group, watch, output))
        }
        "delete" => {
            let (groups, may_lack) = (all(), matches.get_flag("if-exists"));
            client::run(matches, move |client| describe::delete(client, groups, may_lack, output))
        }
        "reset-offsets" => {
            let offset = matches.get_one::<i64>("to-offset").map(|offset| Place::Offset(Offset(*offset)));
            let time = matches.get_one::<Timestamp>("to-time").map(|time| Place::Time(*time));
            let shift = matches.get_one::<i64>("shift-by").map(|shift| Place::Shift(*shift));
            let ends = if matches.get_flag("to-start") { Place::Start } else { Place::End };
            let wanted = reset::Wanted {
                group: one(),
                place: offset.or(time).or(shift).unwrap_or(ends),
                selected: matches.get_many::<Selected>("topic").unwrap_or_default().cloned().collect(),
                dry_run: matches.get_flag("dry-run"),
            };
            client::run(matches, |client| reset::reset(client, wanted, output))
        }
        _ => unreachable!("clap knows the subcommands"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_partitions_are_read() {
        let read = |text: &str| selected(text).map(|one| (one.topic, one.partitions)).ok();
        assert_eq!(read("orders"), Some(("orders".to_owned(), None)));
        assert_eq!(read("orders:0, 3"), Some(("orders".to_owned(), Some([0, 3].into()))));
        assert!(["", ":1", "orders:", "orders:x", "orders:-1"].iter().all(|text| read(text).is_none()));
    }

    #[test]
    fn moments_are_read() {
        let read = |text: &str| moment(text, Timestamp(1_000_000)).map(|time| time.0).ok();
        assert_eq!([read("@5"), read("-10s"), read("1970-01-01T00:00:01Z")], [Some(5), Some(990_000), Some(1000)]);
        assert!(["", "@-1", "5", "start"].iter().all(|text| read(text).is_none()));
    }
}
