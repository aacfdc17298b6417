//! Cuts the power at every operation of a disk in turn, starts again, and has somebody look.
//!
//! ```
//! use std::sync::{Mutex, Arc};
//! use bytes::Bytes;
//! use quipu_env::{Disk, Env, File, OpenOptions};
//! use quipu_sim::crash::CrashTest;
//!
//! // What was acknowledged outlives the process.
//! let report = CrashTest::new(1).run(
//!     |env, acknowledged: Arc<Mutex<u64>>| async move {
//!         let file = env.disk().open("/log".as_ref(), OpenOptions::CREATE).await.unwrap();
//!         env.disk().sync_dir("/".as_ref()).await.unwrap();
//!         for number in 0..3_u64 {
//!             file.write_at(number, vec![Bytes::from_static(b"x")]).await.unwrap();
//!             file.sync_data().await.unwrap();
//!             *acknowledged.lock().unwrap() = number + 1;
//!         }
//!     },
//!     |env, acknowledged| async move {
//!         let expected = *acknowledged.lock().unwrap();
//!         let size = env.disk().file_size("/log".as_ref()).await.unwrap_or(0);
//!         assert!(size >= expected, "{size} of {expected} bytes are left");
//!     },
//! );
//! assert!(report.crashes > 30);
//! ```
//!
//! Not here: crashes without a run around them ([`crate::disk::CrashPlan`] works on the bare model as well).

use core::{fmt, future::Future};
use std::sync::Arc;

use rand::RngExt;

use crate::{
    config::{NodeConfig, PowerCut, SimConfig},
    disk::{Count, CrashPlan, Moment},
    env::SimEnv,
    node::{Down, Node},
    seed::stream,
    world::{RunFailure, Sim},
};

/// A workload that has not ended after this many crashes at ever later operations never will.
const CRASHES_MAX: u64 = 1_000_000;

/// What is tried. See the module.
#[derive(Clone, Debug)]
pub struct CrashTest {
    /// Every run's seed is made from it and the place of the crash.
    pub seed: u64,
    /// The run.
    pub config: SimConfig,
    /// The machine; its `power_cut` is set by `outcomes`.
    pub node: NodeConfig,
    /// What is counted: at each change of the disk, or only at each sync.
    pub count: Count,
    /// Try every so many-th operation only.
    pub step: u64,
    /// What the cuts at one operation leave. `Random` may stand there several times.
    pub outcomes: Vec<PowerCut>,
    /// Whether the first start after the crash is cut as well, at an operation drawn by chance.
    pub crash_recovery: bool,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashReport {
    /// Runs in which the workload was cut off.
    pub crashes: u64,
    /// Of these, runs in which the next start was cut off as well.
    pub recovery_crashes: u64,
    /// Operations of the longest run that was tried.
    pub operations: u64,
}

/// Where a run was cut.
struct CrashPoint {
    plan: CrashPlan,
    outcome: PowerCut,
    seed: u64,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CrashPlan { count, at, moment } = self.plan;
        write!(f, "power cut {moment:?} operation {at} of {count:?}, outcome {:?}, seed {}", self.outcome, self.seed)
    }
}

/// How one run went.
enum Outcome {
    /// The workload ended before the operation came.
    Completed,
    Crashed {
        recovery_too: bool,
    },
}

impl CrashTest {
    /// At every change, before and after it; nothing kept, everything kept, and chance; and once more in the next start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            config: SimConfig::default(),
            node: NodeConfig::default(),
            count: Count::Changes,
            step: 1,
            outcomes: vec![PowerCut::LoseAll, PowerCut::KeepAll, PowerCut::Random, PowerCut::Random],
            crash_recovery: true,
        }
    }

    /// Runs `workload` on an empty disk again and again, each time cut at a later operation, until it isn't cut any more;
    /// after each cut, runs `check` on what is left (and, if [`Self::crash_recovery`], first lets it be cut itself). Both get
    /// the run's history, which outlives processes. `check` is also run once after the whole workload.
    ///
    /// # Panics
    /// If `check` or `workload` panics or halts, with a message that tells where the cut was.
    pub fn run<H, W, WF, C, CF>(&self, workload: W, check: C) -> CrashReport
    where
        H: Default + Send + Sync + 'static,
        W: Fn(SimEnv, Arc<H>) -> WF + Send + Sync,
        WF: Future<Output = ()> + Send + 'static,
        C: Fn(SimEnv, Arc<H>) -> CF + Send + Sync,
        CF: Future<Output = ()> + Send + 'static,
    {
        let mut report = CrashReport { crashes: 0, recovery_crashes: 0, operations: 0 };
        for moment in [Moment::Before, Moment::After] {
            let mut at = 0;
            while self.crash_at(at, moment, &workload, &check, &mut report) {
                report.operations = report.operations.max(at + 1);
                at += self.step;
                assert!(at < CRASHES_MAX, "the workload does not end");
            }
        }
        report
    }

    /// All outcomes of one operation. False if no run came to it.
    fn crash_at<H, W, WF, C, CF>(
        &self,
        at: u64,
        moment: Moment,
        workload: &W,
        check: &C,
        report: &mut CrashReport,
    ) -> bool
    where
        H: Default + Send + Sync + 'static,
        W: Fn(SimEnv, Arc<H>) -> WF + Send + Sync,
        WF: Future<Output = ()> + Send + 'static,
        C: Fn(SimEnv, Arc<H>) -> CF + Send + Sync,
        CF: Future<Output = ()> + Send + 'static,
    {
        let mut crashed = false;
        for (number, outcome) in self.outcomes.iter().enumerate() {
            let plan = CrashPlan { count: self.count, at, moment };
            let place = [at, u64::from(moment == Moment::After), number as u64];
            let seed = stream(self.seed, "crash test", &place).random();
            let point = CrashPoint { plan, outcome: *outcome, seed };
            match self.run_one(&point, workload, check) {
                Ok(Outcome::Completed) => {}
                Ok(Outcome::Crashed { recovery_too }) => {
                    crashed = true;
                    report.crashes += 1;
                    report.recovery_crashes += u64::from(recovery_too);
                }
                Err(failure) => panic!("{point}: {failure}"),
            }
        }
        crashed
    }

    fn run_one<H, W, WF, C, CF>(&self, point: &CrashPoint, workload: &W, check: &C) -> Result<Outcome, RunFailure>
    where
        H: Default + Send + Sync + 'static,
        W: Fn(SimEnv, Arc<H>) -> WF + Send + Sync,
        WF: Future<Output = ()> + Send + 'static,
        C: Fn(SimEnv, Arc<H>) -> CF + Send + Sync,
        CF: Future<Output = ()> + Send + 'static,
    {
        let config = NodeConfig { power_cut: point.outcome, ..self.node.clone() };
        let (plan, crash_recovery) = (point.plan, self.crash_recovery);
        let report = Sim::new(point.seed, self.config.clone()).try_run(|world| async move {
            let history = Arc::new(H::default());
            let node = world.node("crashing", config);
            node.crash_at_disk_operation(plan);
            let outcome = match node.start(|env| workload(env, Arc::clone(&history))).join().await {
                Ok(()) => Outcome::Completed,
                Err(Down::PowerCut) => {
                    let mut rng = world.rng("crash in recovery");
                    let recovery_too =
                        crash_recovery && crash_check(&node, rng.random_range(0..40), &history, check).await;
                    Outcome::Crashed { recovery_too }
                }
                Err(other) => panic!("the workload ended otherwise: {other}"),
            };
            node.with_disk(|disk| disk.set_crash_plan(None));
            let checked = node.start(|env| check(env, Arc::clone(&history))).join().await;
            checked.unwrap_or_else(|down| panic!("the check did not come to its end: {down}"));
            outcome
        })?;
        Ok(report.value)
    }
}

/// Cuts the power in a check. False if it came to its end before.
async fn crash_check<H, C, CF>(node: &Node, at: u64, history: &Arc<H>, check: &C) -> bool
where
    C: Fn(SimEnv, Arc<H>) -> CF,
    CF: Future<Output = ()> + Send + 'static,
{
    node.crash_at_disk_operation(CrashPlan { count: Count::Changes, at, moment: Moment::Before });
    match node.start(|env| check(env, Arc::clone(history))).join().await {
        Ok(()) => false,
        Err(Down::PowerCut) => true,
        Err(other) => panic!("the check ended otherwise: {other}"),
    }
}
