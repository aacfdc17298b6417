//! Consumer groups: who is a member, which generation it is, who reads what, how far it has read.
//!
//! [`Groups`] is the [`Machine`](quipu_coordinator::Machine) of one partition of `__consumer_offsets`: requests, deadlines and
//! records in, records and replies out.
//!
//! | what | module |
//! |---|---|
//! | what a group is asked and answers | [`request`] |
//! | the machine: which group, bounds, timers | `machine` |
//! | the classic protocol: joins, rebalances, assignments, sessions | `classic` |
//! | the consumer protocol (KIP-848): epochs, assignors, reconciliation | [`consumer`] |
//! | committed offsets: commits, deletion, expiry | `offsets` |
//! | descriptions and lists | `describe` |
//! | records, in Kafka's own format | `codec` |
//!
//! Invariants
//! - A generation's number only grows. An assignment belongs to one generation.
//! - What is in a group that has members of a generation was written before any of them is told.
//! - Memory is bounded by [`limits`], whatever clients send.
//!
//! Not here: which broker coordinates which group, durability (`quipu-coordinator`, `quipu-broker`), Kafka's requests and error
//! codes (`quipu-broker`'s handlers). Read `machine` next, then `classic` and [`consumer`].

mod classic;
mod codec;
pub mod consumer;
mod describe;
mod error;
pub mod limits;
mod machine;
mod offsets;
mod planted;
pub mod request;
mod settings;
mod subscription;
mod timers;

pub use error::GroupError;
pub use machine::Groups;
pub use request::{Reply, Request};
pub use settings::Settings;

#[cfg(test)]
mod tests;
