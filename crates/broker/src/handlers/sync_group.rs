//! SyncGroup: answered when the leader has brought the assignments, and they are kept.

use std::sync::Arc;

use bytes::Bytes;
use quipu_env::Env;
use quipu_groups::{
    Reply, Request,
    request::{MemberOf, Sync},
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse},
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: SyncGroupRequest) -> Response {
    let group: Arc<str> = (&*request.group_id).into();
    let assignment = |assignment: &SyncGroupRequestAssignment| {
        ((&*assignment.member_id).into(), Bytes::copy_from_slice(&assignment.assignment))
    };
    let sync = Sync {
        member: MemberOf {
            group: Arc::clone(&group),
            member_id: (&*request.member_id).into(),
            instance_id: request.group_instance_id.as_deref().map(Arc::from),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_ref().map(ToString::to_string),
        protocol: request.protocol_name.as_ref().map(ToString::to_string),
        assignments: request.assignments.iter().map(assignment).collect(),
    };
    let refused = |code: ErrorCode| SyncGroupResponse { error_code: code.code(), ..Default::default() };
    let response = match node.groups.ask(&node.view(), &group, Request::Sync(sync)).await {
        Ok(Reply::Sync(Ok(synced))) => SyncGroupResponse {
            protocol_type: synced.protocol_type.map(Str::from),
            protocol_name: synced.protocol.map(Str::from),
            assignment: synced.assignment,
            ..Default::default()
        },
        Ok(Reply::Sync(Err(error))) => refused(errors::group(error)),
        Ok(_) => unreachable!("a sync is answered as one"),
        Err(error) => refused(errors::coordinator(error)),
    };
    response.into()
}
