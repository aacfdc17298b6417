//! A topic gets more partitions. What is in it stays where it is: keys map to other partitions from then on.

use quipu_base::{BrokerId, PartitionIndex, limits::PARTITIONS_PER_REQUEST_MAX};
use quipu_metadata::{Image, MetadataRecord, Topic};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request, assignment,
    draft::Draft,
    mentions::{Mention, Mentions},
    placement::Placement,
};

/// Topics are to have more partitions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatePartitions {
    /// Which.
    pub topics: Vec<MorePartitions>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

/// A topic that is to have more partitions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MorePartitions {
    /// The topic.
    pub name: String,
    /// How many partitions it is to have in all.
    pub partition_count: i32,
    /// The replicas of each new partition, if somebody chose them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

impl Request for CreatePartitions {
    /// By name, each once, in the order of the request.
    type Reply = Vec<(String, Result<(), ControllerError>)>;

    /// Errors: [`ControllerError::TooManyPartitions`].
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        self.check_partition_total(image)?;
        let mut mentions = Mentions::count(self.topics.iter().map(|topic| &topic.name));
        let mut draft = Draft::new(image);
        let mut reply = Vec::new();
        for topic in &self.topics {
            let result = match mentions.take(&&topic.name) {
                Mention::Only => add_partitions(&mut draft, topic, context),
                Mention::First => {
                    let why = format!("The request has the topic {:?} more than once.", topic.name);
                    Err(ControllerError::InvalidRequest(why))
                }
                Mention::Again => continue,
            };
            reply.push((topic.name.clone(), result));
        }
        Ok(draft.finish(reply, self.validate_only))
    }
}

impl CreatePartitions {
    fn check_partition_total(&self, image: &Image) -> Result<(), ControllerError> {
        let added = |topic: &MorePartitions| {
            let known = image.topic(&topic.name).map_or(0, Topic::partition_count);
            usize::try_from(topic.partition_count).unwrap_or(0).saturating_sub(known)
        };
        let total = self.topics.iter().map(added).fold(0_usize, usize::saturating_add);
        if total > PARTITIONS_PER_REQUEST_MAX { Err(ControllerError::TooManyPartitions) } else { Ok(()) }
    }
}

fn add_partitions(
    draft: &mut Draft,
    request: &MorePartitions,
    context: &mut Context<'_>,
) -> Result<(), ControllerError> {
    let image = draft.image();
    let unknown = || ControllerError::UnknownTopic { name: request.name.clone() };
    let topic = image.topic(&request.name).ok_or_else(unknown)?;
    let replicas = new_replicas(image, topic, request)?;
    let insync_replicas_min = context.layers(image).topic_with(topic.configs()).insync_replicas_min;
    let partition = |replicas| assignment::new_partition(image, replicas, insync_replicas_min);
    let partitions: Vec<_> = replicas.into_iter().map(partition).collect::<Result<_, _>>()?;
    let (topic_id, known) = (topic.topic_id(), topic.partition_count());
    for (partition, state) in (0..).map(PartitionIndex).skip(known).zip(partitions) {
        draft.push(MetadataRecord::Partition { topic_id, partition, state });
    }
    Ok(())
}

/// The replicas of each new partition.
fn new_replicas(image: &Image, topic: &Topic, request: &MorePartitions) -> Result<Vec<Vec<BrokerId>>, ControllerError> {
    let (known, wanted) = (topic.partition_count(), request.partition_count);
    let added = usize::try_from(wanted).ok().and_then(|wanted| wanted.checked_sub(known)).filter(|added| *added > 0);
    let added = added.ok_or_else(|| {
        let why = format!("The topic {:?} has {known} partition(s): {wanted} would not be more.", request.name);
        ControllerError::InvalidPartitions(why)
    })?;
    let factor = topic.partition(PartitionIndex(0)).map_or(1, |state| usize::from(state.replication_factor));
    let Some(chosen) = &request.assignments else {
        let factor = i16::try_from(factor).unwrap_or(i16::MAX);
        let placement = Placement::new(image, topic.topic_id(), factor)?;
        return Ok((known..known + added).map(|index| placement.replicas(index)).collect());
    };
    if chosen.len() != added {
        let why = format!("{added} partition(s) are to be added, and the assignment has {}.", chosen.len());
        return Err(ControllerError::InvalidReplicaAssignment(why));
    }
    for replicas in chosen {
        assignment::check_chosen(image, replicas, Some(factor))?;
    }
    Ok(chosen.clone())
}
