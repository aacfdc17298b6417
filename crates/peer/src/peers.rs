//! The links of one node: what a caller holds.
//!
//! Not here: what goes on in a link (`outgoing`, `incoming`).

use core::{fmt, time::Duration};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quipu_base::{BrokerId, DirectoryId};
use quipu_env::{Disk, Env, Net, ShardId, watch};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    events::{Events, Teller},
    frame::Frame,
    hello::{Lane, Own, PeerIdentity, VERSIONS},
    incoming::{self, Incoming, Received},
    limits,
    outgoing::{self, Link},
};

/// The files of a world.
pub type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Locks; a panic elsewhere ends the process anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a node listens for others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PeerAddress {
    /// A name, or an address as text.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Bounds and pauses; the defaults are those of [`limits`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Versions of the protocol that are offered, lowest and highest.
    pub versions: (u16, u16),
    /// Bytes that wait in one link.
    pub queue_bytes: usize,
    /// Frames that wait in one link.
    pub queue_frames: usize,
    /// Bytes of one link that were received and are not yet handled.
    pub inbox_bytes: usize,
    /// For an attempt to connect, and again for the handshake.
    pub connect_timeout: Duration,
    /// First pause between attempts.
    pub backoff: Duration,
    /// Longest pause between attempts.
    pub backoff_max: Duration,
    /// Pause after a refusal that somebody has to do something about.
    pub refused_pause: Duration,
    /// How often who receives says that it does, while something is under way.
    pub pulse: Duration,
    /// A link whose other side says nothing for this long while something is under way is given up.
    pub silence: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            versions: VERSIONS,
            queue_bytes: limits::QUEUE_BYTES,
            queue_frames: limits::QUEUE_FRAMES,
            inbox_bytes: limits::INBOX_BYTES,
            connect_timeout: limits::CONNECT_TIMEOUT,
            backoff: limits::BACKOFF,
            backoff_max: limits::BACKOFF_MAX,
            refused_pause: limits::REFUSED_PAUSE,
            pulse: limits::PULSE,
            silence: limits::SILENCE,
        }
    }
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Too much waits in that link.
    Full,
    /// Nobody said where that node is.
    NoAddress,
    /// The frame's header or body is longer than any frame may be.
    TooLarge,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too much waits on the way to that node already",
            Self::NoAddress => "it is not known where that node is",
            Self::TooLarge => "it is larger than a frame between nodes may be",
        })
    }
}

impl core::error::Error for Dropped {}

/// Names the inbox for what a node sends on a lane; none if nobody takes that (yet). Asked at each handshake.
pub type Deliver = Box<dyn Fn(&PeerIdentity, Lane) -> Option<mpsc::Sender<Received>> + Send + Sync>;

/// The data directory that a node should have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Its id.
    pub directory: DirectoryId,
    /// Whether it serves the cluster now: then whoever calls with another one has an id that is in use.
    pub is_serving: bool,
}

/// Where a node is, and which directory it should have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) address: PeerAddress,
    pub(crate) expected: Option<Expected>,
}

impl Target {
    pub(crate) fn directory(&self) -> Option<DirectoryId> {
        self.expected.map(|expected| expected.directory)
    }
}

/// A node that this one may send to. Its links end when this is dropped.
struct Node<E: Env> {
    /// What was told last; none if nobody has named it.
    told: Option<Target>,
    /// The same, but for the address if it has said another since.
    target: watch::Sender<Target>,
    links: BTreeMap<Lane, Arc<Link<FileOf<E>>>>,
}

impl<E: Env> Node<E> {
    fn aim_at(&self, target: Target) {
        if *self.target.borrow() != target {
            self.target.send_replace(target);
        }
    }
}

/// What all clones and all tasks share.
pub(crate) struct Shared<E: Env> {
    pub(crate) env: E,
    pub(crate) own: watch::Receiver<Own>,
    pub(crate) settings: Settings,
    pub(crate) deliver: Deliver,
    pub(crate) events: Teller,
    pub(crate) incoming: Incoming,
    pub(crate) stopping: watch::Sender<bool>,
    nodes: Mutex<BTreeMap<BrokerId, Node<E>>>,
    /// Every task holds a clone of the first; it is gone once this node has stopped.
    running: Mutex<Option<mpsc::Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl<E: Env> Shared<E> {
    /// Runs `work` until it ends or this node stops.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        shard: ShardId,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(running) = lock(&self.running).clone() else { return };
        let mut stopping = self.stopping.subscribe();
        // The task goes on by itself.
        let _task = self.env.spawn(shard, name, async move {
            tokio::select! { biased;
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = work => {}
            }
            drop(running);
        });
    }

    /// The shard that serves a lane, here or there.
    pub(crate) fn shard_of(&self, lane: Lane) -> ShardId {
        match lane {
            Lane::Quorum | Lane::Control => ShardId(0),
            Lane::Tail(shard) | Lane::CatchUp(shard) => ShardId(shard % self.env.shard_count()),
        }
    }

    /// The directory that a node should have.
    pub(crate) fn expected_of(&self, node: BrokerId) -> Option<Expected> {
        lock(&self.nodes).get(&node).and_then(|node| node.target.borrow().expected)
    }

    /// A node that may call said where it is: it is answered there, though it is known to be somewhere else.
    pub(crate) fn learn(&self, node: BrokerId, address: PeerAddress) {
        let mut nodes = lock(&self.nodes);
        if let Some(known) = nodes.get(&node) {
            let target = Target { address, ..known.target.borrow().clone() };
            known.aim_at(target);
        } else if nodes.len() < limits::NODES_MAX {
            let target = watch::Sender::new(Target { address, expected: None });
            nodes.insert(node, Node { told: None, target, links: BTreeMap::new() });
        }
    }

    /// A node called: whatever waits before calling it need not wait longer.
    pub(crate) fn nudge(&self, node: BrokerId) {
        if let Some(node) = lock(&self.nodes).get(&node) {
            node.links.values().for_each(|link| link.nudge());
        }
    }
}

/// Sends to other nodes and takes what they send. A clone is the same.
pub struct Peers<E: Env>(Arc<Shared<E>>);

impl<E: Env> Clone for Peers<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> Peers<E> {
    /// Begins to accept links from other nodes, if there is a listener.
    ///
    /// `own` is what this node says of itself. When its broker epoch changes, the links of data lanes are made anew, in both
    /// directions; when its sender is dropped, all links end.
    pub fn start(
        env: E,
        own: watch::Receiver<Own>,
        listener: Option<<E::Net as Net>::Listener>,
        settings: Settings,
        deliver: impl Fn(&PeerIdentity, Lane) -> Option<mpsc::Sender<Received>> + Send + Sync + 'static,
    ) -> Self {
        let (running, ended) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            env,
            own,
            settings,
            deliver: Box::new(deliver),
            events: Teller::default(),
            incoming: Incoming::default(),
            stopping: watch::Sender::new(false),
            nodes: Mutex::default(),
            running: Mutex::new(Some(running)),
            ended: tokio::sync::Mutex::new(ended),
        });
        if let Some(listener) = listener {
            let accepting = incoming::accept(Arc::clone(&shared), listener);
            shared.spawn(ShardId(0), "peer.listener", accepting);
        }
        Self(shared)
    }

    /// Tells where a node is and which data directory it has; or, with no address, that it is gone. A node that has called is where it
    /// said, until another address than before is told of it: it may have moved, and has to be answered before it can register there.
    ///
    /// Links to another address end, and so do data links that were made when another directory was expected. Who calls is
    /// checked when it calls.
    pub fn set_address(&self, node: BrokerId, address: Option<PeerAddress>, expected: Option<Expected>) {
        let mut nodes = lock(&self.0.nodes);
        let Some(address) = address else {
            nodes.remove(&node);
            return;
        };
        let target = Target { address, expected };
        match nodes.get_mut(&node) {
            None => {
                let (told, target) = (Some(target.clone()), watch::Sender::new(target));
                nodes.insert(node, Node { told, target, links: BTreeMap::new() });
            }
            Some(known) if known.told.as_ref() != Some(&target) => {
                let is_elsewhere = known.told.as_ref().is_none_or(|told| told.address != target.address);
                known.told = Some(target.clone());
                let address = if is_elsewhere { target.address } else { known.target.borrow().address.clone() };
                known.aim_at(Target { address, expected: target.expected });
            }
            Some(_) => {}
        }
    }

    /// Queues a frame; never waits. Frames of one lane to one node arrive in order, or not at all.
    ///
    /// Errors: [`Dropped`]; the frame is gone then.
    pub fn send(&self, node: BrokerId, lane: Lane, frame: Frame<FileOf<E>>) -> Result<(), Dropped> {
        if !frame.is_within_limits() {
            return Err(Dropped::TooLarge);
        }
        let mut nodes = lock(&self.0.nodes);
        let known = nodes.get_mut(&node).ok_or(Dropped::NoAddress)?;
        let link = known.links.entry(lane).or_insert_with(|| {
            let link = Arc::new(Link::new());
            let work = outgoing::run(Arc::clone(&self.0), node, lane, Arc::clone(&link), known.target.subscribe());
            self.0.spawn(self.0.shard_of(lane), "peer.link", work);
            link
        });
        link.push(frame, &self.0.settings)
    }

    /// Bytes that wait in that link, or are on their way into its socket.
    #[must_use]
    pub fn queued_bytes(&self, node: BrokerId, lane: Lane) -> usize {
        let nodes = lock(&self.0.nodes);
        nodes.get(&node).and_then(|node| node.links.get(&lane)).map_or(0, |link| link.queued_bytes())
    }

    /// What happens to this node's own links from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.listen()
    }

    /// Ends all links and stops listening. What is queued is lost. When this returns, the listener's port is free.
    pub async fn stop(&self) {
        self.0.stopping.send_replace(true);
        drop(lock(&self.0.running).take());
        drop(core::mem::take(&mut *lock(&self.0.nodes)));
        // Nothing is ever sent: this ends when the last task has dropped its end.
        let _ended = self.0.ended.lock().await.recv().await;
    }
}
