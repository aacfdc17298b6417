//! The quorum from outside: scripts, random schedules, model checking, an oracle, hostile bytes; and the planted bugs, which
//! all of these look for without knowing them.
#![expect(clippy::unwrap_used, reason = "a test")]

mod bounds;
mod catalogue;
mod ledger;
mod messages;
mod model;
mod oracle;
mod planted;
mod replica;
mod schedule;
mod scripts;
