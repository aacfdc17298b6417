//! Starting and stopping a broker, step by step.
//!
//! ```text
//! check the configuration -> bind -> open the store (recovery) -> read the metadata log
//!   -> first start: make the cluster; later starts: a new controller epoch
//!   -> register (leader epochs rise), make the broker epoch durable, be unfenced
//!   -> delete logs that the metadata no longer knows -> serve
//! ```
//!
//! Invariants
//! - Nothing is served before all of it is done; whatever fails before leaves the data directory as the crash rules have it.
//! - Stopping finishes what is in flight, then checkpoints; a crash at any moment of it is a crash like any other.

use core::{fmt, net::SocketAddr, time::Duration};
use std::{io, sync::Arc};

use quipu_base::{BrokerEpoch, ClusterId, ControllerEpoch, limits};
use quipu_controller::{Bootstrap, RegisterBroker, StartEpoch, UnfenceBroker};
use quipu_env::{Clock, Env, Listener as _, Net, Probe, ShardId, Task, watch};
use quipu_metadata::{
    codec::DecodeError,
    config::ConfigLayers,
    record::{Listener, Registration, StartId, Voter},
};
use quipu_replication::Member;
use quipu_storage::{OpenError, OpenReport, Store, StoreOptions};
use rand::Rng as _;
use tokio::sync::mpsc;

use crate::{
    asks,
    config::{Config, ConfigError, HostPort},
    controller::{AskError, Controller, LoadError},
    listener,
    memory::Budget,
    node::{Bounds, Identity, Node, Stopping},
    producer_ids::ProducerIds,
    shard::{self, Begun, Command, Shard},
};

/// Connections that are still busy are given up after this time when stopping.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Why a broker did not start.
#[derive(Debug)]
pub enum StartError {
    /// The settings can't be accepted.
    Config(ConfigError),
    /// The listener is not on loopback, has neither TLS nor authentication, and nobody said that this is meant.
    Insecure(HostPort),
    /// The listener can't be bound.
    Bind {
        /// What was asked for.
        listen: HostPort,
        /// What the system said.
        error: io::Error,
    },
    /// The data directory can't be used.
    Open(OpenError),
    /// The metadata log can't be used.
    Metadata(String),
    /// The metadata log was written by a later release.
    NewerMetadata(String),
    /// The data directory belongs to another cluster than its metadata log says.
    OtherCluster {
        /// What the superblock says.
        directory: ClusterId,
        /// What the metadata log says.
        metadata: ClusterId,
    },
    /// The metadata log is empty, but the directory has served a cluster before.
    MetadataLost(ClusterId),
    /// This node could not register.
    Register(String),
}

impl StartError {
    /// The exit status of a process that fails with this error.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Insecure(_) => 2,
            Self::Bind { .. } | Self::Register(_) => 1,
            Self::Open(error) => error.exit_status(),
            Self::Metadata(_) | Self::MetadataLost(_) => 65,
            Self::OtherCluster { .. } | Self::NewerMetadata(_) => 78,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Insecure(listen) => write!(
                f,
                "listening on {listen}, which other machines can reach, is refused: there is neither TLS nor \
                 authentication on it, so whoever reaches it can read and delete everything. Listen on 127.0.0.1, or \
                 say that it is meant with --insecure-listen"
            ),
            Self::Bind { listen, error } => {
                write!(f, "cannot listen on {listen}: {error}. Choose another address with --listen HOST:PORT")
            }
            Self::Open(error) => error.fmt(f),
            Self::Metadata(why) | Self::NewerMetadata(why) => f.write_str(why),
            Self::OtherCluster { directory, metadata } => write!(
                f,
                "the data directory belongs to cluster {directory}, but its metadata log to cluster {metadata}: \
                 parts of two directories were mixed"
            ),
            Self::MetadataLost(cluster_id) => write!(
                f,
                "the data directory has served cluster {cluster_id}, but its metadata log is empty: restore the \
                 directory from a copy, or start with an empty one"
            ),
            Self::Register(why) => write!(f, "the broker could not register with its controller: {why}"),
        }
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Open(error) => Some(error),
            Self::Bind { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A running broker. Dropping it leaves it running as long as its `Env` runs; [`Broker::shutdown`] stops it.
pub struct Broker<E: Env> {
    env: E,
    store: Store<E>,
    bound: SocketAddr,
    cluster_id: ClusterId,
    stop: watch::Sender<bool>,
    connections_done: mpsc::Receiver<()>,
    tasks: Vec<E::Task>,
}

impl<E: Env> Broker<E> {
    /// Starts a broker. When this returns, every partition that it leads is served.
    ///
    /// Errors: [`StartError`]; nothing is left running then.
    pub async fn start(config: Config, env: E) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let listener = bind(&config, &env).await?;
        let bound = listener.local_addr();
        let options = store_options(&config);
        let (store, report) = Store::open(env.clone(), options).await.map_err(StartError::Open)?;
        tell(&report);
        tell_probe(&env, &store);
        match Self::start_on(config, env, store.clone(), listener, bound).await {
            Ok(broker) => Ok(broker),
            Err(error) => {
                if let Err(close) = store.close().await {
                    tracing::warn!(error = %close, "closing the data directory failed");
                }
                Err(error)
            }
        }
    }

    async fn start_on(
        config: Config,
        env: E,
        store: Store<E>,
        listener: <E::Net as Net>::Listener,
        bound: SocketAddr,
    ) -> Result<Self, StartError> {
        let loaded = Controller::load(&env, &store, config.node_id, config.defaults.clone()).await;
        let (mut controller, handle, view) = loaded.map_err(|error: LoadError| match error {
            LoadError::Record(DecodeError::NewerVersion { .. }) => StartError::NewerMetadata(error.to_string()),
            _ => StartError::Metadata(error.to_string()),
        })?;
        let (shards, commands): (Vec<_>, Vec<_>) =
            (0..env.shard_count()).map(|_| mpsc::channel(shard::COMMANDS_MAX)).unzip();
        let (siblings, frames): (Vec<_>, Vec<_>) =
            (0..env.shard_count()).map(|_| mpsc::channel(shard::FRAMES_MAX)).unzip();
        let (asks, asked) = mpsc::channel(asks::ASKS_MAX);
        let mut tasks = Vec::new();
        for ((number, commands), frames) in (0..).map(ShardId).zip(commands).zip(frames) {
            let shard = Shard::new(env.clone(), number, &store, asks.clone(), commands, (siblings.clone(), frames));
            tasks.push(env.spawn(number, "shard", shard.run()));
        }
        let joined = join_cluster(&config, &env, &store, &mut controller, &shards, bound).await;
        let (cluster_id, broker_epoch) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                end(tasks).await;
                return Err(error);
            }
        };
        if !env.probe().planted("start.deleted-topic-kept") {
            delete_orphans(&store, &controller);
        }
        let (stop, stopping) = Stopping::new();
        let identity = Identity { node_id: config.node_id, cluster_id, broker_epoch };
        let own = (config.node_id, broker_epoch);
        tasks.push(env.spawn(ShardId(0), "asks", asks::run(env.clone(), handle.clone(), own, asked)));
        let node = Arc::new(Node {
            bounds: bounds(&config),
            producer_ids: ProducerIds::new(identity, handle.clone()),
            env: env.clone(),
            identity,
            statics: config.defaults,
            data_dir: config.data_dir,
            store: store.clone(),
            controller: handle,
            requests: Budget::new(
                config.memory_requests_bytes
                    - limits::MEMORY_WORKSPACE_FROM_REQUESTS_BYTES.min(config.memory_requests_bytes / 4),
            ),
            replies: Budget::new(config.memory_replies_bytes),
            workspace: Budget::new(limits::MEMORY_WORKSPACE_BYTES),
            stopping,
            shards,
            view,
        });
        tasks.push(env.spawn(ShardId(0), "controller", controller.run()));
        let (done, connections_done) = mpsc::channel(1);
        tasks.push(env.spawn(ShardId(0), "listener", listener::run(node, listener, done)));
        Ok(Self { env, store, bound, cluster_id, stop, connections_done, tasks })
    }

    /// The address that is listened on, with the port that was picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.bound
    }

    /// The cluster that this broker belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The broker's storage, for those who measure it.
    #[must_use]
    pub fn store(&self) -> &Store<E> {
        &self.store
    }

    /// Stops: no new connections or requests, what is in flight is answered, everything is checkpointed. When this returns,
    /// the data directory is free.
    ///
    /// Errors: the last checkpoint failed; the next start then recovers from the write-ahead log, and nothing is lost.
    pub async fn shutdown(mut self) -> Result<(), quipu_storage::IdentityError> {
        // The listener may be gone only together with its receivers.
        self.stop.send_replace(true);
        let deadline = self.env.clock().sleep(STOP_TIME);
        tokio::select! { biased;
            // Nothing is ever sent: this ends when the last connection has dropped its end.
            _ = self.connections_done.recv() => {}
            () = deadline => tracing::warn!("some connections were still busy after {STOP_TIME:?}: giving them up"),
        }
        end(self.tasks).await;
        self.store.close().await
    }
}

async fn end<T: Task>(tasks: Vec<T>) {
    tasks.iter().for_each(Task::abort);
    for task in tasks {
        task.join().await;
    }
}

/// Tells the log what the start found; cuts and damage in words of their own.
fn tell(report: &OpenReport) {
    for cut in &report.cut {
        tracing::warn!(
            ?cut,
            "the write-ahead log ended in a torn write; what was cut, none of it acknowledged, is kept aside"
        );
    }
    for damage in &report.damage {
        tracing::error!(?damage, "the write-ahead log is damaged; the partitions named are offline");
    }
    tracing::info!(recovered_bytes = report.recovered_bytes, duration = ?report.duration, "the data directory is open");
}

/// Tells the simulator's checkers where each log begins and ends after recovery.
fn tell_probe<E: Env>(env: &E, store: &Store<E>) {
    env.probe().event("store.opened", &[]);
    for id in store.partitions() {
        let offsets = store.log(id).offsets();
        env.probe().event(
            "log.opened",
            &[
                ("topic", id.topic_id.low()),
                ("partition", i64::from(id.partition.0)),
                ("start", offsets.log_start.0),
                ("end", offsets.log_end.0),
            ],
        );
    }
}

async fn bind<E: Env>(config: &Config, env: &E) -> Result<<E::Net as Net>::Listener, StartError> {
    let HostPort { host, port } = &config.listen;
    let failed = |error| StartError::Bind { listen: config.listen.clone(), error };
    let addresses = env.net().resolve(host, *port).await.map_err(failed)?;
    let address = *addresses.first().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    if !address.ip().is_loopback() && !config.insecure_listen {
        return Err(StartError::Insecure(config.listen.clone()));
    }
    env.net().bind(address).await.map_err(failed)
}

fn store_options(config: &Config) -> StoreOptions {
    let image = quipu_metadata::Image::new();
    let broker = ConfigLayers::new(&image, &config.defaults, config.node_id).broker();
    StoreOptions {
        wal_file_bytes: config.wal_file_bytes,
        tail_bytes: config.memory_tail_bytes,
        producer_expiration_ms: broker.producer_expiration_ms,
        ..StoreOptions::new(config.data_dir.clone(), config.node_id)
    }
}

fn bounds(config: &Config) -> Bounds {
    let image = quipu_metadata::Image::new();
    let broker = ConfigLayers::new(&image, &config.defaults, config.node_id).broker();
    Bounds {
        request_bytes_max: broker.request_bytes_max,
        connections_max: broker.connections_max,
        connections_per_address_max: broker.connections_per_address_max,
        connection_idle: Duration::from_millis(broker.connection_idle_ms),
    }
}

/// Makes the cluster or leads it anew, registers, and is unfenced; then everything that this broker leads is in the view.
async fn join_cluster<E: Env>(
    config: &Config,
    env: &E,
    store: &Store<E>,
    controller: &mut Controller<E>,
    shards: &[mpsc::Sender<Command<E>>],
    bound: SocketAddr,
) -> Result<(ClusterId, BrokerEpoch), StartError> {
    let register_error = |error: AskError| StartError::Register(error.to_string());
    let mut rng = env.rng("start");
    let mut random = || {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let node = config.node_id;
    let identity = store.identity().await;
    let directory_id = identity.directory_id;
    let voters = vec![Voter { node, directory_id }];
    let cluster_id = match (controller.image().cluster_id(), identity.cluster_id) {
        (Some(metadata), Some(directory)) if metadata != directory => {
            return Err(StartError::OtherCluster { directory, metadata });
        }
        (None, Some(directory)) => return Err(StartError::MetadataLost(directory)),
        (Some(metadata), _) => {
            let last = controller.image().controller().map_or(0, |known| known.controller_epoch.get());
            let controller_epoch = ControllerEpoch(last.saturating_add(1));
            let request = StartEpoch { node, directory_id, controller_epoch, voters };
            controller.decide(&request).await.map_err(register_error)?;
            metadata
        }
        (None, None) => {
            let cluster_id = ClusterId(random());
            let controller_epoch = ControllerEpoch(1);
            let request = Bootstrap { cluster_id, node, directory_id, controller_epoch, voters };
            controller.decide(&request).await.map_err(register_error)?;
            cluster_id
        }
    };
    store.set_cluster_id(cluster_id).await.map_err(|error| StartError::Register(error.to_string()))?;
    let advertised = config.advertise.clone().unwrap_or_else(|| HostPort {
        host: if bound.ip().is_unspecified() { config.listen.host.clone() } else { bound.ip().to_string() },
        port: bound.port(),
    });
    let registration = Registration {
        directory_id,
        start_id: StartId(random()),
        listeners: vec![Listener {
            name: crate::CLIENT_LISTENER.to_owned(),
            host: advertised.host,
            port: if advertised.port == 0 { bound.port() } else { advertised.port },
        }],
        rack: None,
        features: Bootstrap::supported_features(),
    };
    controller.decide(&RegisterBroker { cluster_id, broker: node, registration }).await.map_err(register_error)?;
    let state = controller.image().broker(node).expect("it has just registered");
    let (broker_epoch, last_unfenced) = (state.broker_epoch, state.unfenced_epoch);
    let member = Member { node, directory_id };
    let identity = quipu_replication::Identity { member, stored_incarnation: identity.broker_epoch };
    let begun = Begun { identity, broker_epoch, last_unfenced };
    controller.begin(begun, None, shards).await.map_err(|error| StartError::Register(error.to_string()))?;
    // Durable before it counts: a directory that knows only an older epoch is not the one that served.
    store.set_broker_epoch(broker_epoch).await.map_err(|error| StartError::Register(error.to_string()))?;
    controller.decide(&UnfenceBroker { broker: node, broker_epoch }).await.map_err(register_error)?;
    controller.settle().await;
    Ok((cluster_id, broker_epoch))
}

/// A topic's removal is durable before its logs go: a crash in between leaves logs that nobody knows.
fn delete_orphans<E: Env>(store: &Store<E>, controller: &Controller<E>) {
    for id in store.partitions() {
        if id != quipu_base::TopicIdPartition::METADATA && controller.image().partition(id).is_none() {
            tracing::info!(partition = %id, "deleting a log that the metadata no longer knows");
            let _ticket = store.delete(id);
        }
    }
}
