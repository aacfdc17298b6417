//! OffsetCommit: by topic name, from version 10 on by topic id. Topics that nobody knows are refused one by one.

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{LeaderEpoch, Offset, PartitionIndex};
use quipu_env::Env;
use quipu_groups::{
    Reply, Request,
    consumer::{ConsumerReply, ConsumerRequest},
    request::{Commit, Committed, MemberOf, TopicPartition},
};
use quipu_protocol::{
    ErrorCode, Response,
    messages::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    },
};

use crate::{
    errors,
    node::{Node, View},
};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: OffsetCommitRequest) -> Response {
    let view = node.view();
    let group: Arc<str> = (&*request.group_id).into();
    let mut offsets = Vec::new();
    let topics: Vec<_> = request.topics.iter().map(|topic| take(&view, version, topic, &mut offsets)).collect();
    let commit = Commit {
        member: MemberOf {
            group: Arc::clone(&group),
            member_id: (&*request.member_id).into(),
            instance_id: request.group_instance_id.as_deref().map(Arc::from),
            generation: request.generation_id_or_member_epoch,
        },
        retention: u64::try_from(request.retention_time_ms).ok().map(Duration::from_millis),
        offsets,
    };
    let mut codes = codes(&node, &view, (&group, version), commit).await.into_iter();
    let topics = topics.into_iter().map(|(mut topic, is_known)| {
        for partition in topic.partitions.iter_mut().filter(|_| is_known) {
            partition.error_code = codes.next().unwrap_or(ErrorCode::UnknownServerError).code();
        }
        topic
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }.into()
}

/// The topic's place in the answer, and whether its partitions are among the offsets to be committed.
fn take<E: Env>(
    view: &View<E>,
    version: i16,
    topic: &OffsetCommitRequestTopic,
    offsets: &mut Vec<(TopicPartition, Committed)>,
) -> (OffsetCommitResponseTopic, bool) {
    let by_id = version >= 10;
    let known = if by_id { view.image.topic_by_id(topic.topic_id) } else { view.image.topic(&topic.name) };
    let code = match known {
        Some(_) => ErrorCode::None,
        None => errors::unknown_topic(by_id).code,
    };
    if let Some(known) = known {
        let name: Arc<str> = known.name().into();
        offsets.extend(topic.partitions.iter().map(|partition| {
            let of = TopicPartition { topic: Arc::clone(&name), partition: PartitionIndex(partition.partition_index) };
            (of, committed(known.topic_id(), partition))
        }));
    }
    let partition = |partition: &OffsetCommitRequestPartition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: code.code(),
    };
    let answer = OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
    };
    (answer, known.is_some())
}

fn committed(topic_id: quipu_base::TopicId, partition: &OffsetCommitRequestPartition) -> Committed {
    Committed {
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
        topic_id,
    }
}

/// The version from which on a generation may be the epoch of a member of the consumer protocol.
const KNOWS_EPOCHS: i16 = 9;

/// One for each offset.
async fn codes<E: Env>(
    node: &Node<E>,
    view: &View<E>,
    (group, version): (&str, i16),
    commit: Commit,
) -> Vec<ErrorCode> {
    let count = commit.offsets.len();
    if count == 0 {
        return Vec::new();
    }
    let code = |result: Result<(), _>| result.map_or_else(errors::group, |()| ErrorCode::None);
    let request = if version >= KNOWS_EPOCHS {
        Request::Consumer(ConsumerRequest::Commit(commit))
    } else {
        Request::Commit(commit)
    };
    match node.groups.ask(view, group, request).await {
        Ok(Reply::Commit(results) | Reply::Consumer(ConsumerReply::Commit(Ok(results)))) => {
            results.into_iter().map(code).collect()
        }
        Ok(Reply::Consumer(ConsumerReply::Commit(Err(error)))) => vec![errors::consumer_group(&error); count],
        Ok(_) => unreachable!("a commit is answered as one"),
        Err(error) => vec![errors::coordinator(error); count],
    }
}
