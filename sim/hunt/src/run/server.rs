//! A node's broker as a process on its machine: started, stopped, started again.

use core::{fmt, time::Duration};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quipu_broker::{Broker, Config as BrokerConfig, HostPort};
use quipu_sim::{Down, Node, World};
use tokio::sync::oneshot;

use super::leftovers;
use crate::plan::{DATA_DIR, Plan};

/// How long a machine stays down when nothing else is said.
pub(super) const DOWN: Duration = Duration::from_millis(20);

/// Faults that damage what is there when they begin, and nothing later.
const ROTS_AT_ONCE: &[&str] = &["bit-rot", "unreadable"];

/// How a broker's process ended.
#[derive(Clone, Debug)]
pub enum End {
    /// It was asked to stop and did.
    Stopped,
    /// It was asked to stop, and the last checkpoint failed.
    StoppedBadly(String),
    /// It did not start.
    Refused {
        /// What it said.
        why: String,
        /// Its exit status.
        exit_status: u8,
    },
    /// Something else ended it.
    Down(Down),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("it stopped as asked"),
            Self::StoppedBadly(why) => write!(f, "it stopped, but: {why}"),
            Self::Refused { why, exit_status } => write!(f, "it did not start (status {exit_status}): {why}"),
            Self::Down(down) => down.fmt(f),
        }
    }
}

/// What is known of the process.
struct State {
    stop: Option<oneshot::Sender<()>>,
    is_ready: bool,
    end: Option<End>,
    /// How long the machine stays down after the next end.
    down: Duration,
    /// Somebody has asked the broker to stop.
    is_stopping: bool,
    /// Kinds of fault that have begun on this machine.
    begun: BTreeSet<&'static str>,
    /// Segments that were there when something last happened to the disk that may have damaged them.
    hurt: BTreeSet<PathBuf>,
    /// How often it has started to serve.
    served: u64,
    /// When it goes back to an older state of its disk, and how often it had served by the time of that state.
    goes_back: Option<(Duration, u64)>,
    /// When it goes back to an older state of its disk, after which it is not to be started before its data directory has another id.
    takes_new_id: Vec<Duration>,
    /// When its disk is replaced by an empty one, or by an older state of it.
    replaced: Vec<Duration>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            stop: None,
            is_ready: false,
            end: None,
            down: DOWN,
            is_stopping: false,
            begun: BTreeSet::new(),
            hurt: BTreeSet::new(),
            served: 0,
            goes_back: None,
            takes_new_id: Vec::new(),
            replaced: Vec::new(),
        }
    }
}

/// A node's machine. A clone is the same one.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) node: Node,
    /// The node's number, from 1.
    pub(super) number: u32,
    /// Its machine's name.
    pub(super) name: String,
    config: BrokerConfig,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn new(world: &World, plan: &Plan, number: u32) -> Self {
        let config = super::broker_config(&plan.config, number).expect("the plan was checked");
        let name = plan.config.machine(number);
        let node = world.node(&name, super::node_config(&plan.config));
        Self { node, number, name, config, state: Arc::default() }
    }

    /// A machine called `name` that is set up as a node that is there already; only it listens at addresses of its own.
    pub(super) fn twin(world: &World, plan: &Plan, number: u32, name: &str) -> Self {
        let mut config = super::broker_config(&plan.config, number).expect("the plan was checked");
        let own = |address: HostPort| HostPort { host: name.to_owned(), ..address };
        config.advertise = config.advertise.map(own);
        config.peer_advertise = config.peer_advertise.map(own);
        let node = world.node(name, super::node_config(&plan.config));
        Self { node, number, name: name.to_owned(), config, state: Arc::default() }
    }

    /// Whether a process that was started has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the broker.
    pub(super) fn start(&self) {
        let (stop, stopped) = oneshot::channel();
        {
            let mut state = self.state();
            (state.stop, state.is_ready, state.end) = (Some(stop), false, None);
        }
        let (config, server) = (self.config.clone(), self.clone());
        let _running = self.node.start(|env| async move {
            let end = match Broker::start(config, env).await {
                Ok(broker) => {
                    {
                        let mut state = server.state();
                        state.is_ready = true;
                        state.served += 1;
                    }
                    // Nobody asks any more when a run ends: then it just goes on.
                    if stopped.await.is_err() {
                        core::future::pending::<()>().await;
                    }
                    match broker.shutdown().await {
                        Ok(()) => End::Stopped,
                        Err(error) => End::StoppedBadly(error.to_string()),
                    }
                }
                Err(error) => End::Refused { why: error.to_string(), exit_status: error.exit_status() },
            };
            server.state().end = Some(end);
        });
    }

    /// Asks the broker to stop.
    pub(super) fn stop(&self) {
        let stop = {
            let mut state = self.state();
            state.is_stopping = true;
            state.stop.take()
        };
        if let Some(stop) = stop {
            // An error means that it is down.
            let _down: Result<(), ()> = stop.send(());
        }
    }

    /// Whether the broker that runs, or ran last, has started.
    pub(super) fn is_ready(&self) -> bool {
        self.state().is_ready
    }

    /// Notes a fault that begins on this machine, and how long it stays down after it.
    pub(super) fn note_fault(&self, kind: &'static str, down: Option<Duration>) {
        let segments = super::stage::HURTS_DISK.contains(&kind).then(|| {
            let mut files = Vec::new();
            self.node.with_disk(|disk| leftovers::collect(disk, &Path::new(DATA_DIR).join("seg"), &mut files));
            files.into_iter().collect()
        });
        let mut state = self.state();
        state.hurt = segments.unwrap_or_else(|| core::mem::take(&mut state.hurt));
        state.begun.insert(kind);
        state.down = down.unwrap_or(state.down);
    }

    /// Segments that may be damaged; none if that can be any.
    pub(super) fn hurt(&self) -> Option<BTreeSet<PathBuf>> {
        let state = self.state();
        let is_known = |kind: &&'static str| !super::stage::HURTS_DISK.contains(kind) || ROTS_AT_ONCE.contains(kind);
        state.begun.iter().all(is_known).then(|| state.hurt.clone())
    }

    /// Notes that the machine goes back, at that time, to the state that its disk has now.
    pub(super) fn note_snapshot(&self, at: Duration) {
        let mut state = self.state();
        state.replaced.push(at);
        state.goes_back = Some((at, state.served));
    }

    /// Notes that the machine goes back, at that time, to the state that its disk has now, and that its data directory gets another id
    /// then.
    pub(super) fn note_restored(&self, at: Duration) {
        let mut state = self.state();
        state.replaced.push(at);
        state.takes_new_id.push(at);
    }

    /// Notes that the machine gets an empty disk now.
    pub(super) fn note_wiped(&self, now: Duration) {
        self.state().replaced.push(now);
    }

    /// Whether it has got another disk behind `opened`, when its broker last opened the one that it had.
    pub(super) fn is_replaced_since(&self, opened: Duration, now: Duration) -> bool {
        self.state().replaced.iter().any(|at| (opened..=now).contains(at))
    }

    /// Whether its data directory is to be given another id now.
    pub(super) fn needs_new_id(&self, now: Duration) -> bool {
        self.state().takes_new_id.iter().any(|at| *at <= now)
    }

    /// It has been.
    pub(super) fn has_new_id(&self, now: Duration) {
        self.state().takes_new_id.retain(|at| *at > now);
    }

    /// Whether it has just gone back to a state of its disk of the same incarnation, which nobody can tell.
    pub(super) fn has_gone_back_unseen(&self, now: Duration) -> bool {
        let mut state = self.state();
        let Some((at, served)) = state.goes_back.filter(|(at, _)| *at <= now) else { return false };
        state.goes_back = None;
        at <= now && served == state.served
    }

    /// Whether a fault of one of these kinds has begun on this machine.
    pub(super) fn has_met(&self, kinds: &[&'static str]) -> bool {
        kinds.iter().any(|kind| self.state().begun.contains(kind))
    }

    /// Whether somebody has asked it to stop since it was started.
    pub(super) fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    /// How long the machine stays down now that it has ended.
    pub(super) fn take_down(&self) -> Duration {
        let mut state = self.state();
        state.is_stopping = false;
        core::mem::replace(&mut state.down, DOWN)
    }

    /// Waits until the broker has started, or has ended.
    pub(super) async fn started(&self, world: &World) {
        while self.node.is_up() && !self.is_ready() {
            world.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&self) -> End {
        let down = self.node.wait_down().await;
        let end = self.state().end.take();
        match (down, end) {
            (Down::Exited, Some(end)) => end,
            (down, _) => End::Down(down),
        }
    }
}
