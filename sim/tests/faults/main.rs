//! Every fault does what it is for, is seen by who should see it, and is counted when it really happened.
//!
//! `data`: faults as values. `swarm`: every kind bites in a small world, and the same seed is the same run. The others: one kind
//! after the other.

mod clocks;
mod data;
mod disks;
mod kit;
mod network;
mod operations;
mod processes;
mod resources;
mod swarm;
mod trace;
