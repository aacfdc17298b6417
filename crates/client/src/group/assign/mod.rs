//! Who reads what, in a group of the classic protocol: the leader decides, by one of Kafka's assignors.
//!
//! Invariants
//! - Each partition of a topic that anybody subscribes to goes to exactly one member that subscribes to it; with
//!   [`Assignor::CooperativeSticky`] one that another member still holds goes to nobody until that one has given it up.
//! - The same members and topics give the same shares.
//!
//! Not here: racks (a member's rack is told to whoever leads, and not looked at when this client does). Read `sticky` next.

mod range;
mod round_robin;
mod sticky;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::PartitionIndex;

use super::wire::Subscription;
use crate::TopicPartition;

/// How the leader of a group of the classic protocol shares out partitions (`partition.assignment.strategy`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Assignor {
    /// A run of neighbouring partitions of each topic for each member: equal numbers of several topics go together.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
    /// As even as can be with as few partitions moved as can be, and nobody stops for a partition that stays (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// Its name in the protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin, Self::CooperativeSticky].into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether its members keep what they read while the group rebalances.
    pub(crate) const fn is_cooperative(self) -> bool {
        matches!(self, Self::CooperativeSticky)
    }
}

/// Partitions of each topic.
pub(crate) type Counts = BTreeMap<Arc<str>, i32>;
/// What each member gets, by its id.
pub(crate) type Shares = BTreeMap<String, BTreeSet<TopicPartition>>;

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) subscription: Subscription,
}

impl Candidate {
    /// Static members come first, by their names, so that they keep their place whatever id they have at the moment.
    fn rank(&self) -> (bool, &str) {
        self.instance_id.as_deref().map_or((true, &self.id), |instance_id| (false, instance_id))
    }
}

/// The shares of all members.
pub(crate) fn assign(assignor: Assignor, members: &[Candidate], counts: &Counts) -> Shares {
    let mut members: Vec<&Candidate> = members.iter().collect();
    members.sort_by(|one, other| one.rank().cmp(&other.rank()));
    match assignor {
        Assignor::Range => range::assign(&members, counts),
        Assignor::RoundRobin => round_robin::assign(&members, counts),
        Assignor::CooperativeSticky => sticky::without_moves(&members, sticky::assign(&members, counts)),
    }
}

/// Every member with nothing.
fn empty(members: &[&Candidate]) -> Shares {
    members.iter().map(|member| (member.id.clone(), BTreeSet::new())).collect()
}

/// Topics that have partitions, with those who want them, in the members' order.
fn subscribers<'a>(members: &[&'a Candidate], counts: &Counts) -> BTreeMap<Arc<str>, Vec<&'a Candidate>> {
    let mut topics: BTreeMap<Arc<str>, Vec<&Candidate>> = BTreeMap::new();
    for member in members {
        for topic in member.subscription.topics.iter().filter(|topic| counts.contains_key(*topic)) {
            topics.entry(Arc::clone(topic)).or_default().push(member);
        }
    }
    topics
}

fn partitions_of<'a>(topic: &'a Arc<str>, counts: &Counts) -> impl Iterator<Item = TopicPartition> + use<'a> {
    let count = counts.get(topic).copied().unwrap_or(0);
    (0..count).map(|number| TopicPartition::new(Arc::clone(topic), PartitionIndex(number)))
}

#[cfg(test)]
mod tests;
