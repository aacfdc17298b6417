//! Faults as data: what goes wrong in a world, with its parameters, as a plan holds it.
//!
//! A [`Fault`] is drawn ([`Fault::draw`]), printed and read (serde), made milder ([`Fault::simpler`]) and begun
//! ([`World::begin`](crate::World::begin)); what lasts ends by itself, or with all others at
//! [`World::heal`](crate::World::heal). Each kind is counted in [`Report::faults`](crate::Report::faults): how often it was
//! begun, and how often it really happened, which is what the last column says.
//!
//! | kind | what it does | it happens when |
//! |---|---|---|
//! | `latency` | packets take another time | a packet takes it |
//! | `loss` | packets are lost and sent again, after ever longer pauses | one is lost |
//! | `partition` | nothing passes, nobody is told; one way or both, transitive or not | a packet is held back |
//! | `clog` | packets queue up to a bound, beyond which they are lost; in the end all come at once | one waits |
//! | `slow-link` | so many bytes per second | a packet waits for its turn |
//! | `segments` | bytes come in tiny segments | one is cut |
//! | `zero-window` | the receiver's window stays shut | a sender waits |
//! | `reset` | connections are reset, at once or in the middle of what they carry | an end is told |
//! | `fin` | a box on the way closes connections as if each end had | an end is told |
//! | `half-open` | the way of existing connections goes dead, nobody is told | a packet vanishes |
//! | `late-segments` | what existing connections carry comes late, even after its sender is gone | a packet comes late |
//! | `connect-silence` | attempts to connect get no answer | one is ignored |
//! | `connect-refusal` | attempts to connect are refused | one is refused |
//! | `kill` | the process ends, the page cache stays; `times`: a crash loop | a process ends |
//! | `power-cut` | the machine loses what was not synced, as told | a machine goes down |
//! | `stop` | an orderly stop: the scenario's to do | never counted here |
//! | `crash-at` | the process ends at a named point; `again`: and at others, in the starts that follow | it ends there |
//! | `crash-at-disk` | the power goes at an operation of the disk | it goes |
//! | `pause` | no task of the process runs | a task waits for its end |
//! | `stall-task` | one task of the process does not run | it waits |
//! | `slow-cpu` | each step of a task keeps its shard busy | a task waits for its shard |
//! | `clock-step` | the wall clock jumps, for good | it is read |
//! | `clock-skew` | the wall clock is wrong for a while | it is read |
//! | `clock-drift` | both clocks go too fast or too slow | one is read |
//! | `clock-freeze` | the wall clock stands, then jumps to the true time | it is read |
//! | `sync-fails` | a sync fails; the page is clean and the data may be gone | it fails |
//! | `sync-lies` | a sync answers well and does nothing | it lies |
//! | `read-fails`, `write-fails` | an operation answers with an error | it does |
//! | `short-read` | the system reads less than was asked, the rest later | it does |
//! | `phantom-write` | a write never reaches the device, though the page cache shows it | it is lost |
//! | `misdirected-write` | a write reaches another place of its file | it does |
//! | `bit-rot` | bits of a file flip | a bit flips |
//! | `unreadable` | sectors of a file can't be read until they are written again | a read fails |
//! | `full-disk` | little room is left | a write is refused |
//! | `disk-stall` | the disk answers nothing for a while | an operation waits |
//! | `slow-disk` | each operation takes so many times as long | an operation takes longer |
//! | `wiped-disk` | the machine goes down and comes back with an empty disk | it loses something |
//! | `stale-snapshot` | the machine goes down and comes back with an old state of its disk | it goes back |
//! | `twin` | another machine starts a process that says it is the same node: the scenario's to do | the scenario says that it has asked to be let in |
//! | `few-descriptors` | no more than a few files and connections can be opened | one is refused |
//! | `connection-storm` | many connections from one machine to whatever another listens at | one is made |
//!
//! Invariants
//! - A fault without effect costs nothing, and draws from no stream that anything else draws from.
//! - What a fault's end restores is what it changed: overlapping faults don't end each other.
//!
//! Not here: when faults come (plans), who starts a process again (the scenario: see [`Fault::down`]), memory budgets and queue
//! limits (the product's configuration). Read `begin` next.

mod begin;
mod check;
mod draw;
mod facts;
mod kinds;
mod simpler;

pub(crate) use begin::{Faults, open_descriptors};
pub use check::FaultError;
pub use draw::Targets;
pub use kinds::Fault;
use serde::{Deserialize, Serialize};

pub use crate::{disk::Moment, net::Latency};

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The page cache stays.
    Kill,
    /// What was not synced goes as the machine is configured.
    PowerCut,
}

/// Where a process ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// At a crash point, after passing it so often. A name that ends in `*` stands for all names that begin so.
    Point {
        /// The crash point's name.
        name: String,
        /// How often to pass it first.
        skip: u64,
    },
    /// At a change of the disk, counted from 0 when the place comes into force; by a power cut whatever [`How`] says.
    Disk {
        /// Which.
        at: u64,
        /// On which side of it.
        moment: Moment,
    },
}

/// What a fault may cost, at worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cost {
    /// Nothing that was acknowledged.
    Nothing,
    /// A copy of the data, in a way that whoever looks can tell.
    Detectable,
    /// A copy of the data, in a way that nobody can tell even in principle.
    Undetectable,
}

/// How often a fault was begun and happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct FaultCount {
    /// Faults of the kind that were begun.
    pub begun: u64,
    /// Times that one really bit.
    pub happened: u64,
}
