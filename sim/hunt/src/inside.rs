//! Checks of the broker's inside, at each event that product code tells its probes. Each takes constant time.
//!
//! | event | what is checked |
//! |---|---|
//! | `store.opened` | - (another life of the broker begins: what only memory held is gone) |
//! | `log.opened` | `log-end`: a log holds at least what was released; `bounds`: it begins nowhere behind its end |
//! | `log.appended` | `dense-offsets`: a batch begins where the log ends, and where nothing was released before; tickets never fall |
//! | `log.start` | `bounds`: a log starts nowhere behind its end |
//! | `wal.durable` | `durable`: the disk keeps that group whatever becomes of the power |
//! | `broker.released` | `durable-acknowledgement`: what a reply tells of is durable when it leaves |
//! | `broker.committed` | `durable-acknowledgement`: so is what it tells each producer of, an original that is sent again included |
//! | `broker.committed` | `high-watermark`: it never goes back, lies within the log, and only durable batches are below it |
//! | `checkpoint.begun`, `checkpoint.done` | `memory`: what is in no segment yet takes no more memory than it may |
//! | `broker.quiet`, `broker.stopped` | `memory`: when no connection is left, replies have given back what they took; at a stop, requests as well |
//!
//! After a start and its first groups, after each checkpoint and at one event in a thousand a whole-log comparison is due ([`crate::copies`]).
//!
//! Invariant: nothing here is told of any bug that is switched on, and nothing in the product asks what came of it.
//!
//! Not here: what clients saw ([`crate::check`]); the comparisons themselves; the nodes of a cluster, where other rules hold
//! ([`nodes`]).

mod nodes;

use core::{ops::Range, time::Duration};
use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quipu_sim::{Node, ProbeEvent, World};
use tokio::sync::Notify;

use self::nodes::Nodes;
use crate::{check::Violation, plan::DATA_DIR};

/// Violations of one kind that are kept: one bug is told a thousand times.
const KEPT_MAX: usize = 20;

/// So many events, and a whole-log comparison is due.
const COPY_EVERY: u64 = 1000;
/// After a start a comparison is due at each of so many groups: what an earlier life has left lies right behind them.
const COPIES_OF_BEGINNINGS: u64 = 2;
/// Memory that deletions may take beyond what there is for appends: they free some.
const MEMORY_SLACK: i64 = 16 * 1024;

/// A partition, by the end of its topic's id and its number.
pub(crate) type LogId = (i64, i64);

/// Asks the disk whether it keeps these bytes of a file whatever becomes of the power.
type IsDurable<'a> = &'a dyn Fn(&Path, Range<u64>) -> bool;

/// What was released of each log: below these offsets everything is promised.
pub(crate) type Promised = BTreeMap<LogId, i64>;

/// What is known of a log.
#[derive(Default)]
struct Log {
    end: i64,
    high_watermark: i64,
    /// Durable up to here, by acknowledged groups.
    durable_end: i64,
    /// Ends of batches that are not durable yet, with their tickets.
    pending: VecDeque<(i64, i64)>,
    /// Below this everything was released by some life: no later one may have less.
    released_end: i64,
}

impl Log {
    fn become_durable(&mut self, ticket: i64) {
        while let Some((first, end)) = self.pending.front().copied() {
            if first > ticket {
                break;
            }
            self.durable_end = end;
            self.pending.pop_front();
        }
    }
}

/// See the module.
#[derive(Default)]
struct Inside {
    logs: BTreeMap<LogId, Log>,
    /// The last ticket given, and the last durable one.
    last_ticket: i64,
    durable_ticket: i64,
    /// What is durable in the write-ahead log is proven by a later group, and nothing else is under way.
    is_proven: bool,
    violations: Vec<Violation>,
    events: u64,
    /// Groups of the write-ahead log that this life of the broker has made durable.
    groups: u64,
    /// A whole-log comparison is due.
    is_copy_due: bool,
}

/// What the checks found. A clone is the same.
#[derive(Clone)]
pub(crate) struct Findings {
    inside: Arc<Mutex<Inside>>,
    /// Of a cluster.
    nodes: Option<Arc<Mutex<Nodes>>>,
    /// Told when a whole-log comparison is due.
    due: Arc<Notify>,
    /// On which machine something has just happened for which it is.
    due_on: Arc<Mutex<Option<u64>>>,
}

impl Findings {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }

    /// Whether a later group proves everything in the write-ahead log: then damage to it is never taken for a torn write.
    pub(crate) fn is_wal_proven(&self) -> bool {
        self.inside().is_proven
    }

    /// Waits until a whole-log comparison is due. Answers on which machine, if it matters.
    pub(crate) async fn copy_due(&self) -> Option<u64> {
        self.due.notified().await;
        lock(&self.due_on).take()
    }

    /// What a copy of a node's disk must hold now; in a cluster, up to where what it holds of each log must not change any more.
    pub(crate) fn promised(&self, node: &Node) -> Promised {
        match &self.nodes {
            Some(nodes) => lock(nodes).promised(node.number() as u64),
            None => self.inside().logs.iter().map(|(id, log)| (*id, log.released_end)).collect(),
        }
    }

    /// When the broker of a node of a cluster last opened its data directory.
    pub(crate) fn opened(&self, node: &Node) -> Duration {
        let opened = self.nodes.as_ref().map(|nodes| lock(nodes).opened_at(node.number() as u64));
        Duration::from_nanos(opened.unwrap_or(0))
    }

    /// Of a cluster: who does not know yet of all that was committed of a log that it holds; `holders` are machines by log.
    pub(crate) fn behind(&self, holders: &BTreeMap<LogId, Vec<u64>>) -> Option<String> {
        let nodes = self.nodes.as_ref()?;
        lock(nodes).behind(holders.iter().map(|(id, nodes)| (*id, nodes.as_slice())))
    }

    /// What was found, first first.
    pub(crate) fn take(&self) -> Vec<Violation> {
        let of_nodes = self.nodes.as_ref().map(|nodes| core::mem::take(&mut lock(nodes).violations));
        of_nodes.unwrap_or_else(|| core::mem::take(&mut self.inside().violations))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks every event of a world's brokers from now on.
pub(crate) fn watch<'a>(world: &World, brokers: impl Iterator<Item = &'a Node>) -> Findings {
    let brokers: BTreeMap<u64, Node> = brokers.map(|node| (node.number() as u64, node.clone())).collect();
    let nodes = (brokers.len() > 1).then(Arc::default);
    let findings = Findings { inside: Arc::default(), nodes, due: Arc::default(), due_on: Arc::default() };
    let watching = findings.clone();
    world.on_event(move |event| {
        let Some(broker) = brokers.get(&event.node) else { return };
        let is_durable: IsDurable<'_> = &|path, range| broker.is_durable(path, range);
        let mut inside = watching.inside();
        let is_due = if let Some(nodes) = &watching.nodes {
            let mut nodes = lock(nodes);
            nodes.see(event, is_durable);
            inside.count();
            core::mem::take(&mut nodes.is_copy_due)
        } else {
            inside.see(event, is_durable);
            false
        };
        if is_due {
            *lock(&watching.due_on) = Some(event.node);
        }
        if core::mem::take(&mut inside.is_copy_due) || is_due {
            watching.due.notify_one();
        }
    });
    findings
}

/// Where a group lies that is called durable.
fn group_of(event: &ProbeEvent) -> (PathBuf, Range<u64>) {
    let [file, position, length] = ["file", "position", "length"].map(|name| field(event, name));
    let path = Path::new(DATA_DIR).join("wal").join(format!("{file:04}"));
    (path, position.unsigned_abs()..(position + length).unsigned_abs())
}

fn field(event: &ProbeEvent, name: &str) -> i64 {
    let found = event.fields.iter().find(|(field, _)| *field == name);
    found.unwrap_or_else(|| panic!("the event {} has no field {name}", event.name)).1
}

fn log_id(event: &ProbeEvent) -> LogId {
    (field(event, "topic"), field(event, "partition"))
}

/// What a broker holds of its budgets that has stopped, or has no connection any more.
fn still_held(event: &ProbeEvent) -> Vec<String> {
    let who = if event.name == "broker.quiet" { "without a connection" } else { "that has stopped" };
    let held = event.fields.iter().filter(|(_, taken)| *taken != 0);
    held.map(|(budget, taken)| format!("a broker {who} still holds {taken} bytes of its {budget}")).collect()
}

impl Inside {
    fn count(&mut self) {
        self.events += 1;
        self.is_copy_due |= self.events.is_multiple_of(COPY_EVERY);
    }

    fn see(&mut self, event: &ProbeEvent, is_durable: IsDurable<'_>) {
        self.count();
        match event.name {
            "store.opened" => self.opened(),
            "log.opened" => self.log_opened(event),
            "log.appended" => self.appended(event),
            "log.start" => self.start_moved(event),
            "wal.durable" => self.durable(event, is_durable),
            "broker.released" => self.released(event),
            "broker.committed" => self.committed(event),
            "checkpoint.begun" => self.memory(event),
            "broker.quiet" | "broker.stopped" => {
                still_held(event).into_iter().for_each(|message| self.fail(event, "memory", message));
            }
            "checkpoint.done" => {
                self.is_copy_due = true;
                self.memory(event);
            }
            _ => {}
        }
    }

    fn fail(&mut self, event: &ProbeEvent, checker: &str, message: String) {
        if self.violations.len() < KEPT_MAX {
            let seconds = event.at as f64 / 1e9;
            let violation = Violation::new(checker, format!("at {seconds:.6} s: {message}"));
            self.violations.push(violation.seen_at(event.at));
        }
    }

    fn opened(&mut self) {
        (self.last_ticket, self.durable_ticket) = (0, 0);
        self.is_proven = false;
        self.is_copy_due = true;
        self.groups = 0;
        // A log that is not found again is empty; what it must have is told when something is appended to it, or by clients.
        for log in self.logs.values_mut() {
            let released_end = log.released_end;
            *log = Log { released_end, ..Log::default() };
        }
    }

    fn log_opened(&mut self, event: &ProbeEvent) {
        let (start, end) = (field(event, "start"), field(event, "end"));
        let id = log_id(event);
        let log = self.logs.entry(id).or_default();
        let released_end = log.released_end;
        *log = Log {
            end,
            high_watermark: end,
            durable_end: end,
            pending: VecDeque::new(),
            released_end: released_end.max(end),
        };
        if end < released_end {
            self.fail(event, "log-end", format!("log {id:x?} ends at {end}, and {released_end} was released before"));
        }
        if start > end {
            self.fail(event, "bounds", format!("log {id:x?} is {start}..{end}"));
        }
    }

    fn appended(&mut self, event: &ProbeEvent) {
        let (base, end, ticket) = (field(event, "base"), field(event, "end"), field(event, "ticket"));
        let id = log_id(event);
        let log = self.logs.entry(id).or_default();
        let (expected, released_end) = (log.end, log.released_end);
        log.end = end;
        log.pending.push_back((ticket, end));
        let last = core::mem::replace(&mut self.last_ticket, ticket);
        self.is_proven = false;
        if base != expected || end <= base {
            self.fail(event, "dense-offsets", format!("log {id:x?} ends at {expected}, and {base}..{end} is appended"));
        }
        if base < released_end {
            self.fail(
                event,
                "dense-offsets",
                format!("log {id:x?}: {base} is given again, {released_end} was released"),
            );
        }
        // What becomes durable together has one ticket.
        if ticket < last {
            self.fail(event, "dense-offsets", format!("log {id:x?}: ticket {ticket} follows {last}"));
        }
    }

    fn start_moved(&mut self, event: &ProbeEvent) {
        self.is_proven = false;
        let (start, end) = (field(event, "start"), field(event, "end"));
        let id = log_id(event);
        let log = self.logs.entry(id).or_default();
        // Where it is between two answers, nobody is told; it may be as far as what is durable.
        let high_watermark = log.high_watermark.max(log.durable_end);
        // Not durable yet: after a crash it may be where it was.
        if start > high_watermark || start > end {
            self.fail(
                event,
                "bounds",
                format!("log {id:x?} starts at {start} with {high_watermark} committed of {end}"),
            );
        }
    }

    fn durable(&mut self, event: &ProbeEvent, is_durable: IsDurable<'_>) {
        let (path, range) = group_of(event);
        let is_empty = field(event, "ticket") == 0;
        self.groups += 1;
        self.is_copy_due |= self.groups <= COPIES_OF_BEGINNINGS;
        self.durable_ticket = self.durable_ticket.max(field(event, "ticket"));
        // The writer has formed it while nothing was under way.
        self.is_proven = is_empty && self.last_ticket <= self.durable_ticket;
        let ticket = self.durable_ticket;
        self.logs.values_mut().for_each(|log| log.become_durable(ticket));
        if !is_durable(&path, range.clone()) {
            let message = format!("a group was called durable, and {range:?} of {} is not", path.display());
            self.fail(event, "durable", message);
        }
    }

    fn memory(&mut self, event: &ProbeEvent) {
        let (used, limit) = (field(event, "tail"), field(event, "tail-limit"));
        if used > limit + MEMORY_SLACK {
            self.fail(event, "memory", format!("what is in no segment takes {used} bytes of {limit}"));
        }
    }

    fn released(&mut self, event: &ProbeEvent) {
        let ticket = field(event, "ticket");
        let durable = self.durable_ticket;
        if ticket > durable {
            let message = format!("a reply leaves that tells of ticket {ticket}, and only {durable} is durable");
            self.fail(event, "durable-acknowledgement", message);
        }
        for log in self.logs.values_mut() {
            log.released_end = log.released_end.max(log.durable_end);
        }
    }

    fn committed(&mut self, event: &ProbeEvent) {
        let (high_watermark, told) = (field(event, "high-watermark"), field(event, "told"));
        let id = log_id(event);
        let log = self.logs.entry(id).or_default();
        let (before, durable_end) = (log.high_watermark, log.durable_end);
        log.high_watermark = high_watermark;
        if told > durable_end {
            let message = format!("log {id:x?}: a producer is told of {told}, and {durable_end} is durable");
            self.fail(event, "durable-acknowledgement", message);
        }
        if high_watermark < before || high_watermark > durable_end {
            let message = format!(
                "log {id:x?}: the high watermark is {high_watermark}, was {before}, and {durable_end} is durable"
            );
            self.fail(event, "high-watermark", message);
        }
    }
}

#[cfg(test)]
mod tests;
