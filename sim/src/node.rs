//! A machine: its disk, its clocks, and the process that runs on it, if one does.
//!
//! A process begins with [`Node::start`] and ends when its main task returns, when it is killed, when it halts, or when the
//! power goes. From that moment nothing of it acts any more: its tasks are dropped, and what their destructors do reaches
//! nothing. The next start is another life, with another process id, on the disk that the last one left.
//!
//! | end | disk | connections |
//! |---|---|---|
//! | returned, killed, halted | everything written stays | closed by the kernel |
//! | power cut | what chance keeps | gone without a word; nobody answers until the next start |

use core::{fmt, future::Future, task::Waker, time::Duration};
use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use quipu_env::{Env, Fatal, Rng, ShardId};
use rand::{Rng as _, RngExt};
use tokio::sync::oneshot;

use crate::{
    clock::NodeClock,
    condition::Condition,
    config::{NodeConfig, PowerCut},
    crashes::{Chain, Crashes},
    disk::{Choice, Choices, Counted, CrashPlan, DiskModel, FaultRule, KeepAll, LoseAll, PageChoices, RandomChoices},
    env::{SimEnv, Tasks},
    seed::stream,
    trace::Happening,
    world::{World, lock},
};

/// After so many new tasks of a node madsim is made to forget the dead ones.
const SPAWNS_PER_COUNT: u64 = 4096;

/// The number of what no fault has begun.
const BY_HAND: u64 = u64::MAX;

/// Chance that is made only when it is asked: most operations of a disk leave nothing to it.
struct LateChoices {
    seed: u64,
    choices: Option<RandomChoices>,
}

impl LateChoices {
    fn choices(&mut self) -> &mut RandomChoices {
        let seed = self.seed;
        self.choices.get_or_insert_with(|| RandomChoices::new(stream(seed, "choices", &[])))
    }
}

impl Choices for LateChoices {
    fn choose(&mut self, what: Choice, count: u64) -> u64 {
        self.choices().choose(what, count)
    }

    fn garbage(&mut self) -> u8 {
        self.choices().garbage()
    }
}

/// Why a process ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Down {
    /// Its main task returned.
    Exited,
    /// It was killed.
    Killed,
    /// The power went.
    PowerCut,
    /// It stopped itself.
    Halted {
        /// The reason, which sets the exit status.
        why: Fatal,
        /// What it said.
        message: String,
    },
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited => f.write_str("the process returned"),
            Self::Killed => f.write_str("the process was killed"),
            Self::PowerCut => f.write_str("the power went"),
            Self::Halted { why, message } => write!(f, "the process halted ({why:?}): {message}"),
        }
    }
}

impl core::error::Error for Down {}

/// One process from its start to its end.
pub(crate) struct Life {
    /// Counts from 1 on each node.
    pub(crate) number: u64,
    pub(crate) process_id: u32,
    over: AtomicBool,
    /// How often each thing of each name was asked for.
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Its tasks, for faults that strike one of them.
    pub(crate) tasks: Tasks,
    /// Nanoseconds that the monotonic clock is ahead of the run's time.
    pub(crate) clock_base: u64,
}

impl Life {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How often something of this kind and name has been asked for, this time included.
    pub(crate) fn count(&self, kind: &'static str, name: &'static str) -> u64 {
        let mut counts = lock(&self.counts);
        let count = counts.entry((kind, name)).or_insert(0);
        *count += 1;
        *count
    }
}

/// What an operation on the disk does. It returns what tells its caller, and why it failed, if it did.
pub(crate) type DiskWork = Box<dyn FnOnce(&mut DiskModel, &mut dyn Choices) -> (Tell, Option<String>) + Send>;
pub(crate) type Tell = Box<dyn FnOnce() + Send>;

/// An operation on the disk that has begun.
struct DiskJob {
    work: DiskWork,
    /// For the trace, if one is kept: what it is, and when it was asked for.
    note: Option<(DiskNote, u64)>,
}

/// What an operation on the disk is.
pub(crate) struct DiskNote {
    pub(crate) operation: &'static str,
    pub(crate) path: String,
    pub(crate) position: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct NodeShared {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) config: NodeConfig,
    madsim_id: madsim::task::NodeId,
    pub(crate) disk: Mutex<DiskModel>,
    disk_rng: Mutex<Rng>,
    /// Nanoseconds before which the disk answers nothing.
    stalled_until: Mutex<u64>,
    /// Operations that have begun and not taken place, by number.
    disk_works: Mutex<BTreeMap<u64, DiskJob>>,
    next_disk_work: Mutex<u64>,
    pub(crate) clock: Mutex<NodeClock>,
    condition: Mutex<Condition>,
    /// Tasks so far.
    spawned: AtomicU64,
    /// Whether [`Condition::holds_tasks`], which each step of each task asks.
    holds_tasks: AtomicBool,
    /// What the power cut under way leaves, if not what the configuration says.
    power_loss: Mutex<Option<PowerLoss>>,
    process: Mutex<Process>,
}

/// What a power cut leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PowerLoss {
    pub(crate) keep: PowerCut,
    pub(crate) torn_sectors: bool,
    pub(crate) garbage_tails: bool,
}

#[derive(Default)]
struct Process {
    /// Of the process that runs.
    life: Option<Arc<Life>>,
    lives: u64,
    /// How the last one ended.
    down: Option<Down>,
    waiting: Vec<Waker>,
    crashes: Crashes,
}

impl NodeShared {
    pub(crate) fn new(world: &World, number: usize, name: &str, ip: IpAddr, config: NodeConfig) -> Self {
        let madsim_id = world.0.runtime.create_node().name(name).build().id();
        Self {
            number,
            name: name.to_owned(),
            ip,
            madsim_id,
            disk: Mutex::new(DiskModel::new(config.disk.clone())),
            disk_rng: Mutex::new(stream(world.seed(), "disk", &[number as u64])),
            stalled_until: Mutex::new(0),
            disk_works: Mutex::default(),
            next_disk_work: Mutex::default(),
            clock: Mutex::default(),
            condition: Mutex::default(),
            spawned: AtomicU64::new(0),
            holds_tasks: AtomicBool::new(false),
            power_loss: Mutex::default(),
            process: Mutex::default(),
            config,
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        lock(&self.process)
    }

    /// Runs a future on the node's threads.
    pub(crate) fn spawn_raw(&self, world: &World, future: impl Future<Output = ()> + Send + 'static) {
        let node = world.0.runtime.get_node(self.madsim_id).expect("madsim keeps its nodes");
        drop(node.spawn(future));
        // madsim keeps a trace of every task that there was, and drops those of the dead only when it counts the living.
        if self.spawned.fetch_add(1, Ordering::Relaxed) % SPAWNS_PER_COUNT == SPAWNS_PER_COUNT - 1 {
            world.0.runtime.metrics().num_tasks();
        }
    }

    /// Begins an operation on the disk that takes place in about `duration`, unless the process ends before.
    pub(crate) fn begin_disk_work(
        self: &Arc<Self>,
        world: &World,
        duration: Duration,
        note: impl FnOnce() -> DiskNote,
        work: DiskWork,
    ) {
        let timing = self.config.disk_timing.as_ref().unwrap_or(&world.0.config.disk_timing);
        let mut duration = self.jittered(duration, timing.late_one_in);
        if let Some(factor) = self.condition(|condition| condition.disk_factor()) {
            world.fault_happened("slow-disk");
            duration = duration.saturating_mul(factor);
        }
        let (now, stalled_until) = (world.now(), *lock(&self.stalled_until));
        if stalled_until > now {
            world.fault_happened("disk-stall");
        }
        let begin = now.max(stalled_until);
        let id = {
            let mut next = lock(&self.next_disk_work);
            *next += 1;
            *next
        };
        let note = world.keeps_trace().then(|| (note(), now));
        lock(&self.disk_works).insert(id, DiskJob { work, note });
        let node = Arc::clone(self);
        world.schedule(begin.saturating_add(duration), move |world| node.do_disk_work(world, id));
    }

    fn jittered(&self, duration: Duration, late_one_in: u32) -> u64 {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 32);
        let mut rng = lock(&self.disk_rng);
        let spread = rng.random_range(nanos / 2..=nanos.saturating_mul(2));
        let is_late = late_one_in > 0 && rng.random_range(0..late_one_in) == 0;
        if is_late { spread.saturating_mul(10) } else { spread }
    }

    fn do_disk_work(self: &Arc<Self>, world: &World, id: u64) {
        let job = lock(&self.disk_works).remove(&id);
        let Some(job) = job else { return };
        let tell = self.carry_out(world, job);
        let powered = lock(&self.disk).is_powered();
        world.record(Some(self.number), "disk", id);
        if powered {
            tell();
        } else {
            let kind = self.process().crashes.struck_at_disk();
            kind.into_iter().for_each(|kind| world.fault_happened(kind));
            self.end_process(world, Down::PowerCut);
        }
    }

    fn carry_out(&self, world: &World, job: DiskJob) -> Tell {
        let mut choices = self.random_choices();
        let (tell, failure) = self.with_disk(world, |disk| (job.work)(disk, &mut choices));
        self.tell_of(world, job.note, failure);
        tell
    }

    fn tell_of(&self, world: &World, note: Option<(DiskNote, u64)>, failure: Option<String>) {
        let Some((DiskNote { operation, path, position, bytes }, begun)) = note else { return };
        let node = self.number as u64;
        world.tell(|ended| Happening::Disk { node, operation, path, position, bytes, begun, ended, failure });
    }

    /// Does something on the disk, and counts the faults that happened.
    pub(crate) fn with_disk<T>(&self, world: &World, work: impl FnOnce(&mut DiskModel) -> T) -> T {
        let _within = crate::profile::within("disks", None);
        let mut disk = lock(&self.disk);
        let value = work(&mut disk);
        let happened = disk.take_happened();
        drop(disk);
        happened.into_iter().for_each(|kind| world.fault_happened(kind));
        value
    }

    /// Looks at the machine's condition, or changes it.
    pub(crate) fn condition<T>(&self, work: impl FnOnce(&mut Condition) -> T) -> T {
        let mut condition = lock(&self.condition);
        let value = work(&mut condition);
        self.holds_tasks.store(condition.holds_tasks(), Ordering::Relaxed);
        value
    }

    /// Whether tasks may be kept from running now.
    pub(crate) fn holds_tasks(&self) -> bool {
        self.holds_tasks.load(Ordering::Relaxed)
    }

    /// Lets the disk answer nothing before that moment.
    pub(crate) fn stall_disk_until(&self, until: u64) {
        *lock(&self.stalled_until) = until;
    }

    /// The life of the process that runs.
    pub(crate) fn life(&self) -> Option<Arc<Life>> {
        self.process().life.clone()
    }

    /// Cuts the power, whether a process runs or not. False if none did.
    pub(crate) fn power_cut(&self, world: &World, loss: Option<PowerLoss>) -> bool {
        *lock(&self.power_loss) = loss;
        let runs = self.life().is_some();
        if runs {
            self.end_process(world, Down::PowerCut);
        } else {
            world.with_net(|net| net.power_off(self.number));
            self.cut_disk(world);
        }
        runs
    }

    pub(crate) fn arm_point(&self, point: String, skip: u64, chain: Chain) {
        self.process().crashes.arm_point(point, skip, chain);
    }

    pub(crate) fn arm_disk(&self, plan: CrashPlan, chain: Chain) {
        self.process().crashes.arm_disk(chain);
        lock(&self.disk).set_crash_plan(Some(plan));
    }

    /// Takes back every end that waits for its place.
    pub(crate) fn disarm(&self) {
        self.process().crashes.forget();
        lock(&self.disk).set_crash_plan(None);
    }

    /// Ends the process, if one runs.
    pub(crate) fn end_process(&self, world: &World, down: Down) {
        let waiting = {
            let mut process = self.process();
            let Some(life) = process.life.take() else { return };
            life.over.store(true, Ordering::Relaxed);
            process.down = Some(down.clone());
            core::mem::take(&mut process.waiting)
        };
        world.record(Some(self.number), "down", u64::from(down == Down::PowerCut));
        world.tell(|at| Happening::End { at, node: self.number as u64, how: down.to_string() });
        let works = core::mem::take(&mut *lock(&self.disk_works));
        if down == Down::PowerCut {
            for job in works.into_values() {
                self.tell_of(world, job.note, Some("cut off".to_owned()));
            }
            world.with_net(|net| net.power_off(self.number));
            self.cut_disk(world);
        } else {
            self.finish_some(world, works);
            world.with_net(|net| net.end_process(self.number));
            let mut choices = self.random_choices();
            lock(&self.disk).kill(&mut choices);
        }
        if let Some(plan) = self.process().crashes.arm_next() {
            lock(&self.disk).set_crash_plan(Some(plan));
        }
        world.0.runtime.kill(self.madsim_id);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// System calls that were under way when the process was killed: some still take place.
    fn finish_some(&self, world: &World, works: BTreeMap<u64, DiskJob>) {
        for job in works.into_values() {
            let happens = lock(&self.disk_rng).random();
            if happens {
                drop(self.carry_out(world, job));
            } else {
                self.tell_of(world, job.note, Some("cut off".to_owned()));
            }
        }
    }

    fn cut_disk(&self, world: &World) {
        let loss = lock(&self.power_loss).take();
        let mut random = self.random_choices();
        let mut pages = PageChoices::new(stream(random.seed, "pages", &[]));
        let choices: &mut dyn Choices = match loss.map_or(self.config.power_cut, |loss| loss.keep) {
            PowerCut::Random => &mut random,
            PowerCut::Pages => &mut pages,
            PowerCut::LoseAll => &mut LoseAll,
            PowerCut::KeepAll => &mut KeepAll,
        };
        let mut counted = Counted::new(choices);
        let mut disk = lock(&self.disk);
        let (torn_sectors, garbage_tails) = disk.tearing();
        if let Some(loss) = loss {
            disk.set_tearing(loss.torn_sectors, loss.garbage_tails);
        }
        disk.power_cut(&mut counted);
        disk.set_tearing(torn_sectors, garbage_tails);
        drop(disk);
        world.with_trace(|trace| trace.lost(counted.losses()));
    }

    fn random_choices(&self) -> LateChoices {
        LateChoices { seed: lock(&self.disk_rng).next_u64(), choices: None }
    }

    /// Whether the process must end at this crash point now, and how; and what kind of fault that is.
    pub(crate) fn crash_at(&self, name: &str) -> Option<(Down, Option<&'static str>)> {
        self.process().crashes.pass(name)
    }
}

/// A machine in a run. A clone is the same machine.
#[derive(Clone)]
pub struct Node {
    world: World,
    shared: Arc<NodeShared>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({})", self.shared.name, self.shared.ip)
    }
}

impl Node {
    pub(crate) fn new(world: World, shared: Arc<NodeShared>) -> Self {
        Self { world, shared }
    }

    /// Its number, by which events name it.
    #[must_use]
    pub fn number(&self) -> usize {
        self.shared.number
    }

    pub(crate) const fn shared(&self) -> &Arc<NodeShared> {
        &self.shared
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.shared.ip
    }

    /// Starts a process, whose main task runs on shard 0. When it returns, the process ends.
    ///
    /// # Panics
    /// If a process runs.
    pub fn start<F, M, T>(&self, main: M) -> Running<T>
    where
        M: FnOnce(SimEnv) -> F,
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let env = self.boot();
        let (sender, value) = oneshot::channel();
        let (main, node) = (main(env.clone()), self.clone());
        drop(env.spawn(ShardId(0), "main", async move {
            let value = main.await;
            // Nobody may wait for it.
            drop(sender.send(value));
            node.shared.end_process(&node.world, Down::Exited);
        }));
        Running { value, node: self.clone() }
    }

    fn boot(&self) -> SimEnv {
        let shared = &self.shared;
        let mut process = shared.process();
        assert!(process.life.is_none(), "a process runs on {} already", shared.name);
        process.lives += 1;
        let mut rng = stream(self.world.seed(), "life", &[shared.number as u64, process.lives]);
        let life = Arc::new(Life {
            number: process.lives,
            process_id: rng.random_range(2..32_768),
            over: AtomicBool::new(false),
            counts: Mutex::default(),
            tasks: Tasks::default(),
            clock_base: rng.random_range(1_000_000_000..1_000_000_000_000_000),
        });
        process.life = Some(Arc::clone(&life));
        process.down = None;
        drop(process);
        drop(shared.condition(Condition::boot));
        self.world.record(Some(shared.number), "start", life.number);
        self.world.tell(|at| Happening::Start { at, node: shared.number as u64, life: life.number });
        if life.number > 1 {
            self.world.0.runtime.restart(shared.madsim_id);
        }
        self.world.with_net(|net| net.power_on(shared.number));
        SimEnv::new(self.world.clone(), Arc::clone(shared), life)
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.process().life.is_some()
    }

    /// Waits until no process runs. How the last one ended; `Exited` if there never was one.
    pub async fn wait_down(&self) -> Down {
        core::future::poll_fn(|context| {
            let mut process = self.shared.process();
            if process.life.is_some() {
                process.waiting.push(context.waker().clone());
                return core::task::Poll::Pending;
            }
            core::task::Poll::Ready(process.down.clone().unwrap_or(Down::Exited))
        })
        .await
    }

    /// Ends the process at once; the machine goes on. Nothing if none runs.
    pub fn kill(&self) {
        self.shared.end_process(&self.world, Down::Killed);
    }

    /// Cuts the machine's power: see the table of the module. It comes back with the next start.
    pub fn power_cut(&self) {
        self.shared.power_cut(&self.world, None);
    }

    /// Lets no task of the process run until [`Self::resume`]; the network goes on.
    pub fn pause(&self) {
        self.shared.condition(|condition| condition.pause(BY_HAND));
    }

    /// Ends [`Self::pause`].
    pub fn resume(&self) {
        self.shared.condition(|condition| condition.resume(BY_HAND)).into_iter().for_each(Waker::wake);
    }

    /// Ends the process when it comes to a crash point of that name, after `skip` times of passing it. A name that ends in
    /// `*` stands for all names that begin so.
    pub fn crash_at(&self, name: impl Into<String>, skip: u64, down: Down) {
        self.shared.arm_point(name.into(), skip, Chain { down, kind: None, again: VecDeque::new() });
    }

    /// Takes back every [`Self::crash_at`] that the process has not come to.
    pub fn forget_crash_points(&self) {
        self.shared.process().crashes.forget();
    }

    /// Cuts the power at an operation of the disk, counted from now.
    pub fn crash_at_disk_operation(&self, plan: CrashPlan) {
        self.with_disk(|disk| disk.set_crash_plan(Some(plan)));
    }

    /// Makes the disk fail as told.
    pub fn inject(&self, rule: FaultRule) {
        self.with_disk(|disk| disk.inject(rule));
    }

    /// Lets the disk answer nothing for a while. What was begun before goes on.
    pub fn stall_disk(&self, duration: Duration) {
        self.shared.stall_disk_until(self.world.after(duration));
    }

    /// Looks at the disk, or does something to it by hand.
    pub fn with_disk<T>(&self, work: impl FnOnce(&mut DiskModel) -> T) -> T {
        self.shared.with_disk(&self.world, work)
    }

    /// Whether these bytes of a file would survive a power cut now: for a checker, at the moment of an acknowledgement.
    #[must_use]
    pub fn is_durable(&self, path: &Path, range: core::ops::Range<u64>) -> bool {
        self.with_disk(|disk| disk.is_durable(path, range))
    }

    /// Sets the wall clock ahead (or back) of the true one, in milliseconds.
    pub fn set_wall_offset_ms(&self, offset: i64) {
        lock(&self.shared.clock).offset_ms = offset;
    }
}

/// A process that was started.
pub struct Running<T> {
    value: oneshot::Receiver<T>,
    node: Node,
}

impl<T> Running<T> {
    /// What its main task returned.
    ///
    /// # Errors
    /// If it ended otherwise: how.
    pub async fn join(self) -> Result<T, Down> {
        match self.value.await {
            Ok(value) => Ok(value),
            Err(_ended) => Err(self.node.shared.process().down.clone().unwrap_or(Down::Killed)),
        }
    }
}
