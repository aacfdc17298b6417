//! What one client was told before another one asked binds the answer.

use std::collections::BTreeMap;

use super::{Violation, facts::Facts};
use crate::history::{LogIndex, Op, What};

/// The most that was known at some moment, and who told it.
#[derive(Clone, Copy)]
struct Most {
    at: u64,
    offset: i64,
    op: usize,
}

/// By log: how much was known when, each more than the one before.
struct Known(BTreeMap<LogIndex, Vec<Most>>);

impl Known {
    /// From what each operation tells at its completion.
    fn new(facts: &Facts<'_>, tells: impl Fn(&Op) -> Option<(LogIndex, i64)>) -> Self {
        let mut all: BTreeMap<LogIndex, Vec<Most>> = BTreeMap::new();
        for (op, told) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
            if let (Some((log, offset)), Some(at)) = (tells(told), told.completed) {
                all.entry(log).or_default().push(Most { at, offset, op });
            }
        }
        for known in all.values_mut() {
            known.sort_by_key(|most| most.at);
            let mut highest = i64::MIN;
            known.retain(|most| {
                let is_more = most.offset > highest;
                highest = highest.max(most.offset);
                is_more
            });
        }
        Self(all)
    }

    /// The most that was told before that moment.
    fn before(&self, log: LogIndex, at: u64) -> Option<Most> {
        let known = self.0.get(&log)?;
        known.partition_point(|most| most.at < at).checked_sub(1).map(|index| known[index])
    }
}

/// A send that began after another one was acknowledged, and has the lower offset.
pub(super) fn real_time(facts: &Facts<'_>) -> Vec<Violation> {
    let base = |op: &Op| match &op.what {
        What::Send { log, base_offset: Some(base), .. } if *base >= 0 => Some((*log, *base)),
        _ => None,
    };
    let acknowledged = Known::new(facts, base);
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let Some((log, offset)) = base(op) else { continue };
        let Some(most) = acknowledged.before(log, op.invoked).filter(|most| most.offset >= offset) else { continue };
        let name = facts.history.name(log);
        let message = format!("{name}: offset {} was acknowledged before the send of {offset} began", most.offset);
        violations.push(Violation::of("real-time", log, &[most.op, index], message));
    }
    violations
}

/// A poll whose high watermark is lower than what somebody was told before it.
pub(super) fn stale_watermarks(facts: &Facts<'_>) -> Vec<Violation> {
    let told = Known::new(facts, |op| match &op.what {
        What::Send { log, values, base_offset: Some(base) } if *base >= 0 => {
            Some((*log, *base + i64::try_from(values.len()).unwrap_or(0)))
        }
        What::Poll { log, high_watermark, .. } => Some((*log, *high_watermark)),
        What::Audit { log, end, .. } => Some((*log, *end)),
        _ => None,
    });
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let What::Poll { log, high_watermark: high_watermark @ 0.., .. } = &op.what else { continue };
        if facts.history.may_be_stale(op.invoked) {
            continue;
        }
        let Some(most) = told.before(*log, op.invoked).filter(|most| most.offset > *high_watermark) else { continue };
        let name = facts.history.name(*log);
        let message = format!("{name}: the high watermark is {high_watermark}, and was {} before", most.offset);
        violations.push(Violation::of("stale-watermark", *log, &[most.op, index], message));
    }
    violations
}

/// When nothing is wrong, a record that is acknowledged reaches whoever waits for it within this time, nanoseconds.
const LATE: u64 = 2_000_000_000;

/// A poll that waited though there was something for it.
pub(super) fn late_polls(facts: &Facts<'_>) -> Vec<Violation> {
    let Some(quiet_from) = facts.history.quiet_from else { return Vec::new() };
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        let (What::Poll { log, records, .. }, Some(completed)) = (&op.what, op.completed) else { continue };
        let Some(first) = records.first().and_then(|first| facts.known.get(&(*log, first.offset))) else { continue };
        // The poll itself may be the first to tell of it; its sender may have been told before.
        let sent = facts.senders.get(&first.value).map(|sender| &facts.history.ops[*sender]);
        let acknowledged = sent.filter(|sent| sent.is_ok()).and_then(|sent| sent.completed);
        let there = acknowledged.map_or(first.at, |at| at.min(first.at)).max(op.invoked);
        if op.invoked >= quiet_from && completed.saturating_sub(there) > LATE {
            let millis = (completed - there) / 1_000_000;
            let message = format!("{} was there, and a poll got it after {millis} ms", facts.show(first));
            violations.push(Violation::of("late-poll", *log, &[first.op, index], message));
        }
    }
    violations
}
