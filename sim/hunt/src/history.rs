//! What clients asked and were told, in the order of asking: all that the checkers of [`crate::check`] look at.
//!
//! Invariants
//! - An operation is noted when it is invoked and completed once at most. One that never completes may or may not have taken
//!   place, like one that ended in [`Outcome::Info`].
//! - A [`Value`] is sent once in a run, to one log.
//! - Times are the run's own, in nanoseconds: they can be compared between clients.
//!
//! Not here: what is right and what is wrong ([`crate::check`]).

use core::fmt;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::workload::AUDITOR;

/// Names a record for good: the client that sent it, and its number among all that this client sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Value {
    /// Who sent it.
    pub client: u32,
    /// Which of its records it is, from 0.
    pub number: u32,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.client, self.number)
    }
}

/// A partition of one life of a topic: a topic that was deleted and made again is another one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogName {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub id: String,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A log's place in [`History::logs`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LogIndex(pub u32);

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took place.
    Ok,
    /// It did not take place.
    Fail,
    /// Nobody knows.
    Info,
}

/// A record where somebody found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Where.
    pub offset: i64,
    /// Which.
    pub value: Value,
}

/// What was asked, and, where it completed, what the answer was.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A batch was produced.
    Send {
        /// Where to.
        log: LogIndex,
        /// Its records.
        values: Vec<Value>,
        /// Where the first of them was said to be.
        base_offset: Option<i64>,
    },
    /// A consumer fetched, from where its last poll or seek had left it.
    Poll {
        /// Which log.
        log: LogIndex,
        /// The first offset wanted.
        from: i64,
        /// What came of that offset and later ones.
        records: Vec<Found>,
        /// Where the consumer stands now, by its own word; -1 if it does not know.
        stands: i64,
        /// As told; -1 if the answer may be older than the question, which the Rust client's consumers let happen.
        high_watermark: i64,
        /// As told.
        last_stable: i64,
        /// As told; -1 where the version does not tell.
        log_start: i64,
    },
    /// A consumer went elsewhere.
    Seek {
        /// Which log.
        log: LogIndex,
        /// Where it stands now.
        to: i64,
    },
    /// When nobody wrote any more, all of a log was read.
    Audit {
        /// Which log.
        log: LogIndex,
        /// Its first offset, as told.
        start: i64,
        /// Its end, as told.
        end: i64,
        /// All that was there.
        records: Vec<Found>,
    },
    /// When nobody wrote any more, a part of a log could not be read.
    Unreadable {
        /// Which log.
        log: LogIndex,
        /// From which offset on.
        from: i64,
        /// What the broker said: the name of Kafka's error, or [`BAD_CHECKSUM`].
        why: String,
    },
    /// Records below an offset were deleted.
    DeleteRecords {
        /// Which log.
        log: LogIndex,
        /// Up to, and without, this offset; all there are if -1.
        to: i64,
        /// The new first offset, as told.
        low_watermark: Option<i64>,
    },
    /// A topic was made.
    CreateTopic {
        /// Its name.
        topic: String,
    },
    /// A topic was deleted, with all its logs.
    DeleteTopic {
        /// Its name.
        topic: String,
        /// Its id.
        id: String,
    },
    /// When nobody wrote any more, these topics were there.
    Topics {
        /// Their ids.
        ids: Vec<String>,
    },
    /// A client wants to be a member of a group, and is one.
    Join {
        /// The group.
        group: String,
    },
    /// A member of a group is told that a partition is its own.
    Given {
        /// Which log.
        log: LogIndex,
        /// The group.
        group: String,
        /// The member's generation, or epoch; -1 if it is not sure.
        generation: i32,
        /// What the group has committed, from where the member reads on; -1 if there is nothing, and it reads from the start.
        committed: i64,
    },
    /// A member of a group is told that a partition is its own no more.
    Taken {
        /// Which log.
        log: LogIndex,
        /// The group.
        group: String,
        /// Whether it was not asked before.
        is_lost: bool,
        /// How long it had not polled, nanoseconds.
        idle: u64,
        /// How long it may be silent at least without being taken for gone, nanoseconds.
        patience: u64,
    },
    /// A member of a group polled records of a partition.
    Take {
        /// Which log.
        log: LogIndex,
        /// The group.
        group: String,
        /// The member's generation, or epoch; -1 if it is not sure.
        generation: i32,
        /// What came.
        records: Vec<Found>,
    },
    /// A member of a group committed offsets.
    Commit {
        /// The group.
        group: String,
        /// The member's generation, or epoch, as it knew it.
        generation: i32,
        /// The offsets.
        offsets: Vec<(LogIndex, i64)>,
    },
    /// A member of a group asked what the group has committed.
    Committed {
        /// The group.
        group: String,
        /// What was asked for, and the offsets, as told; -1 where there is none.
        offsets: Vec<(LogIndex, i64)>,
    },
    /// A client met something that must not be, whatever happens to the broker.
    Strange {
        /// The check that it fails.
        checker: String,
        /// What it was.
        detail: String,
    },
}

impl What {
    /// The log that it is about, if it is one.
    #[must_use]
    pub const fn log(&self) -> Option<LogIndex> {
        match self {
            Self::Send { log, .. }
            | Self::Poll { log, .. }
            | Self::Seek { log, .. }
            | Self::Audit { log, .. }
            | Self::Unreadable { log, .. }
            | Self::Given { log, .. }
            | Self::Taken { log, .. }
            | Self::Take { log, .. }
            | Self::DeleteRecords { log, .. } => Some(*log),
            Self::CreateTopic { .. }
            | Self::DeleteTopic { .. }
            | Self::Topics { .. }
            | Self::Join { .. }
            | Self::Commit { .. }
            | Self::Committed { .. }
            | Self::Strange { .. } => None,
        }
    }
}

/// Why a log can't be read of which the broker serves bytes that are damaged, and can be seen to be.
pub const BAD_CHECKSUM: &str = "a batch fails its checksum";

/// One operation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Op {
    /// Who asked.
    pub client: u32,
    /// When.
    pub invoked: u64,
    /// When it had its answer.
    pub completed: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it was.
    pub what: What,
}

impl Op {
    /// Whether it is known to have taken place.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok && self.completed.is_some()
    }
}

/// All operations of a run, in the order in which they were invoked.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct History {
    /// The logs.
    pub logs: Vec<LogName>,
    /// The operations.
    pub ops: Vec<Op>,
    /// Clients whose records carry no sequence numbers and are sent again all the same: they may be there twice, and overtake.
    #[serde(default)]
    pub loose: BTreeSet<u32>,
    /// Whether it is a cluster's: then a leader that was replaced, and does not know it yet, may answer with what it knew, and a new one
    /// learns only later how far the one before had committed.
    #[serde(default)]
    pub is_cluster: bool,
    /// From this moment on nothing was wrong with machines, disks or network; none if there was no such moment.
    pub quiet_from: Option<u64>,
}

impl History {
    /// A log's place, which it is given if it has none.
    pub fn log(&mut self, topic: &str, id: &str, partition: i32) -> LogIndex {
        let is_it = |log: &LogName| log.partition == partition && log.id == id && log.topic == topic;
        let index = self.logs.iter().position(is_it).unwrap_or_else(|| {
            self.logs.push(LogName { topic: topic.to_owned(), id: id.to_owned(), partition });
            self.logs.len() - 1
        });
        LogIndex(u32::try_from(index).expect("a run has few logs"))
    }

    /// Whether an answer to what was asked then may be a former leader's, or one that has only just begun to lead.
    #[must_use]
    pub fn may_be_stale(&self, asked: u64) -> bool {
        self.is_cluster && self.quiet_from.is_none_or(|quiet| asked < quiet)
    }

    /// A log's name.
    ///
    /// # Panics
    /// If the history has no such log.
    #[must_use]
    pub fn name(&self, log: LogIndex) -> &LogName {
        &self.logs[log.0 as usize]
    }

    /// One line about an operation, for people.
    #[must_use]
    pub fn tell(&self, index: usize) -> String {
        let Op { client, invoked, completed, outcome, what } = &self.ops[index];
        let seconds = |nanos: u64| format!("{}.{:06}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000);
        let end = completed.map_or_else(|| "?".to_owned(), seconds);
        let outcome = if completed.is_some() { format!("{outcome:?}").to_lowercase() } else { "unanswered".to_owned() };
        let who = if *client == AUDITOR { "auditor".to_owned() } else { format!("client {client}") };
        format!("{}..{end} {who} {} -> {outcome}", seconds(*invoked), self.tell_what(what))
    }

    fn tell_what(&self, what: &What) -> String {
        let values = |values: &[Value]| match values {
            [] => "nothing".to_owned(),
            [one] => one.to_string(),
            [first, .., last] => format!("{first}..{last} ({} records)", values.len()),
        };
        let found = |records: &[Found]| match records {
            [] => "nothing".to_owned(),
            [one] => format!("{}@{}", one.value, one.offset),
            [first, .., last] => {
                format!("{}@{} .. {}@{} ({})", first.value, first.offset, last.value, last.offset, records.len())
            }
        };
        match what {
            What::Send { log, values: sent, base_offset } => {
                let at = base_offset.map_or_else(String::new, |offset| format!(" at {offset}"));
                format!("send {} {}{at}", self.name(*log), values(sent))
            }
            What::Poll { log, from, records, high_watermark, .. } => {
                format!("poll {} from {from}: {}, high watermark {high_watermark}", self.name(*log), found(records))
            }
            What::Seek { log, to } => format!("seek {} to {to}", self.name(*log)),
            What::Audit { log, start, end, records } => {
                format!("audit {} {start}..{end}: {}", self.name(*log), found(records))
            }
            What::Unreadable { log, from, why } => format!("cannot read {} from {from}: {why}", self.name(*log)),
            What::DeleteRecords { log, to, low_watermark } => {
                format!("delete records of {} below {to}: low watermark {low_watermark:?}", self.name(*log))
            }
            What::CreateTopic { topic } => format!("create topic {topic}"),
            What::DeleteTopic { topic, id } => format!("delete topic {topic} ({id})"),
            What::Topics { ids } => format!("{} topics are there", ids.len()),
            What::Join { group } => format!("join {group}"),
            What::Given { log, group, generation, committed } => {
                format!("{group} gives {} in generation {generation}, committed {committed}", self.name(*log))
            }
            What::Taken { log, group, is_lost, .. } => {
                format!("{group} takes {}{}", self.name(*log), if *is_lost { ", unasked" } else { "" })
            }
            What::Take { log, group, generation, records } => {
                format!("take {} for {group} in generation {generation}: {}", self.name(*log), found(records))
            }
            What::Committed { group, offsets } => {
                let place = |(log, offset): &(LogIndex, i64)| format!("{} {offset}", self.name(*log));
                let offsets: Vec<String> = offsets.iter().map(place).collect();
                format!("{group} has committed {}", offsets.join(", "))
            }
            What::Commit { group, generation, offsets } => {
                let place = |(log, offset): &(LogIndex, i64)| format!("{} {offset}", self.name(*log));
                let offsets: Vec<String> = offsets.iter().map(place).collect();
                format!("commit to {group} in generation {generation}: {}", offsets.join(", "))
            }
            What::Strange { checker, detail } => format!("{checker}: {detail}"),
        }
    }
}

impl What {
    /// A poll that was not answered yet.
    #[must_use]
    pub const fn poll(log: LogIndex, from: i64) -> Self {
        let records = Vec::new();
        Self::Poll { log, from, records, stands: -1, high_watermark: -1, last_stable: -1, log_start: -1 }
    }
}

/// An operation that was noted and may be completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpIndex(pub usize);

/// A history in the making. A clone is the same one.
#[derive(Clone, Default, Debug)]
pub struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    fn with<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A log's place.
    #[must_use]
    pub fn log(&self, topic: &str, id: &str, partition: i32) -> LogIndex {
        self.with(|history| history.log(topic, id, partition))
    }

    /// Notes an operation that begins.
    #[must_use]
    pub fn invoke(&self, client: u32, now: u64, what: What) -> OpIndex {
        self.with(|history| {
            history.ops.push(Op { client, invoked: now, completed: None, outcome: Outcome::Info, what });
            OpIndex(history.ops.len() - 1)
        })
    }

    /// Notes how it ended; `answer` puts what was told into it.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn complete(&self, op: OpIndex, now: u64, outcome: Outcome, answer: impl FnOnce(&mut What)) {
        self.with(|history| {
            let op = &mut history.ops[op.0];
            assert!(op.completed.is_none(), "an operation completes once");
            (op.completed, op.outcome) = (Some(now), outcome);
            answer(&mut op.what);
        });
    }

    /// How many operations of the first `clients` clients have ended with an answer.
    #[must_use]
    pub fn answered(&self, clients: u32) -> usize {
        let is_answered = |op: &&Op| op.client < clients && op.completed.is_some() && op.outcome != Outcome::Info;
        self.with(|history| history.ops.iter().filter(is_answered).count())
    }

    /// Notes something that takes no time.
    pub fn note(&self, client: u32, now: u64, what: What) {
        let op = self.invoke(client, now, what);
        self.complete(op, now, Outcome::Ok, |_| {});
    }

    /// The first operation of this kind that is known to have taken place, looked for backwards.
    #[must_use]
    pub fn last<T>(&self, matches: impl Fn(&Op) -> Option<T>) -> Option<T> {
        self.with(|history| history.ops.iter().rev().find_map(matches))
    }

    /// Notes that nothing is wrong from that moment on.
    pub fn quiet(&self, from: u64) {
        self.with(|history| history.quiet_from = Some(from));
    }

    /// Notes that it is a cluster's history.
    pub fn of_cluster(&self) {
        self.with(|history| history.is_cluster = true);
    }

    /// Notes that a client's records may be there twice.
    pub fn loose(&self, client: u32) {
        self.with(|history| history.loose.insert(client));
    }

    /// Whether nothing is wrong at that moment.
    #[must_use]
    pub fn is_quiet(&self, now: u64) -> bool {
        self.with(|history| history.quiet_from.is_some_and(|from| from <= now))
    }

    /// The history so far.
    #[must_use]
    pub fn take(&self) -> History {
        self.with(core::mem::take)
    }

    /// Operations so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|history| history.ops.len())
    }

    /// Whether nothing was asked yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
