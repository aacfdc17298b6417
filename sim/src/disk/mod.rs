//! The one disk model: a file system of one simulated machine, with what is durable and what is still in flight.
//!
//! A pure, synchronous machine. Operations do what the process asked for; [`DiskModel::power_cut`] leaves what a power cut
//! may leave; [`DiskModel::kill`] what the end of a process leaves (everything: the page cache is the kernel's). What a power
//! cut keeps is decided by [`Choices`]: chance, a fixed rule, or a test that tries every possibility.
//!
//! The adversary
//! - File content: each 512-byte sector by itself holds any of the images it has had since the last good sync, or is torn
//!   between two of them; see `file`.
//! - A file's length is any that it has had since then; what was never written of it holds zeros or old bytes of the device.
//! - Names: each creation, rename and removal that no `sync_dir` covered survives or not by itself, as long as the result
//!   makes sense; see `names`. The sync of a file says nothing about its name.
//! - Faults ([`FaultRule`]): failed syncs after which the page cache calls lost pages clean, lying syncs, failed and short
//!   reads, failed, lost and misdirected writes; and, by hand, flipped bits, unreadable sectors, a smaller disk, an empty one,
//!   an old one.
//! - The power goes at any chosen operation ([`CrashPlan`]).
//!
//! Invariants
//! - Nothing here reads a clock or draws a number: the same calls with the same choices give the same disk.
//! - A clone is a snapshot; it shares all content and costs little.
//!
//! Not here: time (latencies, stalls) and tasks: `env::disk` puts them around it.

mod blocks;
mod choices;
mod faults;
mod file;
mod names;
mod ops;
mod options;
mod plan;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod tree;

use core::ops::Range;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

pub use blocks::{BLOCK_BYTES, SECTOR_BYTES};
pub(crate) use choices::Counted;
pub use choices::{Choice, Choices, Exhaustive, ExhaustiveRun, KeepAll, LoseAll, PageChoices, RandomChoices};
pub use faults::{Fault, FaultRule};
use file::FileNode;
use imbl::OrdMap;
use names::{DirNode, Inode, NameChange, PendingNames};
pub use ops::{FileHandle, LockHandle};
pub use options::DiskOptions;
pub use plan::{Count, CrashPlan, Moment};
use plan::{Counter, OpKind, Verdict};

const ROOT: Inode = Inode(0);

#[derive(Clone)]
enum Content {
    File(FileNode),
    Dir(DirNode),
}

/// A file or directory and who refers to it.
#[derive(Clone)]
struct Node {
    content: Content,
    /// Has a name that the process sees.
    linked: bool,
    /// Has a name on the device.
    durably_linked: bool,
    handles: u32,
    /// Its blocks are counted in `used_blocks`.
    counted: bool,
}

/// See the module.
#[derive(Clone)]
pub struct DiskModel {
    options: DiskOptions,
    /// As many bytes fit while a fault lasts.
    squeezed_to: Option<u64>,
    nodes: OrdMap<Inode, Node>,
    next_inode: u64,
    pending: PendingNames,
    /// Who holds which lock file.
    locks: BTreeMap<Inode, u64>,
    next_lock: u64,
    used_blocks: u64,
    faults: faults::Faults,
    counter: Counter,
    /// Rises when handles lose their meaning: with each kill and power cut.
    epoch: u64,
    powered: bool,
}

impl DiskModel {
    /// An empty disk.
    #[must_use]
    pub fn new(options: DiskOptions) -> Self {
        let root = Node {
            content: Content::Dir(DirNode::default()),
            linked: true,
            durably_linked: true,
            handles: 0,
            counted: false,
        };
        Self {
            options,
            squeezed_to: None,
            nodes: OrdMap::unit(ROOT, root),
            next_inode: ROOT.0 + 1,
            pending: PendingNames::default(),
            locks: BTreeMap::new(),
            next_lock: 0,
            used_blocks: 0,
            faults: faults::Faults::default(),
            counter: Counter::default(),
            epoch: 0,
            powered: true,
        }
    }

    /// Sets when the power will go, and counts operations anew.
    pub fn set_crash_plan(&mut self, plan: Option<CrashPlan>) {
        self.counter.set_plan(plan);
    }

    /// Operations since the plan was set: (changes, of these syncs).
    #[must_use]
    pub const fn operation_counts(&self) -> (u64, u64) {
        (self.counter.changes, self.counter.syncs)
    }

    /// Whether the power is on. It goes off by a [`CrashPlan`]; then every operation fails until [`Self::power_cut`].
    #[must_use]
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// The power goes (if it has not gone already) and comes back: only what `choices` let reach the device is left. Handles
    /// and locks of before are void, the crash plan is done with.
    pub fn power_cut(&mut self, choices: &mut dyn Choices) {
        for change in self.pending.power_cut(choices) {
            self.apply_durably(&change);
        }
        let reachable = self.durably_reachable();
        let unreachable: Vec<Inode> = self.nodes.keys().copied().filter(|inode| !reachable.contains(inode)).collect();
        for inode in unreachable {
            self.nodes.remove(&inode);
        }
        for inode in reachable {
            let Self { nodes, options, .. } = self;
            let node = nodes.get_mut(&inode).expect("a name on the device leads to something");
            (node.linked, node.durably_linked) = (true, true);
            match &mut node.content {
                Content::Dir(dir) => dir.cached = dir.durable.clone(),
                Content::File(file) => file.power_cut(options, choices),
            }
        }
        self.powered = true;
        self.counter.set_plan(None);
        self.end_of_process();
    }

    /// The process ends, the machine goes on: everything written stays. `choices` decide whether the page cache still shows
    /// what a failed sync lost. Handles and locks of before are void.
    pub fn kill(&mut self, choices: &mut dyn Choices) {
        let inodes: Vec<Inode> = self.nodes.keys().copied().collect();
        for inode in inodes {
            if self.file_ref(inode).is_some_and(FileNode::shows_lost_bytes) && choices.choose(Choice::Cache, 2) == 0 {
                self.file_mut(inode).expect("it was there just now").drop_clean_cache();
            }
        }
        self.end_of_process();
    }

    fn end_of_process(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.used_blocks = 0;
        let inodes: Vec<Inode> = self.nodes.keys().copied().collect();
        for inode in inodes {
            let node = self.nodes.get_mut(&inode).expect("the key was listed");
            node.handles = 0;
            node.counted = node.linked && matches!(node.content, Content::File(_));
            if let (true, Content::File(file)) = (node.counted, &node.content) {
                self.used_blocks += file.block_count();
            }
            self.reap(inode);
        }
    }

    /// Puts a fault rule in force.
    pub fn inject(&mut self, mut rule: FaultRule) {
        rule.below = tree::normal_path(&rule.below).unwrap_or(rule.below);
        self.faults.add(rule);
    }

    /// Takes all fault rules out of force.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Kinds of faults that have happened since this was last asked.
    pub(crate) fn take_happened(&mut self) -> Vec<&'static str> {
        self.faults.take_happened()
    }

    /// Leaves so many bytes free until it is called with `None`.
    pub(crate) fn squeeze(&mut self, free_bytes: Option<u64>) {
        self.squeezed_to = free_bytes.map(|free| free.saturating_add(self.used_blocks * BLOCK_BYTES as u64));
    }

    /// How a power cut tears what is in flight, from now on.
    pub(crate) fn set_tearing(&mut self, torn_sectors: bool, garbage_tails: bool) {
        self.options.torn_sectors = torn_sectors;
        self.options.garbage_tails = garbage_tails;
    }

    pub(crate) const fn tearing(&self) -> (bool, bool) {
        (self.options.torn_sectors, self.options.garbage_tails)
    }

    /// The disk is replaced by another, which no process has open: an empty one, or one in an earlier state, to which a power
    /// cut has happened. What of faults was in force stays.
    pub(crate) fn replace(&mut self, other: Option<Self>) {
        let other = other.unwrap_or_else(|| Self::new(self.options.clone()));
        let faults = core::mem::take(&mut self.faults);
        let (epoch, next_lock, squeezed_to) = (self.epoch, self.next_lock, self.squeezed_to);
        *self = Self { faults, epoch, next_lock, squeezed_to, ..other };
        self.end_of_process();
    }

    /// Whether there is nothing on it.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Files and directories that are open.
    pub(crate) fn handle_count(&self) -> u64 {
        self.nodes.values().map(|node| u64::from(node.handles)).sum()
    }

    /// Files at or below a path, in the order of their paths.
    pub(crate) fn files_below(&self, path: &Path) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        let Ok(start) = self.existing(path) else { return files };
        let mut todo = vec![(path.to_owned(), start)];
        while let Some((path, inode)) = todo.pop() {
            match self.dir_ref(inode) {
                Some(dir) => todo.extend(dir.cached.iter().rev().map(|(name, inode)| (path.join(name), *inode))),
                None => files.push(path),
            }
        }
        files
    }

    /// Makes the disk larger or smaller. What is on it stays; a disk that holds more than fits takes nothing new.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.options.capacity_bytes = bytes;
    }

    /// Flips a bit of a file on the device, and in the page cache unless newer bytes lie there.
    ///
    /// # Errors
    /// If there is no such file, or it is shorter.
    pub fn flip_bit(&mut self, path: &Path, position: u64, bit: u8) -> io::Result<()> {
        let file = self.file_at(path)?;
        if position >= file.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.flip_bit(position, bit);
        Ok(())
    }

    /// Makes the sectors of a range unreadable until they are written again.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn make_unreadable(&mut self, path: &Path, range: Range<u64>) -> io::Result<()> {
        self.file_at(path)?.make_unreadable(range);
        Ok(())
    }

    /// Whether a power cut now, whatever it chooses, leaves this file under this name with these bytes as the process sees
    /// them. False if there is no such file or it is shorter.
    #[must_use]
    pub fn is_durable(&self, path: &Path, range: Range<u64>) -> bool {
        match self.durable_inode(path) {
            Some(inode) => self.file_ref(inode).is_some_and(|file| file.is_durable(range)),
            None => false,
        }
    }

    /// Whether a power cut now, whatever it chooses, leaves a file or directory under this name, and the one that is there
    /// now.
    #[must_use]
    pub fn is_name_durable(&self, path: &Path) -> bool {
        self.durable_inode(path).is_some()
    }

    /// A whole file, as the process sees it.
    ///
    /// # Errors
    /// If there is no such file or it holds an unreadable sector.
    pub fn contents(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.file_at(path)?;
        let mut bytes = vec![0; usize::try_from(file.len()).map_err(io::Error::other)?];
        file.read(0, &mut bytes).ok_or_else(ops::unreadable)?;
        Ok(bytes)
    }

    fn durably_reachable(&self) -> BTreeSet<Inode> {
        let mut reachable = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(inode) = todo.pop() {
            if let Some(dir) = self.dir_ref(inode) {
                for child in dir.durable.values() {
                    if reachable.insert(*child) {
                        todo.push(*child);
                    }
                }
            }
        }
        reachable
    }

    /// Brings a change of names to the device.
    fn apply_durably(&mut self, change: &NameChange) {
        if let Some((dir, name)) = &change.from {
            let dir = self.dir_mut(*dir).expect("a directory is kept while changes in it are pending");
            let removed = dir.durable.remove(name);
            assert_eq!(removed, Some(change.inode), "changes of one name reach the device in order");
            self.set_durably_linked(change.inode, false);
        }
        if let Some((dir, name)) = &change.to {
            let dir = self.dir_mut(*dir).expect("a directory is kept while changes in it are pending");
            let replaced = dir.durable.insert(name.clone(), change.inode);
            if let Some(replaced) = replaced {
                self.set_durably_linked(replaced, false);
                self.reap(replaced);
            }
            self.set_durably_linked(change.inode, true);
        }
        self.reap(change.inode);
    }

    fn set_durably_linked(&mut self, inode: Inode, linked: bool) {
        self.nodes.get_mut(&inode).expect("what has a name is kept").durably_linked = linked;
    }

    /// Gives back the space of a file that nobody can reach any more, and forgets it when the device can't either.
    fn reap(&mut self, inode: Inode) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        if node.linked || node.handles > 0 {
            return;
        }
        if let (true, Content::File(file)) = (node.counted, &node.content) {
            self.used_blocks -= file.block_count();
            node.counted = false;
        }
        let forgotten = !node.durably_linked && !self.pending.inodes().any(|pending| pending == inode);
        if forgotten && inode != ROOT {
            self.nodes.remove(&inode);
        }
    }

    fn file_ref(&self, inode: Inode) -> Option<&FileNode> {
        match &self.nodes.get(&inode)?.content {
            Content::File(file) => Some(file),
            Content::Dir(_) => None,
        }
    }

    fn file_mut(&mut self, inode: Inode) -> Option<&mut FileNode> {
        match &mut self.nodes.get_mut(&inode)?.content {
            Content::File(file) => Some(file),
            Content::Dir(_) => None,
        }
    }

    fn dir_ref(&self, inode: Inode) -> Option<&DirNode> {
        match &self.nodes.get(&inode)?.content {
            Content::Dir(dir) => Some(dir),
            Content::File(_) => None,
        }
    }

    fn dir_mut(&mut self, inode: Inode) -> Option<&mut DirNode> {
        match &mut self.nodes.get_mut(&inode)?.content {
            Content::Dir(dir) => Some(dir),
            Content::File(_) => None,
        }
    }
}
