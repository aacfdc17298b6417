//! DescribeQuorum (KIP-595, KIP-836, KIP-853): what this node sees of the metadata quorum.
//!
//! Only the quorum's leader knows how far the others are; any other node tells -1 for them. The leader is found by
//! DescribeCluster's controller.

use std::sync::Arc;

use quipu_base::{BrokerId, Offset};
use quipu_env::{Clock, Env};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::describe_quorum::{
        DescribeQuorumRequest, DescribeQuorumResponse,
        response::{Listener, Node as QuorumNode, PartitionData, ReplicaState, TopicData},
    },
};
use quipu_raft::{ReplicaKey, Status};

use crate::{
    errors::{self, Refusal},
    node::Node,
    quorum::AskError,
};

/// The topic by which clients ask for the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: DescribeQuorumRequest) -> Response {
    let status = match node.controller.status().await {
        Ok(status) => status,
        Err(error) => {
            let refusal = errors::ask(&AskError::Commit(error));
            return Response::DescribeQuorum(DescribeQuorumResponse {
                error_code: refusal.code.code(),
                error_message: refusal.text(),
                ..Default::default()
            });
        }
    };
    let described = describe(&node, &status);
    let unknown = Refusal::plain(ErrorCode::UnknownTopicOrPartition);
    let topics = request.topics.into_iter().map(|topic| {
        let is_metadata = &*topic.topic_name == METADATA_TOPIC;
        let partitions = topic.partitions.into_iter().map(|asked| match asked.partition_index {
            0 if is_metadata => described.clone(),
            partition_index => PartitionData {
                partition_index,
                error_code: unknown.code.code(),
                error_message: unknown.text(),
                leader_id: -1,
                ..Default::default()
            },
        });
        TopicData { partitions: partitions.collect(), topic_name: topic.topic_name }
    });
    Response::DescribeQuorum(DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: nodes(&node, &status),
        ..Default::default()
    })
}

fn describe<E: Env>(node: &Node<E>, status: &Status) -> PartitionData {
    let now = node.env.clock().wall().get();
    let state = |replica: ReplicaKey| {
        let own = (replica == status.replica).then_some((status.log_end.offset, 0));
        let peer = status.peers.iter().find(|(peer, ..)| *peer == replica);
        let heard = peer.map(|(_, matched, since)| (*matched, i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
        let (end, since) = own.or(heard).map_or((Offset(-1), None), |(end, since)| (end, Some(since)));
        let last_heard = since.map_or(-1, |since| now.saturating_sub(since));
        ReplicaState {
            replica_id: replica.id.get(),
            replica_directory_id: replica.directory,
            log_end_offset: end.get(),
            last_fetch_timestamp: last_heard,
            last_caught_up_timestamp: if end >= status.high_watermark { last_heard } else { -1 },
        }
    };
    let voters: Vec<ReplicaKey> = status.voters.iter().collect();
    let observers = status.peers.iter().map(|(peer, ..)| *peer).filter(|peer| !voters.contains(peer));
    PartitionData {
        leader_id: status.leader.map_or(-1, |leader| leader.id.get()),
        leader_epoch: status.epoch.get(),
        high_watermark: status.high_watermark.get(),
        observers: observers.map(state).collect(),
        current_voters: voters.iter().copied().map(state).collect(),
        ..Default::default()
    }
}

/// Where the voters listen, as far as they are brokers.
fn nodes<E: Env>(node: &Node<E>, status: &Status) -> Vec<QuorumNode> {
    let view = node.view();
    let listeners = |id: BrokerId| {
        let registration = view.image.broker(id).map(|state| &state.registration);
        let listeners = registration.into_iter().flat_map(|registration| &registration.listeners);
        listeners
            .map(|listener| Listener {
                name: Str::from(listener.name.as_str()),
                host: listener.host.as_str().into(),
                port: listener.port,
            })
            .collect()
    };
    status.voters.iter().map(|voter| QuorumNode { node_id: voter.id.get(), listeners: listeners(voter.id) }).collect()
}
