//! Topics, configs, offsets and the rest of the admin APIs as single requests.

use crate::support::{Client, batch, fill, name, now, records_of, with_broker};
use quipu_base::{Timestamp, TopicId};
use quipu_protocol::{
    ErrorCode, Response,
    messages::{
        alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig},
        api_versions::ApiVersionsRequest,
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_cluster::DescribeClusterRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult},
        describe_log_dirs::DescribeLogDirsRequest,
        describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest},
        find_coordinator::FindCoordinatorRequest,
        incremental_alter_configs,
        init_producer_id::InitProducerIdRequest,
        list_config_resources::ListConfigResourcesRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
};
use quipu_records::BatchBuilder;

async fn create(client: &mut Client, topic: CreatableTopic) -> (ErrorCode, String) {
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let Response::CreateTopics(response) = client.call(7, request).await else { panic!() };
    let topic = &response.topics[0];
    let code = ErrorCode::from_code(topic.error_code).unwrap();
    (code, topic.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
}

async fn configs_of(client: &mut Client, resource_type: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let resources =
        vec![DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys: None }];
    let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true };
    let Response::DescribeConfigs(mut response) = client.call(4, request).await else { panic!() };
    assert_eq!(response.results[0].error_code, 0, "{:?}", response.results[0].error_message);
    response.results.remove(0).configs
}

async fn value_of(client: &mut Client, topic: &str, config: &str) -> (String, i8) {
    let configs = configs_of(client, 2, topic).await;
    let found = configs.into_iter().find(|found| found.name == config).unwrap();
    (found.value.unwrap().to_string(), found.config_source)
}

async fn metadata(client: &mut Client, topic: &str, create: bool) -> (ErrorCode, usize) {
    let topics = Some(vec![MetadataRequestTopic { name: name(topic), ..Default::default() }]);
    let request = MetadataRequest { topics, allow_auto_topic_creation: create, ..Default::default() };
    let Response::Metadata(response) = client.call(12, request).await else { panic!() };
    assert_eq!(response.brokers.len(), 1);
    (ErrorCode::from_code(response.topics[0].error_code).unwrap(), response.topics[0].partitions.len())
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        // Length 10: key 18, version 99, correlation id 5, empty client id.
        client.send_bytes(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 0, 0]).await;
        let frame = client.receive_frame().await.unwrap();
        assert_eq!(&frame[..], [0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]);
        let Response::ApiVersions(response) = client.call(0, ApiVersionsRequest::default()).await else { panic!() };
        assert!(response.api_keys.iter().any(|api| (api.api_key, api.min_version, api.max_version) == (0, 0, 13)));
        let request = ApiVersionsRequest { client_software_name: "-".into(), ..Default::default() };
        let Response::ApiVersions(response) = client.call(3, request).await else { panic!() };
        assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
        let good = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1.0".into(),
            cluster_id: name("another"),
            ..Default::default()
        };
        let Response::ApiVersions(response) = client.call(5, good).await else { panic!() };
        assert_eq!(response.error_code, ErrorCode::RebootstrapRequired.code());
    });
}

#[test]
fn topics_are_created_when_asked_for_unless_that_is_off() {
    with_broker(&[("num.partitions", "3")], |fixture| async move {
        let mut client = fixture.client().await;
        assert_eq!(metadata(&mut client, "no", false).await, (ErrorCode::UnknownTopicOrPartition, 0));
        assert_eq!(metadata(&mut client, "yes", true).await, (ErrorCode::None, 3));
        assert_eq!(metadata(&mut client, "bad name", true).await, (ErrorCode::InvalidTopicException, 0));
    });
    with_broker(&[("auto.create.topics.enable", "false")], |fixture| async move {
        let mut client = fixture.client().await;
        assert_eq!(metadata(&mut client, "no", true).await, (ErrorCode::UnknownTopicOrPartition, 0));
    });
}

#[test]
fn bad_topics_are_refused_with_a_reason() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("there", 1, &[]).await;
        let topic = |name: &str, partitions, replicas| CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: replicas,
            ..Default::default()
        };
        let with_config = |name: &str, value: &str| CreatableTopic {
            configs: vec![CreatableTopicConfig { name: name.into(), value: Some(value.into()) }],
            ..topic("new", 1, 1)
        };
        for (topic, expected) in [
            (topic("there", 1, 1), ErrorCode::TopicAlreadyExists),
            (topic("a/b", 1, 1), ErrorCode::InvalidTopicException),
            (topic("..", 1, 1), ErrorCode::InvalidTopicException),
            (topic("new", 0, 1), ErrorCode::InvalidPartitions),
            (topic("new", 1, 2), ErrorCode::InvalidReplicationFactor),
            (with_config("no.such.config", "1"), ErrorCode::InvalidConfig),
            (with_config("cleanup.policy", "keep"), ErrorCode::InvalidConfig),
            (with_config("remote.storage.enable", "true"), ErrorCode::InvalidConfig),
            (with_config("segment.bytes", "many"), ErrorCode::InvalidConfig),
        ] {
            let (code, message) = create(&mut client, topic).await;
            assert_eq!(code, expected, "{message}");
            assert!(!message.is_empty());
        }
        for (config, value) in [("cleanup.policy", "compact"), ("retention.ms", "-1"), ("retention.bytes", "1")] {
            let created = CreatableTopic { name: config.into(), ..with_config(config, value) };
            assert_eq!(create(&mut client, created).await.0, ErrorCode::None, "{config}");
        }
    });
}

#[test]
fn a_topic_that_is_deleted_and_created_again_is_another() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        let first = client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["old"])).await;
        let request = DeleteTopicsRequest { topic_names: vec!["t".into(), "no".into()], ..Default::default() };
        let Response::DeleteTopics(response) = client.call(5, request).await else { panic!() };
        let codes: Vec<i16> = response.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
        assert_eq!(client.fetch("t", 0).await.error_code, ErrorCode::UnknownTopicOrPartition.code());
        let second = client.create_topic("t", 1, &[]).await;
        assert_ne!(first, second);
        assert_eq!(client.fetch("t", 0).await.high_watermark, 0, "old records are gone");
        let topics = vec![DeleteTopicState { name: None, topic_id: second }];
        let request = DeleteTopicsRequest { topics, ..Default::default() };
        let Response::DeleteTopics(response) = client.call(6, request).await else { panic!() };
        assert_eq!((response.responses[0].error_code, response.responses[0].name.as_deref()), (0, Some("t")));
    });
}

#[test]
fn partitions_only_grow() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 2, &[]).await;
        for (count, expected) in
            [(5, ErrorCode::None), (5, ErrorCode::InvalidPartitions), (1, ErrorCode::InvalidPartitions)]
        {
            let topics = vec![CreatePartitionsTopic { name: "t".into(), count, assignments: None }];
            let request = CreatePartitionsRequest { topics, ..Default::default() };
            let Response::CreatePartitions(response) = client.call(3, request).await else { panic!() };
            assert_eq!(response.results[0].error_code, expected.code());
        }
        assert_eq!(metadata(&mut client, "t", false).await, (ErrorCode::None, 5));
    });
}

#[test]
fn deleting_records_moves_the_log_start_exactly() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["0", "1", "2", "3"])).await;
        for (offset, expected) in [(2, Ok(2)), (1, Ok(2)), (9, Err(ErrorCode::OffsetOutOfRange)), (-1, Ok(4))] {
            let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
            let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
            let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
            let Response::DeleteRecords(response) = client.call(2, request).await else { panic!() };
            let answer = &response.topics[0].partitions[0];
            let expected = expected.map_err(ErrorCode::code);
            let found = if answer.error_code == 0 { Ok(answer.low_watermark) } else { Err(answer.error_code) };
            assert_eq!(found, expected, "to {offset}");
        }
        assert_eq!(client.fetch("t", 1).await.error_code, ErrorCode::OffsetOutOfRange.code());
    });
}

/// Old records go by themselves; a setting that is changed takes effect; what is younger stays.
#[test]
fn old_records_expire() {
    with_broker(&[("log.retention.check.interval.ms", "20")], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[("retention.ms", "-1")]).await;
        for timestamp in [Timestamp(1000), Timestamp(2000), now()] {
            client.produce("t", fill(BatchBuilder::new(), &["a", "b"], timestamp)).await;
        }
        assert_eq!(offset_at(&mut client, 6, -2).await.1, 0);
        let configs = vec![incremental_alter_configs::AlterableConfig {
            name: "retention.ms".into(),
            config_operation: 0,
            value: Some("3600000".into()),
        }];
        let resources = vec![incremental_alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs,
        }];
        let request = incremental_alter_configs::IncrementalAlterConfigsRequest { resources, validate_only: false };
        let Response::IncrementalAlterConfigs(answer) = client.call(1, request).await else { panic!() };
        assert_eq!(answer.responses[0].error_code, 0);
        while offset_at(&mut client, 6, -2).await.1 < 4 {}
        assert_eq!(offset_at(&mut client, 6, -2).await.1, 4);
        assert_eq!(client.fetch("t", 3).await.error_code, ErrorCode::OffsetOutOfRange.code());
        assert_eq!(records_of(&client.fetch("t", 4).await).len(), 2);
    });
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[("cleanup.policy", "compact")]).await;
        let refused = client.produce("t", batch(&["no key"])).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
        let mut builder = BatchBuilder::new();
        let record = quipu_records::NewRecord { timestamp: now(), key: Some(b"k"), value: None, headers: &[] };
        builder.push(&record).unwrap();
        assert_eq!(client.produce("t", builder.build().unwrap()).await.error_code, 0);
    });
}

async fn offset_at(client: &mut Client, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let Response::ListOffsets(response) = client.call(version, request).await else { panic!() };
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.offset, answer.timestamp)
}

#[test]
fn offsets_are_found_by_time() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        for timestamp in [1000, 3000, 2000] {
            client.produce("t", fill(BatchBuilder::new(), &["a", "b"], Timestamp(timestamp))).await;
        }
        for (version, timestamp, expected) in [
            (1, -1, (0, 6, -1)),
            (1, -2, (0, 0, -1)),
            (7, -3, (0, 2, 3000)),
            (8, -4, (0, 0, -1)),
            (9, -5, (0, -1, -1)),
            (11, -6, (0, -1, -1)),
            (1, 0, (0, 0, 1000)),
            (1, 1500, (0, 2, 3000)),
            (1, 3001, (0, -1, -1)),
            (6, -3, (ErrorCode::UnsupportedVersion.code(), -1, -1)),
        ] {
            assert_eq!(offset_at(&mut client, version, timestamp).await, expected, "version {version}, {timestamp}");
        }
    });
}

#[test]
fn leader_epochs_end_where_the_next_begins() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["a", "b", "c"])).await;
        let partitions = vec![OffsetForLeaderPartition { leader_epoch: 0, ..Default::default() }];
        let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions }];
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        let Response::OffsetForLeaderEpoch(response) = client.call(4, request).await else { panic!() };
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), (0, 0, 3));
    });
}

#[test]
fn configs_are_told_with_their_source_and_take_effect() {
    with_broker(&[("message.max.bytes", "2000")], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[("segment.ms", "60000")]).await;
        assert_eq!(value_of(&mut client, "t", "segment.ms").await, ("60000".into(), 1));
        assert_eq!(value_of(&mut client, "t", "max.message.bytes").await, ("2000".into(), 4));
        assert_eq!(value_of(&mut client, "t", "flush.messages").await.0, "1", "what happens, not Kafka's default");
        let large = "x".repeat(3000);
        let refused = client.produce("t", batch(&[&large])).await;
        assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code());
        for (operation, value, expected) in [
            (0, Some("5000"), ErrorCode::None),
            (0, Some("-7"), ErrorCode::InvalidConfig),
            (9, None, ErrorCode::InvalidRequest),
        ] {
            let configs = vec![incremental_alter_configs::AlterableConfig {
                name: "max.message.bytes".into(),
                config_operation: operation,
                value: value.map(Into::into),
            }];
            let resources = vec![incremental_alter_configs::AlterConfigsResource {
                resource_type: 2,
                resource_name: "t".into(),
                configs,
            }];
            let request = incremental_alter_configs::IncrementalAlterConfigsRequest { resources, validate_only: false };
            let Response::IncrementalAlterConfigs(response) = client.call(1, request).await else { panic!() };
            assert_eq!(response.responses[0].error_code, expected.code(), "{:?}", response.responses[0].error_message);
        }
        assert_eq!(client.produce("t", batch(&[&large])).await.error_code, 0);
        let configs = vec![AlterableConfig { name: "segment.bytes".into(), value: name("2000000") }];
        let resources = vec![AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs }];
        let request = AlterConfigsRequest { resources, validate_only: false };
        let Response::AlterConfigs(response) = client.call(2, request).await else { panic!() };
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(value_of(&mut client, "t", "max.message.bytes").await, ("2000".into(), 4), "replaced by nothing");
        assert_eq!(value_of(&mut client, "t", "segment.bytes").await, ("2000000".into(), 1));
        let broker = configs_of(&mut client, 4, "1").await;
        assert!(broker.iter().any(|config| config.name == "message.max.bytes" && config.value == name("2000")));
        assert!(broker.iter().all(|config| config.documentation.is_some()));
        for told in ["listeners", "advertised.listeners"] {
            let found = broker.iter().find(|config| config.name == told).unwrap();
            assert!(found.read_only && found.value.as_ref().unwrap().starts_with("PLAINTEXT://"), "{found:?}");
        }
    });
}

#[test]
fn the_rest_answers_what_is_true() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        let topic_id: TopicId = client.create_topic("t", 3, &[]).await;
        client.produce("t", batch(&["abc"])).await;

        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        let Response::InitProducerId(first) = client.call(4, request.clone()).await else { panic!() };
        let Response::InitProducerId(second) = client.call(4, request.clone()).await else { panic!() };
        assert_eq!((first.error_code, first.producer_epoch), (0, 0));
        assert_ne!(first.producer_id, second.producer_id);
        let transactional = InitProducerIdRequest { transactional_id: name("tx"), ..request };
        let Response::InitProducerId(refused) = client.call(4, transactional).await else { panic!() };
        assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());

        let request = FindCoordinatorRequest { key_type: 1, coordinator_keys: vec!["t".into()], ..Default::default() };
        let Response::FindCoordinator(response) = client.call(4, request).await else { panic!() };
        assert_eq!(response.coordinators[0].error_code, ErrorCode::CoordinatorNotAvailable.code());

        let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
        let Response::DescribeCluster(response) = client.call(2, request).await else { panic!() };
        assert_eq!((response.error_code, response.brokers.len(), response.controller_id), (0, 1, 1));
        assert_eq!(response.brokers[0].port, i32::from(fixture.address.port()));

        let request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "t".into() }, TopicRequest { name: "u".into() }],
            response_partition_limit: 2,
            ..Default::default()
        };
        let Response::DescribeTopicPartitions(page) = client.call(0, request.clone()).await else { panic!() };
        assert_eq!((page.topics[0].topic_id, page.topics[0].partitions.len()), (topic_id, 2));
        let request = DescribeTopicPartitionsRequest { cursor: page.next_cursor, ..request };
        let Response::DescribeTopicPartitions(page) = client.call(0, request).await else { panic!() };
        assert_eq!(page.topics[0].partitions[0].partition_index, 2);
        assert_eq!(page.topics[1].error_code, ErrorCode::UnknownTopicOrPartition.code());
        assert_eq!(page.next_cursor, None);

        let Response::DescribeLogDirs(response) = client.call(4, DescribeLogDirsRequest { topics: None }).await else {
            panic!()
        };
        let directory = &response.results[0];
        assert!(directory.error_code == 0 && directory.usable_bytes > 0 && directory.total_bytes > 0);
        let sizes: Vec<i64> = directory.topics[0].partitions.iter().map(|partition| partition.partition_size).collect();
        assert!(sizes[0] > 0 && sizes[1..] == [0, 0], "{sizes:?}");

        let request = ListConfigResourcesRequest { resource_types: vec![] };
        let Response::ListConfigResources(response) = client.call(1, request).await else { panic!() };
        let names: Vec<&str> = response.config_resources.iter().map(|resource| &*resource.resource_name).collect();
        assert_eq!(names, ["t", "1"]);
    });
}
