//! Requests about topics and brokers: they change something, or only ask.
//!
//! Invariant: a change is asked for until there is an answer. An answer to a second try may tell of the first.

use quipu_base::TopicId;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{
        alter_configs::{self, AlterConfigsRequest},
        alter_partition_reassignments::{AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic},
        api_versions::ApiVersionsRequest,
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_cluster::DescribeClusterRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        describe_log_dirs::DescribeLogDirsRequest,
        describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest},
        find_coordinator::FindCoordinatorRequest,
        incremental_alter_configs::{AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest},
        list_config_resources::ListConfigResourcesRequest,
        offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
};
use quipu_wire_client::requests;

use super::{
    client::{Client, text},
    consume::{EARLIEST, LATEST, list},
    questions, topics,
};
use crate::{
    history::{Outcome, What},
    plan::{self, operation::Question},
};

/// What an administrative request gives the broker, milliseconds.
const TIMEOUT_MS: i32 = 5000;
/// Kafka's number for topics among the resources that have properties.
const RESOURCE_TOPIC: i8 = 2;

/// Of ListOffsets: the record with the largest timestamp.
const MAX_TIMESTAMP: i64 = -3;

/// Makes a topic with its properties, whatever it takes.
pub(super) async fn make_topic(client: &mut Client, topic: &plan::Topic) {
    let configs: Vec<(&str, &str)> = topic.kafka.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    create_until_done(client, &topic.name, topic.partitions, &configs).await;
}

/// Makes a topic.
pub(super) async fn create(client: &mut Client, topic: &str, partitions: i32) {
    create_until_done(client, topic, partitions, &[]).await;
}

async fn create_until_done(client: &mut Client, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let what = What::CreateTopic { topic: topic.to_owned() };
    let op = client.scene.recorder.invoke(client.number, client.scene.now(), what);
    loop {
        let mut request = requests::create_topic(topic, partitions, configs);
        // As many replicas as the brokers' default has it.
        request.topics.iter_mut().for_each(|topic| topic.replication_factor = -1);
        let Response::CreateTopics(response) = client.call(7, request).await else { continue };
        let Some(answer) = response.topics.first() else { continue };
        let outcome = match client.code(answer.error_code) {
            ErrorCode::None => Outcome::Ok,
            ErrorCode::TopicAlreadyExists => Outcome::Info,
            code if client.scene.is_passing(code) => {
                client.pause().await;
                continue;
            }
            code => {
                client.unexpected("CreateTopics", code, text(answer.error_message.as_ref()).as_deref());
                Outcome::Fail
            }
        };
        client.scene.recorder.complete(op, client.scene.now(), outcome, |_| {});
        client.known.remove(topic);
        return;
    }
}

/// Deletes a topic, by its id.
pub(super) async fn delete(client: &mut Client, topic: &str) {
    topics::refresh(client).await;
    let Some(known) = client.known.get(topic).cloned() else { return };
    let what = What::DeleteTopic { topic: topic.to_owned(), id: known.id() };
    let op = client.scene.recorder.invoke(client.number, client.scene.now(), what);
    loop {
        let state = DeleteTopicState { name: None, topic_id: known.topic.id };
        let request = DeleteTopicsRequest { topics: vec![state], timeout_ms: TIMEOUT_MS, ..Default::default() };
        let Response::DeleteTopics(response) = client.call(6, request).await else { continue };
        let Some(answer) = response.responses.first() else { continue };
        match client.code(answer.error_code) {
            ErrorCode::None => {}
            // An earlier try, or somebody else.
            ErrorCode::UnknownTopicId => {}
            code if client.scene.is_passing(code) => {
                client.pause().await;
                continue;
            }
            code => client.unexpected("DeleteTopics", code, text(answer.error_message.as_ref()).as_deref()),
        }
        client.scene.recorder.complete(op, client.scene.now(), Outcome::Ok, |_| {});
        client.known.remove(topic);
        return;
    }
}

/// Adds partitions.
pub(super) async fn grow(client: &mut Client, topic: &str, partitions: i32) {
    loop {
        let wanted = CreatePartitionsTopic { name: topic.into(), count: partitions, assignments: None };
        let request = CreatePartitionsRequest { topics: vec![wanted], timeout_ms: TIMEOUT_MS, ..Default::default() };
        let Response::CreatePartitions(response) = client.call(3, request).await else { continue };
        let Some(answer) = response.results.first() else { continue };
        match client.code(answer.error_code) {
            ErrorCode::None => break,
            // It has as many, or more, by now; or it is gone.
            ErrorCode::InvalidPartitions | ErrorCode::UnknownTopicOrPartition => break,
            code if client.scene.is_passing(code) => client.pause().await,
            code => {
                client.unexpected("CreatePartitions", code, text(answer.error_message.as_ref()).as_deref());
                break;
            }
        }
    }
    client.known.remove(topic);
}

/// Sets a property of a topic.
pub(super) async fn alter(client: &mut Client, topic: &str, name: &str, value: &str) {
    loop {
        let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: topic.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let Response::IncrementalAlterConfigs(response) = client.call(1, request).await else { continue };
        let Some(answer) = response.responses.first() else { continue };
        match client.code(answer.error_code) {
            ErrorCode::None | ErrorCode::UnknownTopicOrPartition => return,
            code if client.scene.is_passing(code) => client.pause().await,
            code => {
                client.unexpected("IncrementalAlterConfigs", code, text(answer.error_message.as_ref()).as_deref());
                return;
            }
        }
    }
}

/// Sets a property of a topic, and all others back to their defaults.
pub(super) async fn replace(client: &mut Client, topic: &str, name: &str, value: &str) {
    loop {
        let config = alter_configs::AlterableConfig { name: name.into(), value: Some(value.into()) };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: topic.into(),
            configs: vec![config],
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        let Response::AlterConfigs(response) = client.call(2, request).await else { continue };
        let Some(answer) = response.responses.first() else { continue };
        match client.code(answer.error_code) {
            ErrorCode::None | ErrorCode::UnknownTopicOrPartition => return,
            code if client.scene.is_passing(code) => client.pause().await,
            code => {
                client.unexpected("AlterConfigs", code, text(answer.error_message.as_ref()).as_deref());
                return;
            }
        }
    }
}

/// Moves a partition to other brokers. It is under way when this ends.
pub(super) async fn reassign(client: &mut Client, topic: &str, partition: i32, brokers: &[i32]) {
    loop {
        let wanted = ReassignablePartition { partition_index: partition, replicas: Some(brokers.to_vec()) };
        let topics = vec![ReassignableTopic { name: topic.into(), partitions: vec![wanted] }];
        let request = AlterPartitionReassignmentsRequest { topics, timeout_ms: TIMEOUT_MS, ..Default::default() };
        let Response::AlterPartitionReassignments(response) = client.call(1, request).await else { continue };
        let of_partition = response.responses.first().and_then(|topic| topic.partitions.first());
        let code = of_partition.map_or(response.error_code, |answer| answer.error_code.max(response.error_code));
        match client.code(code) {
            ErrorCode::None | ErrorCode::UnknownTopicOrPartition => return,
            // A broker that is wanted is not there at the moment, or never was.
            ErrorCode::InvalidReplicaAssignment => return,
            code if client.scene.is_passing(code) => client.pause().await,
            code => {
                client.unexpected(
                    "AlterPartitionReassignments",
                    code,
                    text(response.error_message.as_ref()).as_deref(),
                );
                return;
            }
        }
    }
}

/// Deletes the beginning of a log.
pub(super) async fn delete_records(client: &mut Client, topic: &str, partition: i32, permille: u32) {
    let Some(known) = topics::find(client, topic).await else { return };
    let partition = partition.rem_euclid(known.partitions.max(1));
    let (Some(start), Some(end)) =
        (list(client, &known, partition, EARLIEST).await, list(client, &known, partition, LATEST).await)
    else {
        return;
    };
    let to = start + (end - start).max(0) * i64::from(permille.min(1000)) / 1000;
    let log = client.log(&known, partition);
    let what = What::DeleteRecords { log, to, low_watermark: None };
    let op = client.scene.recorder.invoke(client.number, client.scene.now(), what);
    loop {
        let wanted = DeleteRecordsPartition { partition_index: partition, offset: to };
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions: vec![wanted] }];
        let request = DeleteRecordsRequest { topics, timeout_ms: TIMEOUT_MS };
        let leader = client.known.get(topic).map_or(client.home(), |known| client.leader(known, partition));
        let Some(Response::DeleteRecords(response)) = client.call_once_at(leader, 2, request).await else {
            topics::refresh(client).await;
            continue;
        };
        let Some(answer) = response.topics.first().and_then(|topic| topic.partitions.first()) else { continue };
        let low = answer.low_watermark;
        let outcome = match client.code(answer.error_code) {
            ErrorCode::None => Outcome::Ok,
            ErrorCode::OffsetOutOfRange | ErrorCode::UnknownTopicOrPartition => Outcome::Info,
            code if client.scene.is_passing(code) => {
                client.pause().await;
                topics::refresh(client).await;
                continue;
            }
            code => {
                client.unexpected("DeleteRecords", code, None);
                Outcome::Info
            }
        };
        client.scene.recorder.complete(op, client.scene.now(), outcome, |what| {
            if let (What::DeleteRecords { low_watermark, .. }, Outcome::Ok) = (what, outcome) {
                *low_watermark = Some(low);
            }
        });
        return;
    }
}

/// Asks something, once; any answer to it will do that is one.
pub(super) async fn ask(client: &mut Client, question: Question) {
    if client.known.is_empty() {
        topics::refresh(client).await;
    }
    let names: Vec<Str> = client.known.keys().map(|name| name.as_str().into()).collect();
    let _answer = match question {
        Question::Versions => {
            let request = ApiVersionsRequest {
                client_software_name: "hunt".into(),
                client_software_version: "1".into(),
                ..Default::default()
            };
            client.call_once(4, request).await
        }
        Question::Metadata => {
            topics::refresh(client).await;
            None
        }
        Question::Cluster => client.call_once(1, DescribeClusterRequest::default()).await,
        Question::LogDirs => client.call_once(4, DescribeLogDirsRequest { topics: None }).await,
        Question::Configs => {
            let resource = |name: Str| DescribeConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: name,
                configuration_keys: None,
            };
            let resources = names.into_iter().map(resource).collect();
            client.call_once(4, DescribeConfigsRequest { resources, ..Default::default() }).await
        }
        Question::TopicPartitions => {
            let topics = names.into_iter().map(|name| TopicRequest { name }).collect();
            client.call_once(0, DescribeTopicPartitionsRequest { topics, ..Default::default() }).await
        }
        Question::Coordinator => {
            // Of a transaction: asking for a group's would make the topic of groups, which these worlds do not know.
            let coordinator_keys = vec!["t".into()];
            client.call_once(4, FindCoordinatorRequest { key_type: 1, coordinator_keys, ..Default::default() }).await
        }
        Question::Epochs => {
            let partitions = vec![OffsetForLeaderPartition { partition: 0, leader_epoch: 0, ..Default::default() }];
            let topic = |topic| OffsetForLeaderTopic { topic, partitions: partitions.clone() };
            let topics = names.into_iter().map(topic).collect();
            client.call_once(4, OffsetForLeaderEpochRequest { topics, ..Default::default() }).await
        }
        Question::Groups => {
            questions::groups(client).await;
            None
        }
        Question::Quorum => {
            questions::quorum(client).await;
            None
        }
        Question::Mistakes => {
            questions::mistakes(client).await;
            None
        }
        Question::ConfigResources => client.call_once(1, ListConfigResourcesRequest::default()).await,
        Question::Times | Question::MaxTimes => {
            let timestamp = if question == Question::Times { 1 } else { MAX_TIMESTAMP };
            let known: Vec<_> = client.known.values().cloned().collect();
            for topic in known {
                let _offset = list(client, &topic, 0, timestamp).await;
            }
            None
        }
    };
}

/// A topic's id as text, as histories have it.
pub(super) fn id_text(id: TopicId) -> String {
    id.to_string()
}
