//! DescribeTopicPartitions (KIP-966): what Metadata says, page by page.

use std::sync::Arc;

use quipu_base::{BrokerId, PartitionIndex};
use quipu_env::Env;
use quipu_metadata::Topic;
use quipu_protocol::{
    ErrorCode, Str,
    messages::describe_topic_partitions::{
        Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
        DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    },
};

use super::metadata::{self, DescribedPartition};
use crate::node::{Node, View};

/// Partitions of one page at most, whatever the client asks for (`max.request.partition.size.limit`).
const PAGE_PARTITIONS_MAX: usize = 2000;

pub(super) fn respond<E: Env>(
    node: &Arc<Node<E>>,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let view = node.view();
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PAGE_PARTITIONS_MAX);
    let from = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
    let mut names: Vec<Str> = if request.topics.is_empty() {
        view.image.topics_from(from).map(|topic| topic.name().into()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.clone()).filter(|name| name.as_str() >= from).collect()
    };
    names.sort_unstable();
    names.dedup();
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = view.image.topic(&name) else {
            response.topics.push(unknown(name));
            left -= 1;
            continue;
        };
        let first = match &request.cursor {
            Some(cursor) if cursor.topic_name == name => PartitionIndex(cursor.partition_index.max(0)),
            _ => PartitionIndex(0),
        };
        let (described, next) = page(&view, topic, first, left);
        left -= described.partitions.len().max(1).min(left);
        response.topics.push(described);
        if let Some(next) = next {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: next.get() });
            break;
        }
    }
    response
}

fn unknown(name: Str) -> DescribeTopicPartitionsResponseTopic {
    let code = match quipu_controller::check_topic_name(&name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic { error_code: code.code(), name: Some(name), ..Default::default() }
}

/// A topic's partitions from `first`, at most `count` of them, and where the next page begins if there is one.
fn page<E: Env>(
    view: &View<E>,
    topic: &Topic,
    first: PartitionIndex,
    count: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<PartitionIndex>) {
    let mut wanted = topic.partitions().skip_while(|(index, _)| *index < first);
    let partitions = wanted
        .by_ref()
        .take(count)
        .map(|(index, state)| {
            let described = metadata::describe_partition(view, topic, index, state);
            partition(index, described, state.leader_epoch.get())
        })
        .collect();
    let next = wanted.next().map(|(index, _)| index);
    let topic = DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name().into()),
        topic_id: topic.topic_id(),
        is_internal: quipu_controller::is_internal_topic(topic.name()),
        partitions,
        ..Default::default()
    };
    (topic, next)
}

fn partition(
    index: PartitionIndex,
    described: DescribedPartition,
    leader_epoch: i32,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: described.error_code().code(),
        partition_index: index.get(),
        leader_id: described.leader.map_or(-1, BrokerId::get),
        leader_epoch,
        replica_nodes: described.replicas,
        isr_nodes: described.in_sync,
        // They may lead: a leader adopts what it lacks before it is one.
        eligible_leader_replicas: Some(described.out_of_sync),
        // The schema allows null, but the Java client does not expect it.
        last_known_elr: Some(Vec::new()),
        offline_replicas: described.offline,
    }
}
