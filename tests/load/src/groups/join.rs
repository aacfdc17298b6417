//! Members that join one classic group at once. It has converged when every one of them has its assignment of the same generation,
//! to which all belong.
//!
//! A member does what clients do: it joins, takes its assignment, and beats until it is told of another rebalance. It beats ten times
//! a second, so that what is measured is the coordinator and not the clients' patience.
//!
//! Read [`super::commit`] next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use quipu_env::{Clock, Env};
use quipu_env_tokio::TokioEnv;
use quipu_protocol::ErrorCode;
use quipu_protocol::messages::heartbeat::HeartbeatRequest;
use quipu_testkit::Result;
use serde_json::{Value, json};

use super::{Link, ask, check, connect, enter, is, on_one_thread, settle, together, wait_for_coordinator};

const GROUP: &str = "crowd";
const BEAT: Duration = Duration::from_millis(100);

/// Runs the workload.
pub(crate) fn run(address: SocketAddr, members: usize) -> Result<Value> {
    on_one_thread(move |env| async move {
        wait_for_coordinator(&env, &mut connect(&env, address).await?, GROUP).await?;
        let links =
            together(&env, vec![(); members], move |env, ()| async move { connect(&env, address).await }).await?;
        // No generation has this number.
        let complete = Arc::new(AtomicI32::new(-1));
        let begun = env.clock().now();
        let rounds = together(&env, links, |env, link| member(env, link, members, Arc::clone(&complete))).await?;
        let seconds = (env.clock().now() - begun).as_secs_f64();
        let joins: usize = rounds.into_iter().sum();
        Ok(
            json!({ "members": members, "seconds": seconds, "joins": joins, "generation": complete.load(Ordering::Relaxed) }),
        )
    })
}

/// One member until the group has converged; how often it joined.
async fn member(env: TokioEnv, mut link: Link, members: usize, complete: Arc<AtomicI32>) -> Result<usize> {
    let mut id = String::new();
    let mut joins = 0;
    loop {
        let joined = enter(&env, &mut link, GROUP, id).await?;
        joins += 1;
        id = joined.member_id.to_string();
        let generation = joined.generation_id;
        if joined.members.len() == members {
            // Set before anybody of this generation is given its assignment.
            complete.store(generation, Ordering::Relaxed);
        }
        let mut code = settle(&mut link, GROUP, &joined).await?;
        while code == 0 {
            if complete.load(Ordering::Relaxed) == generation {
                return Ok(joins);
            }
            env.clock().sleep(BEAT).await;
            let beat = HeartbeatRequest {
                group_id: GROUP.into(),
                generation_id: generation,
                member_id: joined.member_id.clone(),
                ..Default::default()
            };
            code = ask!(link, 3, Heartbeat, beat)?.error_code;
        }
        if is(code, ErrorCode::UnknownMemberId) {
            id = String::new();
        } else if !is(code, ErrorCode::RebalanceInProgress) && !is(code, ErrorCode::IllegalGeneration) {
            check(code, "a member of the group")?;
        }
    }
}
