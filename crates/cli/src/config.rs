//! `quipu config`: checks a settings file without starting anything; reads and changes configs of topics, brokers and groups.
//!
//! Read `remote` next.

mod remote;

pub(crate) use remote::source;

use std::{path::Path, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use quipu_broker::Config;

pub(crate) fn command() -> Command {
    let command = Command::new("config")
        .about("Check a settings file; read and change configs of topics, brokers and groups")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Check a settings file without starting a broker")
                .arg(Arg::new("file").value_name("FILE.toml").required(true).help("The file")),
        );
    command.subcommands(remote::commands())
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("check", matches)) => check(matches),
        Some((name, matches)) => remote::run(name, matches),
        None => unreachable!("clap requires one of the subcommands"),
    }
}

fn check(matches: &ArgMatches) -> ExitCode {
    let file = matches.get_one::<String>("file").expect("clap requires it");
    let mut config = Config::default();
    let checked = crate::broker::apply_file(&mut config, Path::new(file)).and_then(|()| config.check());
    match checked {
        Ok(()) => {
            println!("{file}: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quipu: {error}");
            ExitCode::from(crate::USAGE)
        }
    }
}
