//! `quipu broker`: reads the settings from file, environment and flags, sets up logging, and runs the broker.

use std::{ffi::OsString, io::IsTerminal, path::Path, process::ExitCode};

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
    let config = match read(matches, |variable| std::env::var_os(variable)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("quipu: {error}");
            return ExitCode::from(crate::USAGE);
        }
    };
    set_up_logging(config.log_format);
    quipu_broker::main(config)
}

/// The settings: those of the file, over them the environment's, over them the flags.
fn read(matches: &ArgMatches, variable: impl Fn(&str) -> Option<OsString>) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(file) = matches.get_one::<String>("config") {
        apply_file(&mut config, Path::new(file))?;
    }
    for setting in SETTINGS {
        let name = setting.variable();
        let Some(value) = variable(&name) else { continue };
        let origin = Origin::Variable(name);
        match value.into_string() {
            Ok(text) => config.apply(setting.name, &text, origin)?,
            Err(value) => {
                let message = format!("{}: {value:?} is not UTF-8", setting.name);
                return Err(ConfigError { origin: Some(origin), message });
            }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quipu_testkit::scratch::Scratch;

    use super::*;

    /// Of each setting, three values that differ from the default and, but for a switch, from each other: of the file (as it
    /// stands there), of the environment, of the flag.
    const VALUES: &[(&str, &str, &str, &str)] = &[
        ("node_id", "2", "3", "4"),
        ("data_dir", "'in file'", "in-variable", "in-flag"),
        ("listen", "'127.0.0.1:1'", "127.0.0.1:2", "127.0.0.1:3"),
        ("advertise", "'file:1'", "variable:2", "flag:3"),
        ("peer_listen", "'127.0.0.1:1'", "127.0.0.1:2", "127.0.0.1:3"),
        ("peer_advertise", "'file:1'", "variable:2", "flag:3"),
        // What these say must fit the rest of the settings: a node alone, which votes.
        ("roles", "'controller'", "broker,controller", "controller"),
        ("voters", "'1@a:1'", "1@b:2", "1@c:3"),
        ("rack", "'file'", "variable", "flag"),
        ("metadata_snapshot_bytes", "100001", "100002", "100003"),
        ("insecure_listen", "true", "false", "true"),
        ("log_format", "'json'", "plain", "json"),
        ("wal_file_bytes", "16777216", "33554432", "67108864"),
        ("memory_requests_bytes", "104857601", "104857602", "104857603"),
        ("memory_tail_bytes", "100000001", "100000002", "100000003"),
        ("memory_replies_bytes", "100000001", "100000002", "100000003"),
        ("shards", "2", "3", "4"),
    ];

    fn settings(arguments: &[&str], variables: &[(String, &str)]) -> Result<String, ConfigError> {
        let line = [&["broker"], arguments].concat();
        let matches = command().try_get_matches_from(line).unwrap();
        let variables: BTreeMap<&str, &str> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let config = read(&matches, |name| variables.get(name).map(OsString::from))?;
        Ok(format!("{config:?}"))
    }

    fn applied(name: &str, text: &str) -> String {
        let mut config = Config::default();
        config.apply(name, text, Origin::Flag(String::new())).unwrap();
        format!("{config:?}")
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let scratch = Scratch::new("settings").unwrap();
        let file = scratch.join("quipu.toml");
        let named = ["--config", file.to_str().unwrap()];
        let names: Vec<&str> = VALUES.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>(), "every setting is tried");
        for (name, in_file, in_variable, in_flag) in VALUES {
            std::fs::write(&file, format!("{name} = {in_file}\n")).unwrap();
            let variable = [(format!("QUIPU_{}", name.to_uppercase()), *in_variable)];
            let flag = format!("--{}", name.replace('_', "-"));
            let flag = if SWITCHES.contains(name) { vec![flag.as_str()] } else { vec![flag.as_str(), *in_flag] };
            let all = [&named[..], &flag].concat();
            let text = in_file.trim_matches('\'');
            assert_ne!(applied(name, text), format!("{:?}", Config::default()), "{name}");
            assert_ne!(applied(name, text), applied(name, in_variable), "{name}");
            assert_ne!(applied(name, in_variable), applied(name, in_flag), "{name}");
            assert_eq!(settings(&named, &[]).unwrap(), applied(name, text), "{name} in a file");
            assert_eq!(settings(&[], &variable).unwrap(), applied(name, in_variable), "{name} as a variable");
            assert_eq!(settings(&flag, &[]).unwrap(), applied(name, in_flag), "{name} as a flag");
            assert_eq!(settings(&named, &variable).unwrap(), applied(name, in_variable), "{name}: variable over file");
            assert_eq!(settings(&all, &[]).unwrap(), applied(name, in_flag), "{name}: flag over file");
            assert_eq!(settings(&flag, &variable).unwrap(), applied(name, in_flag), "{name}: flag over variable");
            assert_eq!(settings(&all, &variable).unwrap(), applied(name, in_flag), "{name}: flag over all");
        }
    }

    #[test]
    fn a_bad_value_is_told_with_its_source() {
        let error = settings(&["--node-id", "x"], &[]).unwrap_err().to_string();
        assert!(error.contains("flag --node-id"), "{error}");
        let error = settings(&[], &[("QUIPU_SHARDS".to_owned(), "many")]).unwrap_err().to_string();
        assert!(error.contains("environment variable QUIPU_SHARDS"), "{error}");
    }
}
