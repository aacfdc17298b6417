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

/// A cluster in which broker 3 gets a twin, with an empty disk or a copy of its own.
fn with_a_twin(copied: bool, more: &str) -> Plan {
    let text = format!(
        "
        format = 1
        seed = 1
        [config]
        nodes = 3
        [config.kafka]
        \"default.replication.factor\" = \"3\"
        \"min.insync.replicas\" = \"2\"
        \"socket.request.max.bytes\" = \"131072\"
        [[workload.topics]]
        name = \"knots\"
        [[workload.clients]]
        name = \"producer\"
        pace_ms = 200
        operations = [\"produce knots 0:1x10\", \"produce knots 0:1x10\"]
        [[faults]]
        at_ms = 100
        fault.twin = {{ node = \"broker-3\", copied = {copied}, lasts_ms = 14000 }}
        {more}"
    );
    Plan::parse(&text).expect("it is a plan")
}

#[test]
fn a_second_process_with_a_nodes_id_is_refused_and_told() {
    for copied in [false, true] {
        let plan = with_a_twin(copied, "");
        assert_eq!(Plan::parse(&plan.to_text()).unwrap(), plan);
        let outcome = run(&plan, &Options::default());
        assert!(outcome.violations.is_empty(), "copied: {copied}: {:#?}", outcome.violations);
        let twin = outcome.faults["twin"];
        assert_eq!((twin.begun, twin.happened), (1, 1), "copied: {copied}");
        let believing = Options::with_planted(&["controller.node-id-in-use-accepted".to_owned()]);
        assert_eq!(run(&plan, &believing).failed_checker(), Some("identity"), "copied: {copied}");
    }
}

#[test]
fn a_node_that_comes_back_to_its_twin_serves_again() {
    let away = "[[faults]]
        at_ms = 1500
        fault.kill = { node = \"broker-3\", down_ms = 4000, times = 1, up_ms = 0 }";
    for copied in [false, true] {
        let outcome = run(&with_a_twin(copied, away), &Options::default());
        assert!(outcome.violations.is_empty(), "copied: {copied}: {:#?}", outcome.violations);
        assert_eq!(
            outcome.faults["twin"].happened, 1,
            "copied: {copied}: it is where nobody has known the node to be, and is answered"
        );
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
