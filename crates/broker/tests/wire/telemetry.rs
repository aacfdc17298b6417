//! Producers as their partitions remember them, and metrics that clients push.

use quipu_base::ClientInstanceId;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{
        api_versions::ApiVersionsRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        describe_producers::{DescribeProducersRequest, PartitionResponse, TopicRequest},
        get_telemetry_subscriptions::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse},
        incremental_alter_configs::{AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest},
        list_config_resources::ListConfigResourcesRequest,
        push_telemetry::PushTelemetryRequest,
    },
};

use crate::support::{Client, batch, idempotent, with_broker};

const CLIENT_METRICS: i8 = 16;

fn code(code: ErrorCode) -> i16 {
    code.code()
}

async fn producers(client: &mut Client, topic: &'static str, partitions: &[i32]) -> Vec<PartitionResponse> {
    let topics = vec![TopicRequest { name: topic.into(), partition_indexes: partitions.to_vec() }];
    let Response::DescribeProducers(mut response) = client.call(0, DescribeProducersRequest { topics }).await else {
        panic!()
    };
    response.topics.remove(0).partitions
}

#[test]
fn a_partition_tells_its_producers() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["of nobody"])).await;
        client.produce("t", idempotent(77, 0, 0, &["a", "b"])).await;
        client.produce("t", idempotent(77, 2, 0, &["c"])).await;
        client.produce("t", idempotent(78, 0, 0, &["d", "e"])).await;
        let found = producers(&mut client, "t", &[0, 1, -1]).await;
        let lines = found[0].active_producers.iter();
        let lines: Vec<_> = lines.map(|one| (one.producer_id, one.producer_epoch, one.last_sequence)).collect();
        assert_eq!(lines, [(77, 2, 0), (78, 0, 1)]);
        let no_transaction = |one: &quipu_protocol::messages::describe_producers::ProducerState| {
            one.coordinator_epoch == -1 && one.current_txn_start_offset == -1 && one.last_timestamp > 0
        };
        assert!(found[0].active_producers.iter().all(no_transaction));
        let unknown = code(ErrorCode::UnknownTopicOrPartition);
        assert_eq!((found[1].error_code, found[2].error_code), (unknown, unknown));
        assert_eq!(producers(&mut client, "nowhere", &[0]).await[0].error_code, unknown);
    });
}

/// Sets configs of a subscription, each a name and a value.
async fn set(client: &mut Client, name: &'static str, configs: &[(&'static str, &'static str)]) -> i16 {
    let one = |(name, value): &(&'static str, &'static str)| AlterableConfig {
        name: (*name).into(),
        config_operation: 0,
        value: Some((*value).into()),
    };
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: name.into(),
        configs: configs.iter().map(one).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let Response::IncrementalAlterConfigs(response) = client.call(1, request).await else { panic!() };
    response.responses[0].error_code
}

async fn ask(client: &mut Client, client_instance_id: ClientInstanceId) -> GetTelemetrySubscriptionsResponse {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id };
    let Response::GetTelemetrySubscriptions(response) = client.call(0, request).await else { panic!() };
    response
}

async fn push(client: &mut Client, request: &PushTelemetryRequest) -> i16 {
    let Response::PushTelemetry(response) = client.call(0, request.clone()).await else { panic!() };
    response.error_code
}

#[test]
fn subscriptions_are_configs_like_any_other() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        let invalid = code(ErrorCode::InvalidConfig);
        for bad in [("interval.ms", "99"), ("interval.ms", "3600001"), ("match", "client_id"), ("match", "client_id=(")]
        {
            assert_eq!(set(&mut client, "s", &[bad]).await, invalid, "{bad:?}");
        }
        assert_eq!(set(&mut client, "s", &[("retention.ms", "1")]).await, invalid);
        assert_eq!(set(&mut client, "", &[("metrics", "a")]).await, code(ErrorCode::InvalidRequest));
        let all = [("metrics", "a.,b."), ("interval.ms", "1000"), ("match", "client_source_address=127.*")];
        assert_eq!(set(&mut client, "s", &all).await, 0);
        let Response::ListConfigResources(listed) = client.call(0, ListConfigResourcesRequest::default()).await else {
            panic!()
        };
        assert_eq!(listed.config_resources.iter().map(|one| one.resource_name.as_str()).collect::<Vec<_>>(), ["s"]);
        let resource = DescribeConfigsResource {
            resource_type: CLIENT_METRICS,
            resource_name: "s".into(),
            configuration_keys: None,
        };
        let request =
            DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true };
        let Response::DescribeConfigs(described) = client.call(4, request).await else { panic!() };
        let lines = described.results[0].configs.iter().map(|config| {
            (config.name.to_string(), config.value.as_ref().map(ToString::to_string), config.config_source)
        });
        let expected = [("interval.ms", "1000"), ("match", "client_source_address=127.*"), ("metrics", "a.,b.")];
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()), 7)).collect();
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn clients_push_what_they_are_asked_for() {
    with_broker(&[("telemetry.max.bytes", "100")], |fixture| async move {
        let mut client = fixture.client().await;
        let versions = ApiVersionsRequest {
            client_software_name: "quipu-test".into(),
            client_software_version: "1.2".into(),
            ..Default::default()
        };
        client.call(3, versions).await;
        let told = ask(&mut client, ClientInstanceId::ZERO).await;
        assert_eq!((told.error_code, told.push_interval_ms, told.requested_metrics.len()), (0, 300_000, 0));
        assert!(told.client_instance_id != ClientInstanceId::ZERO);
        let soon = ask(&mut client, told.client_instance_id).await;
        assert_eq!(soon.error_code, code(ErrorCode::ThrottlingQuotaExceeded));
        let own = [("metrics", "*"), ("interval.ms", "100"), ("match", "client_software_name=quipu-.*")];
        assert_eq!(set(&mut client, "own", &own).await, 0);
        assert_eq!(set(&mut client, "others", &[("metrics", "x"), ("match", "client_software_name=java")]).await, 0);
        let mut request = PushTelemetryRequest {
            client_instance_id: told.client_instance_id,
            subscription_id: told.subscription_id,
            ..Default::default()
        };
        let stale = push(&mut client, &request).await;
        assert_eq!(stale, code(ErrorCode::UnknownSubscriptionId), "the subscriptions are others by now");
        let told = ask(&mut client, told.client_instance_id).await;
        assert_eq!((told.error_code, told.push_interval_ms, told.telemetry_max_bytes), (0, 100, 100));
        assert_eq!(told.requested_metrics, [Str::EMPTY]);
        assert_eq!(told.accepted_compression_types, [4, 3, 1, 2]);
        request.subscription_id = told.subscription_id;
        assert_eq!(push(&mut client, &request).await, 0);
        request.terminating = true;
        let refused = async |client: &mut Client, change: fn(&mut PushTelemetryRequest)| {
            let mut changed = request.clone();
            change(&mut changed);
            push(client, &changed).await
        };
        let zero = refused(&mut client, |push| push.client_instance_id = ClientInstanceId::ZERO).await;
        assert_eq!(zero, code(ErrorCode::InvalidRequest));
        let large = refused(&mut client, |push| push.metrics = vec![0; 101].into()).await;
        assert_eq!(large, code(ErrorCode::TelemetryTooLarge));
        let codec = refused(&mut client, |push| push.compression_type = -1).await;
        assert_eq!(codec, code(ErrorCode::UnsupportedCompressionType));
        // Its last words, though nobody understands them.
        let broken = refused(&mut client, |push| push.metrics = vec![0xff; 10].into()).await;
        assert_eq!(broken, code(ErrorCode::InvalidRecord));
    });
}
