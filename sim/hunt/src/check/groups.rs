//! Groups: each partition has one owner at a time, what was committed stays, and everything is read.
//!
//! What a member is told comes late: it may know of a generation when the group has a newer one. So no checker takes a member's
//! word for what the group has now: only what two members are told of the same generation, what the group accepts, and what it says
//! that it has accepted before, are held against it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, facts::Facts};
use crate::history::{LogIndex, Op, What};

/// A group's partition.
type Place<'a> = (&'a str, LogIndex);

/// A commit that took longer was sent more than once, perhaps: then an earlier try may come late. Nanoseconds.
const SENT_ONCE: u64 = 100_000_000;
/// When nothing is wrong a rebalance takes no longer than this and the patience of the group, nanoseconds.
const REBALANCES: u64 = 20_000_000_000;

fn ops<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (usize, &'a Op)> {
    facts.history.ops.iter().enumerate()
}

/// Two members own a partition in the same generation; and members that are told an older generation than before.
pub(super) fn owners(facts: &Facts<'_>) -> Vec<Violation> {
    let mut owners: BTreeMap<(Place<'_>, i32), (u32, usize)> = BTreeMap::new();
    let mut newest: BTreeMap<(&str, u32), (i32, usize)> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, op) in ops(facts).filter(|(_, op)| op.is_ok()) {
        let (What::Given { log, group, generation: generation @ 0.., .. }
        | What::Take { log, group, generation: generation @ 0.., .. }) = &op.what
        else {
            continue;
        };
        let name = facts.history.name(*log);
        let (owner, first) = *owners.entry(((group, *log), *generation)).or_insert((op.client, index));
        if owner != op.client {
            let message =
                format!("{name}: in generation {generation} of {group} it is client {owner}'s and {}'s", op.client);
            violations.push(Violation::of("two-owners", *log, &[first, index], message));
        }
        // A member joins in a generation before the group keeps it: only what is given in it is for good.
        if matches!(op.what, What::Take { .. }) {
            continue;
        }
        let (most, told) = newest.entry((group, op.client)).or_insert((*generation, index));
        if *generation < *most {
            let message = format!("{group}: client {} is in generation {generation}, and was in {most}", op.client);
            violations.push(Violation::of("generation-back", *log, &[*told, index], message));
        }
        (*most, *told) = (*generation, index);
    }
    violations
}

/// Commits that are accepted of a member whose partition was given to another one before it asked.
pub(super) fn stale_commits(facts: &Facts<'_>) -> Vec<Violation> {
    let mut given: BTreeMap<Place<'_>, Vec<(u64, u32, i32, usize)>> = BTreeMap::new();
    for (index, op) in ops(facts).filter(|(_, op)| op.is_ok()) {
        if let What::Given { log, group, generation, .. } = &op.what {
            given.entry((group, *log)).or_default().push((op.invoked, op.client, *generation, index));
        }
    }
    let mut violations = Vec::new();
    for (index, op) in ops(facts).filter(|(_, op)| op.is_ok()) {
        let What::Commit { group, generation, offsets } = &op.what else { continue };
        for (log, offset) in offsets {
            let all = given.get(&(group.as_str(), *log)).map_or(&[][..], Vec::as_slice);
            let last = all.iter().filter(|(at, ..)| *at < op.invoked).max_by_key(|(at, ..)| *at);
            let Some((_, owner, newer, gift)) = last else { continue };
            if *owner != op.client && newer > generation {
                let message = format!(
                    "{}: client {} commits {offset} in generation {generation} of {group}, though client {owner} was given it \
                     in {newer}",
                    facts.history.name(*log),
                    op.client
                );
                violations.push(Violation::of("stale-commit", *log, &[*gift, index], message));
            }
        }
    }
    violations
}

/// What is known of one committed offset.
struct Committed {
    at: u64,
    offset: i64,
    op: usize,
}

/// What an operation is told of committed offsets: of which logs, when it asked, and how much; -1 if nothing is committed.
fn reads(op: &Op) -> (&str, Vec<(LogIndex, i64)>) {
    match &op.what {
        What::Given { log, group, committed, .. } => (group, vec![(*log, *committed)]),
        What::Committed { group, offsets } if op.is_ok() => (group, offsets.clone()),
        _ => ("", Vec::new()),
    }
}

/// A member is told that less was committed than was before.
pub(super) fn committed_back(facts: &Facts<'_>) -> Vec<Violation> {
    let mut known: BTreeMap<Place<'_>, Vec<Committed>> = BTreeMap::new();
    let mut uncertain: BTreeMap<Place<'_>, BTreeSet<i64>> = BTreeMap::new();
    for (index, op) in ops(facts) {
        let at = if matches!(op.what, What::Given { .. }) { Some(op.invoked) } else { op.completed };
        let told = |offset: i64| at.map(|at| Committed { at, offset, op: index });
        let (group, offsets) = reads(op);
        for (log, offset) in offsets {
            known.entry((group, log)).or_default().extend(told(offset));
        }
        let What::Commit { group, offsets, .. } = &op.what else { continue };
        let took = op.completed.unwrap_or(u64::MAX).saturating_sub(op.invoked);
        for (log, offset) in offsets {
            if op.is_ok() {
                known.entry((group, *log)).or_default().extend(told(*offset));
            }
            if !op.is_ok() || took > SENT_ONCE {
                uncertain.entry((group, *log)).or_default().insert(*offset);
            }
        }
    }
    let mut violations = Vec::new();
    for (index, op) in ops(facts) {
        let (group, offsets) = reads(op);
        for (log, committed) in offsets {
            let all = known.get(&(group, log)).map_or(&[][..], Vec::as_slice);
            let before = all.iter().filter(|known| known.at < op.invoked).max_by_key(|known| known.offset);
            let may_be = uncertain.get(&(group, log)).is_some_and(|offsets| offsets.contains(&committed));
            if let Some(most) = before.filter(|most| most.offset > committed && !may_be) {
                let is = if committed < 0 { "nothing".to_owned() } else { committed.to_string() };
                let name = facts.history.name(log);
                let message = format!("{name}: {group} has committed {is}, and {} was committed before", most.offset);
                violations.push(Violation::of("committed-back", log, &[most.op, index], message));
            }
        }
    }
    violations
}

/// An owner's polls that leave something out, or give it again.
pub(super) fn polls(facts: &Facts<'_>) -> Vec<Violation> {
    let mut due: BTreeMap<(u32, Place<'_>), (i64, usize)> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, op) in ops(facts) {
        match &op.what {
            What::Given { log, group, committed, .. } => {
                let first = if *committed < 0 { facts.deletable_below(*log).min(0) } else { *committed };
                due.insert((op.client, (group, *log)), (first, index));
            }
            What::Taken { log, group, .. } => {
                due.remove(&(op.client, (group, *log)));
            }
            What::Take { log, group, records, .. } => {
                let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
                let place = (op.client, (group.as_str(), *log));
                let name = facts.history.name(*log);
                let Some((next, told)) = due.insert(place, (last.offset + 1, index)) else {
                    let message = format!("{name}: client {} is given records of what is not its own", op.client);
                    violations.push(Violation::of("not-owned", *log, &[index], message));
                    continue;
                };
                let is_deletable = next < facts.deletable_below(*log);
                if first.offset != next && !(is_deletable && first.offset > next) {
                    let checker = if first.offset < next { "nonmonotonic-poll" } else { "poll-skip" };
                    let message = format!("{name}: {group} is given {} where {next} was due", first.offset);
                    violations.push(Violation::of(checker, *log, &[told, index], message));
                }
            }
            _ => {}
        }
    }
    violations
}

/// Records that no member was given, though one was given what lies behind them.
pub(super) fn unprocessed(facts: &Facts<'_>) -> Vec<Violation> {
    let mut taken: BTreeMap<Place<'_>, BTreeSet<i64>> = BTreeMap::new();
    for (_, op) in ops(facts) {
        if let What::Take { log, group, records, .. } = &op.what {
            taken.entry((group, *log)).or_default().extend(records.iter().map(|found| found.offset));
        }
    }
    let mut violations = Vec::new();
    for ((group, log), offsets) in &taken {
        let is_audit =
            |(_, op): &(usize, &Op)| matches!(&op.what, What::Audit { log: it, .. } if it == log) && op.is_ok();
        let Some((index, audit)) = ops(facts).find(is_audit) else { continue };
        let What::Audit { records, .. } = &audit.what else { continue };
        let last = offsets.last().copied().unwrap_or(0);
        let is_left_out =
            |offset: &i64| *offset < last && *offset >= facts.deletable_below(*log) && !offsets.contains(offset);
        if let Some(offset) = records.iter().map(|found| found.offset).find(is_left_out) {
            let message = format!("{}: nobody in {group} was given {offset}", facts.history.name(*log));
            violations.push(Violation::of("unprocessed", *log, &[index], message));
        }
    }
    violations
}

/// When nothing is wrong: members that lose what they have though they poll, and members that wait for long for the others.
pub(super) fn memberships(facts: &Facts<'_>) -> Vec<Violation> {
    let Some(quiet_from) = facts.history.quiet_from else { return Vec::new() };
    let mut violations = Vec::new();
    for (index, op) in ops(facts) {
        match &op.what {
            What::Taken { log, group, is_lost: true, idle, patience }
                if op.invoked >= quiet_from + patience && *idle < patience / 2 =>
            {
                let name = facts.history.name(*log);
                let message = format!("{name}: {group} takes it from client {}, which polls", op.client);
                violations.push(Violation::of("lost-membership", *log, &[index], message));
            }
            What::Join { group } => {
                let took = op.completed.unwrap_or(op.invoked).saturating_sub(op.invoked);
                if op.invoked >= quiet_from && took > REBALANCES {
                    let seconds = took / 1_000_000_000;
                    let message = format!("{group}: client {} became a member after {seconds} s", op.client);
                    violations.push(Violation { ops: vec![index], ..Violation::new("late-rebalance", message) });
                }
            }
            _ => {}
        }
    }
    violations
}
