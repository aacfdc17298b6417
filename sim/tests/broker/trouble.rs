//! What happens to the broker's machine, and who starts the broker again.

use core::{future::pending, time::Duration};
use std::sync::{Arc, Mutex, PoisonError};

use quipu_env::Rng;
use quipu_sim::{
    Down,
    disk::{Count, CrashPlan, Moment},
};
use rand::RngExt;

use crate::{server::End, setup::pick, world::Stage};

/// Every crash point of the product.
pub(crate) const CRASH_POINTS: &[&str] = &[
    "checkpoint.begin",
    "checkpoint.committed",
    "checkpoint.directory.synced",
    "checkpoint.finished",
    "checkpoint.flushed",
    "checkpoint.recycled",
    "checkpoint.segment.synced",
    "checkpoint.segment.written",
    "manifest.edit",
    "manifest.edit.synced",
    "manifest.renamed",
    "manifest.replaced",
    "manifest.synced",
    "manifest.written",
    "open.entered",
    "open.formatted",
    "open.loaded",
    "open.recovered",
];
/// Crashes of one start after the other, at most.
const RECOVERY_CRASHES_MAX: u32 = 3;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    PowerCut,
    Kill,
    /// The process ends where the product has marked a place.
    CrashPoint(&'static str, u64, bool),
    /// The power goes at an operation of the disk.
    DiskOperation(CrashPlan),
    /// The clients can't reach the broker for a while.
    Unreachable(Duration),
    StalledDisk(Duration),
    Paused(Duration),
    /// Somebody stops the broker as one should.
    Stop,
    ClockStep(i64),
}

impl Trouble {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.random_range(0..16) {
            0..=2 => Self::PowerCut,
            3..=4 => Self::Kill,
            5..=7 => Self::CrashPoint(pick::<&str>(rng, CRASH_POINTS), rng.random_range(0..3), rng.random()),
            8..=10 => Self::DiskOperation(plan(rng, 200)),
            11 => Self::Unreachable(millis(rng, 5_000)),
            12 => Self::StalledDisk(millis(rng, 3_000)),
            13 => Self::Paused(millis(rng, 3_000)),
            14 => Self::Stop,
            _ => Self::ClockStep(rng.random_range(-100_000..100_000)),
        }
    }
}

fn plan(rng: &mut Rng, operations: u64) -> CrashPlan {
    CrashPlan {
        count: *pick(rng, &[Count::Changes, Count::Syncs]),
        at: rng.random_range(0..operations),
        moment: *pick(rng, &[Moment::Before, Moment::After]),
    }
}

fn millis(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(1..=most))
}

/// How the broker's processes ended, and how far each had come.
#[derive(Clone, Default)]
pub(crate) struct Ends(Arc<Mutex<Vec<(End, bool)>>>);

impl Ends {
    fn add(&self, end: End, was_ready: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((end, was_ready));
    }

    /// How many are as told; the second argument says whether the broker had started.
    pub(crate) fn count(&self, is: impl Fn(&End, bool) -> bool) -> u64 {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().filter(|(end, was_ready)| is(end, *was_ready)).count() as u64
    }
}

impl Stage {
    /// Starts the broker whenever it is down. `may_end` says which ends the scenario has on its conscience.
    pub(crate) async fn keep_up(&self, ends: &Ends, may_end: impl Fn(&End) -> bool) {
        let mut rng = self.world.rng("operator");
        let mut depth = 0;
        loop {
            let process = self.server.start();
            let end = process.ended().await;
            let was_ready = self.server.is_ready();
            assert!(may_end(&end), "the broker ended by itself: {end}");
            ends.add(end, was_ready);
            self.world.sleep(Duration::from_micros(rng.random_range(0..200_000))).await;
            depth = if was_ready { 0 } else { depth + 1 };
            let crash_next = depth < RECOVERY_CRASHES_MAX && rng.random_range(0..3) == 0;
            self.server.node.with_disk(|disk| disk.set_crash_plan(crash_next.then(|| plan(&mut rng, 40))));
        }
    }

    /// Lets trouble happen, then no more.
    pub(crate) async fn trouble(&self) {
        let mut rng = self.world.rng("trouble");
        for _ in 0..rng.random_range(1..=6) {
            self.world.sleep(Duration::from_micros(rng.random_range(0..60_000))).await;
            self.strike(Trouble::draw(&mut rng)).await;
        }
        pending::<()>().await;
    }

    pub(crate) async fn strike(&self, trouble: Trouble) {
        let node = &self.server.node;
        match trouble {
            Trouble::PowerCut => node.power_cut(),
            Trouble::Kill => node.kill(),
            Trouble::CrashPoint(name, skip, power) => {
                node.crash_at(name, skip, if power { Down::PowerCut } else { Down::Killed });
            }
            Trouble::DiskOperation(plan) => node.crash_at_disk_operation(plan),
            Trouble::Unreachable(duration) => {
                self.world.partition(&[node], &[&self.clients]);
                self.world.sleep(duration).await;
                self.world.mend(&[node], &[&self.clients]);
            }
            Trouble::StalledDisk(duration) => node.stall_disk(duration),
            Trouble::Paused(duration) => {
                node.pause();
                self.world.sleep(duration).await;
                node.resume();
            }
            Trouble::Stop => self.server.stop(),
            Trouble::ClockStep(offset_ms) => node.set_wall_offset_ms(offset_ms),
        }
    }
}

/// Ends that are no fault of the broker's while nothing is wrong with the disk.
pub(crate) fn is_crash_or_stop(end: &End) -> bool {
    matches!(end, End::Stopped | End::Down(Down::Killed | Down::PowerCut))
}
