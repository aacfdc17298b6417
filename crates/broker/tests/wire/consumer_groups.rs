//! Groups of the consumer protocol (KIP-848) on one broker.

use quipu_base::TopicId;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{
        ApiVersionsRequest,
        consumer_group_describe::{ConsumerGroupDescribeRequest, DescribedGroup},
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions},
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        describe_groups::DescribeGroupsRequest,
        find_coordinator::FindCoordinatorRequest,
        incremental_alter_configs::{AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest},
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        list_config_resources::ListConfigResourcesRequest,
        list_groups::ListGroupsRequest,
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
};

use crate::support::{Client, name, with_broker};

const QUICK: &[(&str, &str)] = &[("group.initial.rebalance.delay.ms", "0"), ("offsets.topic.num.partitions", "4")];
const GROUP: i8 = 32;

async fn find(client: &mut Client, group: &str) {
    let request = FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
    let Response::FindCoordinator(response) = client.call(6, request).await else { panic!() };
    assert_eq!(response.coordinators[0].error_code, 0);
}

fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn beating(member: &str, epoch: i32, owned: Option<(TopicId, &[i32])>) -> ConsumerGroupHeartbeatRequest {
    let owned = owned.map(|(topic_id, partitions)| vec![TopicPartitions { topic_id, partitions: partitions.to_vec() }]);
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        member_epoch: epoch,
        topic_partitions: owned,
        ..Default::default()
    }
}

async fn beat(client: &mut Client, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    let Response::ConsumerGroupHeartbeat(response) = client.call(1, request).await else { panic!() };
    response
}

/// What an answer says: an error, or the epoch and the partitions if it tells of any.
fn told(response: &ConsumerGroupHeartbeatResponse) -> Result<(i32, Option<Vec<i32>>), ErrorCode> {
    let code = ErrorCode::from_code(response.error_code).unwrap();
    if code.is_error() {
        return Err(code);
    }
    let partitions = response.assignment.as_ref().map(|assignment| {
        assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.iter().copied()).collect()
    });
    Ok((response.member_epoch, partitions))
}

async fn commit(client: &mut Client, version: i16, (member, epoch): (&str, i32), offset: i64) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        partition_index: 1,
        committed_offset: offset,
        committed_metadata: name("m"),
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        member_id: member.into(),
        generation_id_or_member_epoch: epoch,
        topics: vec![OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    };
    let Response::OffsetCommit(response) = client.call(version, request).await else { panic!() };
    ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap()
}

async fn fetch(client: &mut Client, member: Option<(&str, i32)>) -> Result<i64, ErrorCode> {
    let topics = vec![OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![1], ..Default::default() }];
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: member.map(|(member, _)| member.into()),
        member_epoch: member.map_or(-1, |(_, epoch)| epoch),
        topics: Some(topics),
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let Response::OffsetFetch(response) = client.call(9, request).await else { panic!() };
    match ErrorCode::from_code(response.groups[0].error_code).unwrap() {
        ErrorCode::None => Ok(response.groups[0].topics[0].partitions[0].committed_offset),
        code => Err(code),
    }
}

async fn describe(client: &mut Client, group: &str) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
    let Response::ConsumerGroupDescribe(mut response) = client.call(1, request).await else { panic!() };
    response.groups.remove(0)
}

#[test]
fn members_come_share_and_leave() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        let topic_id = client.create_topic("t", 3, &[]).await;
        assert_eq!(told(&beat(&mut client, joining("a")).await), Err(ErrorCode::CoordinatorNotAvailable));
        find(&mut client, "g").await;
        let first = beat(&mut client, joining("a")).await;
        assert_eq!((told(&first), first.heartbeat_interval_ms), (Ok((1, Some(vec![0, 1, 2]))), 5000));
        assert_eq!(first.member_id, name("a"));
        // The second gets nothing before the first has given something up.
        assert_eq!(told(&beat(&mut client, joining("b")).await), Ok((2, Some(vec![]))));
        let shrunk = beat(&mut client, beating("a", 1, None)).await;
        let Ok((1, Some(kept))) = told(&shrunk) else { panic!("{shrunk:?}") };
        assert_eq!(kept.len(), 2);
        assert_eq!(told(&beat(&mut client, beating("b", 2, None)).await), Ok((2, None)));
        let done = beating("a", 1, Some((topic_id, &kept)));
        assert_eq!(told(&beat(&mut client, done).await), Ok((2, None)));
        let given = told(&beat(&mut client, beating("b", 2, None)).await).unwrap().1.unwrap();
        let mut all = [kept, given].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);

        let group = describe(&mut client, "g").await;
        assert_eq!((&*group.group_state, group.group_epoch, &*group.assignor_name), ("Stable", 2, "uniform"));
        let members: Vec<_> = group.members.iter().map(|member| (&*member.member_id, member.member_type)).collect();
        assert_eq!(members, [("a", 1), ("b", 1)]);
        assert_eq!(&*group.members[0].assignment.topic_partitions[0].topic_name, "t");
        assert_eq!(&*group.members[0].client_host, "/127.0.0.1");

        // A topic grows, and the next heartbeats tell.
        let topic = CreatePartitionsTopic { name: "t".into(), count: 4, assignments: None };
        let grow = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let Response::CreatePartitions(grown) = client.call(3, grow).await else { panic!() };
        assert_eq!(grown.results[0].error_code, 0);
        let mut epochs = [2, 2];
        while describe(&mut client, "g").await.group_epoch == 2 || epochs != [3, 3] {
            for (member, epoch) in ["a", "b"].into_iter().zip(&mut epochs) {
                *epoch = told(&beat(&mut client, beating(member, *epoch, None)).await).unwrap().0;
            }
        }

        assert_eq!(told(&beat(&mut client, beating("a", -1, None)).await), Ok((-1, None)));
        let Ok((4, Some(rest))) = told(&beat(&mut client, beating("b", 3, None)).await) else { panic!() };
        assert_eq!(rest.len(), 4);
    });
}

#[test]
fn who_is_not_current_is_refused() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 2, &[]).await;
        find(&mut client, "g").await;
        assert_eq!(told(&beat(&mut client, beating("a", 1, None)).await), Err(ErrorCode::GroupIdNotFound));
        assert_eq!(commit(&mut client, 9, ("a", 1), 1).await, ErrorCode::GroupIdNotFound);
        assert_eq!(told(&beat(&mut client, joining("a")).await), Ok((1, Some(vec![0, 1]))));
        assert_eq!(told(&beat(&mut client, beating("x", 1, None)).await), Err(ErrorCode::UnknownMemberId));
        assert_eq!(told(&beat(&mut client, beating("a", 7, None)).await), Err(ErrorCode::FencedMemberEpoch));
        let bad = |change: fn(&mut ConsumerGroupHeartbeatRequest)| {
            let mut request = joining("c");
            change(&mut request);
            request
        };
        for (request, code) in [
            (bad(|request| request.server_assignor = name("best")), ErrorCode::UnsupportedAssignor),
            (bad(|request| request.subscribed_topic_regex = name("(")), ErrorCode::InvalidRegularExpression),
            (bad(|request| request.group_id = Str::EMPTY), ErrorCode::InvalidRequest),
            (bad(|request| request.rebalance_timeout_ms = -1), ErrorCode::InvalidRequest),
            (bad(|request| request.member_epoch = -3), ErrorCode::InvalidRequest),
        ] {
            let answer = beat(&mut client, request).await;
            assert_eq!(told(&answer), Err(code), "{answer:?}");
            assert!(answer.error_message.is_some());
        }
        let mut static_one = joining("s");
        static_one.instance_id = name("i");
        assert!(told(&beat(&mut client, static_one.clone()).await).is_ok());
        static_one.member_id = "s2".into();
        assert_eq!(told(&beat(&mut client, static_one).await), Err(ErrorCode::UnreleasedInstanceId));

        // Offsets are the current member's.
        assert_eq!(commit(&mut client, 9, ("a", 1), 5).await, ErrorCode::None);
        assert_eq!(commit(&mut client, 9, ("a", 3), 6).await, ErrorCode::StaleMemberEpoch);
        assert_eq!(commit(&mut client, 9, ("x", 1), 6).await, ErrorCode::UnknownMemberId);
        assert_eq!(commit(&mut client, 8, ("a", 1), 6).await, ErrorCode::UnsupportedVersion);
        assert_eq!(fetch(&mut client, Some(("a", 1))).await, Ok(5));
        assert_eq!(fetch(&mut client, Some(("a", 9))).await, Err(ErrorCode::StaleMemberEpoch));
        assert_eq!(fetch(&mut client, Some(("x", 1))).await, Err(ErrorCode::UnknownMemberId));
        assert_eq!(fetch(&mut client, None).await, Ok(5));
    });
}

#[test]
fn both_kinds_of_groups_share_their_names() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 2, &[]).await;
        find(&mut client, "g").await;
        assert!(told(&beat(&mut client, joining("a")).await).is_ok());
        let protocols = vec![JoinGroupRequestProtocol { name: "range".into(), metadata: bytes::Bytes::new() }];
        let join = JoinGroupRequest {
            group_id: "old".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols,
            ..Default::default()
        };
        let Response::JoinGroup(joined) = client.call(3, join).await else { panic!() };
        assert_eq!(joined.error_code, 0);
        let list = |types: &[&str]| ListGroupsRequest {
            types_filter: types.iter().map(|name| Str::from(*name)).collect(),
            ..Default::default()
        };
        let mut kinds = Vec::new();
        for types in [&[][..], &["Consumer"], &["classic"]] {
            let Response::ListGroups(listed) = client.call(5, list(types)).await else { panic!() };
            let mut names: Vec<_> =
                listed.groups.iter().map(|group| format!("{} {}", group.group_id, group.group_type)).collect();
            names.sort_unstable();
            kinds.push(names.join(", "));
        }
        assert_eq!(kinds, ["g consumer, old classic", "g consumer", "old classic"]);
        let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
        let Response::DescribeGroups(classic) = client.call(6, request).await else { panic!() };
        assert_eq!(classic.groups[0].error_code, ErrorCode::GroupIdNotFound.code());
        assert_eq!(describe(&mut client, "old").await.error_code, ErrorCode::GroupIdNotFound.code());
        let Response::ApiVersions(versions) = client.call(3, software()).await else { panic!() };
        let feature = versions.finalized_features.iter().find(|feature| &*feature.name == "group.version").unwrap();
        assert_eq!(feature.max_version_level, 1);
    });
}

fn software() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    }
}

#[test]
fn a_group_has_configs_of_its_own() {
    with_broker(QUICK, |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 2, &[]).await;
        find(&mut client, "g").await;
        let alter = |key: &str, value: &str| IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: GROUP,
                resource_name: "g".into(),
                configs: vec![AlterableConfig { name: key.into(), config_operation: 0, value: name(value) }],
            }],
            ..Default::default()
        };
        for (key, value, code) in [
            ("consumer.heartbeat.interval.ms", "6000", ErrorCode::None),
            ("consumer.heartbeat.interval.ms", "15001", ErrorCode::InvalidConfig),
            ("consumer.session.timeout.ms", "44999", ErrorCode::InvalidConfig),
            ("share.session.timeout.ms", "45000", ErrorCode::InvalidConfig),
        ] {
            let Response::IncrementalAlterConfigs(altered) = client.call(1, alter(key, value)).await else { panic!() };
            assert_eq!(altered.responses[0].error_code, code.code(), "{key}={value}: {altered:?}");
        }
        let resource =
            DescribeConfigsResource { resource_type: GROUP, resource_name: "g".into(), configuration_keys: None };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let Response::DescribeConfigs(described) = client.call(4, request).await else { panic!() };
        let of = |name: &str| {
            let found = described.results[0].configs.iter().find(|config| &*config.name == name).unwrap();
            (found.value.as_deref().unwrap_or_default().to_owned(), found.config_source, found.read_only)
        };
        assert_eq!(of("consumer.heartbeat.interval.ms"), ("6000".to_owned(), 8, false));
        assert_eq!(of("consumer.session.timeout.ms"), ("45000".to_owned(), 5, false));
        let request = ListConfigResourcesRequest { resource_types: vec![GROUP] };
        let Response::ListConfigResources(listed) = client.call(1, request).await else { panic!() };
        assert_eq!(&*listed.config_resources[0].resource_name, "g");

        // A group hears of it while it lives.
        assert!(told(&beat(&mut client, joining("a")).await).is_ok());
        let mut interval = 0;
        while interval != 6000 {
            interval = beat(&mut client, beating("a", 1, None)).await.heartbeat_interval_ms;
        }
    });
}
