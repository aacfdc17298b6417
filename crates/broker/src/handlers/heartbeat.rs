//! Heartbeat.

use std::sync::Arc;

use quipu_env::Env;
use quipu_groups::{Reply, Request, request::MemberOf};
use quipu_protocol::{
    ErrorCode, Response,
    messages::heartbeat::{HeartbeatRequest, HeartbeatResponse},
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: HeartbeatRequest) -> Response {
    let group: Arc<str> = (&*request.group_id).into();
    let member = MemberOf {
        group: Arc::clone(&group),
        member_id: (&*request.member_id).into(),
        instance_id: request.group_instance_id.as_deref().map(Arc::from),
        generation: request.generation_id,
    };
    let code = match node.groups.ask(&node.view(), &group, Request::Heartbeat(member)).await {
        Ok(Reply::Heartbeat(Ok(()))) => ErrorCode::None,
        Ok(Reply::Heartbeat(Err(error))) => errors::group(error),
        Ok(_) => unreachable!("a heartbeat is answered as one"),
        Err(error) => errors::coordinator(error),
    };
    HeartbeatResponse { error_code: code.code(), ..Default::default() }.into()
}
