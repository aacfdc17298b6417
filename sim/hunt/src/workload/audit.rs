//! The one who looks at everything when nobody writes any more: which topics there are, and all of every log.

use quipu_protocol::{ErrorCode, Response};
use quipu_sim::SimEnv;
use quipu_wire_client::requests::{self, FetchBounds};

use super::{
    AUDITOR, Scene,
    admin::id_text,
    client::{Client, Known},
    consume::{EARLIEST, LATEST, NO_ANSWER, decode, list_or_why},
    topics,
};
use crate::{
    history::{BAD_CHECKSUM, Found, What},
    plan::{self, Loss},
};

/// A log that is said to have more has nothing to give.
const NOTHING: &str = "NOTHING_THERE";
/// How often a request is tried that fails, before the log counts as unreadable.
const TRIES_MAX: u32 = 20;
/// And where reading it may show damage, for which another replica has to lead first.
const TRIES_OF_CLUSTERS_MAX: u32 = 400;

/// Reads everything.
pub async fn audit(env: SimEnv, scene: Scene) {
    let mut client = Client::new(&env, &scene, AUDITOR, &plan::Client::default());
    topics::refresh(&mut client).await;
    let known: Vec<Known> = client.known.values().cloned().collect();
    let ids = known.iter().map(|known| id_text(known.topic.id)).collect();
    scene.recorder.note(AUDITOR, scene.now(), What::Topics { ids });
    // What the broker itself writes says nothing of who sent what.
    for topic in known.iter().filter(|known| !known.topic.name.starts_with("__")) {
        for partition in 0..topic.partitions {
            read_log(&mut client, topic, partition).await;
        }
    }
}

async fn read_log(client: &mut Client, known: &Known, partition: i32) {
    let log = client.log(known, partition);
    let op = client.scene.recorder.invoke(
        AUDITOR,
        client.scene.now(),
        What::Audit { log, start: 0, end: 0, records: Vec::new() },
    );
    let first = offset(client, known, partition, EARLIEST).await;
    let (first, last) = match (first, offset(client, known, partition, LATEST).await) {
        (Ok(first), Ok(last)) => (first, last),
        (Err(why), _) | (_, Err(why)) => return unreadable(client, known, partition, 0, why),
    };
    let mut all: Vec<Found> = Vec::new();
    let mut next = first;
    while next < last {
        match fetch(client, known, partition, next).await {
            Ok(records) => {
                let more: Vec<Found> = records.into_iter().filter(|found| found.offset >= next).collect();
                let Some(end) = more.last().map(|found| found.offset + 1) else {
                    client
                        .strange("liveness", format!("{}-{partition}: nothing at {next} of {last}", known.topic.name));
                    break;
                };
                next = end;
                all.extend(more);
            }
            // Where nothing may be lost it is not: it is read again after a cold start, when everything is checked.
            Err(BAD_CHECKSUM) if client.scene.plan.budget.loss == Loss::None && !client.scene.must_be_sound() => return,
            Err(why) => {
                unreadable(client, known, partition, next, why);
                return;
            }
        }
    }
    let now = client.scene.now();
    client.scene.recorder.complete(op, now, crate::history::Outcome::Ok, |what| {
        *what = What::Audit { log, start: first, end: last, records: all };
    });
}

fn unreadable(client: &Client, known: &Known, partition: i32, from: i64, why: &str) {
    let log = client.log(known, partition);
    let what = What::Unreadable { log, from, why: why.to_owned() };
    client.scene.recorder.note(AUDITOR, client.scene.now(), what);
}

fn tries_max(client: &Client) -> u32 {
    if client.scene.plan.config.is_cluster() { TRIES_OF_CLUSTERS_MAX } else { TRIES_MAX }
}

async fn offset(client: &mut Client, known: &Known, partition: i32, timestamp: i64) -> Result<i64, &'static str> {
    let mut why = NO_ANSWER;
    let mut known = known.clone();
    for tried in 0..tries_max(client) {
        if tried > 0 {
            try_again(client, &mut known).await;
        }
        match list_or_why(client, &known, partition, timestamp).await {
            Ok(offset) => return Ok(offset),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Another may lead by now: one whose disk is found to be damaged gives its partitions away.
async fn try_again(client: &mut Client, known: &mut Known) {
    client.pause().await;
    topics::refresh(client).await;
    if let Some(now) = client.known.get(&known.topic.name).filter(|now| now.id() == known.id()) {
        known.leaders.clone_from(&now.leaders);
    }
}

async fn fetch(client: &mut Client, known: &Known, partition: i32, from: i64) -> Result<Vec<Found>, &'static str> {
    let mut why = NO_ANSWER;
    let mut known = known.clone();
    for tried in 0..tries_max(client) {
        if tried > 0 {
            try_again(client, &mut known).await;
        }
        let request = requests::fetch(&known.topic, &[(partition, from)], FetchBounds::NOW);
        let leader = client.leader(&known, partition);
        let Some(Response::Fetch(response)) = client.call_once_at(leader, 17, request).await else { continue };
        let Some(data) = response.responses.first().and_then(|topic| topic.partitions.first()) else { continue };
        match client.code(data.error_code) {
            ErrorCode::None => match decode(client, &known, data) {
                // What is committed is not read before it is durable at the leader as well.
                Some(records) if records.is_empty() => why = NOTHING,
                records => return records.ok_or(BAD_CHECKSUM),
            },
            code => why = code.name(),
        }
    }
    Err(why)
}
