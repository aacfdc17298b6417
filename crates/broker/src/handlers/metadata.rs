//! Metadata: brokers, topics, partitions and their leaders; creates topics that are asked for, where that is wanted.

use std::sync::Arc;

use quipu_base::{BrokerId, PartitionIndex, TopicId, TopicIdPartition};
use quipu_env::{Clock, Env, Instant};
use quipu_metadata::{Member, PartitionState, Topic};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::metadata::{
        MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
        MetadataResponseTopic,
    },
};

use crate::{
    errors::Refusal,
    node::{Node, View},
};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: MetadataRequest) -> Response {
    let wanted = match request.topics {
        // Version 0 has no null: an empty list means all.
        Some(topics) if version >= 1 || !topics.is_empty() => Some(topics),
        _ => None,
    };
    let mut created = Vec::new();
    if let Some(topics) = &wanted
        && request.allow_auto_topic_creation
        && node.broker_config().auto_create_topics
    {
        created = create_missing(&node, topics).await;
    }
    let view = node.view();
    let topics = match wanted {
        None => view.image.topics().map(|topic| describe(&view, topic)).collect(),
        Some(topics) => topics.into_iter().map(|wanted| answer(&view, version, wanted, &created)).collect(),
    };
    Response::Metadata(MetadataResponse {
        brokers: brokers(&view, node.env.clock().now()),
        cluster_id: Some(node.identity.cluster_id.to_string().into()),
        controller_id: view.image.controller().map_or(-1, |controller| controller.controller.get()),
        topics,
        ..Default::default()
    })
}

/// Creates the topics that are asked for by name and aren't there. Returns those that could not be created.
async fn create_missing<E: Env>(node: &Arc<Node<E>>, topics: &[MetadataRequestTopic]) -> Vec<(Str, Refusal)> {
    let view = node.view();
    let missing: Vec<Str> = topics
        .iter()
        .filter(|wanted| wanted.topic_id == TopicId::ZERO)
        .filter_map(|wanted| wanted.name.clone())
        .filter(|name| view.image.topic(name).is_none())
        .collect();
    if missing.is_empty() { Vec::new() } else { super::topics::create_by_name(node, missing).await }
}

fn answer<E: Env>(
    view: &View<E>,
    version: i16,
    wanted: MetadataRequestTopic,
    created: &[(Str, Refusal)],
) -> MetadataResponseTopic {
    let MetadataRequestTopic { topic_id, name } = wanted;
    let by_id = topic_id != TopicId::ZERO;
    let known = if by_id { view.image.topic_by_id(topic_id) } else { view.image.topic(name.as_deref().unwrap_or("")) };
    if let Some(topic) = known {
        return describe(view, topic);
    }
    let refused = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        // Before version 12 a name can't be null.
        name: if version >= 12 { name.clone() } else { Some(name.clone().unwrap_or_default()) },
        topic_id,
        ..Default::default()
    };
    match (&name, by_id) {
        (Some(_), true) | (None, false) => refused(ErrorCode::InvalidRequest),
        (None, true) => refused(ErrorCode::UnknownTopicId),
        (Some(name), false) => {
            let why = created.iter().find(|(failed, _)| failed == name).map(|(_, refusal)| refusal.code);
            refused(match why {
                Some(code) => code,
                None if quipu_controller::check_topic_name(name).is_err() => ErrorCode::InvalidTopicException,
                None => ErrorCode::UnknownTopicOrPartition,
            })
        }
    }
}

/// A partition as clients are told of it.
pub(super) struct DescribedPartition {
    pub(super) leader: Option<BrokerId>,
    pub(super) replicas: Vec<i32>,
    pub(super) in_sync: Vec<i32>,
    /// Members of the configuration that are not in sync.
    pub(super) out_of_sync: Vec<i32>,
    pub(super) offline: Vec<i32>,
}

impl DescribedPartition {
    pub(super) const fn error_code(&self) -> ErrorCode {
        if self.leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable }
    }
}

/// A replica counts as offline if its broker is not there, or if its log is damaged: then it does not lead either. In sync are the members
/// of the configuration that are there with their own disks, and do not lag.
pub(super) fn describe_partition<E: Env>(
    view: &View<E>,
    topic: &Topic,
    partition: PartitionIndex,
    state: &PartitionState,
) -> DescribedPartition {
    let id = TopicIdPartition { topic_id: topic.topic_id(), partition };
    let is_live = |broker: &BrokerId| {
        view.image.broker(*broker).is_some_and(|state| !state.fenced) && view.is_served_by(*broker, id)
    };
    let leader = state.leader.filter(is_live);
    let lagging = leader.map_or_else(Vec::new, |leader| view.lagging().of(id, leader, state.leader_epoch));
    let is_in_sync = |member: &&Member| {
        let registered = view.image.broker(member.broker).map(|state| state.registration.directory_id);
        is_live(&member.broker) && registered == Some(member.directory_id) && !lagging.contains(&member.broker)
    };
    let (in_sync, out_of_sync): (Vec<&Member>, Vec<&Member>) = state.configuration.members.iter().partition(is_in_sync);
    let nodes = |members: Vec<&Member>| members.into_iter().map(|member| member.broker.get()).collect();
    DescribedPartition {
        leader,
        replicas: state.replicas.iter().map(|broker| broker.get()).collect(),
        in_sync: nodes(in_sync),
        out_of_sync: nodes(out_of_sync),
        offline: state.replicas.iter().filter(|broker| !is_live(broker)).map(|broker| broker.get()).collect(),
    }
}

fn describe<E: Env>(view: &View<E>, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic
        .partitions()
        .map(|(index, state)| {
            let described = describe_partition(view, topic, index, state);
            MetadataResponsePartition {
                error_code: described.error_code().code(),
                partition_index: index.get(),
                leader_id: described.leader.map_or(-1, BrokerId::get),
                leader_epoch: state.leader_epoch.get(),
                replica_nodes: described.replicas,
                isr_nodes: described.in_sync,
                offline_replicas: described.offline,
            }
        })
        .collect();
    MetadataResponseTopic {
        name: Some(topic.name().into()),
        topic_id: topic.topic_id(),
        is_internal: quipu_controller::is_internal_topic(topic.name()),
        partitions,
        ..Default::default()
    }
}

fn brokers<E: Env>(view: &View<E>, now: Instant) -> Vec<MetadataResponseBroker> {
    let listed = view.image.brokers().filter(|(id, _)| view.is_listed(*id, now));
    listed
        .filter_map(|(id, state)| {
            let listener = state.registration.listener(crate::CLIENT_LISTENER)?;
            Some(MetadataResponseBroker {
                node_id: id.get(),
                host: listener.host.as_str().into(),
                port: i32::from(listener.port),
                rack: state.registration.rack.as_deref().map(Str::from),
            })
        })
        .collect()
}
