//! ConsumerGroupDescribe (KIP-848): groups of the consumer protocol and their members.

use std::sync::Arc;

use quipu_base::PartitionIndex;
use quipu_env::Env;
use quipu_groups::{
    GroupError, Reply, Request,
    consumer::{
        ConsumerError, ConsumerReply, ConsumerRequest,
        request::{AssignedTopic, ConsumerDescribed, ConsumerDescribedMember},
    },
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::consumer_group_describe::{
        Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member,
        TopicPartitions,
    },
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: ConsumerGroupDescribeRequest) -> Response {
    let view = node.view();
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let describe = ConsumerRequest::Describe((&*group_id).into());
        groups.push(match node.groups.ask(&view, &group_id, Request::Consumer(describe)).await {
            Ok(Reply::Consumer(ConsumerReply::Describe(Ok(described)))) => described_group(group_id, described),
            Ok(Reply::Consumer(ConsumerReply::Describe(Err(error)))) => refused(group_id, &error),
            Ok(_) => unreachable!("a description is answered as one"),
            Err(error) => {
                DescribedGroup { group_id, error_code: errors::coordinator(error).code(), ..Default::default() }
            }
        });
    }
    ConsumerGroupDescribeResponse { groups, ..Default::default() }.into()
}

fn described_group(group_id: Str, described: ConsumerDescribed) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::None.code(),
        group_id,
        group_state: Str::from_static(described.state),
        group_epoch: described.group_epoch,
        assignment_epoch: described.assignment_epoch,
        assignor_name: Str::from_static(described.assignor),
        members: described.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(member: ConsumerDescribedMember) -> Member {
    Member {
        member_id: (&*member.member_id).into(),
        instance_id: member.instance_id.as_deref().map(Str::from),
        rack_id: member.rack_id.as_deref().map(Str::from),
        member_epoch: member.member_epoch,
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        subscribed_topic_names: member.subscribed_names.iter().map(|name| Str::from(&**name)).collect(),
        subscribed_topic_regex: member.subscribed_regex.as_deref().map(Str::from),
        assignment: assignment(member.assignment),
        target_assignment: assignment(member.target),
        member_type: if member.is_classic { CLASSIC } else { CONSUMER },
    }
}

/// What a member speaks.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

fn assignment(topics: Vec<AssignedTopic>) -> Assignment {
    let topic = |topic: AssignedTopic| TopicPartitions {
        topic_id: topic.topic_id,
        topic_name: (&*topic.topic).into(),
        partitions: topic.partitions.into_iter().map(PartitionIndex::get).collect(),
    };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}

fn refused(group_id: Str, error: &ConsumerError) -> DescribedGroup {
    let text = match error {
        ConsumerError::Group(GroupError::GroupIdNotFound) => format!("Group {group_id} is not a consumer group."),
        error => error.to_string(),
    };
    let error_code = errors::consumer_group(error).code();
    DescribedGroup { group_id, error_code, error_message: Some(text.into()), ..Default::default() }
}
