//! One replica of the metadata log: the state that its roles share, what is durable, and what comes out.
//!
//! ```text
//!            no leader heard       majority would vote       majority votes, all of it durable
//! Follower ------------------> PreCandidate -----------> Candidate -----------> Leader
//!    ^                              |                        |                     |
//!    +------------------------------+------------------------+---------------------+
//!      a leader is heard; a later epoch is seen; a leader that hears no majority, whose disk stalls, or that was removed
//! ```
//!
//! Invariants
//! - `log.start() <= committed_told <= high_watermark <= log.end()`; what is told committed is durable here.
//! - The epoch never falls, and the vote of one epoch never changes once it is given.
//!
//! Not here: what waits for the disk (`durable`), elections (`election`), the follower (`follow`), the leader (`replicate`), reads (`read`), snapshots
//! (`snapshot`), members (`membership`). Read `election` next.

mod durable;
mod election;
mod follow;
mod membership;
mod messages;
mod read;
mod replicate;
mod snapshot;

use core::{
    hash::{Hash, Hasher},
    mem,
    time::Duration,
};
use std::collections::{BTreeMap, VecDeque};

use quipu_base::{BrokerId, LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::{
    effect::{Effect, HardState},
    entry::{LogBase, LogPoint, SnapshotMeta},
    error::StartError,
    limits::{CONTACTS_MAX, ELECTION_TIMEOUT_MAX, EPOCH_MAX, HEARTBEATS_PER_TIMEOUT_MIN},
    log::{Log, LogSummary},
    progress::Progress,
    time::When,
    voters::{ReplicaKey, VoterSet},
};

pub use replicate::Proposed;

use durable::Durable;
use read::PendingRead;
use snapshot::Incoming;

/// Who a node is, and its time-outs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node and its directory.
    pub replica: ReplicaKey,
    /// Nodes that an observer asks for the leader, beside the voters that it knows.
    pub contacts: Vec<BrokerId>,
    /// A replica that hears no leader for this long, and up to as much again by chance, campaigns.
    pub election_timeout: Duration,
    /// A leader is heard at least this often.
    pub heartbeat_interval: Duration,
}

impl Config {
    fn check(&self) -> Result<(), StartError> {
        let bad = |what| Err(StartError::BadTimeouts { what });
        if self.heartbeat_interval.is_zero() {
            return bad("the heartbeat interval is zero");
        }
        if self.election_timeout < self.heartbeat_interval * HEARTBEATS_PER_TIMEOUT_MIN {
            return bad("the election time-out must hold at least three heartbeats");
        }
        if self.election_timeout > ELECTION_TIMEOUT_MAX {
            return bad("the election time-out is longer than a minute");
        }
        if self.contacts.len() > CONTACTS_MAX {
            return bad("there are too many nodes to ask for a leader");
        }
        Ok(())
    }
}

/// What the shell found on its disk.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The last hard state.
    pub hard_state: HardState,
    /// The log.
    pub log: LogSummary,
    /// The newest snapshot; there must be one if the log does not begin at 0.
    pub snapshot: Option<SnapshotMeta>,
    /// What is wrong with the metadata partition, if anything is.
    pub damage: Option<String>,
}

/// What a node is doing, for people and for DescribeQuorum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This replica.
    pub replica: ReplicaKey,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// The leader of that epoch, if known; this replica, if it leads.
    pub leader: Option<ReplicaKey>,
    /// Where its log begins.
    pub log_start: Offset,
    /// Where its log ends, durable or not.
    pub log_end: LogPoint,
    /// Everything before is committed.
    pub high_watermark: Offset,
    /// Everything before is durable here.
    pub durable_end: Offset,
    /// The voters in force.
    pub voters: VoterSet,
    /// If it leads: its peers, up to where each is known to match, and how long ago each was heard.
    pub peers: Vec<(ReplicaKey, Offset, Duration)>,
}

/// One replica. Calls give it what happened; [`Node::take_effects`] tells what is to be done.
#[derive(Clone)]
pub struct Node<P> {
    config: Config,
    probe: P,
    rng: Xoshiro256PlusPlus,
    now: When,
    hard: HardState,
    log: Log,
    snapshot: Option<SnapshotMeta>,
    role: Role,
    leader: Option<ReplicaKey>,
    heard: When,
    election_deadline: When,
    announce_deadline: When,
    observers: BTreeMap<ReplicaKey, When>,
    high_watermark: Offset,
    committed_told: Offset,
    leader_told: (LeaderEpoch, Option<ReplicaKey>),
    voters_told: VoterSet,
    snapshot_wanted: bool,
    incoming: Option<Incoming>,
    /// Numbers requests to read. Never starts anew: an answer may come in a later epoch.
    last_read: u64,
    durable: Durable,
    effects: Vec<Effect>,
}

#[derive(Clone, Hash)]
enum Role {
    Follower,
    PreCandidate { votes: BTreeMap<ReplicaKey, bool> },
    Candidate { votes: BTreeMap<ReplicaKey, bool>, number: u64 },
    Leader(Box<Leader>),
}

#[derive(Clone, Hash)]
struct Leader {
    /// Where its epoch begins.
    start: Offset,
    peers: BTreeMap<ReplicaKey, Progress>,
    heartbeat_deadline: When,
    quorum_deadline: When,
    /// Rounds of heartbeats so far.
    round: u64,
    reads: VecDeque<PendingRead>,
    transfer: Option<Transfer>,
    /// Ends and costs of what it took and is not committed.
    uncommitted: VecDeque<(Offset, usize)>,
    uncommitted_bytes: usize,
}

#[derive(Clone, Hash)]
struct Transfer {
    to: ReplicaKey,
    deadline: When,
    asked: bool,
}

/// What it knows, not when it learned it nor what chance it will draw.
impl<P> Hash for Node<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.config.replica, &self.hard, &self.log, &self.snapshot, &self.role, self.leader).hash(state);
        (self.high_watermark, self.committed_told, &self.incoming, &self.durable, &self.observers).hash(state);
    }
}

impl<P: Probe> Node<P> {
    /// A follower with what `stored` says. `seed` draws the election time-outs: each
    /// node and each start has another one.
    ///
    /// Errors: [`StartError`]; a node that gets one must not take part.
    pub fn new(config: Config, stored: Stored, now: Instant, seed: u64, probe: P) -> Result<Self, StartError> {
        config.check()?;
        let mut hard = stored.hard_state;
        let log = check_stored(&stored).and_then(|()| Log::new(stored.log))?;
        let last = log.end().epoch;
        if hard.epoch < last {
            return Err(StartError::EpochRegressed { stored: hard.epoch, log: last });
        }
        check_snapshot(stored.snapshot.as_ref(), &log)?;
        if probe.planted("raft.epoch-regresses") {
            hard = HardState { epoch: last.max(LeaderEpoch(0)), vote: None };
        }
        if probe.planted("raft.vote-forgotten") {
            hard.vote = None;
        }
        let high_watermark = stored.snapshot.as_ref().map_or(log.start(), |meta| meta.base.point.offset);
        let now = When(now);
        let mut node = Self {
            durable: Durable::new(log.end().offset),
            leader_told: (hard.epoch, None),
            voters_told: VoterSet::EMPTY,
            snapshot_wanted: false,
            snapshot: stored.snapshot,
            role: Role::Follower,
            leader: None,
            heard: now,
            election_deadline: now,
            announce_deadline: now,
            observers: BTreeMap::new(),
            committed_told: high_watermark,
            incoming: None,
            last_read: 0,
            effects: Vec::new(),
            config,
            probe,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            now,
            hard,
            log,
            high_watermark,
        };
        // A lone voter has nobody to wait for.
        if !(node.is_voter() && node.voters().len() == 1) {
            node.arm_election();
        }
        node.finish();
        Ok(node)
    }

    /// What is to be done, in this order. To be taken after every other call.
    #[must_use]
    pub fn take_effects(&mut self) -> Vec<Effect> {
        mem::take(&mut self.effects)
    }

    /// When [`Node::on_deadline`] wants to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let next = match &self.role {
            Role::Leader(leader) => {
                let next = leader.heartbeat_deadline.min(leader.quorum_deadline);
                leader.transfer.as_ref().map_or(next, |transfer| next.min(transfer.deadline))
            }
            _ if self.is_voter() => self.election_deadline,
            _ => self.election_deadline.min(self.announce_deadline),
        };
        next.0
    }

    /// Time has passed. Does what is due at `now`.
    pub fn on_deadline(&mut self, now: Instant) {
        self.advance(now);
        if matches!(self.role, Role::Leader(_)) {
            self.on_leader_deadline();
        } else {
            if self.now >= self.election_deadline {
                self.on_election_deadline();
            }
            if !self.is_voter() && self.now >= self.announce_deadline {
                self.announce();
            }
        }
        self.finish();
    }

    /// The connection to a node was lost: what was sent to it may be lost, too. If that node is the leader, this replica waits for
    /// one or two heartbeats only before it asks whether there should be an election: a process that is gone closes its connections,
    /// one that lives is heard again.
    pub fn handle_peer_lost(&mut self, now: Instant, id: BrokerId) {
        self.advance(now);
        if let Role::Leader(leader) = &mut self.role {
            leader.peers.iter_mut().filter(|(peer, _)| peer.id == id).for_each(|(_, progress)| progress.on_lost());
        } else if self.is_voter() && self.leader.is_some_and(|leader| leader.id == id) {
            self.hurry_election();
        }
        self.finish();
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = match &self.role {
            Role::Leader(leader) => {
                let tell = |(peer, progress): (&ReplicaKey, &Progress)| {
                    (*peer, progress.matched, self.now.since(progress.heard))
                };
                leader.peers.iter().map(tell).collect()
            }
            _ => Vec::new(),
        };
        Status {
            replica: self.config.replica,
            epoch: self.hard.epoch,
            leader: self.leader,
            log_start: self.log.start(),
            log_end: self.log.end(),
            high_watermark: self.high_watermark,
            durable_end: self.durable.end,
            voters: self.voters().clone(),
            peers,
        }
    }

    /// This replica's epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.hard.epoch
    }

    /// The leader of the epoch, if known; this replica, if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaKey> {
        self.leader
    }

    /// Whether this replica leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether this replica votes, by the voters in force.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.voters().contains(self.config.replica)
    }

    /// The voters in force.
    #[must_use]
    pub fn voters(&self) -> &VoterSet {
        self.log.voters()
    }

    /// The state at `offset`, for whoever takes a snapshot there; none outside the log, or if it is not committed.
    #[must_use]
    pub fn base_at(&self, offset: Offset) -> Option<LogBase> {
        if offset <= self.committed_told { self.log.base_at(offset) } else { None }
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(When(now));
    }

    /// What every call ends with: the leader's work, then one persist, then what has become committed.
    fn finish(&mut self) {
        self.lead();
        self.flush();
        let committed = self.high_watermark.min(self.durable.end);
        if committed > self.committed_told {
            self.committed_told = committed;
            self.effects.push(Effect::Commit { high_watermark: committed });
        }
        if self.leader_told != (self.hard.epoch, self.leader) {
            self.leader_told = (self.hard.epoch, self.leader);
            self.effects.push(Effect::LeaderChanged { epoch: self.hard.epoch, leader: self.leader });
        }
        if *self.log.voters() != self.voters_told {
            self.voters_told = self.log.voters().clone();
            self.effects.push(Effect::VotersChanged(self.voters_told.clone()));
        }
        let wanted = self.log.is_crowded();
        if wanted && !self.snapshot_wanted {
            self.effects.push(Effect::SnapshotWanted);
        }
        self.snapshot_wanted = wanted;
    }

    fn arm_election(&mut self) {
        let timeout = self.config.election_timeout;
        let jitter = self.rng.random_range(Duration::ZERO..timeout);
        self.election_deadline = self.now.after(timeout + jitter);
    }

    /// The leader may be gone: it counts as not heard, and soon there may be an election.
    fn hurry_election(&mut self) {
        let interval = self.config.heartbeat_interval;
        let jitter = self.rng.random_range(Duration::ZERO..interval);
        self.heard = When(Instant::ZERO);
        self.election_deadline = self.election_deadline.min(self.now.after(interval + jitter));
    }

    /// Whether they are the same replica: node and directory.
    fn is_same(&self, one: ReplicaKey, other: ReplicaKey) -> bool {
        one == other || (one.id == other.id && self.probe.planted("raft.directory-ignored"))
    }
}

fn check_stored(stored: &Stored) -> Result<(), StartError> {
    if let Some(what) = &stored.damage {
        return Err(StartError::Damaged { what: what.clone() });
    }
    if !(0..=EPOCH_MAX).contains(&stored.hard_state.epoch.get()) {
        return Err(StartError::BadLog { what: "the stored epoch is impossible" });
    }
    Ok(())
}

fn check_snapshot(snapshot: Option<&SnapshotMeta>, log: &Log) -> Result<(), StartError> {
    let fits = snapshot.map(|meta| meta.base.point.offset >= log.start() && log.contains(meta.base.point));
    match fits {
        None if log.start() > Offset::ZERO => Err(StartError::BadLog { what: "no snapshot holds what is before it" }),
        Some(false) => Err(StartError::BadLog { what: "the snapshot is not of this log" }),
        None | Some(true) => Ok(()),
    }
}
