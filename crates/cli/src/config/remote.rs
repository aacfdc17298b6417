//! `quipu config get`, `set`, `unset`: configs of a topic, a broker, all brokers or a group.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use quipu_client::{
    BrokerId, Client, ClientError, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigSource, ErrorCode,
};
use quipu_env_tokio::TokioEnv;
use serde_json::{Value, json};

use crate::{
    client::{self, Failure, with_bootstrap, with_json},
    output::{Output, Table},
};

pub(super) fn commands() -> [Command; 3] {
    let get = Command::new("get")
        .about("Show configs: value, where it was set, default")
        .arg(names().help("Only these [default: all]"))
        .arg(
            Arg::new("help-texts")
                .long("explain")
                .action(ArgAction::SetTrue)
                .help("Show what each config does as well"),
        );
    let set = Command::new("set").about("Set configs, all of them or, if one is refused, none").arg(
        names()
            .required(true)
            .value_name("NAME=VALUE")
            .value_parser(pair)
            .help("Configs, such as retention.ms=86400000"),
    );
    let unset = Command::new("unset")
        .about("Set configs back to their defaults, all of them or, if one is refused, none")
        .arg(names().required(true).help("Configs' names"));
    [get, set, unset].map(with_resource)
}

fn names() -> Arg {
    Arg::new("name").value_name("NAME").action(ArgAction::Append)
}

fn with_resource(command: Command) -> Command {
    let named = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("NAME").help(help);
    let command = command
        .arg(named("topic", "Of this topic"))
        .arg(named("group", "Of this group"))
        .arg(
            Arg::new("broker")
                .long("broker")
                .value_name("ID")
                .value_parser(value_parser!(i32).range(0..))
                .help("Of this broker"),
        )
        .arg(
            Arg::new("brokers")
                .long("brokers")
                .action(ArgAction::SetTrue)
                .help("Of all brokers: their common defaults"),
        )
        .group(ArgGroup::new("resource").args(["topic", "group", "broker", "brokers"]).required(true));
    with_json(with_bootstrap(command), "Print one JSON object a line, one for each config")
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as retention.ms=86400000")?;
    if name.is_empty() {
        return Err("the name before `=` is missing");
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn resource(matches: &ArgMatches) -> ConfigResource {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let broker = matches.get_one::<i32>("broker").map(|id| ConfigResource::Broker(BrokerId(*id)));
    text("topic")
        .map(ConfigResource::Topic)
        .or_else(|| text("group").map(ConfigResource::Group))
        .or(broker)
        .unwrap_or(ConfigResource::Brokers)
}

pub(super) fn run(name: &str, matches: &ArgMatches) -> ExitCode {
    let (resource, output) = (resource(matches), Output::new(matches.get_flag("json")));
    let names = || matches.get_many::<String>("name").unwrap_or_default().cloned();
    match name {
        "get" => {
            let (names, explain) = (names().collect(), matches.get_flag("help-texts"));
            client::run(matches, move |client| get(client, resource, names, explain, output))
        }
        "set" => {
            let pairs = matches.get_many::<(String, String)>("name").unwrap_or_default().cloned();
            let operations = pairs.map(|(name, value)| (name, ConfigOperation::Set(value))).collect();
            client::run(matches, |client| change(client, ConfigChange { resource, operations }, output))
        }
        "unset" => {
            let operations = names().map(|name| (name, ConfigOperation::Delete)).collect();
            client::run(matches, |client| change(client, ConfigChange { resource, operations }, output))
        }
        _ => unreachable!("clap knows the subcommands"),
    }
}

async fn get(
    client: Client<TokioEnv>,
    resource: ConfigResource,
    names: Vec<String>,
    explain: bool,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    check_broker(&client, &resource).await?;
    let described = client.admin().describe_configs(vec![resource.clone()], explain).await.into_iter().next();
    let (_, described) = described.expect("an answer for each resource");
    let mut entries = described.map_err(|error| explained(&resource, error))?;
    if let Some(unknown) = names.iter().find(|name| entries.iter().all(|entry| entry.name != **name)) {
        return Err(Failure::Said(format!(
            "{resource} has no config {unknown}; `quipu config get` without a name shows those it has"
        )));
    }
    entries.retain(|entry| names.is_empty() || names.contains(&entry.name));
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    if output.json {
        let _told = entries.iter().try_for_each(|entry| output.json(&as_json(entry)));
        return Ok(output.finish(0)?);
    }
    let mut table = Table::new(&["CONFIG", "VALUE", "SET FOR", "DEFAULT"]);
    for entry in &entries {
        let value = shown(entry.value.as_deref(), entry.is_sensitive);
        table.push(vec![entry.name.clone(), value, source(entry.source).to_owned(), shown(default(entry), false)]);
    }
    let texts = entries.iter().filter_map(|entry| {
        let text = entry.documentation.as_deref().filter(|_| explain)?;
        Some(format!("\n{}\n  {text}", entry.name))
    });
    let _told = table.lines().into_iter().chain(texts).try_for_each(|line| output.line(&line));
    Ok(output.finish(0)?)
}

/// The client would wait for a broker that nobody has heard of, hoping that it comes.
async fn check_broker(client: &Client<TokioEnv>, resource: &ConfigResource) -> Result<(), Failure> {
    let ConfigResource::Broker(id) = resource else { return Ok(()) };
    let cluster = client.admin().describe_cluster().await?;
    if cluster.brokers.contains_key(id) {
        return Ok(());
    }
    let ids: Vec<String> = cluster.brokers.keys().map(ToString::to_string).collect();
    Err(Failure::Said(format!("there is no broker {id}; there are {}", ids.join(", "))))
}

fn explained(resource: &ConfigResource, error: ClientError) -> Failure {
    match (resource, error.code()) {
        (ConfigResource::Topic(topic), Some(ErrorCode::UnknownTopicOrPartition)) => {
            Failure::UnknownTopic(topic.clone())
        }
        _ => Failure::Client(error),
    }
}

async fn change(client: Client<TokioEnv>, change: ConfigChange, mut output: Output) -> Result<ExitCode, Failure> {
    check_broker(&client, &change.resource).await?;
    let resource = change.resource.clone();
    let changed = client.admin().alter_configs(vec![change.clone()], false).await;
    changed.into_iter().try_for_each(|(_, outcome)| outcome).map_err(|error| explained(&resource, error))?;
    for (name, operation) in &change.operations {
        let value = if let ConfigOperation::Set(value) = operation { Some(value) } else { None };
        // A break means that nobody reads: everything is done all the same.
        let _told = if output.json {
            output.json(&json!({ "resource": resource.to_string(), "name": name, "value": value }))
        } else {
            let done = value.map_or_else(|| format!("unset {name}"), |value| format!("set {name}={value}"));
            output.line(&format!("{resource}: {done}"))
        };
    }
    Ok(output.finish(0)?)
}

fn as_json(entry: &ConfigEntry) -> Value {
    json!({
        "name": entry.name,
        "value": entry.value,
        "source": source(entry.source),
        "default": default(entry),
        "is_default": entry.source == ConfigSource::Default,
        "read_only": entry.is_read_only,
        "sensitive": entry.is_sensitive,
        "documentation": entry.documentation,
    })
}

/// What it would be if nobody had set it.
fn default(entry: &ConfigEntry) -> Option<&str> {
    let of_synonyms = entry.synonyms.iter().find(|(_, _, source)| *source == ConfigSource::Default);
    match of_synonyms {
        Some((_, value, _)) => value.as_deref(),
        None if entry.source == ConfigSource::Default => entry.value.as_deref(),
        None => None,
    }
}

fn shown(value: Option<&str>, is_sensitive: bool) -> String {
    match value {
        Some("") => "\"\"".to_owned(),
        Some(value) => value.to_owned(),
        None if is_sensitive => "(not shown)".to_owned(),
        None => "-".to_owned(),
    }
}

/// Where a value was set.
pub(crate) const fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::Broker => "broker",
        ConfigSource::Brokers => "all brokers",
        ConfigSource::Static => "broker's file",
        ConfigSource::Default => "default",
        ConfigSource::Logger => "logger",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Group => "group",
        _ => "unknown",
    }
}
