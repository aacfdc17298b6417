//! Replicas move: a partition gets other ones (KIP-455).
//!
//! ```text
//! none       -> under way   AlterPartitionReassignments: replicas = the target and those to be removed; RF = the target's number
//! under way  -> none        the leader's change of C after which all added are members and none removed is (`ask_partitions`)
//! under way  -> under way   another target, or a cancellation, which is the target from before
//! ```
//!
//! C stays what it is: the leader takes the added in when they have caught up, and lets the removed go when as many others as RF are
//! members.
//!
//! Invariant: a replica that is a member never leaves the list of replicas before it has left C.

use quipu_base::{BrokerId, PartitionIndex};
use quipu_metadata::{Image, MetadataRecord, PartitionState, REPLICAS_MAX, record::Assignment};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request, ask_partitions::finished_assignment, assignment::check_chosen,
    draft::Draft, elect_leaders::find_partition, limits::ASKS_PER_REQUEST_MAX, metadata_version,
};

/// Partitions are to have other replicas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterPartitionReassignments {
    /// Which, decided in this order.
    pub partitions: Vec<Reassignment>,
    /// Whether the number of replicas may become another.
    pub allow_replication_factor_change: bool,
}

/// A partition that is to have other replicas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The replicas wanted, the preferred leader first; none to cancel what is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

impl Request for AlterPartitionReassignments {
    /// In the order of the request.
    type Reply = Vec<(String, PartitionIndex, Result<(), ControllerError>)>;

    /// Errors: [`ControllerError::NeedsMetadataVersion`], [`ControllerError::InvalidRequest`] for too many partitions.
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        let current = metadata_version(image);
        if current < 2 {
            return Err(ControllerError::NeedsMetadataVersion { what: "a reassignment".into(), level: 2, current });
        }
        if self.partitions.len() > ASKS_PER_REQUEST_MAX {
            let why = format!("The request has more than {ASKS_PER_REQUEST_MAX} partitions: split it.");
            return Err(ControllerError::InvalidRequest(why));
        }
        let mut draft = Draft::new(image);
        let mut reply = Vec::new();
        for wanted in &self.partitions {
            let result = self
                .decide_one(draft.image(), wanted)
                .map(|record| record.into_iter().for_each(|record| draft.push(record)));
            reply.push((wanted.topic.clone(), wanted.partition, result));
        }
        Ok(draft.finish(reply, false))
    }
}

impl AlterPartitionReassignments {
    /// None if the partition is what is wanted already.
    fn decide_one(&self, image: &Image, wanted: &Reassignment) -> Result<Option<MetadataRecord>, ControllerError> {
        let (partition, state) = find_partition(image, &wanted.topic, wanted.partition)?;
        let target = match &wanted.replicas {
            Some(target) => {
                check_chosen(image, target, None)?;
                let factor = usize::from(state.replication_factor);
                if !self.allow_replication_factor_change && target.len() != factor {
                    return Err(ControllerError::InvalidReplicationFactor(format!(
                        "The partition has a replication factor of {factor}, {} replicas are wanted, and the request does \
                         not allow to change it.",
                        target.len()
                    )));
                }
                target.clone()
            }
            None if state.adding.is_empty() && state.removing.is_empty() => {
                return Err(ControllerError::NoReassignment);
            }
            None => before_reassignment(state),
        };
        let assignment = reassigned(state, target);
        if assignment.replicas.len() > REPLICAS_MAX {
            return Err(ControllerError::InvalidReplicaAssignment(format!(
                "Old and new replicas together are {}: {REPLICAS_MAX} is the most.",
                assignment.replicas.len()
            )));
        }
        let after = with_assignment(state, &assignment);
        let assignment = finished_assignment(&after, &state.configuration).unwrap_or(assignment);
        let is_change = with_assignment(state, &assignment) != *state;
        Ok(is_change.then_some(MetadataRecord::PartitionChange {
            partition,
            election: None,
            configuration: None,
            assignment: Some(assignment),
        }))
    }
}

fn with_assignment(state: &PartitionState, assignment: &Assignment) -> PartitionState {
    let Assignment { replicas, adding, removing, replication_factor } = assignment.clone();
    PartitionState { replicas, adding, removing, replication_factor, ..state.clone() }
}

fn before_reassignment(state: &PartitionState) -> Vec<BrokerId> {
    state.replicas.iter().copied().filter(|replica| !state.adding.contains(replica)).collect()
}

/// From the state on the way to `target`. Who was only being added and is no member goes at once.
fn reassigned(state: &PartitionState, target: Vec<BrokerId>) -> Assignment {
    let goes = |replica: &BrokerId| {
        let came = !state.adding.contains(replica) || state.configuration.has_broker(*replica);
        came && !target.contains(replica)
    };
    let removing: Vec<BrokerId> = state.replicas.iter().copied().filter(goes).collect();
    let is_new = |replica: &BrokerId| !state.replicas.contains(replica) || state.adding.contains(replica);
    let adding: Vec<BrokerId> = target.iter().copied().filter(is_new).collect();
    let replication_factor = u16::try_from(target.len()).unwrap_or(u16::MAX);
    let replicas = target.into_iter().chain(removing.iter().copied()).collect();
    Assignment { replicas, adding, removing, replication_factor }
}

/// A reassignment under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OngoingReassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// All replicas.
    pub replicas: Vec<BrokerId>,
    /// Those being added.
    pub adding: Vec<BrokerId>,
    /// Those being removed.
    pub removing: Vec<BrokerId>,
}

/// The reassignments under way, by topic and partition: `ListPartitionReassignments`, which any image answers.
pub fn list_reassignments(image: &Image) -> impl Iterator<Item = OngoingReassignment> {
    image.topics().flat_map(|topic| {
        let is_ongoing =
            |(_, state): &(PartitionIndex, &PartitionState)| !state.adding.is_empty() || !state.removing.is_empty();
        topic.partitions().filter(is_ongoing).map(|(partition, state)| OngoingReassignment {
            topic: topic.name().to_owned(),
            partition,
            replicas: state.replicas.clone(),
            adding: state.adding.clone(),
            removing: state.removing.clone(),
        })
    })
}
