//! A consumer: fetches all partitions of a topic from where it stands, and goes on from there.
//!
//! Invariants
//! - It stands behind the last record that it was given, or where it has sought to; nothing else moves it.
//! - Records below where it stands (a batch may begin there) are looked at, but are not part of what it polled.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use quipu_base::{PartitionIndex, TopicIdPartition};
use quipu_protocol::{
    ErrorCode, Records, Response,
    messages::fetch::{FetchResponse, PartitionData},
};
use quipu_records::Batches;
use quipu_wire_client::requests::{self, FetchBounds};

use super::{
    client::{Client, Known},
    record, topics,
};
use crate::{
    history::{Found, LogIndex, OpIndex, Outcome, Value, What},
    plan::Loss,
};

/// Versions of ListOffsets.
const LIST_VERSION: i16 = 7;
/// Of ListOffsets: the first offset.
pub(super) const EARLIEST: i64 = -2;
/// Why nothing is known where nothing came back.
pub(super) const NO_ANSWER: &str = "no answer";
/// Of ListOffsets: the high watermark.
pub(super) const LATEST: i64 = -1;
/// How long a fetch waits at most where several leaders are asked in turn, milliseconds.
const WAIT_MS: i32 = 200;
/// How long a follower for whom records may be lost, or rotten for a while, looks for the next one after the workload is over.
const LAST_LOOKS: Duration = Duration::from_secs(60);

/// A partition as it is asked for.
struct Asked {
    partition: i32,
    log: LogIndex,
    from: i64,
    op: OpIndex,
}

/// What a poll came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Polled {
    /// The topic isn't there.
    NoTopic,
    /// There may be more.
    Some,
    /// It stands at the end of every partition.
    End,
}

/// Polls until the workload is over, and then to the end of everything.
pub(super) async fn follow(client: &mut Client, topic: &str) {
    while !client.scene.is_over() {
        if poll_once(client, topic).await == Polled::NoTopic {
            client.pause().await;
        }
        client.rest().await;
    }
    let stood = |client: &Client| client.positions.clone();
    let (mut stands, mut since) = (stood(client), client.scene.now());
    while poll_once(client, topic).await == Polled::Some {
        let now = client.scene.now();
        if stands != stood(client) {
            (stands, since) = (stood(client), now);
        }
        // What can't be read is told of, by whoever reads everything at the end as well.
        let is_late = u128::from(now - since) > LAST_LOOKS.as_nanos();
        if is_late && client.scene.may_be_rotten() {
            return;
        }
    }
}

/// Polls once.
pub(super) async fn poll(client: &mut Client, topic: &str) {
    if poll_once(client, topic).await == Polled::NoTopic {
        client.pause().await;
    }
}

async fn poll_once(client: &mut Client, topic: &str) -> Polled {
    let Some(known) = topics::find(client, topic).await else { return Polled::NoTopic };
    let mut by_leader: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
    for partition in 0..known.partitions {
        by_leader.entry(client.leader(&known, partition)).or_default().push(partition);
    }
    let mut all = Polled::End;
    for (leader, partitions) in by_leader {
        match poll_at(client, topic, &known, leader, &partitions).await {
            Polled::End => {}
            polled => all = polled,
        }
    }
    all
}

/// Polls partitions of one leader once.
async fn poll_at(client: &mut Client, topic: &str, known: &Known, leader: u32, partitions: &[i32]) -> Polled {
    let Some(asked) = ask(client, known, leader, partitions).await else {
        client.known.remove(topic);
        client.pause().await;
        return Polled::Some;
    };
    let from: Vec<(i32, i64)> = asked.iter().map(|asked| (asked.partition, asked.from)).collect();
    let bounds = FetchBounds {
        min_bytes: client.spec.fetch_min_bytes,
        max_bytes: client.spec.fetch_max_bytes,
        partition_max_bytes: client.spec.partition_max_bytes,
        // One leader after the other is asked.
        max_wait_ms: if client.scene.brokers() > 1 {
            client.spec.fetch_wait_ms.min(WAIT_MS)
        } else {
            client.spec.fetch_wait_ms
        },
    };
    let mut request = requests::fetch(&known.topic, &from, bounds);
    request.isolation_level = i8::from(client.spec.read_committed);
    let version = client.version_for(topic, client.spec.fetch_version, 13);
    let patience = client.patience() + Duration::from_millis(u64::try_from(client.spec.fetch_wait_ms).unwrap_or(0));
    if let Some(connection) = client.connection_to(leader).await {
        connection.set_patience(patience);
    }
    match client.call_once_at(leader, version, request).await {
        Some(Response::Fetch(response)) => take_in(client, known, &asked, &response).await,
        _ => Polled::Some,
    }
}

/// Notes what is asked; none if that leader can't be reached.
async fn ask(client: &mut Client, known: &Known, leader: u32, partitions: &[i32]) -> Option<Vec<Asked>> {
    // Connected before: what becomes known while it connects is not what the broker was asked after.
    client.connection_to(leader).await?;
    let now = client.scene.now();
    let mut all = Vec::new();
    for partition in partitions.iter().copied() {
        let log = client.log(known, partition);
        let from = *client.positions.entry(log).or_insert(0);
        let op = client.scene.recorder.invoke(client.number, now, What::poll(log, from));
        all.push(Asked { partition, log, from, op });
    }
    Some(all)
}

async fn take_in(client: &mut Client, known: &Known, asked: &[Asked], response: &FetchResponse) -> Polled {
    let code = client.code(response.error_code);
    if code != ErrorCode::None {
        client.unexpected("Fetch", code, None);
        return Polled::Some;
    }
    let mut polled = Polled::End;
    let mut lost = Vec::new();
    let mut is_stale = false;
    for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
        let Some(one) = asked.iter().find(|asked| asked.partition == data.partition_index) else {
            client.strange("broken-promise", format!("a fetch has partition {}, not asked for", data.partition_index));
            continue;
        };
        match client.code(data.error_code) {
            ErrorCode::None => {
                let end = take_in_records(client, known, one, data);
                if end.is_none() {
                    // The broker may look at it again only after a while.
                    client.pause().await;
                }
                if end.is_none_or(|end| end < data.high_watermark) {
                    polled = Polled::Some;
                }
            }
            code => {
                client.scene.recorder.complete(one.op, client.scene.now(), Outcome::Fail, |_| {});
                match code {
                    ErrorCode::OffsetOutOfRange => lost.push((one.partition, one.log)),
                    ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => is_stale = true,
                    code if client.scene.is_passing(code) => {
                        client.known.remove(&known.topic.name);
                        client.pause().await;
                    }
                    code => client.unexpected("Fetch", code, None),
                }
                polled = Polled::Some;
            }
        }
    }
    for (partition, log) in lost {
        let start = list(client, known, partition, EARLIEST).await;
        move_to(client, log, start.unwrap_or(0));
        client.pause().await;
    }
    if is_stale {
        client.known.remove(&known.topic.name);
        return Polled::NoTopic;
    }
    polled
}

/// Answers where the client stands now; none if what came can't be read.
fn take_in_records(client: &mut Client, known: &Known, asked: &Asked, data: &PartitionData) -> Option<i64> {
    let Some(mut found) = decode(client, known, data) else {
        client.scene.recorder.complete(asked.op, client.scene.now(), Outcome::Fail, |_| {});
        return None;
    };
    found.retain(|found| found.offset >= asked.from);
    let end = found.last().map_or(asked.from, |last| last.offset + 1);
    client.positions.insert(asked.log, end);
    client.scene.recorder.complete(asked.op, client.scene.now(), Outcome::Ok, |what| {
        if let What::Poll { records, stands, high_watermark, last_stable, log_start, .. } = what {
            (*records, *stands) = (found, end);
            (*high_watermark, *last_stable, *log_start) =
                (data.high_watermark, data.last_stable_offset, data.log_start_offset);
        }
    });
    Some(end)
}

/// The records of a reply; those that nobody sent are told of. None if a batch in it fails its checksum, or stands where none
/// can: with a disk that rots that may be, and whoever reads it knows.
pub(super) fn decode(client: &Client, known: &Known, data: &PartitionData) -> Option<Vec<Found>> {
    let records: Vec<(i64, Bytes)> = match requests::records_of(data) {
        Ok(records) => records,
        Err(error) => {
            if client.scene.must_be_sound() {
                let place = format!("{}-{}", known.topic.name, data.partition_index);
                client.strange("corrupt-read", format!("{place}: a batch that was served is no batch: {error}"));
            }
            return None;
        }
    };
    // A batch's base offset is in no checksum that a client knows of. A node checks what it reads, but what has been checked
    // lately is read from the page cache, where the model lets it rot.
    let is_in_order = records.is_sorted_by(|(one, _), (next, _)| one < next)
        && records.last().is_none_or(|(last, _)| *last < data.high_watermark);
    if !is_in_order && !client.scene.must_be_sound() {
        return None;
    }
    note_served(client, known, data);
    let mut found = Vec::with_capacity(records.len());
    for (offset, bytes) in records {
        match record::decode(&bytes, &known.topic.name, data.partition_index) {
            Ok(value) => found.push(Found { offset, value }),
            Err(why) => {
                let place = format!("{}-{} offset {offset}", known.topic.name, data.partition_index);
                client.strange("corrupt-read", format!("{place}: {why}"));
                // It takes its place, so that nobody takes it for a gap.
                found.push(Found {
                    offset,
                    value: Value { client: u32::MAX, number: u32::try_from(offset).unwrap_or(0) },
                });
            }
        }
    }
    Some(found)
}

/// Notes the batches of a reply, byte for byte; each place of a log holds one and the same for ever.
fn note_served(client: &Client, known: &Known, data: &PartitionData) {
    let index = data.partition_index;
    let partition = TopicIdPartition { topic_id: known.topic.id, partition: PartitionIndex(index) };
    let bytes = data.records.clone().and_then(Records::into_bytes).unwrap_or_default();
    for batch in Batches::new(bytes).flatten() {
        if !client.scene.note_served(partition, &batch) && client.scene.plan.budget.loss == Loss::None {
            let place = format!("{}-{index} offset {}", known.topic.name, batch.header().base_offset);
            client
                .strange("served-bytes", format!("{place}: the batch has other bytes than when it was served before"));
        }
    }
}

/// An offset of a partition by time; none if the broker does not say.
pub(super) async fn list(client: &mut Client, known: &Known, partition: i32, timestamp: i64) -> Option<i64> {
    list_or_why(client, known, partition, timestamp).await.ok()
}

/// An offset of a partition by time, or the name of the error that the broker answers.
pub(super) async fn list_or_why(
    client: &mut Client,
    known: &Known,
    partition: i32,
    timestamp: i64,
) -> Result<i64, &'static str> {
    let request = requests::list_offsets(&known.topic, [partition], timestamp);
    let leader = client.leader(known, partition);
    let answer = client.call_once_at(leader, LIST_VERSION, request).await;
    let Some(Response::ListOffsets(response)) = answer else { return Err(NO_ANSWER) };
    let answer = response.topics.first().and_then(|topic| topic.partitions.first()).ok_or(NO_ANSWER)?;
    let code = client.code(answer.error_code);
    match code {
        ErrorCode::None => return Ok(answer.offset),
        ErrorCode::UnknownTopicOrPartition | ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower => {
            client.known.remove(&known.topic.name);
        }
        code if client.scene.is_passing(code) => {}
        code if client.scene.plan.budget.loss > Loss::None && code == ErrorCode::OffsetNotAvailable => {}
        code => client.unexpected("ListOffsets", code, None),
    }
    Err(code.name())
}

fn move_to(client: &mut Client, log: LogIndex, to: i64) {
    client.positions.insert(log, to);
    client.scene.recorder.note(client.number, client.scene.now(), What::Seek { log, to });
}

/// Goes to so many thousandths of each partition.
pub(super) async fn seek(client: &mut Client, topic: &str, permille: u32) {
    let Some(known) = topics::find(client, topic).await else { return };
    for partition in 0..known.partitions {
        let (Some(start), Some(end)) =
            (list(client, &known, partition, EARLIEST).await, list(client, &known, partition, LATEST).await)
        else {
            continue;
        };
        let log = client.log(&known, partition);
        let to = start + (end - start).max(0) * i64::from(permille.min(1000)) / 1000;
        move_to(client, log, to);
    }
}
