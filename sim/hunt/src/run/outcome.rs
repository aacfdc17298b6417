//! What came of a run.

use core::time::Duration;
use std::collections::BTreeMap;

use quipu_sim::{Happening, ProbeEvent, Report, Share, TraceEvent, fault::FaultCount};
use serde::{Deserialize, Serialize};

use crate::{check::Violation, history::History};

/// What happened, in numbers.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Operations that clients completed.
    pub operations: u64,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Starts of the broker.
    pub starts: u64,
    /// Orderly stops.
    pub stops: u64,
    /// Ends of the broker that came before it had started.
    pub failed_starts: u64,
    /// By Kafka's number: errors that clients were answered with.
    pub codes: BTreeMap<i16, u64>,
    /// By Kafka's number: requests that clients had an answer to.
    pub apis: BTreeMap<i16, u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Outcome {
    /// What must not be, most telling first. None: all is well.
    pub violations: Vec<Violation>,
    /// Equal for equal runs.
    pub hash: u64,
    /// Events in the hash.
    pub event_count: u64,
    /// How long it took by its own clock.
    pub virtual_time: Duration,
    /// What clients asked and were told.
    pub history: History,
    /// What happened, in numbers.
    pub tally: Tally,
    /// How often each place marked by `sometimes` was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// How often a process ended at each crash point.
    pub crash_points: BTreeMap<&'static str, u64>,
    /// How often a process came to each crash point.
    pub crash_points_passed: BTreeMap<&'static str, u64>,
    /// How often each unusual branch was taken on purpose.
    pub buggified: BTreeMap<&'static str, u64>,
    /// How often each kind of fault was begun and happened.
    pub faults: BTreeMap<&'static str, FaultCount>,
    /// What product code told its probes.
    pub probe_events: Vec<ProbeEvent>,
    /// Every event, if asked for.
    pub trace: Option<Vec<TraceEvent>>,
    /// The same for people.
    pub happenings: Option<Vec<Happening>>,
    /// Where the processor's time went, if asked for.
    pub profile: BTreeMap<(&'static str, String), Share>,
}

impl Outcome {
    pub(super) fn new<T>(report: Report<T>, history: History, violations: Vec<Violation>, tally: Tally) -> Self {
        Self {
            violations,
            hash: report.hash,
            event_count: report.event_count,
            virtual_time: report.virtual_time,
            history,
            tally,
            marks: report.marks,
            crash_points: report.crash_points,
            crash_points_passed: report.crash_points_passed,
            buggified: report.buggified,
            faults: report.faults,
            probe_events: report.probe_events,
            trace: report.trace,
            happenings: report.happenings,
            profile: report.profile,
        }
    }

    /// Of a run that ended in a panic: what there was until then. What the panic said is part of its hash.
    pub(super) fn panicked(report: Report<()>, history: History, said: &str) -> Self {
        let at = u64::try_from(report.virtual_time.as_nanos()).unwrap_or(u64::MAX);
        let checker = if said.starts_with(quipu_sim::TOO_MANY_EVENTS) { "livelock" } else { "panic" };
        let violation = Violation::new(checker, said).seen_at(at);
        let add = |hash: u64, byte: u8| (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x9fb2_1c65_1e98_df25);
        let hash = said.bytes().fold(report.hash, add);
        Self { hash, ..Self::new(report, history, vec![violation], Tally::default()) }
    }

    /// The first violation's checker; none if all is well.
    #[must_use]
    pub fn failed_checker(&self) -> Option<&str> {
        self.violations.first().map(|violation| violation.checker.as_str())
    }
}
