//! Every planted bug is found, and nothing is found without one.

use crate::{
    catalogue::{BUGS, Hunt},
    schedule,
};

/// Seeds tried per bug.
const SEEDS: u64 = 400;

#[test]
fn survey() {
    for bug in BUGS {
        let Hunt::Schedule(profile) = &bug.hunt;
        let started = std::time::Instant::now();
        let found = (0..SEEDS).find_map(|seed| schedule::run(*profile, seed, Some(bug.name)).err());
        println!("{:32} {:6}ms {}", bug.name, started.elapsed().as_millis(), found.unwrap_or("NOT FOUND".into()));
    }
}
