//! How the coordinator is asked: found first, if nobody knows it.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_base::BrokerId;
use quipu_env::Env;
use tokio::sync::oneshot;

use super::super::ledger::Ask;
use crate::{
    Client, ClientError, CoordinatorKind,
    connection::{Answer, Call, ReplyTo},
    pool::{Pool, Target},
};

/// Who was asked, if anybody was found, and the reply.
pub(super) type Asked = (Option<BrokerId>, Result<Answer, ClientError>);

/// Finds the coordinator if need be, and asks it by the member's own connections.
pub(super) async fn ask<E: Env>(
    client: Client<E>,
    pool: Arc<Mutex<Pool<E>>>,
    group: String,
    known: Option<BrokerId>,
    ask: Ask,
    patience: Duration,
) -> Asked {
    let broker = match known {
        Some(broker) => broker,
        None => match client.admin().coordinator_once(CoordinatorKind::Group, &group).await {
            Ok(found) => found.id,
            Err(error) => return (None, Err(error)),
        },
    };
    if !client.cluster().brokers.contains_key(&broker) {
        // The coordinator may be younger than what is known.
        drop(client.refresh(&[]).await);
    }
    let outcome = call(&pool, broker, ask, patience).await;
    (Some(broker), outcome)
}

/// Tells the coordinator something by these connections, or by the client's own. Nobody minds if it can't be told: the session ends by
/// itself.
pub(super) async fn told<E: Env>(
    client: Client<E>,
    pool: Option<Arc<Mutex<Pool<E>>>>,
    group: String,
    known: Option<BrokerId>,
    ask: Ask,
) {
    let broker = match known {
        Some(broker) => Ok(broker),
        None => client.admin().coordinator_once(CoordinatorKind::Group, &group).await.map(|found| found.id),
    };
    let Ok(broker) = broker else { return };
    match pool {
        Some(pool) => drop(call(&pool, broker, ask, client.config().request_timeout).await),
        None => drop(client.call(Target::Broker(broker), ask.request, ask.versions).await),
    }
}

async fn call<E: Env>(
    pool: &Mutex<Pool<E>>,
    broker: BrokerId,
    ask: Ask,
    patience: Duration,
) -> Result<Answer, ClientError> {
    let (done, outcome) = oneshot::channel();
    // An error means that nobody waits any more.
    let reply = ReplyTo::new(move |outcome| drop(done.send(outcome)));
    let call = Call { request: ask.request, versions: ask.versions, patience, has_reply: true, reply };
    pool.lock().unwrap_or_else(PoisonError::into_inner).call(Target::Broker(broker), call);
    let outcome = outcome.await.unwrap_or(Err(ClientError::Closed))?;
    outcome.ok_or(ClientError::Closed)
}
