//! Telling what a data directory holds, batch by batch, and the WAL frame by frame.
//!
//! ```text
//! partition by partition: batches in segments, in the order of their offsets
//! batches that are in the WAL only, in its order
//! with `wal`: every group that no checkpoint covers (and that has a frame of the partitions asked for, if only some are), each
//!             followed by those of its frames
//! ```
//!
//! Batches are those that a start would find: none below the log start, none that was truncated, none of a deleted partition.
//! Damage is told where it is met.

use core::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};
use quipu_env::Env;
use quipu_records::{Batch, BatchHeader};

use super::{
    directory::Directory,
    group::{FrameView, GroupView, WalReader},
    report::{DamagedRange, Findings, Span, VerifyError, damaged_range},
    segments::{Met, Order, segments_of, walk},
    wal::is_applied,
    wal_batches::{Changes, Place},
};
use crate::wal::{FrameKind, GroupSequence};

/// What to tell of.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    /// Only this topic.
    pub topic_id: Option<TopicId>,
    /// Only partitions of this number.
    pub partition: Option<PartitionIndex>,
    /// The WAL's groups and frames, too.
    pub wal: bool,
    /// Each batch with its bytes.
    pub with_bytes: bool,
}

impl DumpOptions {
    fn wants(&self, partition: TopicIdPartition) -> bool {
        self.topic_id.is_none_or(|topic_id| topic_id == partition.topic_id)
            && self.partition.is_none_or(|number| number == partition.partition)
    }
}

/// What is told.
#[derive(Clone, Debug)]
pub enum DumpEntry {
    /// A batch.
    Batch(DumpedBatch),
    /// A group of the WAL.
    Group(DumpedGroup),
    /// A frame of the group told last.
    Frame(DumpedFrame),
    /// Bytes that can't be told of.
    Damage(DamagedRange),
}

/// A record batch.
#[derive(Clone, Debug)]
pub struct DumpedBatch {
    /// Its partition.
    pub partition: TopicIdPartition,
    /// Its header.
    pub header: BatchHeader,
    /// The file that it is in, relative to the data directory.
    pub file: String,
    /// Where in it, bytes.
    pub position: u64,
    /// The WAL group that it is in, unless it is in a segment.
    pub group: Option<GroupSequence>,
    /// Whether it matches its checksum.
    pub is_good: bool,
    /// All of it, if it was asked for and is good.
    pub bytes: Option<Bytes>,
}

/// A group of the WAL.
#[derive(Clone, Debug)]
pub struct DumpedGroup {
    /// Its number.
    pub sequence: GroupSequence,
    /// The start that wrote it.
    pub generation: u64,
    /// Every group up to this one had been synced when this one was formed.
    pub synced_up_to: GroupSequence,
    /// Its file, relative to the data directory.
    pub file: String,
    /// Where in it, bytes.
    pub position: u64,
    /// Bytes of the group.
    pub length: u64,
    /// Number of frames, those included that are not told.
    pub frame_count: usize,
}

/// A frame of the WAL.
#[derive(Clone, Debug)]
pub struct DumpedFrame {
    /// Its group.
    pub group: GroupSequence,
    /// Its place in the group, from 0.
    pub index: usize,
    /// Whom it concerns.
    pub partition: TopicIdPartition,
    /// What it does.
    pub kind: FrameKind,
    /// The leader epoch it was written under.
    pub leader_epoch: LeaderEpoch,
    /// The offset it is about.
    pub base_offset: Offset,
    /// Its file, relative to the data directory.
    pub file: String,
    /// Where its payload begins in it, bytes.
    pub position: u64,
    /// Bytes of payload.
    pub length: u32,
    /// Whether the payload matches its checksum.
    pub is_good: bool,
}

/// Tells `on_entry` what is in the data directory `dir`, until there is no more or it answers [`ControlFlow::Break`].
///
/// # Errors
/// [`VerifyError`] if the directory can't be read. Damage is no error: it is told.
pub async fn dump<E: Env>(
    env: &E,
    dir: &Path,
    options: DumpOptions,
    on_entry: impl FnMut(DumpEntry) -> ControlFlow<()> + Send,
) -> Result<(), VerifyError> {
    let mut findings = Findings::default();
    let directory = Directory::open(env, dir, &mut findings).await?;
    let mut dumper = Dumper { directory: &directory, options, on_entry };
    for damage in findings.damaged {
        if (dumper.on_entry)(DumpEntry::Damage(damage)).is_break() {
            return Ok(());
        }
    }
    let changes = Changes::read(&directory).await?;
    if dumper.segments(&changes).await?.is_continue()
        && dumper.batches_in_wal(&changes).await?.is_continue()
        && options.wal
    {
        dumper.groups().await?;
    }
    Ok(())
}

struct Dumper<'a, E: Env, F> {
    directory: &'a Directory<E>,
    options: DumpOptions,
    on_entry: F,
}

impl<E: Env, F: FnMut(DumpEntry) -> ControlFlow<()> + Send> Dumper<'_, E, F> {
    async fn segments(&mut self, changes: &Changes) -> Result<ControlFlow<()>, VerifyError> {
        let Some(manifest) = &self.directory.manifest else { return Ok(ControlFlow::Continue(())) };
        let with_bytes = self.options.with_bytes;
        for (partition, state) in manifest.partitions.iter().filter(|(partition, _)| self.options.wants(**partition)) {
            let mut order = Order::default();
            for segment in segments_of(self.directory, *partition, state) {
                let on_entry = &mut self.on_entry;
                let mut on_met = |met: Met| match met {
                    Met::Damage(damage) => on_entry(DumpEntry::Damage(damage)),
                    Met::Batch(batch) if !changes.has(*partition, Place::default(), &batch.header) => {
                        ControlFlow::Continue(())
                    }
                    Met::Batch(batch) => on_entry(DumpEntry::Batch(DumpedBatch {
                        partition: *partition,
                        header: batch.header,
                        file: segment.name.clone(),
                        position: batch.position,
                        group: None,
                        is_good: batch.is_good,
                        bytes: batch.bytes,
                    })),
                };
                if walk(self.directory, &segment, &mut order, with_bytes, &mut on_met).await?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn batches_in_wal(&mut self, changes: &Changes) -> Result<ControlFlow<()>, VerifyError> {
        let (Some(mut reader), Some(manifest)) = (WalReader::open(self.directory).await?, &self.directory.manifest)
        else {
            return Ok(ControlFlow::Continue(()));
        };
        while let Some(group) = reader.next().await? {
            for (index, frame) in group.frames.iter().enumerate() {
                let partition = frame.entry.partition;
                let is_news = !is_applied(manifest, partition, group.sequence);
                if frame.entry.kind != FrameKind::Append || !is_news || !self.options.wants(partition) {
                    continue;
                }
                let place = Place { group: group.sequence, index };
                if self.batch_in_wal(changes, &group, frame, place).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn batch_in_wal(
        &mut self,
        changes: &Changes,
        group: &GroupView,
        frame: &FrameView,
        place: Place,
    ) -> ControlFlow<()> {
        let entry = &frame.entry;
        let damage = |why: String| {
            let span = Span { file: &group.file, position: frame.position, length: entry.payload_bytes.into() };
            DumpEntry::Damage(damaged_range(span, Some((entry.partition, Some(entry.base_offset))), why))
        };
        let Some(payload) = &frame.payload else {
            return (self.on_entry)(damage("the frame's payload does not match its checksum".to_owned()));
        };
        let batch = match Batch::parse(payload.clone()) {
            Ok(batch) => batch,
            Err(error) => return (self.on_entry)(damage(format!("the frame holds no batch: {error}"))),
        };
        if !changes.has(entry.partition, place, batch.header()) {
            return ControlFlow::Continue(());
        }
        let is_good = batch.check_crc().is_ok();
        (self.on_entry)(DumpEntry::Batch(DumpedBatch {
            partition: entry.partition,
            header: *batch.header(),
            file: group.file.clone(),
            position: frame.position,
            group: Some(group.sequence),
            is_good,
            bytes: (self.options.with_bytes && is_good).then(|| batch.into_bytes()),
        }))
    }

    async fn groups(&mut self) -> Result<(), VerifyError> {
        let Some(mut reader) = WalReader::open(self.directory).await? else { return Ok(()) };
        while let Some(group) = reader.next().await? {
            if self.group(&group).is_break() {
                return Ok(());
            }
        }
        let (end, _) = reader.finish().await?;
        for damage in end.damage {
            let file = self.directory.relative(&damage.file);
            let span = Span { file: &file, position: damage.position, length: damage.length };
            let why = format!("groups {} to {}: {}", damage.first, damage.last, damage.why);
            if (self.on_entry)(DumpEntry::Damage(damaged_range(span, None, why))).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn group(&mut self, group: &GroupView) -> ControlFlow<()> {
        let is_narrowed = self.options.topic_id.is_some() || self.options.partition.is_some();
        if is_narrowed && !group.frames.iter().any(|frame| self.options.wants(frame.entry.partition)) {
            return ControlFlow::Continue(());
        }
        (self.on_entry)(DumpEntry::Group(DumpedGroup {
            sequence: group.sequence,
            generation: group.generation,
            synced_up_to: group.synced_up_to,
            file: group.file.clone(),
            position: group.position,
            length: group.length,
            frame_count: group.frames.len(),
        }))?;
        for (index, frame) in group.frames.iter().enumerate() {
            let entry = &frame.entry;
            if self.options.wants(entry.partition) {
                (self.on_entry)(DumpEntry::Frame(DumpedFrame {
                    group: group.sequence,
                    index,
                    partition: entry.partition,
                    kind: entry.kind,
                    leader_epoch: entry.leader_epoch,
                    base_offset: entry.base_offset,
                    file: group.file.clone(),
                    position: frame.position,
                    length: entry.payload_bytes,
                    is_good: frame.payload.is_some(),
                }))?;
            }
        }
        ControlFlow::Continue(())
    }
}
