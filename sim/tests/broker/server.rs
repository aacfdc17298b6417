//! The broker as a process on its machine: started, stopped, started again.

use core::{fmt, net::SocketAddr, time::Duration};
use std::sync::{Arc, Mutex, PoisonError};

use quipu_broker::Broker;
use quipu_env::{Env, Net};
use quipu_sim::{Down, Node, Running, World};
use quipu_wire_client::{CallError, Connection};
use tokio::sync::{oneshot, watch};

use crate::setup::{BROKER, PORT, Setup};

/// How the broker's process ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It was asked to stop and did.
    Stopped,
    /// It was asked to stop, and the last checkpoint failed.
    StoppedBadly(String),
    /// It did not start.
    Refused { why: String, exit_status: u8 },
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

/// The broker's machine.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) node: Node,
    setup: Arc<Setup>,
    stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    ready: Arc<watch::Sender<bool>>,
}

impl Server {
    pub(crate) fn new(world: &World, setup: &Arc<Setup>) -> Self {
        Self {
            node: world.node(BROKER, setup.node()),
            setup: Arc::clone(setup),
            stop: Arc::default(),
            ready: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Starts the broker.
    pub(crate) fn start(&self) -> Process {
        let (stop, stopped) = oneshot::channel();
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        self.ready.send_replace(false);
        let (config, ready) = (self.setup.config(), Arc::clone(&self.ready));
        Process(self.node.start(|env| async move {
            let broker = match Broker::start(config, env).await {
                Ok(broker) => broker,
                Err(error) => return End::Refused { why: error.to_string(), exit_status: error.exit_status() },
            };
            ready.send_replace(true);
            // Nobody asks any more when a scenario ends: then it just goes on.
            if stopped.await.is_err() {
                core::future::pending::<()>().await;
            }
            match broker.shutdown().await {
                Ok(()) => End::Stopped,
                Err(error) => End::StoppedBadly(error.to_string()),
            }
        }))
    }

    /// Asks the broker to stop.
    pub(crate) fn stop(&self) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that it is down.
            let _down: Result<(), ()> = stop.send(());
        }
    }

    /// Whether the broker that runs, or ran last, has started.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until a broker has started.
    pub(crate) async fn ready(&self) {
        self.ready.subscribe().wait_for(|ready| *ready).await.expect("the sender is here");
    }
}

/// A broker's process.
pub(crate) struct Process(Running<End>);

impl Process {
    pub(crate) async fn ended(self) -> End {
        self.0.join().await.unwrap_or_else(End::Down)
    }
}

/// Connects to the broker.
pub(crate) async fn connect<E: Env>(env: &E, patience: Duration) -> Result<Connection<E>, CallError> {
    let address: SocketAddr = env.net().resolve(BROKER, PORT).await.expect("the machine has a name")[0];
    Connection::connect(env, address, patience).await
}
