//! `quipu group lag`: for each partition where the group is, where the log ends, and who reads it.
//!
//! Every partition is shown that the group has committed an offset of, or that a member reads.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use quipu_client::{Client, Isolation, Offset, OffsetSpec, TopicPartition};
use quipu_env_tokio::TokioEnv;
use serde_json::json;

use super::describe::unknown_or;
use crate::{
    client::Failure,
    output::{Output, Table},
};

/// With `--watch`: between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Moves the terminal's cursor to the upper left corner, and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// One partition.
struct Row {
    partition: TopicPartition,
    committed: Option<Offset>,
    /// Why it is not known, if so.
    end: Result<Offset, String>,
    member: Option<String>,
}

impl Row {
    /// Nothing was committed: nobody knows where the group will begin.
    fn lag(&self) -> Option<u64> {
        let (committed, end) = (self.committed?, self.end.as_ref().ok()?);
        Some(u64::try_from(end.0.saturating_sub(committed.0)).unwrap_or(0))
    }
}

pub(super) async fn lag(
    client: Client<TokioEnv>,
    group: String,
    watch: bool,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    loop {
        let rows = look(&client, &group).await?;
        let told = if output.json {
            rows.iter().try_for_each(|row| {
                output.json(&json!({
                    "group": group,
                    "topic": &*row.partition.topic,
                    "partition": row.partition.partition.0,
                    "committed": row.committed.map(|offset| offset.0),
                    "end": row.end.as_ref().ok().map(|offset| offset.0),
                    "lag": row.lag(),
                    "member": row.member,
                    "error": row.end.as_ref().err(),
                }))
            })
        } else {
            let clear = watch.then(|| CLEAR.to_owned());
            clear.into_iter().chain(as_text(&rows)).try_for_each(|line| output.line(&line))
        };
        if !watch || told.is_break() {
            return Ok(output.finish(0)?);
        }
        output.flush();
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn look(client: &Client<TokioEnv>, group: &str) -> Result<Vec<Row>, Failure> {
    let admin = client.admin();
    let described = admin.describe_groups(vec![group.to_owned()]).await.into_iter().next();
    let (_, described) = described.expect("an answer for each group");
    let described = described.map_err(|error| unknown_or(group, error))?;
    let committed = admin.list_group_offsets(group, None).await?;
    let mut members: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
    for member in &described.members {
        members.extend(member.partitions.iter().map(|partition| (partition, &*member.id)));
    }
    let mut partitions: Vec<TopicPartition> = committed.keys().chain(members.keys().copied()).cloned().collect();
    partitions.sort_unstable();
    partitions.dedup();
    let wanted = partitions.into_iter().map(|partition| (partition, OffsetSpec::Latest)).collect();
    let row = |(partition, end): (TopicPartition, Result<quipu_client::ListedOffset, quipu_client::ClientError>)| Row {
        committed: committed.get(&partition).map(|committed| committed.offset),
        end: end.map(|listed| listed.offset.unwrap_or(Offset::ZERO)).map_err(|error| error.to_string()),
        member: members.get(&partition).map(ToString::to_string),
        partition,
    };
    Ok(admin.list_offsets(wanted, Isolation::ReadUncommitted).await.into_iter().map(row).collect())
}

fn as_text(rows: &[Row]) -> Vec<String> {
    let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for row in rows {
        table.push(vec![
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            text(row.committed.map(|offset| offset.to_string())),
            text(row.end.as_ref().ok().map(ToString::to_string)),
            text(row.lag().map(|lag| lag.to_string())),
            text(row.member.clone()),
        ]);
    }
    let mut lines = table.lines();
    let total: u64 = rows.iter().filter_map(Row::lag).sum();
    let unread = rows.iter().filter(|row| row.member.is_none()).count();
    let unread =
        if unread > 0 { format!(", {unread} of {} partitions read by nobody", rows.len()) } else { String::new() };
    lines.push(format!("lag in all {total}{unread}"));
    lines.extend(rows.iter().filter_map(|row| row.end.as_ref().err()).map(|error| format!("  {error}")));
    lines
}
