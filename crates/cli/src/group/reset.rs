//! `quipu group reset-offsets`.
//!
//! Invariants
//! - Nothing is set while the group has members: their commits would take its place. The brokers see to it, too.
//! - What is set lies in the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use quipu_client::{
    Client, ErrorCode, GroupOffset, Isolation, Offset, OffsetSpec, OffsetToCommit, Timestamp, TopicPartition,
};
use quipu_env_tokio::TokioEnv;
use serde_json::json;

use crate::{
    FAILED,
    client::{Failure, check_partition, find_topic},
    output::{Output, Table, count},
};

/// Where to go on.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Start,
    End,
    Offset(Offset),
    Time(Timestamp),
    Shift(i64),
}

/// A topic, or some of its partitions.
#[derive(Clone)]
pub(super) struct Selected {
    pub(super) topic: String,
    /// None is all.
    pub(super) partitions: Option<BTreeSet<i32>>,
}

/// What the command line asks for.
pub(super) struct Wanted {
    pub(super) group: String,
    pub(super) place: Place,
    /// None is all that the group has committed.
    pub(super) selected: Vec<Selected>,
    pub(super) dry_run: bool,
}

/// From where to where.
type Moves = BTreeMap<TopicPartition, (Option<Offset>, Offset)>;

pub(super) async fn reset(client: Client<TokioEnv>, wanted: Wanted, mut output: Output) -> Result<ExitCode, Failure> {
    let exists = check_empty(&client, &wanted.group).await?;
    if !exists && wanted.selected.is_empty() {
        return Err(Failure::Said(format!(
            "there is no group {}; with --topic it gets offsets before its first member comes",
            wanted.group
        )));
    }
    let committed = client.admin().list_group_offsets(&wanted.group, None).await?;
    let partitions = select(&client, &wanted, &committed).await?;
    let moves = places(&client, &wanted, &partitions, &committed).await?;
    let mut refused = BTreeMap::new();
    if !wanted.dry_run {
        let offsets = moves.iter().map(|(partition, (_, to))| (partition.clone(), OffsetToCommit::new(*to))).collect();
        let outcomes = client.admin().alter_group_offsets(&wanted.group, &offsets).await?;
        refused.extend(outcomes.into_iter().filter_map(|(partition, outcome)| Some((partition, outcome.err()?))));
    }
    let is_set = |partition: &TopicPartition| !wanted.dry_run && !refused.contains_key(partition);
    if output.json {
        let _told = moves.iter().try_for_each(|(partition, (from, to))| {
            output.json(&json!({
                "group": wanted.group,
                "topic": &*partition.topic,
                "partition": partition.partition.0,
                "from": from.map(|offset| offset.0),
                "to": to.0,
                "set": is_set(partition),
            }))
        });
    } else {
        let _told = as_text(&wanted, &moves).iter().try_for_each(|line| output.line(line));
    }
    for error in refused.values() {
        let failure = match error.code() {
            Some(ErrorCode::UnknownMemberId) => has_members(&wanted.group, None),
            _ => Failure::Client(error.clone()),
        };
        eprintln!("quipu: {failure}");
    }
    Ok(output.finish(if refused.is_empty() { 0 } else { FAILED })?)
}

/// Whether there is such a group. Errors: it has members.
async fn check_empty(client: &Client<TokioEnv>, group: &str) -> Result<bool, Failure> {
    let described = client.admin().describe_groups(vec![group.to_owned()]).await.into_iter().next();
    match described.expect("an answer for each group").1 {
        Ok(described) if described.members.is_empty() => Ok(true),
        Ok(described) => Err(has_members(group, Some(described.members.len()))),
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn has_members(group: &str, number: Option<usize>) -> Failure {
    let members = number.map_or_else(|| "members".to_owned(), |number| count(number, "member"));
    Failure::Said(format!(
        "group {group} has {members}, whose commits would take the place of what is set: stop them first (`quipu group describe \
         {group}` shows them)"
    ))
}

/// The partitions to set.
async fn select(
    client: &Client<TokioEnv>,
    wanted: &Wanted,
    committed: &BTreeMap<TopicPartition, GroupOffset>,
) -> Result<Vec<TopicPartition>, Failure> {
    if wanted.selected.is_empty() {
        if committed.is_empty() {
            let group = &wanted.group;
            return Err(Failure::Said(format!("group {group} has committed nothing; say which partitions by --topic")));
        }
        return Ok(committed.keys().cloned().collect());
    }
    let mut partitions = Vec::new();
    for Selected { topic: name, partitions: numbers } in &wanted.selected {
        let topic = find_topic(client, name).await?;
        for number in numbers.iter().flatten() {
            check_partition(&topic, *number)?;
        }
        let is_wanted = |number: i32| numbers.as_ref().is_none_or(|numbers| numbers.contains(&number));
        let all = topic.partitions.iter().map(|partition| partition.index);
        partitions
            .extend(all.filter(|index| is_wanted(index.0)).map(|index| TopicPartition::new(topic.name.clone(), index)));
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// Where each goes.
async fn places(
    client: &Client<TokioEnv>,
    wanted: &Wanted,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, GroupOffset>,
) -> Result<Moves, Failure> {
    let first = offsets(client, partitions, OffsetSpec::Earliest).await?;
    let end = offsets(client, partitions, OffsetSpec::Latest).await?;
    let at_time = match wanted.place {
        Place::Time(time) => offsets(client, partitions, OffsetSpec::Timestamp(time)).await?,
        _ => vec![None; partitions.len()],
    };
    let mut moves = Moves::new();
    for (((partition, first), end), at_time) in partitions.iter().zip(first).zip(end).zip(at_time) {
        let (first, end) = (first.unwrap_or(Offset::ZERO), end.unwrap_or(Offset::ZERO));
        let from = committed.get(partition).map(|committed| committed.offset);
        let to = match wanted.place {
            Place::Start => first,
            Place::End => end,
            Place::Offset(offset) => offset,
            Place::Time(_) => at_time.unwrap_or(end),
            Place::Shift(by) => {
                let missing = || {
                    Failure::Said(format!(
                        "{partition}: group {} has committed nothing from where to shift; leave it out, or use --to-offset",
                        wanted.group
                    ))
                };
                Offset(from.ok_or_else(missing)?.0.saturating_add(by))
            }
        };
        moves.insert(partition.clone(), (from, to.max(first).min(end)));
    }
    Ok(moves)
}

async fn offsets(
    client: &Client<TokioEnv>,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<Vec<Option<Offset>>, Failure> {
    let wanted = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let listed = client.admin().list_offsets(wanted, Isolation::ReadUncommitted).await;
    listed.into_iter().map(|(_, listed)| Ok(listed?.offset)).collect()
}

fn as_text(wanted: &Wanted, moves: &Moves) -> Vec<String> {
    let mut table = Table::new(&["TOPIC", "PARTITION", "FROM", "TO"]);
    for (partition, (from, to)) in moves {
        let from = from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        table.push(vec![partition.topic.to_string(), partition.partition.to_string(), from, to.to_string()]);
    }
    let mut lines = table.lines();
    if wanted.dry_run {
        lines.push("nothing was set: --dry-run".to_owned());
    }
    lines
}
