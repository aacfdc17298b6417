//! ListGroups (KIP-518, KIP-848): the groups that this broker coordinates.

use std::{collections::BTreeSet, sync::Arc};

use quipu_env::Env;
use quipu_groups::{Reply, Request, request::List};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup},
};

use crate::{errors, groups::CoordinatorError, node::Node};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: ListGroupsRequest) -> Response {
    let lower = |names: &[Str]| -> BTreeSet<String> { names.iter().map(|name| name.to_lowercase()).collect() };
    let list = List { states: lower(&request.states_filter), types: lower(&request.types_filter) };
    let mut groups = Vec::new();
    let mut error_code = ErrorCode::None;
    for partition in node.groups.partitions() {
        match node.groups.ask_partition(partition, Request::List(list.clone())).await {
            Ok(Reply::List(listed)) => groups.extend(listed.into_iter().map(|listed| ListedGroup {
                group_id: (&*listed.group).into(),
                protocol_type: listed.protocol_type.into(),
                group_state: Str::from_static(listed.state),
                group_type: Str::from_static(listed.kind),
            })),
            Ok(_) => unreachable!("a list is answered as one"),
            // Partitions that others lead are theirs to tell of.
            Err(CoordinatorError::NotCoordinator) => {}
            Err(error) => error_code = errors::coordinator(error),
        }
    }
    if error_code.is_error() {
        groups.clear();
    }
    ListGroupsResponse { error_code: error_code.code(), groups, ..Default::default() }.into()
}
