//! `quipu topic create`, `alter`, `delete`.

use std::{collections::BTreeMap, process::ExitCode};

use quipu_client::{
    Client, ClientError, ConfigChange, ConfigOperation, ConfigResource, ErrorCode, NewPartitions, NewTopic, TopicId,
    TopicName,
};
use quipu_env_tokio::TokioEnv;
use serde_json::json;

use super::Config;
use crate::{
    FAILED,
    client::{Failure, find_topic},
    output::Output,
};

/// Topics to create, all alike.
pub(super) struct Wanted {
    pub(super) topics: Vec<String>,
    pub(super) partitions: Option<i32>,
    pub(super) replication_factor: Option<i16>,
    pub(super) configs: BTreeMap<String, String>,
    pub(super) may_exist: bool,
}

pub(super) async fn create(client: Client<TokioEnv>, wanted: Wanted, mut output: Output) -> Result<ExitCode, Failure> {
    let topic = |name: &String| NewTopic {
        name: name.clone(),
        partitions: wanted.partitions,
        replication_factor: wanted.replication_factor,
        assignments: Vec::new(),
        configs: wanted.configs.clone(),
    };
    let topics = wanted.topics.iter().map(topic).collect();
    let mut status = 0;
    for (topic, outcome) in client.admin().create_topics(topics, false).await {
        let name = topic.name;
        let exists = |error: &ClientError| error.code() == Some(ErrorCode::TopicAlreadyExists);
        // A break means that nobody reads: everything is done all the same.
        let _told = match outcome {
            Ok(id) if output.json => {
                let id = Some(id).filter(|id| *id != TopicId::ZERO).map(|id| id.to_string());
                output.json(&json!({ "topic": name, "topic_id": id, "created": true }))
            }
            Ok(_) => output.line(&format!("created {name}")),
            Err(error) if wanted.may_exist && exists(&error) && output.json => {
                output.json(&json!({ "topic": name, "created": false }))
            }
            Err(error) if wanted.may_exist && exists(&error) => output.line(&format!("{name} exists already")),
            Err(error) => tell(error, &mut status),
        };
    }
    Ok(output.finish(status)?)
}

pub(super) async fn delete(
    client: Client<TokioEnv>,
    topics: Vec<String>,
    may_lack: bool,
    mut output: Output,
) -> Result<ExitCode, Failure> {
    let topics = topics.into_iter().map(TopicName::Name).collect();
    let mut status = 0;
    for (name, outcome) in client.admin().delete_topics(topics).await {
        let name = name.to_string();
        let lacks = |error: &ClientError| error.code() == Some(ErrorCode::UnknownTopicOrPartition);
        let _told = match outcome {
            Ok(()) if output.json => output.json(&json!({ "topic": name, "deleted": true })),
            Ok(()) => output.line(&format!("deleted {name}")),
            Err(error) if may_lack && lacks(&error) && output.json => {
                output.json(&json!({ "topic": name, "deleted": false }))
            }
            Err(error) if may_lack && lacks(&error) => output.line(&format!("{name} does not exist")),
            Err(error) => tell(error, &mut status),
        };
    }
    Ok(output.finish(status)?)
}

/// Tells one topic's failure.
fn tell(error: ClientError, status: &mut u8) -> std::ops::ControlFlow<()> {
    eprintln!("quipu: {}", Failure::Client(error));
    *status = FAILED;
    std::ops::ControlFlow::Continue(())
}

/// Changes of one topic.
pub(super) struct Altered {
    pub(super) topic: String,
    pub(super) partitions: Option<i32>,
    pub(super) set: Vec<Config>,
    pub(super) unset: Vec<String>,
}

pub(super) async fn alter(client: Client<TokioEnv>, altered: Altered, mut output: Output) -> Result<ExitCode, Failure> {
    let topic = find_topic(&client, &altered.topic).await?;
    let name = altered.topic;
    let set = altered.set.into_iter().map(|(name, value)| (name, ConfigOperation::Set(value)));
    let unset = altered.unset.into_iter().map(|name| (name, ConfigOperation::Delete));
    let operations: Vec<_> = set.chain(unset).collect();
    // The same number is no change, so that a command that is run twice succeeds twice.
    let partitions = altered.partitions.filter(|wanted| usize::try_from(*wanted).ok() != Some(topic.partitions.len()));
    for validate_only in [true, false] {
        if !operations.is_empty() {
            let resource = ConfigResource::Topic(name.clone());
            let change = ConfigChange { resource, operations: operations.clone() };
            only(client.admin().alter_configs(vec![change], validate_only).await)?;
        }
        if let Some(count) = partitions {
            let more = NewPartitions { topic: name.clone(), count, assignments: None };
            only(client.admin().create_partitions(vec![more], validate_only).await)?;
        }
    }
    let _told = if output.json {
        output.json(&json!({ "topic": name, "altered": true }))
    } else {
        output.line(&format!("altered {name}"))
    };
    Ok(output.finish(0)?)
}

/// The one outcome of a question about one thing.
fn only<K>(outcomes: Vec<(K, Result<(), ClientError>)>) -> Result<(), ClientError> {
    outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
}
