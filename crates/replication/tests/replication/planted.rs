//! Every planted bug must be found by checkers that do not know it: by an aimed script, by drawn schedules or by the model checker.
//!
//! The table says by which it is found within the tests' budgets; a longer search may find more. What random schedules did not find in
//! many thousands is not entered as found by them. `QUIPU_REPLICATION_HUNT` lets them try every bug with that many seeds.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    aimed::{self, SCRIPTS},
    model::{self, Budget, NOTHING, Small},
    probe::TestProbe,
    random::{self, SHAPES, STEPS},
    world::World,
};

/// Who finds a bug besides the aimed scripts, which say so themselves.
struct Bug {
    name: &'static str,
    /// Drawn schedules find it in at most this many seeds; 0 if they are not asked.
    seeds: u64,
    /// The model checker finds it in this space.
    space: Option<Space>,
}

/// Nodes, `min.insync.replicas`, what may happen, what has happened.
type Space = (usize, usize, Budget, fn(&mut World));

const fn bug(name: &'static str, seeds: u64, space: Option<Space>) -> Bug {
    Bug { name, seeds, space }
}

const CRASH: Option<Space> =
    Some((2, 2, Budget { records: 1, elections: 1, crashes: 1, ..NOTHING }, model::nothing_before));
const ELECTED: Option<Space> = Some((3, 2, Budget { records: 1, ..NOTHING }, model::committed_before_an_election));
const SEALING: Option<Space> = Some((3, 2, NOTHING, model::record_and_seal_under_way));
const LESS: Option<Space> = Some((3, 3, Budget { records: 1, minimums: 1, ..NOTHING }, model::nothing_before));

const BUGS: [Bug; 39] = [
    bug("replication.acknowledge-before-sync", 50, CRASH),
    bug("replication.acknowledge-log-end", 200, None),
    bug("replication.acknowledge-without-label", 0, None),
    bug("replication.adoption-skipped", 100, None),
    bug("replication.answers-before-unfenced", 0, None),
    bug("replication.cleared-below-log-start", 100, None),
    bug("replication.cleared-without-stamp", 0, None),
    bug("replication.commit-by-one", 50, None),
    bug("replication.compare-by-last-epoch", 0, None),
    bug("replication.damage-truncated", 50, None),
    bug("replication.damaged-promise-kept", 0, None),
    bug("replication.delete-forgotten-by-change", 0, None),
    bug("replication.delete-forgotten-by-seal", 300, None),
    bug("replication.delete-without-joint-quorum", 300, None),
    bug("replication.epochs-not-truncated", 100, None),
    bug("replication.expand-without-catch-up", 50, None),
    bug("replication.follower-high-watermark-unbounded", 0, None),
    bug("replication.incarnation-from-disk", 20, None),
    bug("replication.label-early", 0, None),
    bug("replication.leader-not-checked", 0, None),
    bug("replication.lost-source-counted", 0, None),
    bug("replication.no-joint-quorum", 300, None),
    bug("replication.no-seal", 50, ELECTED),
    bug("replication.own-unsynced", 100, CRASH),
    bug("replication.pending-dropped-on-conflict", 300, None),
    bug("replication.pending-dropped-on-refusal", 0, None),
    bug("replication.pending-dropped-on-time-out", 300, None),
    bug("replication.piece-from-moved-source", 0, None),
    bug("replication.previous-epoch-unchecked", 100, None),
    bug("replication.promise-and-report-apart", 0, SEALING),
    bug("replication.quorum-from-live-config", 100, LESS),
    bug("replication.restored-trusted", 100, None),
    bug("replication.same-epoch-resume", 300, None),
    bug("replication.seal-counted-twice", 100, None),
    bug("replication.shrink-without-catch-up", 50, None),
    bug("replication.shrinks-below-minimum", 100, None),
    bug("replication.tail-kept", 50, None),
    bug("replication.truncated-to-high-watermark", 100, None),
    bug("replication.wiped-counted", 0, None),
];

/// What a run found: a violation, or an assertion of the code itself.
fn found(run: impl FnOnce() -> Option<String>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Some("an assertion failed".to_owned()))
}

fn hunt() -> u64 {
    std::env::var("QUIPU_REPLICATION_HUNT").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn by_schedules(bug: &Bug) -> Option<String> {
    (0..bug.seeds.max(hunt())).find_map(|seed| {
        SHAPES.into_iter().find_map(|shape| {
            let probe = TestProbe { planted: Some(bug.name), marks: None };
            let violation = found(|| random::run(seed, shape, STEPS, probe))?;
            Some(format!("seed {seed} of {shape:?}: {violation}"))
        })
    })
}

fn by_model(bug: &Bug) -> Option<String> {
    let (nodes, insync_replicas_min, budget, before) = bug.space?;
    let small = || Small { nodes, insync_replicas_min, budget, before, planted: Some(bug.name) };
    found(|| model::check(small(), model::states() * 4, true).0)
        .or_else(|| found(|| model::check(small(), model::states() * 4, false).0))
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in &BUGS {
        let mut told = Vec::new();
        for (script, bugs, run) in SCRIPTS {
            if bugs.contains(&bug.name) {
                let probe = TestProbe { planted: Some(bug.name), marks: None };
                match found(|| aimed::run(run, probe)) {
                    Some(violation) => told.push(format!("by '{script}': {violation}")),
                    None => missed.push(format!("{} by '{script}'", bug.name)),
                }
            }
        }
        if bug.seeds.max(hunt()) > 0 {
            match by_schedules(bug) {
                Some(violation) => told.push(format!("by drawn schedules: {violation}")),
                None if bug.seeds == 0 => {}
                None => missed.push(format!("{} by drawn schedules", bug.name)),
            }
        }
        if bug.space.is_some() {
            match by_model(bug) {
                Some(violation) => told.push(format!("by the model checker: {violation}")),
                None => missed.push(format!("{} by the model checker", bug.name)),
            }
        }
        if told.is_empty() {
            missed.push(format!("{} by anything", bug.name));
        }
        println!("{}\n  {}", bug.name, told.join("\n  "));
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// The names in the code are those of the table: a bug that nobody looks for does not stay unnoticed.
#[test]
fn every_planted_bug_of_the_code_is_in_the_table() {
    let sources = [
        include_str!("../../src/replica/mod.rs"),
        include_str!("../../src/replica/writes.rs"),
        include_str!("../../src/replica/follow.rs"),
        include_str!("../../src/replica/elect.rs"),
        include_str!("../../src/replica/lead.rs"),
        include_str!("../../src/replica/peers.rs"),
        include_str!("../../src/replica/change.rs"),
        include_str!("../../src/replica/suspect.rs"),
    ];
    let planted = sources.iter().flat_map(|source| source.split("planted(\"").skip(1));
    let in_code: BTreeSet<&str> = planted.filter_map(|rest| rest.split('"').next()).collect();
    let in_table: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
    assert_eq!(in_code, in_table);
}
