//! The disk model against a naive one: whole files as byte vectors, directories as maps, copied at every sync.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bytes::Bytes;
use proptest::prelude::*;
use quipu_env::OpenOptions;
use rand::SeedableRng;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Write {
        slot: usize,
        position: u64,
        length: usize,
        fill: u8,
    },
    SetLen {
        slot: usize,
        length: u64,
    },
    Sync {
        slot: usize,
    },
    Remove {
        slot: usize,
    },
    /// Within one directory.
    Rename {
        slot: usize,
    },
    SyncDir {
        dir: usize,
    },
    Kill,
    PowerCut {
        keep: bool,
    },
}

/// Two directories with two names each.
const SLOTS: [(usize, &str); 4] = [(0, "x"), (0, "y"), (1, "x"), (1, "y")];
const DIRS: [&str; 2] = ["a", "b"];

fn slot_path(slot: usize) -> PathBuf {
    PathBuf::from(DIRS[SLOTS[slot].0]).join(SLOTS[slot].1)
}

/// The other name in the same directory.
fn sibling(slot: usize) -> usize {
    slot ^ 1
}

#[derive(Default)]
struct Naive {
    seen: BTreeMap<usize, usize>,
    held: BTreeMap<usize, usize>,
    /// Per file: as seen, as held by the device.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// What a name may lead to after a power cut.
    possible: BTreeMap<usize, BTreeSet<Option<usize>>>,
}

impl Naive {
    fn file(&mut self, slot: usize) -> &mut (Vec<u8>, Vec<u8>) {
        let files = &mut self.files;
        let index = *self.seen.entry(slot).or_insert_with(|| {
            files.push(Default::default());
            files.len() - 1
        });
        self.note(slot);
        &mut self.files[index]
    }

    fn note(&mut self, slot: usize) {
        let now = self.seen.get(&slot).copied();
        let held = self.held.get(&slot).copied();
        self.possible.entry(slot).or_insert_with(|| [held].into()).insert(now);
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Write { slot, position, length, fill } => {
                let start = usize::try_from(position).unwrap();
                let bytes = &mut self.file(slot).0;
                bytes.resize(bytes.len().max(start + length), 0);
                bytes[start..start + length].fill(fill);
            }
            Op::SetLen { slot, length } => self.file(slot).0.resize(usize::try_from(length).unwrap(), 0),
            Op::Sync { slot } => {
                let file = self.file(slot);
                file.1 = file.0.clone();
            }
            Op::Remove { slot } => {
                self.seen.remove(&slot);
                self.note(slot);
            }
            Op::Rename { slot } => {
                if let Some(index) = self.seen.remove(&slot) {
                    self.seen.insert(sibling(slot), index);
                    self.note(slot);
                    self.note(sibling(slot));
                }
            }
            Op::SyncDir { dir } => {
                for slot in (0..SLOTS.len()).filter(|slot| SLOTS[*slot].0 == dir) {
                    self.possible.remove(&slot);
                    match self.seen.get(&slot) {
                        Some(index) => self.held.insert(slot, *index),
                        None => self.held.remove(&slot),
                    };
                }
            }
            Op::Kill => {}
            Op::PowerCut { keep: true } => {
                self.held = self.seen.clone();
                self.settle(|file| file.1 = file.0.clone());
            }
            Op::PowerCut { keep: false } => {
                self.seen = self.held.clone();
                self.settle(|file| file.0 = file.1.clone());
            }
        }
    }

    fn settle(&mut self, each: impl FnMut(&mut (Vec<u8>, Vec<u8>))) {
        self.files.iter_mut().for_each(each);
        self.possible.clear();
    }
}

fn with_file(disk: &mut DiskModel, slot: usize, work: impl FnOnce(&mut DiskModel, &FileHandle)) {
    let handle = disk.open(&slot_path(slot), OpenOptions::CREATE).unwrap();
    work(disk, &handle);
    disk.close(handle);
}

fn apply(disk: &mut DiskModel, op: &Op) {
    match *op {
        Op::Write { slot, position, length, fill } => with_file(disk, slot, |disk, file| {
            disk.write(file, position, &[Bytes::from(vec![fill; length])]).unwrap();
        }),
        Op::SetLen { slot, length } => with_file(disk, slot, |disk, file| disk.set_len(file, length).unwrap()),
        Op::Sync { slot } => with_file(disk, slot, |disk, file| disk.sync(file, &mut KeepAll).unwrap()),
        Op::Remove { slot } => {
            let exists = disk.file_size(&slot_path(slot)).is_ok();
            assert_eq!(disk.remove(&slot_path(slot)).is_ok(), exists);
        }
        Op::Rename { slot } => {
            let exists = disk.file_size(&slot_path(slot)).is_ok();
            assert_eq!(disk.rename(&slot_path(slot), &slot_path(sibling(slot))).is_ok(), exists);
        }
        Op::SyncDir { dir } => disk.sync_dir(&PathBuf::from(DIRS[dir])).unwrap(),
        Op::Kill => disk.kill(&mut LoseAll),
        Op::PowerCut { keep: true } => disk.power_cut(&mut KeepAll),
        Op::PowerCut { keep: false } => disk.power_cut(&mut LoseAll),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS.len();
    prop_oneof![
        6 => (slot.clone(), 0..3000_u64, 1..1500_usize, 1..255_u8)
            .prop_map(|(slot, position, length, fill)| Op::Write { slot, position, length, fill }),
        2 => (slot.clone(), 0..4000_u64).prop_map(|(slot, length)| Op::SetLen { slot, length }),
        2 => slot.clone().prop_map(|slot| Op::Sync { slot }),
        1 => slot.clone().prop_map(|slot| Op::Remove { slot }),
        2 => slot.prop_map(|slot| Op::Rename { slot }),
        2 => (0..DIRS.len()).prop_map(|dir| Op::SyncDir { dir }),
        1 => Just(Op::Kill),
        1 => any::<bool>().prop_map(|keep| Op::PowerCut { keep }),
    ]
}

fn new_disk() -> DiskModel {
    let mut disk = DiskModel::new(DiskOptions::default());
    for dir in DIRS {
        disk.create_dir_all(&PathBuf::from(dir)).unwrap();
    }
    disk.sync_dir(&PathBuf::from("/")).unwrap();
    disk
}

fn assert_same(disk: &mut DiskModel, naive: &Naive) {
    let mut blocks = 0;
    for slot in 0..SLOTS.len() {
        let expected = naive.seen.get(&slot).map(|index| naive.files[*index].0.clone());
        let found = disk.contents(&slot_path(slot)).ok();
        assert_eq!(found, expected, "{}", slot_path(slot).display());
        blocks += found.map_or(0, |bytes| bytes.len().div_ceil(BLOCK_BYTES));
    }
    let (free, total) = disk.space();
    assert!(total - free <= (blocks * BLOCK_BYTES) as u64, "holes take no space, everything else once");
}

/// After a cut decided by chance: every name leads to something that it led to since its last sync, and what was said to be
/// durable is there.
fn check_random_cut(disk: &DiskModel, naive: &Naive, seed: u64) {
    let mut cut = disk.clone();
    cut.power_cut(&mut RandomChoices::new(quipu_env::Rng::seed_from_u64(seed)));
    for slot in 0..SLOTS.len() {
        let path = slot_path(slot);
        let found = cut.contents(&path).ok();
        let held = naive.held.get(&slot).copied();
        let possible = naive.possible.get(&slot).cloned().unwrap_or_else(|| [held].into());
        assert!(found.is_some() || possible.contains(&None), "{} vanished", path.display());
        assert!(found.is_none() || possible.iter().any(Option::is_some), "{} appeared", path.display());
        let Some(seen) = naive.seen.get(&slot).map(|index| &naive.files[*index].0) else { continue };
        for start in (0..seen.len()).step_by(256) {
            let end = (start + 256).min(seen.len());
            if disk.is_durable(&path, start as u64..end as u64) {
                assert_eq!(found.as_ref().unwrap()[start..end], seen[start..end], "{} at {start}", path.display());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_model_agrees_with_the_naive_one(ops in proptest::collection::vec(op(), 1..40), seed in any::<u64>()) {
        let mut disk = new_disk();
        let mut naive = Naive::default();
        for (index, op) in ops.iter().enumerate() {
            apply(&mut disk, op);
            naive.apply(op);
            assert_same(&mut disk, &naive);
            check_random_cut(&disk, &naive, seed.wrapping_add(index as u64));
        }
    }
}
