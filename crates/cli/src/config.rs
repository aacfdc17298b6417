//! `quipu config check`: checks a settings file without starting anything.

use std::{path::Path, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use quipu_broker::Config;

pub(crate) fn command() -> Command {
    Command::new("config")
        .about("Work with settings files")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Check a settings file without starting a broker")
                .arg(Arg::new("file").value_name("FILE.toml").required(true).help("The file")),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let Some(("check", matches)) = matches.subcommand() else { unreachable!("clap requires it") };
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
