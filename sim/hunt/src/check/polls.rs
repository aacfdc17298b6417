//! Each consumer polls every offset once, in order.

use std::collections::BTreeMap;

use super::{Violation, facts::Facts};
use crate::history::{Found, LogIndex, What};

/// Gaps and offsets that don't rise, within one poll or audit.
pub(super) fn within(facts: &Facts<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let (What::Poll { log, records, .. } | What::Audit { log, records, .. }) = &op.what else { continue };
        let wrong = records.windows(2).find(|pair| pair[1].offset != pair[0].offset + 1);
        let Some([left, right]) = wrong else { continue };
        let checker = if right.offset <= left.offset { "int-nonmonotonic-poll" } else { "int-poll-skip" };
        let message = format!("{}: {} follows {}", facts.history.name(*log), right.offset, left.offset);
        violations.push(Violation::of(checker, *log, &[index], message));
    }
    violations
}

/// Polls that begin elsewhere than where the last one ended.
pub(super) fn between(facts: &Facts<'_>) -> Vec<Violation> {
    /// Where a consumer stands, and which operation left it there.
    type Stands = (i64, Option<usize>);
    let mut standing: BTreeMap<(u32, LogIndex), Stands> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        match &op.what {
            What::Seek { log, to } => {
                standing.insert((op.client, *log), (*to, Some(index)));
            }
            What::Poll { log, records, .. } => {
                let stands = standing.entry((op.client, *log)).or_insert((0, None));
                let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
                if let Some(checker) = judge(facts, *log, stands.0, *first) {
                    let message = format!(
                        "{}: a poll begins at {}, where {} was due",
                        facts.history.name(*log),
                        first.offset,
                        stands.0
                    );
                    let ops: Vec<usize> = stands.1.into_iter().chain([index]).collect();
                    violations.push(Violation::of(checker, *log, &ops, message));
                }
                *stands = (last.offset + 1, Some(index));
            }
            _ => {}
        }
    }
    violations
}

fn judge(facts: &Facts<'_>, log: LogIndex, due: i64, first: Found) -> Option<&'static str> {
    if first.offset < due {
        return Some("nonmonotonic-poll");
    }
    (first.offset > due && due >= facts.deletable_below(log)).then_some("poll-skip")
}

/// Records that no consumer may have yet, and bounds that contradict each other.
pub(super) fn precommitted(facts: &Facts<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let What::Poll { log, records, high_watermark, last_stable, log_start, .. } = &op.what else { continue };
        if *high_watermark < 0 {
            continue;
        }
        let name = facts.history.name(*log);
        if let Some(last) = records.last().filter(|last| last.offset >= *high_watermark) {
            let message = format!("{name} offset {}: the high watermark is {high_watermark}", last.offset);
            violations.push(Violation::of("precommitted-read", *log, &[index], message));
        }
        if log_start > high_watermark || last_stable > high_watermark {
            let message = format!(
                "{name}: log start {log_start}, last stable offset {last_stable}, high watermark {high_watermark}"
            );
            violations.push(Violation::of("bounds", *log, &[index], message));
        }
    }
    violations
}
