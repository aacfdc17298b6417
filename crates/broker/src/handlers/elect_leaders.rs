//! ElectLeaders (KIP-183, KIP-460): preferred leaders on request.
//!
//! Unclean elections on request are refused: what the replicas still hold would have to be asked first. A topic that may lose records
//! rather than wait says so by `unclean.leader.election.enable`.

use std::sync::Arc;

use quipu_base::PartitionIndex;
use quipu_controller::{ElectPreferred, ElectedLeaders, NamedPartitions};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response,
    messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult},
};

use crate::{
    errors::{self, Refusal},
    node::Node,
};

/// The election type of Kafka's `PREFERRED`.
const PREFERRED: i8 = 0;

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: ElectLeadersRequest) -> Response {
    let partitions = request.topic_partitions.map(|topics| {
        let named = topics.into_iter().map(|topic| {
            (topic.topic.to_string(), topic.partitions.into_iter().map(PartitionIndex).collect::<Vec<_>>())
        });
        named.collect::<NamedPartitions>()
    });
    if request.election_type != PREFERRED {
        let message = "unclean elections on request are not supported: set unclean.leader.election.enable on the topic";
        return refused(partitions, &Refusal::new(ErrorCode::InvalidRequest, message));
    }
    match node.controller.ask(ElectPreferred { partitions: partitions.clone() }).await {
        Ok(elected) => Response::ElectLeaders(ElectLeadersResponse {
            replica_election_results: results(elected),
            ..Default::default()
        }),
        Err(error) => refused(partitions, &errors::ask(&error)),
    }
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
