//! `quipu log dump`: one line for each batch, and, if asked for, for each group and frame of the write-ahead log.
//!
//! With `--json` one object a line. Its `type` is `batch`, `group`, `frame` or `damage`; a generation is 16 hexadecimal digits,
//! since JSON's numbers are too short for it.

use std::{ops::ControlFlow, path::Path, process::ExitCode};

use quipu_base::{PartitionIndex, TopicIdPartition};
use quipu_env_tokio::TokioEnv;
use quipu_records::{Attributes, TimestampType};
use quipu_storage::{
    DamagedRange, DumpEntry, DumpOptions, DumpedBatch, DumpedFrame, DumpedGroup, dump, wal::FrameKind,
};
use serde_json::{Value, json};

use super::{LogError, names::Names, verify::partition};
use crate::{
    FAILED,
    output::{Output, count},
    time,
};

/// What the command line asks for.
pub(super) struct Wanted {
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) wal: bool,
}

pub(super) async fn run(
    env: &TokioEnv,
    directory: &Path,
    wanted: Wanted,
    output: Output,
) -> Result<ExitCode, LogError> {
    let names = Names::read(env, directory).await?;
    let topic_id = match &wanted.topic {
        None => None,
        Some(topic) => Some(names.find(topic).ok_or_else(|| LogError::unknown_topic(topic, directory))?),
    };
    let partition = wanted.partition.map(PartitionIndex);
    let options = DumpOptions { topic_id, partition, wal: wanted.wal, with_bytes: false };
    let mut teller = Teller { width: names.longest().clamp(9, 40) + 4, names, output, titles: None, is_damaged: false };
    dump(env, directory, options, |entry| teller.tell(entry)).await?;
    let status = if teller.is_damaged { FAILED } else { 0 };
    Ok(teller.output.finish(status)?)
}

/// Which titles a line stands under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Titles {
    Batches,
    Groups,
}

struct Teller {
    names: Names,
    output: Output,
    /// Of the column of partitions.
    width: usize,
    titles: Option<Titles>,
    is_damaged: bool,
}

impl Teller {
    fn tell(&mut self, entry: DumpEntry) -> ControlFlow<()> {
        match entry {
            DumpEntry::Batch(batch) => {
                self.is_damaged |= !batch.is_good;
                self.batch(&batch)
            }
            DumpEntry::Group(group) => self.group(&group),
            DumpEntry::Frame(frame) => {
                self.is_damaged |= !frame.is_good;
                self.frame(&frame)
            }
            DumpEntry::Damage(damage) => {
                self.is_damaged = true;
                self.damage(damage)
            }
        }
    }

    fn batch(&mut self, batch: &DumpedBatch) -> ControlFlow<()> {
        if self.output.json {
            return self.output.json(&self.batch_json(batch));
        }
        self.titles(Titles::Batches)?;
        let header = &batch.header;
        let producer = if header.has_producer_id() {
            format!("{}/{}/{}", header.producer_id, header.producer_epoch, header.base_sequence)
        } else {
            "-".to_owned()
        };
        let line = batch_line(
            self.width,
            &[
                &self.partition(batch.partition),
                &header.base_offset.to_string(),
                &header.last_offset().to_string(),
                &header.leader_epoch.to_string(),
                &header.record_count.to_string(),
                &header.total_bytes().to_string(),
                &codec(header.attributes),
                &time::text(header.base_timestamp),
                &time::text(header.max_timestamp),
                &producer,
                crc(batch.is_good),
                &format!("{} at {}", batch.file, batch.position),
            ],
        );
        self.output.line(&line)
    }

    fn batch_json(&self, batch: &DumpedBatch) -> Value {
        let header = &batch.header;
        json!({
            "type": "batch",
            "topic": self.names.of(batch.partition.topic_id),
            "topic_id": batch.partition.topic_id.to_string(),
            "partition": batch.partition.partition.0,
            "base_offset": header.base_offset.0,
            "last_offset": header.last_offset().0,
            "leader_epoch": header.leader_epoch.0,
            "records": header.record_count,
            "bytes": header.total_bytes(),
            "codec": codec(header.attributes),
            "timestamp_type": match header.timestamp_type() {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            },
            "base_timestamp": header.base_timestamp.0,
            "max_timestamp": header.max_timestamp.0,
            "producer_id": header.producer_id.0,
            "producer_epoch": header.producer_epoch.0,
            "base_sequence": header.base_sequence.0,
            "transactional": header.is_transactional(),
            "control": header.is_control(),
            "file": batch.file,
            "position": batch.position,
            "wal_group": batch.group.map(|group| group.0),
            "crc_ok": batch.is_good,
        })
    }

    fn group(&mut self, group: &DumpedGroup) -> ControlFlow<()> {
        let generation = format!("{:016x}", group.generation);
        if self.output.json {
            return self.output.json(&json!({
                "type": "group",
                "sequence": group.sequence.0,
                "generation": generation,
                "synced_up_to": group.synced_up_to.0,
                "file": group.file,
                "position": group.position,
                "bytes": group.length,
                "frames": group.frame_count,
            }));
        }
        self.titles(Titles::Groups)?;
        self.output.line(&format!(
            "{:<10}  {generation}  synced up to {}, {}, {} bytes, {} at {}",
            group.sequence.0,
            group.synced_up_to,
            count(group.frame_count, "frame"),
            group.length,
            group.file,
            group.position
        ))
    }

    fn frame(&mut self, frame: &DumpedFrame) -> ControlFlow<()> {
        if self.output.json {
            return self.output.json(&json!({
                "type": "frame",
                "group": frame.group.0,
                "index": frame.index,
                "topic": self.names.of(frame.partition.topic_id),
                "topic_id": frame.partition.topic_id.to_string(),
                "partition": frame.partition.partition.0,
                "kind": kind(frame.kind),
                "leader_epoch": frame.leader_epoch.0,
                "base_offset": frame.base_offset.0,
                "file": frame.file,
                "position": frame.position,
                "bytes": frame.length,
                "crc_ok": frame.is_good,
            }));
        }
        let partition = self.partition(frame.partition);
        let line = frame_line(
            self.width,
            &[
                &frame.index.to_string(),
                kind(frame.kind),
                &partition,
                &frame.base_offset.to_string(),
                &frame.leader_epoch.to_string(),
                &frame.length.to_string(),
                crc(frame.is_good),
                &format!("{} at {}", frame.file, frame.position),
            ],
        );
        self.output.line(&line)
    }

    fn damage(&mut self, mut damage: DamagedRange) -> ControlFlow<()> {
        damage.topic = damage.topic.take().map(|topic| self.names.of_text(topic));
        if self.output.json {
            let mut value = serde_json::to_value(&damage).unwrap_or_default();
            value["type"] = Value::from("damage");
            return self.output.json(&value);
        }
        self.output.line(&format!(
            "DAMAGED: {} at {} ({} bytes), partition {}, offset {}: {}",
            damage.file,
            damage.position,
            damage.length,
            partition(&damage),
            damage.base_offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            damage.why
        ))
    }

    /// Writes the titles of the lines that follow, unless they stand there already.
    fn titles(&mut self, titles: Titles) -> ControlFlow<()> {
        if self.titles == Some(titles) {
            return ControlFlow::Continue(());
        }
        if self.titles.replace(titles).is_some() {
            self.output.line("")?;
        }
        match titles {
            Titles::Batches => self.output.line(&batch_line(self.width, &BATCH_TITLES)),
            Titles::Groups => {
                self.output.line("WAL GROUP   GENERATION")?;
                self.output.line(&frame_line(self.width, &FRAME_TITLES))
            }
        }
    }

    fn partition(&self, partition: TopicIdPartition) -> String {
        format!("{}-{}", self.names.of(partition.topic_id), partition.partition)
    }
}

const BATCH_TITLES: [&str; 12] = [
    "PARTITION",
    "BASE OFFSET",
    "LAST OFFSET",
    "EPOCH",
    "RECORDS",
    "BYTES",
    "CODEC",
    "FIRST TIMESTAMP",
    "MAX TIMESTAMP",
    "PRODUCER/EPOCH/SEQ",
    "CRC",
    "WHERE",
];
const FRAME_TITLES: [&str; 8] = ["FRAME", "KIND", "PARTITION", "OFFSET", "EPOCH", "BYTES", "CRC", "WHERE"];

fn batch_line(width: usize, cells: &[&str; 12]) -> String {
    let [partition, base, last, epoch, records, bytes, codec, first, max, producer, crc, place] = cells;
    format!(
        "{partition:<width$}  {base:>12}  {last:>12}  {epoch:>6}  {records:>7}  {bytes:>9}  {codec:<6}  {first:<24}  {max:<24}  \
         {producer:<18}  {crc:<3}  {place}"
    )
}

fn frame_line(width: usize, cells: &[&str; 8]) -> String {
    let [index, kind, partition, offset, epoch, bytes, crc, place] = cells;
    format!("  {index:>5}  {kind:<17}  {partition:<width$}  {offset:>12}  {epoch:>6}  {bytes:>9}  {crc:<3}  {place}")
}

const fn crc(is_good: bool) -> &'static str {
    if is_good { "ok" } else { "BAD" }
}

fn codec(attributes: Attributes) -> String {
    attributes.codec().map_or_else(|_| format!("{}?", attributes.codec_id()), |codec| codec.to_string())
}

const fn kind(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Append => "append",
        FrameKind::Truncate => "truncate",
        FrameKind::Promise => "promise",
        FrameKind::Label => "label",
        FrameKind::LogStart => "log-start",
        FrameKind::ProducerSnapshot => "producer-snapshot",
        FrameKind::PartitionDelete => "partition-delete",
        FrameKind::RaftHardState => "raft-hard-state",
        FrameKind::Replica => "replica",
        FrameKind::BeginAnew => "begin-anew",
        FrameKind::Repair => "repair",
        FrameKind::Damaged => "damaged",
        FrameKind::Complete => "complete",
    }
}
