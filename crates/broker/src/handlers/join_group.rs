//! JoinGroup (KIP-62, KIP-345, KIP-394, KIP-814): answered when the generation is formed.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use quipu_env::Env;
use quipu_groups::{
    Reply, Request,
    request::{Join, Joined, JoinedMember, Protocol},
};
use quipu_protocol::{
    Response, Str,
    messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember},
};

use crate::{errors, node::Node};

/// `client`: what it calls itself, and where it comes from.
pub(super) async fn respond<E: Env>(
    node: Arc<Node<E>>,
    version: i16,
    client: (String, String),
    request: JoinGroupRequest,
) -> Response {
    let join = to_join(version, client, &request);
    let group = Arc::clone(&join.group);
    let answer = node.groups.ask(&node.view(), &group, Request::Join(join)).await;
    let response = match answer {
        Ok(Reply::Join(joined)) => of_joined(version, joined),
        Ok(_) => unreachable!("a join is answered as one"),
        Err(error) => {
            JoinGroupResponse { error_code: errors::coordinator(error).code(), ..refused(version, request.member_id) }
        }
    };
    response.into()
}

/// Copies: a member lives longer than the frame that it came in.
fn to_join(version: i16, client: (String, String), request: &JoinGroupRequest) -> Join {
    let duration = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let session_timeout = duration(request.session_timeout_ms);
    let protocol = |protocol: &JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    let (client_id, client_host) = client;
    Join {
        group: (&*request.group_id).into(),
        member_id: (&*request.member_id).into(),
        instance_id: request.group_instance_id.as_deref().map(Arc::from),
        client_id,
        client_host,
        session_timeout,
        rebalance_timeout: if version == 0 { session_timeout } else { duration(request.rebalance_timeout_ms) },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(protocol).collect(),
        reason: request.reason.as_ref().map(ToString::to_string),
        takes_member_id: version >= 4,
        skips_assignment: version >= 9,
    }
}

fn of_joined(version: i16, joined: Joined) -> JoinGroupResponse {
    let member_id: Str = (&*joined.member_id).into();
    if let Some(error) = joined.error {
        return JoinGroupResponse { error_code: errors::group(error).code(), ..refused(version, member_id) };
    }
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: (&*member.member_id).into(),
        group_instance_id: member.instance_id.as_deref().map(Str::from),
        metadata: member.metadata,
    };
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(Str::from),
        protocol_name: name(version, joined.protocol),
        leader: (&*joined.leader).into(),
        skip_assignment: joined.skip_assignment,
        member_id,
        members: joined.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn refused(version: i16, member_id: Str) -> JoinGroupResponse {
    JoinGroupResponse { member_id, protocol_name: name(version, None), ..Default::default() }
}

/// Before version 7 it can't be null.
fn name(version: i16, protocol: Option<String>) -> Option<Str> {
    match protocol {
        Some(protocol) => Some(protocol.into()),
        None if version < 7 => Some(Str::EMPTY),
        None => None,
    }
}
