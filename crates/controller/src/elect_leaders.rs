//! Leaders are elected because somebody asks, or because it is time: the preferred ones, and any where there is none.
//!
//! | request | who asks | elects |
//! |---|---|---|
//! | [`ElectPreferred`] | a client | the preferred leaders of the partitions named |
//! | [`BalanceLeaders`] | the shell, every `leader.imbalance.check.interval.seconds` | preferred leaders that may lead and don't |
//! | [`ElectLeaderless`] | the shell, after brokers changed and every second | leaders where there is none, or a fenced one |
//!
//! The two of the shell are bounded: it asks again until nothing is left.
//!
//! Not here: unclean elections (`unclean`).

use quipu_base::{BrokerId, PartitionIndex, TopicIdPartition};
use quipu_metadata::{Image, PartitionState};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Doubts, Request,
    draft::Draft,
    election::{elect, fill, has_live_leader, is_serving},
    limits::ELECTIONS_PER_DECISION_MAX,
};

/// Partitions of topics by name.
pub type NamedPartitions = Vec<(String, Vec<PartitionIndex>)>;

/// Preferred leaders are to lead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ElectPreferred {
    /// Of which partitions; none for all.
    pub partitions: Option<NamedPartitions>,
}

/// By topic and partition, in the order of the request.
pub type ElectedLeaders = Vec<(String, PartitionIndex, Result<(), ControllerError>)>;

impl Request for ElectPreferred {
    /// If all were asked for, those that needed no election are left out. Beyond [`ELECTIONS_PER_DECISION_MAX`] they are declined,
    /// to be asked for again.
    type Reply = ElectedLeaders;

    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<ElectedLeaders>, ControllerError> {
        let all: NamedPartitions;
        let partitions = match &self.partitions {
            Some(partitions) => partitions,
            None => {
                let indexes = |topic: &quipu_metadata::Topic| topic.partitions().map(|(index, _)| index).collect();
                all = image.topics().map(|topic| (topic.name().to_owned(), indexes(topic))).collect();
                &all
            }
        };
        let mut draft = Draft::new(image);
        let mut reply = ElectedLeaders::new();
        for (name, indexes) in partitions {
            for index in indexes {
                let result = if draft.record_count() < ELECTIONS_PER_DECISION_MAX {
                    elect_preferred(&mut draft, context.doubts, name, *index)
                } else {
                    let why = format!("One request elects {ELECTIONS_PER_DECISION_MAX} leaders at most: ask again.");
                    Err(ControllerError::InvalidRequest(why))
                };
                if self.partitions.is_some() || result != Err(ControllerError::ElectionNotNeeded) {
                    reply.push((name.clone(), *index, result));
                }
            }
        }
        Ok(draft.finish(reply, false))
    }
}

fn elect_preferred(
    draft: &mut Draft,
    doubts: &Doubts,
    name: &str,
    index: PartitionIndex,
) -> Result<(), ControllerError> {
    let image = draft.image();
    let (id, state) = find_partition(image, name, index)?;
    let preferred = preferred_leader(state);
    if state.leader == preferred {
        return Err(ControllerError::ElectionNotNeeded);
    }
    match preferred.filter(|broker| may_lead(image, doubts, id, state, *broker)) {
        Some(leader) => {
            let record = elect(id, state, Some(leader));
            draft.push(record);
            Ok(())
        }
        None => Err(ControllerError::PreferredLeaderNotAvailable { broker: preferred }),
    }
}

/// The partition of that number of the topic of that name.
pub(crate) fn find_partition<'a>(
    image: &'a Image,
    name: &str,
    index: PartitionIndex,
) -> Result<(TopicIdPartition, &'a PartitionState), ControllerError> {
    let topic = image.topic(name).ok_or_else(|| ControllerError::UnknownTopic { name: name.to_owned() })?;
    let unknown = || ControllerError::UnknownPartition { topic: name.to_owned(), partition: index };
    let state = topic.partition(index).ok_or_else(unknown)?;
    Ok((TopicIdPartition { topic_id: topic.topic_id(), partition: index }, state))
}

/// The first replica that is to stay.
fn preferred_leader(state: &PartitionState) -> Option<BrokerId> {
    state.replicas.iter().copied().find(|replica| !state.removing.contains(replica))
}

fn may_lead(image: &Image, doubts: &Doubts, id: TopicIdPartition, state: &PartitionState, broker: BrokerId) -> bool {
    state.configuration.member_on(broker).is_some_and(|member| is_serving(image, member))
        && !doubts.is_unfit(id, broker)
        && !doubts.is_silent(broker)
}

/// Preferred leaders are to lead wherever they may, a few at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BalanceLeaders {
    /// Leaderships to move at most: each is a short pause of its partition.
    pub changes_max: usize,
}

impl Request for BalanceLeaders {
    /// How many are left.
    type Reply = usize;

    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<usize>, ControllerError> {
        let mut draft = Draft::new(image);
        let doubts = &*context.doubts;
        let elections: Vec<_> = image
            .partitions()
            .filter_map(|(id, state)| {
                let preferred = preferred_leader(state).filter(|preferred| state.leader != Some(*preferred))?;
                may_lead(image, doubts, id, state, preferred).then(|| elect(id, state, Some(preferred)))
            })
            .collect();
        let left = draft.push_some(elections, self.changes_max);
        Ok(draft.finish(left, false))
    }
}

/// Whether there is a partition for [`ElectLeaderless`] to look at: one without a leader, or with one that is fenced or has another
/// disk than the partition's.
#[must_use]
pub fn has_leaderless(image: &Image) -> bool {
    image.partitions().any(|(_, state)| !has_live_leader(image, state))
}

/// Partitions without a live leader are to get one, where somebody may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ElectLeaderless {
    /// Leaders to elect at most.
    pub changes_max: usize,
}

impl Request for ElectLeaderless {
    /// How many are left.
    type Reply = usize;

    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<usize>, ControllerError> {
        let mut draft = Draft::new(image);
        let left = fill(&mut draft, context.doubts, self.changes_max, |_| true);
        Ok(draft.finish(left, false))
    }
}
