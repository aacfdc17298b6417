//! Consumer groups on one broker: from finding the coordinator to going on after a restart.

use std::time::Duration;

use bytes::Bytes;
use quipu_broker::Broker;
use quipu_env::{Clock, Env};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{
        delete_groups::DeleteGroupsRequest,
        delete_topics::DeleteTopicsRequest,
        describe_groups::DescribeGroupsRequest,
        find_coordinator::FindCoordinatorRequest,
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        list_groups::ListGroupsRequest,
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};

use crate::support::{Client, Directory, Fixture, batch, name, run, with_broker};

const QUICK: &[(&str, &str)] = &[("group.initial.rebalance.delay.ms", "0"), ("offsets.topic.num.partitions", "4")];

async fn find(client: &mut Client, group: &str) -> ErrorCode {
    let request = FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
    let Response::FindCoordinator(response) = client.call(6, request).await else { panic!() };
    assert_eq!(response.coordinators[0].key, group);
    ErrorCode::from_code(response.coordinators[0].error_code).unwrap()
}

fn join_request(group: &str, member_id: &Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"m") }],
        ..Default::default()
    }
}

async fn join(client: &mut Client, version: i16, group: &str, member_id: &Str) -> JoinGroupResponse {
    let Response::JoinGroup(response) = client.call(version, join_request(group, member_id)).await else { panic!() };
    response
}

async fn commit(client: &mut Client, group: &str, member: (&Str, i32), offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition {
        partition_index: 1,
        committed_offset: offset,
        committed_metadata: name("m"),
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        member_id: member.0.clone(),
        generation_id_or_member_epoch: member.1,
        topics: vec![OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    };
    let Response::OffsetCommit(response) = client.call(9, request).await else { panic!() };
    response.topics[0].partitions[0].error_code
}

async fn fetch(client: &mut Client, group: &str) -> (i16, Vec<(i32, i64)>) {
    let topics =
        vec![OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0, 1], ..Default::default() }];
    let group = OffsetFetchRequestGroup { group_id: group.into(), topics: Some(topics), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let Response::OffsetFetch(response) = client.call(9, request).await else { panic!() };
    let group = &response.groups[0];
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    (group.error_code, partitions.map(|found| (found.partition_index, found.committed_offset)).collect())
}

#[test]
fn a_group_works_from_its_first_member_to_its_deletion() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        let topic_id = client.create_topic("t", 2, &[]).await;
        assert_eq!(commit(&mut client, "g", (&Str::EMPTY, -1), 1).await, ErrorCode::CoordinatorNotAvailable.code());
        assert_eq!(find(&mut client, "g").await, ErrorCode::None);
        // Whoever knows the coordinator can use it.
        let asked = join(&mut client, 9, "g", &Str::EMPTY).await;
        assert_eq!(asked.error_code, ErrorCode::MemberIdRequired.code());
        let joined = join(&mut client, 9, "g", &asked.member_id).await;
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert_eq!((joined.leader.clone(), joined.members.len()), (asked.member_id.clone(), 1));
        let member = asked.member_id;
        let sync = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: 1,
            member_id: member.clone(),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: member.clone(),
                assignment: Bytes::from_static(b"all"),
            }],
            ..Default::default()
        };
        let Response::SyncGroup(synced) = client.call(5, sync).await else { panic!() };
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
        let beat = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 1,
            member_id: member.clone(),
            ..Default::default()
        };
        let Response::Heartbeat(alive) = client.call(4, beat).await else { panic!() };
        assert_eq!(alive.error_code, 0);

        assert_eq!(commit(&mut client, "g", (&member, 1), 7).await, 0);
        assert_eq!(commit(&mut client, "g", (&member, 2), 8).await, ErrorCode::IllegalGeneration.code());
        assert_eq!(fetch(&mut client, "g").await, (0, vec![(0, -1), (1, 7)]));
        assert_eq!(fetch(&mut client, "nobody").await, (0, vec![(0, -1), (1, -1)]));
        // By id, and all of them.
        let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let Response::OffsetFetch(all) = client.call(10, request).await else { panic!() };
        assert_eq!((all.groups[0].topics.len(), all.groups[0].topics[0].topic_id), (1, topic_id));

        let Response::ListGroups(listed) = client.call(5, ListGroupsRequest::default()).await else { panic!() };
        let listed: Vec<_> = listed.groups.iter().map(|g| (&*g.group_id, &*g.group_state, &*g.group_type)).collect();
        assert_eq!(listed, [("g", "Stable", "classic")]);
        let request = DescribeGroupsRequest { groups: vec!["g".into(), "nobody".into()], ..Default::default() };
        let Response::DescribeGroups(described) = client.call(6, request).await else { panic!() };
        let [group, nobody] = &described.groups[..] else { panic!() };
        assert_eq!((&*group.group_state, &*group.protocol_data, group.members.len()), ("Stable", "range", 1));
        assert_eq!(
            (&*group.members[0].client_host, &group.members[0].member_assignment[..]),
            ("/127.0.0.1", &b"all"[..])
        );
        assert_eq!((nobody.error_code, &*nobody.group_state), (ErrorCode::GroupIdNotFound.code(), "Dead"));

        let request = DeleteGroupsRequest { groups_names: vec!["g".into()] };
        let Response::DeleteGroups(refused) = client.call(3, request.clone()).await else { panic!() };
        assert_eq!(refused.results[0].error_code, ErrorCode::NonEmptyGroup.code());
        let leaver = MemberIdentity { member_id: member, ..Default::default() };
        let leave = LeaveGroupRequest { group_id: "g".into(), members: vec![leaver], ..Default::default() };
        let Response::LeaveGroup(left) = client.call(5, leave).await else { panic!() };
        assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: 1 }];
        let topics = vec![OffsetDeleteRequestTopic { name: "t".into(), partitions }];
        let Response::OffsetDelete(deleted) =
            client.call(0, OffsetDeleteRequest { group_id: "g".into(), topics }).await
        else {
            panic!()
        };
        assert_eq!((deleted.error_code, deleted.topics[0].partitions[0].error_code), (0, 0));
        assert_eq!(fetch(&mut client, "g").await, (0, vec![(0, -1), (1, -1)]));
        let Response::DeleteGroups(gone) = client.call(3, request).await else { panic!() };
        assert_eq!(gone.results[0].error_code, 0);
    });
}

#[test]
fn groups_and_offsets_outlive_the_broker() {
    let directory = Directory::new();
    let mut member = Str::EMPTY;
    for start in 0..3_i64 {
        let runtime = TokioEnv::start(Options { shards: 2 }).unwrap();
        let config = directory.config(QUICK);
        let env = runtime.env();
        let known = member.clone();
        member = run(&runtime, async move {
            let broker = Broker::start(config, env.clone()).await.unwrap();
            let mut client = Fixture { env: env.clone(), address: broker.address() }.client().await;
            let member = if start == 0 {
                client.create_topic("t", 2, &[]).await;
                assert_eq!(find(&mut client, "g").await, ErrorCode::None);
                let joined = join(&mut client, 3, "g", &Str::EMPTY).await;
                let sync = SyncGroupRequest {
                    group_id: "g".into(),
                    generation_id: 1,
                    member_id: joined.member_id.clone(),
                    ..Default::default()
                };
                let Response::SyncGroup(synced) = client.call(3, sync).await else { panic!() };
                assert_eq!(synced.error_code, 0);
                joined.member_id
            } else {
                // The log is being replayed at first.
                while fetch(&mut client, "g").await.0 != 0 {
                    env.clock().sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(fetch(&mut client, "g").await, (0, vec![(0, -1), (1, start)]));
                known
            };
            assert_eq!(commit(&mut client, "g", (&member, 1), start + 1).await, 0, "the member is known");
            broker.shutdown().await.unwrap();
            member
        });
        runtime.shutdown();
    }
}

#[test]
fn offsets_go_with_their_topic() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 2, &[]).await;
        assert_eq!(find(&mut client, "g").await, ErrorCode::None);
        assert_eq!(commit(&mut client, "g", (&Str::EMPTY, -1), 7).await, 0);
        let request = DeleteTopicsRequest { topic_names: vec!["t".into()], timeout_ms: 30_000, ..Default::default() };
        let Response::DeleteTopics(deleted) = client.call(5, request).await else { panic!() };
        assert_eq!(deleted.responses[0].error_code, 0);
        while fetch(&mut client, "g").await != (0, vec![(0, -1), (1, -1)]) {
            fixture.env.clock().sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn the_topic_of_groups_is_the_coordinators() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        assert_eq!(find(&mut client, "g").await, ErrorCode::None);
        let answer = client.produce("__consumer_offsets", batch(&["x"])).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidTopicException.code());
        let topics = vec![MetadataRequestTopic { name: name("__consumer_offsets"), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        let Response::Metadata(metadata) = client.call(12, request).await else { panic!() };
        assert_eq!((metadata.topics[0].partitions.len(), metadata.topics[0].is_internal), (4, true));
        let other = FindCoordinatorRequest { key_type: 2, coordinator_keys: vec!["s".into()], ..Default::default() };
        let Response::FindCoordinator(refused) = client.call(6, other).await else { panic!() };
        assert_eq!(refused.coordinators[0].error_code, ErrorCode::InvalidRequest.code());
        let old = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
        let Response::FindCoordinator(found) = client.call(2, old).await else { panic!() };
        assert_eq!((found.error_code, found.node_id, found.port), (0, 1, i32::from(fixture.address.port())));
    });
}
