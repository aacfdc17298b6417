//! OffsetDelete (KIP-496).

use std::sync::Arc;

use quipu_base::PartitionIndex;
use quipu_env::Env;
use quipu_groups::{
    Reply, Request,
    request::{DeleteOffsets, TopicPartition},
};
use quipu_protocol::{
    ErrorCode, Response,
    messages::offset_delete::{
        OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    },
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: OffsetDeleteRequest) -> Response {
    let group: Arc<str> = (&*request.group_id).into();
    let partitions = request.topics.iter().flat_map(|topic| {
        let name: Arc<str> = (&*topic.name).into();
        topic.partitions.iter().map(move |partition| TopicPartition {
            topic: Arc::clone(&name),
            partition: PartitionIndex(partition.partition_index),
        })
    });
    let delete = DeleteOffsets { group: Arc::clone(&group), partitions: partitions.collect() };
    let refused = |code: ErrorCode| OffsetDeleteResponse { error_code: code.code(), ..Default::default() };
    let mut results = match node.groups.ask(&node.view(), &group, Request::DeleteOffsets(delete)).await {
        Ok(Reply::DeleteOffsets(Ok(results))) => results.into_iter(),
        Ok(Reply::DeleteOffsets(Err(error))) => return refused(errors::group(error)).into(),
        Ok(_) => unreachable!("a deletion of offsets is answered as one"),
        Err(error) => return refused(errors::coordinator(error)).into(),
    };
    let topics = request.topics.into_iter().map(|topic| OffsetDeleteResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: match results.next() {
                    Some(Err(error)) => errors::group(error).code(),
                    Some(Ok(())) | None => 0,
                },
            })
            .collect(),
    });
    OffsetDeleteResponse { topics: topics.collect(), ..Default::default() }.into()
}
