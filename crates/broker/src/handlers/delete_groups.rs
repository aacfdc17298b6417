//! DeleteGroups (KIP-229): groups without members, with their offsets.

use std::sync::Arc;

use quipu_env::Env;
use quipu_groups::{Reply, Request};
use quipu_protocol::{
    ErrorCode, Response,
    messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse},
};

use crate::{errors, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: DeleteGroupsRequest) -> Response {
    let view = node.view();
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let code = match node.groups.ask(&view, &group_id, Request::Delete((&*group_id).into())).await {
            Ok(Reply::Delete(Ok(()))) => ErrorCode::None,
            Ok(Reply::Delete(Err(error))) => errors::group(error),
            Ok(_) => unreachable!("a deletion is answered as one"),
            Err(error) => errors::coordinator(error),
        };
        results.push(DeletableGroupResult { group_id, error_code: code.code(), ..Default::default() });
    }
    DeleteGroupsResponse { results, ..Default::default() }.into()
}
