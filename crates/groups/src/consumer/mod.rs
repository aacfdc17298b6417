//! A group of the consumer protocol (KIP-848): the coordinator assigns, and members follow by their heartbeats, each at its own pace.
//!
//! ```text
//! heartbeat -> member changed, topics changed -> group epoch + 1
//!           -> group epoch above the assignment's -> new target assignment, of that epoch
//!           -> this member: revoke, then assign (`reconcile`) -> member epoch = the target's
//! ```
//!
//! | epoch | of | grows |
//! |---|---|---|
//! | group epoch | what members want and what topics there are | when any of it changes |
//! | assignment epoch | the target assignment | to the group epoch, with the next heartbeat |
//! | member epoch | what the member has | to the assignment epoch, once it has given up what is not its own any more |
//!
//! Invariants
//! - `owners` holds exactly what members have or have to give up: each partition once.
//! - `statics` holds exactly the members with an instance id.
//! - `targets` has no member that is not in the group.
//!
//! Sources: KIP-848, KIP-1251 (commits of an older epoch), and how Kafka 4.4 answers.
//!
//! A group of the classic protocol that a member of this one joins becomes such a group, with its members (`classic`).
//!
//! Not here: which topics there are (the broker tells, see [`topics`](self::Topics)). Read `heartbeat` next, then `target` and `reconcile`.

pub(crate) mod assign;
mod classic;
mod describe;
mod error;
mod heartbeat;
mod pattern;
mod reconcile;
pub mod request;
mod restore;
mod settings;
mod target;
mod topics;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{PartitionIndex, TopicId};
use quipu_coordinator::{Context, Turn};
use quipu_env::Instant;

use self::request::Partitions;
pub use self::{
    assign::Assignor,
    error::ConsumerError,
    request::{ConsumerReply, ConsumerRequest},
    settings::{ConsumerSettings, GroupSettings, Migration},
    topics::{Topic, Topics},
};
pub(crate) use self::{
    heartbeat::check_request,
    reconcile::{Current, Held, MemberState},
};
use crate::{
    error::GroupError,
    planted::Planted,
    request::{Protocol, Reply, TopicPartition},
    timers::{Alarm, Timers},
};

/// The epoch of a static member that has left for a while.
pub(crate) const AWAY: i32 = -2;
/// The epoch of who leaves.
pub(crate) const LEAVES: i32 = -1;

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) names: BTreeSet<Arc<str>>,
    /// Never empty.
    pub(crate) regex: Option<Arc<str>>,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) assignor: Option<Assignor>,
    pub(crate) current: Current,
    /// If it speaks the classic protocol.
    pub(crate) classic: Option<ClassicSide>,
    pub(crate) session: Alarm,
    pub(crate) revocation: Alarm,
    /// A member of the classic protocol has to join again, or to ask for its assignment.
    pub(crate) step: Alarm,
}

/// What is known of a member that speaks the classic protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ClassicSide {
    pub(crate) session_timeout: Duration,
    /// Never empty.
    pub(crate) protocols: Vec<Protocol>,
}

impl Member {
    pub(crate) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            instance_id: None,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            names: BTreeSet::new(),
            regex: None,
            rebalance_timeout: Duration::ZERO,
            assignor: None,
            current: Current::default(),
            classic: None,
            session: Alarm::default(),
            revocation: Alarm::default(),
            step: Alarm::default(),
        }
    }

    /// What it takes in memory and in its record, but for what it has.
    fn bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum();
        let texts = [&self.regex, &self.rack, &self.instance_id];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let protocols = self.classic.as_ref().map_or(0, |side| crate::classic::bytes_of(&side.protocols));
        names + texts + protocols + self.client_id.len() + self.client_host.len()
    }
}

const NAME_OVERHEAD_BYTES: usize = 32;
/// What a partition takes: in a target, in what its member has, and in `owners`.
const PARTITION_BYTES: usize = 100;

/// What an expression was resolved to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// The metadata's.
    pub(crate) version: i64,
    /// When, milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) id: Arc<str>,
    pub(crate) epoch: i32,
    pub(crate) metadata_hash: i64,
    pub(crate) assignment_epoch: i32,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    pub(crate) targets: BTreeMap<Arc<str>, Partitions>,
    pub(crate) regexes: BTreeMap<Arc<str>, Resolved>,
    /// Members by instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    owners: BTreeMap<(TopicId, PartitionIndex), Arc<str>>,
    /// The metadata's version that the group epoch takes into account.
    seen: Option<i64>,
    /// When expressions were last resolved because topics had changed.
    refreshed: Option<Instant>,
    member_bytes: usize,
    target_count: usize,
}

/// What a group works with, beside itself.
pub(crate) struct Hall<'a> {
    pub(crate) context: &'a Context,
    pub(crate) settings: &'a ConsumerSettings,
    pub(crate) timers: &'a mut Timers,
    pub(crate) turn: &'a mut Turn<Reply>,
    pub(crate) topics: &'a Topics,
    /// What the group may take in memory, beyond what it takes.
    pub(crate) room: usize,
    pub(crate) planted: Planted,
}

impl Consumer {
    /// Nobody is in it.
    pub(crate) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: 0,
            metadata_hash: 0,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            regexes: BTreeMap::new(),
            statics: BTreeMap::new(),
            owners: BTreeMap::new(),
            seen: None,
            refreshed: None,
            member_bytes: 0,
            target_count: 0,
        }
    }

    /// Kafka's name of its state.
    pub(crate) fn state(&self) -> &'static str {
        let is_there = |member: &Member| {
            member.current.state == MemberState::Stable && member.current.epoch == self.assignment_epoch
        };
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(is_there) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Number of members.
    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// What it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.member_bytes + self.target_count * PARTITION_BYTES
    }

    /// Topics that somebody wants, by name or by an expression.
    pub(crate) fn subscribed(&self) -> BTreeSet<&Arc<str>> {
        let named = self.members.values().flat_map(|member| &member.names);
        named.chain(self.regexes.values().flat_map(|resolved| &resolved.topics)).collect()
    }

    /// The member that says it is this one. Errors: it is not.
    fn member(&self, member_id: &str) -> Result<&Member, ConsumerError> {
        self.members.get(member_id).ok_or(ConsumerError::Group(GroupError::UnknownMemberId))
    }

    /// Whether these offsets may be committed. An older epoch may commit what the member has had since then.
    pub(crate) fn check_commit<'a>(
        &self,
        (member_id, epoch): (&str, i32),
        knows_epochs: bool,
        topics: &Topics,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<(), ConsumerError> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.member(member_id)?;
        let current = &member.current;
        if member.classic.is_some() {
            let is_current = epoch == current.epoch;
            return if is_current { Ok(()) } else { Err(GroupError::IllegalGeneration.into()) };
        }
        if !knows_epochs {
            return Err(GroupError::UnsupportedVersion.into());
        }
        if epoch == current.epoch {
            return Ok(());
        }
        let since = |partition: &TopicPartition| {
            let topic = topics.get(&partition.topic)?.id;
            let held = [&current.assigned, &current.revoking];
            held.into_iter().find_map(|held| held.get(&topic)?.get(&partition.partition)).copied()
        };
        let mut partitions = partitions;
        if epoch < current.epoch && partitions.all(|partition| since(partition).is_some_and(|since| since <= epoch)) {
            return Ok(());
        }
        Err(ConsumerError::StaleMemberEpoch)
    }

    /// Whether offsets may be read.
    pub(crate) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ConsumerError> {
        match member_id {
            None if epoch < 0 => Ok(()),
            None => Err(ConsumerError::Group(GroupError::UnknownMemberId)),
            Some(member_id) if self.member(member_id)?.current.epoch == epoch => Ok(()),
            Some(_) => Err(ConsumerError::StaleMemberEpoch),
        }
    }

    /// Puts a member in, or anew.
    fn insert(&mut self, member: Member) {
        self.remove(&Arc::clone(&member.id));
        self.member_bytes += member.bytes();
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        let id = Arc::clone(&member.id);
        let current = member.current.clone();
        self.members.insert(Arc::clone(&id), member);
        self.own(&id, &current);
    }

    /// Takes a member out, with what it had; its target stays.
    fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.member_bytes -= member.bytes();
        self.disown(&member.current);
        if let Some(instance_id) = &member.instance_id
            && self.statics.get(instance_id) == Some(&member.id)
        {
            self.statics.remove(instance_id);
        }
        Some(member)
    }

    fn set_current(&mut self, member_id: &Arc<str>, current: Current) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let before = core::mem::replace(&mut member.current, current.clone());
        self.disown(&before);
        self.own(member_id, &current);
    }

    fn own(&mut self, member_id: &Arc<str>, current: &Current) {
        for piece in pieces(current) {
            self.owners.insert(piece, Arc::clone(member_id));
        }
    }

    fn disown(&mut self, current: &Current) {
        for piece in pieces(current) {
            self.owners.remove(&piece);
        }
    }
}

/// What a member has or has to give up.
fn pieces(current: &Current) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
    let held = current.assigned.iter().chain(&current.revoking);
    held.flat_map(|(topic, held)| held.keys().map(|partition| (*topic, *partition)))
}
