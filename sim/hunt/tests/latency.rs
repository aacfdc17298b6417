//! Performance under fault: one replica of three that stands still does not make producers wait.
//!
//! The disks here have no operations that are late by chance: a healthy quorum hides one replica's, the two that are left can't.

use quipu_hunt::{Options, Plan, run};

/// The issue's bound: so many times the healthy latency, in thousandths.
const BOUND_PERMILLE: u64 = 1500;
/// Requests before the cluster has settled do not count.
const BEGIN_NS: u64 = 1_200_000_000;

/// Worlds; a percentile of few requests is one request's luck.
const SEEDS: u64 = 5;

const WORLD: &str = r#"
format = 1
seed = SEED

[config]
nodes = 3
sync_us = 100
late_disk_one_in = 0
latency_min_us = 100
latency_max_us = 200
memory_tail_bytes = 4194304
wal_file_bytes = 4194304

[config.kafka]
"default.replication.factor" = "3"
"min.insync.replicas" = "2"
"socket.request.max.bytes" = "131072"

[[workload.topics]]
name = "knots"
partitions = 1

[[workload.clients]]
name = "producer-0"
pace_ms = 2
patience_ms = 10000
operations = [OPERATIONS]
"#;

fn world(seed: u64, fault: &str) -> Plan {
    let operations = vec!["\"produce knots 0:1x100\""; 1500].join(",");
    let text = WORLD.replace("SEED", &seed.to_string()).replace("OPERATIONS", &operations);
    Plan::parse(&format!("{text}{fault}")).unwrap_or_else(|error| panic!("{error}"))
}

/// What acknowledged requests took, nanoseconds of virtual time.
fn latencies(plan: &Plan) -> Vec<u64> {
    let outcome = run(plan, &Options::default());
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    let took = |op: &quipu_hunt::history::Op| Some(op.completed?.saturating_sub(op.invoked));
    let sends = outcome.history.ops.iter();
    let sends = sends.filter(|op| matches!(op.what, quipu_hunt::history::What::Send { .. }));
    let all: Vec<u64> = sends.filter(|op| op.is_ok() && op.invoked >= BEGIN_NS).filter_map(took).collect();
    assert!(all.len() > 1000, "{} requests were acknowledged", all.len());
    all
}

/// The 99.9th percentile over the worlds of all seeds.
fn slowest(fault: &str) -> u64 {
    let mut all: Vec<u64> = (0..SEEDS).flat_map(|seed| latencies(&world(seed, fault))).collect();
    all.sort_unstable();
    all[all.len() * 999 / 1000]
}

#[test]
fn a_stalled_replica_is_not_waited_for() {
    let healthy = slowest("");
    for node in ["broker", "broker-2", "broker-3"] {
        let stall = format!("[[faults]]\nat_ms = 1500\nfault.disk-stall = {{ node = \"{node}\", lasts_ms = 1000 }}\n");
        let stalled = slowest(&stall);
        assert!(
            stalled * 1000 <= healthy * BOUND_PERMILLE,
            "with the disk of {node} stalled {stalled} ns, healthy {healthy} ns"
        );
    }
}
