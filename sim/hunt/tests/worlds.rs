//! Whole runs: seeds pass, bugs that are switched on are found and shrunk, the same plan is the same run.

use core::time::Duration;

use quipu_hunt::{Options, Plan, run, shrink, swarm};

fn acknowledging_early() -> Options {
    Options::with_planted(&["broker.acknowledge-unsynced".to_owned()])
}

#[test]
fn seeds_pass() {
    let mut acknowledged = 0;
    for seed in 0..40 {
        let outcome = run(&swarm::plan(seed), &Options::default());
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
        acknowledged += outcome.tally.acknowledged;
    }
    assert!(acknowledged > 500, "{acknowledged} batches were acknowledged");
}

#[test]
fn the_same_plan_is_the_same_run_however_it_came() {
    for seed in [3, 8, 12] {
        let plan = swarm::plan(seed);
        let printed = Plan::parse(&plan.to_text()).unwrap();
        let (once, again) = (run(&plan, &Options::default()), run(&printed, &Options::default()));
        assert_eq!((once.hash, once.event_count), (again.hash, again.event_count), "seed {seed}");
        assert_eq!(once.history, again.history, "seed {seed}");
    }
}

#[test]
fn a_bug_is_found_and_shrunk() {
    let options = acknowledging_early();
    let failing = |plan: &Plan| run(plan, &options).failed_checker().map(str::to_owned);
    let (plan, checker) =
        (0..100).map(swarm::plan).find_map(|plan| failing(&plan).map(|checker| (plan, checker))).unwrap();
    let shrunk = shrink::shrink(&plan, &options, Duration::from_secs(30), |_, _| {}).unwrap();
    assert_eq!(shrunk.checker, checker);
    assert!(shrunk.plan.faults.len() <= 5 && shrunk.plan.operation_count() <= 20, "{}", shrunk.plan.to_text());
    assert_eq!(run(&shrunk.plan, &options).failed_checker(), Some(checker.as_str()), "it fails in the same way");
    assert!(run(&shrunk.plan, &Options::default()).violations.is_empty(), "without the bug it passes");
    assert!(shrink::shrink(&plan, &Options::default(), Duration::from_secs(30), |_, _| {}).is_none());
}
