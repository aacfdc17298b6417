//! Every planted bug is found, by each of the hunts that are named for it.

use std::collections::BTreeSet;

use crate::{
    catalogue::{BUGS, Hunt},
    model, schedule, scripts,
};

/// Seeds tried for one bug.
const SEEDS: u64 = 400;

fn found(name: &'static str, hunt: Hunt) -> Option<String> {
    match hunt {
        Hunt::Schedule(profile) => (0..SEEDS).find_map(|seed| {
            // That nodes refuse each other's messages is a sign, not yet harm.
            schedule::run(profile, seed, Some(name)).err().filter(|found| !found.contains(schedule::REFUSED))
        }),
        Hunt::Script(script) => scripts::judge(script, name).err(),
        Hunt::Check(check) => (0..SEEDS).find_map(|seed| check(seed, Some(name)).err()),
        Hunt::Model(bounds) => model::search(bounds, Some(name)).err(),
    }
}

#[test]
fn each_is_found() {
    let mut missed = Vec::new();
    for bug in BUGS {
        for hunt in bug.hunts {
            if found(bug.name, *hunt).is_none() {
                missed.push(format!("{}: {}", bug.name, bug.story));
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// The sources in which bugs are planted.
const SOURCES: &[&str] = &[
    include_str!("../../src/node.rs"),
    include_str!("../../src/node/durable.rs"),
    include_str!("../../src/node/election.rs"),
    include_str!("../../src/node/follow.rs"),
    include_str!("../../src/node/membership.rs"),
    include_str!("../../src/node/messages.rs"),
    include_str!("../../src/node/read.rs"),
    include_str!("../../src/node/replicate.rs"),
    include_str!("../../src/node/snapshot.rs"),
];

#[test]
fn the_catalogue_names_what_is_planted() {
    let names = |source: &&'static str| -> Vec<&'static str> {
        source.split("planted(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    };
    let planted: BTreeSet<&str> = SOURCES.iter().flat_map(names).collect();
    let named: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
    assert_eq!(planted, named);
}
