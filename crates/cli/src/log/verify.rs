//! `quipu log verify`.

use std::{path::Path, process::ExitCode};

use quipu_env_tokio::TokioEnv;
use quipu_storage::{DamagedRange, VerifyReport, verify};

use super::{LogError, names::Names};
use crate::{
    FAILED,
    output::{Output, Table, count},
};

pub(super) async fn run(env: &TokioEnv, directory: &Path, mut output: Output) -> Result<ExitCode, LogError> {
    let mut report = verify(env, directory).await?;
    if report.damaged.iter().any(|damage| damage.topic.is_some()) {
        let names = Names::read(env, directory).await?;
        for damage in &mut report.damaged {
            damage.topic = damage.topic.take().map(|topic| names.of_text(topic));
        }
    }
    let told = if output.json {
        output.json(&report)
    } else {
        lines(&report, directory).iter().try_for_each(|line| output.line(line))
    };
    Ok(output.finish(if report.ok || told.is_break() { 0 } else { FAILED })?)
}

fn lines(report: &VerifyReport, directory: &Path) -> Vec<String> {
    let bytes: u64 = report.live.iter().map(|live| live.to - live.from).sum();
    let mut files: Vec<&str> = report.live.iter().map(|live| live.file.as_str()).collect();
    files.dedup();
    let state = if report.ok { "ok" } else { "DAMAGED" };
    let mut lines = vec![
        format!("{}: {state}", directory.display()),
        format!("live: {bytes} bytes in {} of {}", count(report.live.len(), "range"), count(files.len(), "file")),
    ];
    if !report.damaged.is_empty() {
        lines.push(format!("damaged: {}", count(report.damaged.len(), "range")));
        let mut table = Table::new(&["  FILE", "POSITION", "LENGTH", "PARTITION", "BASE OFFSET", "WHY"]);
        for damage in &report.damaged {
            table.push(vec![
                format!("  {}", damage.file),
                damage.position.to_string(),
                damage.length.to_string(),
                partition(damage),
                damage.base_offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
                damage.why.clone(),
            ]);
        }
        lines.extend(table.lines());
    }
    if !report.cut.is_empty() {
        lines.push(format!("cut: {}; nothing of it had been acknowledged", count(report.cut.len(), "range")));
        let mut table = Table::new(&["  FILE", "POSITION", "LENGTH", "WHY"]);
        for cut in &report.cut {
            let (position, length) = (cut.position.to_string(), cut.length.to_string());
            table.push(vec![format!("  {}", cut.file), position, length, cut.why.clone()]);
        }
        lines.extend(table.lines());
    }
    lines
}

/// The partition that damage concerns, for people.
pub(super) fn partition(damage: &DamagedRange) -> String {
    match (&damage.topic, damage.partition) {
        (Some(topic), Some(partition)) => format!("{topic}-{partition}"),
        _ => "-".to_owned(),
    }
}
