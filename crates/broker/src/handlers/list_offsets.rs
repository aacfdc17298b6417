//! ListOffsets (KIP-79, KIP-207, KIP-405, KIP-734): offsets by time, and the special ones.
//!
//! Without tiers of storage, the earliest local offset is the earliest one, and nothing is uploaded: the tiered offsets are
//! -1 and no error.

use std::sync::Arc;

use quipu_base::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicIdPartition};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response,
    messages::list_offsets::{
        ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
        ListOffsetsTopicResponse,
    },
};

use crate::{
    errors::{self, Refusal},
    node::{Node, View},
};

/// Kafka's special timestamps, each with the first version that has it.
mod special {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    pub(super) const MAX_TIMESTAMP: i64 = -3;
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    pub(super) const LATEST_TIERED: i64 = -5;
    pub(super) const EARLIEST_PENDING_UPLOAD: i64 = -6;

    /// The first version in which `timestamp` means something; none if it never does.
    pub(super) const fn since(timestamp: i64) -> Option<i16> {
        match timestamp {
            LATEST | EARLIEST => Some(1),
            MAX_TIMESTAMP => Some(7),
            EARLIEST_LOCAL => Some(8),
            LATEST_TIERED => Some(9),
            EARLIEST_PENDING_UPLOAD => Some(11),
            0.. => Some(1),
            _ => None,
        }
    }
}

/// What was found; an offset of -1 is nothing, and no error.
struct Found {
    timestamp: Timestamp,
    offset: Offset,
    leader_epoch: LeaderEpoch,
}

const NOTHING: Found = Found { timestamp: Timestamp::NONE, offset: Offset(-1), leader_epoch: LeaderEpoch::NONE };

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: ListOffsetsRequest) -> Response {
    let view = node.view();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let found = find(&view, version, &topic.name, &wanted).await;
            partitions.push(match found {
                Ok(found) => ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    error_code: ErrorCode::None.code(),
                    timestamp: found.timestamp.get(),
                    offset: found.offset.get(),
                    leader_epoch: if version >= 4 { found.leader_epoch.get() } else { -1 },
                },
                Err(refusal) => ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    error_code: refusal.code.code(),
                    ..Default::default()
                },
            });
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    Response::ListOffsets(ListOffsetsResponse { topics, ..Default::default() })
}

async fn find<E: Env>(
    view: &View<E>,
    version: i16,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> Result<Found, Refusal> {
    let topic_id = view.image.topic_id(topic).ok_or_else(|| errors::unknown_topic(false))?;
    let partition = PartitionIndex(wanted.partition_index);
    let partition = view.partition(TopicIdPartition { topic_id, partition })?;
    let leader_epoch = errors::check_leader_epoch(wanted.current_leader_epoch, &partition)?;
    if special::since(wanted.timestamp).is_none_or(|since| version < since) {
        let message = format!("timestamp {} means nothing in version {version}", wanted.timestamp);
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    let log = &partition.log;
    errors::check_sound(log)?;
    let needs_high_watermark =
        !matches!(wanted.timestamp, special::EARLIEST | special::EARLIEST_LOCAL | special::LATEST_TIERED);
    if needs_high_watermark && !partition.knows_high_watermark() {
        let known = if version >= 5 { ErrorCode::OffsetNotAvailable } else { ErrorCode::LeaderNotAvailable };
        return Err(Refusal::plain(known));
    }
    let high_watermark = partition.high_watermark();
    let at = |timestamp, offset| Found { timestamp, offset, leader_epoch: log.epoch_at(offset) };
    match wanted.timestamp {
        special::LATEST => Ok(Found { offset: high_watermark, leader_epoch, timestamp: Timestamp::NONE }),
        special::EARLIEST | special::EARLIEST_LOCAL => Ok(at(Timestamp::NONE, log.offsets().log_start)),
        special::LATEST_TIERED | special::EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        special::MAX_TIMESTAMP => {
            let found = log.max_timestamp(high_watermark).await.map_err(|error| errors::read(&error))?;
            Ok(found.map_or(NOTHING, |(timestamp, offset)| at(timestamp, offset)))
        }
        timestamp => {
            let found = log.offset_for_timestamp(Timestamp(timestamp), high_watermark).await;
            let found = found.map_err(|error| errors::read(&error))?;
            Ok(found.map_or(NOTHING, |(timestamp, offset)| at(timestamp, offset)))
        }
    }
}
