//! Checkers: from a history, what must not be in it. Names are those of `jepsen.tests.kafka` where it has one.
//!
//! | checker | it finds |
//! |---|---|
//! | `lost-write` | what was acknowledged or read is gone, though something behind it is there |
//! | `unseen` | what was acknowledged or read is gone, and the log ends before it |
//! | `duplicate` | one record in two places |
//! | `inconsistent-offsets` | two records in one place |
//! | `G1a` | a record of a send that failed |
//! | `precommitted-read` | a record at or behind the high watermark (or the last stable offset) that the same answer tells |
//! | `poll-skip` | a poll begins behind where the last one ended |
//! | `nonmonotonic-poll` | a poll begins before where the last one ended |
//! | `int-poll-skip` | a gap within one poll |
//! | `int-nonmonotonic-poll` | offsets that don't rise within one poll |
//! | `nonmonotonic-send` | a producer's later batch has the lower offset |
//! | `int-send-skip` | records of one batch are not neighbours in the log |
//! | `real-time` | what was acknowledged before another send began has the higher offset |
//! | `stale-watermark` | an answer knows less of the log than somebody was told before the question |
//! | `deleted-read` | records that were deleted are served |
//! | `late-poll` | nothing was wrong, and records that were there came late |
//! | `two-owners` | two members of a group own a partition in one generation |
//! | `generation-back` | a member is told an older generation than before |
//! | `stale-commit` | a group accepts a commit of a member whose partition it had given to another one |
//! | `committed-back` | a group has committed less than it had before |
//! | `not-owned` | a member is given records of a partition that is not its own |
//! | `unprocessed` | no member of a group was given a record, though one was given what lies behind it |
//! | `lost-membership` | nothing was wrong, and a member that polls is taken for gone |
//! | `late-rebalance` | nothing was wrong, and somebody waited long to become a member |
//! | `bounds` | a log start above the high watermark |
//! | `panic`, `livelock` | noted by the run: it panicked, or went round in circles |
//! | `corrupt-read`, `fenced-member`, `served-bytes`, `broken-promise`, `unexpected-error`, `late-answer`, `producer-state` | noted by the clients themselves |
//!
//! Invariants
//! - Each is a pure function of the history, and knows nothing of any bug.
//! - In a cluster with faults, a poll may be answered by who leads no more: `stale-watermark` and `deleted-read` are not held
//!   against it.
//! - Offsets are dense: nothing is compacted yet, and nothing but `DeleteRecords` moves a log's start.
//!
//! Not here: the inside of the broker ([`crate::inside`]), liveness ([`mod@crate::run`]). Read `facts` next.

mod deleted;
mod facts;
mod groups;
mod loss;
mod places;
mod polls;
mod sends;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_groups;
mod times;

use core::fmt;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::facts::Facts;
use crate::{
    history::{BAD_CHECKSUM, History, LogIndex, What},
    plan::Loss,
};

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Violation {
    /// Which check failed.
    pub checker: String,
    /// What is wrong, and where.
    pub message: String,
    /// The operations that show it, by their place in the history.
    pub ops: Vec<usize>,
    /// The log that it is about, if it is one.
    pub log: Option<u32>,
    /// When it showed, in nanoseconds since the run began; none if only the whole run shows it.
    #[serde(default)]
    pub at: Option<u64>,
}

impl Violation {
    /// One that is about no operation.
    #[must_use]
    pub fn new(checker: &str, message: impl Into<String>) -> Self {
        Self { checker: checker.to_owned(), message: message.into(), ops: Vec::new(), log: None, at: None }
    }

    /// The same, seen at that moment.
    #[must_use]
    pub fn seen_at(mut self, at: u64) -> Self {
        self.at = Some(at);
        self
    }

    /// One about a log, shown by these operations.
    fn of(checker: &str, log: LogIndex, ops: &[usize], message: String) -> Self {
        Self { checker: checker.to_owned(), message, ops: ops.to_vec(), log: Some(log.0), at: None }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.message)
    }
}

type Checker = fn(&Facts<'_>) -> Vec<Violation>;

/// In the order in which they are told: what says most comes first.
const CHECKERS: &[Checker] = &[
    strange,
    places::inconsistent_offsets,
    places::duplicate,
    places::failed_reads,
    loss::lost_writes,
    polls::within,
    polls::between,
    polls::precommitted,
    sends::nonmonotonic,
    sends::skips,
    times::real_time,
    times::stale_watermarks,
    times::late_polls,
    deleted::reads,
    groups::owners,
    groups::stale_commits,
    groups::committed_back,
    groups::polls,
    groups::unprocessed,
    groups::memberships,
];

/// What may follow from a loss: if the loss is allowed, these are.
const FOLLOW_FROM_LOSS: &[&str] = &[
    "lost-write",
    "unseen",
    "duplicate",
    "inconsistent-offsets",
    "poll-skip",
    "nonmonotonic-poll",
    "nonmonotonic-send",
    "int-send-skip",
    "real-time",
    "stale-watermark",
    "deleted-read",
    "two-owners",
    "generation-back",
    "stale-commit",
    "committed-back",
    "unprocessed",
];

/// What may follow from bits of a batch's offset that flip after the batch was checked: nobody sees it before it is checked again,
/// and then it is reported.
const FOLLOW_FROM_ROT: &[&str] = &["int-poll-skip", "int-nonmonotonic-poll", "precommitted-read"];

/// What tells that records are lost. Whoever is only sent around, or is not answered, is told nothing.
const REPORTS: &[&str] = &["KAFKA_STORAGE_ERROR", "UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_ID", BAD_CHECKSUM];

/// All violations in a history that `loss` does not allow, those that say most first.
#[must_use]
pub fn check(history: &History, loss: Loss) -> Vec<Violation> {
    let facts = Facts::new(history);
    let reported = reported(history);
    let is_allowed = |violation: &Violation| {
        let checker = violation.checker.as_str();
        let is_reported = violation.log.is_some_and(|log| reported.contains(&log));
        match loss {
            Loss::None => false,
            Loss::Silent if FOLLOW_FROM_LOSS.contains(&checker) => true,
            Loss::Reported | Loss::Silent => {
                is_reported && (FOLLOW_FROM_LOSS.contains(&checker) || FOLLOW_FROM_ROT.contains(&checker))
            }
        }
    };
    let violations = CHECKERS.iter().flat_map(|check| check(&facts)).filter(|violation| !is_allowed(violation));
    violations
        .map(|violation| Violation { at: violation.at.or_else(|| shown(history, &violation)), ..violation })
        .collect()
}

/// When the last of the operations that show it had its answer.
fn shown(history: &History, violation: &Violation) -> Option<u64> {
    let ops = violation.ops.iter().map(|op| &history.ops[*op]);
    ops.map(|op| op.completed.unwrap_or(op.invoked)).max()
}

/// Logs of which clients were told, whenever they could not be read, that something is wrong with them, or that the topic is unknown.
fn reported(history: &History) -> BTreeSet<u32> {
    let (mut reported, mut untold) = (BTreeSet::new(), BTreeSet::new());
    for op in &history.ops {
        match &op.what {
            What::Unreadable { log, why, .. } => {
                let is_told = REPORTS.contains(&why.as_str());
                if is_told { &mut reported } else { &mut untold }.insert(log.0);
            }
            What::Topics { ids } => {
                let logs = (0..).zip(&history.logs);
                reported.extend(logs.filter(|(_, log)| !ids.contains(&log.id)).map(|(index, _)| index));
            }
            _ => {}
        }
    }
    reported.retain(|log| !untold.contains(log));
    reported
}

/// What clients noted themselves.
fn strange(facts: &Facts<'_>) -> Vec<Violation> {
    let ops = facts.history.ops.iter().enumerate();
    let strange = ops.filter_map(|(index, op)| match &op.what {
        What::Strange { checker, detail } => Some(Violation {
            checker: checker.clone(),
            message: format!("client {}: {detail}", op.client),
            ops: vec![index],
            log: None,
            at: Some(op.invoked),
        }),
        _ => None,
    });
    strange.collect()
}
