//! Checks over the nodes of a cluster, at each event that product code tells its probes. Each takes constant time.
//!
//! | event | what is checked |
//! |---|---|
//! | `log.appended` | `committed-cut`: nothing that this replica knows to be committed is written anew |
//! | `replica.activated` | `two-leaders`: an epoch has one leader, in one life of it; `leader-completeness`: it begins behind all that was committed |
//! | `replica.high-watermark` | `high-watermark`: in a life of a replica it never goes back; a leader's has as many durable logs up to it as its quorum, and none of a later epoch begins before it |
//! | `quorum.leads` | `metadata-leaders`: an epoch of the metadata has one leader, which begins behind all that was committed |
//! | `quorum.applied` | `metadata-committed`: what is committed of the metadata is the same wherever and whenever it is applied |
//! | `quorum.read` | `metadata-read`: whoever asks for the newest metadata gets all that was committed when it asked |
//! | `broker.committed` | `durable-acknowledgement`: whoever is told of records is told of durable ones, or of committed ones; `high-watermark`: nobody sees more than the replica knows |
//! | `wal.durable` | `durable`: the disk keeps that group whatever becomes of the power |
//! | `broker.quiet` | `memory`: when no connection is left, replies have given back what they took |
//! | `checkpoint.begun`, `checkpoint.done` | `memory`: what is in no segment yet takes no more memory than it may |
//!
//! Invariants
//! - Nothing here is told of any bug that is switched on.
//! - Where an event does not tell enough (a log that is cut, or repaired), more counts as durable, never less.
//!
//! Not here: whole logs, held against each other ([`crate::copies`]); what clients saw ([`crate::check`]).

use std::collections::BTreeMap;

use quipu_sim::ProbeEvent;

use super::{IsDurable, KEPT_MAX, LogId, MEMORY_SLACK, Promised, field, group_of, log_id, still_held};
use crate::check::Violation;

/// What promises and marks of replicas may take beyond what there is for appends: whoever answers an election does not wait for room.
const STEPS_SLACK: i64 = 32 * 1024;

/// What is known of one node's replica.
#[derive(Default)]
struct Replica {
    end: i64,
    durable_end: i64,
    /// Ends of batches that are not durable yet, with their tickets.
    pending: std::collections::VecDeque<(i64, i64)>,
    high_watermark: i64,
    /// What was known to be committed when the log was what the replica takes it for: nothing was on its way to the disk.
    settled: i64,
    /// It is being rebuilt.
    is_faulty: bool,
    /// It was rebuilt in this life: how much of it is durable is not known here.
    was_faulty: bool,
}

/// A node in its present life.
#[derive(Default)]
struct NodeState {
    life: u64,
    /// When it began, in nanoseconds since the world's start.
    opened_at: u64,
    durable_ticket: i64,
    replicas: BTreeMap<LogId, Replica>,
    /// How much of each log was durable in an earlier life: what was acknowledged then counts, though its disk was lost since.
    earlier: BTreeMap<LogId, i64>,
}

/// Who leads in an epoch: node, life, and where the epoch begins.
#[derive(Clone, Copy)]
struct Leader {
    node: u64,
    life: u64,
    start: i64,
}

/// What was committed of a partition.
#[derive(Default)]
struct Partition {
    committed: i64,
    /// The latest epoch that has committed.
    commit_epoch: i64,
    leaders: BTreeMap<i64, Leader>,
}

/// What is known of the metadata.
#[derive(Default)]
struct Metadata {
    committed: i64,
    /// By epoch: node, and the life of it.
    leaders: BTreeMap<i64, (u64, u64)>,
    /// By base offset: end, epoch and checksum.
    applied: BTreeMap<i64, (i64, i64, i64)>,
    /// What was committed when a read was begun, by node and the read's number.
    reads: BTreeMap<(u64, i64), i64>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Nodes {
    metadata: Metadata,
    nodes: BTreeMap<u64, NodeState>,
    partitions: BTreeMap<LogId, Partition>,
    pub(super) violations: Vec<Violation>,
    pub(super) is_copy_due: bool,
}

impl Nodes {
    pub(super) fn see(&mut self, event: &ProbeEvent, is_durable: IsDurable<'_>) {
        match event.name {
            "store.opened" => self.opened(event),
            "log.opened" => {
                let end = field(event, "end");
                *self.replica(event) = Replica { end, durable_end: end, ..Replica::default() };
            }
            "log.appended" => self.appended(event),
            "wal.durable" => self.durable(event, is_durable),
            "replica.opened" => {
                let replica = self.replica(event);
                replica.high_watermark = field(event, "high-watermark");
                replica.settled = replica.high_watermark;
            }
            "replica.durable" => {
                let replica = self.replica(event);
                replica.settled = replica.high_watermark.min(field(event, "high-watermark"));
            }
            "replica.faulty" => self.faulty(event),
            "replica.sound" => {
                let high_watermark = field(event, "high-watermark");
                let replica = self.replica(event);
                (replica.is_faulty, replica.high_watermark, replica.settled) = (false, high_watermark, 0);
                // What it was repaired with is to be on the disk.
                self.is_copy_due = true;
            }
            "quorum.leads" => self.metadata_leads(event),
            "quorum.committed" => {
                self.metadata.committed = self.metadata.committed.max(field(event, "high-watermark"));
            }
            "quorum.applied" => self.metadata_applied(event),
            "quorum.read-begun" => {
                self.metadata.reads.insert((event.node, field(event, "context")), self.metadata.committed);
            }
            "quorum.read" => self.metadata_read(event),
            "replica.activated" => self.activated(event),
            "replica.high-watermark" => self.high_watermark(event),
            "broker.committed" => self.told(event),
            "checkpoint.begun" => self.memory(event),
            // At a stop requests may wait for other nodes.
            "broker.quiet" => {
                still_held(event).into_iter().for_each(|message| self.fail(event, "memory", message));
            }
            "checkpoint.done" => {
                self.is_copy_due = true;
                self.memory(event);
            }
            _ => {}
        }
    }

    /// Up to where what a node holds of each log must not change any more.
    pub(super) fn promised(&self, node: u64) -> Promised {
        let replicas = self.nodes.get(&node).into_iter().flat_map(|state| &state.replicas);
        replicas.filter(|(_, replica)| !replica.is_faulty).map(|(id, replica)| (*id, replica.settled)).collect()
    }

    /// When a node's broker last opened its data directory, in nanoseconds since the world's start.
    pub(super) fn opened_at(&self, node: u64) -> u64 {
        self.nodes.get(&node).map_or(0, |state| state.opened_at)
    }

    /// Whoever does not know yet of all that was committed of a partition, which it holds: nodes by partition.
    pub(super) fn behind<'a>(&self, holders: impl Iterator<Item = (LogId, &'a [u64])>) -> Option<String> {
        for (id, nodes) in holders {
            let committed = self.partitions.get(&id).map_or(0, |partition| partition.committed);
            for node in nodes {
                let known = self.nodes.get(node).and_then(|state| state.replicas.get(&id));
                let known = known.map_or(0, |replica| replica.high_watermark);
                if known != committed {
                    return Some(format!("log {id:x?}: {committed} is committed, and machine {node} knows of {known}"));
                }
            }
        }
        None
    }

    fn fail(&mut self, event: &ProbeEvent, checker: &str, message: String) {
        if self.violations.len() < KEPT_MAX {
            let seconds = event.at as f64 / 1e9;
            let violation = Violation::new(checker, format!("at {seconds:.6} s, machine {}: {message}", event.node));
            self.violations.push(violation.seen_at(event.at));
        }
    }

    fn replica(&mut self, event: &ProbeEvent) -> &mut Replica {
        self.nodes.entry(event.node).or_default().replicas.entry(log_id(event)).or_default()
    }

    fn opened(&mut self, event: &ProbeEvent) {
        let node = self.nodes.entry(event.node).or_default();
        let mut earlier = core::mem::take(&mut node.earlier);
        for (id, replica) in &node.replicas {
            let end = earlier.entry(*id).or_insert(0);
            *end = replica.durable_end.max(*end);
        }
        *node = NodeState { life: node.life + 1, opened_at: event.at, earlier, ..NodeState::default() };
        self.metadata.reads.retain(|(reader, _), _| *reader != event.node);
        self.is_copy_due = true;
    }

    fn appended(&mut self, event: &ProbeEvent) {
        let (base, end, ticket) = (field(event, "base"), field(event, "end"), field(event, "ticket"));
        let replica = self.replica(event);
        // A log that begins anew inside a batch takes that batch whole: it had nothing up to its start.
        let known = if replica.end < replica.settled { 0 } else { replica.settled };
        replica.end = end;
        replica.pending.push_back((ticket, end));
        if base < known && !replica.is_faulty {
            let id = log_id(event);
            let message = format!("log {id:x?}: {base}..{end} is written, and {known} was committed");
            self.fail(event, "committed-cut", message);
        }
    }

    fn durable(&mut self, event: &ProbeEvent, is_durable: IsDurable<'_>) {
        let (path, range) = group_of(event);
        let node = self.nodes.entry(event.node).or_default();
        node.durable_ticket = node.durable_ticket.max(field(event, "ticket"));
        let ticket = node.durable_ticket;
        for replica in node.replicas.values_mut() {
            while replica.pending.front().is_some_and(|(first, _)| *first <= ticket) {
                if let Some((_, end)) = replica.pending.pop_front() {
                    replica.durable_end = end;
                }
            }
        }
        if !is_durable(&path, range.clone()) {
            let message = format!("a group was called durable, and {range:?} of {} is not", path.display());
            self.fail(event, "durable", message);
        }
    }

    fn faulty(&mut self, event: &ProbeEvent) {
        let replica = self.replica(event);
        (replica.is_faulty, replica.was_faulty) = (true, true);
    }

    fn activated(&mut self, event: &ProbeEvent) {
        let (epoch, start) = (field(event, "epoch"), field(event, "start"));
        let (id, life) = (log_id(event), self.nodes.entry(event.node).or_default().life);
        let partition = self.partitions.entry(id).or_default();
        let (committed, commit_epoch) = (partition.committed, partition.commit_epoch);
        let before = partition.leaders.insert(epoch, Leader { node: event.node, life, start });
        if let Some(Leader { node, life: other, .. }) = before
            && (node, other) != (event.node, life)
        {
            let message = format!("log {id:x?}: epoch {epoch} has a leader already, machine {node}");
            self.fail(event, "two-leaders", message);
        }
        // Who leads in an epoch that is over commits nothing any more.
        if epoch > commit_epoch && start < committed {
            let message = format!("log {id:x?}: epoch {epoch} begins at {start}, and {committed} was committed");
            self.fail(event, "leader-completeness", message);
        }
    }

    fn metadata_leads(&mut self, event: &ProbeEvent) {
        let (epoch, start) = (field(event, "epoch"), field(event, "start"));
        let leader = (event.node, self.nodes.entry(event.node).or_default().life);
        let before = self.metadata.leaders.insert(epoch, leader);
        if let Some(before) = before.filter(|before| *before != leader) {
            let message = format!("epoch {epoch} of the metadata has a leader already, machine {}", before.0);
            self.fail(event, "metadata-leaders", message);
        }
        let committed = self.metadata.committed;
        let is_latest = self.metadata.leaders.last_key_value().is_some_and(|(latest, _)| *latest == epoch);
        if start < committed && is_latest {
            let message = format!("epoch {epoch} of the metadata begins at {start}, and {committed} was committed");
            self.fail(event, "metadata-leaders", message);
        }
    }

    fn metadata_applied(&mut self, event: &ProbeEvent) {
        let base = field(event, "base");
        let entry = (field(event, "end"), field(event, "epoch"), field(event, "crc"));
        let before = *self.metadata.applied.entry(base).or_insert(entry);
        if before != entry {
            let message = format!("the metadata's entry at {base} is {entry:?}, and {before:?} was committed");
            self.fail(event, "metadata-committed", message);
        }
    }

    fn metadata_read(&mut self, event: &ProbeEvent) {
        let (context, offset) = (field(event, "context"), field(event, "offset"));
        let committed = self.metadata.reads.remove(&(event.node, context)).unwrap_or(0);
        if offset < committed {
            let message = format!("the metadata is read up to {offset}, and {committed} was committed before");
            self.fail(event, "metadata-read", message);
        }
    }

    fn high_watermark(&mut self, event: &ProbeEvent) {
        let high_watermark = field(event, "high-watermark");
        let id = log_id(event);
        let replica = self.replica(event);
        let before = replica.high_watermark;
        replica.high_watermark = high_watermark;
        if field(event, "idle") == 1 {
            replica.settled = high_watermark;
        }
        let is_faulty = replica.is_faulty;
        if high_watermark < before && !is_faulty {
            self.fail(event, "high-watermark", format!("log {id:x?}: it is {high_watermark}, and was {before}"));
        }
        if field(event, "leads") == 1 {
            self.committed(event, id, high_watermark);
        }
    }

    /// A leader says that it is committed up to there.
    fn committed(&mut self, event: &ProbeEvent, id: LogId, high_watermark: i64) {
        let (epoch, quorum) = (field(event, "epoch"), field(event, "quorum"));
        let holds = |node: &&NodeState| {
            let holds_now = |replica: &Replica| replica.was_faulty || replica.durable_end >= high_watermark;
            node.replicas.get(&id).is_some_and(holds_now)
                || node.earlier.get(&id).is_some_and(|end| *end >= high_watermark)
        };
        let count = i64::try_from(self.nodes.values().filter(holds).count()).unwrap_or(i64::MAX);
        let partition = self.partitions.entry(id).or_default();
        let later = partition.leaders.range(epoch + 1..).find(|(_, later)| later.start < high_watermark);
        let later = later.map(|(later, leader)| (*later, leader.start));
        if high_watermark > partition.committed {
            partition.committed = high_watermark;
            partition.commit_epoch = partition.commit_epoch.max(epoch);
        }
        if count < quorum {
            let message = format!("log {id:x?}: {high_watermark} is committed, durable on {count} nodes, not {quorum}");
            self.fail(event, "quorum", message);
        }
        if let Some((later, start)) = later {
            let message = format!(
                "log {id:x?}: {high_watermark} is committed in epoch {epoch}, and epoch {later} has begun at {start}"
            );
            self.fail(event, "leader-completeness", message);
        }
    }

    fn told(&mut self, event: &ProbeEvent) {
        let (shown, told) = (field(event, "high-watermark"), field(event, "told"));
        let id = log_id(event);
        let replica = self.replica(event);
        let (durable_end, known) = (replica.durable_end, replica.high_watermark);
        if told > durable_end.max(known) {
            let message =
                format!("log {id:x?}: a producer is told of {told}; {durable_end} is durable, {known} committed");
            self.fail(event, "durable-acknowledgement", message);
        }
        if shown > known {
            let message = format!("log {id:x?}: {shown} is shown as committed, and {known} is");
            self.fail(event, "high-watermark", message);
        }
    }

    fn memory(&mut self, event: &ProbeEvent) {
        let (used, limit) = (field(event, "tail"), field(event, "tail-limit"));
        if used > limit + MEMORY_SLACK + STEPS_SLACK {
            self.fail(event, "memory", format!("what is in no segment takes {used} bytes of {limit}"));
        }
    }
}

#[cfg(test)]
mod tests;
