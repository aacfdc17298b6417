//! `quipu group list`, `describe`, `delete`.

use std::{collections::BTreeMap, process::ExitCode};

use quipu_client::{Client, ErrorCode, GroupDescription, GroupMember, TopicPartition};
use quipu_env_tokio::TokioEnv;
use serde_json::{Value, json};

use crate::{
    FAILED,
    client::Failure,
    output::{Output, Table, count},
};

pub(super) async fn list(client: Client<TokioEnv>, mut output: Output) -> Result<ExitCode, Failure> {
    let groups = client.admin().list_groups().await?;
    if output.json {
        // Once nobody reads, `finish` ends it.
        let _told = groups.iter().try_for_each(|group| {
            output.json(&json!({
                "group": group.group,
                "protocol": group.protocol.to_string(),
                "protocol_type": group.protocol_type,
                "state": group.state.to_string(),
            }))
        });
        return Ok(output.finish(0)?);
    }
    let mut table = Table::new(&["GROUP", "PROTOCOL", "STATE"]);
    for group in &groups {
        table.push(vec![group.group.clone(), group.protocol.to_string(), group.state.to_string()]);
    }
    let _told = table.lines().iter().try_for_each(|line| output.line(line));
    Ok(output.finish(0)?)
}

pub(super) async fn describe(
    client: Client<TokioEnv>,
    groups: Vec<String>,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    let mut status = 0;
    for (number, (group, described)) in client.admin().describe_groups(groups).await.into_iter().enumerate() {
        let told = match described {
            Ok(described) if output.json => output.json(&as_json(&described)),
            Ok(described) => {
                let blank = (number > 0).then(String::new);
                blank.into_iter().chain(as_text(&described)).try_for_each(|line| output.line(&line))
            }
            Err(error) => {
                eprintln!("quipu: {}", unknown_or(&group, error));
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

/// A failure about a group.
pub(super) fn unknown_or(group: &str, error: quipu_client::ClientError) -> Failure {
    match error.code() {
        Some(ErrorCode::GroupIdNotFound) => {
            Failure::Said(format!("there is no group {group}; `quipu group list` lists those there are"))
        }
        Some(ErrorCode::NonEmptyGroup) => Failure::Said(format!(
            "group {group} has members; stop them first (`quipu group describe {group}` shows them)"
        )),
        _ => Failure::Client(error),
    }
}

pub(super) async fn delete(
    client: Client<TokioEnv>,
    groups: Vec<String>,
    may_lack: bool,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    let mut status = 0;
    for (group, outcome) in client.admin().delete_groups(groups).await {
        let lacks = outcome.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::GroupIdNotFound));
        // A break means that nobody reads: everything is done all the same.
        let _told = match outcome {
            Ok(()) if output.json => output.json(&json!({ "group": group, "deleted": true })),
            Ok(()) => output.line(&format!("deleted {group}")),
            Err(_) if lacks && may_lack && output.json => output.json(&json!({ "group": group, "deleted": false })),
            Err(_) if lacks && may_lack => output.line(&format!("{group} does not exist")),
            Err(error) => {
                eprintln!("quipu: {}", unknown_or(&group, error));
                status = FAILED;
                continue;
            }
        };
    }
    Ok(output.finish(status)?)
}

/// Partitions by topic.
fn by_topic(member: &GroupMember) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in &member.partitions {
        topics.entry(topic).or_default().push(partition.0);
    }
    topics
}

fn as_json(group: &GroupDescription) -> Value {
    let member = |member: &GroupMember| {
        json!({
            "member": member.id,
            "instance": member.instance_id,
            "client": member.client_id,
            "host": member.host,
            "epoch": member.epoch,
            "subscribed": member.topics,
            "pattern": member.pattern,
            "partitions": by_topic(member),
        })
    };
    json!({
        "group": group.group,
        "protocol": group.protocol.to_string(),
        "state": group.state.to_string(),
        "assignor": group.assignor,
        "epoch": group.epoch,
        "coordinator": group.coordinator.0,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn as_text(group: &GroupDescription) -> Vec<String> {
    let assignor = if group.assignor.is_empty() { String::new() } else { format!(", assignor {}", group.assignor) };
    let epoch = group.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    let mut lines = vec![format!(
        "{}: {}, {} protocol{assignor}{epoch}, coordinator broker {}, {}",
        group.group,
        group.state,
        group.protocol,
        group.coordinator,
        count(group.members.len(), "member")
    )];
    if group.members.is_empty() {
        return lines;
    }
    let mut table = Table::new(&["  MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"]);
    for member in &group.members {
        let numbers = |(topic, numbers): (&str, Vec<i32>)| {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            format!("{topic}:{}", numbers.join(","))
        };
        let partitions: Vec<String> = by_topic(member).into_iter().map(numbers).collect();
        table.push(vec![
            format!("  {}", member.id),
            member.instance_id.clone().unwrap_or_else(|| "-".to_owned()),
            member.client_id.clone(),
            member.host.clone(),
            if partitions.is_empty() { "-".to_owned() } else { partitions.join(" ") },
        ]);
    }
    lines.extend(table.lines());
    lines
}
