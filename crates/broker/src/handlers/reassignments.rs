//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455, KIP-860).

use std::sync::Arc;

use quipu_base::{BrokerId, PartitionIndex};
use quipu_controller::{AlterPartitionReassignments, OngoingReassignment, Reassignment, list_reassignments};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response,
    messages::{
        alter_partition_reassignments::{
            AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
            ReassignableTopicResponse,
        },
        list_partition_reassignments::{
            ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
            OngoingTopicReassignment,
        },
    },
};

use crate::{errors, node::Node};

pub(super) async fn alter<E: Env>(node: Arc<Node<E>>, request: AlterPartitionReassignmentsRequest) -> Response {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let mut partitions = Vec::new();
    for topic in &request.topics {
        partitions.extend(topic.partitions.iter().map(|wanted| Reassignment {
            topic: topic.name.to_string(),
            partition: PartitionIndex(wanted.partition_index),
            replicas: wanted.replicas.as_ref().map(|replicas| replicas.iter().copied().map(BrokerId).collect()),
        }));
    }
    let asked = node.controller.ask(AlterPartitionReassignments { partitions, allow_replication_factor_change }).await;
    let response = match asked {
        Err(error) => {
            let refusal = errors::ask(&error);
            AlterPartitionReassignmentsResponse {
                error_code: refusal.code.code(),
                error_message: refusal.text(),
                allow_replication_factor_change,
                ..Default::default()
            }
        }
        Ok(results) => {
            let mut responses: Vec<ReassignableTopicResponse> = Vec::new();
            for (topic, partition, result) in results {
                let refusal = result.err().map(|error| errors::controller(&error));
                let answer = ReassignablePartitionResponse {
                    partition_index: partition.get(),
                    error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.code).code(),
                    error_message: refusal.and_then(|refusal| refusal.text()),
                };
                match responses.last_mut() {
                    Some(last) if *last.name == *topic => last.partitions.push(answer),
                    _ => responses.push(ReassignableTopicResponse { name: topic.into(), partitions: vec![answer] }),
                }
            }
            AlterPartitionReassignmentsResponse { responses, allow_replication_factor_change, ..Default::default() }
        }
    };
    Response::AlterPartitionReassignments(response)
}

pub(super) fn list<E: Env>(
    node: &Node<E>,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let is_wanted = |ongoing: &OngoingReassignment| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|topic| {
                *topic.name == *ongoing.topic && topic.partition_indexes.contains(&ongoing.partition.get())
            })
        })
    };
    let ids = |brokers: Vec<BrokerId>| brokers.into_iter().map(BrokerId::get).collect();
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for ongoing in list_reassignments(&node.view().image).filter(is_wanted) {
        let OngoingReassignment { topic, partition, replicas, adding, removing } = ongoing;
        let partition = OngoingPartitionReassignment {
            partition_index: partition.get(),
            replicas: ids(replicas),
            adding_replicas: ids(adding),
            removing_replicas: ids(removing),
        };
        match topics.last_mut() {
            Some(last) if *last.name == *topic => last.partitions.push(partition),
            _ => topics.push(OngoingTopicReassignment { name: topic.into(), partitions: vec![partition] }),
        }
    }
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}
