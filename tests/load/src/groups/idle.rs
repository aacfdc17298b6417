//! Polls through a fetch session of partitions that have nothing new: what they cost the broker and the network.
//!
//! The session is made once with every partition; each poll after that names none, and is answered at once. Read `xtask/src/bench`
//! next.

use std::net::SocketAddr;

use quipu_env::{Clock, Env};
use quipu_protocol::Response;
use quipu_protocol::messages::fetch::FetchRequest;
use quipu_testkit::{Failure, Result};
use quipu_wire_client::requests::{self, FetchBounds};
use serde_json::{Value, json};

use super::{Link, ask, check, connect, cpu_seconds, on_one_thread, topic};

/// Runs the workload.
pub(crate) fn run(address: SocketAddr, name: &str, partitions: i32, polls: u32, pids: Vec<u32>) -> Result<Value> {
    let name = name.to_owned();
    on_one_thread(move |env| async move {
        let mut link = connect(&env, address).await?;
        let topic = topic(&mut link, &name).await?;
        let from: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, 0)).collect();
        let first = FetchRequest { session_epoch: 0, ..requests::fetch(&topic, &from, FetchBounds::NOW) };
        let reply = ask!(link, 16, Fetch, first)?;
        check(reply.error_code, "Fetch")?;
        if reply.session_id == 0 {
            return Err(Failure::new("the broker gives no fetch session"));
        }
        for epoch in 1..=SETTLE {
            poll(&mut link, reply.session_id, epoch).await?;
        }
        let before = cpu_seconds(&pids)?;
        let begun = env.clock().now();
        let mut bytes = 0;
        for epoch in (SETTLE + 1..).take(usize::try_from(polls).unwrap_or(0)) {
            bytes += poll(&mut link, reply.session_id, epoch).await?;
        }
        let seconds = (env.clock().now() - begun).as_secs_f64();
        let cpu = cpu_seconds(&pids)? - before;
        Ok(json!({ "polls": polls, "reply_bytes": bytes, "seconds": seconds, "cpu_seconds": cpu }))
    })
}

/// Polls before it counts: a virtual machine compiles its hot paths first.
const SETTLE: i32 = 2000;

/// One poll; the reply's bytes on the wire.
async fn poll(link: &mut Link, session_id: i32, session_epoch: i32) -> Result<usize> {
    let request = FetchRequest { session_id, session_epoch, max_bytes: 1 << 20, ..Default::default() };
    link.send(16, request).await.map_err(Failure::context("Fetch"))?;
    link.expect_no_reply();
    let frame = link.receive_frame().await.map_err(Failure::context("Fetch"))?;
    let bytes = 4 + frame.len();
    let (_, reply) = quipu_protocol::frame::decode_response(frame, quipu_protocol::ApiKey::Fetch, 16)
        .map_err(Failure::context("the reply to a fetch"))?;
    let Response::Fetch(reply) = reply else { return Err(Failure::new("Fetch was answered by another reply")) };
    check(reply.error_code, "Fetch")?;
    if reply.responses.is_empty() { Ok(bytes) } else { Err(Failure::new("an idle partition is in the reply")) }
}
