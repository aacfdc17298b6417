//! Going through segments batch by batch, checking everything on the way. Serves both `verify` and `dump`.
//!
//! Invariants
//! - What a batch header says is believed, beyond its own batch, only where the checksum over the headers of its range is right. A
//!   range is what that checksum covers: a block of the footer, or a flush as the manifest has it.
//! - A bad range is told on its own, and the walk goes on behind it.

use core::ops::ControlFlow;
use std::{io, path::PathBuf};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, TopicIdPartition, checksum::Crc32c};
use quipu_env::{Disk, Env, File, OpenOptions};
use quipu_records::{BatchHeader, HEADER_BYTES, header::CRC_FROM_POSITION};

use super::{
    directory::Directory,
    report::{DamagedRange, Findings, Span, VerifyError, damaged_range},
};
use crate::{
    footer::{Footer, FooterError},
    partition::{PartitionState, SegmentMeta},
    segment::{FileOf, partition_dir},
};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Bytes read at a time around those that can't be read.
const SECTOR_BYTES: usize = 512;

/// A batch in a segment.
pub(super) struct Stored {
    pub(super) header: BatchHeader,
    pub(super) position: u64,
    /// Whether it matches its checksum.
    pub(super) is_good: bool,
    /// All of it, if that was asked for and it is good.
    pub(super) bytes: Option<Bytes>,
}

/// What is met on the way.
pub(super) enum Met {
    Batch(Stored),
    Damage(DamagedRange),
}

/// Who is told; [`ControlFlow::Break`] ends the walk.
pub(super) trait OnMet: FnMut(Met) -> ControlFlow<()> + Send {}
impl<F: FnMut(Met) -> ControlFlow<()> + Send> OnMet for F {}

/// One segment of one partition.
pub(super) struct SegmentRef<'a> {
    pub(super) partition: TopicIdPartition,
    pub(super) meta: &'a SegmentMeta,
    /// Relative to the data directory.
    pub(super) name: String,
    path: PathBuf,
    /// Offsets may have gaps: frames were lost before they could be flushed.
    has_holes: bool,
}

/// The segments of a partition, in order.
pub(super) fn segments_of<'a, E: Env>(
    directory: &Directory<E>,
    partition: TopicIdPartition,
    state: &'a PartitionState,
) -> Vec<SegmentRef<'a>> {
    let dir = partition_dir(&directory.path, partition);
    let segment = |meta: &'a SegmentMeta| {
        let path = dir.join(meta.id.file_name());
        let name = directory.relative(&path);
        SegmentRef { partition, meta, name, path, has_holes: state.fault.is_some() }
    };
    state.segments.iter().map(segment).collect()
}

/// Checks every segment.
pub(super) async fn check_all<E: Env>(directory: &Directory<E>, findings: &mut Findings) -> Result<(), VerifyError> {
    let Some(manifest) = &directory.manifest else { return Ok(()) };
    for (partition, state) in &manifest.partitions {
        if let Some(fault) = &state.fault {
            let file = directory.relative(&fault.file);
            let span = Span { file: &file, position: fault.position, length: fault.length };
            let why = format!("found at an earlier start: {}", fault.why);
            findings.damaged_at(span, *partition, Some(fault.offset), why);
        }
        let mut order = Order::default();
        for segment in segments_of(directory, *partition, state) {
            tell_live(&segment, findings);
            let mut on_met = |met: Met| {
                match met {
                    Met::Damage(damage) => findings.damaged.push(damage),
                    Met::Batch(batch) if !batch.is_good => findings.damaged.push(bad_batch(&segment, &batch)),
                    Met::Batch(_) => {}
                }
                ControlFlow::Continue(())
            };
            if walk(directory, &segment, &mut order, false, &mut on_met).await?.is_break() {
                break;
            }
        }
    }
    Ok(())
}

fn tell_live(segment: &SegmentRef<'_>, findings: &mut Findings) {
    let (partition, meta) = (segment.partition, segment.meta);
    let data = u64::from(meta.data_bytes());
    let what = format!("batches of partition {partition}, offsets {} to {}", meta.id.base, Offset(meta.end.0 - 1));
    findings.live(Span { file: &segment.name, position: 0, length: data }, what);
    let footer = Span { file: &segment.name, position: data, length: meta.footer_bytes.into() };
    findings.live(footer, format!("segment footer of partition {partition}"));
}

/// What is told of a batch that does not match its checksum.
pub(super) fn bad_batch(segment: &SegmentRef<'_>, batch: &Stored) -> DamagedRange {
    let length = batch.header.total_bytes() as u64;
    let span = Span { file: &segment.name, position: batch.position, length };
    let of = (segment.partition, Some(batch.header.base_offset));
    damaged_range(span, Some(of), "the batch does not match its checksum")
}

/// What is known of the batches before the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    /// No batch begins below it.
    next: Offset,
    /// The next one begins right there.
    is_exact: bool,
    leader_epoch: LeaderEpoch,
}

/// Bytes whose batch headers one checksum covers.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    end: u32,
    batches: u32,
    headers_crc: u32,
    /// Base offset of its first batch, if that is known.
    offset: Option<Offset>,
}

/// Goes through a segment. `order` comes from the segment before it, and goes to the one behind it.
pub(super) async fn walk<E: Env>(
    directory: &Directory<E>,
    segment: &SegmentRef<'_>,
    order: &mut Order,
    with_bytes: bool,
    on_met: &mut impl OnMet,
) -> Result<ControlFlow<()>, VerifyError> {
    let meta = segment.meta;
    let opened = directory.env.disk().open(&segment.path, OpenOptions::READ).await;
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let length = u64::from(meta.data_bytes()) + u64::from(meta.footer_bytes);
            let span = Span { file: &segment.name, position: 0, length };
            let of = (segment.partition, Some(meta.id.base));
            *order = Order { next: meta.end, is_exact: false, ..*order };
            return Ok(on_met(Met::Damage(damaged_range(span, Some(of), "the segment file is missing"))));
        }
        Err(error) => return Err(VerifyError::io(&segment.path)(error)),
    };
    // What the device has counts, not what the page cache still holds of it.
    file.forget_cached(0, u64::from(meta.data_bytes()) + u64::from(meta.footer_bytes)).await;
    let start = *order;
    let mut walker = Walker::<'_, E, _> {
        segment,
        reader: Reader { file, chunk: Bytes::new(), chunk_at: 0 },
        order: Order { next: meta.id.base, is_exact: true, leader_epoch: start.leader_epoch },
        with_bytes,
        on_met,
    };
    let flow = walker.run(start.next).await?;
    // Whatever was bad, the manifest is believed about where the segment ends.
    *order = Order { next: meta.end, is_exact: false, leader_epoch: walker.order.leader_epoch };
    Ok(flow)
}

struct Walker<'a, E: Env, F> {
    segment: &'a SegmentRef<'a>,
    reader: Reader<FileOf<E>>,
    order: Order,
    with_bytes: bool,
    on_met: &'a mut F,
}

/// How a range went.
enum Ended {
    /// Through all its batches.
    Whole { batches: u32, headers_crc: u32, after: Order, disorder: Option<(u64, String)> },
    /// Not to its end; that has been told.
    Short,
    /// The receiver wants no more.
    Stopped,
}

impl<E: Env, F: OnMet> Walker<'_, E, F> {
    async fn run(&mut self, earlier_end: Offset) -> Result<ControlFlow<()>, VerifyError> {
        let meta = self.segment.meta;
        if meta.id.base < earlier_end {
            let why = format!("the segment begins below offset {earlier_end}, where the one before it ends");
            if self.tell(0, u64::from(meta.data_bytes()), meta.id.base, why).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let ranges = match self.read_footer().await? {
            Ok(Some(blocks)) => blocks,
            Ok(None) => flushes(meta),
            Err(why) => {
                let told = self.tell(meta.data_bytes().into(), meta.footer_bytes.into(), meta.id.base, why);
                if told.is_break() {
                    return Ok(told);
                }
                flushes(meta)
            }
        };
        for range in ranges {
            if self.range(range).await.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.order.is_exact && self.order.next != meta.end && !self.segment.has_holes {
            let why =
                format!("the segment ends at offset {}, in the manifest it ends at {}", self.order.next, meta.end);
            return Ok(self.tell(0, u64::from(meta.data_bytes()), self.order.next, why));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The footer's blocks; none if there is no footer, an error if it is bad.
    async fn read_footer(&mut self) -> Result<Result<Option<Vec<Range>>, String>, VerifyError> {
        let meta = self.segment.meta;
        if meta.footer_bytes == 0 {
            return Ok(Ok(None));
        }
        let length = usize::try_from(meta.footer_bytes).expect("32 bits");
        let bytes = match self.reader.file.read_at(meta.data_bytes().into(), length).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(format!("the footer cannot be read: {error}"))),
        };
        match Footer::decode(&bytes) {
            Ok(footer) => Ok(blocks(meta, &footer)
                .map(Some)
                .ok_or_else(|| "the footer is not the one of this segment".to_owned())),
            Err(error @ FooterError::Newer(_)) => {
                Err(VerifyError::newer(format!("{}: {error}", self.segment.path.display())))
            }
            Err(error @ FooterError::Damaged(_)) => Ok(Err(error.to_string())),
        }
    }

    async fn range(&mut self, range: Range) -> ControlFlow<()> {
        if let Some(offset) = range.offset
            && !self.order.is_exact
        {
            self.order = Order { next: offset, is_exact: true, ..self.order };
        }
        let first = range.offset.unwrap_or(self.order.next);
        match self.batches(range).await {
            Ended::Stopped => ControlFlow::Break(()),
            Ended::Short => {
                self.order.is_exact = false;
                ControlFlow::Continue(())
            }
            Ended::Whole { batches, headers_crc, .. }
                if (batches, headers_crc) != (range.batches, range.headers_crc) =>
            {
                self.order.is_exact = false;
                let why = "the checksum over the batch headers of this range is wrong".to_owned();
                self.tell(range.start.into(), u64::from(range.end - range.start), first, why)
            }
            Ended::Whole { after, disorder, .. } => {
                self.order = after;
                match disorder {
                    None => ControlFlow::Continue(()),
                    // The bytes are as they were written: the fault is older than they are.
                    Some((position, why)) => self.tell(position, u64::from(range.end) - position, first, why),
                }
            }
        }
    }

    async fn batches(&mut self, range: Range) -> Ended {
        let (mut batches, mut headers) = (0, Crc32c::new());
        let (mut after, mut disorder) = (self.order, None);
        let mut position = u64::from(range.start);
        let end = u64::from(range.end);
        while position < end {
            let (header, bytes) = match self.header(position, end).await {
                Ok(found) => found,
                Err(why) => return self.short(position, end, after.next, why),
            };
            let length = header.total_bytes() as u64;
            let crc = match self.reader.crc(position + CRC_FROM_POSITION as u64, position + length).await {
                Ok(crc) => crc,
                Err(error) => return self.short(position, end, header.base_offset, unreadable(&error)),
            };
            let mut batch = Stored { header, position, is_good: crc == header.crc, bytes: None };
            if self.with_bytes && batch.is_good {
                let read = self.reader.file.read_at(position, header.total_bytes()).await;
                batch.bytes = read.ok();
            }
            if (self.on_met)(Met::Batch(batch)).is_break() {
                return Ended::Stopped;
            }
            headers.update(&bytes);
            batches += 1;
            if disorder.is_none() {
                disorder = self.disorder(&after, &header).map(|why| (position, why));
            }
            after = Order { next: header.next_offset(), is_exact: true, leader_epoch: header.leader_epoch };
            position += length;
        }
        Ended::Whole { batches, headers_crc: headers.finish(), after, disorder }
    }

    /// The header at `position`, of a batch that ends at or before `end`.
    async fn header(&mut self, position: u64, end: u64) -> Result<(BatchHeader, Bytes), String> {
        let bytes = self.reader.bytes(position, HEADER_BYTES).await.map_err(|error| unreadable(&error))?;
        let header = BatchHeader::parse(&bytes).map_err(|error| format!("no batch begins here: {error}"))?;
        let length = header.total_bytes() as u64;
        if position + length > end {
            return Err(format!("no batch begins here: {length} bytes would pass the end of the range at {end}"));
        }
        Ok((header, bytes))
    }

    fn disorder(&self, before: &Order, header: &BatchHeader) -> Option<String> {
        let base = header.base_offset;
        if base < before.next || header.last_offset_delta < 0 {
            return Some(format!(
                "a batch of offsets {base} to {} follows offset {}",
                header.last_offset(),
                before.next
            ));
        }
        if before.is_exact && base != before.next && !self.segment.has_holes {
            return Some(format!("offsets {} to {} are missing", before.next, Offset(base.0 - 1)));
        }
        if header.leader_epoch < before.leader_epoch {
            return Some(format!("leader epoch {} follows {}", header.leader_epoch, before.leader_epoch));
        }
        None
    }

    fn short(&mut self, position: u64, end: u64, offset: Offset, why: String) -> Ended {
        match self.tell(position, end - position, offset, why) {
            ControlFlow::Continue(()) => Ended::Short,
            ControlFlow::Break(()) => Ended::Stopped,
        }
    }

    fn tell(&mut self, position: u64, length: u64, offset: Offset, why: String) -> ControlFlow<()> {
        let span = Span { file: &self.segment.name, position, length };
        (self.on_met)(Met::Damage(damaged_range(span, Some((self.segment.partition, Some(offset))), why)))
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends before it should".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

fn flushes(meta: &SegmentMeta) -> Vec<Range> {
    let mut start = 0;
    let range = |flush: &crate::partition::Flush| {
        let offset = (start == 0).then_some(meta.id.base);
        let begin = std::mem::replace(&mut start, flush.end_position);
        Range { start: begin, end: flush.end_position, batches: flush.batches, headers_crc: flush.headers_crc, offset }
    };
    meta.flushes.iter().map(range).collect()
}

/// The blocks of a footer that fits the manifest.
fn blocks(meta: &SegmentMeta, footer: &Footer) -> Option<Vec<Range>> {
    let index = &footer.index;
    let fits = footer.end == meta.end && index.end_position() == meta.data_bytes() && index.headers() == meta.headers();
    let blocks = index.blocks();
    let is_rising = blocks.windows(2).all(|pair| pair[0].position < pair[1].position);
    if !fits || !is_rising || blocks.first().is_none_or(|block| block.position != 0) {
        return None;
    }
    let ends = blocks.iter().skip(1).map(|block| block.position).chain([index.end_position()]);
    let range = |(block, end): (&crate::index::Block, u32)| Range {
        start: block.position,
        end,
        batches: block.batches,
        headers_crc: block.headers_crc,
        offset: meta.id.base.checked_add(block.offset_delta),
    };
    Some(blocks.iter().zip(ends).map(range).collect())
}

/// Reads a file from its start to its end, a chunk at a time.
struct Reader<F> {
    file: F,
    chunk: Bytes,
    chunk_at: u64,
}

impl<F: File> Reader<F> {
    /// `length` bytes, fewer than a chunk has.
    async fn bytes(&mut self, position: u64, length: usize) -> io::Result<Bytes> {
        let found = self.chunk_from(position, length).await?;
        if found.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(found.slice(..length)) }
    }

    /// The checksum of a range of any length.
    async fn crc(&mut self, from: u64, to: u64) -> io::Result<u32> {
        let mut crc = Crc32c::new();
        let mut position = from;
        while position < to {
            let found = self.chunk_from(position, 1).await?;
            if found.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let length = usize::try_from(to - position).map_or(found.len(), |left| left.min(found.len()));
            crc.update(&found[..length]);
            position += length as u64;
        }
        Ok(crc.finish())
    }

    /// Bytes from `position` on: at least `length` of them, but where the file ends.
    async fn chunk_from(&mut self, position: u64, length: usize) -> io::Result<Bytes> {
        let skip = position.checked_sub(self.chunk_at).and_then(|skip| usize::try_from(skip).ok());
        if let Some(rest) = skip.and_then(|skip| self.chunk.get(skip..))
            && rest.len() >= length
        {
            return Ok(self.chunk.slice_ref(rest));
        }
        self.chunk = match self.file.read_at(position, CHUNK_BYTES).await {
            Ok(chunk) => chunk,
            // The bad sector may lie further on.
            Err(_) => self.file.read_at(position, length.max(SECTOR_BYTES)).await?,
        };
        self.chunk_at = position;
        Ok(self.chunk.clone())
    }
}
