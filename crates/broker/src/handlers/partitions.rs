//! CreatePartitions (KIP-195).

use std::sync::Arc;

use quipu_base::BrokerId;
use quipu_controller::{CreatePartitions, MorePartitions};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::create_partitions::{
        CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
    },
};

use crate::{
    errors::{self, Refusal},
    node::Node,
};

pub(super) async fn create<E: Env>(node: Arc<Node<E>>, request: CreatePartitionsRequest) -> Response {
    let names: Vec<Str> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = request.topics.iter().map(more_partitions).collect();
    let asked = node.controller.ask(CreatePartitions { topics, validate_only: request.validate_only }).await;
    node.when_active(&names).await;
    let results = match asked {
        Ok(results) => results
            .into_iter()
            .map(|(name, result)| answer(name.into(), result.map_err(|error| errors::controller(&error))))
            .collect(),
        Err(error) => {
            let refusal = errors::ask(&error);
            names.into_iter().map(|name| answer(name, Err(refusal.clone()))).collect()
        }
    };
    Response::CreatePartitions(CreatePartitionsResponse { results, ..Default::default() })
}

fn more_partitions(topic: &CreatePartitionsTopic) -> MorePartitions {
    let replicas = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let assignments = topic.assignments.as_ref();
    MorePartitions {
        name: topic.name.to_string(),
        partition_count: topic.count,
        assignments: assignments.map(|all| all.iter().map(|one| replicas(&one.broker_ids)).collect()),
    }
}

fn answer(name: Str, result: Result<(), Refusal>) -> CreatePartitionsTopicResult {
    match result {
        Ok(()) => CreatePartitionsTopicResult { name, error_code: ErrorCode::None.code(), error_message: None },
        Err(refusal) => {
            CreatePartitionsTopicResult { name, error_code: refusal.code.code(), error_message: refusal.text() }
        }
    }
}
