//! The library's consumer: reads all partitions of a topic, fast or slowly, with pauses, from wherever it is told to.
//!
//! Invariants
//! - The history has where the consumer stands by its own word: where it is left to the library (the start, the end, a time), by
//!   the first record that comes.
//! - When it was fetched what a poll gives, nobody knows: such polls tell no high watermark.
//!
//! What is read is held against the log's indexes now and then: a record's timestamp must lead to it or before it, and its
//! leader's epoch must not end before it.

use core::time::Duration;
use std::{collections::BTreeSet, sync::Arc};

use quipu_client::{
    Consumer, ConsumerConfig, ConsumerError, ConsumerRecord, Isolation, Offset, OffsetReset, OffsetSpec, Position,
    Timestamp, Topic, TopicPartition,
};
use quipu_env::{Clock, Env};
use quipu_protocol::{ApiKey, ErrorCode};
use quipu_sim::SimEnv;
use rand::RngExt;

use super::{super::record, Library, code_of};
use crate::{
    history::{Found, OpIndex, Outcome, Value, What},
    plan::{self, From},
};

/// How long a follower waits for the next record that is there, after the workload is over.
const LAST_LOOKS: Duration = Duration::from_secs(60);
/// One in so many polls waits so many times as long as a fetch.
const LONG_POLLS: u32 = 8;
/// One in so many records that are looked at is held against the indexes.
const INDEX_LOOKS: u32 = 16;
/// One in so many polls of a client that pauses, pauses or resumes a partition.
const PAUSES: u32 = 4;

/// A consumer of one topic.
pub(super) struct Reader {
    topic: Arc<Topic>,
    consumer: Consumer<SimEnv>,
    /// Partitions of which the next record tells where the consumer stands.
    unplaced: BTreeSet<TopicPartition>,
    /// Partitions that can't be read any more.
    given_up: BTreeSet<TopicPartition>,
    paused: Option<TopicPartition>,
}

fn config(spec: &plan::Client) -> ConsumerConfig {
    ConsumerConfig {
        isolation: if spec.read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
        offset_reset: if spec.client_resets { OffsetReset::Start } else { OffsetReset::Error },
        fetch_bytes_min: spec.fetch_min_bytes.max(1),
        fetch_bytes_max: spec.fetch_max_bytes.max(1),
        partition_bytes_max: spec.partition_max_bytes.max(1),
        fetch_wait_max: Duration::from_millis(u64::try_from(spec.fetch_wait_ms).unwrap_or(1).max(1)),
        prefetch_bytes: spec.client_prefetch_bytes,
        poll_records_max: spec.client_poll_records,
        ..ConsumerConfig::default()
    }
}

/// A partition as it was asked for.
struct Asked {
    partition: TopicPartition,
    op: OpIndex,
    /// Completed by the first record that comes.
    seek: Option<OpIndex>,
}

impl Library {
    pub(super) async fn poll(&mut self, topic: &str, times: u32) {
        let Some(mut reader) = self.reader(topic).await else { return };
        for _ in 0..times {
            let _any = self.poll_once(&mut reader).await;
        }
        self.readers.insert(topic.to_owned(), reader);
    }

    pub(super) async fn seek(&mut self, topic: &str, permille: u32) {
        let Some(mut reader) = self.reader(topic).await else { return };
        let partitions: Vec<TopicPartition> = reader.consumer.assignment().cloned().collect();
        for partition in partitions {
            let position = match permille {
                0 => Position::Start,
                1000 => Position::End,
                _ => {
                    let (Some(start), Some(end)) = (
                        self.listed(&partition, OffsetSpec::Earliest).await,
                        self.listed(&partition, OffsetSpec::Latest).await,
                    ) else {
                        continue;
                    };
                    Position::Offset(Offset(start.0 + (end.0 - start.0).max(0) * i64::from(permille.min(1000)) / 1000))
                }
            };
            self.go(&mut reader, &partition, position);
        }
        self.readers.insert(topic.to_owned(), reader);
    }

    pub(super) async fn follow(&mut self, topic: &str) {
        while !self.scene.is_over() {
            if let Some(mut reader) = self.reader(topic).await {
                self.pause_some(&mut reader);
                let _any = self.poll_once(&mut reader).await;
                self.readers.insert(topic.to_owned(), reader);
            } else {
                self.pause().await;
            }
            self.sleep_ms(self.spec.pace_ms).await;
        }
        let Some(mut reader) = self.reader(topic).await else { return };
        if let Some(paused) = reader.paused.take() {
            reader.consumer.resume(&paused).unwrap_or_else(|error| self.unassigned(&error));
        }
        let mut deadline = self.env.clock().now() + LAST_LOOKS;
        while self.env.clock().now() < deadline {
            if self.is_at_end(&reader).await {
                return;
            }
            if self.poll_once(&mut reader).await {
                deadline = self.env.clock().now() + LAST_LOOKS;
            }
        }
        if !self.scene.may_be_rotten() {
            self.strange(
                "liveness",
                format!("a consumer does not reach the end of {topic} and gets nothing for {LAST_LOOKS:?}"),
            );
        }
    }

    /// Whether it has read everything that there is.
    async fn is_at_end(&mut self, reader: &Reader) -> bool {
        let partitions: Vec<TopicPartition> = reader.consumer.assignment().cloned().collect();
        match reader.consumer.end_offsets(&partitions).await {
            Ok(ends) => {
                self.scene.reached(ApiKey::ListOffsets);
                let stands = |partition| reader.consumer.position(partition).ok().flatten();
                partitions.iter().zip(ends).all(|(partition, end)| stands(partition).is_some_and(|at| at >= end))
            }
            Err(error) => {
                // A topic that was lost with its disk has no end.
                let is_gone = matches!(&error, ConsumerError::Client { cause, .. }
                    if code_of(cause) == Some(ErrorCode::UnknownTopicOrPartition));
                self.pause().await;
                is_gone && self.loses()
            }
        }
    }

    /// The topic's reader, with all its partitions as far as the library knows; none if there is no such topic.
    async fn reader(&mut self, topic: &str) -> Option<Reader> {
        let known = self.find(topic).await?;
        let mut reader = match self.readers.remove(topic) {
            Some(reader) => reader,
            None => Reader {
                topic: Arc::clone(&known),
                consumer: self.client.consumer(config(&self.spec)).expect("the plan was checked"),
                unplaced: BTreeSet::new(),
                given_up: BTreeSet::new(),
                paused: None,
            },
        };
        let cluster = self.client.cluster();
        let newest = cluster.topic(topic).filter(|newest| newest.id == known.id).unwrap_or(&known);
        let all: Vec<TopicPartition> =
            newest.partitions.iter().map(|partition| Self::partition(topic, partition.index.0)).collect();
        for partition in all {
            if reader.consumer.position(&partition).is_err() && !reader.given_up.contains(&partition) {
                let position = match self.spec.client_from {
                    From::Zero => Position::Offset(Offset(0)),
                    From::Start => Position::Start,
                    From::End => Position::End,
                    From::Now => Position::Timestamp(Timestamp(self.env.clock().wall().0)),
                };
                reader.consumer.add(partition.clone(), position);
                self.placed(&mut reader, &partition, position);
            }
        }
        Some(reader)
    }

    fn go(&self, reader: &mut Reader, partition: &TopicPartition, position: Position) {
        match reader.consumer.seek(partition, position) {
            Ok(()) => self.placed(reader, partition, position),
            Err(error) => self.unassigned(&error),
        }
    }

    fn placed(&self, reader: &mut Reader, partition: &TopicPartition, position: Position) {
        if let Position::Offset(Offset(to)) = position {
            let log = self.log(&reader.topic, partition.partition.0);
            self.scene.recorder.note(self.number, self.scene.now(), What::Seek { log, to });
            reader.unplaced.remove(partition);
        } else {
            reader.unplaced.insert(partition.clone());
        }
    }

    fn unassigned(&self, error: &ConsumerError) {
        self.strange("broken-promise", format!("a partition that was assigned: {error}"));
    }

    fn pause_some(&mut self, reader: &mut Reader) {
        if !self.spec.client_pauses || self.rng.random_range(0..PAUSES) > 0 {
            return;
        }
        let done = match reader.paused.take() {
            Some(paused) => reader.consumer.resume(&paused),
            None => {
                let count = reader.consumer.assignment().count();
                let Some(place) = count.checked_sub(1).map(|last| self.rng.random_range(0..=last)) else { return };
                let Some(chosen) = reader.consumer.assignment().nth(place).cloned() else { return };
                reader.paused = Some(chosen.clone());
                reader.consumer.pause(&chosen)
            }
        };
        done.unwrap_or_else(|error| self.unassigned(&error));
    }

    /// Whether any record came.
    async fn poll_once(&mut self, reader: &mut Reader) -> bool {
        let asked = self.ask_all(reader);
        let mut wait = config(&self.spec).fetch_wait_max;
        if self.rng.random_range(0..LONG_POLLS) == 0 {
            wait *= LONG_POLLS;
        }
        match reader.consumer.poll(wait).await {
            Ok(records) => {
                if !records.is_empty() {
                    self.scene.reached(ApiKey::Fetch);
                }
                for asked in asked {
                    let is_own = |record: &&ConsumerRecord| record.partition == asked.partition.partition;
                    let own: Vec<&ConsumerRecord> = records.iter().filter(is_own).collect();
                    self.take_in(reader, &asked, &own);
                }
                self.look_at_indexes(reader, &records).await;
                !records.is_empty()
            }
            Err(error) => {
                for asked in asked {
                    self.scene.recorder.complete(asked.op, self.scene.now(), Outcome::Fail, |_| {});
                }
                self.handle(reader, error).await;
                false
            }
        }
    }

    /// Notes what is asked.
    fn ask_all(&self, reader: &Reader) -> Vec<Asked> {
        let now = self.scene.now();
        let ask = |partition: &TopicPartition| {
            let log = self.log(&reader.topic, partition.partition.0);
            let from = reader.consumer.position(partition).ok().flatten().map_or(-1, |at| at.0);
            let what = What::poll(log, from);
            let seek = reader
                .unplaced
                .contains(partition)
                .then(|| self.scene.recorder.invoke(self.number, now, What::Seek { log, to: -1 }));
            let op = self.scene.recorder.invoke(self.number, now, what);
            Asked { partition: partition.clone(), op, seek }
        };
        reader.consumer.assignment().map(ask).collect()
    }

    fn take_in(&self, reader: &mut Reader, asked: &Asked, records: &[&ConsumerRecord]) {
        let found: Vec<Found> = records.iter().map(|record| self.found(&reader.topic.name, record)).collect();
        if let Some(first) = found.first() {
            if let Some(seek) = asked.seek {
                reader.unplaced.remove(&asked.partition);
                self.scene.recorder.complete(seek, self.scene.now(), Outcome::Ok, |what| {
                    if let What::Seek { to, .. } = what {
                        *to = first.offset;
                    }
                });
            }
            if reader.paused.as_ref() == Some(&asked.partition) {
                self.strange("broken-promise", format!("{}: records of a paused partition", asked.partition));
            }
        }
        let at = reader.consumer.position(&asked.partition).ok().flatten();
        self.scene.recorder.complete(asked.op, self.scene.now(), Outcome::Ok, |what| {
            if let What::Poll { records, stands, .. } = what {
                *records = found;
                *stands = at.map_or(-1, |at| at.0);
            }
        });
    }

    pub(super) fn found(&self, topic: &str, record: &ConsumerRecord) -> Found {
        let (partition, offset) = (record.partition.0, record.offset.0);
        let value = record.value.as_deref().unwrap_or_default();
        let value = record::decode(value, topic, partition).and_then(|value| {
            let is_right = record.key.is_none() || record.key == record::key(value);
            if is_right { Ok(value) } else { Err(format!("{value} has the key {:?}", record.key)) }
        });
        let value = value.unwrap_or_else(|why| {
            self.strange("corrupt-read", format!("{topic}-{partition} offset {offset}: {why}"));
            // It takes its place, so that nobody takes it for a gap.
            Value { client: u32::MAX, number: u32::try_from(offset).unwrap_or(0) }
        });
        Found { offset, value }
    }

    /// Holds a record that was read against time index and epoch table, now and then.
    async fn look_at_indexes(&mut self, reader: &Reader, records: &[ConsumerRecord]) {
        if records.is_empty() || self.loses() || self.scene.plan.is_shortened(&reader.topic.name) {
            return;
        }
        let record = &records[self.rng.random_range(0..records.len())];
        let partition = Self::partition(&reader.topic.name, record.partition.0);
        match self.rng.random_range(0..INDEX_LOOKS) {
            0 => {
                let wanted = [(partition.clone(), record.timestamp)];
                let Ok(found) = reader.consumer.offsets_for_times(&wanted).await else { return };
                self.scene.reached(ApiKey::ListOffsets);
                if found.first().copied().flatten().is_none_or(|found| found > record.offset) {
                    let (offset, time) = (record.offset.0, record.timestamp.0);
                    let message =
                        format!("{partition}: offset {offset} is of {time}, and that time leads to {found:?}");
                    self.strange("time-index", message);
                }
            }
            1 => {
                let Some(epoch) = record.leader_epoch else { return };
                let found = self.client.admin().offsets_for_leader_epochs(vec![(partition.clone(), epoch)]).await;
                let Some((_, Ok(end))) = found.into_iter().next() else { return };
                self.scene.reached(ApiKey::OffsetForLeaderEpoch);
                if end.leader_epoch != Some(epoch) || end.end_offset.is_none_or(|end| end <= record.offset) {
                    let offset = record.offset.0;
                    let message =
                        format!("{partition}: offset {offset} is of {epoch:?}, and that is said to be {end:?}");
                    self.strange("epoch-table", message);
                }
            }
            _ => {}
        }
    }

    async fn handle(&mut self, reader: &mut Reader, error: ConsumerError) {
        let is_whole = !self.loses();
        match &error {
            ConsumerError::OffsetOutOfRange { partition, .. } => {
                if is_whole && !self.scene.plan.is_shortened(&reader.topic.name) {
                    self.strange("unexpected-error", error.to_string());
                }
                self.go(reader, partition, Position::Start);
            }
            ConsumerError::TruncationDetected { partition, diverging, .. } => {
                if is_whole {
                    self.strange("unexpected-error", error.to_string());
                }
                self.go(reader, partition, diverging.map_or(Position::Start, Position::Offset));
            }
            ConsumerError::Corrupt { partition, .. } => {
                if self.scene.must_be_sound() {
                    self.strange("corrupt-read", error.to_string());
                }
                self.give_up(reader, partition);
            }
            ConsumerError::Client { partition, cause } => {
                let is_lost = code_of(cause) == Some(ErrorCode::UnknownTopicOrPartition);
                let _judged = self.judge("read", ApiKey::Fetch, Err::<(), _>(cause.clone()), &[]);
                if let Some(partition) = partition.as_ref().filter(|_| is_lost && !is_whole) {
                    self.give_up(reader, partition);
                }
            }
            _ => self.strange("unexpected-error", error.to_string()),
        }
        // Somebody else may mend it.
        self.pause().await;
    }

    fn give_up(&self, reader: &mut Reader, partition: &TopicPartition) {
        reader.consumer.remove(partition);
        reader.given_up.insert(partition.clone());
        if reader.paused.as_ref() == Some(partition) {
            reader.paused = None;
        }
    }
}
