//! The metadata quorum on this node: one task that owns Raft, the metadata log, the image and what is published of it.
//!
//! ```text
//! messages of other nodes, tickets of the WAL, requests, time -> quipu_raft::Node
//!   -> effects: steps of the log, messages, what is committed -> image -> published
//! active controller: requests -> decisions on the newest committed image -> one entry -> committed -> applied -> answers
//! ```
//!
//! | what | module |
//! |---|---|
//! | what a start finds | `load` |
//! | how a quorum begins | `found` |
//! | Raft's effects on the log | `disk` |
//! | committed entries become the image | `apply` |
//! | snapshots of it | `snapshots` |
//! | what the active controller does | `control` |
//! | requests on their way to the active controller | `forward` |
//! | what replicas hold, asked of their brokers | `reports` |
//! | a voter's vote goes to its new directory | `voters` |
//! | how this node becomes a broker of the cluster | `join` |
//! | the image as the node sees it | `serving` |
//!
//! A single node is a quorum of one: it is its own majority, and nothing here is left out for it.
//!
//! Invariants
//! - An image is published, and a request answered, only when everything behind it is committed and durable here.
//! - One task decides at the active controller, so every decision is made on the newest committed image: while an entry is on its
//!   way, requests wait.
//! - Persists become durable in the order in which Raft asked for them.
//! - What can't be carried out (the log can't be read back, the snapshot is gone) ends the process: a replica that goes on without
//!   would not be one.
//!
//! Not here: consensus (`quipu-raft`), what is decided (`quipu-controller`), what records mean (`quipu-metadata`).

mod apply;
mod control;
mod disk;
mod entries;
mod forward;
mod found;
mod handle;
mod join;
mod kept;
mod load;
mod messages;
mod reports;
mod serving;
pub(crate) mod snapshots;
mod voters;

use core::{fmt, pin::pin, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use quipu_base::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use quipu_controller::{LogReport, Lost};
use quipu_env::{Clock, Env, Fatal, Instant, Probe, Rng, Sleep, watch};
use quipu_metadata::config::StaticConfig;
use quipu_peer::{Events, Frame, Lane, Own, PeerAddress, PeerEvent, Peers, Received};
use quipu_raft::{Body, Effect, Entry, LogPoint, Node, ReplicaKey, SnapshotMeta, VoterSet};
use quipu_storage::{Log, Store, Ticket};
use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use self::{
    control::Leading,
    forward::Forwarded,
    handle::{COMMANDS_MAX, Command},
    kept::Kept,
    reports::{Collections, Purpose},
    serving::{Begin, Serving},
    snapshots::Snapshots,
};
pub(crate) use self::{
    handle::{AskError, CommitError, ControllerHandle},
    join::{JoinError, Joining, Registered},
    load::LoadError,
    reports::Wanted,
    serving::when_active,
};
use crate::view::View;

/// Frames of other nodes that may wait for the task, on each lane; their links hold the rest.
pub(crate) const FRAMES_MAX: usize = 64;
/// Reports of the task's own helpers that may wait for it; they wait beyond it.
const REPORTS_MAX: usize = 64;
/// A replica of a cluster that hears no leader for this long, and up to as much again by chance, campaigns.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(400);
/// A leader is heard at least this often.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(80);
/// A node without others has nobody to hear.
const ALONE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest that a request waits for an active controller, or for its answer.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// A read whose barrier does not come is asked again after this time: the leader asked may be gone.
const READ_RETRY: Duration = Duration::from_millis(500);
/// Reads that may wait for their barrier.
const READS_MAX: usize = 1024;

/// What the task is started with.
pub(crate) struct Settings {
    /// This node and its data directory's id.
    pub(crate) me: ReplicaKey,
    /// The data directory.
    pub(crate) directory: PathBuf,
    /// The `[defaults]` of the configuration.
    pub(crate) statics: StaticConfig,
    /// The voters of the configuration, where they listen for other nodes; this node may be among them.
    pub(crate) voters: BTreeMap<BrokerId, PeerAddress>,
    /// Whether other nodes can come.
    pub(crate) may_have_others: bool,
    /// Bytes of metadata log between two snapshots.
    pub(crate) snapshot_bytes: u64,
}

impl Settings {
    /// Nobody else votes, by the settings.
    fn is_sole_voter(&self) -> bool {
        self.voters.keys().all(|voter| *voter == self.me.id)
    }

    /// Nobody else can come: there is nobody to hear.
    fn is_alone(&self) -> bool {
        self.is_sole_voter() && !self.may_have_others
    }
}

/// Why the quorum's task was not started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// What the disk holds can't be used.
    Load(LoadError),
    /// Raft refuses what the disk holds.
    Raft(quipu_raft::StartError),
    /// The directory has served a cluster, and its metadata log is empty.
    MetadataLost(quipu_base::ClusterId),
    /// The only voter is this node with another directory: nobody can elect it.
    NotTheVoter(ReplicaKey),
    /// The cluster can't be founded with these settings.
    Founding(String),
    /// What was founded can't be stored.
    Store(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Raft(error) => error.fmt(f),
            Self::MetadataLost(cluster_id) => write!(
                f,
                "the data directory has served cluster {cluster_id}, but its metadata log is empty: restore the \
                 directory from a copy, or start with an empty one"
            ),
            Self::NotTheVoter(voter) => write!(
                f,
                "the only voter of the metadata quorum is {voter}, and this directory was given another id since: a node that has no \
                 others needs none. Put the copy back once more, and start it as it is"
            ),
            Self::Founding(why) | Self::Store(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for StartError {}

/// Frames of other nodes, by lane.
pub(crate) struct Inboxes {
    pub(crate) quorum: mpsc::Receiver<Received>,
    pub(crate) control: mpsc::Receiver<Received>,
}

/// A task that is ready to run, and what talks to it.
pub(crate) struct Started<E: Env> {
    pub(crate) quorum: Quorum<E>,
    pub(crate) controller: ControllerHandle,
    pub(crate) views: watch::Receiver<View<E>>,
    pub(crate) joining: Joining<E>,
}

/// What the task's helpers have to tell it.
enum Report {
    Entries {
        read: u64,
        entries: Option<Vec<Entry>>,
    },
    SnapshotRead {
        read: u64,
        bytes: Option<bytes::Bytes>,
    },
    ChunkWritten {
        snapshot: SnapshotMeta,
        position: u64,
        ok: bool,
    },
    SnapshotTaken {
        meta: Option<SnapshotMeta>,
    },
    /// What replicas here hold, for the node that asked.
    Replicas {
        to: BrokerId,
        id: u64,
        reports: Vec<(TopicIdPartition, LogReport)>,
    },
}

/// Somebody who waits to read behind a barrier.
struct Reading {
    reply: oneshot::Sender<Result<quipu_metadata::Image, CommitError>>,
    deadline: Instant,
    /// When to ask again.
    retry_at: Instant,
    /// Answered once everything before is applied.
    offset: Option<Offset>,
}

/// See the module.
pub(crate) struct Quorum<E: Env> {
    env: E,
    settings: Settings,
    store: Store<E>,
    log: Log<E>,
    snapshots: Snapshots<E>,
    peers: Peers<E>,
    events: Events,
    own: Arc<watch::Sender<Own>>,
    inboxes: Inboxes,
    commands: mpsc::Receiver<Command>,
    begins: mpsc::Receiver<Begin<E>>,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
    durable: watch::Receiver<Ticket>,
    rng: Rng,

    node: Node<E::Probe>,
    leader: Option<ReplicaKey>,
    kept: Kept,
    /// Whether `kept` stands beside the log as it is here.
    is_kept: bool,
    /// Numbers of persists that are on their way to the disk.
    persists: VecDeque<(Ticket, u64)>,
    /// The end of the log as far as it is not applied, and where each entry begins. Older entries are read back.
    tail: VecDeque<(Offset, Entry)>,
    committed: Offset,
    applied: Offset,
    /// Bytes applied since the last snapshot, and whether one is being taken or wanted.
    applied_bytes: u64,
    is_taking: bool,
    is_wanted: bool,

    serving: Serving<E>,
    leading: Option<Leading>,
    forwarded: Forwarded,
    collections: Collections,
    readings: BTreeMap<u64, Reading>,
    last_context: u64,
    heartbeat_at: Instant,
    /// The nodes whose addresses the links know.
    addressed: BTreeSet<BrokerId>,
    /// Nodes to which the link of the quorum was lost, and has not come back.
    unreachable: BTreeMap<BrokerId, Lost>,
}

/// Reads the disk, founds the quorum if need be, and makes the task.
pub(crate) async fn start<E: Env>(
    env: &E,
    store: &Store<E>,
    settings: Settings,
    peers: Peers<E>,
    own: Arc<watch::Sender<Own>>,
    mut inboxes: Inboxes,
) -> Result<Started<E>, StartError> {
    let snapshots = Snapshots::new(env, &settings.directory);
    let events = peers.events();
    for (voter, address) in settings.voters.iter().filter(|(voter, _)| **voter != settings.me.id) {
        peers.set_address(*voter, Some(address.clone()), None);
    }
    let loaded = load::load(store, &snapshots, settings.me).await.map_err(StartError::Load)?;
    let served = store.identity().await.cluster_id;
    let (kept, is_kept) = match (&loaded.kept, served) {
        (Some(kept), _) => (kept.clone(), loaded.log.durable_state(quipu_storage::StateKind::RaftHardState).is_some()),
        (None, Some(cluster_id)) => return Err(StartError::MetadataLost(cluster_id)),
        (None, None) => {
            let voters = found::found(env, &settings, &peers, &mut inboxes.control).await?;
            let kept = Kept::new(quipu_raft::HardState::NEW, voters);
            disk::keep(store, &loaded.log, &kept).await?;
            (kept, true)
        }
    };
    let mut rng = env.rng("quorum");
    let (config, stored, now) = (raft_config(&settings), loaded.stored(&kept), env.clock().now());
    let node = Node::new(config, stored, now, rng.next_u64(), env.probe().clone()).map_err(StartError::Raft)?;
    check_own_vote(node.voters(), settings.me)?;
    let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let (begin_sender, begins) = mpsc::channel(1);
    let (reporter, reports) = mpsc::channel(REPORTS_MAX);
    let serving = Serving::new(env, store, settings.me.id, settings.statics.clone(), loaded.image);
    let controller = ControllerHandle(command_sender);
    let views = serving.views();
    let joining = Joining::new(env, store, controller.clone(), views.clone(), begin_sender, Arc::clone(&own));
    let mut quorum = Quorum {
        durable: store.durable(),
        store: store.clone(),
        env: env.clone(),
        log: loaded.log,
        forwarded: Forwarded::new(rng.next_u64()),
        collections: Collections::new(rng.next_u64()),
        last_context: rng.next_u64() >> 1,
        settings,
        snapshots,
        peers,
        events,
        own,
        inboxes,
        commands,
        begins,
        reports,
        reporter,
        rng,
        node,
        leader: None,
        kept,
        is_kept,
        persists: VecDeque::new(),
        tail: VecDeque::new(),
        committed: loaded.applied,
        applied: loaded.applied,
        applied_bytes: 0,
        is_taking: false,
        is_wanted: false,
        serving,
        leading: None,
        readings: BTreeMap::new(),
        heartbeat_at: now,
        addressed: BTreeSet::new(),
        unreachable: BTreeMap::new(),
    };
    quorum.follow_image();
    Ok(Started { quorum, controller, views, joining })
}

/// Nobody elects a node whose directory is another one than the only voter's.
fn check_own_vote(voters: &VoterSet, me: ReplicaKey) -> Result<(), StartError> {
    match voters.get(me.id).filter(|voter| *voter != me) {
        Some(voter) if voters.len() == 1 => Err(StartError::NotTheVoter(voter)),
        _ => Ok(()),
    }
}

fn raft_config(settings: &Settings) -> quipu_raft::Config {
    let alone = settings.is_alone();
    quipu_raft::Config {
        replica: settings.me,
        contacts: settings.voters.keys().copied().filter(|voter| *voter != settings.me.id).collect(),
        election_timeout: if alone { ALONE_TIMEOUT } else { ELECTION_TIMEOUT },
        heartbeat_interval: if alone { ALONE_TIMEOUT / 3 } else { HEARTBEAT_INTERVAL },
    }
}

impl<E: Env> Quorum<E> {
    /// Whether the voters of the settings are of this node's cluster, where the quorum has others.
    pub(crate) async fn check_voters(&self) -> Result<(), StartError> {
        let voters: BTreeSet<BrokerId> = self.node.voters().iter().map(|voter| voter.id).collect();
        let named: BTreeSet<BrokerId> = self.settings.voters.keys().copied().collect();
        if voters.is_empty() || voters == named {
            return Ok(());
        }
        tracing::warn!(voters = %Voters(self.node.voters()), "the settings name other voters than the metadata quorum has");
        found::check_present(&self.env, &self.settings, &self.peers).await
    }

    /// Runs until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        let mut timer = pin!(self.env.clock().sleep_until(Instant::ZERO));
        loop {
            self.settle().await;
            timer.as_mut().reset(self.next_deadline());
            tokio::select! { biased;
                changed = self.durable.changed(), if !self.persists.is_empty() => match changed {
                    Ok(()) => self.on_durable(),
                    Err(_) => self.env.halt(Fatal::TaskLost, "the write-ahead log's task has ended"),
                },
                received = self.inboxes.quorum.recv() => if let Some(received) = received {
                    self.on_message(&received).await;
                },
                report = self.reports.recv() => if let Some(report) = report {
                    self.on_report(report).await;
                },
                event = self.events.next() => self.on_event(&event),
                received = self.inboxes.control.recv() => if let Some(received) = received {
                    self.on_control(&received);
                },
                begin = self.begins.recv() => if let Some(begin) = begin {
                    self.serving.begin(begin).await;
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = timer.as_mut() => {}
            }
        }
    }

    fn now(&self) -> Instant {
        self.env.clock().now()
    }

    /// Does what is due, carries out what Raft asks for, and decides, until there is nothing left to do.
    async fn settle(&mut self) {
        if !self.persists.is_empty() {
            // What was handed out may have been durable by then: nobody tells of it again.
            self.on_durable();
        }
        self.on_time();
        loop {
            let effects = self.node.take_effects();
            if effects.is_empty() && !self.decide().await {
                return;
            }
            for effect in effects {
                Box::pin(self.carry_out(effect)).await;
            }
            self.take_snapshot();
        }
    }

    fn on_time(&mut self) {
        let now = self.now();
        if now >= self.node.next_deadline() {
            self.node.on_deadline(now);
        }
        if now >= self.heartbeat_at {
            self.beat(now);
        }
        self.sweep(now);
        self.end_collections();
        self.retry_reads(now);
        self.route(now);
    }

    /// When the next thing is due.
    fn next_deadline(&self) -> Instant {
        let asks_again = |reading: &Reading| if reading.offset.is_none() { reading.retry_at } else { reading.deadline };
        let reading = self.readings.values().map(|reading| asks_again(reading).min(reading.deadline)).min();
        let leading = self.leading.as_ref().and_then(Leading::next_deadline);
        let collection = self.collections.next_deadline();
        let others = [Some(self.heartbeat_at), self.forwarded.next_deadline(), collection, reading, leading];
        others.into_iter().flatten().fold(self.node.next_deadline(), Instant::min)
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.persist(persist).await,
            Effect::Send(message) => {
                let frame = Frame::new(quipu_raft::encode(&message).into());
                // What can't be sent is lost, which Raft allows for.
                let _sent = self.peers.send(message.to.id, Lane::Quorum, frame);
            }
            Effect::Commit { high_watermark } => {
                self.committed = self.committed.max(high_watermark);
                self.env.probe().event("quorum.committed", &[("high-watermark", high_watermark.0)]);
                self.apply().await;
            }
            Effect::ReadReady { context, offset } => {
                if let Some(reading) = self.readings.get_mut(&context) {
                    reading.offset = Some(offset);
                    let fields = [("context", context.cast_signed()), ("offset", offset.0)];
                    self.env.probe().event("quorum.read", &fields);
                }
                self.answer_reads();
            }
            Effect::ReadFailed { context } => {
                if let Some(reading) = self.readings.get_mut(&context) {
                    reading.retry_at = reading.retry_at.min(self.env.clock().now() + READ_RETRY / 10);
                }
            }
            Effect::BecameLeader { epoch, start } => self.become_leading(epoch, start),
            Effect::SteppedDown { epoch } => self.step_down(epoch),
            Effect::LeaderChanged { epoch, leader } => self.follow_leader(epoch, leader),
            Effect::VotersChanged(voters) => {
                tracing::info!(voters = %Voters(&voters), "the voters of the metadata quorum");
            }
            Effect::ReadEntries { read, from, until, bytes_max } => self.read_entries(read, from, until, bytes_max),
            Effect::ReadSnapshot { read, snapshot, position, bytes } => {
                self.read_snapshot(read, snapshot, position, bytes);
            }
            Effect::WriteChunk { snapshot, position, bytes } => self.write_chunk(snapshot, position, bytes),
            Effect::SnapshotWanted => self.is_wanted = true,
        }
    }

    fn follow_leader(&mut self, epoch: LeaderEpoch, leader: Option<ReplicaKey>) {
        self.leader = leader;
        match leader {
            Some(leader) => tracing::info!(%epoch, %leader, "the metadata quorum has a leader"),
            None => tracing::debug!(%epoch, "no leader of the metadata quorum is known"),
        }
        let now = self.now();
        // Whoever leads is to hear of this broker at once.
        self.heartbeat_at = now;
        self.readings
            .values_mut()
            .filter(|reading| reading.offset.is_none())
            .for_each(|reading| reading.retry_at = now);
        self.forwarded.retry(now);
        self.follow_image();
    }

    /// A message of another replica.
    async fn on_message(&mut self, received: &Received) {
        let from = received.from;
        let message = match quipu_raft::decode(&received.header) {
            Ok(message) => message,
            Err(error) => return tracing::warn!(node = %from.node_id, %error, "a metadata message is not understood"),
        };
        if message.from.directory != from.directory_id {
            return tracing::warn!(node = %from.node_id, "a metadata message names another directory than its sender's");
        }
        if let Body::Append { start, entries, .. } = &message.body {
            if let Err(error) = entries::check_entries(start.offset, entries) {
                return tracing::error!(node = %from.node_id, %error, "metadata entries of another node are refused");
            }
            if let Some(cut) = self.node.cut_by(*start, entries)
                && !self.is_boundary(cut).await
            {
                return tracing::error!(node = %from.node_id, %cut, "metadata entries that begin inside one of this node's are refused");
            }
            if !self.has_room(entries).await {
                return tracing::warn!("there is no room for metadata entries: this node falls behind");
            }
        }
        if let Err(error) = self.node.handle_message(self.env.clock().now(), from.node_id, message) {
            tracing::warn!(node = %from.node_id, %error, "a metadata message is refused");
        }
    }

    fn on_event(&mut self, event: &PeerEvent) {
        let now = self.now();
        let (node, lane) = match event {
            PeerEvent::Connected(peer, lane) => (peer.node_id, *lane),
            PeerEvent::Lost { node, lane, .. } | PeerEvent::Refused { node, lane, .. } => (*node, *lane),
        };
        let is_up = matches!(event, PeerEvent::Connected(..));
        let lost = match event {
            PeerEvent::Lost { is_absent: true, .. } => Lost::Process,
            _ => Lost::Connection,
        };
        if lost == Lost::Process {
            self.probe_session(now, node, lost);
        }
        match lane {
            Lane::Quorum => {
                if is_up {
                    self.unreachable.remove(&node);
                } else {
                    self.unreachable.insert(node, lost);
                }
                // A link that is new may have been lost before; only a leader has to know.
                if !is_up || self.node.is_leader() {
                    self.node.handle_peer_lost(now, node);
                }
            }
            Lane::Control if !is_up => self.lose_control(now, node),
            Lane::Control | Lane::Tail(_) | Lane::CatchUp(_) => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Ask { request, reply } => self.forwarded.push(request, reply, now + REQUEST_TIME),
            Command::Read(reply) if self.readings.len() < READS_MAX => {
                let deadline = now + REQUEST_TIME;
                self.last_context += 1;
                self.readings.insert(self.last_context, Reading { reply, deadline, retry_at: now, offset: None });
            }
            // Who asked may be gone, here and below.
            Command::Read(reply) => drop(reply.send(Err(self.no_controller()))),
            Command::Status(reply) => drop(reply.send(self.node.status())),
            Command::Resign => self.resign(now),
            Command::Reports { wanted, reply } => self.collect(wanted, Purpose::Asker(reply)),
        }
    }

    /// Hands the leadership of the quorum to the voter that is furthest.
    fn resign(&mut self, now: Instant) {
        let status = self.node.status();
        let voters = status.peers.iter().filter(|(peer, ..)| status.voters.contains(*peer));
        let Some((best, ..)) = voters.max_by_key(|(_, matched, _)| *matched) else { return };
        if let Err(error) = self.node.handle_transfer(now, *best) {
            tracing::debug!(%error, "the leadership of the metadata quorum stays");
        }
    }

    fn no_controller(&self) -> CommitError {
        CommitError::NoController { leader: self.leader.map(|leader| leader.id) }
    }

    /// Asks for barriers that were not asked for yet, or whose answer is late.
    fn retry_reads(&mut self, now: Instant) {
        let due = |reading: &Reading| reading.offset.is_none() && reading.retry_at <= now;
        let expired = |reading: &Reading| reading.deadline <= now;
        let due: Vec<u64> = self
            .readings
            .iter()
            .filter(|(_, reading)| due(reading) || expired(reading))
            .map(|(context, _)| *context)
            .collect();
        for context in due {
            let Some(mut reading) = self.readings.remove(&context) else { continue };
            if expired(&reading) {
                drop(reading.reply.send(Err(self.no_controller())));
                continue;
            }
            // A context is never used twice.
            self.last_context += 1;
            self.env.probe().event("quorum.read-begun", &[("context", self.last_context.cast_signed())]);
            reading.retry_at = now + READ_RETRY;
            if self.node.handle_read_index(now, self.last_context).is_err() {
                tracing::trace!("no barrier can be had now");
            }
            self.readings.insert(self.last_context, reading);
        }
    }

    /// Answers the reads whose barrier is reached.
    fn answer_reads(&mut self) {
        let applied = self.applied;
        let is_ready = |reading: &Reading| reading.offset.is_some_and(|offset| offset <= applied);
        let ready: Vec<u64> =
            self.readings.iter().filter(|(_, reading)| is_ready(reading)).map(|(context, _)| *context).collect();
        for context in ready {
            if let Some(reading) = self.readings.remove(&context) {
                drop(reading.reply.send(Ok(self.serving.image().clone())));
            }
        }
    }

    /// What can't be carried out: see the module.
    fn give_up(&self, what: &str, error: &dyn fmt::Display) -> ! {
        self.env.halt(Fatal::TaskLost, &format!("{what}: {error}"))
    }

    fn log_end(&self) -> LogPoint {
        self.node.status().log_end
    }
}

struct Voters<'a>(&'a VoterSet);

impl fmt::Display for Voters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, voter) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{voter}")?;
        }
        Ok(())
    }
}
