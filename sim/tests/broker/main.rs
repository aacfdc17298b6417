//! The unmodified broker in the simulated world, with clients that produce and fetch.

mod clients;
mod crashes;
mod history;
mod peace;
mod server;
mod setup;
mod trouble;
mod world;
