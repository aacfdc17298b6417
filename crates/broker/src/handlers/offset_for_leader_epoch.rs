//! OffsetForLeaderEpoch (KIP-101, KIP-320): where the records of a leader epoch end, so that a consumer can tell whether the
//! log that it read was cut.

use std::sync::Arc;

use quipu_base::{LeaderEpoch, PartitionIndex, TopicIdPartition};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode,
    messages::offset_for_leader_epoch::{
        EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
        OffsetForLeaderTopicResult,
    },
};

use crate::{
    errors::{self, Refusal},
    node::{Node, View},
};

pub(super) fn respond<E: Env>(
    node: &Arc<Node<E>>,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let view = node.view();
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|wanted| {
                    find(&view, &topic.topic, wanted).unwrap_or_else(|refusal| EpochEndOffset {
                        error_code: refusal.code.code(),
                        partition: wanted.partition,
                        ..Default::default()
                    })
                })
                .collect(),
        })
        .collect();
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

fn find<E: Env>(view: &View<E>, topic: &str, wanted: &OffsetForLeaderPartition) -> Result<EpochEndOffset, Refusal> {
    let topic_id = view.image.topic_id(topic).ok_or_else(|| errors::unknown_topic(false))?;
    let partition = view.partition(TopicIdPartition { topic_id, partition: PartitionIndex(wanted.partition) })?;
    let current = errors::check_leader_epoch(wanted.current_leader_epoch, &partition)?;
    errors::check_sound(&partition.log)?;
    let asked = LeaderEpoch(wanted.leader_epoch);
    let (leader_epoch, end_offset) = if asked == current {
        // The epoch that goes on ends, for now, where consumers may read to.
        (asked, partition.readable_elsewhere())
    } else {
        partition.epoch_end(asked, partition.readable_elsewhere())
    };
    Ok(EpochEndOffset {
        error_code: ErrorCode::None.code(),
        partition: wanted.partition,
        leader_epoch: leader_epoch.get(),
        end_offset: end_offset.get(),
    })
}
