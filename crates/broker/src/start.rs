//! Starting and stopping a broker, step by step.
//!
//! ```text
//! check the configuration -> bind -> open the store (recovery) -> read the metadata log
//!   -> first start: found the quorum with the other voters; then, and at later starts, run it
//!   -> register with the active controller (leader epochs rise), make the broker epoch durable, be unfenced
//!   -> delete logs that the metadata no longer knows -> serve
//! ```
//!
//! Invariants
//! - Nothing is served before all of it is done; whatever fails before leaves the data directory as the crash rules have it.
//! - Stopping finishes what is in flight, then checkpoints; a crash at any moment of it is a crash like any other.

use core::{fmt, net::SocketAddr, time::Duration};
use std::{io, sync::Arc};

use quipu_base::{ClusterId, limits};
use quipu_env::{Clock, Env, Listener as _, Net, Probe, ShardId, Task, watch};
use quipu_metadata::config::ConfigLayers;
use quipu_storage::{OpenError, OpenReport, Store, StoreOptions};
use tokio::sync::mpsc;

use crate::{
    asks,
    client_metrics::{ClientMetricsTotals, ClientPushes},
    config::{Config, ConfigError, HostPort, Roles},
    fetch_sessions::FetchSessions,
    groups::{self, Coordinators},
    listener,
    membership::{Membership, bind},
    memory::Budget,
    node::{Bounds, Identity, Node, Stopping},
    producer_ids::ProducerIds,
    quorum::Registered,
    reach::check_advertised,
    shard::{self, Command, Pace, Shard},
    upkeep,
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
    /// Nobody can connect to the address that others are told.
    Unreachable {
        /// The setting.
        setting: &'static str,
        /// What it says.
        advertised: HostPort,
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
    /// The other nodes don't take this one for one of theirs, or its settings don't fit theirs.
    Refused(String),
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
            Self::OtherCluster { .. } | Self::NewerMetadata(_) | Self::Refused(_) | Self::Unreachable { .. } => 78,
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
            Self::Unreachable { setting, advertised, error } => write!(
                f,
                "{setting} is {advertised}, to which nobody can connect: {error}. Name an address of this node that others reach"
            ),
            Self::Open(error) => error.fmt(f),
            Self::Metadata(why) | Self::NewerMetadata(why) | Self::Refused(why) => f.write_str(why),
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
            Self::Bind { error, .. } | Self::Unreachable { error, .. } => Some(error),
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
    membership: Membership<E>,
    /// By name. Whoever has stopped has given back all of them.
    budgets: Vec<(&'static str, Budget)>,
    client_pushes: Arc<ClientPushes>,
}

impl<E: Env> Broker<E> {
    /// Starts a broker. When this returns, every partition that it leads is served.
    ///
    /// Errors: [`StartError`]; nothing is left running then.
    pub async fn start(config: Config, env: E) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let listener = match config.roles {
            Roles::Controller => None,
            Roles::Unset | Roles::Broker | Roles::Both => {
                Some(bind(&env, &config.listen, config.insecure_listen).await?)
            }
        };
        if let Some(listener) = &listener {
            check_advertised(&env, "advertise", config.advertise.as_ref(), listener.local_addr()).await?;
        }
        let options = store_options(&config);
        let (store, report) = Store::open(env.clone(), options).await.map_err(StartError::Open)?;
        tell(&report);
        tell_probe(&env, &store);
        let started = match listener {
            Some(listener) => Self::start_on(config, env, store.clone(), listener).await,
            None => Self::start_controller(config, env, store.clone()).await,
        };
        match started {
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
    ) -> Result<Self, StartError> {
        let bound = listener.local_addr();
        let (shards, commands): (Vec<_>, Vec<_>) =
            (0..env.shard_count()).map(|_| mpsc::channel(shard::COMMANDS_MAX)).unzip();
        let (siblings, frames): (Vec<_>, Vec<_>) =
            (0..env.shard_count()).map(|_| mpsc::channel(shard::FRAMES_MAX)).unzip();
        let (asks, asked) = mpsc::channel(asks::ASKS_MAX);
        let mut membership = Membership::start(&config, &env, &store, siblings.clone()).await?;
        let pace = Arc::new(Pace::new(limits::CATCH_UP_BYTES_PER_SECOND));
        let mut tasks = Vec::new();
        for ((number, commands), frames) in (0..).map(ShardId).zip(commands).zip(frames) {
            let inboxes = (siblings.clone(), frames);
            let shard = Shard::new(env.clone(), number, &store, asks.clone(), commands, inboxes, Arc::clone(&pace));
            tasks.push(env.spawn(number, "shard", shard.run()));
        }
        let joined = join_cluster(&config, &env, &mut membership, &shards, asked, bound).await;
        let registered = match joined {
            Ok((registered, task)) => {
                tasks.push(task);
                registered
            }
            Err(error) => {
                end(tasks).await;
                membership.stop().await;
                return Err(error);
            }
        };
        let (cluster_id, broker_epoch) = (registered.cluster_id, registered.broker_epoch);
        let (handle, view) = (membership.controller.clone(), membership.views.clone());
        let (stop, stopping) = Stopping::new();
        let identity = Identity { node_id: config.node_id, cluster_id, broker_epoch };
        let (router, coordinators) = Coordinators::new();
        let client_pushes = Arc::new(ClientPushes::new(env.rng("client-metrics")));
        let node = Arc::new(Node {
            bounds: bounds(&config),
            producer_ids: ProducerIds::new(identity, handle.clone()),
            groups: coordinators,
            client_pushes: Arc::clone(&client_pushes),
            fetch_sessions: FetchSessions::new(bounds(&config).fetch_sessions_max, env.rng("fetch-sessions")),
            env: env.clone(),
            identity,
            statics: config.defaults,
            bound,
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
        pace.set_bytes_per_second(node.broker_config().catch_up_bytes_per_second);
        let budgets = [("requests", &node.requests), ("replies", &node.replies), ("workspace", &node.workspace)];
        let budgets = budgets.into_iter().map(|(name, budget)| (name, budget.clone())).collect();
        let (done, connections_done) = mpsc::channel(1);
        tasks.push(env.spawn(ShardId(0), "groups", groups::run(Arc::clone(&node), router)));
        tasks.push(env.spawn(ShardId(0), "retention", upkeep::retain(Arc::clone(&node))));
        tasks.push(env.spawn(ShardId(0), "compaction", upkeep::compact(Arc::clone(&node))));
        tasks.push(env.spawn(ShardId(0), "scrub", upkeep::scrub(Arc::clone(&node))));
        tasks.push(env.spawn(ShardId(0), "listener", listener::run(node, listener, done)));
        Ok(Self { env, store, bound, cluster_id, stop, connections_done, tasks, membership, budgets, client_pushes })
    }

    /// A node that only votes: ready when it knows its cluster.
    async fn start_controller(config: Config, env: E, store: Store<E>) -> Result<Self, StartError> {
        let mut membership = Membership::start(&config, &env, &store, Vec::new()).await?;
        let cluster_id = match membership.follow().await {
            Ok(cluster_id) => cluster_id,
            Err(error) => {
                membership.stop().await;
                return Err(error);
            }
        };
        let bound = membership.peer_bound.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let (stop, _) = Stopping::new();
        let client_metrics = env.rng("client-metrics");
        let (_, connections_done) = mpsc::channel(1);
        Ok(Self {
            env,
            store,
            bound,
            cluster_id,
            stop,
            connections_done,
            tasks: Vec::new(),
            membership,
            budgets: Vec::new(),
            client_pushes: Arc::new(ClientPushes::new(client_metrics)),
        })
    }

    /// The address that is listened on, with the port that was picked: for clients, or of a node that only votes for other nodes.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.bound
    }

    /// The cluster that this broker belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// What the metadata quorum is doing, as this node sees it; none if its task has ended.
    pub async fn quorum_status(&self) -> Option<quipu_raft::Status> {
        self.membership.controller.status().await.ok()
    }

    /// What clients have pushed of their metrics (KIP-714) since this broker started.
    #[must_use]
    pub fn client_metrics(&self) -> ClientMetricsTotals {
        self.client_pushes.totals()
    }

    /// The broker's storage, for those who measure it.
    #[must_use]
    pub fn store(&self) -> &Store<E> {
        &self.store
    }

    /// Stops: others take over what this node leads, no new connections or requests, what is in flight is answered, everything is
    /// checkpointed. When this returns, the data directory is free.
    ///
    /// Errors: the last checkpoint failed; the next start then recovers from the write-ahead log, and nothing is lost.
    pub async fn shutdown(mut self) -> Result<(), quipu_storage::IdentityError> {
        self.membership.leave(&self.env).await;
        // The listener may be gone only together with its receivers.
        self.stop.send_replace(true);
        let deadline = self.env.clock().sleep(STOP_TIME);
        let is_drained = tokio::select! { biased;
            // Nothing is ever sent: this ends when the last connection has dropped its end.
            _ = self.connections_done.recv() => true,
            () = deadline => {
                tracing::warn!("some connections were still busy after {STOP_TIME:?}: giving them up");
                false
            }
        };
        end(self.tasks).await;
        self.membership.stop().await;
        self.store.close().await?;
        if is_drained {
            let number = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
            let taken: Vec<_> = self.budgets.iter().map(|(name, budget)| (*name, number(budget.taken()))).collect();
            self.env.probe().event("broker.stopped", &taken);
        }
        Ok(())
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
        connection_idle: Duration::from_millis(broker.connection_idle_ms),
        fetch_sessions_max: broker.fetch_sessions_max,
    }
}

/// Registers this node and has it unfenced; then everything that it leads is served. Answers with the task that asks the controller
/// what its replicas want to know.
async fn join_cluster<E: Env>(
    config: &Config,
    env: &E,
    membership: &mut Membership<E>,
    shards: &[mpsc::Sender<Command<E>>],
    asked: mpsc::Receiver<asks::Asked>,
    bound: SocketAddr,
) -> Result<(Registered, E::Task), StartError> {
    let registered = membership.register(config, bound).await?;
    let own = (config.node_id, registered.broker_epoch);
    let task = env.spawn(ShardId(0), "asks", asks::run(env.clone(), membership.controller.clone(), own, asked));
    match membership.serve(config.node_id, &registered, shards).await {
        Ok(()) => Ok((registered, task)),
        Err(error) => {
            task.abort();
            Err(error)
        }
    }
}
