//! Directories: which names the process sees, which the device holds, and the changes between.
//!
//! A change (creation, removal, rename) reaches the device when every directory in which it changes a name has been synced.
//! A power cut keeps any subset of the others, each decided by itself, as far as it makes sense:
//! - Changes of one name reach the device in order: a lost one takes along all later ones of the same name.
//! - A rename happens as a whole: both names change, or neither.
//! - A rename into a directory survives only if that directory's own name, and those above it, survive: no file vanishes
//!   because it was renamed.
//! - A directory's removal survives only if everything done in it before does.
//!
//! A sync that covers a change also takes along those that it rests on by these rules. A file made in a directory that
//! itself was never synced into its parent is lost with it.
//!
//! Invariant: applying `pending`, in order, to every directory's `durable` names gives its `cached` names.
//!
//! Not here: files' content (`file`).

use std::collections::BTreeSet;

use imbl::OrdMap;

use super::choices::{Choice, Choices};

/// A file or directory, whatever its name. Never used twice on one disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Inode(pub(super) u64);

/// One name in one directory.
pub(super) type Slot = (Inode, String);

/// Names in one directory.
#[derive(Clone, Default)]
pub(super) struct DirNode {
    pub(super) cached: OrdMap<String, Inode>,
    pub(super) durable: OrdMap<String, Inode>,
}

/// A change of names: `inode` loses the name `from`, or gains the name `to`, or both.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) inode: Inode,
    pub(super) from: Option<Slot>,
    pub(super) to: Option<Slot>,
    /// It removes a directory.
    pub(super) removes_dir: bool,
    /// The directory of `to` and those above it, for a rename.
    pub(super) target_chain: Vec<Inode>,
    /// Directories whose sync is still missing.
    unsynced: BTreeSet<Inode>,
    /// A sync of one of its directories failed: no later one makes up for it.
    abandoned: bool,
}

/// What two changes may have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Slot(Slot),
    /// Where a file or directory hangs.
    Place(Inode),
    /// What is in a directory.
    Content(Inode),
}

impl NameChange {
    pub(super) fn new(inode: Inode, from: Option<Slot>, to: Option<Slot>) -> Self {
        let unsynced = from.iter().chain(&to).map(|(dir, _)| *dir).collect();
        Self { inode, from, to, removes_dir: false, target_chain: Vec::new(), unsynced, abandoned: false }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.from.iter().chain(&self.to)
    }

    /// What it rests on.
    fn needs(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.slots().cloned().map(Key::Slot).collect();
        keys.extend(self.target_chain.iter().copied().map(Key::Place));
        if self.removes_dir {
            keys.push(Key::Content(self.inode));
        }
        keys
    }

    /// What later changes that rest on it look for.
    fn gives(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.slots().cloned().map(Key::Slot).collect();
        keys.extend(self.slots().map(|(dir, _)| Key::Content(*dir)));
        keys.push(Key::Place(self.inode));
        keys
    }
}

/// Changes of names that are not on the device yet, in order.
#[derive(Clone, Default)]
pub(super) struct PendingNames {
    changes: Vec<NameChange>,
}

impl PendingNames {
    pub(super) fn push(&mut self, change: NameChange) {
        self.changes.push(change);
    }

    /// Whether a name's latest change may still be lost.
    pub(super) fn concerns(&self, slot: &Slot) -> bool {
        self.changes.iter().any(|change| change.slots().any(|changed| changed == slot))
    }

    /// Files and directories that a pending change is about.
    pub(super) fn inodes(&self) -> impl Iterator<Item = Inode> {
        self.changes.iter().map(|change| change.inode)
    }

    /// A directory is synced: takes out, in order, the changes that are durable with it.
    pub(super) fn sync(&mut self, dir: Inode) -> Vec<NameChange> {
        let mut needed = BTreeSet::new();
        let mut synced = vec![false; self.changes.len()];
        for (change, synced) in self.changes.iter_mut().zip(&mut synced).rev() {
            change.unsynced.remove(&dir);
            let complete = change.unsynced.is_empty() && !change.abandoned;
            if complete || change.gives().iter().any(|key| needed.contains(key)) {
                *synced = true;
                needed.extend(change.needs());
            }
        }
        self.take(&synced)
    }

    /// A directory's sync failed: its changes are left to chance.
    pub(super) fn abandon(&mut self, dir: Inode) {
        for change in &mut self.changes {
            if change.unsynced.contains(&dir) {
                change.abandoned = true;
            }
        }
    }

    /// The power goes: takes out the changes that survive and forgets the others.
    pub(super) fn power_cut(&mut self, choices: &mut dyn Choices) -> Vec<NameChange> {
        let mut lost = BTreeSet::new();
        let mut survives = vec![false; self.changes.len()];
        for (change, survives) in self.changes.iter().zip(&mut survives) {
            let possible = !change.needs().iter().any(|key| lost.contains(key));
            *survives = possible && choices.choose(Choice::Name, 2) == 1;
            if !*survives {
                lost.extend(change.gives());
            }
        }
        let survivors = self.take(&survives);
        self.changes.clear();
        survivors
    }

    fn take(&mut self, which: &[bool]) -> Vec<NameChange> {
        let mut taken = Vec::new();
        let mut index = 0;
        self.changes.retain(|change| {
            let take = which[index];
            index += 1;
            if take {
                taken.push(change.clone());
            }
            !take
        });
        taken
    }
}
