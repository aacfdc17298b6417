//! What the coordinators of groups and transactions share: a [`Shard`] is one partition of an internal topic, led by this broker.
//!
//! ```text
//! request, deadline -> Machine: changes its state at once, gives records and replies
//!   -> Shard: records leave as writes, replies are parked behind them
//!   -> Effect::Write ... the shell appends to the partition ... Shard::handle_written -> Effect::Reply
//! ```
//!
//! | shard | becomes | when |
//! |---|---|---|
//! | active | active | a write is committed: its replies leave |
//! | active | failed | a write is not: nothing is answered any more, the shell drops the shard and builds another one by replay |
//!
//! Invariants
//! - A later request decides on a state that holds the records of the earlier ones, committed or not.
//! - No reply leaves before everything that its state holds is committed, whoever wrote it: what a client is told is never undone.
//! - Writes leave in the order of their ids, and their records in the order in which they were made.
//! - Replayed records give the state that handling gave, but for what the machine does not write down.
//!
//! Not here: what a request means ([`Machine`]'s owner: `quipu-groups`), partitions and logs (`quipu-broker`). The state is rebuilt
//! from the log alone: there are no snapshots, the log is compacted. Read [`shard`] next.

pub mod limits;
mod machine;
pub mod shard;

pub use machine::{Context, Machine, Record, Token, Turn};
pub use shard::{Effect, Shard, Unanswered, WriteId};

#[cfg(test)]
mod tests;
