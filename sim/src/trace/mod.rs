//! What happened in a run: a rolling hash over every event, and on request the events themselves.
//!
//! Two runs with the same hash had the same events at the same times on the same nodes; where hashes differ, the first event
//! that differs in two kept traces tells why. For people there is [`Happening`].

mod happening;

use core::time::Duration;
use std::{collections::BTreeMap, fmt};

pub use happening::{Happening, MessageKind};

use crate::{config::SimConfig, fault::FaultCount, seed::RunHash, world::Report};

/// How the panic of a run begins that has more events than it may.
pub const TOO_MANY_EVENTS: &str = "the run has more events than it may";

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
    /// When the last event was.
    pub(crate) last_at: u64,
    /// More events than this are no run.
    limit: u64,
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
    pub(crate) fn new(seed: u64, config: &SimConfig) -> Self {
        let keep = config.keep_trace;
        Self {
            hash: RunHash::new(seed),
            count: 0,
            last_at: 0,
            limit: config.event_limit,
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
        self.last_at = event.at;
        // Once: what is dropped while it ends has events as well.
        assert!(self.count - 1 != self.limit, "{TOO_MANY_EVENTS}, {}", self.limit);
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
    }

    /// All that there is.
    pub(crate) fn take_report<T>(&mut self, value: T, virtual_time: Duration) -> Report<T> {
        Report {
            hash: self.hash(),
            event_count: self.count,
            virtual_time,
            marks: core::mem::take(&mut self.marks),
            crash_points: core::mem::take(&mut self.crash_points),
            crash_points_passed: core::mem::take(&mut self.crash_points_passed),
            buggified: core::mem::take(&mut self.buggified),
            faults: core::mem::take(&mut self.faults),
            probe_events: core::mem::take(&mut self.probe_events),
            trace: self.kept.take(),
            happenings: self.happenings.take(),
            profile: BTreeMap::new(),
            value,
        }
    }

    const fn hash(&self) -> u64 {
        self.hash.value()
    }
}
