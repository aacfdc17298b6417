//! Loading a segment's index, and checking blocks before they are handed out.
//!
//! Not here: what is done with a checked block (`read`).

use core::time::Duration;

use bytes::Bytes;
use quipu_base::{
    Offset,
    checksum::{Crc32c, crc32c},
};
use quipu_env::{Clock, Env, File, Probe};
use quipu_records::{BatchSlices, header::CRC_FROM_POSITION};

use super::{
    BadRange, CHECK_BYTES, OpenSegment,
    scan::{HeaderScan, NoBatch},
};
use crate::{
    ReadError,
    footer::{Footer, FooterError},
    index::{Block, COVERED_HEADER_BYTES, SparseIndex},
    lock,
    partition::SegmentMeta,
};

/// Checksumming this many bytes or more is given to the pool.
const OFFLOAD_BYTES: usize = 256 * 1024;
/// Time to checksum a mebibyte, for the simulator.
const CHECK_COST: Duration = Duration::from_micros(60);

impl<F: File> OpenSegment<F> {
    /// Makes the index cover all that `meta` has: from the footer, or by a scan.
    pub(super) async fn load<E: Env>(&self, meta: &SegmentMeta, interval: u32) -> Result<(), ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        if self.is_loaded(meta) {
            return Ok(());
        }
        let _loading = self.loading.lock().await;
        if self.is_loaded(meta) {
            return Ok(());
        }
        if let Some(footer) = self.read_footer(meta).await? {
            lock(&self.contents).index = footer.index;
            return Ok(());
        }
        self.build(meta, interval).await;
        Ok(())
    }

    /// The index of all that `meta` has; none if any of it can't be read.
    pub(crate) async fn whole_index<E: Env>(&self, meta: &SegmentMeta, interval: u32) -> Option<SparseIndex>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        if let Err(error) = self.load::<E>(meta, interval).await {
            tracing::error!(partition = %self.partition, %error, "a segment is sealed without an index");
            return None;
        }
        let contents = lock(&self.contents);
        let is_whole = contents.bad.is_empty() && contents.index.end_position() == meta.data_bytes();
        is_whole.then(|| contents.index.clone())
    }

    fn is_loaded(&self, meta: &SegmentMeta) -> bool {
        lock(&self.contents).index.end_position() >= meta.data_bytes()
    }

    /// The footer, if the segment has one and it fits the manifest. An error if it is of a later release.
    pub(crate) async fn read_footer(&self, meta: &SegmentMeta) -> Result<Option<Footer>, ReadError> {
        if meta.footer_bytes == 0 {
            return Ok(None);
        }
        let length = usize::try_from(meta.footer_bytes).expect("32 bits");
        let read = self.read_at(meta.data_bytes(), length).await;
        let why = match Footer::decode(&read) {
            Ok(footer) if fits(&footer, meta) => return Ok(Some(footer)),
            Ok(_) => "it is not the one that the manifest describes".to_owned(),
            // What it adds to the batches is not known here.
            Err(error @ FooterError::Newer(_)) => {
                return Err(self.damage(meta.data_bytes(), &error.to_string()));
            }
            Err(error @ FooterError::Damaged(_)) => error.to_string(),
        };
        tracing::error!(
            file = %self.file.path().display(), position = meta.data_bytes(), length, why,
            "a segment's footer is damaged; its index is rebuilt from the batches"
        );
        Ok(None)
    }

    /// Builds the index by a scan from where it ends, range by range as the manifest has their checksums.
    async fn build(&self, meta: &SegmentMeta, interval: u32) {
        let mut index = lock(&self.contents).index.clone();
        let known = index.end_position();
        if known != 0 && !meta.flushes.iter().any(|flush| flush.end_position == known) {
            index = SparseIndex::new(self.id.base);
        }
        let mut bad = Vec::new();
        let mut from = 0;
        let mut next_offset = self.id.base;
        for flush in &meta.flushes {
            let range = from..flush.end_position;
            from = flush.end_position;
            if range.end <= index.end_position() {
                continue;
            }
            let before = index.clone();
            let why = match self.scan_range(&mut index, range.clone(), interval, next_offset).await {
                Ok(found) if found.batches == flush.batches && found.crc == flush.headers_crc => {
                    next_offset = found.next_offset;
                    continue;
                }
                Ok(_) => "the checksum over the batch headers of this range is wrong".to_owned(),
                Err(why) => why,
            };
            index = before;
            let offset = next_offset.max(self.id.base);
            index.push_bad(offset, range.end);
            bad.push(BadRange { from: range.start, to: range.end, offset, why });
        }
        let mut contents = lock(&self.contents);
        contents.index = index;
        for range in bad {
            self.report(&range);
            contents.add_bad(range);
        }
    }

    async fn scan_range(
        &self,
        index: &mut SparseIndex,
        range: core::ops::Range<u32>,
        interval: u32,
        next_offset: Offset,
    ) -> Result<ScannedRange, String> {
        let mut scan = HeaderScan::new(self, range.start, range.end);
        let mut found = ScannedRange { batches: 0, crc: crc32c(b""), next_offset };
        let mut crc = Crc32c::new();
        loop {
            match scan.next().await {
                Ok(Some(batch)) => {
                    let base = batch.header.base_offset;
                    let span = batch.header.last_offset().records_since(self.id.base);
                    if base < found.next_offset || span > u64::from(u32::MAX) || batch.header.last_offset_delta < 0 {
                        return Err(format!("a batch at byte {} has base offset {base}", batch.position));
                    }
                    crc.update(&batch.bytes[..COVERED_HEADER_BYTES]);
                    found.batches += 1;
                    found.next_offset = batch.header.next_offset();
                    index.push(&batch.header, &batch.bytes, interval);
                }
                Ok(None) => {
                    found.crc = crc.finish();
                    return Ok(found);
                }
                Err(NoBatch { position, why }) => return Err(format!("no batch at byte {position}: {why}")),
            }
        }
    }

    /// Checks the blocks that lie in `from..to` and have not been checked lately. Answers where good bytes end: at `to`, or where
    /// the first bad block begins.
    pub(super) async fn check<E: Env>(&self, env: &E, from: u32, to: u32) -> Result<u32, ReadError> {
        let mut at = from;
        while at < to {
            let Some(run) = self.next_unchecked(env.clock().now(), at, to) else { return Ok(self.good_end(from, to)) };
            let length = usize::try_from(run.to - run.from).expect("a segment fits memory");
            let bytes = self.read_at(run.from, length).await;
            let blocks = run.blocks;
            let verdicts = if length >= OFFLOAD_BYTES {
                env.offload(CHECK_COST, move || check_blocks(&bytes, run.from, &blocks)).await
            } else {
                check_blocks(&bytes, run.from, &blocks)
            };
            let is_trusted = env.probe().planted("segment.rot-served");
            let mut contents = lock(&self.contents);
            for (number, verdict) in (run.first..).zip(verdicts) {
                match verdict {
                    Some(_) if is_trusted => contents.mark_checked(number),
                    None => contents.mark_checked(number),
                    Some(bad) => {
                        self.report(&bad);
                        let offset = contents.index.offset_of(number);
                        contents.add_bad(BadRange { offset, ..bad });
                    }
                }
            }
            drop(contents);
            if self.good_end(from, run.to) < run.to {
                break;
            }
            at = run.to;
        }
        Ok(self.good_end(from, to))
    }

    /// Where the bytes from `from` on cease to be known good.
    fn good_end(&self, from: u32, to: u32) -> u32 {
        let contents = lock(&self.contents);
        contents.bad_from(from).map_or(to, |range| range.from.clamp(from, to))
    }

    fn next_unchecked(&self, now: quipu_env::Instant, from: u32, to: u32) -> Option<Run> {
        let mut contents = lock(&self.contents);
        contents.age(now);
        let mut number = contents.index.block_at_position(from)?;
        let count = contents.index.blocks().len();
        let is_done = |number: usize| {
            let range = contents.index.range_of(number);
            contents.is_checked(number) || contents.bad_from(range.start).is_some_and(|bad| bad.from <= range.start)
        };
        while number < count && contents.index.range_of(number).start < to && is_done(number) {
            number += 1;
        }
        if number >= count || contents.index.range_of(number).start >= to {
            return None;
        }
        let first = number;
        let start = contents.index.range_of(first).start;
        let mut blocks = Vec::new();
        let mut end = start;
        while number < count && end < to && !is_done(number) {
            let range = contents.index.range_of(number);
            if number > first && range.end - start > CHECK_BYTES {
                break;
            }
            end = range.end;
            blocks.push((contents.index.blocks()[number], range.end));
            number += 1;
        }
        Some(Run { first, from: start, to: end, blocks })
    }

    /// The next run of whole blocks from the boundary `from` on, about a mebibyte, all of whose checksums are right; none if there is
    /// none before the end. What is bad is passed over, and remembered.
    pub(crate) async fn next_run<E: Env>(
        &self,
        env: &E,
        meta: &SegmentMeta,
        from: u32,
        interval: u32,
    ) -> Result<Option<GoodRun>, ReadError>
    where
        E::Disk: quipu_env::Disk<File = F>,
    {
        self.load::<E>(meta, interval).await?;
        let mut at = from;
        while at < meta.data_bytes() {
            let blocks = self.blocks_from(at, meta.data_bytes());
            let Some(end) = blocks.last().map(|(_, end)| *end) else { return Ok(None) };
            let length = usize::try_from(end - at).expect("a segment fits memory");
            let bytes = self.read_at(at, length).await;
            let checked = bytes.clone();
            let ends: Vec<u32> = blocks.iter().map(|(_, end)| *end).collect();
            let verdicts = env.offload(CHECK_COST, move || check_blocks(&checked, at, &blocks)).await;
            let good = verdicts.iter().take_while(|verdict| verdict.is_none()).count();
            if let Some(last) = good.checked_sub(1) {
                let end = ends[last];
                let length = usize::try_from(end - at).expect("a segment fits memory");
                return Ok(Some(GoodRun { bytes: bytes.slice(..length), end }));
            }
            if let Some(Some(bad)) = verdicts.into_iter().next() {
                self.note_bad(bad);
            }
            at = ends[0];
        }
        Ok(None)
    }

    fn blocks_from(&self, from: u32, limit: u32) -> Vec<(Block, u32)> {
        let contents = lock(&self.contents);
        let first = contents.index.block_at_position(from).unwrap_or(0);
        let mut blocks = Vec::new();
        for number in first..contents.index.blocks().len() {
            let range = contents.index.range_of(number);
            if range.start >= limit || (!blocks.is_empty() && range.end - from > CHECK_BYTES) {
                break;
            }
            blocks.push((contents.index.blocks()[number], range.end.min(limit)));
        }
        blocks
    }

    fn note_bad(&self, bad: BadRange) {
        self.report(&bad);
        let mut contents = lock(&self.contents);
        let offset =
            contents.index.block_at_position(bad.from).map_or(self.id.base, |number| contents.index.offset_of(number));
        contents.add_bad(BadRange { offset, ..bad });
    }

    fn report(&self, bad: &BadRange) {
        tracing::error!(
            partition = %self.partition, file = %self.file.path().display(), position = bad.from,
            length = bad.to - bad.from, offset = %bad.offset, why = bad.why,
            "a segment is damaged; the range is not served"
        );
    }
}

/// Whole batches, checked.
pub(crate) struct GoodRun {
    pub(crate) bytes: Bytes,
    /// Where in the segment they end.
    pub(crate) end: u32,
}

struct ScannedRange {
    batches: u32,
    crc: u32,
    next_offset: Offset,
}

/// Adjacent blocks to be checked, each with its end.
struct Run {
    first: usize,
    from: u32,
    to: u32,
    blocks: Vec<(Block, u32)>,
}

fn fits(footer: &Footer, meta: &SegmentMeta) -> bool {
    footer.end == meta.end
        && footer.index.end_position() == meta.data_bytes()
        && footer.index.headers() == meta.headers()
}

/// What is wrong with each block, if anything.
pub(crate) fn check_blocks(bytes: &Bytes, at: u32, blocks: &[(Block, u32)]) -> Vec<Option<BadRange>> {
    let verdict = |(block, end): &(Block, u32)| {
        let range = position_in(block.position, at)..position_in(*end, at);
        let why = match bytes.get(range) {
            Some(bytes) => check_block(bytes, block).err()?,
            None => "the file ends before it".to_owned(),
        };
        Some(BadRange { from: block.position, to: *end, offset: Offset(0), why })
    };
    blocks.iter().map(verdict).collect()
}

fn position_in(position: u32, at: u32) -> usize {
    usize::try_from(position - at).expect("a segment fits memory")
}

fn check_block(bytes: &[u8], block: &Block) -> Result<(), String> {
    let mut headers = Crc32c::new();
    let mut count = 0;
    let mut batches = BatchSlices::new(bytes);
    for batch in batches.by_ref() {
        let (header, bytes) = batch.map_err(|error| error.to_string())?;
        headers.update(&bytes[..COVERED_HEADER_BYTES]);
        count += 1;
        if crc32c(&bytes[CRC_FROM_POSITION..]) != header.crc {
            return Err(format!("the checksum of the batch at offset {} is wrong", header.base_offset));
        }
    }
    if !batches.rest().is_empty() {
        return Err("its last batch does not end where it should".to_owned());
    }
    if (count, headers.finish()) != (block.batches, block.headers_crc) {
        return Err("the checksum over its batch headers is wrong".to_owned());
    }
    Ok(())
}
