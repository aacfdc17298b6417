//! The unmodified broker in the simulated world, with clients that produce and fetch.
//!
//! A failure names its seed. To see it again, with what the broker logs:
//! `SIM_SEED=1234 SIM_LOG=debug cargo test -p quipu-sim --test broker name_of_the_test -- --nocapture`.

mod clients;
mod crashes;
mod disks;
mod history;
mod peace;
mod server;
mod setup;
mod trouble;
mod world;
