//! The timeline: lanes, and what happened in them.
//!
//! Invariants
//! - `events` are in the order in which they began; of two that began at once, the one that is told first comes first.
//! - Every lane number of an event is one of `lanes`.
//!
//! Not here: how each happening becomes an event (`events`).

use std::collections::{BTreeMap, BTreeSet};

use quipu_sim::Happening;
use serde::Serialize;

use super::events;
use crate::{Outcome, Plan, check::Violation, plan::BROKER, workload::AUDITOR};

/// The lane of what is nobody's own.
pub const WORLD: usize = 0;

/// What sort of event it is: what can be filtered by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A check failed.
    Violation,
    /// What a client asked and was told.
    Operation,
    /// A fault of the plan, or the end of them all.
    Fault,
    /// A fault has bitten.
    FaultHappened,
    /// A process began or ended.
    Process,
    /// An operation of a disk.
    Disk,
    /// Something travelled between two machines.
    Message,
    /// Product code told its probe something.
    Probe,
    /// Product code came to a place marked by `sometimes`.
    Mark,
    /// Product code came to a crash point.
    CrashPoint,
    /// The run had something to say.
    Note,
}

impl Kind {
    /// As in filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Violation => "violation",
            Self::Operation => "operation",
            Self::Fault => "fault",
            Self::FaultHappened => "fault-happened",
            Self::Process => "process",
            Self::Disk => "disk",
            Self::Message => "message",
            Self::Probe => "probe",
            Self::Mark => "mark",
            Self::CrashPoint => "crash-point",
            Self::Note => "note",
        }
    }
}

/// One process of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Life {
    /// When it began, in nanoseconds.
    pub from: u64,
    /// When it ended; none if it outlived the run.
    pub until: Option<u64>,
}

/// A machine, the world, or a voice of the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Its processes, one after the other; none where there are no processes.
    pub lives: Vec<Life>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it began, in nanoseconds since the run began.
    pub at: u64,
    /// When it was over, for what takes time and ended.
    pub until: Option<u64>,
    /// Whose it is.
    pub lane: usize,
    /// Whom it concerns beside: a message's receiver, the machines that a fault strikes, the client that saw a violation.
    pub others: Vec<usize>,
    /// Its sort.
    pub kind: Kind,
    /// What it is called: an operation of a disk, a kind of fault, a check.
    pub name: String,
    /// With which details.
    pub text: String,
    /// How it ended, where that is known only then.
    pub answer: Option<String>,
    /// It did not do what was asked.
    pub has_failed: bool,
    /// Nobody asks for it when all is well.
    pub is_routine: bool,
    /// A violation is shown by it.
    pub is_evidence: bool,
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub struct Timeline {
    /// The world, the machines in the order of their numbers, and lanes of notes.
    pub lanes: Vec<Lane>,
    /// What happened.
    pub events: Vec<Event>,
    /// When the run was over, in nanoseconds.
    pub end: u64,
}

impl Timeline {
    /// Of a run that kept its trace. Without a trace (a run that panicked) only operations and violations are there.
    #[must_use]
    pub fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let end = u64::try_from(outcome.virtual_time.as_nanos()).unwrap_or(u64::MAX);
        let mut making = Making::new(plan, outcome, end);
        let mut seen = events::Seen::new(outcome.happenings.as_deref().unwrap_or_default());
        for happening in outcome.happenings.iter().flatten() {
            if let Some(event) = seen.event(&mut making, happening) {
                making.timeline.events.push(event);
            }
        }
        let evidence: BTreeSet<usize> = outcome.violations.iter().flat_map(|violation| violation.ops.clone()).collect();
        for (index, op) in outcome.history.ops.iter().enumerate() {
            let lane = making.client(op.client);
            let event = events::operation(&outcome.history, op, lane, evidence.contains(&index));
            making.timeline.events.push(event);
        }
        for violation in &outcome.violations {
            let event = making.violation(outcome, violation);
            making.timeline.events.push(event);
        }
        // What a violation is shown by comes before it.
        making.timeline.events.sort_by_key(|event| (event.at, event.kind == Kind::Violation));
        making.timeline
    }

    /// The first violation's event; none if all is well.
    #[must_use]
    pub fn violation(&self) -> Option<&Event> {
        self.events.iter().find(|event| event.kind == Kind::Violation)
    }

    /// The number of a lane.
    #[must_use]
    pub fn lane(&self, name: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.name == name)
    }
}

/// A timeline in the making.
pub(super) struct Making {
    pub(super) timeline: Timeline,
    /// Lanes by the numbers of their machines.
    machines: BTreeMap<u64, usize>,
    clients: Vec<String>,
}

impl Making {
    fn new(plan: &Plan, outcome: &Outcome, end: u64) -> Self {
        let clients = plan.workload.clients.iter().map(|client| client.name.clone()).collect();
        let timeline = Timeline { lanes: Vec::new(), events: Vec::new(), end };
        let mut making = Self { timeline, machines: BTreeMap::new(), clients };
        making.named("world");
        making.named(BROKER);
        for happening in outcome.happenings.iter().flatten() {
            if let Happening::Machine { node, name, .. } = happening {
                let lane = making.named(name);
                making.machines.insert(*node, lane);
            }
        }
        making
    }

    /// The lane of that name, made if there is none.
    pub(super) fn named(&mut self, name: &str) -> usize {
        self.timeline.lane(name).unwrap_or_else(|| {
            self.timeline.lanes.push(Lane { name: name.to_owned(), lives: Vec::new() });
            self.timeline.lanes.len() - 1
        })
    }

    /// The lane of a machine.
    pub(super) fn machine(&self, number: u64) -> usize {
        self.machines.get(&number).copied().unwrap_or(WORLD)
    }

    /// The lane of a client of the history.
    fn client(&mut self, number: u32) -> usize {
        if number == AUDITOR {
            return self.named("auditor");
        }
        let name = self.clients.get(number as usize).cloned().unwrap_or_else(|| format!("client {number}"));
        self.named(&name)
    }

    pub(super) fn begin_life(&mut self, lane: usize, from: u64) {
        self.timeline.lanes[lane].lives.push(Life { from, until: None });
    }

    pub(super) fn end_life(&mut self, lane: usize, at: u64) {
        if let Some(life) = self.timeline.lanes[lane].lives.last_mut() {
            life.until.get_or_insert(at);
        }
    }

    fn violation(&mut self, outcome: &Outcome, violation: &Violation) -> Event {
        let clients: BTreeSet<u32> = violation.ops.iter().map(|op| outcome.history.ops[*op].client).collect();
        Event {
            at: violation.at.unwrap_or(self.timeline.end).min(self.timeline.end),
            until: None,
            lane: WORLD,
            others: clients.into_iter().map(|client| self.client(client)).collect(),
            kind: Kind::Violation,
            name: violation.checker.clone(),
            text: violation.message.clone(),
            answer: None,
            has_failed: true,
            is_routine: false,
            is_evidence: true,
        }
    }
}
