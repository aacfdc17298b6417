//! Checkpoints: moving what is durable in the WAL to where it stays.
//!
//! Read `round` next, then `flush` and `task`.

mod flush;
mod orphans;
mod round;
mod snapshot;
mod task;

pub(crate) use round::{Checkpointer, Covering};
pub(crate) use snapshot::is_full;
pub(crate) use task::{Requests, run};
