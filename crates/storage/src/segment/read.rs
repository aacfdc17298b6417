//! Finding and cutting out ranges of whole batches.
//!
//! Invariants
//! - What is answered begins at a batch and ends at one, holds no record at or above the upper bound, and has been checked.
//! - A gap ([`quipu_records::compact`]) comes cut to the offsets that are wanted, so that it looks like the batches that it
//!   stands for.
//!
//! Not here: reading across segments and the tail (`log`).

use core::ops::Range;

use bytes::Bytes;
use quipu_base::{Offset, Timestamp};
use quipu_env::{Env, File, Probe};
use quipu_records::{Batch, BatchHeader};

use super::{
    BadRange, OpenSegment,
    scan::{HeaderScan, Scanned},
};
use crate::{ReadError, lock, partition::SegmentMeta};

/// What is wanted of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The first offset; the batch that holds it comes whole.
    pub(crate) offset: Offset,
    /// No record at or above this, and so no batch that has one.
    pub(crate) upper: Offset,
    /// Bytes at most.
    pub(crate) max_bytes: usize,
    /// The first batch, however large.
    pub(crate) at_least_one: bool,
}

/// A checked range of whole batches, between what is wanted of gaps at its ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// The part of a gap that begins below the first offset wanted.
    pub(crate) head: Option<Bytes>,
    pub(crate) position: u32,
    pub(crate) length: u32,
    /// The part of a gap that reaches the upper bound.
    pub(crate) tail: Option<Bytes>,
    /// Where to read on.
    pub(crate) next_offset: Offset,
}

/// A batch boundary.
#[derive(Clone, Copy, Debug)]
struct Cut {
    position: u32,
    /// The offset from which on batches lie behind it.
    offset: Offset,
    /// The gap that begins there and reaches the upper bound.
    gap: Option<BatchHeader>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    position: u32,
    /// The gap before it, that holds the offset wanted and begins below it.
    gap: Option<BatchHeader>,
}

/// A block, as far as the manifest counts it.
#[derive(Clone, Copy, Debug)]
struct BlockAt {
    number: usize,
    start: u32,
    end: u32,
    offset: Offset,
}

impl<F: File> OpenSegment<F> {
    /// Whole batches from `bounds.offset` on. None if there are none below the upper bound, or if not even one fits.
    pub(crate) async fn read<E: Env>(
        &self,
        env: &E,
        meta: &SegmentMeta,
        bounds: Bounds,
        interval: u32,
    ) -> Result<Option<Part>, ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        self.load::<E>(meta, interval).await?;
        let Some(start) = self.locate(env, meta, bounds.offset).await? else { return Ok(None) };
        let limit = self.upper_cut(env, meta, bounds.upper).await?;
        let within = |gap: BatchHeader| gap.gap_within(&(bounds.offset..bounds.upper));
        let head = start.gap.and_then(within);
        let start = start.position;
        let end = self.end_of_part(meta, start, limit, bounds).await?;
        let tail = limit.gap.filter(|gap| {
            let is_next = end.map_or(start == limit.position, |end| end.position == limit.position);
            is_next && gap.base_offset >= bounds.offset
        });
        let tail = tail.and_then(within);
        let ends = [&head, &tail].map(|gap| gap.as_ref().map(|gap| gap.header().next_offset()));
        let Some(end) = end else {
            let next_offset = ends[1].or(ends[0]);
            let [head, tail] = [head, tail].map(|gap| gap.map(Batch::into_bytes));
            return Ok(next_offset.map(|next_offset| Part { head, position: start, length: 0, tail, next_offset }));
        };
        let good = self.check(env, start, end.position).await?;
        let is_whole = good == end.position;
        if good == start && head.is_none() {
            return Err(self.damage_at(start));
        }
        let next_offset = match ends {
            _ if good == start => ends[0].unwrap_or(bounds.offset),
            _ if !is_whole => self.offset_at(meta, good),
            [_, Some(next_offset)] => next_offset,
            [_, None] => end.offset,
        };
        let (head, tail) = (head.map(Batch::into_bytes), tail.filter(|_| is_whole).map(Batch::into_bytes));
        Ok(Some(Part { head, position: start, length: good - start, tail, next_offset }))
    }

    /// Where the first damage begins, or all of it ends.
    pub(crate) async fn good_bytes<E: Env>(&self, env: &E, meta: &SegmentMeta, interval: u32) -> Result<u32, ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        self.load::<E>(meta, interval).await?;
        self.check(env, 0, meta.data_bytes()).await
    }

    /// What of it is known to be bad: offsets.
    pub(crate) fn bad_offsets(&self, meta: &SegmentMeta) -> Vec<Range<Offset>> {
        let bad: Vec<BadRange> = lock(&self.contents).bad.clone();
        bad.iter().map(|range| range.offset..self.offset_at(meta, range.to)).collect()
    }

    /// Checks all of it. Error: the first damage.
    pub(crate) async fn check_all<E: Env>(&self, env: &E, meta: &SegmentMeta, interval: u32) -> Result<(), ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        let good = self.good_bytes(env, meta, interval).await?;
        if good < meta.data_bytes() { Err(self.damage_at(good)) } else { Ok(()) }
    }

    /// The first batch that ends at or above `from`, ends below `upper` and has a max timestamp of at least `timestamp`.
    pub(crate) async fn batch_since<E: Env>(
        &self,
        env: &E,
        meta: &SegmentMeta,
        timestamp: Timestamp,
        range: core::ops::Range<Offset>,
        interval: u32,
    ) -> Result<Option<Batch>, ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        self.load::<E>(meta, interval).await?;
        let mut number = lock(&self.contents).index.block_at(range.start).unwrap_or(0);
        loop {
            let found = lock(&self.contents).index.block_since(number, timestamp);
            let Some(block) = found.and_then(|found| self.block(meta, found)) else { return Ok(None) };
            if block.offset >= range.end {
                return Ok(None);
            }
            let mut scan = self.scan_block(env, block).await?;
            while let Some(batch) = self.next(&mut scan).await? {
                let header = &batch.header;
                if header.last_offset() >= range.end {
                    return Ok(None);
                }
                if header.last_offset() >= range.start && header.max_timestamp >= timestamp {
                    return self.batch(&batch).await.map(Some);
                }
            }
            number = block.number + 1;
        }
    }

    /// The largest max timestamp of the batches that lie in `range` whole or, at its start, in part; none without such a batch.
    pub(crate) async fn max_timestamp<E: Env>(
        &self,
        env: &E,
        meta: &SegmentMeta,
        range: core::ops::Range<Offset>,
        interval: u32,
    ) -> Result<Option<Timestamp>, ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        self.load::<E>(meta, interval).await?;
        let mut best = None;
        let mut number = lock(&self.contents).index.block_at(range.start).unwrap_or(0);
        while let Some(block) = self.block(meta, number) {
            number += 1;
            if block.offset >= range.end {
                break;
            }
            let inside = block.offset >= range.start && self.offset_at(meta, block.end) <= range.end;
            if inside && block.end < meta.data_bytes() {
                best = best.max(Some(lock(&self.contents).index.blocks()[block.number].max_timestamp));
                continue;
            }
            let mut scan = self.scan_block(env, block).await?;
            while let Some(batch) = self.next(&mut scan).await? {
                if batch.header.last_offset() >= range.start && batch.header.last_offset() < range.end {
                    best = best.max(Some(batch.header.max_timestamp));
                }
            }
        }
        Ok(best)
    }

    /// Where the batch begins that holds `offset`, or the first one behind it.
    async fn locate<E: Env>(&self, env: &E, meta: &SegmentMeta, offset: Offset) -> Result<Option<Start>, ReadError> {
        let at = |position| Start { position, gap: None };
        let number = lock(&self.contents).index.block_at(offset).unwrap_or(0);
        let Some(mut block) = self.block(meta, number) else { return Ok(None) };
        if env.probe().planted("segment.index-off-by-one") {
            block = self.block(meta, number + 1).unwrap_or(block);
        }
        if offset <= block.offset {
            return Ok(Some(at(block.start)));
        }
        let mut scan = self.scan_block(env, block).await?;
        while let Some(batch) = self.next(&mut scan).await? {
            let Scanned { header, position, .. } = batch;
            if header.last_offset() >= offset {
                let is_cut = header.is_gap() && header.base_offset < offset;
                let size = u32::try_from(header.total_bytes()).expect("scanned: it ends in the segment");
                let cut = Start { position: position + size, gap: Some(header) };
                return Ok(Some(if is_cut { cut } else { at(position) }));
            }
        }
        Ok((block.end < meta.data_bytes()).then_some(at(block.end)))
    }

    /// Where the batches end that have nothing at or above `upper`.
    async fn upper_cut<E: Env>(&self, env: &E, meta: &SegmentMeta, upper: Offset) -> Result<Cut, ReadError> {
        if meta.end <= upper {
            return Ok(Cut { position: meta.data_bytes(), offset: meta.end, gap: None });
        }
        let number = lock(&self.contents).index.block_at(upper);
        let Some(block) = number.and_then(|number| self.block(meta, number)) else {
            return Ok(Cut { position: 0, offset: meta.id.base, gap: None });
        };
        let mut cut = Cut { position: block.start, offset: block.offset, gap: None };
        if upper <= block.offset {
            return Ok(cut);
        }
        // Damage ends the search: what lies before it can be served.
        let Ok(mut scan) = self.scan_block(env, block).await else { return Ok(cut) };
        while let Some(batch) = self.next(&mut scan).await? {
            if batch.header.last_offset() >= upper {
                let gap = Some(batch.header).filter(|header| header.is_gap() && header.base_offset < upper);
                return Ok(Cut { position: batch.position, offset: batch.header.base_offset, gap });
            }
            cut = Cut { position: block.end, offset: batch.header.next_offset(), gap: None };
        }
        Ok(cut)
    }

    /// Where a part that begins at `start` ends: at a block's end, or at a batch's where no block's end fits.
    async fn end_of_part(
        &self,
        meta: &SegmentMeta,
        start: u32,
        limit: Cut,
        bounds: Bounds,
    ) -> Result<Option<Cut>, ReadError> {
        if start >= limit.position {
            return Ok(None);
        }
        let most = u64::from(start) + bounds.max_bytes as u64;
        if most >= u64::from(limit.position) {
            return Ok(Some(limit));
        }
        let boundary = lock(&self.contents).index.boundary_at_or_below(most);
        if boundary > start {
            return Ok(Some(Cut { position: boundary, offset: self.offset_at(meta, boundary), gap: None }));
        }
        let mut scan = HeaderScan::new(self, start, limit.position);
        let mut end = None;
        while let Some(batch) = self.next(&mut scan).await? {
            let position =
                batch.position + u32::try_from(batch.header.total_bytes()).expect("scanned: it ends in the segment");
            let fits = u64::from(position) <= most;
            if fits || (end.is_none() && bounds.at_least_one) {
                end = Some(Cut { position, offset: batch.header.next_offset(), gap: None });
            }
            if !fits {
                break;
            }
        }
        Ok(end)
    }

    /// The offset from which on batches lie at or behind the block boundary `position`.
    fn offset_at(&self, meta: &SegmentMeta, position: u32) -> Offset {
        if position >= meta.data_bytes() {
            return meta.end;
        }
        let contents = lock(&self.contents);
        contents.index.block_at_position(position).map_or(meta.end, |number| contents.index.offset_of(number))
    }

    fn block(&self, meta: &SegmentMeta, number: usize) -> Option<BlockAt> {
        let contents = lock(&self.contents);
        contents.index.blocks().get(number)?;
        let range = contents.index.range_of(number);
        let limit = meta.data_bytes();
        (range.start < limit).then(|| BlockAt {
            number,
            start: range.start,
            end: range.end.min(limit),
            offset: contents.index.offset_of(number),
        })
    }

    /// Checks a block and walks through its headers.
    async fn scan_block<E: Env>(&self, env: &E, block: BlockAt) -> Result<HeaderScan<'_, F>, ReadError> {
        if self.check(env, block.start, block.end).await? < block.end {
            return Err(self.damage_at(block.start));
        }
        Ok(HeaderScan::new(self, block.start, block.end))
    }

    /// Walks through the headers in a range, which are not checked.
    pub(crate) const fn scan(&self, range: core::ops::Range<u32>) -> HeaderScan<'_, F> {
        HeaderScan::new(self, range.start, range.end)
    }

    /// The next header of a [`Self::scan`].
    pub(crate) async fn next(&self, scan: &mut HeaderScan<'_, F>) -> Result<Option<Scanned>, ReadError> {
        scan.next().await.map_err(|error| {
            self.distrust();
            self.damage(error.position, &error.why)
        })
    }

    async fn batch(&self, at: &Scanned) -> Result<Batch, ReadError> {
        let bytes = self.read_at(at.position, at.header.total_bytes()).await;
        Batch::parse_checked(bytes).map_err(|error| {
            self.distrust();
            let (offset, why) = (at.header.base_offset, error.to_string());
            self.damaged(&BadRange { from: at.position, to: at.position, offset, why })
        })
    }

    /// Forgets what was checked: it is not as it was. Whoever reads next finds, and notes, what is bad.
    pub(crate) fn distrust(&self) {
        lock(&self.contents).forget_checks();
    }

    /// Damage at `position` that a caller has found.
    pub(crate) fn damage(&self, position: u32, why: &str) -> ReadError {
        self.damaged(&BadRange { from: position, to: position, offset: self.id.base, why: why.to_owned() })
    }

    fn damage_at(&self, position: u32) -> ReadError {
        let contents = lock(&self.contents);
        match contents.bad_from(position) {
            Some(range) => self.damaged(range),
            None => self.damaged(&BadRange {
                from: position,
                to: position,
                offset: self.id.base,
                why: "its checksums are not known".to_owned(),
            }),
        }
    }
}
