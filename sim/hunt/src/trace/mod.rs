//! A run as people read it: who did what when, one lane for each machine.
//!
//! ```text
//! outcome (happenings of the world, history of the clients, violations)  ->  timeline  ->  text
//!                                                                                     ->  page
//! ```
//!
//! Invariants
//! - A timeline has each happening and each operation once, in the order in which they began.
//! - Lane 0 is the world: faults, healing, violations.
//! - What is told is a function of the outcome: the same run gives the same text and the same page.
//!
//! Not here: what happened ([`quipu_sim::Happening`]), what is wrong with it ([`crate::check`]), files and arguments (the command).
//! Read `timeline` next, then [`text`] and [`page`].

mod events;
pub mod page;
pub mod text;
mod timeline;

pub use self::timeline::{Event, Kind, Lane, Life, Timeline, WORLD};

/// Seconds with microseconds.
pub(crate) fn seconds(nanos: u64) -> String {
    format!("{}.{:06}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000)
}

/// How long something took: milliseconds with microseconds.
pub(crate) fn milliseconds(nanos: u64) -> String {
    format!("{}.{:03} ms", nanos / 1_000_000, nanos % 1_000_000 / 1000)
}
