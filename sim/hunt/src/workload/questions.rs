//! Requests that change nothing of what these worlds check: of groups, of which there are none, of the metadata quorum, and requests
//! that have to be refused.
//!
//! Invariants
//! - Any answer will do that is one. What is refused is never carried out: it is only to be checked, or makes no sense.
//! - Nothing here makes a topic, groups' own included.
//!
//! Not here: questions about topics and logs ([`super::admin`]); groups at work (the end-to-end tests).

use quipu_protocol::{
    ErrorCode, Response,
    messages::{
        alter_partition_reassignments::{AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic},
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        delete_groups::DeleteGroupsRequest,
        describe_groups::DescribeGroupsRequest,
        describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData},
        elect_leaders::ElectLeadersRequest,
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        leave_group::LeaveGroupRequest,
        list_groups::ListGroupsRequest,
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::OffsetDeleteRequest,
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup},
        offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic},
        sync_group::SyncGroupRequest,
        unregister_broker::UnregisterBrokerRequest,
        update_features::{FeatureUpdateKey, UpdateFeaturesRequest},
    },
};
use quipu_wire_client::requests;

use super::client::Client;

const GROUP: &str = "nobody";
/// A broker that there never is.
const NO_BROKER: i32 = 99;
/// How long a request waits for the controller at most, milliseconds.
const TIMEOUT_MS: i32 = 1000;

/// Everything that a group's member asks, of a group that has no coordinator.
pub(super) async fn groups(client: &mut Client) {
    let _listed = client.call_once(4, ListGroupsRequest::default()).await;
    let describe = DescribeGroupsRequest { groups: vec![GROUP.into()], ..Default::default() };
    let _described = client.call_once(5, describe).await;
    let protocols = vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }];
    let join = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols,
        ..Default::default()
    };
    if let Some(Response::JoinGroup(answer)) = client.call_once(9, join).await {
        client.code(answer.error_code);
    }
    let sync = SyncGroupRequest { group_id: GROUP.into(), member_id: "m".into(), ..Default::default() };
    if let Some(Response::SyncGroup(answer)) = client.call_once(5, sync).await {
        client.code(answer.error_code);
    }
    let heartbeat = HeartbeatRequest { group_id: GROUP.into(), member_id: "m".into(), ..Default::default() };
    if let Some(Response::Heartbeat(answer)) = client.call_once(4, heartbeat).await {
        client.code(answer.error_code);
    }
    let leave = LeaveGroupRequest { group_id: GROUP.into(), ..Default::default() };
    let _left = client.call_once(5, leave).await;
    offsets(client).await;
    let delete = DeleteGroupsRequest { groups_names: vec![GROUP.into()] };
    let _deleted = client.call_once(2, delete).await;
}

async fn offsets(client: &mut Client) {
    let partition = OffsetCommitRequestPartition { partition_index: 0, committed_offset: 1, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: "knots".into(), partitions: vec![partition], ..Default::default() };
    let commit = OffsetCommitRequest { group_id: GROUP.into(), topics: vec![topic], ..Default::default() };
    if let Some(Response::OffsetCommit(answer)) = client.call_once(9, commit).await {
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            client.code(partition.error_code);
        }
    }
    let group = OffsetFetchRequestGroup { group_id: GROUP.into(), topics: None, ..Default::default() };
    let _fetched = client.call_once(9, OffsetFetchRequest { groups: vec![group], ..Default::default() }).await;
    let delete = OffsetDeleteRequest { group_id: GROUP.into(), topics: Vec::new() };
    if let Some(Response::OffsetDelete(answer)) = client.call_once(0, delete).await {
        client.code(answer.error_code);
    }
}

/// What operators ask of the metadata quorum and of leaders.
pub(super) async fn quorum(client: &mut Client) {
    let partitions = vec![PartitionData { partition_index: 0 }];
    let topics = vec![TopicData { topic_name: "__cluster_metadata".into(), partitions }];
    let _described = client.call_once(2, DescribeQuorumRequest { topics }).await;
    let elect = ElectLeadersRequest { topic_partitions: None, timeout_ms: TIMEOUT_MS, ..Default::default() };
    if let Some(Response::ElectLeaders(answer)) = client.call_once(2, elect).await {
        client.code(answer.error_code);
        for result in answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result) {
            client.code(result.error_code);
        }
    }
    let unregister = UnregisterBrokerRequest { broker_id: NO_BROKER };
    if let Some(Response::UnregisterBroker(answer)) = client.call_once(0, unregister).await {
        client.code(answer.error_code);
    }
    let update = FeatureUpdateKey { feature: "no.such.feature".into(), max_version_level: 1, ..Default::default() };
    let update = UpdateFeaturesRequest { timeout_ms: TIMEOUT_MS, feature_updates: vec![update], validate_only: true };
    if let Some(Response::UpdateFeatures(answer)) = client.call_once(1, update).await {
        client.code(answer.error_code);
        for result in &answer.results {
            client.code(result.error_code);
        }
    }
}

/// Requests that have to be refused, each for another reason.
pub(super) async fn mistakes(client: &mut Client) {
    let wrong = [("no blanks", 1, ""), ("wrong-count", 0, ""), ("wrong-setting", 1, "no.such.setting")];
    for (name, partitions, setting) in wrong {
        let configs: &[(&str, &str)] = if setting.is_empty() { &[] } else { &[(setting, "1")] };
        let mut request = requests::create_topic(name, partitions, configs);
        request.validate_only = true;
        create(client, request).await;
    }
    let mut request = requests::create_topic("wrong-replicas", 1, &[]);
    request.validate_only = true;
    request.topics.iter_mut().for_each(|topic| topic.replication_factor = 90);
    create(client, request).await;
    let Some(known) = client.known.values().next().cloned() else { return };
    let topic = CreatePartitionsTopic { name: known.topic.name.as_str().into(), count: 0, ..Default::default() };
    let grow = CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: true };
    if let Some(Response::CreatePartitions(answer)) = client.call_once(3, grow).await {
        for result in &answer.results {
            client.code(result.error_code);
        }
    }
    let partition = ReassignablePartition { partition_index: 0, replicas: Some(vec![NO_BROKER]) };
    let topic = ReassignableTopic { name: known.topic.name.as_str().into(), partitions: vec![partition] };
    let move_away =
        AlterPartitionReassignmentsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() };
    if let Some(Response::AlterPartitionReassignments(answer)) = client.call_once(0, move_away).await {
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            client.code(partition.error_code);
        }
    }
    let partition = OffsetForLeaderPartition { partition: 0, current_leader_epoch: i32::MAX, leader_epoch: 0 };
    let topic = OffsetForLeaderTopic { topic: known.topic.name.as_str().into(), partitions: vec![partition] };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
    if let Some(Response::OffsetForLeaderEpoch(answer)) = client.call_once(4, request).await {
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            client.code(partition.error_code);
        }
    }
}

async fn create(client: &mut Client, request: quipu_protocol::messages::create_topics::CreateTopicsRequest) {
    let Some(Response::CreateTopics(answer)) = client.call_once(5, request).await else { return };
    for topic in &answer.topics {
        if client.code(topic.error_code) == ErrorCode::None {
            client.strange("broken-promise", format!("{} can be made, and makes no sense", topic.name));
        }
    }
}
