//! How this node becomes a broker of its cluster: it learns the cluster, registers, makes its broker epoch durable, opens what it
//! holds, and is unfenced.
//!
//! ```text
//! wait for the cluster -> register -> what it holds is opened -> broker epoch durable -> unfence
//! ```
//!
//! Invariants
//! - The broker epoch is durable before the broker is unfenced: a directory that knows only an older one is not the one that served.
//! - A registration is this start's: it is asked for again until it stands in the image.
//!
//! Not here: serving (`serving`), being fenced and unfenced later (`control`).

use core::{fmt, time::Duration};
use std::sync::Arc;

use quipu_base::{BrokerEpoch, BrokerId, ClusterId};
use quipu_controller::{ControllerError, RegisterBroker, UnfenceBroker};
use quipu_env::{Clock, Env, Probe, watch};
use quipu_metadata::record::{BrokerState, Registration};
use quipu_peer::{Own, Peers};
use quipu_storage::{IdentityError, Store};
use tokio::sync::{mpsc, oneshot};

use super::{
    found::Refusals,
    handle::{AskError, CommitError, ControllerHandle},
    serving::Begin,
};
use crate::{
    shard::{Begun, Command},
    view::View,
};

/// Between two tries to register.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The session of a broker that is gone has ended after this time, unless its time-out is set to more.
pub(super) const SESSION_END_TIME: Duration = Duration::from_secs(10);

/// Why a node did not become a broker.
#[derive(Debug)]
pub(crate) enum JoinError {
    /// The data directory belongs to another cluster than the metadata log.
    OtherCluster {
        /// What the superblock says.
        directory: ClusterId,
        /// What the metadata log says.
        metadata: ClusterId,
    },
    /// What must be stored in the superblock can't be.
    Store(IdentityError),
    /// The controller declines.
    Declined(quipu_controller::ControllerError),
    /// The other nodes don't take this one for one of theirs.
    Refused(String),
    /// Another process was registered as this node meanwhile.
    Replaced(BrokerId),
    /// The node is stopping.
    Stopping,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCluster { directory, metadata } => write!(
                f,
                "the data directory belongs to cluster {directory}, but its metadata log to cluster {metadata}: parts of \
                 two directories were mixed"
            ),
            Self::Store(error) => error.fmt(f),
            Self::Declined(error) => error.fmt(f),
            Self::Refused(why) => f.write_str(why),
            Self::Replaced(broker) => write!(
                f,
                "while this node was starting, another process was registered as node {broker}: give one of them another id, or \
                 stop it"
            ),
            Self::Stopping => f.write_str("the node is stopping"),
        }
    }
}

impl core::error::Error for JoinError {}

/// A node that is registered.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    /// Its cluster.
    pub(crate) cluster_id: ClusterId,
    /// This registration.
    pub(crate) broker_epoch: BrokerEpoch,
    /// The registration that the directory had stored before.
    pub(crate) stored_epoch: Option<BrokerEpoch>,
    /// The last registration under which it was unfenced, before this one.
    pub(crate) last_unfenced: Option<BrokerEpoch>,
}

/// See the module.
pub(crate) struct Joining<E: Env> {
    env: E,
    store: Store<E>,
    controller: ControllerHandle,
    views: watch::Receiver<View<E>>,
    begins: mpsc::Sender<Begin<E>>,
    own: Arc<watch::Sender<Own>>,
}

impl<E: Env> Joining<E> {
    pub(super) fn new(
        env: &E,
        store: &Store<E>,
        controller: ControllerHandle,
        views: watch::Receiver<View<E>>,
        begins: mpsc::Sender<Begin<E>>,
        own: Arc<watch::Sender<Own>>,
    ) -> Self {
        Self { env: env.clone(), store: store.clone(), controller, views, begins, own }
    }

    /// Registers with whoever is the active controller. The quorum's task must run. Ends early if most of the `voters` refuse this
    /// node for good.
    pub(crate) async fn register(
        &mut self,
        broker: BrokerId,
        registration: Registration,
        peers: &Peers<E>,
        voters: usize,
    ) -> Result<Registered, JoinError> {
        let (env, mut refusals) = (self.env.clone(), Refusals::default());
        tokio::select! { biased;
            registered = self.register_in_time(broker, registration) => registered,
            why = refusals.majority(&env, peers.events(), voters) => Err(JoinError::Refused(why)),
        }
    }

    async fn register_in_time(
        &mut self,
        broker: BrokerId,
        registration: Registration,
    ) -> Result<Registered, JoinError> {
        let stored = self.store.identity().await;
        let cluster_id = self.follow().await?;
        let start_id = registration.start_id;
        let request = RegisterBroker { cluster_id, broker, registration };
        // A request of this node's last process may have been under way, or another process may have its id: then it is asked again.
        let mut contested_since = None;
        let state = loop {
            let known = self.registered(broker).map(|state| state.broker_epoch);
            self.register_when_free(&request).await?;
            let is_this = |state: &BrokerState| state.registration.start_id == start_id;
            let is_news = |state: &BrokerState| is_this(state) || Some(state.broker_epoch) != known;
            let seen = self.views.wait_for(|view| view.image.broker(broker).is_some_and(is_news)).await;
            seen.map_err(|_| JoinError::Stopping)?;
            if let Some(state) = self.registered(broker).filter(is_this) {
                break state;
            }
            let now = self.env.clock().now();
            if now.since(*contested_since.get_or_insert(now)) >= SESSION_END_TIME {
                return Err(JoinError::Replaced(broker));
            }
            self.env.clock().sleep(RETRY_PAUSE).await;
        };
        Ok(Registered {
            cluster_id,
            broker_epoch: state.broker_epoch,
            stored_epoch: stored.broker_epoch,
            last_unfenced: state.unfenced_epoch,
        })
    }

    fn registered(&self, broker: BrokerId) -> Option<BrokerState> {
        self.views.borrow().image.broker(broker).cloned()
    }

    /// Waits until this node knows its cluster, and keeps that. For a node that is no broker.
    pub(crate) async fn follow(&mut self) -> Result<ClusterId, JoinError> {
        let known = self.views.wait_for(|view| view.image.cluster_id().is_some()).await;
        known.map_err(|_| JoinError::Stopping)?;
        let cluster_id = self.views.borrow().image.cluster_id().expect("it was just seen");
        match self.store.set_cluster_id(cluster_id).await {
            Ok(()) => Ok(cluster_id),
            Err(IdentityError::OtherCluster { stored, given }) => {
                Err(JoinError::OtherCluster { directory: stored, metadata: given })
            }
            Err(error) => Err(JoinError::Store(error)),
        }
    }

    /// A node whose directory was replaced comes back while the controller still believes in the one that it had: that is over with
    /// the old one's session. Whoever serves beyond that is another node with the same id.
    async fn register_when_free(&self, request: &RegisterBroker) -> Result<(), JoinError> {
        let until = self.env.clock().now() + SESSION_END_TIME;
        let mut is_told = false;
        loop {
            match self.insist_on(|| request.clone()).await {
                Err(JoinError::Declined(error @ ControllerError::DuplicateBroker { .. }))
                    if self.env.clock().now() < until =>
                {
                    if !is_told {
                        tracing::warn!(%error, "waiting for the session of the other directory to end");
                    }
                    is_told = true;
                    self.env.clock().sleep(RETRY_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Asks until it is decided.
    async fn insist_on<R: quipu_controller::Forward>(&self, request: impl Fn() -> R) -> Result<(), JoinError> {
        loop {
            match self.controller.ask(request()).await {
                Ok(_) => return Ok(()),
                Err(AskError::Declined(error)) => return Err(JoinError::Declined(error)),
                Err(AskError::Commit(CommitError::Stopping)) => return Err(JoinError::Stopping),
                Err(AskError::Commit(error)) => {
                    tracing::warn!(%error, "waiting for an active controller");
                    self.env.clock().sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Opens everything that this broker holds. Ends when its broker epoch may be made durable: when each shard has marked what it
    /// holds.
    pub(crate) async fn begin(
        &self,
        begun: Begun,
        peers: Option<Peers<E>>,
        shards: Vec<mpsc::Sender<Command<E>>>,
    ) -> Result<(), JoinError> {
        let (reply, answer) = oneshot::channel();
        let begin = Begin { begun, peers, shards, marked: reply };
        self.begins.send(begin).await.map_err(|_| JoinError::Stopping)?;
        for marked in answer.await.map_err(|_| JoinError::Stopping)? {
            marked.await.map_err(|_| JoinError::Stopping)?;
        }
        Ok(())
    }

    /// Makes the broker epoch durable, and has the broker unfenced.
    pub(crate) async fn unfence(&mut self, broker: BrokerId, broker_epoch: BrokerEpoch) -> Result<(), JoinError> {
        if !self.env.probe().planted("start.epoch-not-stored") {
            self.store.set_broker_epoch(broker_epoch).await.map_err(JoinError::Store)?;
        }
        self.own.send_modify(|own| own.broker_epoch = Some(broker_epoch));
        self.insist_on(|| UnfenceBroker { broker, broker_epoch }).await?;
        let is_unfenced = |state: &BrokerState| state.broker_epoch == broker_epoch && !state.fenced;
        let unfenced = self.views.wait_for(|view| view.image.broker(broker).is_some_and(is_unfenced)).await;
        unfenced.map_err(|_| JoinError::Stopping)
    }
}
