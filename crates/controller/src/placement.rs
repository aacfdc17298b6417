//! Which brokers get the replicas of new partitions.
//!
//! Invariants
//! - Only brokers that serve (neither fenced nor about to stop) get any, and a partition's replicas are on distinct ones.
//! - Leaders go round all brokers in turn, so that none leads more than one partition more than another.
//! - A partition's replicas stand in as many racks as there are, a broker without a rack counting as one.
//! - Racks alternate in the round, so that with racks of one size followers are as even as leaders.
//!
//! Deterministic: where the round begins comes from the topic's id, which is random already.

use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{BrokerId, TopicId};
use quipu_metadata::{Image, REPLICAS_MAX};

use crate::ControllerError;

/// Places partitions of one topic.
pub(crate) struct Placement<'a> {
    /// Those that serve: the first of each rack, by rack, then the second of each, ..; those without a rack first, by id.
    brokers: Vec<(BrokerId, Option<&'a str>)>,
    start_index: usize,
    replication_factor: usize,
}

impl<'a> Placement<'a> {
    /// Errors: [`ControllerError::InvalidReplicationFactor`] if there are too few brokers.
    pub(crate) fn new(image: &'a Image, topic_id: TopicId, replication_factor: i16) -> Result<Self, ControllerError> {
        let serving = image.brokers().filter(|(_, state)| state.is_serving());
        let brokers = alternating(serving.map(|(id, state)| (id, state.registration.rack.as_deref())));
        let wanted = usize::try_from(replication_factor).unwrap_or(0);
        if wanted > REPLICAS_MAX {
            return Err(ControllerError::InvalidReplicationFactor(format!(
                "The replication factor {replication_factor} is too large: {REPLICAS_MAX} is the most."
            )));
        }
        if wanted == 0 || wanted > brokers.len() {
            return Err(ControllerError::InvalidReplicationFactor(format!(
                "The replication factor {replication_factor} cannot be had: {} broker(s) are serving.",
                brokers.len()
            )));
        }
        let [first, second, ..] = topic_id.0;
        let start_index = usize::from(u16::from_be_bytes([first, second]));
        Ok(Self { brokers, start_index, replication_factor: wanted })
    }

    /// The replicas of the topic's partition of that number, the preferred leader first.
    pub(crate) fn replicas(&self, partition_index: usize) -> Vec<BrokerId> {
        let count = self.brokers.len();
        let leader_index = (self.start_index + partition_index) % count;
        let (leader, leader_rack) = self.brokers[leader_index];
        // Each round of leaders shifts the followers by one, so that a leader's partitions do not all share theirs.
        let shift = partition_index / count;
        let followers =
            (0..count - 1).map(|index| self.brokers[(leader_index + 1 + (shift + index) % (count - 1)) % count]);
        let mut racks = BTreeSet::from([leader_rack]);
        let (near, far): (Vec<_>, Vec<_>) = followers.partition(|(_, rack)| rack.is_some() && !racks.insert(*rack));
        let ordered = far.into_iter().chain(near).map(|(broker, _)| broker);
        std::iter::once(leader).chain(ordered).take(self.replication_factor).collect()
    }
}

fn alternating<'a>(by_id: impl Iterator<Item = (BrokerId, Option<&'a str>)>) -> Vec<(BrokerId, Option<&'a str>)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rank = |rack: Option<&'a str>| {
        // Whoever has no rack is the first of his own.
        let Some(rack) = rack else { return 0 };
        let count = counts.entry(rack).or_default();
        *count += 1;
        *count - 1
    };
    let mut ranked: Vec<_> = by_id.map(|(broker, rack)| (rank(rack), rack, broker)).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, rack, broker)| (broker, rack)).collect()
}
