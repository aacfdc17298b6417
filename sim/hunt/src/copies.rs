//! Whole-log comparisons: after each recovery, checkpoint and truncation, at the end, and at one event in a thousand, the disk as a
//! power cut would leave it at that moment is given to another machine. That one opens it and holds every log against itself and
//! against what was promised of it.
//!
//! | check | what must hold in the copy |
//! |---|---|
//! | `copy-opens` | it opens, nothing in it is damaged, and no log is faulty |
//! | `copy-end` | a log holds all that was released, and none that somebody was told of has begun behind it |
//! | `copy-dense` | its batches follow each other from its start to its end |
//! | `copy-bytes` | a released batch has the bytes that it had in every copy before |
//! | `copy-served` | a batch that somebody was given is there, unless deleted, with the bytes that were given |
//! | `copy-epochs` | the epoch table says of each batch's offset what the batch says, and of each epoch where it ends |
//! | `copy-times` | the time index leads to the first batch that a search of the whole log finds |
//! | `copy-producers` | what is remembered of producers is what their batches in the log say, and nothing that is not in it |
//!
//! Invariants
//! - Only where nothing may be lost: a lying disk may leave anything.
//! - The broker's machine is only read, and at one moment: what is known is taken in the same step as its disk.
//!
//! Not here: checks at every event ([`crate::inside`]), which also count the events and tell when a copy is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bytes::{Bytes, BytesMut};
use quipu_base::{LeaderEpoch, Offset, TopicIdPartition, checksum::crc32c};
use quipu_env::{Env, File as _, Segment};
use quipu_records::{Batch, BatchHeader, Batches};
use quipu_storage::{Log, ProducerState, ReadError, Store, StoreOptions};

use crate::{check::Violation, inside::Promised};

/// Batches of one producer that are remembered.
const PRODUCER_BATCHES: usize = 5;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// In each log so many batches' times are searched for.
const TIMES_MAX: usize = 8;

/// Batches that were promised, by log and first offset: a checksum of each and the epoch in which it was written. The same through
/// all copies of a world, whosever disk it is.
pub(crate) type Stored = BTreeMap<(TopicIdPartition, i64), (u32, LeaderEpoch)>;

/// A batch as a fetch was answered with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Given {
    next_offset: i64,
    /// Of all its bytes.
    crc: u32,
}

impl Given {
    pub(crate) fn of(batch: &Batch) -> Self {
        Self { next_offset: batch.header().next_offset().0, crc: crc32c(batch.bytes()) }
    }
}

/// Batches that somebody was given, by log and first offset.
pub(crate) type Served = BTreeMap<(TopicIdPartition, i64), Given>;

/// What a copy is held against.
pub(crate) struct Expected {
    pub(crate) promised: Promised,
    /// Whether this is one node of several: what it lacks others may have, and what is promised of it are bytes.
    pub(crate) is_replica: bool,
    /// Whether logs may be damaged: then others have what they held.
    pub(crate) may_be_damaged: bool,
    /// Segments that may be damaged, if not all of them: those that were there when their disk was last hurt. What was made since, to
    /// repair them, is as sound as anything.
    pub(crate) hurt: Option<BTreeSet<PathBuf>>,
    /// Whether logs may be gone altogether, since somebody deletes topics.
    pub(crate) may_be_gone: bool,
    /// Whether producers may be forgotten, since the wall clock was wrong.
    pub(crate) may_forget: bool,
    pub(crate) stored: Stored,
    pub(crate) served: Served,
}

/// Opens what `env` has in `directory` and compares. Answers what was stored, with what this copy adds.
pub(crate) async fn compare<E: Env>(env: E, options: StoreOptions, expected: Expected) -> (Stored, Vec<Violation>) {
    let mut look = Look { expected, found: Vec::new() };
    let directory: PathBuf = options.directory.clone();
    let (store, report) = match Store::open(env, options).await {
        Ok(opened) => opened,
        Err(_) if look.expected.may_be_damaged => return (look.expected.stored, look.found),
        Err(error) => {
            look.fail("copy-opens", format!("{} would not open: {error}", directory.display()));
            return (look.expected.stored, look.found);
        }
    };
    if let Some(damage) = report.damage.first().filter(|_| !look.expected.may_be_damaged) {
        look.fail("copy-opens", format!("there is damage: {damage:?}"));
    }
    let partitions = store.partitions();
    for partition in &partitions {
        look.log(*partition, &store.log(*partition)).await;
    }
    look.missing(&partitions);
    (look.expected.stored, look.found)
}

struct Look {
    expected: Expected,
    found: Vec<Violation>,
}

impl Look {
    fn fail(&mut self, checker: &str, message: String) {
        self.found.push(Violation::new(checker, format!("what a power cut would leave: {message}")));
    }

    fn missing(&mut self, partitions: &[TopicIdPartition]) {
        if self.expected.may_be_gone || self.expected.is_replica {
            return;
        }
        let there: BTreeSet<(i64, i64)> = partitions.iter().map(name).collect();
        let promised = self.expected.promised.iter().filter(|(log, end)| **end > 0 && !there.contains(*log));
        let gone: Vec<String> = promised.map(|(log, end)| format!("log {log:x?} is gone, and held {end}")).collect();
        gone.into_iter().for_each(|message| self.fail("copy-end", message));
    }

    /// Whether what can't be read is in a segment that was made after the disk was hurt.
    fn is_newer(&self, unread: &Unread) -> bool {
        let (Some(file), Some(hurt)) = (&unread.file, &self.expected.hurt) else { return false };
        !hurt.contains(file)
    }

    async fn log<E: Env>(&mut self, partition: TopicIdPartition, log: &Log<E>) {
        if let Some(fault) = log.fault() {
            if self.expected.may_be_damaged {
                return;
            }
            return self.fail("copy-opens", format!("{partition} is faulty: {fault}"));
        }
        let offsets = log.offsets();
        let promised = self.expected.promised.get(&name(&partition)).copied().unwrap_or(0);
        let (start, end) = (offsets.log_start.0, offsets.log_end.0);
        if (end < promised && !self.expected.is_replica) || start > end {
            self.fail("copy-end", format!("{partition} is {start}..{end}, and {promised} was promised"));
        }
        let batches = match read_all(log).await {
            Ok(batches) => batches,
            Err(unread) if self.expected.may_be_damaged && !self.is_newer(&unread) => return,
            Err(Unread { why, .. }) => return self.fail("copy-opens", format!("{partition}: {why}")),
        };
        let headers: Vec<BatchHeader> = batches.iter().map(|batch| *batch.header()).collect();
        if let Some(why) = dense(&headers, start, end) {
            self.fail("copy-dense", format!("{partition}: {why}"));
        }
        for batch in batches.iter().filter(|batch| batch.header().next_offset().0 <= promised) {
            let place = (partition, batch.header().base_offset.0);
            let bytes = (batch.header().crc, batch.header().leader_epoch);
            if self.expected.stored.insert(place, bytes).is_some_and(|before| before != bytes) {
                self.fail("copy-bytes", format!("{partition} offset {}: the batch was another one before", place.1));
            }
        }
        // A replica may not have it yet, or still something else.
        let is_there = |base: i64| !self.expected.is_replica || base < promised;
        let served = self.expected.served.range((partition, i64::MIN)..=(partition, i64::MAX));
        let served = served.filter(|((_, base), _)| is_there(*base));
        if let Some(why) = served_disagree(&batches, served.map(|((_, base), given)| (*base, *given)), start) {
            self.fail("copy-served", format!("{partition}: {why}"));
        }
        let epochs = |epoch, upper| log.epoch_end(epoch, upper);
        let epoch_at = |offset: Offset| log.epoch_at(offset.max(offsets.log_start));
        if let Some(why) = epochs_disagree(&headers, epoch_at, epochs, offsets.log_end) {
            self.fail("copy-epochs", format!("{partition}: {why}"));
        }
        if let Some(why) = times_disagree(log, &headers, offsets.log_start, offsets.log_end).await {
            self.fail("copy-times", format!("{partition}: {why}"));
        }
        if let Some(why) = producers_disagree(&headers, &log.producers(), offsets.log_end, self.expected.may_forget) {
            self.fail("copy-producers", format!("{partition}: {why}"));
        }
    }
}

/// As the broker's probes call it.
fn name(partition: &TopicIdPartition) -> (i64, i64) {
    (partition.topic_id.low(), i64::from(partition.partition.0))
}

/// Why a log can't be read, and the segment that can't be, if it is known.
struct Unread {
    why: String,
    file: Option<PathBuf>,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, file: None }
    }
}

async fn read_all<E: Env>(log: &Log<E>) -> Result<Vec<Batch>, Unread> {
    let offsets = log.offsets();
    let mut batches = Vec::new();
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        let read = log.read(next, offsets.log_end, READ_BYTES, true).await;
        let read = read.map_err(|error| {
            let why = format!("offset {next} can't be read: {error}");
            let file = match error {
                ReadError::Damaged { file, .. } | ReadError::Io { file, .. } => Some(file),
                _ => None,
            };
            Unread { why, file }
        })?;
        let mut bytes = BytesMut::new();
        for segment in read.segments {
            bytes.extend_from_slice(&bytes_of::<E>(segment).await?);
        }
        for batch in Batches::new(bytes.freeze()) {
            let batch = batch.map_err(|error| format!("behind offset {next} is no batch: {error}"))?;
            batch.check_crc().map_err(|error| format!("behind offset {next}: {error}"))?;
            batches.push(batch);
        }
        if read.next_offset <= next {
            return Err(format!("nothing is at offset {next}, and the log ends at {}", offsets.log_end).into());
        }
        next = read.next_offset;
    }
    Ok(batches)
}

async fn bytes_of<E: Env>(segment: Segment<<E::Disk as quipu_env::Disk>::File>) -> Result<Bytes, String> {
    match segment {
        Segment::Bytes(bytes) => Ok(bytes),
        Segment::File { file, position, length } => {
            file.read_at(position, length).await.map_err(|error| error.to_string())
        }
    }
}

/// The first batch may begin below the log's start.
fn dense(headers: &[BatchHeader], start: i64, end: i64) -> Option<String> {
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return (start != end).then(|| format!("{start}..{end} holds nothing"));
    };
    if first.base_offset.0 > start || last.next_offset().0 != end {
        return Some(format!("{start}..{end} holds {}..{}", first.base_offset, last.next_offset()));
    }
    let gap = headers.windows(2).find(|pair| pair[1].base_offset != pair[0].next_offset())?;
    Some(format!("{} follows {}", gap[1].base_offset, gap[0].last_offset()))
}

/// Of what lies below the log's start nothing need be there.
fn served_disagree(batches: &[Batch], mut served: impl Iterator<Item = (i64, Given)>, start: i64) -> Option<String> {
    let stored: BTreeMap<i64, Given> =
        batches.iter().map(|batch| (batch.header().base_offset.0, Given::of(batch))).collect();
    let is_other = |(base, given): &(i64, Given)| given.next_offset > start && stored.get(base) != Some(given);
    let (base, given) = served.find(is_other)?;
    let there = stored.get(&base);
    Some(format!(
        "offsets {base}..{} were served (checksum {:#x}), and there is {there:x?}",
        given.next_offset, given.crc
    ))
}

fn epochs_disagree(
    headers: &[BatchHeader],
    epoch_at: impl Fn(Offset) -> LeaderEpoch,
    epoch_end: impl Fn(LeaderEpoch, Offset) -> (LeaderEpoch, Offset),
    end: Offset,
) -> Option<String> {
    for header in headers {
        let told = epoch_at(header.base_offset);
        if told != header.leader_epoch {
            return Some(format!(
                "offset {} is of {:?}, and said to be of {told:?}",
                header.base_offset, header.leader_epoch
            ));
        }
    }
    for (index, header) in headers.iter().enumerate() {
        let later = headers[index + 1..].iter().find(|later| later.leader_epoch > header.leader_epoch);
        let ends = later.map_or(end, |later| later.base_offset);
        let told = epoch_end(header.leader_epoch, end);
        if told != (header.leader_epoch, ends) {
            return Some(format!("{:?} ends at {ends}, and is said to be {told:?}", header.leader_epoch));
        }
    }
    None
}

async fn times_disagree<E: Env>(log: &Log<E>, headers: &[BatchHeader], start: Offset, end: Offset) -> Option<String> {
    let step = headers.len().div_ceil(TIMES_MAX).max(1);
    for header in headers.iter().step_by(step) {
        // What it has of this time may lie below the log's start.
        if header.base_offset < start {
            continue;
        }
        let time = header.max_timestamp;
        let first = headers.iter().find(|other| other.max_timestamp >= time && other.base_offset >= start)?;
        match log.offset_for_timestamp(time, end).await {
            Ok(Some((_, found))) if found <= first.last_offset() => {}
            Ok(found) => {
                return Some(format!("{time:?} is at {} or before, and leads to {found:?}", first.last_offset()));
            }
            Err(error) => return Some(format!("{time:?} leads to {error}")),
        }
    }
    None
}

/// What the log says of producers, against what is remembered of them.
fn producers_disagree(
    headers: &[BatchHeader],
    remembered: &[ProducerState],
    end: Offset,
    may_forget: bool,
) -> Option<String> {
    let ahead = |state: &&ProducerState| state.batches.iter().any(|batch| batch.last_offset >= end);
    if let Some(state) = remembered.iter().find(ahead) {
        return Some(format!("a batch of {:?} is remembered that lies behind the end, {end}", state.producer_id));
    }
    let mut replayed: BTreeMap<i64, Vec<&BatchHeader>> = BTreeMap::new();
    for header in headers.iter().filter(|header| header.producer_id.0 >= 0 && header.base_sequence.0 >= 0) {
        replayed.entry(header.producer_id.0).or_default().push(header);
    }
    for (id, mut batches) in replayed {
        let Some(state) = remembered.iter().find(|state| state.producer_id.0 == id) else {
            if may_forget {
                continue;
            }
            return Some(format!("producer {id} is forgotten, and has {} batches", batches.len()));
        };
        let epoch = batches.last().map(|last| last.producer_epoch);
        batches.retain(|batch| Some(batch.producer_epoch) == epoch);
        let newest: Vec<Offset> = batches.iter().rev().take(PRODUCER_BATCHES).map(|batch| batch.base_offset).collect();
        let known: Vec<Offset> = state.batches.iter().rev().map(|batch| batch.base_offset).collect();
        // Those that lie below the log's start are remembered as well; a history may have begun anew.
        let common = newest.len().min(known.len());
        if Some(state.epoch) != epoch || common == 0 || newest[..common] != known[..common] {
            return Some(format!(
                "producer {id} has batches at {newest:?} (newest first, {epoch:?}), and {known:?} ({:?}) are remembered",
                state.epoch
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests;
