//! One file: what the process sees, what the device holds, and what lies between.
//!
//! Invariants
//! - Without a failed sync or a write that went astray, `cached` is `durable` with `pending` applied, in order.
//! - `base` is `cached` as it was at the last sync, good or bad.
//!
//! After a power cut (`settle`), since the last sync:
//! - The length is one that the file has had. Lengths reach the device in the order in which they came about.
//! - A sector is any of the images that it has had in the page cache, chosen for each sector by itself, but never goes back
//!   behind a cut of the file that survived: what was cut is gone. A write into a range that a lost cut had freed went to
//!   new blocks, which the file then never got.
//! - A torn sector holds the beginning of one image and the rest of the one before it.
//! - A sector beyond the durable length that never reached the device holds zeros or old bytes of the device.
//!
//! Not here: names (`names`), faults (`faults`).

use core::ops::Range;
use std::collections::BTreeMap;

use bytes::Bytes;
use imbl::OrdSet;

use super::{
    blocks::{BLOCK_BYTES, Blocks, SECTOR_BYTES, Sector, sectors_of},
    choices::{Choice, Choices},
    options::DiskOptions,
};

/// Something done to a file that no sync has covered yet.
#[derive(Clone)]
enum Change {
    Write { position: u64, bytes: Bytes, lands: Lands },
    SetLen(u64),
}

/// Where a write reaches the device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lands {
    Right,
    Nowhere,
    /// At this position.
    Elsewhere(u64),
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct FileNode {
    cached: Blocks,
    length: u64,
    durable: Blocks,
    durable_length: u64,
    base: Blocks,
    base_length: u64,
    pending: Vec<Change>,
    /// A sync has failed or a write gone astray: `cached` may show bytes that are neither durable nor pending.
    diverged: bool,
    /// Sectors that can't be read until they are written again.
    bad_sectors: OrdSet<u64>,
}

impl FileNode {
    pub(super) const fn len(&self) -> u64 {
        self.length
    }

    /// Blocks that it takes.
    pub(super) fn block_count(&self) -> u64 {
        self.cached.count()
    }

    /// Blocks that writing `length` bytes at `position` would newly take.
    pub(super) fn blocks_needed(&self, position: u64, length: u64) -> u64 {
        if length == 0 {
            return 0;
        }
        let blocks = position / BLOCK_BYTES as u64..(position + length).div_ceil(BLOCK_BYTES as u64);
        blocks.filter(|block| !self.cached.holds(*block)).count() as u64
    }

    /// Bytes from `position` up to the end of `buffer` or of the file; how many there were. `None` if a sector is bad.
    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> Option<usize> {
        let wanted = buffer.len() as u64;
        let count = self.length.saturating_sub(position).min(wanted);
        if self.bad_sectors.range(sectors_of(position, count)).next().is_some() {
            return None;
        }
        let count = usize::try_from(count).expect("at most the buffer's length");
        self.cached.read(position, &mut buffer[..count]);
        Some(count)
    }

    pub(super) fn write(&mut self, position: u64, bytes: Bytes, lands: Lands) {
        if bytes.is_empty() {
            return;
        }
        self.cached.write(position, &bytes);
        self.length = self.length.max(position + bytes.len() as u64);
        if !self.bad_sectors.is_empty() {
            for sector in sectors_of(position, bytes.len() as u64) {
                self.bad_sectors.remove(&sector);
            }
        }
        self.pending.push(Change::Write { position, bytes, lands });
    }

    pub(super) fn set_len(&mut self, length: u64) {
        if length < self.length {
            self.cached.truncate(length);
        }
        self.length = length;
        self.pending.push(Change::SetLen(length));
    }

    /// Everything written since the last sync, and the length, reach the device. What an earlier failed sync lost stays lost.
    pub(super) fn sync(&mut self) {
        let goes_astray = self.pending.iter().any(Change::goes_astray);
        if self.diverged || goes_astray {
            self.sync_touched();
        } else {
            self.durable = self.cached.clone();
        }
        self.diverged |= goes_astray;
        self.durable_length = self.length;
        self.rebase();
    }

    fn sync_touched(&mut self) {
        for change in &self.pending {
            if let Change::SetLen(length) = change {
                self.durable.truncate(*length);
            }
        }
        for change in &self.pending {
            let Change::Write { position, bytes, lands } = change else { continue };
            match lands {
                Lands::Right => {
                    for sector in sectors_of(*position, bytes.len() as u64) {
                        self.durable.set_sector(sector, &self.cached.sector(sector));
                    }
                }
                Lands::Nowhere => {}
                Lands::Elsewhere(elsewhere) => self.durable.write(*elsewhere, bytes),
            }
        }
        self.durable.truncate(self.length);
    }

    fn rebase(&mut self) {
        self.pending.clear();
        self.base = self.cached.clone();
        self.base_length = self.length;
    }

    /// A sync fails: some of what was pending reached the device, the rest never will, and the page cache calls all of it
    /// clean. It goes on showing the lost bytes until it drops them.
    pub(super) fn fail_sync(&mut self, options: &DiskOptions, choices: &mut dyn Choices) {
        if self.pending.is_empty() {
            return;
        }
        (self.durable, self.durable_length) = self.settle(options, choices);
        self.rebase();
        self.diverged = true;
        if choices.choose(Choice::Cache, 2) == 0 {
            self.drop_clean_cache();
        }
    }

    /// The page cache drops what is clean: what a failed sync lost is now seen to be lost.
    pub(super) fn drop_clean_cache(&mut self) {
        if !self.diverged {
            return;
        }
        self.cached = self.durable.clone();
        self.base = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Write { position, bytes, .. } => self.cached.write(*position, bytes),
                Change::SetLen(length) => self.cached.truncate(*length),
            }
        }
        self.diverged = self.durable_length != self.base_length;
    }

    /// The power goes: only what `choices` let reach the device is left.
    pub(super) fn power_cut(&mut self, options: &DiskOptions, choices: &mut dyn Choices) {
        if self.pending.is_empty() && !self.diverged {
            return;
        }
        (self.durable, self.durable_length) = self.settle(options, choices);
        self.cached = self.durable.clone();
        self.length = self.durable_length;
        self.rebase();
        self.diverged = false;
    }

    /// Whether the page cache may show bytes that a failed sync lost.
    pub(super) const fn shows_lost_bytes(&self) -> bool {
        self.diverged
    }

    /// Flips a bit on the device, and in the page cache unless newer bytes lie there.
    pub(super) fn flip_bit(&mut self, position: u64, bit: u8) {
        self.durable.flip_bit(position, bit);
        self.base.flip_bit(position, bit);
        let covered = self.pending.iter().any(|change| change.touches_sectors(position..position + 1));
        if !covered {
            self.cached.flip_bit(position, bit);
        }
    }

    /// Makes the sectors of a range unreadable until they are written again.
    pub(super) fn make_unreadable(&mut self, range: Range<u64>) {
        for sector in sectors_of(range.start, range.end - range.start) {
            self.bad_sectors.insert(sector);
        }
    }

    /// Whether a power cut now, whatever it chooses, leaves the bytes of `range` as the process sees them.
    pub(super) fn is_durable(&self, range: Range<u64>) -> bool {
        if range.end > self.durable_length || range.end > self.length {
            return false;
        }
        let quiet = !self.pending.iter().any(|change| change.endangers(&range));
        quiet && self.same_bytes(range)
    }

    fn same_bytes(&self, range: Range<u64>) -> bool {
        let mut position = range.start;
        let (mut seen, mut held) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        while position < range.end {
            let count = usize::try_from((range.end - position).min(BLOCK_BYTES as u64)).expect("at most a block");
            self.cached.read(position, &mut seen[..count]);
            self.durable.read(position, &mut held[..count]);
            if seen[..count] != held[..count] {
                return false;
            }
            position += count as u64;
        }
        true
    }

    /// The lengths that a power cut may leave, oldest first, and for each pending change the index of the length that it made
    /// (or left).
    fn lengths(&self) -> (Vec<u64>, Vec<usize>) {
        let mut lengths = vec![self.durable_length];
        let mut length = self.base_length;
        let mut indexes = Vec::with_capacity(self.pending.len());
        for change in &self.pending {
            let next = match change {
                Change::Write { position, bytes, .. } => length.max(position + bytes.len() as u64),
                Change::SetLen(length) => *length,
            };
            let newest = *lengths.last().expect("the durable length is there from the start");
            if next != length || (self.diverged && next != newest) {
                lengths.push(next);
            }
            length = next;
            indexes.push(lengths.len() - 1);
        }
        (lengths, indexes)
    }

    /// What the device holds after a power cut now.
    fn settle(&self, options: &DiskOptions, choices: &mut dyn Choices) -> (Blocks, u64) {
        if self.pending.is_empty() {
            return (self.durable.clone(), self.durable_length);
        }
        let (lengths, indexes) = self.lengths();
        let chosen = match lengths.len() as u64 {
            1 => 0,
            count => usize::try_from(choices.choose(Choice::Length, count)).expect("below a length"),
        };
        let mut settling = Settling {
            durable: self.durable.clone(),
            image: self.base.clone(),
            image_length: self.base_length,
            histories: BTreeMap::new(),
            frozen_from: u64::MAX,
        };
        for (change, index) in self.pending.iter().zip(indexes) {
            match change {
                Change::Write { position, bytes, lands: Lands::Right } => settling.write(*position, bytes),
                Change::Write { bytes, lands: Lands::Elsewhere(elsewhere), .. } => settling.write(*elsewhere, bytes),
                Change::Write { lands: Lands::Nowhere, .. } => {}
                Change::SetLen(length) => settling.set_len(*length, index <= chosen),
            }
        }
        let length = lengths[chosen];
        (settling.finish(self.durable_length, length, options, choices), length)
    }
}

impl Change {
    fn goes_astray(&self) -> bool {
        matches!(self, Self::Write { lands: Lands::Nowhere | Lands::Elsewhere(_), .. })
    }

    fn touches_sectors(&self, range: Range<u64>) -> bool {
        match self {
            Self::Write { position, bytes, .. } => {
                let written = sectors_of(*position, bytes.len() as u64);
                let asked = sectors_of(range.start, range.end - range.start);
                written.start < asked.end && asked.start < written.end
            }
            Self::SetLen(_) => false,
        }
    }

    fn endangers(&self, range: &Range<u64>) -> bool {
        match self {
            Self::Write { position, bytes, .. } => {
                *position < range.end && range.start < *position + bytes.len() as u64
            }
            Self::SetLen(length) => *length < range.end,
        }
    }
}

/// The work of [`FileNode::settle`].
struct Settling {
    durable: Blocks,
    /// The page cache at this point of the replay.
    image: Blocks,
    image_length: u64,
    /// Per sector the images it has had, oldest first; the first is the one on the device.
    histories: BTreeMap<u64, Vec<Sector>>,
    /// Sectors that end beyond this stay as they are: a cut before them was lost.
    frozen_from: u64,
}

impl Settling {
    fn write(&mut self, position: u64, bytes: &Bytes) {
        self.image.write(position, bytes);
        self.image_length = self.image_length.max(position + bytes.len() as u64);
        for sector in sectors_of(position, bytes.len() as u64) {
            if (sector + 1) * SECTOR_BYTES as u64 > self.frozen_from {
                continue;
            }
            let history = self.histories.entry(sector).or_insert_with(|| vec![self.durable.sector(sector)]);
            history.push(self.image.sector(sector));
        }
    }

    fn set_len(&mut self, length: u64, survives: bool) {
        if length < self.image_length {
            self.image.truncate(length);
            if survives {
                self.cut(length);
            } else {
                self.frozen_from = self.frozen_from.min(length);
            }
        }
        self.image_length = length;
    }

    fn cut(&mut self, length: u64) {
        self.durable.truncate(length);
        self.histories.split_off(&length.div_ceil(SECTOR_BYTES as u64));
        let within = usize::try_from(length % SECTOR_BYTES as u64).expect("below 512");
        if let Some(history) = self.histories.get_mut(&(length / SECTOR_BYTES as u64)) {
            for image in history {
                image[within..].fill(0);
            }
        }
    }

    fn finish(mut self, durable_length: u64, length: u64, options: &DiskOptions, choices: &mut dyn Choices) -> Blocks {
        for (sector, history) in &self.histories {
            let position = sector * SECTOR_BYTES as u64;
            if position >= length {
                break;
            }
            let mut image = pick(history, options, choices);
            let never_written = image == history[0] && position >= durable_length;
            if never_written && options.garbage_tails && choices.choose(Choice::Tail, 2) == 0 {
                image.fill_with(|| choices.garbage());
            }
            self.durable.set_sector(*sector, &image);
        }
        self.durable.truncate(length);
        self.durable
    }
}

fn pick(history: &[Sector], options: &DiskOptions, choices: &mut dyn Choices) -> Sector {
    let count = history.len() as u64;
    let chosen = usize::try_from(choices.choose(Choice::Sector, count)).expect("below a length");
    let mut image = history[chosen];
    if options.torn_sectors
        && let Some(next) = history.get(chosen + 1)
    {
        let cut = usize::try_from(choices.choose(Choice::Tear, SECTOR_BYTES as u64)).expect("below 512") + 1;
        if cut < SECTOR_BYTES {
            image[..cut].copy_from_slice(&next[..cut]);
        }
    }
    image
}
