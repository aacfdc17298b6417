//! A group of the consumer protocol that has come to rest is given one member more.
//!
//! It has come to rest when every partition belongs to one member and all members are in the same epoch. A member gives up at once what
//! it is told to give up, and says so, as real clients do; otherwise it beats as often as the coordinator asks for. A member pauses if
//! a partition is taken from it that it has again at the end. Read [`super::idle`] next.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quipu_env::{Clock, Env, Instant, ShardId, Task};
use quipu_env_tokio::TokioEnv;
use quipu_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use quipu_testkit::{Failure, Result};
use quipu_wire_client::requests::TopicRef;
use serde_json::{Value, json};

use super::{Link, ask, check, connect, on_one_thread, topic, wait_for_coordinator};

const GROUP: &str = "growing";
/// The group comes to rest within this time.
const LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What a member has.
#[derive(Clone, Debug, Default)]
struct Held {
    epoch: i32,
    owned: BTreeSet<i32>,
    /// Everything that was ever taken from it.
    taken: BTreeSet<i32>,
    interval_ms: i32,
    failure: Option<String>,
}

type Shared = Arc<Mutex<Vec<Held>>>;

/// Runs the workload.
pub(crate) fn run(address: SocketAddr, name: &str, partitions: i32, members: usize) -> Result<Value> {
    let name = name.to_owned();
    on_one_thread(move |env| async move {
        let mut link = connect(&env, address).await?;
        wait_for_coordinator(&env, &mut link, GROUP).await?;
        let topic = topic(&mut link, &name).await?;
        let held: Shared = Arc::default();
        let mut tasks = Vec::new();
        for number in 0..members {
            tasks.push(start(&env, address, &topic, &held, number));
        }
        let formed = wait_for_rest(&env, &held, partitions).await?;
        // Half a beat later nobody has heard anything new, and the new member's beats fall between those of the others.
        let interval = Duration::from_millis(u64::try_from(snapshot(&held)[0].interval_ms).unwrap_or(0));
        env.clock().sleep(interval / 2).await;
        let before = snapshot(&held);
        held.lock().expect("nobody panics with the lock").iter_mut().for_each(|held| held.taken.clear());
        tasks.push(start(&env, address, &topic, &held, members));
        let grown = wait_for_rest(&env, &held, partitions).await?;
        let after = snapshot(&held);
        tasks.iter().for_each(Task::abort);
        let paused = after.iter().filter(|member| !member.taken.is_disjoint(&member.owned)).count();
        let gave = before.iter().zip(&after).filter(|(before, after)| before.owned != after.owned).count();
        let heartbeats = grown.as_secs_f64() / interval.as_secs_f64();
        Ok(json!({
            "members": members, "formed_seconds": formed.as_secs_f64(), "seconds": grown.as_secs_f64(),
            "interval_seconds": interval.as_secs_f64(), "heartbeats": heartbeats, "paused": paused, "gave_up": gave,
        }))
    })
}

fn snapshot(held: &Shared) -> Vec<Held> {
    held.lock().expect("nobody panics with the lock").clone()
}

async fn wait_for_rest(env: &TokioEnv, held: &Shared, partitions: i32) -> Result<Duration> {
    let begun = env.clock().now();
    loop {
        let now = snapshot(held);
        if let Some(failure) = now.iter().find_map(|held| held.failure.clone()) {
            return Err(Failure::new(failure));
        }
        let count: usize = now.iter().map(|held| held.owned.len()).sum();
        let owned: BTreeSet<i32> = now.iter().flat_map(|held| held.owned.iter().copied()).collect();
        let is_even = now.iter().all(|held| !held.owned.is_empty() && held.epoch == now[0].epoch);
        if is_even && count == owned.len() && owned.iter().copied().eq(0..partitions) {
            return Ok(env.clock().now() - begun);
        }
        if env.clock().now() - begun > LIMIT {
            return Err(Failure::new(format!("{count} of {partitions} partitions are owned after {LIMIT:?}")));
        }
        env.clock().sleep(LOOK).await;
    }
}

fn start(
    env: &TokioEnv,
    address: SocketAddr,
    topic: &TopicRef,
    held: &Shared,
    number: usize,
) -> <TokioEnv as Env>::Task {
    held.lock().expect("nobody panics with the lock").push(Held::default());
    let (spawned, topic, held) = (env.clone(), topic.clone(), Arc::clone(held));
    env.spawn(ShardId(0), "member", async move {
        if let Err(failure) = member(&spawned, address, &topic, &held, number).await {
            held.lock().expect("nobody panics with the lock")[number].failure = Some(failure.to_string());
        }
    })
}

async fn member(env: &TokioEnv, address: SocketAddr, topic: &TopicRef, held: &Shared, number: usize) -> Result<()> {
    let mut link = connect(env, address).await?;
    let first = ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![topic.name.as_str().into()]),
        topic_partitions: Some(Vec::new()),
        ..beat(number, 0)
    };
    let mut next = exchange(env, &mut link, first, held, number).await?;
    loop {
        let Held { epoch, owned, .. } = snapshot(held).swap_remove(number);
        let mut request = beat(number, epoch);
        if let Some(at) = next {
            env.clock().sleep_until(at).await;
        } else {
            let partitions = owned.into_iter().collect();
            request.topic_partitions = Some(vec![TopicPartitions { topic_id: topic.id, partitions }]);
        }
        next = exchange(env, &mut link, request, held, number).await?;
    }
}

fn beat(number: usize, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let member_id = format!("member-{number:04}");
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member_id.as_str().into(),
        member_epoch,
        ..Default::default()
    }
}

/// One heartbeat. When the next is due, or `None` if there is something to say at once.
async fn exchange(
    env: &TokioEnv,
    link: &mut Link,
    request: ConsumerGroupHeartbeatRequest,
    held: &Shared,
    number: usize,
) -> Result<Option<Instant>> {
    let reply: ConsumerGroupHeartbeatResponse = ask!(link, 1, ConsumerGroupHeartbeat, request)?;
    check(reply.error_code, "ConsumerGroupHeartbeat")?;
    let mut held = held.lock().expect("nobody panics with the lock");
    let held = &mut held[number];
    held.epoch = reply.member_epoch;
    held.interval_ms = reply.heartbeat_interval_ms;
    let interval = Duration::from_millis(u64::try_from(reply.heartbeat_interval_ms).unwrap_or(0));
    let mut next = Some(env.clock().now() + interval);
    if let Some(assignment) = reply.assignment {
        let assigned: BTreeSet<i32> =
            assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
        if assigned != held.owned {
            held.taken.extend(held.owned.difference(&assigned));
            held.owned = assigned;
            next = None;
        }
    }
    Ok(next)
}
