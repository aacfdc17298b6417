//! What happened in a run, for people: enough to draw a lane per machine with messages as arrows, faults as bands and the disk's
//! work as marks.
//!
//! Kept only where the whole trace is ([`crate::SimConfig::keep_trace`]); the run's hash knows nothing of it. Times are
//! nanoseconds since the run began, machines go by number (see [`Happening::Machine`]).

use serde::Serialize;

use crate::fault::Fault;

/// Something that happened. What takes time is told when it ends.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Happening {
    /// There is a machine.
    Machine {
        /// Since when.
        at: u64,
        /// Its number.
        node: u64,
        /// Its name.
        name: String,
        /// Its address.
        ip: String,
    },
    /// A process began.
    Start {
        /// When.
        at: u64,
        /// Where.
        node: u64,
        /// Counts the processes of the machine from 1.
        life: u64,
    },
    /// A process ended.
    End {
        /// When.
        at: u64,
        /// Where.
        node: u64,
        /// How, in words.
        how: String,
    },
    /// Something travelled.
    Message {
        /// The same for all messages of one connection, in both directions.
        connection: u64,
        /// From this machine.
        from: u64,
        /// To this machine.
        to: u64,
        /// Its kind.
        kind: MessageKind,
        /// Bytes of data.
        bytes: u64,
        /// When it was sent.
        sent: u64,
        /// When it arrived; none if it never did.
        delivered: Option<u64>,
    },
    /// The disk did something.
    Disk {
        /// Where.
        node: u64,
        /// Its name in `quipu_env`.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// Where in the file, in bytes, or its new length.
        position: u64,
        /// How many bytes.
        bytes: u64,
        /// When it was asked for.
        begun: u64,
        /// When it took place, or when it became certain that it wouldn't.
        ended: u64,
        /// Why it failed, if it did.
        failure: Option<String>,
    },
    /// A fault began.
    Fault {
        /// When.
        at: u64,
        /// Tells faults apart.
        number: u64,
        /// Which.
        fault: Fault,
    },
    /// A fault that lasts has ended.
    FaultOver {
        /// When.
        at: u64,
        /// Which.
        number: u64,
    },
    /// A fault has bitten.
    FaultHappened {
        /// When.
        at: u64,
        /// Its kind.
        kind: &'static str,
    },
    /// Everything that lasted was healed.
    Heal {
        /// When.
        at: u64,
    },
    /// Product code told its probe something.
    Probe {
        /// When.
        at: u64,
        /// Where.
        node: u64,
        /// What it is called.
        name: &'static str,
        /// Its numbers.
        fields: Vec<(&'static str, i64)>,
    },
    /// Product code came to a place marked by `sometimes`.
    Mark {
        /// When.
        at: u64,
        /// Where.
        node: u64,
        /// The mark.
        name: &'static str,
    },
    /// Product code came to a crash point.
    CrashPoint {
        /// When.
        at: u64,
        /// Where.
        node: u64,
        /// Its name.
        name: &'static str,
    },
    /// The scenario has something to say ([`crate::World::note`]).
    Note {
        /// When.
        at: u64,
        /// About whom: a machine's name, or a lane of its own.
        lane: String,
        /// What.
        text: String,
    },
}

/// What travels between machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// An attempt to connect.
    Connect,
    /// The attempt was accepted.
    Accepted,
    /// Bytes.
    Data,
    /// The sender sends nothing more.
    Finish,
    /// The connection is over.
    Reset,
    /// Nobody listens.
    Refused,
}

impl Happening {
    /// When it began.
    #[must_use]
    pub const fn at(&self) -> u64 {
        match self {
            Self::Machine { at, .. }
            | Self::Start { at, .. }
            | Self::End { at, .. }
            | Self::Fault { at, .. }
            | Self::FaultOver { at, .. }
            | Self::FaultHappened { at, .. }
            | Self::Heal { at }
            | Self::Probe { at, .. }
            | Self::Mark { at, .. }
            | Self::CrashPoint { at, .. }
            | Self::Note { at, .. } => *at,
            Self::Message { sent, .. } => *sent,
            Self::Disk { begun, .. } => *begun,
        }
    }
}
