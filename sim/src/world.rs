//! A run: nodes, a network between them, one clock, one seed.
//!
//! [`Sim::run`] gives a scenario its [`World`]; the scenario makes nodes, starts processes on them, breaks things and looks
//! at what comes of it.
//!
//! ```
//! use quipu_env::{Clock, Disk, Env, File, OpenOptions};
//! use quipu_sim::{NodeConfig, Sim, SimConfig};
//!
//! let report = Sim::new(7, SimConfig::default()).run(|world| async move {
//!     let node = world.node("a", NodeConfig::default());
//!     let process = node.start(|env| async move {
//!         let file = env.disk().open("f".as_ref(), OpenOptions::CREATE).await.unwrap();
//!         file.write_at(0, vec!["not synced".into()]).await.unwrap();
//!         core::future::pending::<()>().await;
//!     });
//!     world.sleep(core::time::Duration::from_secs(1)).await;
//!     node.power_cut();
//!     assert!(process.join().await.is_err());
//! });
//! assert_eq!(report.virtual_time.as_secs(), 1);
//! ```
//!
//! Invariants
//! - Every run has a thread of its own, in which nothing else has run before.
//! - No lock is held while product code runs, a waker wakes, or something of the product's is dropped.

use core::{fmt, future::Future, time::Duration};
use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use madsim::{runtime::Runtime, time::TimeHandle};

use crate::{
    agenda::{Agenda, Driver, EntryId},
    config::{NodeConfig, SimConfig},
    fault::{FaultCount, Faults},
    net::{LinkSettings, NetEvent, NetModel},
    node::{Node, NodeShared},
    profile::{self, Share},
    trace::{Happening, NOWHERE, ProbeEvent, Trace, TraceEvent},
};

/// Enough for the futures of a whole broker in an unoptimised build.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Locks; a panic elsewhere does not make it worse.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run that has not begun.
#[derive(Clone, Debug)]
pub struct Sim {
    seed: u64,
    config: SimConfig,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report<T> {
    /// Over every event with its time and node: equal for equal runs.
    pub hash: u64,
    /// Events in the hash.
    pub event_count: u64,
    /// How long it took by its own clock.
    pub virtual_time: Duration,
    /// How often each place marked by `sometimes` was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// How often a process ended at each crash point ([`Node::crash_at`]).
    pub crash_points: BTreeMap<&'static str, u64>,
    /// How often a process came to each crash point.
    pub crash_points_passed: BTreeMap<&'static str, u64>,
    /// How often each place marked by `buggify` was told to do the unusual thing.
    pub buggified: BTreeMap<&'static str, u64>,
    /// By kind ([`crate::fault::Fault::KINDS`]), how often faults were begun and really happened. And what power cuts cost:
    /// `lost-sector`, `torn-sector`, `lost-length`, `garbage-tail`, `lost-name`.
    pub faults: BTreeMap<&'static str, FaultCount>,
    /// What product code told its probes.
    pub probe_events: Vec<ProbeEvent>,
    /// Every event, if asked for.
    pub trace: Option<Vec<TraceEvent>>,
    /// The same for people, if asked for; in the order in which things ended.
    pub happenings: Option<Vec<Happening>>,
    /// Where the processor's time went, if asked for: by part (a task's name, or what it is of the world) and machine.
    pub profile: BTreeMap<(&'static str, String), Share>,
    /// What the scenario returned.
    pub value: T,
}

/// A run ended in a panic.
#[derive(Clone, Debug)]
pub struct RunFailure {
    /// The run's seed.
    pub seed: u64,
    /// The panic's message.
    pub message: String,
    /// What there was until then.
    pub until_then: Box<Report<()>>,
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the run with seed {} failed: {}", self.seed, self.message)
    }
}

impl core::error::Error for RunFailure {}

impl Sim {
    /// A run of that seed.
    #[must_use]
    pub const fn new(seed: u64, config: SimConfig) -> Self {
        Self { seed, config }
    }

    /// Runs a scenario to its end.
    ///
    /// # Panics
    /// If the scenario or anything in it panics, with the seed in the message.
    pub fn run<F, S, T>(self, scenario: F) -> Report<T>
    where
        F: FnOnce(World) -> S + Send,
        S: Future<Output = T>,
        T: Send,
    {
        self.try_run(scenario).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Runs a scenario to its end.
    ///
    /// # Errors
    /// If the scenario or anything in it panics.
    ///
    /// # Panics
    /// In a build that aborts on panic.
    pub fn try_run<F, S, T>(self, scenario: F) -> Result<Report<T>, RunFailure>
    where
        F: FnOnce(World) -> S + Send,
        S: Future<Output = T>,
        T: Send,
    {
        if !cfg!(panic = "unwind") {
            panic!("a simulated process halts by unwinding: build with a profile that does not abort on panic");
        }
        let seed = self.seed;
        let trace = Arc::new(Mutex::new(Trace::new(seed, &self.config)));
        let kept = Arc::clone(&trace);
        let outcome = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("seed {seed}")).stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, || self.run_here(trace, scenario));
            thread.expect("the system gives a thread").join()
        });
        outcome.map_err(|payload| {
            let mut trace = lock(&kept);
            let virtual_time = Duration::from_nanos(trace.last_at);
            let until_then = Box::new(trace.take_report((), virtual_time));
            RunFailure { seed, message: panic_message(payload.as_ref()), until_then }
        })
    }

    fn run_here<F, S, T>(self, trace: Arc<Mutex<Trace>>, scenario: F) -> Report<T>
    where
        F: FnOnce(World) -> S,
        S: Future<Output = T>,
    {
        let mut runtime = Runtime::with_seed_and_config(self.seed, madsim::Config::default());
        runtime.set_time_limit(self.config.time_limit);
        if self.config.profile {
            profile::begin();
        }
        let handle = runtime.handle().clone();
        let seed = self.seed;
        runtime.block_on(async move {
            let world = World(Arc::new(WorldShared {
                seed,
                time: TimeHandle::current(),
                runtime: handle,
                agenda: Mutex::default(),
                net: Mutex::new(NetModel::new(seed, &self.config)),
                trace,
                nodes: Mutex::default(),
                faults: Mutex::default(),
                witness: Mutex::default(),
                config: self.config,
            }));
            madsim::task::spawn_local(Driver { world: world.clone() });
            let value = scenario(world.clone()).await;
            world.into_report(value).await
        })
    }
}

fn panic_message(payload: &(dyn core::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

pub(crate) struct WorldShared {
    pub(crate) seed: u64,
    pub(crate) config: SimConfig,
    time: TimeHandle,
    pub(crate) runtime: madsim::runtime::Handle,
    agenda: Mutex<Agenda>,
    net: Mutex<NetModel>,
    trace: Arc<Mutex<Trace>>,
    nodes: Mutex<Vec<Arc<NodeShared>>>,
    pub(crate) faults: Mutex<Faults>,
    witness: Mutex<Option<Witness>>,
}

/// See [`World::on_event`].
type Witness = Box<dyn FnMut(&ProbeEvent) + Send>;

/// A run under way, as its scenario sees it. A clone is the same world.
#[derive(Clone)]
pub struct World(pub(crate) Arc<WorldShared>);

impl World {
    /// The run's seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Lets somebody see each event that product code tells its probes, at that moment. It may look at disks, and must not wait or
    /// begin anything. The events are then kept for the report only along with the trace.
    pub fn on_event(&self, witness: impl FnMut(&ProbeEvent) + Send + 'static) {
        *lock(&self.0.witness) = Some(Box::new(witness));
    }

    /// An event of product code: seen by the witness, kept for the report.
    pub(crate) fn probe_event(&self, event: ProbeEvent) {
        let within = profile::within("checks of events", None);
        let is_seen = lock(&self.0.witness).as_mut().map(|witness| witness(&event)).is_some();
        drop(within);
        if !is_seen || self.0.config.keep_trace {
            self.with_trace(|trace| trace.probe_events.push(event));
        }
    }

    /// A new machine, switched on, on which no process runs yet. Its name can be resolved.
    ///
    /// # Panics
    /// If the name is taken.
    #[must_use]
    pub fn node(&self, name: &str, config: NodeConfig) -> Node {
        let mut nodes = lock(&self.0.nodes);
        assert!(nodes.iter().all(|node| node.name != name), "there is a node {name} already");
        let number = nodes.len();
        let ip = lock(&self.0.net).add_host();
        let shared = Arc::new(NodeShared::new(self, number, name, ip, config));
        self.tell(|at| Happening::Machine { at, node: number as u64, name: name.to_owned(), ip: ip.to_string() });
        nodes.push(Arc::clone(&shared));
        Node::new(self.clone(), shared)
    }

    /// Virtual time since the run began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.time().elapsed()
    }

    /// Lets virtual time pass.
    pub async fn sleep(&self, duration: Duration) {
        let (sender, ended) = tokio::sync::oneshot::channel::<()>();
        self.schedule(self.after(duration), move |_| drop(sender));
        drop(ended.await);
    }

    /// A stream of random numbers for the scenario's own decisions.
    #[must_use]
    pub fn rng(&self, purpose: &str) -> quipu_env::Rng {
        crate::seed::stream(self.0.seed, "scenario", &[crate::seed::hash_of(purpose.as_bytes())])
    }

    /// Sets what the way from one node to another is like. One direction only.
    pub fn set_link(&self, from: &Node, to: &Node, settings: LinkSettings) {
        self.with_net(|net| net.set_link(from.number(), to.number(), settings));
    }

    /// The machine of that name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<Node> {
        let found = lock(&self.0.nodes).iter().find(|node| node.name == name).map(Arc::clone);
        found.map(|shared| Node::new(self.clone(), shared))
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<NodeShared>> {
        lock(&self.0.nodes).clone()
    }

    /// Cuts all ways between two sets of nodes: nothing passes, nobody is told.
    pub fn partition(&self, these: &[&Node], those: &[&Node]) {
        self.set_cut(these, those, true);
    }

    /// Opens all ways between two sets of nodes that [`Self::partition`] has cut.
    pub fn mend(&self, these: &[&Node], those: &[&Node]) {
        self.set_cut(these, those, false);
    }

    fn set_cut(&self, these: &[&Node], those: &[&Node], is_cut: bool) {
        for (this, that) in these.iter().flat_map(|this| those.iter().map(move |that| (this, that))) {
            self.record(None, if is_cut { "cut" } else { "mend" }, (this.number() * 1000 + that.number()) as u64);
            self.with_net(|net| {
                net.set_cut(this.number(), that.number(), is_cut);
                net.set_cut(that.number(), this.number(), is_cut);
            });
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.time.elapsed().as_nanos()).expect("a run is shorter than 584 years")
    }

    /// The moment that lies so far ahead.
    pub(crate) fn after(&self, duration: Duration) -> u64 {
        self.now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2))
    }

    /// A fault of that kind has bitten: for a scenario to say of those that are its to do.
    pub fn fault_happened(&self, kind: &'static str) {
        self.with_trace(|trace| trace.fault(kind).happened += 1);
        self.tell(|at| Happening::FaultHappened { at, kind });
    }

    /// Whether everything that happens is kept.
    #[must_use]
    pub fn keeps_trace(&self) -> bool {
        self.0.config.keep_trace
    }

    /// Has something stand in the trace that only the scenario knows: about a machine, or in a lane of its own. Does nothing
    /// where no trace is kept.
    pub fn note(&self, lane: &str, text: impl Into<String>) {
        self.tell(|at| Happening::Note { at, lane: lane.to_owned(), text: text.into() });
    }

    /// Keeps what happened, if anything is kept.
    pub(crate) fn tell(&self, happening: impl FnOnce(u64) -> Happening) {
        if self.keeps_trace() {
            let happening = happening(self.now());
            self.with_trace(|trace| trace.happenings.as_mut().map(|kept| kept.push(happening)));
        }
    }

    pub(crate) fn time(&self) -> &TimeHandle {
        &self.0.time
    }

    pub(crate) fn agenda(&self) -> MutexGuard<'_, Agenda> {
        lock(&self.0.agenda)
    }

    /// Lets `action` happen at that moment, in nanoseconds since the run began.
    pub(crate) fn schedule(&self, at: u64, action: impl FnOnce(&Self) + Send + 'static) -> EntryId {
        let (id, waker) = self.agenda().add(at, Box::new(action));
        if let Some(waker) = waker {
            waker.wake();
        }
        id
    }

    pub(crate) fn cancel(&self, entry: EntryId) {
        let action = self.agenda().cancel(entry);
        drop(action);
    }

    /// Does something to the network, then what follows from it.
    pub(crate) fn with_net<T>(&self, work: impl FnOnce(&mut NetModel) -> T) -> T {
        let _within = profile::within("network", None);
        let mut net = lock(&self.0.net);
        net.set_now(self.now());
        let value = work(&mut net);
        let effects = net.take_effects();
        drop(net);
        for (host, what, detail) in effects.events {
            self.record(Some(host), what, detail);
        }
        for happening in effects.happenings {
            self.tell(|_| happening);
        }
        for kind in effects.faults {
            self.fault_happened(kind);
        }
        for (at, event) in effects.timers {
            self.schedule(at, move |world| world.handle_net(event));
        }
        for waker in effects.wakers {
            waker.wake();
        }
        value
    }

    fn handle_net(&self, event: NetEvent) {
        self.with_net(|net| net.handle_event(event));
    }

    pub(crate) fn record(&self, node: Option<usize>, what: &'static str, detail: u64) {
        let node = node.map_or(NOWHERE, |number| number as u64);
        lock(&self.0.trace).record(TraceEvent { at: self.now(), node, what, detail });
    }

    pub(crate) fn with_trace<T>(&self, work: impl FnOnce(&mut Trace) -> T) -> T {
        work(&mut lock(&self.0.trace))
    }

    pub(crate) fn address_of(&self, host: &str) -> Option<std::net::IpAddr> {
        lock(&self.0.nodes).iter().find(|node| node.name == host).map(|node| node.ip)
    }

    /// Sums up, then ends every process and lets madsim drop their tasks while it still can.
    async fn into_report<T>(self, value: T) -> Report<T> {
        let virtual_time = self.elapsed();
        let mut report = self.with_trace(|trace| trace.take_report(value, virtual_time));
        let nodes = core::mem::take(&mut *lock(&self.0.nodes));
        let machine = |number: Option<usize>| number.map_or_else(String::new, |number| nodes[number].name.clone());
        report.profile =
            profile::end().into_iter().map(|((what, number), share)| ((what, machine(number)), share)).collect();
        for node in nodes {
            Node::new(self.clone(), node).kill();
        }
        let (entries, driver) = self.agenda().end();
        drop(entries);
        // Both may hold the world, which holds them.
        let (witness, faults) = (lock(&self.0.witness).take(), core::mem::take(&mut *lock(&self.0.faults)));
        drop((witness, faults));
        if let Some(driver) = driver {
            driver.wake();
        }
        for _ in 0..4 {
            madsim::task::yield_now().await;
        }
        report
    }
}

/// Runs one scenario for many seeds on `threads` threads, and returns the reports in the order of the seeds.
///
/// # Errors
/// The first failure by order of seeds.
pub fn run_seeds<F, S, T>(
    seeds: &[u64],
    config: &SimConfig,
    threads: usize,
    scenario: F,
) -> Result<Vec<Report<T>>, RunFailure>
where
    F: Fn(World) -> S + Send + Sync,
    S: Future<Output = T>,
    T: Send,
{
    let next = Mutex::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let index = {
                        let mut next = lock(&next);
                        *next += 1;
                        *next - 1
                    };
                    let Some(seed) = seeds.get(index) else { return };
                    let outcome = Sim::new(*seed, config.clone()).try_run(&scenario);
                    lock(&outcomes).insert(index, outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// What a node's task unwinds with when its process ends in the middle of it.
pub(crate) struct ProcessEnded;

/// Unwinds the task of a process that has just ended. Not a panic: nobody is told.
pub(crate) fn unwind_task() -> ! {
    panic::resume_unwind(Box::new(ProcessEnded))
}

/// Calls `work`; none if it unwound since its process ended.
pub(crate) fn catch_process_end<T>(work: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<ProcessEnded>() => None,
        Err(payload) => panic::resume_unwind(payload),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use quipu_env::{Clock as _, Env as _};

    use super::*;

    #[test]
    fn nothing_of_a_world_is_left_when_its_run_has_ended() {
        let report = Sim::new(3, SimConfig::default()).run(|world| async move {
            let weak: Weak<WorldShared> = Arc::downgrade(&world.0);
            let node = world.node("a", NodeConfig::default());
            let seen = (world.clone(), node.clone());
            world.on_event(move |_| {
                let _there = &seen;
            });
            let _process = node.start(|env| async move {
                env.clock().sleep(Duration::from_secs(3600)).await;
            });
            let later = world.clone();
            world.schedule(u64::MAX / 4, move |_| drop(later));
            world.sleep(Duration::from_secs(1)).await;
            weak
        });
        assert_eq!(report.value.strong_count(), 0);
    }
}
