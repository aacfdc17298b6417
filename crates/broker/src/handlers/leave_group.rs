//! LeaveGroup (KIP-345, KIP-800): one member up to version 2, several from version 3 on.

use std::sync::Arc;

use quipu_env::Env;
use quipu_groups::{
    GroupError, Reply, Request,
    request::{Leave, Leaver},
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse},
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: LeaveGroupRequest) -> Response {
    let group: Arc<str> = (&*request.group_id).into();
    let members = if version < 3 {
        vec![Leaver { member_id: (&*request.member_id).into(), instance_id: None, reason: None }]
    } else {
        let leaver = |member: &MemberIdentity| Leaver {
            member_id: (&*member.member_id).into(),
            instance_id: member.group_instance_id.as_deref().map(Arc::from),
            reason: member.reason.as_ref().map(ToString::to_string),
        };
        request.members.iter().map(leaver).collect()
    };
    let leave = Leave { group: Arc::clone(&group), members };
    let refused = |code: ErrorCode| LeaveGroupResponse { error_code: code.code(), ..Default::default() };
    let response = match node.groups.ask(&node.view(), &group, Request::Leave(leave)).await {
        Ok(Reply::Leave(Ok(left))) => answer(version, left),
        Ok(Reply::Leave(Err(error))) => refused(errors::group(error)),
        Ok(_) => unreachable!("a leave is answered as one"),
        Err(error) => refused(errors::coordinator(error)),
    };
    response.into()
}

fn answer(version: i16, left: Vec<(Leaver, Result<(), GroupError>)>) -> LeaveGroupResponse {
    let code = |result: Result<(), GroupError>| result.map_or_else(errors::group, |()| ErrorCode::None).code();
    if version < 3 {
        let error_code = left.into_iter().next().map_or(0, |(_, result)| code(result));
        return LeaveGroupResponse { error_code, ..Default::default() };
    }
    let member = |(leaver, result): (Leaver, _)| MemberResponse {
        member_id: (&*leaver.member_id).into(),
        group_instance_id: leaver.instance_id.as_deref().map(Str::from),
        error_code: code(result),
    };
    LeaveGroupResponse { members: left.into_iter().map(member).collect(), ..Default::default() }
}
