//! Each consumer polls every offset once, in order.

use std::collections::BTreeMap;

use super::{Violation, facts::Facts};
use crate::history::{Found, LogIndex, What};

/// Gaps and offsets that don't rise, within one poll or audit.
pub(super) fn within(facts: &Facts<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let (log, records) = match &op.what {
            What::Poll { log, records, .. } | What::Audit { log, records, .. } | What::Take { log, records, .. } => {
                (log, records)
            }
            _ => continue,
        };
        // What such a poll gives came in several answers, and between them a log may have been shortened.
        let is_of_several = matches!(&op.what, What::Poll { high_watermark: ..0, .. } | What::Take { .. });
        let deletable = if is_of_several { facts.deletable_below(*log) } else { 0 };
        let is_wrong = |pair: &&[Found]| {
            let (due, at) = (pair[0].offset + 1, pair[1].offset);
            strays(due, at, deletable).is_some()
        };
        let wrong = records.windows(2).find(is_wrong);
        let Some([left, right]) = wrong else { continue };
        let checker = if right.offset <= left.offset { "int-nonmonotonic-poll" } else { "int-poll-skip" };
        let message = format!("{}: {} follows {}", facts.history.name(*log), right.offset, left.offset);
        violations.push(Violation::of(checker, *log, &[index], message));
    }
    violations
}

/// Polls that begin elsewhere than where the last one ended, and consumers that go elsewhere by themselves.
pub(super) fn between(facts: &Facts<'_>) -> Vec<Violation> {
    let mut standing: BTreeMap<(u32, LogIndex), Stands> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate() {
        match &op.what {
            What::Seek { log, to } => {
                // Where one leads that was not answered is told by the first record behind it.
                let to = op.is_ok().then_some(*to);
                standing.insert((op.client, *log), Stands { due: to, op: Some(index) });
            }
            What::Poll { log, records, stands: after, .. } if op.is_ok() => {
                let stands = standing.entry((op.client, *log)).or_insert(Stands { due: Some(0), op: None });
                if let (Some(first), Some(last)) = (records.first(), records.last()) {
                    violations.extend(stands.judge(facts, *log, index, ("a poll begins", first.offset)));
                    *stands = Stands { due: Some(last.offset + 1), op: Some(index) };
                }
                // Where the log starts by now, perhaps. From there it goes on.
                if *after >= 0 {
                    violations.extend(stands.judge(facts, *log, index, ("a consumer stands", *after)));
                    *stands = Stands { due: Some(*after), op: Some(index) };
                }
            }
            _ => {}
        }
    }
    violations
}

/// Elsewhere than where a consumer has to be.
enum Stray {
    Back,
    Ahead,
}

/// A consumer has to be at what is due, or, if that may have been deleted, at most where the log may start now.
const fn strays(due: i64, at: i64, deletable_below: i64) -> Option<Stray> {
    if at < due {
        return Some(Stray::Back);
    }
    if at > due && (due >= deletable_below || at > deletable_below) { Some(Stray::Ahead) } else { None }
}

/// Where a consumer stands, if that is known, and which operation left it there.
struct Stands {
    due: Option<i64>,
    op: Option<usize>,
}

impl Stands {
    /// What is wrong with a consumer that is at `at`.
    fn judge(&self, facts: &Facts<'_>, log: LogIndex, op: usize, (what, at): (&str, i64)) -> Option<Violation> {
        let due = self.due?;
        let checker = match strays(due, at, facts.deletable_below(log))? {
            Stray::Back => "nonmonotonic-poll",
            Stray::Ahead => "poll-skip",
        };
        let message = format!("{}: {what} at {at}, where {due} was due", facts.history.name(log));
        let ops: Vec<usize> = self.op.into_iter().chain([op]).collect();
        Some(Violation::of(checker, log, &ops, message))
    }
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
