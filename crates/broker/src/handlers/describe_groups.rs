//! DescribeGroups: up to version 5 a group that nobody knows is dead, from version 6 on it is an error.

use std::sync::Arc;

use quipu_env::Env;
use quipu_groups::{
    GroupError, Reply, Request,
    request::{Described, DescribedMember},
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember},
};

use crate::{errors, node::Node};

const DEAD: &str = "Dead";

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: DescribeGroupsRequest) -> Response {
    let view = node.view();
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let answer = node.groups.ask(&view, &group_id, Request::Describe((&*group_id).into())).await;
        groups.push(match answer {
            Ok(Reply::Describe(Ok(described))) => described_group(group_id, described),
            Ok(Reply::Describe(Err(GroupError::GroupIdNotFound))) => not_found(version, group_id),
            Ok(Reply::Describe(Err(error))) => refused(group_id, errors::group(error)),
            Ok(_) => unreachable!("a description is answered as one"),
            Err(error) => refused(group_id, errors::coordinator(error)),
        });
    }
    DescribeGroupsResponse { groups, ..Default::default() }.into()
}

fn described_group(group_id: Str, described: Described) -> DescribedGroup {
    let member = |member: DescribedMember| DescribedGroupMember {
        member_id: (&*member.member_id).into(),
        group_instance_id: member.instance_id.as_deref().map(Str::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_id,
        group_state: Str::from_static(described.state),
        protocol_type: described.protocol_type.into(),
        protocol_data: described.protocol.into(),
        members: described.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn not_found(version: i16, group_id: Str) -> DescribedGroup {
    let group_state = Str::from_static(DEAD);
    if version < 6 {
        return DescribedGroup { group_id, group_state, ..Default::default() };
    }
    let error_message = Some(format!("Group {group_id} not found.").into());
    let error_code = ErrorCode::GroupIdNotFound.code();
    DescribedGroup { group_id, group_state, error_code, error_message, ..Default::default() }
}

fn refused(group_id: Str, code: ErrorCode) -> DescribedGroup {
    DescribedGroup { group_id, error_code: code.code(), ..Default::default() }
}
