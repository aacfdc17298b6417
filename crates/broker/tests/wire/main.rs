//! The broker on the real system, seen through single requests.

#![expect(clippy::unwrap_used, reason = "a test that panics has said where")]

mod admin;
mod consumer_groups;
mod fetch_sessions;
mod groups;
mod lifecycle;
mod produce_fetch;
mod support;
mod telemetry;
