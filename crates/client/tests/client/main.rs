//! The client against brokers: Quipu's own, in the same process over loopback sockets and in the simulated world, and Apache
//! Kafka where Java is at hand.
//!
//! A failure in the simulated world names its seed. To see it again, with what the broker logs:
//! `SIM_SEED=1234 cargo test -p quipu-client --test client name_of_the_test -- --nocapture`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod examples;
mod groups;
mod kafka;
mod loopback;
mod scripted;
mod suite;
mod world;
