//! OffsetFetch: one group up to version 7, several from version 8 on (KIP-709), by topic id from version 10 on.
//!
//! There are no transactions yet, so every offset is stable.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{PartitionIndex, TopicId};
use quipu_env::Env;
use quipu_groups::{
    Reply, Request,
    consumer::{ConsumerReply, ConsumerRequest, request::FetchAs},
    request::{Fetch, Fetched, TopicPartition},
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::offset_fetch::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
};

use crate::{
    errors,
    node::{Node, View},
};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: OffsetFetchRequest) -> Response {
    let view = node.view();
    if version < 8 {
        return one(&node, &view, version, request).await.into();
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(fetch(&node, &view, version, group).await);
    }
    OffsetFetchResponse { groups, ..Default::default() }.into()
}

/// The form before version 8, by way of the one since.
async fn one<E: Env>(node: &Node<E>, view: &View<E>, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.map(|topics| {
        let topic = |topic: quipu_protocol::messages::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: TopicId::ZERO,
            partition_indexes: topic.partition_indexes,
        };
        topics.into_iter().map(topic).collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let fetched = fetch(node, view, version, group.clone()).await;
    if fetched.error_code != 0 && version < 2 {
        // There is no place for an error of the group's: it is every partition's.
        let topics = group.topics.unwrap_or_default().into_iter().map(|topic| OffsetFetchResponseTopics {
            name: topic.name,
            topic_id: TopicId::ZERO,
            partitions: topic.partition_indexes.into_iter().map(|index| none(index, fetched.error_code)).collect(),
        });
        return OffsetFetchResponse { topics: topics.map(old).collect(), ..Default::default() };
    }
    OffsetFetchResponse {
        topics: fetched.topics.into_iter().map(old).collect(),
        error_code: fetched.error_code,
        ..Default::default()
    }
}

fn old(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    OffsetFetchResponseTopic { name: topic.name, partitions: topic.partitions.into_iter().map(partition).collect() }
}

/// The version from which on members of the consumer protocol say who they are.
const KNOWS_EPOCHS: i16 = 9;

async fn fetch<E: Env>(
    node: &Node<E>,
    view: &View<E>,
    version: i16,
    group: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let OffsetFetchRequestGroup { group_id, member_id, member_epoch, topics } = group;
    let by_id = version >= 10;
    let mut unknown = Vec::new();
    let partitions = topics.map(|topics| wanted(view, by_id, topics, &mut unknown));
    let fetch = Fetch { group: (&*group_id).into(), partitions };
    let request = if version >= KNOWS_EPOCHS {
        let member_id = member_id.as_deref().map(Arc::from);
        Request::Consumer(ConsumerRequest::Fetch(FetchAs { member_id, member_epoch, fetch }))
    } else {
        Request::Fetch(fetch)
    };
    match node.groups.ask(view, &group_id, request).await {
        Ok(Reply::Fetch(fetched) | Reply::Consumer(ConsumerReply::Fetch(Ok(fetched)))) => {
            let mut topics = by_topic(view, by_id, fetched);
            topics.extend(unknown);
            OffsetFetchResponseGroup { group_id, topics, error_code: 0 }
        }
        Ok(Reply::Consumer(ConsumerReply::Fetch(Err(error)))) => {
            let error_code = errors::consumer_group(&error).code();
            OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code }
        }
        Ok(_) => unreachable!("a fetch of offsets is answered as one"),
        Err(error) => {
            OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code: errors::coordinator(error).code() }
        }
    }
}

/// What is asked for, by name. Ids that nobody knows are answered at once.
fn wanted<E: Env>(
    view: &View<E>,
    by_id: bool,
    topics: Vec<OffsetFetchRequestTopics>,
    unknown: &mut Vec<OffsetFetchResponseTopics>,
) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for topic in topics {
        let name: Option<Arc<str>> = if by_id {
            view.image.topic_by_id(topic.topic_id).map(|known| known.name().into())
        } else {
            Some((&*topic.name).into())
        };
        match name {
            Some(name) => partitions.extend(
                topic
                    .partition_indexes
                    .into_iter()
                    .map(|index| TopicPartition { topic: Arc::clone(&name), partition: PartitionIndex(index) }),
            ),
            None => {
                let code = ErrorCode::UnknownTopicId.code();
                unknown.push(OffsetFetchResponseTopics {
                    name: topic.name,
                    topic_id: topic.topic_id,
                    partitions: topic.partition_indexes.into_iter().map(|index| none(index, code)).collect(),
                });
            }
        }
    }
    partitions
}

/// By topic, in the order in which each was first named. By id, what was committed for topics that are gone is left out.
fn by_topic<E: Env>(view: &View<E>, by_id: bool, fetched: Vec<Fetched>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    let mut places: BTreeMap<Arc<str>, Option<usize>> = BTreeMap::new();
    for Fetched { partition: TopicPartition { topic, partition }, committed } in fetched {
        let place = *places.entry(Arc::clone(&topic)).or_insert_with(|| {
            let topic_id = view.image.topic_id(&topic);
            if by_id && topic_id.is_none() {
                return None;
            }
            topics.push(OffsetFetchResponseTopics {
                name: (&*topic).into(),
                topic_id: topic_id.unwrap_or(TopicId::ZERO),
                partitions: Vec::new(),
            });
            Some(topics.len() - 1)
        });
        let Some(place) = place else { continue };
        topics[place].partitions.push(match committed {
            Some(committed) => OffsetFetchResponsePartitions {
                partition_index: partition.get(),
                committed_offset: committed.offset.get(),
                committed_leader_epoch: committed.leader_epoch.get(),
                metadata: Some(committed.metadata.into()),
                error_code: 0,
            },
            None => none(partition.get(), 0),
        });
    }
    topics
}

fn none(partition_index: i32, error_code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code,
    }
}
