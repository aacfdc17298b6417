//! From a list of replicas to a new partition: who counts, how many it takes, who leads.
//!
//! Invariant: the configuration of a new partition holds the replicas that serve at that moment, at least
//! `min(min.insync.replicas, RF)` of them; the preferred leader leads if it serves, the next one otherwise.

use quipu_base::{BrokerId, LeaderEpoch};
use quipu_metadata::{
    Configuration, ConfigurationVersion, Image, InsyncReplicasMin, Member, PartitionState, REPLICAS_MAX,
};

use crate::ControllerError;

/// Errors: [`ControllerError::InvalidReplicaAssignment`] if somebody chose replicas that cannot be.
pub(crate) fn check_chosen(image: &Image, replicas: &[BrokerId], factor: Option<usize>) -> Result<(), ControllerError> {
    let decline = |why: String| Err(ControllerError::InvalidReplicaAssignment(why));
    if replicas.is_empty() {
        return decline("The assignment has a partition without replicas.".to_owned());
    }
    if replicas.len() > REPLICAS_MAX {
        return decline(format!(
            "The assignment has {} replicas of one partition: {REPLICAS_MAX} is the most.",
            replicas.len()
        ));
    }
    for (index, broker) in replicas.iter().enumerate() {
        if image.broker(*broker).is_none() {
            return decline(format!("The assignment has broker {broker}, which is not registered."));
        }
        if replicas[..index].contains(broker) {
            return decline(format!("The assignment has broker {broker} twice for one partition."));
        }
    }
    match factor {
        Some(factor) if factor != replicas.len() => decline(format!(
            "The assignment has a partition with {} replica(s) where the topic's others have {factor}.",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

/// A new partition with these replicas, all registered.
///
/// Errors: [`ControllerError::InvalidReplicaAssignment`] if too few of them serve.
pub(crate) fn new_partition(
    image: &Image,
    replicas: Vec<BrokerId>,
    insync_replicas_min: InsyncReplicasMin,
) -> Result<PartitionState, ControllerError> {
    let serving = |broker: &BrokerId| {
        let state = image.broker(*broker).filter(|state| state.is_serving())?;
        Some(Member { broker: *broker, directory_id: state.registration.directory_id })
    };
    let members: Vec<Member> = replicas.iter().filter_map(serving).collect();
    let (leader, serving_count) = (members.first().map(|member| member.broker), members.len());
    let replication_factor = u16::try_from(replicas.len()).unwrap_or(u16::MAX);
    let version = ConfigurationVersion::default();
    let configuration =
        Configuration::new(members, insync_replicas_min, replication_factor, version).ok_or_else(|| {
            let brokers = replicas.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(", ");
            ControllerError::InvalidReplicaAssignment(format!(
                "Of the replicas on broker(s) {brokers} only {serving_count} serve(s): too few to commit anything."
            ))
        })?;
    Ok(PartitionState {
        replicas,
        replication_factor,
        adding: Vec::new(),
        removing: Vec::new(),
        configuration,
        leader,
        leader_epoch: LeaderEpoch(0),
        unclean_epoch: LeaderEpoch::NONE,
    })
}
