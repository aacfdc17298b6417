//! What producers sent last, once more: a broker that knows its producers answers with where it has been all along.
//!
//! Not here: whether the log has grown by it: the audit that follows finds the record twice.

use bytes::Bytes;
use quipu_protocol::{ErrorCode, Response};
use quipu_sim::SimEnv;
use quipu_wire_client::requests::{self, TopicRef};

use super::{AUDITOR, Scene, client::Client, topics};
use crate::{history::LogIndex, plan};

/// How often an echo is tried.
const TRIES_MAX: u32 = 20;

/// The last batch of a producer in a log.
#[derive(Clone)]
pub(super) struct Last {
    pub(super) topic: TopicRef,
    pub(super) partition: i32,
    pub(super) bytes: Bytes,
    pub(super) base_offset: i64,
}

impl Scene {
    pub(super) fn note_last(&self, client: u32, log: LogIndex, last: Last) {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert((client, log), last);
    }
}

/// Sends every producer's last batch to each log once more.
pub async fn echo(env: SimEnv, scene: Scene) {
    if scene.plan.may_forget_producers() {
        return;
    }
    let mut client = Client::new(&env, &scene, AUDITOR, &plan::Client::default());
    let all = scene.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    for ((producer, _), last) in all {
        // Who deletes records may delete what is known of their producer.
        if !scene.plan.is_shortened(&last.topic.name) {
            send(&mut client, producer, &last).await;
        }
    }
}

async fn send(client: &mut Client, producer: u32, last: &Last) {
    for _ in 0..TRIES_MAX {
        let request = requests::produce(&last.topic, -1, 5000, vec![(last.partition, last.bytes.clone())]);
        let known = topics::find(client, &last.topic.name).await;
        let leader = known.map_or(client.home(), |known| client.leader(&known, last.partition));
        let Some(Response::Produce(response)) = client.call_once_at(leader, 13, request).await else { continue };
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let Some(answer) = answer else { continue };
        let place = format!("{}-{}: the last batch of producer {producer}", last.topic.name, last.partition);
        match client.code(answer.error_code) {
            ErrorCode::None if answer.base_offset == last.base_offset => {}
            ErrorCode::None => {
                let detail = format!("{place}, sent again, is at {}, not at {}", answer.base_offset, last.base_offset);
                client.strange("producer-state", detail);
            }
            // The broker's clock has stepped since; it looks at that first.
            ErrorCode::InvalidTimestamp => {}
            code if client.scene.is_passing(code) => {
                client.known.remove(&last.topic.name);
                client.pause().await;
                continue;
            }
            code => client.strange("producer-state", format!("{place}, sent again, is refused with {}", code.name())),
        }
        return;
    }
}
