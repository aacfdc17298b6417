//! DescribeLogDirs (KIP-113, KIP-827): the data directory, and how much of it each partition takes.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{PartitionIndex, TopicId};
use quipu_env::{Disk, Env};
use quipu_protocol::{
    ErrorCode, Response,
    messages::describe_log_dirs::{
        DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
        DescribeLogDirsTopic,
    },
};

use crate::node::Node;

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: DescribeLogDirsRequest) -> Response {
    let space = node.env.disk().space(&node.data_dir).await;
    let (error_code, usable_bytes, total_bytes) = match space {
        Ok((free, total)) => (ErrorCode::None, signed(free), signed(total)),
        Err(error) => {
            tracing::warn!(%error, directory = %node.data_dir.display(), "the file system's space can't be read");
            (ErrorCode::KafkaStorageError, -1, -1)
        }
    };
    let result = DescribeLogDirsResult {
        error_code: error_code.code(),
        log_dir: node.data_dir.to_string_lossy().as_ref().into(),
        topics: topics(&node, &request),
        total_bytes,
        usable_bytes,
        is_cordoned: false,
    };
    Response::DescribeLogDirs(DescribeLogDirsResponse { results: vec![result], ..Default::default() })
}

fn topics<E: Env>(node: &Arc<Node<E>>, request: &DescribeLogDirsRequest) -> Vec<DescribeLogDirsTopic> {
    let view = node.view();
    let mut by_topic: BTreeMap<TopicId, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let is_wanted = |name: &str, partition: PartitionIndex| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|topic| topic.topic == name && topic.partitions.contains(&partition.get()))
        })
    };
    for partition in view.partitions() {
        let Some(topic) = view.image.topic_by_id(partition.id.topic_id) else { continue };
        if is_wanted(topic.name(), partition.id.partition) {
            by_topic.entry(partition.id.topic_id).or_default().push(DescribeLogDirsPartition {
                partition_index: partition.id.partition.get(),
                partition_size: signed(partition.log.size_bytes()),
                offset_lag: 0,
                is_future_key: false,
            });
        }
    }
    let named = by_topic.into_iter().filter_map(|(topic_id, partitions)| {
        let topic = view.image.topic_by_id(topic_id)?;
        Some(DescribeLogDirsTopic { name: topic.name().into(), partitions })
    });
    named.collect()
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
