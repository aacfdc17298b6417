//! `quipu broker`: reads the settings from file, environment and flags, sets up logging, and runs the broker.

use std::{io::IsTerminal, path::Path, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use quipu_broker::{Config, ConfigError, LogFormat, Origin, SETTINGS};
use tracing_subscriber::EnvFilter;

/// The settings that are flags without a value on the command line.
const SWITCHES: [&str; 1] = ["insecure_listen"];

pub(crate) fn command() -> Command {
    let mut command = Command::new("broker")
        .about("Run a broker")
        .long_about(
            "Run a broker. Without arguments: a cluster of one node on 127.0.0.1:9092, data in ./quipu-data.\n\n\
             A setting `a_b` of the file is the flag --a-b and the environment variable QUIPU_A_B; flags win over the \
             environment, the environment over the file. Prints `quipu: ready on HOST:PORT` when it serves; logs go to stderr \
             (RUST_LOG sets what is logged). SIGTERM and SIGINT stop it; a second one ends it at once.",
        )
        .arg(Arg::new("config").long("config").value_name("FILE.toml").help("Read settings from this file"));
    for setting in SETTINGS {
        let arg = Arg::new(setting.name).long(setting.flag()).help(setting.about);
        command = command.arg(if SWITCHES.contains(&setting.name) {
            arg.action(ArgAction::SetTrue)
        } else {
            arg.value_name(setting.value).allow_hyphen_values(true)
        });
    }
    command
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let config = match read(matches) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("quipu: {error}");
            return ExitCode::from(crate::USAGE);
        }
    };
    set_up_logging(config.log_format);
    quipu_broker::main(config)
}

fn read(matches: &ArgMatches) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(file) = matches.get_one::<String>("config") {
        apply_file(&mut config, Path::new(file))?;
    }
    for setting in SETTINGS {
        let variable = setting.variable();
        if let Ok(text) = std::env::var(&variable) {
            config.apply(setting.name, &text, Origin::Variable(variable))?;
        }
    }
    for setting in SETTINGS {
        let text = if SWITCHES.contains(&setting.name) {
            matches.get_flag(setting.name).then_some("true")
        } else {
            matches.get_one::<String>(setting.name).map(String::as_str)
        };
        if let Some(text) = text {
            config.apply(setting.name, text, Origin::Flag(format!("--{}", setting.flag())))?;
        }
    }
    config.check()?;
    Ok(config)
}

/// Applies a settings file.
pub(crate) fn apply_file(config: &mut Config, file: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError { origin: None, message: format!("cannot read {}: {error}", file.display()) })?;
    config.apply_file(&file.display().to_string(), &text)
}

fn set_up_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match format {
        LogFormat::Plain => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
