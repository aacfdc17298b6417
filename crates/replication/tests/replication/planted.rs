//! Every planted bug must be found: by its aimed script, by drawn schedules, or by the model checker, none of which know it.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    probe::TestProbe,
    random::{self, SHAPES, STEPS},
};

/// Every bug that the replica's code can have on request.
pub(crate) const BUGS: [&str; 31] = [
    "replication.acknowledge-before-sync",
    "replication.acknowledge-log-end",
    "replication.acknowledge-without-label",
    "replication.answers-before-unfenced",
    "replication.cleared-below-log-start",
    "replication.cleared-without-stamp",
    "replication.compare-by-last-epoch",
    "replication.damage-truncated",
    "replication.damaged-promise-kept",
    "replication.delete-forgotten-by-change",
    "replication.delete-forgotten-by-seal",
    "replication.delete-without-joint-quorum",
    "replication.expand-without-catch-up",
    "replication.follower-high-watermark-unbounded",
    "replication.incarnation-from-disk",
    "replication.label-early",
    "replication.leader-not-checked",
    "replication.lost-source-counted",
    "replication.no-joint-quorum",
    "replication.no-seal",
    "replication.pending-dropped-on-conflict",
    "replication.pending-dropped-on-refusal",
    "replication.pending-dropped-on-time-out",
    "replication.piece-from-moved-source",
    "replication.promise-and-report-apart",
    "replication.quorum-from-live-config",
    "replication.restored-trusted",
    "replication.same-epoch-resume",
    "replication.shrink-without-catch-up",
    "replication.tail-kept",
    "replication.wiped-counted",
];

fn drawn(bug: &'static str, seeds: u64) -> Option<(u64, String)> {
    for seed in 0..seeds {
        for shape in SHAPES {
            let probe = TestProbe { planted: Some(bug), marks: None };
            let found = catch_unwind(AssertUnwindSafe(|| random::run(seed, shape, STEPS, probe)));
            match found {
                Ok(None) => {}
                Ok(Some(violation)) => return Some((seed, format!("{shape:?} {violation}"))),
                Err(_) => return Some((seed, format!("{shape:?} panic"))),
            }
        }
    }
    None
}

#[test]
fn hunt() {
    let seeds = std::env::var("HUNT").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    if seeds > 0 {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let mut found = BTreeMap::new();
    for bug in BUGS {
        found.insert(bug, drawn(bug, seeds));
        for (name, bugs, script) in crate::aimed::SCRIPTS {
            if bugs.contains(&bug) {
                let probe = TestProbe { planted: Some(bug), marks: None };
                let result = catch_unwind(AssertUnwindSafe(|| crate::aimed::run(script, probe)));
                eprintln!(
                    "AIMED {bug} by {name}: {}",
                    match result {
                        Ok(None) => "NOT FOUND".to_owned(),
                        Ok(Some(v)) => v,
                        Err(_) => "panic".to_owned(),
                    }
                );
            }
        }
    }
    let _ = std::panic::take_hook();
    for (bug, found) in found {
        println!("{bug}: {found:?}");
    }
}
