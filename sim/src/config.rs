//! What a run is made of, but for its seed.

use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{disk::DiskOptions, net::LinkSettings};

/// What all runs of one kind have in common.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// The run fails when it takes longer than this, in virtual time.
    pub time_limit: Duration,
    /// And when it has more events than this.
    pub event_limit: u64,
    /// Whether to keep every event, not just their hash.
    pub keep_trace: bool,
    /// Whether to measure where the processor's time goes.
    pub profile: bool,
    /// Between two nodes, unless set otherwise.
    pub link: LinkSettings,
    /// How long disks take.
    pub disk_timing: DiskTiming,
    /// Bytes of one direction of a connection that may be sent and not yet read.
    pub window_bytes: usize,
    /// How long a connection tries to send what nobody acknowledges before it fails.
    pub retransmit_limit: Duration,
    /// Whether legal but unusual things are done on purpose ([`quipu_env::Probe::buggify`]).
    pub buggify: bool,
    /// Bugs that are switched on ([`quipu_env::Probe::planted`]).
    pub planted: BTreeSet<&'static str>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(3600),
            event_limit: u64::MAX,
            keep_trace: false,
            profile: false,
            link: LinkSettings::default(),
            disk_timing: DiskTiming::default(),
            window_bytes: 256 * 1024,
            retransmit_limit: Duration::from_secs(120),
            buggify: false,
            planted: BTreeSet::new(),
        }
    }
}

/// Typical times of disk operations; each one takes between half and twice as long, and one in a hundred ten times.
#[derive(Clone, Debug)]
pub struct DiskTiming {
    /// Any operation, before what it is.
    pub base: Duration,
    /// Each mebibyte read or written.
    pub per_mebibyte: Duration,
    /// A sync.
    pub sync: Duration,
    /// One operation in so many takes ten times as long; 0: none.
    pub late_one_in: u32,
}

impl Default for DiskTiming {
    /// A solid-state disk behind a hypervisor.
    fn default() -> Self {
        Self {
            base: Duration::from_micros(10),
            per_mebibyte: Duration::from_micros(300),
            sync: Duration::from_micros(80),
            late_one_in: 100,
        }
    }
}

/// What one node is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Shards of its process.
    pub shards: u16,
    /// Its disk.
    pub disk: DiskOptions,
    /// What its disk keeps when the power goes.
    pub power_cut: PowerCut,
    /// How long its disk takes; as long as the other disks of the world if none.
    pub disk_timing: Option<DiskTiming>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { shards: 2, disk: DiskOptions::default(), power_cut: PowerCut::Random, disk_timing: None }
    }
}

/// What a disk keeps of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerCut {
    /// What chance will have.
    Random,
    /// Of each page either what was synced or what was written last, by the toss of a coin: of two writes under way, one is
    /// often there whole, and the other not at all.
    Pages,
    /// Nothing.
    LoseAll,
    /// Everything.
    KeepAll,
}
