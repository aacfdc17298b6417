//! A second and a third opinion: the same bytes go through `kafka-protocol` and `kafka-wire`, and come back unchanged.
//!
//! Random bodies from our schemas are decoded and encoded again by each of them, at every version that it knows; ours does the
//! same in `wire`. So all three agree on every byte.

mod kit;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use kafka_wire::KafkaMessage;
use kafka_wire_core::{ApiVersion, DecodeLimits, KafkaDecode, KafkaEncode};
use kit::{Case, Choices};
use proptest::{collection::vec, prelude::*};
use quipu_protocol::{ApiKey, schema::Direction};

/// The body after `kafka-protocol` has read and written it; none if it doesn't know the version.
fn kafka_protocol<M: Message + Decodable + Encodable>(body: &[u8], version: i16) -> Option<Result<Vec<u8>, String>> {
    (M::VERSIONS.min..=M::VERSIONS.max).contains(&version).then(|| {
        let mut left = Bytes::copy_from_slice(body);
        let message = M::decode(&mut left, version).map_err(|error| error.to_string())?;
        let mut again = BytesMut::new();
        message.encode(&mut again, version).map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(again.to_vec()) } else { Err(format!("{} bytes are left", left.len())) }
    })
}

/// The same with `kafka-wire`.
fn kafka_wire<M: KafkaMessage + KafkaDecode + KafkaEncode>(
    body: &[u8],
    version: i16,
) -> Option<Result<Vec<u8>, String>> {
    let version = ApiVersion::new(version);
    M::SUPPORTED_VERSIONS.contains(version).then(|| {
        let message = M::decode_from_bytes(Bytes::copy_from_slice(body), version, DecodeLimits::default())
            .map_err(|error| error.to_string())?;
        message.encode_to_bytes(version).map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
    })
}

type Opinions = [Option<Result<Vec<u8>, String>>; 2];

macro_rules! table {
    ($($api:ident $request:ident $response:ident;)*) => {
        fn opinions(case: Case, body: &[u8]) -> Opinions {
            match (case.api, case.direction) {
                $(
                    (ApiKey::$api, Direction::Request) => [
                        kafka_protocol::<kafka_protocol::messages::$request>(body, case.version),
                        kafka_wire::<kafka_wire::$request>(body, case.version),
                    ],
                    (ApiKey::$api, Direction::Response) => [
                        kafka_protocol::<kafka_protocol::messages::$response>(body, case.version),
                        kafka_wire::<kafka_wire::$response>(body, case.version),
                    ],
                )*
                (_, Direction::Record) => unreachable!("a case is a request or a response"),
            }
        }
    };
}

table! {
    Produce ProduceRequest ProduceResponse;
    Fetch FetchRequest FetchResponse;
    ListOffsets ListOffsetsRequest ListOffsetsResponse;
    Metadata MetadataRequest MetadataResponse;
    OffsetCommit OffsetCommitRequest OffsetCommitResponse;
    OffsetFetch OffsetFetchRequest OffsetFetchResponse;
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse;
    JoinGroup JoinGroupRequest JoinGroupResponse;
    Heartbeat HeartbeatRequest HeartbeatResponse;
    LeaveGroup LeaveGroupRequest LeaveGroupResponse;
    SyncGroup SyncGroupRequest SyncGroupResponse;
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse;
    ListGroups ListGroupsRequest ListGroupsResponse;
    ApiVersions ApiVersionsRequest ApiVersionsResponse;
    CreateTopics CreateTopicsRequest CreateTopicsResponse;
    DeleteTopics DeleteTopicsRequest DeleteTopicsResponse;
    DeleteRecords DeleteRecordsRequest DeleteRecordsResponse;
    InitProducerId InitProducerIdRequest InitProducerIdResponse;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
    DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse;
    AlterConfigs AlterConfigsRequest AlterConfigsResponse;
    DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse;
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse;
    DeleteGroups DeleteGroupsRequest DeleteGroupsResponse;
    ElectLeaders ElectLeadersRequest ElectLeadersResponse;
    IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
    AlterPartitionReassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse;
    ListPartitionReassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse;
    OffsetDelete OffsetDeleteRequest OffsetDeleteResponse;
    DescribeQuorum DescribeQuorumRequest DescribeQuorumResponse;
    UpdateFeatures UpdateFeaturesRequest UpdateFeaturesResponse;
    DescribeCluster DescribeClusterRequest DescribeClusterResponse;
    DescribeProducers DescribeProducersRequest DescribeProducersResponse;
    UnregisterBroker UnregisterBrokerRequest UnregisterBrokerResponse;
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
    GetTelemetrySubscriptions GetTelemetrySubscriptionsRequest GetTelemetrySubscriptionsResponse;
    PushTelemetry PushTelemetryRequest PushTelemetryResponse;
    ListConfigResources ListConfigResourcesRequest ListConfigResourcesResponse;
    DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_agree_on_every_byte(choices in vec(any::<u8>(), 0..1500)) {
        for case in Case::all() {
            let body = case.generate(&mut Choices::new(&choices));
            for (opinion, codec) in opinions(case, &body).into_iter().zip(["kafka-protocol", "kafka-wire"]) {
                if let Some(opinion) = opinion {
                    prop_assert_eq!(opinion, Ok(body.clone()), "{} about {:?}", codec, case);
                }
            }
        }
    }
}

#[test]
fn every_version_has_a_second_opinion() {
    let mut both = 0;
    for case in Case::all() {
        let body = case.defaults();
        let given = opinions(case, &body).iter().flatten().count();
        assert!(given > 0, "nobody else knows {case:?}");
        both += usize::from(given == 2);
    }
    assert!(both * 10 > Case::all().len() * 8, "{both} of {} have two", Case::all().len());
}
