//! FindCoordinator (KIP-699): who coordinates a group. The groups' topic is made when it is first asked for.

use std::sync::Arc;

use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
};

use crate::{
    errors::Refusal,
    groups::{self, OFFSETS_TOPIC},
    node::{Node, View},
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, version: i16, request: FindCoordinatorRequest) -> Response {
    let keys = if version < 4 { vec![request.key] } else { request.coordinator_keys };
    let made = if request.key_type == GROUP && node.view().image.topic(OFFSETS_TOPIC).is_none() {
        let failed = super::topics::create_by_name(&node, vec![Str::from_static(OFFSETS_TOPIC)]).await;
        failed.into_iter().next().map_or(Ok(()), |(_, refusal)| Err(refusal))
    } else {
        Ok(())
    };
    let view = node.view();
    let answer = |key: Str| {
        let found = made.clone().map_err(not_available).and_then(|()| find(&view, request.key_type, &key));
        found.map_or_else(|refusal| refused(&key, &refusal), |found| Coordinator { key: key.clone(), ..found })
    };
    let mut coordinators: Vec<Coordinator> = keys.into_iter().map(answer).collect();
    if version >= 4 {
        return FindCoordinatorResponse { coordinators, ..Default::default() }.into();
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = coordinators.pop().unwrap_or_default();
    FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..Default::default() }.into()
}

/// The topic could not be made: the client asks again.
fn not_available(refusal: Refusal) -> Refusal {
    Refusal::new(
        ErrorCode::CoordinatorNotAvailable,
        format!("{OFFSETS_TOPIC} could not be created: {}", refusal.message),
    )
}

fn find<E: Env>(view: &View<E>, key_type: i8, key: &str) -> Result<Coordinator, Refusal> {
    match key_type {
        GROUP => {}
        TRANSACTION => {
            return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, "transactions are not supported yet"));
        }
        _ => return Err(Refusal::new(ErrorCode::InvalidRequest, "there are coordinators of groups only")),
    }
    let none = |what: &'static str| Refusal::new(ErrorCode::CoordinatorNotAvailable, what);
    let id = groups::coordinator_of(view, key).ok_or_else(|| none("the topic of groups is not there yet"))?;
    let leader = view.image.partition(id).and_then(|state| state.leader);
    let leader = leader.ok_or_else(|| none("the group's partition has no leader"))?;
    let broker = view.image.broker(leader).filter(|broker| !broker.fenced);
    let listener = broker.and_then(|broker| broker.registration.listener(crate::CLIENT_LISTENER));
    let listener = listener.ok_or_else(|| none("the leader of the group's partition is not there"))?;
    Ok(Coordinator {
        node_id: leader.get(),
        host: listener.host.as_str().into(),
        port: i32::from(listener.port),
        ..Default::default()
    })
}

fn refused(key: &Str, refusal: &Refusal) -> Coordinator {
    Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code: refusal.code.code(),
        error_message: refusal.text(),
        ..Default::default()
    }
}
