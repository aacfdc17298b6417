//! The broker as a process on its machine: started, stopped, started again.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_broker::{Broker, Config as BrokerConfig};
use quipu_sim::{Down, Node, World};
use tokio::sync::oneshot;

use crate::plan::{BROKER, Plan};

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
#[derive(Default)]
struct State {
    stop: Option<oneshot::Sender<()>>,
    is_ready: bool,
    end: Option<End>,
}

/// The broker's machine. A clone is the same one.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) node: Node,
    config: BrokerConfig,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn new(world: &World, plan: &Plan) -> Self {
        let config = super::broker_config(&plan.config).expect("the plan was checked");
        Self { node: world.node(BROKER, super::node_config(&plan.config)), config, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the broker.
    pub(super) fn start(&self) {
        let (stop, stopped) = oneshot::channel();
        *self.state() = State { stop: Some(stop), is_ready: false, end: None };
        let (config, server) = (self.config.clone(), self.clone());
        let _running = self.node.start(|env| async move {
            let end = match Broker::start(config, env).await {
                Ok(broker) => {
                    server.state().is_ready = true;
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
        let stop = self.state().stop.take();
        if let Some(stop) = stop {
            // An error means that it is down.
            let _down: Result<(), ()> = stop.send(());
        }
    }

    /// Whether the broker that runs, or ran last, has started.
    pub(super) fn is_ready(&self) -> bool {
        self.state().is_ready
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
