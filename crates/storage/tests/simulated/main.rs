//! The store on the simulated disk: power cuts at every operation, damage, full disks, failed syncs, and the same operations under
//! different settings.
//!
//! Read `model` for what is expected, `driver` for how a store is driven, then the tests.

mod answers;
mod compact;
mod crash;
mod damage;
mod driver;
mod full;
mod mixed;
mod model;
mod names;
mod repair;
mod retention;
mod scrub;
mod steps;
mod swarm;
