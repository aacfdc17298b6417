//! CreateTopics (KIP-4, KIP-195, KIP-464, KIP-525) and DeleteTopics (KIP-516).

use std::sync::Arc;

use quipu_base::{BrokerId, PartitionIndex, TopicId};
use quipu_controller::{
    ControllerError, CreateTopics, CreatedConfig, CreatedTopic, DeleteTopics, DeletedTopic, NewTopic, TopicRef,
};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{
        create_topics::{
            CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
        },
        delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse},
    },
};

use crate::{
    errors::{self, Refusal},
    groups,
    node::Node,
};

pub(super) async fn create<E: Env>(node: Arc<Node<E>>, request: CreateTopicsRequest) -> Response {
    let names: Vec<Str> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = request.topics.iter().map(new_topic).collect();
    let asked = node.controller.ask(CreateTopics { topics, validate_only: request.validate_only }).await;
    node.when_active(&names).await;
    let topics = match asked {
        Ok(created) => created.into_iter().map(|(name, result)| created_topic(&name, result)).collect(),
        Err(error) => {
            let refusal = errors::ask(&error);
            names.into_iter().map(|name| refused(name, &refusal)).collect()
        }
    };
    Response::CreateTopics(CreateTopicsResponse { topics, ..Default::default() })
}

/// Creates topics of which only the names are known. Returns those that failed; a topic that somebody else created meanwhile
/// did not.
pub(super) async fn create_by_name<E: Env>(node: &Arc<Node<E>>, mut names: Vec<Str>) -> Vec<(Str, Refusal)> {
    names.sort_unstable();
    names.dedup();
    let topics = names.iter().map(|name| groups::new_topic(node, name)).collect();
    let asked = node.controller.ask(CreateTopics { topics, validate_only: false }).await;
    node.when_active(&names).await;
    match asked {
        Ok(created) => created
            .into_iter()
            .filter_map(|(name, result)| match result {
                Ok(_) | Err(ControllerError::TopicExists { .. }) => None,
                Err(error) => Some((name.into(), errors::controller(&error))),
            })
            .collect(),
        Err(error) => {
            let refusal = errors::ask(&error);
            names.into_iter().map(|name| (name, refusal.clone())).collect()
        }
    }
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| {
                let replicas = assignment.broker_ids.iter().copied().map(BrokerId).collect();
                (PartitionIndex(assignment.partition_index), replicas)
            })
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
    }
}

fn created_topic(name: &str, result: Result<CreatedTopic, ControllerError>) -> CreatableTopicResult {
    match result {
        Ok(created) => CreatableTopicResult {
            name: name.into(),
            topic_id: created.topic_id,
            error_code: ErrorCode::None.code(),
            num_partitions: i32::try_from(created.partition_count).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(created.replication_factor).unwrap_or(i16::MAX),
            configs: Some(created.configs.into_iter().map(created_config).collect()),
            ..Default::default()
        },
        Err(error) => refused(name.into(), &errors::controller(&error)),
    }
}

fn created_config(config: CreatedConfig) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: config.name.into(),
        value: Some(config.value.into()),
        read_only: config.is_read_only,
        config_source: config.source.code(),
        is_sensitive: false,
    }
}

fn refused(name: Str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: refusal.code.code(),
        error_message: refusal.text(),
        configs: None,
        ..Default::default()
    }
}

pub(super) async fn delete<E: Env>(node: Arc<Node<E>>, version: i16, request: DeleteTopicsRequest) -> Response {
    let asked: Vec<Option<TopicRef>> = if version >= 6 {
        let refs = request.topics.iter().map(|topic| match (&topic.name, topic.topic_id) {
            (Some(name), TopicId::ZERO) => Some(TopicRef::Name(name.to_string())),
            (None, id) if id != TopicId::ZERO => Some(TopicRef::Id(id)),
            // Both, or neither.
            _ => None,
        });
        refs.collect()
    } else {
        request.topic_names.iter().map(|name| Some(TopicRef::Name(name.to_string()))).collect()
    };
    let topics: Vec<TopicRef> = asked.iter().flatten().cloned().collect();
    let results = node.controller.ask(DeleteTopics { topics: topics.clone() }).await;
    let mut results = match results {
        Ok(results) => results.into_iter().map(deleted_topic).collect::<Vec<_>>().into_iter(),
        Err(error) => {
            let refusal = errors::ask(&error);
            topics.into_iter().map(|topic| not_deleted(topic, &refusal)).collect::<Vec<_>>().into_iter()
        }
    };
    let ambiguous = || DeletableTopicResult {
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some("a topic is named either by name or by id".into()),
        ..Default::default()
    };
    let responses = asked.into_iter().map(|topic| topic.and_then(|_| results.next()).unwrap_or_else(ambiguous));
    Response::DeleteTopics(DeleteTopicsResponse { responses: responses.collect(), ..Default::default() })
}

fn deleted_topic((topic, result): (TopicRef, Result<DeletedTopic, ControllerError>)) -> DeletableTopicResult {
    match result {
        Ok(deleted) => DeletableTopicResult {
            name: Some(deleted.name.into()),
            topic_id: deleted.topic_id,
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        Err(error) => not_deleted(topic, &errors::controller(&error)),
    }
}

fn not_deleted(topic: TopicRef, refusal: &Refusal) -> DeletableTopicResult {
    let (name, topic_id) = match topic {
        TopicRef::Name(name) => (Some(name.into()), TopicId::ZERO),
        TopicRef::Id(topic_id) => (None, topic_id),
    };
    DeletableTopicResult { name, topic_id, error_code: refusal.code.code(), error_message: refusal.text() }
}
