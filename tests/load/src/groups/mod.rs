//! Group workloads: members by the hundred and the thousand, each a few raw frames on a connection.
//!
//! - [`join`]: members of one classic group until all are in one generation. [`commit`]: groups that commit once a second.
//! - [`grow`]: one member more for a group of the consumer protocol. [`idle`]: polls of a fetch session without records.
//!
//! Everything runs on one thread, so that the loader takes no more than one of the machine's cores. Not here: the failover of a
//! coordinator and compaction, which `xtask/src/bench/groups` drives. Read [`join`] next.

pub(crate) mod commit;
pub(crate) mod grow;
pub(crate) mod idle;
pub(crate) mod join;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quipu_env::{Clock, Env, ShardId, Task};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_protocol::ErrorCode;
use quipu_protocol::messages::find_coordinator::FindCoordinatorRequest;
use quipu_protocol::messages::heartbeat::HeartbeatRequest;
use quipu_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use quipu_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use quipu_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use quipu_testkit::{Failure, Result, process};
use quipu_wire_client::Connection;
use quipu_wire_client::requests::TopicRef;

/// One connection of the load.
pub(crate) type Link = Connection<TokioEnv>;

/// A reply may take this long: a join waits for the others.
const PATIENCE: Duration = Duration::from_secs(300);
/// Members are not missed while a workload runs.
const SESSION_MS: i32 = 300_000;
/// Between two attempts while a coordinator is loading.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends one request; the reply is of the kind named.
macro_rules! ask {
    ($link:expr, $version:expr, $kind:ident, $request:expr) => {
        match $link.call($version, $request).await {
            Ok(::quipu_protocol::Response::$kind(reply)) => Ok(reply),
            Ok(_) => Err(::quipu_testkit::Failure::new(concat!(stringify!($kind), " was answered by another reply"))),
            Err(error) => Err(::quipu_testkit::Failure::new(format!(concat!(stringify!($kind), ": {}"), error))),
        }
    };
}
pub(crate) use ask;

/// Runs `work` on a runtime of one thread.
pub(crate) fn on_one_thread<T, F>(work: impl FnOnce(TokioEnv) -> F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let runtime = TokioEnv::start(Options { shards: 1 }).map_err(Failure::context("cannot start a thread"))?;
    runtime.block_on(work(runtime.env()))
}

/// Does `work` on all of `items` at once; their results in the order of the items, or the first failure.
pub(crate) async fn together<I, T, F>(env: &TokioEnv, items: Vec<I>, work: impl Fn(TokioEnv, I) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let done: Arc<Mutex<Vec<Option<Result<T>>>>> = Arc::new(Mutex::new(items.iter().map(|_| None).collect()));
    let mut tasks = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        let (work, done) = (work(env.clone(), item), Arc::clone(&done));
        tasks.push(env.spawn(ShardId(0), "load", async move {
            let result = work.await;
            done.lock().expect("nobody panics with the lock")[place] = Some(result);
        }));
    }
    for task in tasks {
        task.join().await;
    }
    let mut done = done.lock().expect("nobody panics with the lock");
    done.drain(..).map(|result| result.expect("every task has ended")).collect()
}

/// Connects.
pub(crate) async fn connect(env: &TokioEnv, address: SocketAddr) -> Result<Link> {
    Connection::connect(env, address, PATIENCE).await.map_err(Failure::context(format!("cannot connect to {address}")))
}

/// The topic's id.
pub(crate) async fn topic(link: &mut Link, name: &str) -> Result<TopicRef> {
    let wanted = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![wanted]), ..Default::default() };
    let reply = ask!(link, 12, Metadata, request)?;
    let found = reply.topics.first().ok_or_else(|| Failure::new(format!("{name} is not there")))?;
    check(found.error_code, name)?;
    Ok(TopicRef { name: name.to_owned(), id: found.topic_id })
}

/// An error unless `code` is 0.
pub(crate) fn check(code: i16, what: &str) -> Result<()> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        known => Err(Failure::new(format!("{what}: error {code} ({known:?})"))),
    }
}

fn is(code: i16, wanted: ErrorCode) -> bool {
    ErrorCode::from_code(code) == Some(wanted)
}

/// Whether the coordinator is not there yet.
fn is_loading(code: i16) -> bool {
    [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator]
        .into_iter()
        .any(|wanted| is(code, wanted))
}

/// Waits until the group's coordinator answers.
pub(crate) async fn wait_for_coordinator(env: &TokioEnv, link: &mut Link, group: &str) -> Result<()> {
    let deadline = env.clock().now() + Duration::from_secs(60);
    loop {
        let find = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        let found = ask!(link, 2, FindCoordinator, find)?.error_code;
        let stranger = HeartbeatRequest { group_id: group.into(), member_id: "nobody".into(), ..Default::default() };
        let beat = ask!(link, 3, Heartbeat, stranger)?.error_code;
        if found == 0 && !is_loading(beat) {
            return Ok(());
        }
        if env.clock().now() > deadline {
            return Err(Failure::new(format!("no coordinator for {group}: errors {found} and {beat}")));
        }
        env.clock().sleep(PAUSE).await;
    }
}

/// Joins a classic group, for the first time with an empty `member`.
pub(crate) async fn enter(
    env: &TokioEnv,
    link: &mut Link,
    group: &str,
    mut member: String,
) -> Result<JoinGroupResponse> {
    loop {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0; 32].into() };
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: member.as_str().into(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        let reply = ask!(link, 5, JoinGroup, request)?;
        if is(reply.error_code, ErrorCode::MemberIdRequired) {
            member = reply.member_id.to_string();
        } else if is(reply.error_code, ErrorCode::UnknownMemberId) {
            member = String::new();
        } else if is_loading(reply.error_code) {
            env.clock().sleep(PAUSE).await;
        } else {
            check(reply.error_code, "JoinGroup")?;
            return Ok(reply);
        }
    }
}

/// Hands out 32 bytes to each member, or waits for them; gives the error code.
pub(crate) async fn settle(link: &mut Link, group: &str, joined: &JoinGroupResponse) -> Result<i16> {
    let assignments = joined.members.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: vec![0; 32].into(),
    });
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: assignments.collect(),
        ..Default::default()
    };
    Ok(ask!(link, 3, SyncGroup, request)?.error_code)
}

/// CPU seconds that these processes have used so far.
pub(crate) fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| process::cpu_seconds(*pid)).sum()
}
