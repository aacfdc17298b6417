//! This node's membership of its cluster: the peer listener, the links to other nodes, the metadata quorum's task, and the
//! registration as a broker.
//!
//! Not here: the quorum itself ([`crate::quorum`]), serving clients ([`crate::start`]).

use core::{net::SocketAddr, time::Duration};
use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{BrokerEpoch, BrokerId, ClusterId, DirectoryId};
use quipu_controller::{Bootstrap, ControlledShutdown, ControllerError, FenceBroker, ShutdownProgress};
use quipu_env::{Clock, Env, Net, ShardId, Task, watch};
use quipu_metadata::record::{Listener, Registration, StartId};
use quipu_peer::{Lane, Own, PeerAddress, PeerIdentity, Peers, Received};
use quipu_raft::ReplicaKey;
use quipu_replication::{Identity, Member};
use quipu_storage::Store;
use rand::Rng as _;
use tokio::sync::mpsc;

use crate::{
    config::{Config, HostPort},
    quorum::{self, AskError, ControllerHandle, FRAMES_MAX, Inboxes, JoinError, Joining, Registered, Settings},
    reach::check_advertised,
    shard::{Begun, Command},
    start::StartError,
    view::View,
};

/// A stop waits so long for others to take over what this broker leads.
const LEAVE_TIME: Duration = Duration::from_secs(3);
/// Between two tries.
const LEAVE_PAUSE: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct Membership<E: Env> {
    pub(crate) controller: ControllerHandle,
    pub(crate) views: watch::Receiver<View<E>>,
    pub(crate) peers: Peers<E>,
    /// Where other nodes connect, if they can.
    pub(crate) peer_bound: Option<SocketAddr>,
    directory_id: DirectoryId,
    start_id: [u8; 16],
    joining: Joining<E>,
    task: E::Task,
    own: Arc<watch::Sender<Own>>,
    /// This node's registration as a broker, once it serves.
    serving: Option<(BrokerId, BrokerEpoch)>,
}

impl<E: Env> Membership<E> {
    /// Listens for other nodes, if it is to, and starts the quorum's task; founds the quorum first if need be, which waits for the
    /// other founders. `data` are the shards' inboxes for frames of data lanes.
    pub(crate) async fn start(
        config: &Config,
        env: &E,
        store: &Store<E>,
        data: Vec<mpsc::Sender<Received>>,
    ) -> Result<Self, StartError> {
        let listener = match &config.peer_listen {
            Some(listen) => Some(bind(env, listen, config.insecure_listen).await?),
            None => None,
        };
        let peer_bound = listener.as_ref().map(quipu_env::Listener::local_addr);
        if let Some(bound) = peer_bound {
            check_advertised(env, "peer_advertise", config.peer_advertise.as_ref(), bound).await?;
        }
        let identity = store.identity().await;
        let mut start_id = [0; 16];
        env.rng("start").fill_bytes(&mut start_id);
        let own = Arc::new(watch::Sender::new(Own {
            cluster_id: identity.cluster_id,
            node_id: config.node_id,
            directory_id: identity.directory_id,
            start_id,
            broker_epoch: None,
            address: peer_bound.zip(config.peer_listen.as_ref()).map(|(bound, listen)| {
                let HostPort { host, port } = advertised(config.peer_advertise.as_ref(), listen, bound);
                PeerAddress { host, port }
            }),
        }));
        let (quorum, quorum_frames) = mpsc::channel(FRAMES_MAX);
        let (control, control_frames) = mpsc::channel(FRAMES_MAX);
        let deliver = move |_: &PeerIdentity, lane: Lane| match lane {
            Lane::Quorum => Some(quorum.clone()),
            Lane::Control => Some(control.clone()),
            Lane::Tail(shard) | Lane::CatchUp(shard) => {
                let index = usize::from(shard).checked_rem(data.len())?;
                data.get(index).cloned()
            }
        };
        let peers = Peers::start(env.clone(), own.subscribe(), listener, quipu_peer::Settings::default(), deliver);
        let settings = settings(config, identity.directory_id);
        let inboxes = Inboxes { quorum: quorum_frames, control: control_frames };
        let started = quorum::start(env, store, settings, peers.clone(), Arc::clone(&own), inboxes).await;
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                peers.stop().await;
                return Err(error.into());
            }
        };
        if let Err(error) = started.quorum.check_voters().await {
            peers.stop().await;
            return Err(error.into());
        }
        let task = env.spawn(ShardId(0), "quorum", started.quorum.run());
        Ok(Self {
            controller: started.controller,
            views: started.views,
            joining: started.joining,
            directory_id: identity.directory_id,
            peers,
            peer_bound,
            start_id,
            task,
            own,
            serving: None,
        })
    }

    /// Registers this node as a broker that clients reach at `bound`, or at what the configuration says.
    pub(crate) async fn register(&mut self, config: &Config, bound: SocketAddr) -> Result<Registered, StartError> {
        let listener = |name: &str, told: Option<&HostPort>, listen: &HostPort, bound: SocketAddr| {
            let HostPort { host, port } = advertised(told, listen, bound);
            Listener { name: name.to_owned(), host, port }
        };
        let mut listeners = vec![listener(crate::CLIENT_LISTENER, config.advertise.as_ref(), &config.listen, bound)];
        if let (Some(listen), Some(bound)) = (&config.peer_listen, self.peer_bound) {
            listeners.push(listener(crate::PEER_LISTENER, config.peer_advertise.as_ref(), listen, bound));
        }
        let registration = Registration {
            directory_id: self.directory_id,
            start_id: StartId(self.start_id),
            listeners,
            rack: config.rack.clone(),
            features: Bootstrap::supported_features(),
        };
        let voters = config.voters.keys().filter(|voter| **voter != config.node_id).count();
        Ok(self.joining.register(config.node_id, registration, &self.peers, voters).await?)
    }

    /// Opens everything that this broker holds, makes its broker epoch durable, has the broker unfenced, and waits until it leads
    /// what only it can lead.
    pub(crate) async fn serve(
        &mut self,
        broker: BrokerId,
        registered: &Registered,
        shards: &[mpsc::Sender<Command<E>>],
    ) -> Result<(), StartError> {
        let member = Member { node: broker, directory_id: self.directory_id };
        let identity = Identity { member, stored_incarnation: registered.stored_epoch };
        let (broker_epoch, last_unfenced) = (registered.broker_epoch, registered.last_unfenced);
        let begun = Begun { identity, broker_epoch, last_unfenced };
        let peers = self.peer_bound.is_some().then(|| self.peers.clone());
        self.joining.begin(begun, peers, shards.to_vec()).await?;
        self.joining.unfence(broker, broker_epoch).await?;
        self.serving = Some((broker, broker_epoch));
        let view = self.views.borrow().clone();
        let all = view.image.partitions().map(|(id, _)| id).collect();
        quorum::when_active(&view, shards, all).await;
        Ok(())
    }

    /// For a node that is no broker: waits until it knows its cluster.
    pub(crate) async fn follow(&mut self) -> Result<ClusterId, StartError> {
        Ok(self.joining.follow().await?)
    }

    /// Before a stop: what this broker leads is led by others from here on, and nobody waits for it. Given up after a while, when
    /// the controller can't be reached: then the others notice by themselves.
    pub(crate) async fn leave(&self, env: &E) {
        let handed_over = async {
            if let Some((broker, broker_epoch)) = self.serving.filter(|_| self.has_others()) {
                self.hand_over(env, broker, broker_epoch).await;
            }
            self.resign(env).await;
        };
        tokio::select! { biased;
            () = handed_over => {}
            () = env.clock().sleep(LEAVE_TIME) => {
                tracing::warn!("what this node leads could not be handed over within {LEAVE_TIME:?}");
            }
        }
    }

    async fn hand_over(&self, env: &E, broker: BrokerId, broker_epoch: BrokerEpoch) {
        loop {
            match self.controller.ask(ControlledShutdown { broker, broker_epoch }).await {
                Ok(ShutdownProgress { leaderships_left: 0 }) => break,
                Ok(_) => {}
                Err(AskError::Declined(error)) => return tracing::debug!(%error, "nothing is left to hand over"),
                Err(error) => tracing::debug!(%error, "the controller did not answer"),
            }
            env.clock().sleep(LEAVE_PAUSE).await;
        }
        // No more heartbeats: they would ask to serve again.
        self.own.send_modify(|own| own.broker_epoch = None);
        if let Err(error) = self.controller.ask(FenceBroker { broker, broker_epoch }).await {
            tracing::debug!(%error, "the controller did not hear of the stop");
        }
    }

    /// Another voter is to lead the quorum.
    async fn resign(&self, env: &E) {
        let leads = |status: quipu_raft::Status| status.leader == Some(status.replica) && status.voters.len() > 1;
        if self.controller.resign().await.is_ok() {
            while self.controller.status().await.is_ok_and(leads) {
                env.clock().sleep(LEAVE_PAUSE / 5).await;
            }
        }
    }

    /// Whether another broker serves.
    fn has_others(&self) -> bool {
        let view = self.views.borrow();
        let own = self.serving.map(|(broker, _)| broker);
        view.image.brokers().any(|(broker, state)| Some(broker) != own && state.is_serving())
    }

    /// Ends the task and the links. The listener's port is free when this returns.
    pub(crate) async fn stop(self) {
        self.task.abort();
        self.task.join().await;
        self.peers.stop().await;
        drop(self.own);
    }
}

/// What others are told to connect to: what the configuration says, or else what was bound.
fn advertised(told: Option<&HostPort>, listen: &HostPort, bound: SocketAddr) -> HostPort {
    let advertised = told.cloned().unwrap_or_else(|| HostPort {
        host: if bound.ip().is_unspecified() { listen.host.clone() } else { bound.ip().to_string() },
        port: bound.port(),
    });
    HostPort { port: if advertised.port == 0 { bound.port() } else { advertised.port }, ..advertised }
}

fn settings(config: &Config, directory: DirectoryId) -> Settings {
    let address = |address: &HostPort| PeerAddress { host: address.host.clone(), port: address.port };
    let mut voters: BTreeMap<BrokerId, PeerAddress> =
        config.voters.iter().map(|(voter, at)| (*voter, address(at))).collect();
    if voters.is_empty() {
        let alone = HostPort { host: "127.0.0.1".to_owned(), port: 0 };
        voters.insert(config.node_id, address(config.peer_listen.as_ref().unwrap_or(&alone)));
    }
    Settings {
        me: ReplicaKey { id: config.node_id, directory },
        directory: config.data_dir.clone(),
        statics: config.defaults.clone(),
        may_have_others: config.peer_listen.is_some(),
        voters,
        snapshot_bytes: config.metadata_snapshot_bytes,
    }
}

/// Listens where it is said, if that is safe.
pub(crate) async fn bind<E: Env>(
    env: &E,
    listen: &HostPort,
    insecure: bool,
) -> Result<<E::Net as Net>::Listener, StartError> {
    let failed = |error| StartError::Bind { listen: listen.clone(), error };
    let addresses = env.net().resolve(&listen.host, listen.port).await.map_err(failed)?;
    let address = *addresses.first().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    if !address.ip().is_loopback() && !insecure {
        return Err(StartError::Insecure(listen.clone()));
    }
    env.net().bind(address).await.map_err(failed)
}

impl From<JoinError> for StartError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::OtherCluster { directory, metadata } => Self::OtherCluster { directory, metadata },
            JoinError::Refused(why) => Self::Refused(why),
            JoinError::Replaced(_) => Self::Refused(error.to_string()),
            JoinError::Declined(ControllerError::DuplicateBroker { .. } | ControllerError::StaleBrokerEpoch { .. }) => {
                Self::Refused(error.to_string())
            }
            JoinError::Store(_) | JoinError::Declined(_) | JoinError::Stopping => Self::Register(error.to_string()),
        }
    }
}

impl From<quorum::StartError> for StartError {
    fn from(error: quorum::StartError) -> Self {
        match error {
            quorum::StartError::Load(error) if error.is_newer() => Self::NewerMetadata(error.to_string()),
            quorum::StartError::Load(_) | quorum::StartError::Raft(_) => Self::Metadata(error.to_string()),
            quorum::StartError::MetadataLost(cluster_id) => Self::MetadataLost(cluster_id),
            quorum::StartError::NotTheVoter(_) => Self::Refused(error.to_string()),
            quorum::StartError::Founding(why) => Self::Refused(why),
            quorum::StartError::Store(why) => Self::Register(why),
        }
    }
}
