//! How a quorum begins: its founders agree on who they are, once. See decision 0003.
//!
//! The configuration names the voters' nodes, and Raft needs their directories as well: a node whose disk was replaced must not vote as
//! the one that it was. So a founder with an empty directory tells the others who it is and whom it has heard of, again and
//! again, until everybody named says the same; then it stores that set, and votes.
//!
//! ```text
//! (nothing) -- alone by its configuration ---------------------------------------------> stores {itself}
//! (nothing) -- every voter named says "not founded, and these are we", the same set ---> stores the set
//! (nothing) -- a voter says "founded", and this directory is among the founders -------> stores the set
//! (nothing) -- a voter says "founded", and it is not, or it is no voter by its settings -> observes
//! ```
//!
//! Invariants
//! - Nobody stores a set before all in it have said that they are not founded and mean the same set; so while one of them has it
//!   stored, no other set can be founded with it.
//! - A directory that was ever founded never comes here again.
//!
//! Not here: changing the voters later (`quipu-raft`).

use core::{pin::pin, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{BrokerId, DirectoryId};
use quipu_env::{Clock, Env, Instant, Sleep};
use quipu_peer::{Events, Frame, Lane, PeerEvent, Peers, Received, RefusalCode};
use quipu_raft::{ReplicaKey, VoterSet};
use tokio::sync::mpsc;

use super::{
    Settings, StartError,
    join::SESSION_END_TIME,
    messages::{self, Founding, Message},
};

/// How often a founder says what it knows.
const SAY_INTERVAL: Duration = Duration::from_millis(50);
/// How often it tells people for whom it waits.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// How long a founder stays to be heard when it gives up.
const PARTING_TIME: Duration = Duration::from_millis(500);
/// How long other voters have to say that they are of another cluster.
const PRESENT_TIME: Duration = Duration::from_millis(1500);

/// What a founder has heard.
struct Founder<'a> {
    settings: &'a Settings,
    /// What each other voter last said, and from which directory.
    heard: BTreeMap<BrokerId, (ReplicaKey, Vec<ReplicaKey>)>,
    /// Directories that spoke for a voter before another one did.
    replaced: BTreeSet<ReplicaKey>,
    /// A voter for which two directories speak in turn.
    duplicate: Option<(BrokerId, DirectoryId, DirectoryId)>,
}

enum Verdict {
    Founded(VoterSet),
    Wait,
}

/// The voters with which this replica's log begins; empty if it only observes.
pub(super) async fn found<E: Env>(
    env: &E,
    settings: &Settings,
    peers: &Peers<E>,
    inbox: &mut mpsc::Receiver<Received>,
) -> Result<VoterSet, StartError> {
    let me = settings.me;
    if settings.is_sole_voter() {
        return VoterSet::new([me]).map_err(|error| StartError::Founding(error.to_string()));
    }
    if !settings.voters.contains_key(&me.id) {
        return Ok(VoterSet::EMPTY);
    }
    let mut founder = Founder::new(settings);
    let mut events = peers.events();
    let mut refusals = Refusals::default();
    let mut timer = pin!(env.clock().sleep(Duration::ZERO));
    let mut tell_at = env.clock().now() + TELL_INTERVAL;
    loop {
        tokio::select! { biased;
            received = inbox.recv() => {
                let Some(received) = received else {
                    return Err(StartError::Founding("the node is stopping".to_owned()));
                };
                match founder.hear(&received) {
                    Ok(Verdict::Founded(voters)) => {
                        founder.say(peers);
                        return Ok(voters);
                    }
                    Ok(Verdict::Wait) => {}
                    Err(error) => {
                        // The other one is to hear why, too.
                        founder.say(peers);
                        founder.tell_duplicate(peers);
                        env.clock().sleep(PARTING_TIME).await;
                        return Err(error);
                    }
                }
            }
            event = events.next() => {
                if let Some(why) = refusals.hear(env.clock().now(), event, settings.voters.len() - 1) {
                    return Err(StartError::Founding(why));
                }
            }
            () = timer.as_mut() => {
                founder.say(peers);
                let now = env.clock().now();
                timer.as_mut().reset(now + SAY_INTERVAL);
                if now >= tell_at {
                    tell_at = now + TELL_INTERVAL;
                    founder.tell_people();
                }
            }
        }
    }
}

pub(super) const fn is_final(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::OtherCluster
            | RefusalCode::OtherNode
            | RefusalCode::DuplicateNodeId
            | RefusalCode::NoCommonVersion
    )
}

/// Calls the other voters of the settings: one that belongs to another cluster ends the start.
pub(super) async fn check_present<E: Env>(env: &E, settings: &Settings, peers: &Peers<E>) -> Result<(), StartError> {
    let mut events = peers.events();
    let mut left: Vec<BrokerId> = settings.voters.keys().copied().filter(|voter| *voter != settings.me.id).collect();
    for voter in &left {
        // Who can't be called can't say anything.
        let _sent = peers.send(*voter, Lane::Control, Frame::new(messages::encode(&Message::Present)));
    }
    let mut limit = pin!(env.clock().sleep(PRESENT_TIME));
    while !left.is_empty() {
        let event = tokio::select! { biased;
            event = events.next() => event,
            () = limit.as_mut() => return Ok(()),
        };
        match event {
            PeerEvent::Refused { node, reason, .. } if is_final(reason.code) => {
                return Err(StartError::Founding(format!("voter {node} refuses this node: {reason}")));
            }
            PeerEvent::Connected(peer, _) => left.retain(|voter| *voter != peer.node_id),
            PeerEvent::Refused { .. } | PeerEvent::Lost { .. } => {}
        }
    }
    Ok(())
}

impl<'a> Founder<'a> {
    const fn new(settings: &'a Settings) -> Self {
        Self { settings, heard: BTreeMap::new(), replaced: BTreeSet::new(), duplicate: None }
    }

    fn voters(&self) -> Vec<BrokerId> {
        self.settings.voters.keys().copied().collect()
    }

    /// All that this founder knows, itself included, in order.
    fn known(&self) -> Vec<ReplicaKey> {
        let mut known: Vec<ReplicaKey> = self.heard.values().map(|(voter, _)| *voter).collect();
        known.push(self.settings.me);
        known.sort_unstable();
        known
    }

    fn say<E: Env>(&self, peers: &Peers<E>) {
        let founding = Founding { voters: self.voters(), known: self.known() };
        let message = messages::encode(&Message::Founding(founding));
        for voter in self.settings.voters.keys().filter(|voter| **voter != self.settings.me.id) {
            // Said again soon.
            let _sent = peers.send(*voter, Lane::Control, Frame::new(message.clone()));
        }
    }

    fn hear(&mut self, received: &Received) -> Result<Verdict, StartError> {
        let from = ReplicaKey { id: received.from.node_id, directory: received.from.directory_id };
        match messages::decode(&received.header) {
            Some(Message::Founded(voters)) if self.settings.voters.contains_key(&from.id) => {
                let is_founder = voters.contains(self.settings.me);
                if !is_founder {
                    tracing::warn!(
                        "the metadata quorum was founded without this data directory: this node observes, and votes when it has \
                         caught up"
                    );
                }
                Ok(Verdict::Founded(if is_founder { voters } else { VoterSet::EMPTY }))
            }
            Some(Message::Founding(founding)) if self.settings.voters.contains_key(&from.id) => {
                self.check_same(from.id, &founding)?;
                self.note_directory(from)?;
                self.heard.insert(from.id, (from, founding.known));
                Ok(self.agree())
            }
            Some(Message::Duplicate { first, second }) if [first, second].contains(&self.settings.me.directory) => {
                Err(duplicate(self.settings.me.id, first, second))
            }
            _ => Ok(Verdict::Wait),
        }
    }

    /// A voter's directory may be replaced while the quorum is founded; one that comes back was never gone.
    fn note_directory(&mut self, from: ReplicaKey) -> Result<(), StartError> {
        let Some(known) = self.heard.get(&from.id).map(|(known, _)| *known).filter(|known| *known != from) else {
            return Ok(());
        };
        tracing::warn!(node = %from.id, "a voter has another directory than before, or two nodes have its id");
        if self.replaced.contains(&from) {
            self.duplicate = Some((from.id, known.directory, from.directory));
            return Err(duplicate(from.id, known.directory, from.directory));
        }
        self.replaced.insert(known);
        Ok(())
    }

    /// The one of the two that is where the settings say is to hear of it, too.
    fn tell_duplicate<E: Env>(&self, peers: &Peers<E>) {
        if let Some((voter, first, second)) = self.duplicate {
            let _sent =
                peers.send(voter, Lane::Control, Frame::new(messages::encode(&Message::Duplicate { first, second })));
        }
    }

    fn check_same(&self, node: BrokerId, founding: &Founding) -> Result<(), StartError> {
        if founding.voters == self.voters() {
            return Ok(());
        }
        let list = |voters: &[BrokerId]| {
            let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
            voters.join(", ")
        };
        Err(StartError::Founding(format!(
            "the voters of this node are {}, those of node {node} are {}: all voters of a new cluster need the same list",
            list(&self.voters()),
            list(&founding.voters)
        )))
    }

    /// Whether everybody means the same.
    fn agree(&self) -> Verdict {
        let known = self.known();
        let all_agree = self.heard.values().all(|(_, theirs)| *theirs == known);
        if known.len() < self.settings.voters.len() || !all_agree {
            return Verdict::Wait;
        }
        VoterSet::new(known).map_or(Verdict::Wait, Verdict::Founded)
    }

    fn tell_people(&self) {
        let missing = self
            .settings
            .voters
            .iter()
            .filter(|(voter, _)| **voter != self.settings.me.id && !self.heard.contains_key(voter));
        for (voter, address) in missing {
            tracing::warn!(%voter, %address, "a new cluster begins when all its voters are up: waiting for this one");
        }
    }
}

fn duplicate(id: BrokerId, first: DirectoryId, second: DirectoryId) -> StartError {
    StartError::Founding(format!(
        "two nodes are up with node_id {id}, with the directories {first} and {second}: give one of them another id, or stop it"
    ))
}

/// Refusals by other nodes, of which some make it pointless to go on.
#[derive(Default)]
pub(super) struct Refusals {
    /// What has to be changed by somebody.
    refused: BTreeMap<BrokerId, String>,
    /// Another directory serves under this node's id: since when somebody says so, and what.
    in_use: BTreeMap<BrokerId, (Instant, String)>,
}

impl Refusals {
    /// What is wrong, if more than half of `count` nodes refuse this one for good.
    pub(super) fn hear(&mut self, now: Instant, event: PeerEvent, count: usize) -> Option<String> {
        match event {
            PeerEvent::Refused { node, reason, .. } if is_final(reason.code) => {
                self.refused.insert(node, reason.sentence);
            }
            PeerEvent::Refused { node, reason, .. } if reason.code == RefusalCode::NodeIdInUse => {
                self.in_use.entry(node).or_insert((now, reason.sentence));
            }
            PeerEvent::Connected(peer, _) => {
                self.refused.remove(&peer.node_id);
                self.in_use.remove(&peer.node_id);
            }
            PeerEvent::Refused { .. } | PeerEvent::Lost { .. } => {}
        }
        // A node whose directory was replaced waits for the session of the one that it had.
        let lasting = self.in_use.iter().filter(|(_, (since, _))| now.since(*since) >= SESSION_END_TIME);
        let refused = self.refused.iter().chain(lasting.map(|(node, (_, why))| (node, why)));
        let all: Vec<(&BrokerId, &String)> = refused.collect();
        let (node, why) = all.first().filter(|_| all.len() * 2 > count)?;
        Some(format!("node {node} refuses this one: {why}"))
    }

    /// Ends when more than half of `count` nodes refuse this one for good, and says why.
    pub(super) async fn majority<E: Env>(&mut self, env: &E, mut events: Events, count: usize) -> String {
        loop {
            let event = events.next().await;
            if let Some(why) = self.hear(env.clock().now(), event, count) {
                return why;
            }
        }
    }
}
