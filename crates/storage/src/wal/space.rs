//! Where in the WAL's files the next group goes, and how much may still be promised. Pure bookkeeping; the files themselves are
//! made by `fill` and written by `writer`.
//!
//! ```text
//! state of a file    left by
//! Free               `roll`: it becomes the active one, to be written from its start
//! Active             `roll`: it becomes Live; `room`, once a checkpoint covers all of it: it is written again from its start
//! Live               `recycle_below`: it becomes Free once a checkpoint covers its last group
//! ```
//!
//! Invariants
//! - A group lies in one file. So a file's end may stay unused, but by less than the longest frame waiting: what is promised is
//!   bounded such that every promised frame finds its place however the others are packed.
//! - No byte of a group that no durable checkpoint covers is given away.
//!
//! Files have different sizes: the first one is small, since a first start must be fast, and each further one is as large as all
//! before it together, up to a limit. A file is filled before it is used, never while it is: extending a file locks out writes to
//! it, and would put the cost of allocation into the latency of the log.
//!
//! Read `writer` next.

use std::collections::{BTreeMap, VecDeque};

use quipu_base::limits::{WAL_RESERVE_BYTES, WAL_START_BYTES};

use super::{
    format::{PAGE_BYTES, group_bytes},
    types::{Class, GroupSequence, WalSpace},
};

/// Groups longer than this are announced by two groups before them, see `reach` in `format`. Far above what frames of
/// [`quipu_base::limits::WAL_GROUP_BYTES_MAX`] need with the largest directory.
pub(crate) const REACH_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of one file between two marks by which covered bytes are counted.
const MARK_BYTES: u64 = 1024 * 1024;
const PAGE: u64 = PAGE_BYTES as u64;

/// WAL space that a frame with this payload takes at most: a group of its own, a proof after it, and, if it is long, two
/// announcements before it.
pub(crate) fn frame_cost(payload_bytes: usize) -> u64 {
    step_cost(1, payload_bytes)
}

/// The same for frames that have to lie in one group.
pub(crate) fn step_cost(frame_count: usize, payload_bytes: usize) -> u64 {
    let group = group_bytes(frame_count, payload_bytes) as u64;
    group + PAGE + if group > REACH_BYTES { 2 * PAGE } else { 0 }
}

/// Costs promised and not yet used, with the largest of them.
#[derive(Debug)]
struct Promises {
    total: u64,
    /// By the cost's power of two: how many, and the largest since there was none.
    buckets: [(u32, u64); 64],
}

impl Promises {
    const NONE: Self = Self { total: 0, buckets: [(0, 0); 64] };

    fn add(&mut self, cost: u64) {
        let (count, largest) = &mut self.buckets[cost.ilog2() as usize];
        *count += 1;
        *largest = cost.max(*largest);
        self.total += cost;
    }

    fn remove(&mut self, cost: u64) {
        let (count, largest) = &mut self.buckets[cost.ilog2() as usize];
        *count -= 1;
        if *count == 0 {
            *largest = 0;
        }
        self.total -= cost;
    }

    fn largest(&self) -> u64 {
        self.buckets.iter().rev().find(|(count, _)| *count > 0).map_or(0, |(_, largest)| *largest)
    }
}

#[derive(Debug)]
struct FileSpace {
    size: u64,
    /// The groups in it that count; none if it is free.
    groups: Option<(GroupSequence, GroupSequence)>,
    /// End of the last of them.
    written: u64,
    /// Some groups and where they start, in rising order.
    marks: Vec<(GroupSequence, u64)>,
}

impl FileSpace {
    const fn empty(size: u64) -> Self {
        Self { size, groups: None, written: 0, marks: Vec::new() }
    }

    fn is_covered(&self, recycled: GroupSequence) -> bool {
        self.groups.is_none_or(|(_, last)| last < recycled)
    }

    /// Bytes of groups from `recycled` on, rounded up to a mark.
    fn uncovered(&self, recycled: GroupSequence) -> u64 {
        if self.is_covered(recycled) {
            return 0;
        }
        let covered = self.marks.iter().rev().find(|(sequence, _)| *sequence <= recycled).map_or(0, |(_, at)| *at);
        self.written - covered
    }

    fn add(&mut self, sequence: GroupSequence, length: u64) {
        if self.marks.last().is_none_or(|(_, at)| self.written - at >= MARK_BYTES) {
            self.marks.push((sequence, self.written));
        }
        let first = self.groups.map_or(sequence, |(first, _)| first);
        self.groups = Some((first, sequence));
        self.written += length;
    }
}

/// What the WAL may grow to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpaceLimits {
    pub(crate) file_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl SpaceLimits {
    /// Size of the first file.
    pub(crate) fn start_bytes(&self) -> u64 {
        WAL_START_BYTES.min(self.file_bytes)
    }
}

#[derive(Debug)]
pub(crate) struct Space {
    limits: SpaceLimits,
    files: BTreeMap<u32, FileSpace>,
    /// Files to be written next, in this order.
    free: VecDeque<u32>,
    active: Option<u32>,
    /// Groups below are covered by a durable checkpoint.
    recycled: GroupSequence,
    promises: Promises,
    /// The largest cost that somebody waits for.
    wanted: u64,
    /// The last attempt to make a file found no room on the disk.
    pub(crate) disk_full: bool,
    /// The checkpoint can't progress.
    pub(crate) stuck: bool,
}

impl Space {
    pub(crate) const fn new(limits: SpaceLimits) -> Self {
        Self {
            limits,
            files: BTreeMap::new(),
            free: VecDeque::new(),
            active: None,
            recycled: GroupSequence::NONE,
            promises: Promises::NONE,
            wanted: 0,
            disk_full: false,
            stuck: false,
        }
    }

    /// Adds a file that may be written from its start.
    pub(crate) fn add_free(&mut self, number: u32, size: u64) {
        let before = self.files.insert(number, FileSpace::empty(size));
        assert!(before.is_none(), "WAL file {number} is known already");
        self.free.push_back(number);
        self.disk_full = false;
    }

    /// Adds a file whose groups recovery has found.
    pub(crate) fn add_live(&mut self, number: u32, size: u64, groups: (GroupSequence, GroupSequence), written: u64) {
        let file = FileSpace { size, groups: Some(groups), written, marks: vec![(groups.0, 0)] };
        let before = self.files.insert(number, file);
        assert!(before.is_none(), "WAL file {number} is known already");
    }

    /// Goes on writing in a file added by [`Self::add_live`].
    pub(crate) fn resume(&mut self, number: u32, position: u64) {
        assert!(!self.free.contains(&number), "WAL file {number} holds live groups");
        let file = self.files.get_mut(&number).expect("the file was added");
        assert!(position <= file.size, "position {position} in WAL file {number} of {} bytes", file.size);
        file.written = position;
        self.active = Some(number);
    }

    /// Bytes left in the active file. One that is covered by now is written again from its start.
    pub(crate) fn room(&mut self) -> u64 {
        let Some(number) = self.active else { return 0 };
        let file = self.files.get_mut(&number).expect("the active file is known");
        if file.is_covered(self.recycled) {
            *file = FileSpace::empty(file.size);
        }
        file.size - file.written
    }

    /// Makes a free file active in which `length` bytes fit, if there is one.
    pub(crate) fn roll(&mut self, length: u64) -> bool {
        let Some(index) = self.free.iter().position(|number| self.files[number].size >= length) else { return false };
        let old = self.active.take();
        self.active = self.free.remove(index);
        if let Some(old) = old {
            self.free_if_covered(old);
        }
        true
    }

    /// Gives the next `length` bytes of the active file to group `sequence`. Answers the file's number and the position.
    ///
    /// # Panics
    /// If there is less room.
    pub(crate) fn place(&mut self, sequence: GroupSequence, length: u64) -> (u32, u64) {
        let room = self.room();
        assert!(length <= room, "a group of {length} bytes for {room} bytes of room");
        let number = self.active.expect("there is room only in an active file");
        let file = self.files.get_mut(&number).expect("the active file is known");
        let position = file.written;
        file.add(sequence, length);
        (number, position)
    }

    /// Groups below `group` are covered by a durable checkpoint. True if that freed anything.
    pub(crate) fn recycle_below(&mut self, group: GroupSequence) -> bool {
        if group <= self.recycled {
            return false;
        }
        self.recycled = group;
        let covered: Vec<u32> = self
            .files
            .iter()
            .filter(|(number, file)| file.groups.is_some() && file.is_covered(group) && Some(**number) != self.active)
            .map(|(number, _)| *number)
            .collect();
        for number in &covered {
            self.free_if_covered(*number);
        }
        // A covered active file can be taken again, too.
        !covered.is_empty() || self.active.is_some_and(|number| self.files[&number].is_covered(group))
    }

    fn free_if_covered(&mut self, number: u32) {
        let recycled = self.recycled;
        let file = self.files.get_mut(&number).expect("only known files are freed");
        if file.is_covered(recycled) {
            *file = FileSpace::empty(file.size);
            self.free.push_back(number);
        }
    }

    pub(crate) const fn recycled(&self) -> GroupSequence {
        self.recycled
    }

    /// Promises `cost` bytes, if every frame promised so far and this one find their places.
    pub(crate) fn promise(&mut self, cost: u64, class: Class) -> bool {
        let fits = self.fits(cost, class);
        if fits {
            self.promises.add(cost);
        }
        fits
    }

    /// Promises without asking: for a frame that comes without a permit.
    pub(crate) fn promise_anyway(&mut self, cost: u64) {
        self.promises.add(cost);
    }

    /// Takes a promise back, or marks it used.
    pub(crate) fn release(&mut self, cost: u64) {
        self.promises.remove(cost);
    }

    fn fits(&self, cost: u64, class: Class) -> bool {
        let reserve = match class {
            Class::Normal => WAL_RESERVE_BYTES.min(self.filled() / 4),
            Class::Reserve => 0,
        };
        let largest = self.promises.largest().max(cost);
        let packed: u64 = self.holes().map(|hole| (hole + PAGE).saturating_sub(largest).min(hole)).sum();
        if packed >= self.promises.total + cost + reserve {
            return true;
        }
        // A single long frame needs one hole and no packing.
        self.promises.total == 0 && self.holes().any(|hole| hole >= cost) && self.holes().sum::<u64>() >= cost + reserve
    }

    /// Unused bytes, file by file.
    fn holes(&self) -> impl Iterator<Item = u64> {
        let active = self.active.map_or(0, |number| {
            let file = &self.files[&number];
            if file.is_covered(self.recycled) { file.size } else { file.size - file.written }
        });
        self.free.iter().map(|number| self.files[number].size).chain([active])
    }

    fn filled(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// Somebody waits for this much, or for nothing any more.
    pub(crate) fn set_wanted(&mut self, cost: u64) {
        self.wanted = cost;
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        self.wanted > 0
    }

    /// Whether a frame of this cost can ever be promised.
    pub(crate) fn is_too_long(&self, cost: u64) -> bool {
        let largest = self.files.values().map(|file| file.size).max().unwrap_or(0);
        cost > largest.max(self.next_size(cost).unwrap_or(0))
    }

    /// Whether another file may be made, as far as is known.
    pub(crate) fn can_grow(&self) -> bool {
        !self.disk_full && self.next_size(self.wanted).is_some()
    }

    /// Number and size of the file to be made now, if one is to be made.
    pub(crate) fn next_file(&self) -> Option<(u32, u64)> {
        let unused = self.holes().sum::<u64>().saturating_sub(self.promises.total);
        if self.wanted == 0 && unused >= self.filled() / 2 {
            return None;
        }
        let number = (0..).find(|number| !self.files.contains_key(number))?;
        self.next_size(self.wanted).map(|size| (number, size))
    }

    fn next_size(&self, wanted: u64) -> Option<u64> {
        let left = self.limits.total_bytes.saturating_sub(self.filled());
        let least = self.limits.start_bytes();
        let size = self.filled().max(least).max(wanted).min(self.limits.file_bytes).min(left);
        let size = size - size % PAGE;
        (size >= least).then_some(size)
    }

    pub(crate) fn report(&self) -> WalSpace {
        let used = self.files.values().map(|file| file.uncovered(self.recycled)).sum();
        let total = if self.disk_full { self.filled() } else { self.limits.total_bytes.max(self.filled()) };
        WalSpace { used, total }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SpaceLimits = SpaceLimits { file_bytes: 64 * PAGE, total_bytes: 256 * PAGE };

    fn sequence(number: u64) -> GroupSequence {
        GroupSequence(number)
    }

    #[test]
    fn files_are_used_in_turn_and_only_when_covered() {
        let mut space = Space::new(LIMITS);
        space.add_free(0, 8 * PAGE);
        space.add_free(1, 8 * PAGE);
        assert!(space.roll(PAGE));
        assert_eq!(space.place(sequence(1), 6 * PAGE), (0, 0));
        assert!(space.room() < 3 * PAGE && space.roll(3 * PAGE));
        assert_eq!(space.place(sequence(2), 3 * PAGE), (1, 0));
        assert!(!space.roll(6 * PAGE), "nothing is covered");
        assert!(space.recycle_below(sequence(2)));
        assert_eq!(space.report().used, 3 * PAGE);
        assert!(space.roll(6 * PAGE));
        assert_eq!(space.place(sequence(3), 6 * PAGE), (0, 0));
    }

    #[test]
    fn the_only_file_is_taken_again_when_it_is_covered() {
        let mut space = Space::new(LIMITS);
        space.add_free(0, 8 * PAGE);
        assert!(space.roll(PAGE));
        space.place(sequence(1), 8 * PAGE);
        assert!(!space.roll(PAGE));
        assert!(!space.promise(PAGE, Class::Reserve));
        assert!(space.recycle_below(sequence(2)));
        assert!(space.promise(PAGE, Class::Reserve));
        assert_eq!(space.place(sequence(2), PAGE), (0, 0));
    }

    #[test]
    fn a_quarter_of_a_small_log_is_kept_for_the_reserve() {
        let mut space = Space::new(LIMITS);
        space.add_free(0, 16 * PAGE);
        assert!(space.roll(PAGE));
        let normal = (0..100).take_while(|_| space.promise(PAGE, Class::Normal)).count();
        assert_eq!(normal, 12);
        let reserve = (0..100).take_while(|_| space.promise(PAGE, Class::Reserve)).count();
        assert_eq!(reserve, 4);
    }

    #[test]
    fn it_doubles_up_to_its_limits() {
        let limits = SpaceLimits { file_bytes: 256 << 20, total_bytes: 1 << 30 };
        let mut space = Space::new(limits);
        let mut sizes = Vec::new();
        space.set_wanted(PAGE);
        while let Some((number, size)) = space.next_file() {
            space.add_free(number, size);
            sizes.push(size >> 20);
        }
        assert_eq!(sizes, [16, 16, 32, 64, 128, 256, 256, 256]);
        assert!(!space.can_grow());
        space.set_wanted(0);
        assert_eq!(space.next_file(), None);
    }

    #[test]
    fn a_long_frame_needs_one_hole() {
        let mut space = Space::new(LIMITS);
        space.add_free(0, 32 * PAGE);
        assert!(!space.is_too_long(40 * PAGE), "a larger file can be made for it");
        assert!(space.is_too_long(65 * PAGE));
        assert!(space.promise(20 * PAGE, Class::Normal));
        assert!(!space.promise(20 * PAGE, Class::Normal));
        space.release(20 * PAGE);
        space.set_wanted(40 * PAGE);
        assert_eq!(space.next_file(), Some((1, 64 * PAGE)));
    }

    proptest! {
        /// Whatever was promised can be placed, in any packing, without any further recycling.
        #[test]
        fn promised_frames_find_their_places(
            sizes in prop::collection::vec(4_u64..40, 1..5),
            costs in prop::collection::vec((1_u64..20, any::<bool>()), 1..60),
            written in 0_u64..4,
        ) {
            let mut space = Space::new(LIMITS);
            for (number, size) in (0..).zip(&sizes) {
                space.add_free(number, size * PAGE);
            }
            prop_assert!(space.roll(PAGE));
            space.place(sequence(1), written * PAGE);
            let mut promised = Vec::new();
            for (cost, normal) in costs {
                let class = if normal { Class::Normal } else { Class::Reserve };
                if space.promise(cost * PAGE, class) {
                    promised.push(cost * PAGE);
                }
            }
            for (number, cost) in (2..).zip(promised) {
                if space.room() < cost {
                    prop_assert!(space.roll(cost), "no place for {} pages", cost / PAGE);
                }
                space.place(sequence(number), cost);
                space.release(cost);
            }
        }
    }
}
