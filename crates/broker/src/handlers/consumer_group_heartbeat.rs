//! ConsumerGroupHeartbeat (KIP-848): a member of the consumer protocol joins, stays, leaves, and is told what to read.

use core::time::Duration;
use std::sync::Arc;

use quipu_base::PartitionIndex;
use quipu_controller::GROUP_VERSION;
use quipu_env::Env;
use quipu_groups::{
    Reply, Request,
    consumer::{
        ConsumerReply, ConsumerRequest,
        request::{ConsumerBeat, ConsumerHeartbeat, Partitions},
    },
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::consumer_group_heartbeat::{
        Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
    },
};

use crate::{errors, node::Node};

/// `client`: what it calls itself, and where it comes from.
pub(super) async fn respond<E: Env>(
    node: Arc<Node<E>>,
    version: i16,
    client: (String, String),
    request: ConsumerGroupHeartbeatRequest,
) -> Response {
    let view = node.view();
    if view.image.feature_level(GROUP_VERSION) < 1 {
        let why = format!("groups of the consumer protocol need the feature {GROUP_VERSION} at level 1");
        return refused(ErrorCode::UnsupportedVersion, Some(why)).into();
    }
    let beat = to_beat(version, client, &request);
    let group = Arc::clone(&beat.group);
    let answer = node.groups.ask(&view, &group, Request::Consumer(ConsumerRequest::Heartbeat(beat))).await;
    let response = match answer {
        Ok(Reply::Consumer(ConsumerReply::Heartbeat(Ok(beat)))) => of_beat(beat),
        Ok(Reply::Consumer(ConsumerReply::Heartbeat(Err(error)))) => {
            refused(errors::consumer_group(&error), Some(error.to_string()))
        }
        Ok(_) => unreachable!("a heartbeat is answered as one"),
        Err(error) => refused(errors::coordinator(error), None),
    };
    response.into()
}

/// Copies: a member lives longer than the frame that it came in.
fn to_beat(version: i16, client: (String, String), request: &ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let shared = |text: &Str| -> Arc<str> { (&**text).into() };
    let owned = |topics: &Vec<TopicPartitions>| {
        let mut owned = Partitions::new();
        for topic in topics {
            owned.entry(topic.topic_id).or_default().extend(topic.partitions.iter().copied().map(PartitionIndex));
        }
        owned
    };
    let (client_id, client_host) = client;
    ConsumerHeartbeat {
        group: shared(&request.group_id),
        member_id: shared(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(shared),
        rack_id: request.rack_id.as_ref().map(shared),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
        subscribed_names: request.subscribed_topic_names.as_ref().map(|names| names.iter().map(shared).collect()),
        subscribed_regex: request.subscribed_topic_regex.as_ref().map(shared),
        assignor: request.server_assignor.as_ref().map(shared),
        owned: request.topic_partitions.as_ref().map(owned),
        client_id,
        client_host,
        makes_id: version >= 1,
    }
}

fn of_beat(beat: ConsumerBeat) -> ConsumerGroupHeartbeatResponse {
    let assignment = beat.assignment.map(|assignment| {
        let topic = |(topic_id, partitions): (_, std::collections::BTreeSet<PartitionIndex>)| TopicPartitions {
            topic_id,
            partitions: partitions.into_iter().map(PartitionIndex::get).collect(),
        };
        Assignment { topic_partitions: assignment.into_iter().map(topic).collect() }
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some((&*beat.member_id).into()),
        member_epoch: beat.member_epoch,
        heartbeat_interval_ms: i32::try_from(beat.interval.as_millis()).unwrap_or(i32::MAX),
        assignment,
        ..Default::default()
    }
}

fn refused(code: ErrorCode, why: Option<String>) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse { error_code: code.code(), error_message: why.map(Str::from), ..Default::default() }
}
