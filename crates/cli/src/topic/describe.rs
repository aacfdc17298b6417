//! `quipu topic list`, `describe`.

use std::{process::ExitCode, sync::Arc};

use quipu_client::{
    Admin, BrokerId, Client, ClientError, ConfigEntry, ConfigResource, ConfigSource, Partition, Topic, TopicId,
};
use quipu_env_tokio::TokioEnv;
use serde_json::{Value, json};

use crate::{
    FAILED,
    client::Failure,
    config::source,
    output::{Output, Table, count},
};

pub(super) async fn list(client: Client<TokioEnv>, mut output: Output) -> Result<ExitCode, Failure> {
    let topics = client.admin().list_topics().await?;
    if output.json {
        // Once nobody reads, `finish` ends it.
        let _told = topics.iter().try_for_each(|topic| {
            output.json(&json!({
                "topic": &*topic.name,
                "topic_id": id(topic),
                "partitions": topic.partitions.len(),
                "replication_factor": replicas(topic),
                "internal": topic.is_internal,
            }))
        });
        return Ok(output.finish(0)?);
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in &topics {
        table.push(vec![topic.name.to_string(), topic.partitions.len().to_string(), replicas(topic).to_string()]);
    }
    let _told = table.lines().iter().try_for_each(|line| output.line(line));
    Ok(output.finish(0)?)
}

pub(super) async fn describe(
    client: Client<TokioEnv>,
    names: Vec<String>,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    let admin = client.admin();
    let found: Vec<(String, Result<Arc<Topic>, ClientError>)> = if names.is_empty() {
        let topics = admin.list_topics().await?;
        topics.into_iter().map(|topic| (topic.name.to_string(), Ok(topic))).collect()
    } else {
        admin.describe_topics(names).await
    };
    let found = with_members(&admin, found).await;
    let known = found.iter().filter(|(_, topic)| topic.is_ok());
    let resources: Vec<_> = known.map(|(name, _)| ConfigResource::Topic(name.clone())).collect();
    let mut configs = admin.describe_configs(resources, false).await.into_iter();
    let mut status = 0;
    for (number, (_, topic)) in found.into_iter().enumerate() {
        let described = topic.and_then(|topic| {
            let (_, configs) = configs.next().expect("configs of each topic that was found");
            Ok((topic, changed(configs?)))
        });
        let told = match described {
            Ok((topic, configs)) if output.json => output.json(&as_json(&topic, &configs)),
            Ok((topic, configs)) => {
                let mut lines = as_text(&topic, &configs);
                if number > 0 {
                    lines.insert(0, String::new());
                }
                lines.iter().try_for_each(|line| output.line(line))
            }
            Err(error) => {
                eprintln!("quipu: {}", Failure::Client(error));
                status = FAILED;
                continue;
            }
        };
        if told.is_break() {
            break;
        }
    }
    Ok(output.finish(status)?)
}

type Found = Vec<(String, Result<Arc<Topic>, ClientError>)>;

/// The same, with the members of each partition's configuration, where the brokers tell.
async fn with_members(admin: &Admin<TokioEnv>, mut found: Found) -> Found {
    let names: Vec<&str> = found.iter().filter(|(_, topic)| topic.is_ok()).map(|(name, _)| name.as_str()).collect();
    // Without names all topics would be described.
    if names.is_empty() {
        return found;
    }
    // Brokers before 3.7 do not tell: then what there is has to do.
    let Ok(described) = admin.describe_topic_partitions(&names).await else { return found };
    for topic in described {
        if let Some((_, known)) = found.iter_mut().find(|(name, known)| known.is_ok() && *name == *topic.name) {
            *known = Ok(Arc::new(topic));
        }
    }
    found
}

/// Configs that differ from the default, by name.
fn changed(mut configs: Vec<ConfigEntry>) -> Vec<ConfigEntry> {
    configs.retain(|config| !matches!(config.source, ConfigSource::Default | ConfigSource::Unknown));
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    configs
}

fn as_json(topic: &Topic, configs: &[ConfigEntry]) -> Value {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let partition = |partition: &Partition| {
        json!({
            "partition": partition.index.0,
            "leader": partition.leader.map(|id| id.0),
            "leader_epoch": partition.leader_epoch.0,
            "replicas": ids(&partition.replicas),
            "members": members(partition).as_deref().map(ids),
            "isr": ids(&partition.isr),
            "lagging": ids(&lagging(partition)),
            "offline": ids(&partition.offline),
            "error": partition.error.map(|code| code.name()),
        })
    };
    let config =
        |config: &ConfigEntry| json!({ "name": config.name, "value": config.value, "source": source(config.source) });
    json!({
        "topic": &*topic.name,
        "topic_id": id(topic),
        "replication_factor": replicas(topic),
        "internal": topic.is_internal,
        "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "configs": configs.iter().map(config).collect::<Vec<_>>(),
    })
}

fn as_text(topic: &Topic, configs: &[ConfigEntry]) -> Vec<String> {
    let id = id(topic).map_or_else(String::new, |id| format!(" ({id})"));
    let mut lines = vec![format!(
        "{}{id}: {}, {}",
        topic.name,
        count(topic.partitions.len(), "partition"),
        count(replicas(topic), "replica")
    )];
    let mut table = Table::new(&["  PARTITION", "LEADER", "EPOCH", "REPLICAS", "MEMBERS", "ISR", "LAGGING", "STATE"]);
    for partition in &topic.partitions {
        table.push(vec![
            format!("  {}", partition.index),
            partition.leader.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            partition.leader_epoch.0.to_string(),
            ids(&partition.replicas),
            members(partition).map_or_else(|| "?".to_owned(), |members| ids(&members)),
            ids(&partition.isr),
            none_or(ids(&lagging(partition))),
            state(partition),
        ]);
    }
    lines.extend(table.lines());
    if !configs.is_empty() {
        let mut table = Table::new(&["  CONFIG", "VALUE", "SET FOR"]);
        for config in configs {
            let value = config.value.clone().unwrap_or_else(|| "(not shown)".to_owned());
            table.push(vec![format!("  {}", config.name), value, source(config.source).to_owned()]);
        }
        lines.extend(table.lines());
    }
    lines
}

fn state(partition: &Partition) -> String {
    if let Some(code) = partition.error {
        return code.name().to_owned();
    }
    if partition.isr.len() < partition.replicas.len() {
        return "under-replicated".to_owned();
    }
    "ok".to_owned()
}

/// The configuration that decides together, if the brokers tell.
fn members(partition: &Partition) -> Option<Vec<BrokerId>> {
    let mut members = partition.isr.clone();
    members.extend(partition.eligible.as_ref()?);
    members.sort_unstable();
    Some(members)
}

/// Replicas whose brokers are there, and which are not in sync.
fn lagging(partition: &Partition) -> Vec<BrokerId> {
    let is_behind = |id: &&BrokerId| !partition.isr.contains(id) && !partition.offline.contains(id);
    partition.replicas.iter().filter(is_behind).copied().collect()
}

fn none_or(list: String) -> String {
    if list.is_empty() { "-".to_owned() } else { list }
}

fn ids(brokers: &[BrokerId]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn id(topic: &Topic) -> Option<String> {
    Some(topic.id).filter(|id| *id != TopicId::ZERO).map(|id| id.to_string())
}

fn replicas(topic: &Topic) -> usize {
    topic.partitions.first().map_or(0, |partition| partition.replicas.len())
}
