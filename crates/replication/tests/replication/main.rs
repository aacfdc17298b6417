//! Tests of the replica against a small world: nodes with disks that lose what is not synced, a network that loses, doubles and
//! reorders, a controller with a log, and checkers that know nothing of the replica's inside.
//!
//! `world` runs replicas, `checker` judges what they do, `random` draws schedules, `scenarios` and `aimed` script them, `model` hands
//! the same world to `stateright`, `planted` requires that every planted bug is found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "tests tell what they found, by which means, and traces")]

mod aimed;
mod checker;
mod controller;
mod disk;
mod model;
mod planted;
mod probe;
mod random;
mod scenarios;
mod world;
