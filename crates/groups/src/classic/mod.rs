//! A group of the classic protocol: members that are known, the generation that they form, and the rebalance between two of them.
//!
//! | state | becomes | when |
//! |---|---|---|
//! | Empty | PreparingRebalance | the first member joins; the group waits a while for more |
//! | PreparingRebalance | CompletingRebalance | all members have joined again, or the time for it is up: a new generation |
//! | PreparingRebalance | Empty | no member is left |
//! | CompletingRebalance | Stable | the leader brings the assignments |
//! | CompletingRebalance, Stable | PreparingRebalance | a member joins, leaves, is lost or wants something else |
//! | any | Dead | the group is deleted (it is then gone from the shard) |
//!
//! Invariants
//! - `leader` is a member, if there are any.
//! - `joining_count` and `supports` are what counting the members would give.
//! - `statics` holds exactly the members with an instance id.
//! - A member waits for one answer at a time; who joins again from another connection displaces the answer before.
//!
//! Sources: KIP-62, KIP-345 (static members), KIP-394 (member ids first), KIP-814 (static leader), and how Kafka 4.4 answers.
//!
//! Not here: offsets, which group, what is written when a group is deleted (`machine`). Read `join` next, then `rebalance`.

mod join;
mod leave;
mod rebalance;
mod restore;
mod sync;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use quipu_coordinator::{Context, Token, Turn};

pub(crate) use self::rebalance::JoinTimer;
use crate::{
    error::GroupError,
    planted::Planted,
    request::{JoinedMember, MemberOf, Protocol, Reply},
    settings::Settings,
    subscription,
    timers::{Alarm, Timers},
};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Whose answer to a join is due.
    pub(crate) joining: Option<Token>,
    /// Whose answer to a sync is due.
    pub(crate) syncing: Option<Token>,
    /// It was never told of a generation, so it sends no heartbeats.
    pub(crate) is_new: bool,
    pub(crate) session: Alarm,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|known| known.name == protocol)
            .map_or_else(Bytes::new, |known| known.metadata.clone())
    }

    /// What it takes in memory and in the group's record.
    pub(crate) fn bytes(&self) -> usize {
        bytes_of(&self.protocols) + self.assignment.len() + self.client_id.len() + self.client_host.len()
    }
}

/// Bytes of what a member can do.
pub(crate) fn bytes_of(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Classic {
    pub(crate) id: Arc<str>,
    state: State,
    /// The state before this one.
    previous: State,
    /// Since when it is in its state, milliseconds since 1970.
    state_since_ms: i64,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Members by instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were given and have not come back.
    pending: BTreeMap<Arc<str>, Alarm>,
    /// Members that have not asked for their assignment of this generation.
    to_sync: BTreeSet<Arc<str>>,
    join_alarm: Alarm,
    join_timer: JoinTimer,
    sync_alarm: Alarm,
    /// While the first members gather: somebody has come since the timer was set.
    has_newcomer: bool,
    /// Topics that this generation reads, if its members are consumers.
    subscribed: Option<BTreeSet<String>>,
    /// What the members take.
    bytes: usize,
    /// Members whose answer to a join is due.
    joining_count: usize,
    /// How many members can follow each protocol.
    supports: BTreeMap<String, usize>,
}

/// What a group works with, beside itself.
pub(crate) struct Desk<'a> {
    pub(crate) context: &'a Context,
    pub(crate) settings: &'a Settings,
    pub(crate) timers: &'a mut Timers,
    pub(crate) turn: &'a mut Turn<Reply>,
    pub(crate) planted: Planted,
}

impl Desk<'_> {
    pub(crate) fn reply(&mut self, to: Option<Token>, reply: Reply) {
        if let Some(to) = to {
            self.turn.reply(to, reply);
        }
    }
}

impl Classic {
    /// Nobody is in it.
    pub(crate) fn new(id: Arc<str>, now_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            previous: State::Empty,
            state_since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            to_sync: BTreeSet::new(),
            join_alarm: Alarm::default(),
            join_timer: JoinTimer::Rejoin,
            sync_alarm: Alarm::default(),
            has_newcomer: false,
            subscribed: None,
            bytes: 0,
            joining_count: 0,
            supports: BTreeMap::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn state_since_ms(&self) -> i64 {
        self.state_since_ms
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Members, and ids that were given and have not come back.
    pub(crate) fn size(&self) -> usize {
        self.members.len() + self.pending.len()
    }

    /// What its members take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anything but its offsets keeps it alive.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Empty && self.size() == 0
    }

    /// Whether its members read the topic, as far as that can be told.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    /// Topics of a stable group of consumers.
    pub(crate) fn subscribed(&self) -> Option<&BTreeSet<String>> {
        self.subscribed.as_ref()
    }

    fn become_state(&mut self, desk: &Desk<'_>, state: State) {
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = desk.context.wall.get();
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Whether somebody with these protocols can be in the group.
    fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.supported_by_all(&protocol.name))
    }

    fn supported_by_all(&self, protocol: &str) -> bool {
        self.supports.get(protocol).is_some_and(|count| *count == self.members.len())
    }

    /// What all have in common: each member votes for its best, the leader's order decides between equals.
    fn select_protocol(&self) -> Option<String> {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader))?;
        let candidates: Vec<&str> = leader
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .filter(|protocol| self.supported_by_all(protocol))
            .collect();
        let votes_for = |candidate: &str| {
            let best = |member: &&Member| {
                let first = member.protocols.iter().find(|known| candidates.contains(&known.name.as_str()));
                first.is_some_and(|first| first.name == candidate)
            };
            self.members.values().filter(best).count()
        };
        let votes = candidates.iter().enumerate().map(|(index, candidate)| (votes_for(candidate), index));
        let best = votes.max_by_key(|(votes, index)| (*votes, core::cmp::Reverse(*index)))?;
        Some(candidates[best.1].to_owned())
    }

    /// The member that says it is this one. Errors: it is not, or no longer.
    pub(crate) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.statics.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(known) if &**known != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// The member of the current generation. Errors: it is none, or of another.
    fn check_current(&self, member: &MemberOf) -> Result<(), GroupError> {
        self.check_member(&member.member_id, member.instance_id.as_deref())?;
        if member.generation == self.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Whether offsets may be committed.
    pub(crate) fn check_commit(&self, member: &MemberOf) -> Result<(), GroupError> {
        if member.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if member.generation >= 0 || !member.member_id.is_empty() || member.instance_id.is_some() {
            self.check_current(member)?;
        } else if self.state != State::Empty {
            return Err(GroupError::UnknownMemberId);
        }
        // The generation is known and has no assignment yet: whoever commits has not seen it.
        if self.state == State::CompletingRebalance { Err(GroupError::RebalanceInProgress) } else { Ok(()) }
    }

    fn described_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let described = |member: &Member| JoinedMember {
            member_id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(described).collect()
    }

    fn resolve_subscribed(&mut self) {
        self.subscribed = match (self.protocol_type.as_deref(), self.protocol.as_deref()) {
            (Some("consumer"), Some(protocol)) => {
                let topics = self.members.values().map(|member| subscription::topics(&member.metadata(protocol)));
                topics.collect::<Option<Vec<_>>>().map(|topics| topics.into_iter().flatten().collect())
            }
            _ => None,
        };
    }

    /// Puts a member in, or anew.
    fn insert(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        self.bytes += member.bytes();
        self.joining_count += usize::from(member.joining.is_some());
        self.count_protocols(&member.protocols, true);
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// A member with these protocols comes or goes. A join costs what its own protocols cost, however many members there are.
    fn count_protocols(&mut self, protocols: &[Protocol], comes: bool) {
        for name in protocols.iter().map(|protocol| &protocol.name).collect::<BTreeSet<_>>() {
            if comes {
                *self.supports.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.supports.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supports.remove(name);
                }
            }
        }
    }

    /// Whose answer to a join is due from now on, and was before.
    fn set_joining(&mut self, member_id: &str, joining: Option<Token>) -> Option<Token> {
        let member = self.members.get_mut(member_id)?;
        let before = core::mem::replace(&mut member.joining, joining);
        self.joining_count = self.joining_count + usize::from(joining.is_some()) - usize::from(before.is_some());
        before
    }

    /// Takes a member out.
    fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.bytes -= member.bytes();
        self.joining_count -= usize::from(member.joining.is_some());
        self.count_protocols(&member.protocols, false);
        self.to_sync.remove(member_id);
        if let Some(instance_id) = &member.instance_id
            && self.statics.get(instance_id) == Some(&member.id)
        {
            self.statics.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    fn set_assignment(&mut self, member_id: &str, assignment: Bytes) {
        if let Some(member) = self.members.get_mut(member_id) {
            self.bytes = self.bytes - member.assignment.len() + assignment.len();
            member.assignment = assignment;
        }
    }
}
