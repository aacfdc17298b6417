//! `quipu topic`, `produce` and `consume` as processes, against a broker that is one as well.
//!
//! - [`world`]: the broker, and how to run the commands.
//! - [`topic`], [`produce`], [`consume`], [`group`]: one file for each command. [`usage`]: exit statuses and messages.
//!
//! Not here: other brokers and other clients (`tests/e2e`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod consume;
mod group;
mod produce;
mod topic;
mod usage;
mod world;
