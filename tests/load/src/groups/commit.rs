//! Groups of one member each that commit one offset once a second, spread evenly over the second.
//!
//! Latency counts from the time at which a commit was to be sent. A connection serves many groups, one commit at a time, as few as
//! leave it idle most of the time. Read [`super::grow`] next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quipu_env::{Clock, Env, Instant};
use quipu_env_tokio::TokioEnv;
use quipu_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use quipu_testkit::Result;
use serde_json::{Value, json};

use super::{Link, ask, check, connect, cpu_seconds, enter, on_one_thread, settle, together, wait_for_coordinator};
use crate::stats::{self, Latencies};

/// Groups of one connection: few, so that a commit seldom waits for the reply to another.
const GROUPS_PER_LINK: usize = 4;

/// A group's one member.
struct Only {
    number: usize,
    group: String,
    member: String,
    generation: i32,
}

/// Runs the workload: `groups` groups for `seconds`; the CPU is that of the processes `pids` meanwhile.
pub(crate) fn run(address: SocketAddr, topic: &str, groups: usize, seconds: u32, pids: Vec<u32>) -> Result<Value> {
    let topic: Arc<str> = topic.into();
    on_one_thread(move |env| async move {
        wait_for_coordinator(&env, &mut connect(&env, address).await?, &name(0)).await?;
        let count = groups.div_ceil(GROUPS_PER_LINK);
        let shares = (0..count).map(|link| (link..groups).step_by(count).collect::<Vec<_>>()).collect();
        let crews = together(&env, shares, move |env, share| crew(env, address, share)).await?;
        let before = cpu_seconds(&pids)?;
        let begun = env.clock().now();
        let work = |env, crew| commits(env, crew, Arc::clone(&topic), begun, groups, seconds);
        let all = together(&env, crews, work).await?;
        let took = env.clock().now() - begun;
        let cpu = cpu_seconds(&pids)? - before;
        let mut latencies = Latencies::default();
        all.into_iter().for_each(|each| latencies.append(each));
        let done = json!({ "groups": groups, "commits": latencies.count(), "seconds": took.as_secs_f64(), "cpu_seconds": cpu });
        Ok(stats::merge(done, latencies.into_json()))
    })
}

fn name(number: usize) -> String {
    format!("lonely-{number:05}")
}

/// A connection, and its groups' members, which have joined.
async fn crew(env: TokioEnv, address: SocketAddr, share: Vec<usize>) -> Result<(Link, Vec<Only>)> {
    let mut link = connect(&env, address).await?;
    let mut members = Vec::new();
    for number in share {
        let group = name(number);
        let joined = enter(&env, &mut link, &group, String::new()).await?;
        check(settle(&mut link, &group, &joined).await?, "SyncGroup")?;
        members.push(Only { number, group, member: joined.member_id.to_string(), generation: joined.generation_id });
    }
    Ok((link, members))
}

async fn commits(
    env: TokioEnv,
    (mut link, members): (Link, Vec<Only>),
    topic: Arc<str>,
    begun: Instant,
    groups: usize,
    seconds: u32,
) -> Result<Latencies> {
    let mut latencies = Latencies::with_capacity(members.len() * usize::try_from(seconds).unwrap_or(0));
    for second in 0..seconds {
        for only in &members {
            let part = Duration::from_secs(1).mul_f64(only.number as f64 / groups as f64);
            let intended = begun + Duration::from_secs(u64::from(second)) + part;
            // The rate is the workload: this sleep is its clock.
            env.clock().sleep_until(intended).await;
            commit(&mut link, only, &topic, i64::from(second)).await?;
            latencies.add(env.clock().now() - intended);
        }
    }
    Ok(latencies)
}

async fn commit(link: &mut Link, only: &Only, topic: &str, offset: i64) -> Result<()> {
    let partition = OffsetCommitRequestPartition { partition_index: 0, committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: only.group.as_str().into(),
        generation_id_or_member_epoch: only.generation,
        member_id: only.member.as_str().into(),
        topics: vec![topic],
        ..Default::default()
    };
    let reply = ask!(link, 7, OffsetCommit, request)?;
    let codes = reply.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    codes.into_iter().try_for_each(|code| check(code, "OffsetCommit"))
}
