//! The faults themselves, as a plan writes them: times are whole milliseconds or microseconds, machines go by name.
//!
//! Not here: what they are for (`fault`), what they do (`begin`).

use serde::{Deserialize, Serialize};

use super::{How, Place};
use crate::{config::PowerCut, disk::Moment, net::Latency};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// One fault with its parameters: see the table of the module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Packets take another time.
    Latency {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// How long a packet takes.
        latency: Latency,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Packets are lost.
    Loss {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// How many of a hundred.
        percent: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Nothing passes.
    Partition {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Packets queue up.
    Clog {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// Bytes that fit into the queue.
        queue_bytes: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Few bytes pass.
    SlowLink {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// How many in a second.
        bytes_per_second: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Bytes come in tiny segments.
    Segments {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// The longest, in bytes.
        bytes_max: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Receivers take nothing.
    ZeroWindow {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Connections are reset.
    Reset {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// After each has carried so many more bytes; 0: at once.
        after_bytes: u64,
    },
    /// Connections are closed by somebody on the way.
    Fin {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
    },
    /// Connections go dead without a word.
    HalfOpen {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
    },
    /// What connections carry comes late.
    LateSegments {
        /// Machines at one side.
        from: Vec<String>,
        /// Machines at the other side.
        to: Vec<String>,
        /// Only on the way from `from` to `to`.
        one_way: bool,
        /// How much later, in milliseconds.
        delay_ms: u64,
    },
    /// Attempts to connect to the machine get no answer.
    ConnectSilence {
        /// The machine.
        node: String,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Attempts to connect to the machine are refused.
    ConnectRefusal {
        /// The machine.
        node: String,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// The process ends.
    Kill {
        /// The machine.
        node: String,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
        /// How often in all: above 1, a crash loop.
        times: u64,
        /// How long it is up between two ends, in milliseconds.
        up_ms: u64,
    },
    /// The power goes. Several at one moment are several faults.
    PowerCut {
        /// The machine.
        node: String,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
        /// What is left of what was not synced.
        keep: PowerCut,
        /// Whether a write may stop inside a sector.
        torn_sectors: bool,
        /// Whether what was extended and not written may hold old bytes of the device; else zeros.
        garbage_tails: bool,
    },
    /// An orderly stop.
    Stop {
        /// The machine.
        node: String,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
    },
    /// The process ends at a crash point.
    CrashAt {
        /// The machine.
        node: String,
        /// The crash point's name, see [`Place::Point`].
        point: String,
        /// How often to pass it first.
        skip: u64,
        /// How it ends.
        how: How,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
        /// Where it ends in the starts that follow, one after the other.
        again: Vec<Place>,
    },
    /// The power goes at a change of the disk.
    CrashAtDisk {
        /// The machine.
        node: String,
        /// Which change, counted from 0.
        at: u64,
        /// On which side of it.
        moment: Moment,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
        /// Where it goes in the starts that follow, one after the other.
        again: Vec<Place>,
    },
    /// The process does nothing.
    Pause {
        /// The machine.
        node: String,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// A task of the process does nothing.
    StallTask {
        /// The machine.
        node: String,
        /// Only a task whose name begins so.
        task: String,
        /// Which of these, counted around.
        index: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Each step of a task keeps its shard busy.
    SlowCpu {
        /// The machine.
        node: String,
        /// For so many microseconds.
        step_us: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// The wall clock jumps, for good.
    ClockStep {
        /// The machine.
        node: String,
        /// How far, in milliseconds; negative: back.
        by_ms: i64,
    },
    /// The wall clock is wrong, then right again.
    ClockSkew {
        /// The machine.
        node: String,
        /// How far ahead, in milliseconds; negative: behind.
        by_ms: i64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Both clocks go too fast, or too slow.
    ClockDrift {
        /// The machine.
        node: String,
        /// By so many millionths; negative: too slow.
        ppm: i64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// The wall clock stands.
    ClockFreeze {
        /// The machine.
        node: String,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Syncs fail.
    SyncFails {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
    },
    /// Syncs do nothing.
    SyncLies {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
    },
    /// Reads fail.
    ReadFails {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
    },
    /// Writes fail.
    WriteFails {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
    },
    /// Reads take place in pieces.
    ShortRead {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
    },
    /// Writes never reach the device.
    PhantomWrite {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
    },
    /// Writes reach another place of their file.
    MisdirectedWrite {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Operations of the kind to let pass first.
        skip: u64,
        /// How often, after that.
        times: u64,
        /// How many 4 KiB blocks further on, around the file's end.
        by_blocks: u64,
    },
    /// Bits flip in a file that exists when the fault begins.
    BitRot {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Which of the files there, counted around.
        file: u64,
        /// Where in it, in millionths of its length.
        place_ppm: u64,
        /// How many bits, one in each following sector.
        bits: u64,
    },
    /// Sectors of a file that exists when the fault begins can't be read.
    Unreadable {
        /// The machine.
        node: String,
        /// Only at or below this path.
        below: String,
        /// Which of the files there, counted around.
        file: u64,
        /// Where in it, in millionths of its length.
        place_ppm: u64,
        /// How many sectors.
        sectors: u64,
    },
    /// Little room is left.
    FullDisk {
        /// The machine.
        node: String,
        /// How many bytes.
        free_bytes: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// The disk answers nothing.
    DiskStall {
        /// The machine.
        node: String,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// The disk is slow.
    SlowDisk {
        /// The machine.
        node: String,
        /// So many times as slow.
        factor: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// The machine comes back with an empty disk.
    WipedDisk {
        /// The machine.
        node: String,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
    },
    /// The machine comes back with the disk that it has when the fault begins.
    StaleSnapshot {
        /// The machine.
        node: String,
        /// When it goes down, in milliseconds from the beginning.
        age_ms: u64,
        /// How long the machine stays down, in milliseconds.
        down_ms: u64,
        /// Whether its data directory gets an id of its own before it is used, as who restores a copy in a cluster should see to. For
        /// whoever runs the machine: the disk does not know.
        #[serde(default, skip_serializing_if = "is_false")]
        new_id: bool,
    },
    /// Another machine starts a process that says it is this node.
    Twin {
        /// The machine of the node.
        node: String,
        /// Whether its disk begins as a copy of the node's, with an id of its own; else empty.
        copied: bool,
        /// How long it is up, in milliseconds.
        lasts_ms: u64,
    },
    /// Files and connections can't be opened.
    FewDescriptors {
        /// The machine.
        node: String,
        /// Beyond so many more than now.
        spare: u64,
        /// How long, in milliseconds.
        lasts_ms: u64,
    },
    /// Connections without a word.
    ConnectionStorm {
        /// The machine that they come from.
        from: String,
        /// The machine that they go to, wherever it listens.
        to: String,
        /// How many.
        count: u64,
        /// Between one and the next, in microseconds.
        pause_us: u64,
        /// How long each stays, in milliseconds.
        hold_ms: u64,
    },
}

impl Fault {
    /// Every kind.
    pub const KINDS: &[&'static str] = &[
        "latency",
        "loss",
        "partition",
        "clog",
        "slow-link",
        "segments",
        "zero-window",
        "reset",
        "fin",
        "half-open",
        "late-segments",
        "connect-silence",
        "connect-refusal",
        "kill",
        "power-cut",
        "stop",
        "crash-at",
        "crash-at-disk",
        "pause",
        "stall-task",
        "slow-cpu",
        "clock-step",
        "clock-skew",
        "clock-drift",
        "clock-freeze",
        "sync-fails",
        "sync-lies",
        "read-fails",
        "write-fails",
        "short-read",
        "phantom-write",
        "misdirected-write",
        "bit-rot",
        "unreadable",
        "full-disk",
        "disk-stall",
        "slow-disk",
        "wiped-disk",
        "stale-snapshot",
        "few-descriptors",
        "connection-storm",
        "twin",
    ];

    /// Its kind, as in [`Self::KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Loss { .. } => "loss",
            Self::Partition { .. } => "partition",
            Self::Clog { .. } => "clog",
            Self::SlowLink { .. } => "slow-link",
            Self::Segments { .. } => "segments",
            Self::ZeroWindow { .. } => "zero-window",
            Self::Reset { .. } => "reset",
            Self::Fin { .. } => "fin",
            Self::HalfOpen { .. } => "half-open",
            Self::LateSegments { .. } => "late-segments",
            Self::ConnectSilence { .. } => "connect-silence",
            Self::ConnectRefusal { .. } => "connect-refusal",
            Self::Kill { .. } => "kill",
            Self::PowerCut { .. } => "power-cut",
            Self::Stop { .. } => "stop",
            Self::CrashAt { .. } => "crash-at",
            Self::CrashAtDisk { .. } => "crash-at-disk",
            Self::Pause { .. } => "pause",
            Self::StallTask { .. } => "stall-task",
            Self::SlowCpu { .. } => "slow-cpu",
            Self::ClockStep { .. } => "clock-step",
            Self::ClockSkew { .. } => "clock-skew",
            Self::ClockDrift { .. } => "clock-drift",
            Self::ClockFreeze { .. } => "clock-freeze",
            Self::SyncFails { .. } => "sync-fails",
            Self::SyncLies { .. } => "sync-lies",
            Self::ReadFails { .. } => "read-fails",
            Self::WriteFails { .. } => "write-fails",
            Self::ShortRead { .. } => "short-read",
            Self::PhantomWrite { .. } => "phantom-write",
            Self::MisdirectedWrite { .. } => "misdirected-write",
            Self::BitRot { .. } => "bit-rot",
            Self::Unreadable { .. } => "unreadable",
            Self::FullDisk { .. } => "full-disk",
            Self::DiskStall { .. } => "disk-stall",
            Self::SlowDisk { .. } => "slow-disk",
            Self::WipedDisk { .. } => "wiped-disk",
            Self::StaleSnapshot { .. } => "stale-snapshot",
            Self::Twin { .. } => "twin",
            Self::FewDescriptors { .. } => "few-descriptors",
            Self::ConnectionStorm { .. } => "connection-storm",
        }
    }
}
