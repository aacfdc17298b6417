//! What happened in a run: a rolling hash over every event, and on request the events themselves.
//!
//! Two runs with the same hash had the same events at the same times on the same nodes; where hashes differ, the first event
//! that differs in two kept traces tells why. For people there is [`Happening`].

mod happening;

use std::{collections::BTreeMap, fmt};

pub use happening::{Happening, MessageKind};

use crate::{fault::FaultCount, seed::RunHash};

/// The node number of what no node does.
pub(crate) const NOWHERE: u64 = u64::MAX;

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent {
    /// Nanoseconds since the run began.
    pub at: u64,
    /// The node's number, `u64::MAX` for none.
    pub node: u64,
    /// What.
    pub what: &'static str,
    /// What of it; its meaning depends on `what`.
    pub detail: u64,
}

impl fmt::Debug for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, node, what, detail } = *self;
        match node {
            NOWHERE => write!(f, "{}.{:09} - {what} {detail:x}", at / 1_000_000_000, at % 1_000_000_000),
            _ => write!(f, "{}.{:09} {node} {what} {detail:x}", at / 1_000_000_000, at % 1_000_000_000),
        }
    }
}

/// An event that product code told its probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeEvent {
    /// Nanoseconds since the run began.
    pub at: u64,
    /// The node's number.
    pub node: u64,
    /// What it is called.
    pub name: &'static str,
    /// Its numbers.
    pub fields: Vec<(&'static str, i64)>,
}

pub(crate) struct Trace {
    hash: RunHash,
    pub(crate) count: u64,
    pub(crate) kept: Option<Vec<TraceEvent>>,
    /// As `kept`, for people.
    pub(crate) happenings: Option<Vec<Happening>>,
    pub(crate) probe_events: Vec<ProbeEvent>,
    /// How often each `sometimes` was reached.
    pub(crate) marks: BTreeMap<&'static str, u64>,
    /// How often a process ended at each crash point.
    pub(crate) crash_points: BTreeMap<&'static str, u64>,
    /// How often a process came to each crash point.
    pub(crate) crash_points_passed: BTreeMap<&'static str, u64>,
    /// How often each buggify point answered yes.
    pub(crate) buggified: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<&'static str, FaultCount>,
}

impl Trace {
    pub(crate) fn new(seed: u64, keep: bool) -> Self {
        Self {
            hash: RunHash::new(seed),
            count: 0,
            kept: keep.then(Vec::new),
            happenings: keep.then(Vec::new),
            probe_events: Vec::new(),
            marks: BTreeMap::new(),
            crash_points: BTreeMap::new(),
            crash_points_passed: BTreeMap::new(),
            buggified: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    pub(crate) fn fault(&mut self, kind: &'static str) -> &mut FaultCount {
        self.faults.entry(kind).or_default()
    }

    /// What a power cut has cost.
    pub(crate) fn lost(&mut self, losses: impl Iterator<Item = (&'static str, u64)>) {
        for (name, count) in losses.filter(|(_, count)| *count > 0) {
            let fault = self.fault(name);
            fault.begun += 1;
            fault.happened += count;
        }
    }

    pub(crate) fn record(&mut self, event: TraceEvent) {
        self.hash.word(event.at);
        self.hash.word(event.node);
        self.hash.bytes(event.what.as_bytes());
        self.hash.word(event.detail);
        self.count += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash.value()
    }
}
