//! ElectLeaders (KIP-183, KIP-460): preferred leaders on request, and leaders that may lack acknowledged records where nobody else is
//! left. For the latter the replicas are asked first what they hold.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{PartitionIndex, TopicIdPartition};
use quipu_controller::{
    ControllerError, ElectPreferred, ElectUnclean, ElectedLeaders, NamedPartitions, unclean_electorate,
};
use quipu_env::Env;
use quipu_metadata::Image;
use quipu_protocol::{
    ErrorCode, Response,
    messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult},
};

use crate::{
    errors::{self, Refusal},
    node::Node,
    quorum::{AskError, Wanted},
};

/// The election types of Kafka.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: ElectLeadersRequest) -> Response {
    let partitions = request.topic_partitions.map(|topics| {
        let named = topics.into_iter().map(|topic| {
            (topic.topic.to_string(), topic.partitions.into_iter().map(PartitionIndex).collect::<Vec<_>>())
        });
        named.collect::<NamedPartitions>()
    });
    let elected = match request.election_type {
        PREFERRED => node.controller.ask(ElectPreferred { partitions: partitions.clone() }).await,
        UNCLEAN => elect_unclean(&node, partitions.as_ref()).await,
        other => {
            let message = format!("there is no election type {other}: 0 elects preferred leaders, 1 unclean ones");
            return refused(partitions, &Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    match elected {
        Ok(elected) => Response::ElectLeaders(ElectLeadersResponse {
            replica_election_results: results(elected),
            ..Default::default()
        }),
        Err(error) => refused(partitions, &errors::ask(&error)),
    }
}

/// Elects leaders of the partitions named, whatever their topics' configs say; or of all that nobody can lead cleanly.
async fn elect_unclean<E: Env>(
    node: &Arc<Node<E>>,
    partitions: Option<&NamedPartitions>,
) -> Result<ElectedLeaders, AskError> {
    let image = node.controller.read().await?;
    let mut elected = ElectedLeaders::new();
    let mut names = BTreeMap::new();
    let mut wanted: Vec<Wanted> = Vec::new();
    for (topic, index, found) in candidates(&image, partitions) {
        match found {
            Ok(candidate) => {
                names.insert(candidate.0, (topic, index));
                wanted.push(candidate);
            }
            Err(error) => elected.push((topic, index, Err(error))),
        }
    }
    if !wanted.is_empty() {
        let partitions = node.controller.reports(wanted).await?;
        for (id, result) in node.controller.ask(ElectUnclean { partitions, is_forced: true }).await? {
            if let Some((topic, index)) = names.remove(&id) {
                elected.push((topic, index, result.map(|_leader| ())));
            }
        }
    }
    if partitions.is_none() {
        elected.retain(|(_, _, result)| *result != Err(ControllerError::ElectionNotNeeded));
    }
    elected.sort_by(|(topic, index, _), (other, other_index, _)| (topic, index).cmp(&(other, other_index)));
    Ok(elected)
}

type Candidate = (String, PartitionIndex, Result<Wanted, ControllerError>);

fn candidates(image: &Image, partitions: Option<&NamedPartitions>) -> Vec<Candidate> {
    let all: NamedPartitions;
    let partitions = match partitions {
        Some(partitions) => partitions,
        None => {
            let indexes = |topic: &quipu_metadata::Topic| topic.partitions().map(|(index, _)| index).collect();
            all = image.topics().map(|topic| (topic.name().to_owned(), indexes(topic))).collect();
            &all
        }
    };
    let named = partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic, *index)));
    named.map(|(topic, index)| (topic.clone(), index, candidate(image, topic, index))).collect()
}

fn candidate(image: &Image, name: &str, index: PartitionIndex) -> Result<Wanted, ControllerError> {
    let topic = image.topic(name).ok_or_else(|| ControllerError::UnknownTopic { name: name.to_owned() })?;
    if topic.partition(index).is_none() {
        return Err(ControllerError::UnknownPartition { topic: name.to_owned(), partition: index });
    }
    let id = TopicIdPartition { topic_id: topic.topic_id(), partition: index };
    let (leader_epoch, electorate) = unclean_electorate(image, id).ok_or(ControllerError::ElectionNotNeeded)?;
    Ok((id, leader_epoch, electorate))
}

/// Before version 1 there is no error of the whole request, so each partition has it, too.
fn refused(partitions: Option<NamedPartitions>, refusal: &Refusal) -> Response {
    let topics = partitions.unwrap_or_default().into_iter().map(|(topic, indexes)| ReplicaElectionResult {
        topic: topic.into(),
        partition_result: indexes
            .into_iter()
            .map(|index| PartitionResult {
                partition_id: index.get(),
                error_code: refusal.code.code(),
                error_message: refusal.text(),
            })
            .collect(),
    });
    Response::ElectLeaders(ElectLeadersResponse {
        error_code: refusal.code.code(),
        replica_election_results: topics.collect(),
        ..Default::default()
    })
}

fn results(elected: ElectedLeaders) -> Vec<ReplicaElectionResult> {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for (topic, index, result) in elected {
        let refusal = result.err().map(|error| errors::controller(&error));
        let result = PartitionResult {
            partition_id: index.get(),
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code).code(),
            error_message: refusal.and_then(|refusal| refusal.text()),
        };
        match results.last_mut() {
            Some(last) if *last.topic == *topic => last.partition_result.push(result),
            _ => results.push(ReplicaElectionResult { topic: topic.into(), partition_result: vec![result] }),
        }
    }
    results
}
