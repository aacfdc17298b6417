//! What was acknowledged or read is there whenever everything is read, unless somebody asked to delete it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Violation,
    facts::{Facts, Sighting},
};
use crate::history::{LogIndex, Op, What};

/// One complete reading of a log.
struct Audit {
    op: usize,
    start: i64,
    end: i64,
    offsets: BTreeSet<i64>,
    began: u64,
}

/// See the module.
pub(super) fn lost_writes(facts: &Facts<'_>) -> Vec<Violation> {
    let mut by_log: BTreeMap<LogIndex, Vec<&Sighting>> = BTreeMap::new();
    facts.known.values().for_each(|sighting| by_log.entry(sighting.log).or_default().push(sighting));
    let audits = audits(facts);
    let mut violations = Vec::new();
    for (log, sightings) in by_log {
        if facts.may_be_deleted(log) {
            continue;
        }
        let found = audits.get(&log).map_or(&[][..], Vec::as_slice);
        violations.extend(found.iter().filter_map(|audit| missing(facts, log, &sightings, audit)));
        violations.extend(never_read(facts, log, &sightings, found));
    }
    violations
}

fn audits(facts: &Facts<'_>) -> BTreeMap<LogIndex, Vec<Audit>> {
    let mut audits: BTreeMap<LogIndex, Vec<Audit>> = BTreeMap::new();
    for (op, Op { invoked, what, .. }) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        if let What::Audit { log, start, end, records } = what {
            let offsets = records.iter().map(|found| found.offset).collect();
            let audit = Audit { op, start: *start, end: *end, offsets, began: *invoked };
            audits.entry(*log).or_default().push(audit);
        }
    }
    audits
}

/// What one audit does not find.
fn missing(facts: &Facts<'_>, log: LogIndex, sightings: &[&Sighting], audit: &Audit) -> Option<Violation> {
    let is_missing = |sighting: &&&Sighting| {
        let is_deleted = sighting.offset < audit.start && sighting.offset < facts.deletable_below(log);
        sighting.at < audit.began && !is_deleted && !audit.offsets.contains(&sighting.offset)
    };
    let lost: Vec<&&Sighting> = sightings.iter().filter(is_missing).collect();
    let first = lost.first()?;
    let is_behind = audit.offsets.iter().next_back().is_some_and(|last| *last > first.offset);
    let checker = if is_behind { "lost-write" } else { "unseen" };
    let message = format!(
        "{}: {} of {} known records are gone, the first of them {} ({}); the log is {}..{}",
        facts.history.name(log),
        lost.len(),
        sightings.len(),
        first.value,
        facts.show(first),
        audit.start,
        audit.end
    );
    Some(Violation::of(checker, log, &[first.op, audit.op], message))
}

/// A log that nobody could read though everything else was read.
fn never_read(facts: &Facts<'_>, log: LogIndex, sightings: &[&Sighting], audits: &[Audit]) -> Option<Violation> {
    let ops = || facts.history.ops.iter().enumerate();
    let name = facts.history.name(log);
    let first = sightings.first()?;
    let unreadable = ops().find(|(_, op)| matches!(&op.what, What::Unreadable { log: it, .. } if *it == log));
    if let Some((op, _)) = unreadable {
        let message = format!("{name}: {} known records, and the log can't be read to its end", sightings.len());
        return Some(Violation::of("lost-write", log, &[first.op, op], message));
    }
    let (op, _) = ops().find(|(_, op)| match &op.what {
        What::Topics { ids } => !ids.contains(&name.id) && op.invoked > first.at,
        _ => false,
    })?;
    let message = format!("{name}: {} known records, and the topic is gone", sightings.len());
    audits.is_empty().then(|| Violation::of("lost-write", log, &[first.op, op], message))
}
