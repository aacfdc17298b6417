//! What was deleted is not served any more.

use std::collections::BTreeMap;

use super::{Violation, facts::Facts};
use crate::history::{LogIndex, What};

/// In a cluster the other brokers learn of a topic's deletion after it was acknowledged; nanoseconds.
const HEARD_OF_AFTER: u64 = 1_000_000_000;

/// Records below a low watermark that was told before somebody asked, and of topics whose deletion was acknowledged before.
pub(super) fn reads(facts: &Facts<'_>) -> Vec<Violation> {
    let mut lows: BTreeMap<LogIndex, Vec<(u64, i64, usize)>> = BTreeMap::new();
    let mut gone: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let Some(at) = op.completed else { continue };
        match &op.what {
            What::DeleteRecords { log, low_watermark: Some(low), .. } => {
                lows.entry(*log).or_default().push((at, *low, index));
            }
            What::DeleteTopic { id, .. } => {
                gone.entry(id).or_insert((at, index));
            }
            _ => {}
        }
    }
    let heard_of_after = if facts.history.is_cluster { HEARD_OF_AFTER } else { 0 };
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let (What::Poll { log, records, .. } | What::Audit { log, records, .. }) = &op.what else { continue };
        let name = facts.history.name(*log);
        let start = match &op.what {
            What::Audit { start, .. } => Some(*start),
            // It may have been fetched before.
            What::Poll { high_watermark: ..0, .. } => continue,
            What::Poll { .. } if facts.history.may_be_stale(op.invoked) => continue,
            _ => records.first().map(|found| found.offset),
        };
        let before = lows.get(log).into_iter().flatten().filter(|(at, ..)| *at < op.invoked);
        if let Some((_, low, deletion)) = before.max_by_key(|(_, low, _)| *low)
            && start.is_some_and(|start| start < *low)
        {
            let message = format!("{name}: everything below {low} was deleted, and {start:?} is served");
            violations.push(Violation::of("deleted-read", *log, &[*deletion, index], message));
        }
        if let Some((_, deletion)) =
            gone.get(name.id.as_str()).filter(|(at, _)| at.saturating_add(heard_of_after) < op.invoked)
            && !records.is_empty()
        {
            let message = format!("{name}: the topic was deleted, and {} records are served", records.len());
            violations.push(Violation::of("deleted-read", *log, &[*deletion, index], message));
        }
    }
    violations
}
