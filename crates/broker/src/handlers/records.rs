//! DeleteRecords (KIP-107): moves the log start, exactly.

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{Offset, PartitionIndex, TopicIdPartition};
use quipu_env::{Clock, Env, Instant};
use quipu_protocol::{
    ErrorCode, Response,
    messages::delete_records::{
        DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
        DeleteRecordsTopicResult,
    },
};
use quipu_replication::RequestError;
use tokio::sync::oneshot;

use crate::{
    errors::{self, Refusal},
    node::{Node, View},
    shard::Command,
};

/// In the request: everything below the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;

type Answer = oneshot::Receiver<Result<Offset, RequestError>>;

pub(super) async fn delete<E: Env>(node: Arc<Node<E>>, request: DeleteRecordsRequest) -> Response {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = node.env.clock().now() + timeout;
    let view = node.view();
    // All moves are under way before the first is waited for.
    let mut under_way = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            answers.push((wanted.partition_index, begin(&node, &view, &topic.name, wanted, deadline).await));
        }
        under_way.push((topic.name, answers));
    }
    let mut topics = Vec::with_capacity(under_way.len());
    for (name, answers) in under_way {
        let mut partitions = Vec::with_capacity(answers.len());
        for (index, answer) in answers {
            partitions.push(result(index, finish(&node, answer, deadline).await));
        }
        topics.push(DeleteRecordsTopicResult { name, partitions });
    }
    Response::DeleteRecords(DeleteRecordsResponse { topics, ..Default::default() })
}

async fn begin<E: Env>(
    node: &Arc<Node<E>>,
    view: &View<E>,
    topic: &str,
    wanted: &DeleteRecordsPartition,
    deadline: Instant,
) -> Result<Answer, Refusal> {
    let topic_id = view.image.topic_id(topic).ok_or_else(|| errors::unknown_topic(false))?;
    let partition = view.partition(TopicIdPartition { topic_id, partition: PartitionIndex(wanted.partition_index) })?;
    let before = (wanted.offset != TO_HIGH_WATERMARK).then_some(Offset(wanted.offset));
    let (reply, answer) = oneshot::channel();
    let command = Command::DeleteRecords { partition: partition.id, before, deadline, reply };
    let sent = node.send(partition.shard, command).await;
    sent.map_err(|_| Refusal::plain(ErrorCode::NotLeaderOrFollower))?;
    Ok(answer)
}

async fn finish<E: Env>(
    node: &Arc<Node<E>>,
    answer: Result<Answer, Refusal>,
    deadline: Instant,
) -> Result<Offset, Refusal> {
    let timed_out = || Refusal::plain(ErrorCode::RequestTimedOut);
    tokio::select! { biased;
        moved = answer? => moved.map_err(|_| timed_out())?.map_err(errors::replica),
        () = node.env.clock().sleep_until(deadline) => Err(timed_out()),
    }
}

fn result(partition_index: i32, moved: Result<Offset, Refusal>) -> DeleteRecordsPartitionResult {
    match moved {
        Ok(log_start) => DeleteRecordsPartitionResult {
            partition_index,
            low_watermark: log_start.get(),
            error_code: ErrorCode::None.code(),
        },
        Err(refusal) => {
            DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code: refusal.code.code() }
        }
    }
}
