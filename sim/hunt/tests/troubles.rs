//! One trouble at a time, in many small worlds: each place that the product has marked is where a process ends, and starts that
//! follow a crash are cut off as well.

use std::collections::BTreeMap;

use quipu_hunt::{
    Options, Outcome, Plan,
    plan::{BROKER, Budget, DATA_DIR, TimedFault},
    run, swarm,
};
use quipu_sim::fault::{Fault, How, Place};

/// Seeds of a trouble.
const SEEDS: u64 = 24;
/// Seeds of each crash point, of which there are many.
const POINT_SEEDS: u64 = 10;
/// Seeds of those that come to a crash point when all goes well.
const COMERS: usize = 2;
/// When troubles end.
const OVER_MS: u64 = 400;

/// A seed's world with these faults instead of its own: nothing may be lost. The last fault's time is when the others are over.
fn plan(seed: u64, mut faults: Vec<(u64, Fault)>) -> Plan {
    faults.push((OVER_MS, kill(1)));
    let faults = faults.into_iter().map(|(at_ms, fault)| TimedFault { at_ms, fault }).collect();
    Plan { budget: Budget::default(), faults, ..swarm::plan(seed) }
}

fn passes(what: &str, plan: &Plan) -> Outcome {
    let outcome = run(plan, &Options::default());
    assert!(outcome.violations.is_empty(), "{what}: {:#?}\n{}", outcome.violations, plan.to_text());
    outcome
}

fn happened(outcomes: &[Outcome], kind: &str) -> u64 {
    outcomes.iter().filter_map(|outcome| outcome.faults.get(kind)).map(|count| count.happened).sum()
}

fn kill(down_ms: u64) -> Fault {
    Fault::Kill { node: BROKER.to_owned(), down_ms, times: 1, up_ms: 0 }
}

#[test]
fn every_crash_point_is_come_to_and_survived() {
    let mut points: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for seed in 0..SEEDS {
        let orderly = passes("a kill", &plan(seed, vec![(30, kill(1))]));
        orderly.crash_points_passed.into_keys().for_each(|point| points.entry(point).or_default().push(seed));
    }
    assert!(points.len() >= 18, "{points:?}");
    for (point, comers) in points {
        let crash = |how, skip| Fault::CrashAt {
            node: BROKER.to_owned(),
            point: point.to_owned(),
            skip,
            how,
            down_ms: 1,
            again: vec![Place::Point { name: point.to_owned(), skip: 0 }],
        };
        // Those that come to it, and the first few besides: where a process ends changes what comes after.
        let comers = comers.into_iter().take(COMERS).map(|seed| (seed, 0));
        let outcomes: Vec<Outcome> = comers
            .chain((0..POINT_SEEDS).map(|seed| (seed, seed % 3)))
            .map(|(seed, skip)| {
                let how = if seed % 2 == 0 { How::PowerCut } else { How::Kill };
                passes(point, &plan(seed, vec![(0, crash(how, skip)), (25, kill(1)), (50, crash(how, 0))]))
            })
            .collect();
        let ended: u64 = outcomes.iter().filter_map(|outcome| outcome.crash_points.get(point)).sum();
        assert!(ended > 0, "{point}: no process ended there");
    }
}

#[test]
fn a_crash_loop_loses_nothing() {
    let crashes = Fault::Kill { node: BROKER.to_owned(), down_ms: 1, times: 30, up_ms: 4 };
    let outcomes: Vec<Outcome> =
        (100..100 + SEEDS).map(|seed| passes("a crash loop", &plan(seed, vec![(5, crashes.clone())]))).collect();
    let cut_off: u64 = outcomes.iter().map(|outcome| outcome.tally.failed_starts).sum();
    assert!(happened(&outcomes, "kill") > 3 * SEEDS && cut_off > SEEDS, "{cut_off} starts were cut off");
}

#[test]
fn a_failed_sync_of_the_log_stops_the_broker_and_loses_nothing() {
    let outcomes: Vec<Outcome> = (200..200 + SEEDS)
        .map(|seed| {
            let below = format!("{DATA_DIR}/wal");
            let fails = Fault::SyncFails { node: BROKER.to_owned(), below, skip: (seed - 200) / 8, times: 1 };
            passes("a failed sync", &plan(seed, vec![(0, fails)]))
        })
        .collect();
    let failed = happened(&outcomes, "sync-fails");
    assert!(failed > SEEDS / 4, "{failed} syncs failed");
    let halts = outcomes.iter().filter(|outcome| outcome.tally.starts > outcome.tally.stops + 1).count();
    assert!(halts > 0, "no broker started again");
}

#[test]
fn a_full_disk_refuses_producers_until_there_is_room() {
    const STORAGE_ERROR: i16 = 56;
    let mut codes = BTreeMap::new();
    let outcomes: Vec<Outcome> = (300..300 + SEEDS)
        .map(|seed| {
            let full = Fault::FullDisk { node: BROKER.to_owned(), free_bytes: 0, lasts_ms: 300 };
            passes("a full disk", &plan(seed, vec![(5, full)]))
        })
        .collect();
    for (code, count) in outcomes.iter().flat_map(|outcome| &outcome.tally.codes) {
        *codes.entry(*code).or_insert(0_u64) += count;
    }
    assert!(happened(&outcomes, "full-disk") > 0);
    assert!(codes.get(&STORAGE_ERROR).is_some_and(|count| *count > 0), "{codes:?}");
}
