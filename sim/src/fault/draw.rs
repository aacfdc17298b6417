//! Faults by chance.

use core::time::Duration;

use quipu_env::Rng;
use rand::RngExt;

use super::{Fault, How, Moment, Place};
use crate::{config::PowerCut, net::Latency};

/// Whom faults may strike: machines by name, and where the servers keep their data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Targets {
    /// Machines that serve. At least one.
    pub servers: Vec<String>,
    /// Machines with clients.
    pub clients: Vec<String>,
    /// The servers' data directory.
    pub data_dir: String,
}

impl Fault {
    /// A fault of that kind, one of [`Self::KINDS`], with parameters drawn such that it often bites in a world of some
    /// seconds, and against one of the targets.
    ///
    /// # Panics
    /// If there is no such kind, or no server.
    #[must_use]
    pub fn draw(kind: &str, rng: &mut Rng, targets: &Targets) -> Self {
        assert!(!targets.servers.is_empty(), "faults need a server to strike");
        let mut draw = Draw { rng, targets };
        draw.network(kind)
            .or_else(|| draw.connections(kind))
            .or_else(|| draw.process(kind))
            .or_else(|| draw.clock(kind))
            .or_else(|| draw.operations(kind))
            .or_else(|| draw.disk(kind))
            .unwrap_or_else(|| panic!("there is no fault {kind:?}"))
    }
}

struct Draw<'a> {
    rng: &'a mut Rng,
    targets: &'a Targets,
}

impl Draw<'_> {
    /// Small numbers are as likely as large ones: each doubling of `min` is.
    fn about(&mut self, min: u64, max: u64) -> u64 {
        let doublings = (max / min).ilog2();
        let low = min << self.rng.random_range(0..=doublings);
        self.rng.random_range(low..=low.saturating_mul(2).min(max))
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn one_of(&mut self, names: &[String]) -> String {
        names[self.rng.random_range(0..names.len())].clone()
    }

    fn server(&mut self) -> String {
        self.one_of(&self.targets.servers)
    }

    fn down_ms(&mut self) -> u64 {
        self.about(1, 3000)
    }

    fn lasts_ms(&mut self) -> u64 {
        self.about(10, 8000)
    }

    /// A server on one side; some others, all others, or if there are none itself, on the other.
    fn sides(&mut self) -> (Vec<String>, Vec<String>, bool) {
        let server = self.server();
        let all = self.targets.servers.iter().chain(&self.targets.clients);
        let others: Vec<String> = all.filter(|name| **name != server).cloned().collect();
        let some: Vec<String> = others.iter().filter(|_| self.chance(2)).cloned().collect();
        let to = match (others.is_empty(), some.is_empty()) {
            (true, _) => vec![server.clone()],
            (false, true) => others,
            (false, false) => some,
        };
        let one_way = self.chance(3);
        if self.chance(2) { (vec![server], to, one_way) } else { (to, vec![server], one_way) }
    }

    fn network(&mut self, kind: &str) -> Option<Fault> {
        let ((from, to, one_way), lasts_ms) = (self.sides(), self.lasts_ms());
        let fault = match kind {
            "latency" => Fault::Latency { from, to, one_way, latency: self.latency(), lasts_ms },
            "loss" => Fault::Loss { from, to, one_way, percent: self.about(1, 60), lasts_ms },
            "partition" => Fault::Partition { from, to, one_way, lasts_ms },
            "clog" => Fault::Clog { from, to, one_way, queue_bytes: self.about(1, 1 << 20), lasts_ms },
            "slow-link" => {
                Fault::SlowLink { from, to, one_way, bytes_per_second: self.about(1 << 10, 1 << 24), lasts_ms }
            }
            "segments" => Fault::Segments { from, to, one_way, bytes_max: self.about(1, 100), lasts_ms },
            "zero-window" => Fault::ZeroWindow { from, to, one_way, lasts_ms },
            "late-segments" => Fault::LateSegments { from, to, one_way, delay_ms: self.about(10, 10_000) },
            "reset" => {
                let after_bytes = if self.chance(3) { 0 } else { self.about(1, 1 << 16) };
                Fault::Reset { from, to, after_bytes }
            }
            "fin" => Fault::Fin { from, to },
            "half-open" => Fault::HalfOpen { from, to },
            _ => return None,
        };
        Some(fault)
    }

    fn latency(&mut self) -> Latency {
        let micros = |draw: &mut Self| Duration::from_micros(draw.about(10, 1_000_000));
        let (one, other) = (micros(self), micros(self));
        let (short, long) = (one.min(other), one.max(other));
        match self.rng.random_range(0..3) {
            0 => Latency::Uniform { min: short, max: long },
            1 => Latency::Exponential { min: short, mean: long },
            _ => Latency::Bimodal { usual: short, slow: long, one_in: self.rng.random_range(2..100) },
        }
    }

    fn connections(&mut self, kind: &str) -> Option<Fault> {
        let (node, lasts_ms) = (self.server(), self.lasts_ms());
        let fault = match kind {
            "connect-silence" => Fault::ConnectSilence { node, lasts_ms },
            "connect-refusal" => Fault::ConnectRefusal { node, lasts_ms },
            "few-descriptors" => Fault::FewDescriptors { node, spare: self.about(1, 32) - 1, lasts_ms },
            "connection-storm" => {
                let clients = &self.targets.clients;
                let from = if clients.is_empty() { node.clone() } else { self.one_of(clients) };
                let (count, pause_us) = (self.about(1, 1000), self.about(1, 1000));
                Fault::ConnectionStorm { from, to: node, count, pause_us, hold_ms: self.about(1, 2000) }
            }
            _ => return None,
        };
        Some(fault)
    }

    fn process(&mut self, kind: &str) -> Option<Fault> {
        let (node, down_ms, lasts_ms) = (self.server(), self.down_ms(), self.lasts_ms());
        let fault = match kind {
            "kill" => {
                let times = if self.chance(4) { self.about(2, 8) } else { 1 };
                Fault::Kill { node, down_ms, times, up_ms: self.about(1, 1000) }
            }
            "power-cut" => {
                let keep = match self.rng.random_range(0..8) {
                    0 => PowerCut::LoseAll,
                    1 => PowerCut::KeepAll,
                    2 | 3 => PowerCut::Pages,
                    _ => PowerCut::Random,
                };
                let (torn_sectors, garbage_tails) = (!self.chance(4), !self.chance(4));
                Fault::PowerCut { node, down_ms, keep, torn_sectors, garbage_tails }
            }
            "stop" => Fault::Stop { node, down_ms },
            "crash-at" => {
                let skip = self.about(1, 200) - 1;
                let how = if self.chance(3) { How::Kill } else { How::PowerCut };
                Fault::CrashAt { node, point: "*".to_owned(), skip, how, down_ms, again: self.places() }
            }
            "crash-at-disk" => {
                let (at, moment) = (self.about(1, 500) - 1, self.moment());
                Fault::CrashAtDisk { node, at, moment, down_ms, again: self.places() }
            }
            "pause" => Fault::Pause { node, lasts_ms },
            "stall-task" => {
                Fault::StallTask { node, task: String::new(), index: self.rng.random_range(0..64), lasts_ms }
            }
            "slow-cpu" => Fault::SlowCpu { node, step_us: self.about(1, 2000), lasts_ms },
            "twin" => Fault::Twin { node, copied: self.chance(2), lasts_ms },
            _ => return None,
        };
        Some(fault)
    }

    fn moment(&mut self) -> Moment {
        if self.chance(2) { Moment::Before } else { Moment::After }
    }

    /// Up to two more places, early in the starts that follow: in recovery.
    fn places(&mut self) -> Vec<Place> {
        let count = [0, 0, 1, 2][self.rng.random_range(0..4)];
        (0..count)
            .map(|_| {
                if self.chance(2) {
                    Place::Point { name: "*".to_owned(), skip: self.about(1, 8) - 1 }
                } else {
                    Place::Disk { at: self.about(1, 40) - 1, moment: self.moment() }
                }
            })
            .collect()
    }

    fn clock(&mut self, kind: &str) -> Option<Fault> {
        let (node, lasts_ms) = (self.server(), self.lasts_ms());
        let back = self.chance(2);
        let sign = if back { -1 } else { 1 };
        let mut signed = |min, max| sign * i64::try_from(self.about(min, max)).expect("a small number");
        let fault = match kind {
            "clock-step" => Fault::ClockStep { node, by_ms: signed(1, 100_000_000) },
            "clock-skew" => Fault::ClockSkew { node, by_ms: signed(1, 100_000_000), lasts_ms },
            "clock-drift" => Fault::ClockDrift { node, ppm: signed(10, 300_000), lasts_ms },
            "clock-freeze" => Fault::ClockFreeze { node, lasts_ms },
            _ => return None,
        };
        Some(fault)
    }

    /// Everything, the log, or the segments.
    fn below(&mut self) -> String {
        let directory = ["", "/wal", "/wal", "/seg"][self.rng.random_range(0..4)];
        format!("{}{directory}", self.targets.data_dir)
    }

    fn operations(&mut self, kind: &str) -> Option<Fault> {
        let (node, below) = (self.server(), self.below());
        let (skip, times) = (self.about(1, 200) - 1, if self.chance(3) { self.about(2, 20) } else { 1 });
        let fault = match kind {
            "sync-fails" => Fault::SyncFails { node, below, skip, times },
            "sync-lies" => Fault::SyncLies { node, below, skip, times },
            "read-fails" => Fault::ReadFails { node, below, skip: skip / 8, times },
            "write-fails" => Fault::WriteFails { node, below, skip, times },
            "short-read" => Fault::ShortRead { node, below, skip: skip / 8, times: times * 4 },
            "phantom-write" => Fault::PhantomWrite { node, below, skip, times },
            "misdirected-write" => Fault::MisdirectedWrite { node, below, skip, times, by_blocks: self.about(1, 64) },
            _ => return None,
        };
        Some(fault)
    }

    fn disk(&mut self, kind: &str) -> Option<Fault> {
        let (node, below, lasts_ms, down_ms) = (self.server(), self.below(), self.lasts_ms(), self.down_ms());
        let (file, place_ppm) = (self.rng.random_range(0..64), self.rng.random_range(0..=1_000_000));
        let fault = match kind {
            "bit-rot" => Fault::BitRot { node, below, file, place_ppm, bits: self.about(1, 8) },
            "unreadable" => Fault::Unreadable { node, below, file, place_ppm, sectors: self.about(1, 32) },
            "full-disk" => Fault::FullDisk { node, free_bytes: self.about(1, 1 << 20), lasts_ms },
            "disk-stall" => Fault::DiskStall { node, lasts_ms },
            "slow-disk" => Fault::SlowDisk { node, factor: self.about(2, 1000), lasts_ms },
            "wiped-disk" => Fault::WipedDisk { node, down_ms },
            "stale-snapshot" => Fault::StaleSnapshot { node, age_ms: self.about(1, 3000), down_ms, new_id: false },
            _ => return None,
        };
        Some(fault)
    }
}
