//! Who may lead a partition, and the records that make him.
//!
//! Invariants
//! - Whoever is elected is a member of C under the directory with which it is registered, neither fenced nor about to stop.
//! - Of those the first in the order of the replicas is chosen, so the preferred leader if it is one of them; one of whom nothing
//!   was heard lately, or who is being removed, only if there is no other. Who said that it can't is not chosen.
//! - Every election raises the leader epoch by one.
//!
//! Not here: elections that may lose records (`unclean`). Read `fencing` next.

use quipu_base::{BrokerId, TopicIdPartition};
use quipu_metadata::{Image, Member, MetadataRecord, PartitionState, record::Election};

use crate::{doubts::Doubts, draft::Draft};

/// Whether the member's broker serves from the directory that is a member.
pub(crate) fn is_serving(image: &Image, member: Member) -> bool {
    let is_member = |registered| registered == member.directory_id;
    image.broker(member.broker).is_some_and(|state| state.is_serving() && is_member(state.registration.directory_id))
}

/// Whether the partition has a leader that is not fenced and is a member with the disk that it has. One that is about to stop still
/// leads.
pub(crate) fn has_live_leader(image: &Image, state: &PartitionState) -> bool {
    let Some(member) = state.leader.and_then(|leader| state.configuration.member_on(leader)) else { return false };
    let is_disk = |registered| registered == member.directory_id;
    image.broker(member.broker).is_some_and(|broker| !broker.fenced && is_disk(broker.registration.directory_id))
}

/// The best that may lead, other than `except`.
pub(crate) fn choose(
    image: &Image,
    doubts: &Doubts,
    partition: TopicIdPartition,
    state: &PartitionState,
    except: Option<BrokerId>,
) -> Option<BrokerId> {
    candidates(image, doubts, partition, state, except).min_by_key(|candidate| candidate.rank).map(|best| best.broker)
}

/// The next that may lead, in a circle from the present leader on, so that a partition whose leaders all give up asks each of
/// them in turn.
pub(crate) fn choose_next(
    image: &Image,
    doubts: &Doubts,
    partition: TopicIdPartition,
    state: &PartitionState,
) -> Option<BrokerId> {
    let count = state.replicas.len();
    let leader_index = state.replicas.iter().position(|replica| Some(*replica) == state.leader).unwrap_or(count - 1);
    let distance = |(removing, silent, index): Rank| (removing, silent, (index + count - 1 - leader_index) % count);
    candidates(image, doubts, partition, state, state.leader)
        .min_by_key(|candidate| distance(candidate.rank))
        .map(|best| best.broker)
}

/// Whether it is being removed, whether it is silent, its place among the replicas.
type Rank = (bool, bool, usize);

struct Candidate {
    broker: BrokerId,
    rank: Rank,
}

fn candidates<'a>(
    image: &'a Image,
    doubts: &'a Doubts,
    partition: TopicIdPartition,
    state: &'a PartitionState,
    except: Option<BrokerId>,
) -> impl Iterator<Item = Candidate> + 'a {
    state.replicas.iter().enumerate().filter_map(move |(index, broker)| {
        let member = state.configuration.member_on(*broker)?;
        let may_lead = Some(*broker) != except && is_serving(image, member) && !doubts.is_unfit(partition, *broker);
        let rank = (state.removing.contains(broker), doubts.is_silent(*broker), index);
        may_lead.then_some(Candidate { broker: *broker, rank })
    })
}

/// The partition gets this leader, or none, in the next leader epoch.
pub(crate) fn elect(partition: TopicIdPartition, state: &PartitionState, leader: Option<BrokerId>) -> MetadataRecord {
    let election = Election { leader, leader_epoch: state.leader_epoch.next(), unclean: false };
    MetadataRecord::PartitionChange { partition, election: Some(election), configuration: None, assignment: None }
}

/// What to do with a partition that nobody else may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfNobody {
    /// The leader stays what it is: it will be back.
    Keep,
    /// The partition has no leader.
    Without,
}

/// Moves what the broker leads to others, at most `changes_max` partitions. How many are left that could be moved.
pub(crate) fn move_away(
    draft: &mut Draft,
    doubts: &Doubts,
    broker: BrokerId,
    if_nobody: IfNobody,
    changes_max: usize,
) -> usize {
    let image = draft.image();
    let elections: Vec<MetadataRecord> = image
        .partitions_led_by(broker)
        .filter_map(|(partition, state)| {
            let leader = choose(image, doubts, partition, state, Some(broker));
            (leader.is_some() || if_nobody == IfNobody::Without).then(|| elect(partition, state, leader))
        })
        .collect();
    draft.push_some(elections, changes_max)
}

/// Finds leaders for partitions that have none, or one that is fenced, among those that `concerns` is true of; at most
/// `changes_max`. How many are left.
pub(crate) fn fill(
    draft: &mut Draft,
    doubts: &Doubts,
    changes_max: usize,
    concerns: impl Fn(&PartitionState) -> bool,
) -> usize {
    let image = draft.image();
    let elections: Vec<MetadataRecord> = image
        .partitions()
        .filter(|(_, state)| concerns(state) && !has_live_leader(image, state))
        .filter_map(|(partition, state)| {
            let leader = choose(image, doubts, partition, state, None)?;
            Some(elect(partition, state, Some(leader)))
        })
        .collect();
    draft.push_some(elections, changes_max)
}
