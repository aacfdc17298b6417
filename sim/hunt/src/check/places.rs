//! One record in each place, each record in one place, and none that was refused.

use super::{Violation, facts::Facts};
use crate::history::Outcome;

/// Two records in one place.
pub(super) fn inconsistent_offsets(facts: &Facts<'_>) -> Vec<Violation> {
    let tell = |conflict: &super::facts::Sighting| {
        let first = &facts.known[&(conflict.log, conflict.offset)];
        let message = format!("{} is {} and {}", facts.show(conflict), first.value, conflict.value);
        Violation::of("inconsistent-offsets", conflict.log, &[first.op, conflict.op], message)
    };
    facts.conflicts.iter().map(tell).collect()
}

/// One record in two places.
pub(super) fn duplicate(facts: &Facts<'_>) -> Vec<Violation> {
    let tell = |moved: &super::facts::Sighting| {
        let first = &facts.places[&moved.value];
        let message = format!("{} is at {} and at {}", moved.value, facts.show(first), facts.show(moved));
        let sender = facts.senders.get(&moved.value).copied();
        let ops: Vec<usize> = sender.into_iter().chain([first.op, moved.op]).collect();
        Violation::of("duplicate", moved.log, &ops, message)
    };
    let is_loose = |moved: &&super::facts::Sighting| facts.history.loose.contains(&moved.value.client);
    facts.moved.iter().filter(|moved| !is_loose(moved)).map(tell).collect()
}

/// Records of sends that failed, and records that nobody sent.
pub(super) fn failed_reads(facts: &Facts<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (value, seen) in &facts.places {
        let Some(sender) = facts.senders.get(value) else { continue };
        if facts.history.ops[*sender].outcome == Outcome::Fail {
            let message = format!("{value} was refused, and is at {}", facts.show(seen));
            violations.push(Violation::of("G1a", seen.log, &[*sender, seen.op], message));
        }
    }
    violations
}
