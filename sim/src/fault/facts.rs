//! What can be told of a fault without beginning it: how long it lasts, what it may cost, which fields faults share.

use core::time::Duration;

use super::{Cost, Fault};

impl Fault {
    /// What it may cost at worst. Where rot can reach the last groups of a write-ahead log before their durable proof, nobody
    /// can tell it from a torn write: so rot costs a detectable copy only below a directory `seg`.
    #[must_use]
    pub fn cost(&self) -> Cost {
        match self {
            Self::SyncLies { .. }
            | Self::PhantomWrite { .. }
            | Self::MisdirectedWrite { .. }
            | Self::StaleSnapshot { .. } => Cost::Undetectable,
            // If the node is away for long, the other one may take its place, and goes in the end.
            Self::WipedDisk { .. } | Self::Twin { .. } => Cost::Detectable,
            Self::BitRot { below, .. } | Self::Unreadable { below, .. } => {
                if below.split('/').any(|name| name == "seg") { Cost::Detectable } else { Cost::Undetectable }
            }
            _ => Cost::Nothing,
        }
    }

    /// The longest time from its beginning to its end, as far as time ends it. What waits for an operation or a crash point
    /// waits until [`World::heal`](crate::World::heal); of it only the time that a machine stays down is told.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        let milliseconds = match self {
            Self::Kill { down_ms, times, up_ms, .. } => times.saturating_mul(down_ms.saturating_add(*up_ms)),
            Self::StaleSnapshot { age_ms, down_ms, .. } => age_ms.saturating_add(*down_ms),
            Self::CrashAt { down_ms, again, .. } | Self::CrashAtDisk { down_ms, again, .. } => {
                down_ms.saturating_mul(again.len() as u64 + 1)
            }
            Self::LateSegments { delay_ms, .. } => *delay_ms,
            Self::ConnectionStorm { count, pause_us, hold_ms, .. } => {
                hold_ms.saturating_add(count.saturating_mul(*pause_us) / 1000)
            }
            _ => self.lasts_ms().or(self.down().map(|(_, down)| millis(down))).unwrap_or(0),
        };
        Duration::from_millis(milliseconds)
    }

    /// Of a fault that ends a process: on which machine, and after how long the scenario is to start it again. [`Fault::Stop`]
    /// is the scenario's to do altogether.
    #[must_use]
    pub fn down(&self) -> Option<(&str, Duration)> {
        match self {
            Self::Kill { node, down_ms, .. }
            | Self::PowerCut { node, down_ms, .. }
            | Self::Stop { node, down_ms }
            | Self::CrashAt { node, down_ms, .. }
            | Self::CrashAtDisk { node, down_ms, .. }
            | Self::WipedDisk { node, down_ms }
            | Self::StaleSnapshot { node, down_ms, .. } => Some((node, Duration::from_millis(*down_ms))),
            _ => None,
        }
    }

    /// For faults that a time ends.
    pub(super) const fn lasts_ms(&self) -> Option<u64> {
        match self {
            Self::Latency { lasts_ms, .. }
            | Self::Loss { lasts_ms, .. }
            | Self::Partition { lasts_ms, .. }
            | Self::Clog { lasts_ms, .. }
            | Self::SlowLink { lasts_ms, .. }
            | Self::Segments { lasts_ms, .. }
            | Self::ZeroWindow { lasts_ms, .. }
            | Self::ConnectSilence { lasts_ms, .. }
            | Self::ConnectRefusal { lasts_ms, .. }
            | Self::Pause { lasts_ms, .. }
            | Self::StallTask { lasts_ms, .. }
            | Self::SlowCpu { lasts_ms, .. }
            | Self::ClockSkew { lasts_ms, .. }
            | Self::ClockDrift { lasts_ms, .. }
            | Self::ClockFreeze { lasts_ms, .. }
            | Self::FullDisk { lasts_ms, .. }
            | Self::DiskStall { lasts_ms, .. }
            | Self::SlowDisk { lasts_ms, .. }
            | Self::Twin { lasts_ms, .. }
            | Self::FewDescriptors { lasts_ms, .. } => Some(*lasts_ms),
            _ => None,
        }
    }

    /// For faults between machines: from, to, and whether one way only.
    pub(super) fn ways(&self) -> Option<(&[String], &[String], bool)> {
        match self {
            Self::Latency { from, to, one_way, .. }
            | Self::Loss { from, to, one_way, .. }
            | Self::Partition { from, to, one_way, .. }
            | Self::Clog { from, to, one_way, .. }
            | Self::SlowLink { from, to, one_way, .. }
            | Self::Segments { from, to, one_way, .. }
            | Self::ZeroWindow { from, to, one_way, .. }
            | Self::LateSegments { from, to, one_way, .. } => Some((from, to, *one_way)),
            Self::Reset { from, to, .. } | Self::Fin { from, to } | Self::HalfOpen { from, to } => {
                Some((from, to, false))
            }
            _ => None,
        }
    }

    /// For faults of one machine.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::ConnectSilence { node, .. }
            | Self::ConnectRefusal { node, .. }
            | Self::Pause { node, .. }
            | Self::StallTask { node, .. }
            | Self::SlowCpu { node, .. }
            | Self::ClockStep { node, .. }
            | Self::ClockSkew { node, .. }
            | Self::ClockDrift { node, .. }
            | Self::ClockFreeze { node, .. }
            | Self::BitRot { node, .. }
            | Self::Unreadable { node, .. }
            | Self::FullDisk { node, .. }
            | Self::DiskStall { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::Twin { node, .. }
            | Self::FewDescriptors { node, .. } => Some(node),
            _ => self.down().map(|(node, _)| node).or(self.rule().map(|rule| rule.node)),
        }
    }

    /// Every machine that it names.
    #[must_use]
    pub fn machines_named(&self) -> Vec<&str> {
        let ways = self.ways().into_iter().flat_map(|(from, to, _)| from.iter().chain(to)).map(String::as_str);
        let storm = match self {
            Self::ConnectionStorm { from, to, .. } => vec![from.as_str(), to.as_str()],
            _ => Vec::new(),
        };
        ways.chain(self.node()).chain(storm).collect()
    }

    /// For faults that strike operations of a disk.
    pub(super) fn rule(&self) -> Option<RuleOf<'_>> {
        match self {
            Self::SyncFails { node, below, skip, times }
            | Self::SyncLies { node, below, skip, times }
            | Self::ReadFails { node, below, skip, times }
            | Self::WriteFails { node, below, skip, times }
            | Self::ShortRead { node, below, skip, times }
            | Self::PhantomWrite { node, below, skip, times }
            | Self::MisdirectedWrite { node, below, skip, times, .. } => {
                Some(RuleOf { node, below, skip: *skip, times: *times })
            }
            _ => None,
        }
    }
}

/// What the faults that strike operations of a disk have in common.
pub(super) struct RuleOf<'a> {
    pub(super) node: &'a str,
    pub(super) below: &'a str,
    pub(super) skip: u64,
    pub(super) times: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
