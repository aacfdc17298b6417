//! One hand-made scenario for each rule of the disk model.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quipu_env::{LockError, OpenOptions};
use rand::SeedableRng;

use super::*;

fn disk() -> DiskModel {
    DiskModel::new(DiskOptions { torn_sectors: false, garbage_tails: false, ..DiskOptions::default() })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(name)
}

fn sectors(fill: u8, count: usize) -> Bytes {
    Bytes::from(vec![fill; SECTOR_BYTES * count])
}

fn put(disk: &mut DiskModel, name: &str, bytes: Bytes) -> FileHandle {
    let file = disk.open(&path(name), OpenOptions::CREATE).unwrap();
    disk.write(&file, 0, &[bytes]).unwrap();
    file
}

/// A file that is durable, name and all.
fn put_durably(disk: &mut DiskModel, name: &str, bytes: Bytes) -> FileHandle {
    let file = put(disk, name, bytes);
    disk.sync(&file, &mut KeepAll).unwrap();
    disk.sync_dir(path(name).parent().unwrap()).unwrap();
    file
}

fn read(disk: &mut DiskModel, name: &str) -> Option<Vec<u8>> {
    disk.contents(&path(name)).ok()
}

/// Every outcome of a power cut, as seen by `look`.
fn outcomes<T: Ord>(disk: &DiskModel, look: impl Fn(&mut DiskModel) -> T) -> BTreeSet<T> {
    let mut all = Exhaustive::new();
    let mut seen = BTreeSet::new();
    while let Some(mut choices) = all.next_run() {
        let mut after = disk.clone();
        after.power_cut(&mut choices);
        seen.insert(look(&mut after));
    }
    seen
}

#[test]
fn unsynced_bytes_are_lost_and_synced_ones_kept() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(1, 1));
    disk.write(&file, 0, &[sectors(2, 1)]).unwrap();
    assert_eq!(read(&mut disk, "f"), Some(vec![2; SECTOR_BYTES]));
    assert!(!disk.is_durable(&path("f"), 0..1));
    let mut cut = disk.clone();
    cut.power_cut(&mut LoseAll);
    assert_eq!(read(&mut cut, "f"), Some(vec![1; SECTOR_BYTES]));

    disk.sync(&file, &mut KeepAll).unwrap();
    assert!(disk.is_durable(&path("f"), 0..512) && !disk.is_durable(&path("f"), 0..513));
    assert_eq!(outcomes(&disk, |disk| read(disk, "f")), [Some(vec![2; SECTOR_BYTES])].into());
}

#[test]
fn each_sector_survives_by_itself() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(0, 3));
    disk.write(&file, 0, &[sectors(1, 2), sectors(1, 1)]).unwrap();
    let firsts = |disk: &mut DiskModel| {
        read(disk, "f").unwrap().chunks(SECTOR_BYTES).map(|sector| sector[0]).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&disk, firsts).len(), 8);
}

#[test]
fn a_sector_holds_any_of_its_images_but_no_other() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(0, 1));
    disk.write(&file, 0, &[Bytes::from_static(b"a")]).unwrap();
    disk.write(&file, 1, &[Bytes::from_static(b"b")]).unwrap();
    let seen = outcomes(&disk, |disk| read(disk, "f").unwrap()[..2].to_vec());
    assert_eq!(seen, [b"\0\0".to_vec(), b"a\0".to_vec(), b"ab".to_vec()].into());
}

#[test]
fn a_sector_may_be_torn() {
    struct TearAt(u64);
    impl Choices for TearAt {
        fn choose(&mut self, what: Choice, count: u64) -> u64 {
            match what {
                Choice::Sector => 0,
                Choice::Tear => self.0 - 1,
                _ => count - 1,
            }
        }
        fn garbage(&mut self) -> u8 {
            0
        }
    }
    let mut disk = DiskModel::new(DiskOptions::default());
    let file = put_durably(&mut disk, "f", sectors(1, 1));
    disk.write(&file, 0, &[sectors(2, 1)]).unwrap();
    let mut torn = disk.clone();
    torn.power_cut(&mut TearAt(100));
    let bytes = read(&mut torn, "f").unwrap();
    assert!(bytes[..100].iter().all(|byte| *byte == 2) && bytes[100..].iter().all(|byte| *byte == 1));
    disk.power_cut(&mut TearAt(512));
    assert_eq!(read(&mut disk, "f"), Some(vec![1; SECTOR_BYTES]));
}

#[test]
fn length_may_survive_without_content_and_the_tail_is_zeros_or_garbage() {
    struct LengthOnly(u64);
    impl Choices for LengthOnly {
        fn choose(&mut self, what: Choice, count: u64) -> u64 {
            match what {
                Choice::Sector => 0,
                Choice::Tail => self.0,
                _ => count - 1,
            }
        }
        fn garbage(&mut self) -> u8 {
            0xee
        }
    }
    let mut disk = DiskModel::new(DiskOptions::default());
    let file = put_durably(&mut disk, "f", sectors(1, 1));
    disk.write(&file, 512, &[sectors(2, 1)]).unwrap();
    let tail = |choice| {
        let mut cut = disk.clone();
        cut.power_cut(&mut LengthOnly(choice));
        read(&mut cut, "f").unwrap()
    };
    assert_eq!(tail(0), [[1; 512], [0xee; 512]].concat());
    assert_eq!(tail(1), [[1; 512], [0; 512]].concat());
}

#[test]
fn a_cut_that_survives_takes_its_bytes_for_good() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(1, 2));
    disk.set_len(&file, 512).unwrap();
    disk.write(&file, 512, &[sectors(2, 1)]).unwrap();
    assert!(disk.is_durable(&path("f"), 0..512) && !disk.is_durable(&path("f"), 512..513));
    let seen = outcomes(&disk, |disk| {
        read(disk, "f").unwrap().chunks(SECTOR_BYTES).map(|sector| sector[0]).collect::<Vec<_>>()
    });
    // Neither; the cut only; the cut and the new length, without and with its bytes.
    assert_eq!(seen, [vec![1, 1], vec![1], vec![1, 0], vec![1, 2]].into());
}

#[test]
fn what_follows_a_lost_cut_in_the_same_place_is_lost_with_it() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(1, 3));
    disk.set_len(&file, 512).unwrap();
    disk.write(&file, 512, &[sectors(2, 1)]).unwrap();
    let seen = outcomes(&disk, |disk| {
        read(disk, "f").unwrap().chunks(SECTOR_BYTES).map(|sector| sector[0]).collect::<Vec<_>>()
    });
    assert_eq!(seen, [vec![1, 1, 1], vec![1], vec![1, 0], vec![1, 2]].into());
}

#[test]
fn a_partial_cut_leaves_zeros_behind_it() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(1, 1));
    disk.set_len(&file, 10).unwrap();
    disk.set_len(&file, 20).unwrap();
    disk.sync(&file, &mut KeepAll).unwrap();
    disk.power_cut(&mut LoseAll);
    assert_eq!(read(&mut disk, "f").unwrap(), [vec![1; 10], vec![0; 10]].concat());
}

#[test]
fn a_new_name_needs_the_sync_of_its_directory() {
    let mut disk = disk();
    let file = put(&mut disk, "f", sectors(1, 1));
    disk.sync(&file, &mut KeepAll).unwrap();
    assert!(!disk.is_name_durable(&path("f")) && !disk.is_durable(&path("f"), 0..512));
    let seen = outcomes(&disk, |disk| read(disk, "f"));
    assert_eq!(seen, [None, Some(vec![1; SECTOR_BYTES])].into());
    disk.sync_dir(Path::new("")).unwrap();
    assert!(disk.is_durable(&path("f"), 0..512));
    assert_eq!(outcomes(&disk, |disk| read(disk, "f")).len(), 1);
}

#[test]
fn a_name_without_content_is_an_empty_file() {
    let mut disk = disk();
    put(&mut disk, "f", sectors(1, 1));
    disk.sync_dir(Path::new("/")).unwrap();
    disk.power_cut(&mut LoseAll);
    assert_eq!(read(&mut disk, "f"), Some(Vec::new()));
}

#[test]
fn a_directory_that_was_not_synced_takes_its_files_along() {
    let mut disk = disk();
    disk.create_dir_all(&path("a/b")).unwrap();
    put_durably(&mut disk, "a/b/f", sectors(1, 1));
    assert!(!disk.is_name_durable(&path("a/b/f")));
    let mut cut = disk.clone();
    cut.power_cut(&mut LoseAll);
    assert_eq!(cut.list(Path::new("")).unwrap(), Vec::<String>::new());
    disk.sync_dir(&path("a")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    disk.power_cut(&mut LoseAll);
    assert_eq!(read(&mut disk, "a/b/f"), Some(vec![1; SECTOR_BYTES]));
}

#[test]
fn a_rename_without_directory_sync_leaves_the_old_or_the_new() {
    let mut disk = disk();
    put_durably(&mut disk, "now", sectors(1, 1));
    put_durably(&mut disk, "new", sectors(2, 1));
    disk.rename(&path("new"), &path("now")).unwrap();
    let look =
        |disk: &mut DiskModel| (read(disk, "now").map(|bytes| bytes[0]), read(disk, "new").map(|bytes| bytes[0]));
    assert_eq!(outcomes(&disk, look), [(Some(1), Some(2)), (Some(2), None)].into());
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(outcomes(&disk, look), [(Some(2), None)].into());
}

#[test]
fn a_rename_between_directories_needs_both_syncs() {
    let mut disk = disk();
    disk.create_dir_all(&path("a")).unwrap();
    disk.create_dir_all(&path("b")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    put_durably(&mut disk, "a/f", sectors(1, 1));
    disk.rename(&path("a/f"), &path("b/g")).unwrap();
    let look = |disk: &mut DiskModel| (read(disk, "a/f").is_some(), read(disk, "b/g").is_some());
    disk.sync_dir(&path("b")).unwrap();
    assert_eq!(outcomes(&disk, look), [(true, false), (false, true)].into());
    disk.sync_dir(&path("a")).unwrap();
    assert_eq!(outcomes(&disk, look), [(false, true)].into());
}

#[test]
fn no_file_vanishes_because_it_was_renamed_into_a_lost_directory() {
    let mut disk = disk();
    put_durably(&mut disk, "f", sectors(1, 1));
    disk.create_dir_all(&path("d/e")).unwrap();
    disk.rename(&path("f"), &path("d/e/f")).unwrap();
    let look = |disk: &mut DiskModel| (read(disk, "f").is_some(), read(disk, "d/e/f").is_some());
    assert_eq!(outcomes(&disk, look), [(true, false), (false, true)].into());
    disk.sync_dir(Path::new("")).unwrap();
    disk.sync_dir(&path("d/e")).unwrap();
    assert_eq!(outcomes(&disk, look), [(false, true)].into());
}

#[test]
fn a_directory_is_gone_only_after_what_was_moved_out_of_it() {
    let mut disk = disk();
    disk.create_dir_all(&path("d")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    put_durably(&mut disk, "d/f", sectors(1, 1));
    disk.rename(&path("d/f"), &path("f")).unwrap();
    disk.remove_dir(&path("d")).unwrap();
    let look = |disk: &mut DiskModel| read(disk, "d/f").is_some() || read(disk, "f").is_some();
    assert_eq!(outcomes(&disk, look), [true].into());
    disk.sync_dir(Path::new("")).unwrap();
    disk.power_cut(&mut LoseAll);
    assert_eq!(disk.list(Path::new("")).unwrap(), ["f"]);
}

#[test]
fn changes_of_one_name_survive_in_order() {
    let mut disk = disk();
    put_durably(&mut disk, "f", sectors(1, 1));
    disk.remove(&path("f")).unwrap();
    let file = put(&mut disk, "f", sectors(2, 1));
    disk.sync(&file, &mut KeepAll).unwrap();
    let seen = outcomes(&disk, |disk| read(disk, "f").map(|bytes| bytes[0]));
    assert_eq!(seen, [Some(1), None, Some(2)].into());
}

#[test]
fn a_removed_file_that_is_open_goes_on_and_its_space_returns_at_the_close() {
    let mut disk =
        DiskModel::new(DiskOptions { capacity_bytes: Some(2 * BLOCK_BYTES as u64), ..DiskOptions::default() });
    let file = put(&mut disk, "f", Bytes::from(vec![1; 2 * BLOCK_BYTES]));
    disk.remove(&path("f")).unwrap();
    assert_eq!(disk.read(&file, 0, 3).unwrap(), &[1, 1, 1][..]);
    assert_eq!(disk.space().0, 0);
    disk.close(file);
    assert_eq!(disk.space().0, 2 * BLOCK_BYTES as u64);
}

#[test]
fn a_full_disk_can_be_locked() {
    let mut disk = DiskModel::new(DiskOptions::default());
    let earlier = disk.lock(&path("lock"), 7).unwrap();
    disk.unlock(earlier);
    disk.set_capacity(Some(0));
    let held = disk.lock(&path("lock"), 8).unwrap();
    let told = disk.lock(&path("lock"), 9);
    assert!(matches!(told, Err(LockError::Held { pid: None })), "there was no room to write who holds it");
    disk.unlock(held);
}

#[test]
fn a_full_disk_takes_what_fits_and_frees_what_is_removed() {
    let mut disk =
        DiskModel::new(DiskOptions { capacity_bytes: Some(2 * BLOCK_BYTES as u64), ..DiskOptions::default() });
    let file = disk.open(&path("f"), OpenOptions::CREATE).unwrap();
    let error = disk.write(&file, 100, &[Bytes::from(vec![1; 3 * BLOCK_BYTES])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.size(&file).unwrap(), 2 * BLOCK_BYTES as u64);
    disk.write(&file, 0, &[Bytes::from_static(b"over")]).unwrap();
    assert_eq!(disk.open(&path("g"), OpenOptions::CREATE).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.set_len(&file, BLOCK_BYTES as u64).unwrap();
    disk.set_len(&file, 9 * BLOCK_BYTES as u64).unwrap();
    assert_eq!(disk.space().0, BLOCK_BYTES as u64);
    disk.set_capacity(Some(0));
    assert_eq!(disk.write(&file, 4096, &[sectors(1, 1)]).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.set_capacity(None);
    disk.write(&file, 4096, &[sectors(1, 1)]).unwrap();
}

#[test]
fn a_failed_sync_loses_data_that_a_later_good_one_does_not_bring_back() {
    struct LoseButShow;
    impl Choices for LoseButShow {
        fn choose(&mut self, what: Choice, count: u64) -> u64 {
            if what == Choice::Cache { count - 1 } else { 0 }
        }
        fn garbage(&mut self) -> u8 {
            0
        }
    }
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(1, 3));
    disk.write(&file, 0, &[sectors(2, 1)]).unwrap();
    disk.inject(FaultRule::next(Fault::SyncFails).below("/f"));
    assert!(disk.sync(&file, &mut LoseButShow).is_err());
    // The page cache goes on showing it, and the next sync is content.
    assert_eq!(read(&mut disk, "f").unwrap()[0], 2);
    disk.write(&file, 1024, &[sectors(3, 1)]).unwrap();
    disk.sync(&file, &mut KeepAll).unwrap();
    assert!(!disk.is_durable(&path("f"), 0..512) && disk.is_durable(&path("f"), 1024..1536));
    let mut killed = disk.clone();
    killed.kill(&mut LoseAll);
    assert_eq!(read(&mut killed, "f").unwrap()[0], 1);
    disk.kill(&mut KeepAll);
    assert_eq!(read(&mut disk, "f").unwrap()[0], 2);
    disk.power_cut(&mut KeepAll);
    assert_eq!(read(&mut disk, "f").unwrap(), [[1; 512], [1; 512], [3; 512]].concat());
}

#[test]
fn a_failed_directory_sync_is_not_made_up_for() {
    let mut disk = disk();
    let file = put(&mut disk, "f", sectors(1, 1));
    disk.sync(&file, &mut KeepAll).unwrap();
    disk.inject(FaultRule::next(Fault::SyncFails));
    assert!(disk.sync_dir(Path::new("")).is_err());
    disk.sync_dir(Path::new("")).unwrap();
    assert!(!disk.is_name_durable(&path("f")));
    assert_eq!(outcomes(&disk, |disk| read(disk, "f").is_some()), [false, true].into());
}

#[test]
fn a_lying_sync_answers_well_and_does_nothing() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(1, 1));
    disk.inject(FaultRule::next(Fault::SyncLies).after(1).times(1));
    disk.sync(&file, &mut KeepAll).unwrap();
    disk.write(&file, 0, &[sectors(2, 1)]).unwrap();
    disk.sync(&file, &mut KeepAll).unwrap();
    assert!(!disk.is_durable(&path("f"), 0..1));
    disk.sync(&file, &mut KeepAll).unwrap();
    assert!(disk.is_durable(&path("f"), 0..1));
}

#[test]
fn faults_of_reads_and_writes_strike_where_they_are_told_to() {
    let mut disk = disk();
    let file = put(&mut disk, "f", sectors(1, 2));
    let other = put(&mut disk, "g", sectors(1, 1));
    disk.inject(FaultRule::next(Fault::WriteFails).below("f"));
    disk.inject(FaultRule::next(Fault::ReadFails).below("f").times(u64::MAX));
    disk.write(&other, 0, &[sectors(2, 1)]).unwrap();
    assert!(disk.write(&file, 0, &[sectors(2, 1)]).is_err());
    disk.write(&file, 0, &[sectors(3, 1)]).unwrap();
    assert!(disk.read(&file, 0, 1).is_err() && disk.read(&file, 0, 1).is_err());
    disk.clear_faults();
    assert_eq!(disk.read(&file, 511, 2).unwrap(), &[3, 1][..]);
}

#[test]
fn unreadable_sectors_heal_when_written_and_outlive_power_cuts() {
    let mut disk = disk();
    put_durably(&mut disk, "f", sectors(1, 3));
    disk.make_unreadable(&path("f"), 512..513).unwrap();
    disk.power_cut(&mut KeepAll);
    let file = disk.open(&path("f"), OpenOptions::WRITE).unwrap();
    assert!(disk.read(&file, 0, 600).is_err());
    assert_eq!(disk.read(&file, 0, 512).unwrap().len(), 512);
    disk.write(&file, 512, &[sectors(2, 1)]).unwrap();
    assert_eq!(disk.read(&file, 512, 1).unwrap(), &[2][..]);
}

#[test]
fn rot_shows_at_once_and_after_a_power_cut() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(0, 2));
    disk.write(&file, 0, &[sectors(8, 1)]).unwrap();
    disk.flip_bit(&path("f"), 600, 3).unwrap();
    disk.flip_bit(&path("f"), 0, 0).unwrap();
    assert!(disk.flip_bit(&path("f"), 1024, 0).is_err());
    let bytes = read(&mut disk, "f").unwrap();
    assert_eq!((bytes[600], bytes[0]), (8, 8));
    disk.power_cut(&mut LoseAll);
    let bytes = read(&mut disk, "f").unwrap();
    assert_eq!((bytes[600], bytes[0]), (8, 1));
}

#[test]
fn a_kill_keeps_everything_and_voids_handles_and_locks() {
    let mut disk = disk();
    let file = put(&mut disk, "f", sectors(1, 1));
    let lock = disk.lock(&path("lock"), 42).unwrap();
    assert!(matches!(disk.lock(&path("lock"), 43), Err(LockError::Held { pid: Some(42) })));
    disk.kill(&mut LoseAll);
    assert!(disk.read(&file, 0, 1).is_err() && disk.sync(&file, &mut KeepAll).is_err());
    disk.close(file);
    disk.unlock(lock);
    assert_eq!(read(&mut disk, "f"), Some(vec![1; SECTOR_BYTES]));
    let lock = disk.lock(&path("lock"), 43).unwrap();
    disk.unlock(lock);
    disk.lock(&path("lock"), 44).unwrap();
}

#[test]
fn direct_files_take_whole_aligned_pages_only() {
    let mut disk = disk();
    let file = disk.open(&path("f"), OpenOptions { direct: true, ..OpenOptions::CREATE }).unwrap();
    assert!(file.is_direct());
    let page = quipu_env::AlignedBuf::zeroed(BLOCK_BYTES).freeze();
    disk.write(&file, 4096, std::slice::from_ref(&page)).unwrap();
    for (position, bytes) in [(1, page.clone()), (0, page.slice(..512)), (0, page.slice(1..))] {
        assert_eq!(disk.write(&file, position, &[bytes]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(disk.read(&file, 4096, 8192).unwrap().len(), 4096);
    assert_eq!(disk.read(&file, 0, 100).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn errors_of_names_are_those_of_a_file_system() {
    let mut disk = disk();
    disk.create_dir_all(&path("/d/../d/./e")).unwrap();
    assert_eq!(disk.list(&path("d")).unwrap(), ["e"]);
    let file = put(&mut disk, "d/f", sectors(1, 1));
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(disk.open(&path("x/y"), OpenOptions::CREATE).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open(&path("d/f"), OpenOptions::CREATE_NEW).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.open(&path("d"), OpenOptions::READ).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(disk.open(&path("d/f/g"), OpenOptions::CREATE).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create_dir_all(&path("d/f"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.remove(&path("d/e"))), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove_dir(&path("d"))), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.remove_dir(&path("d/f"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.rename(&path("d/f"), &path("d/e"))), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.rename(&path("d"), &path("d/e/d"))), ErrorKind::InvalidInput);
    disk.close(file);
    let file = disk.open(&path("d/f"), OpenOptions::READ).unwrap();
    assert_eq!(kind(disk.write(&file, 0, &[sectors(1, 1)])), ErrorKind::PermissionDenied);
}

#[test]
fn a_crash_plan_cuts_before_or_after_the_chosen_operation() {
    let run = |plan: CrashPlan| {
        let mut disk = disk();
        disk.set_crash_plan(Some(plan));
        let work = |disk: &mut DiskModel| -> io::Result<()> {
            let file = disk.open(&path("f"), OpenOptions::CREATE)?;
            disk.write(&file, 0, &[sectors(1, 1)])?;
            disk.sync(&file, &mut KeepAll).map_err(io::Error::other)?;
            disk.sync_dir(Path::new("")).map_err(io::Error::other)
        };
        let done = work(&mut disk).is_ok();
        assert_eq!(disk.is_powered(), done);
        disk.power_cut(&mut LoseAll);
        (done, read(&mut disk, "f").map(|bytes| bytes.len()))
    };
    let plan = |count, at, moment| run(CrashPlan { count, at, moment });
    assert_eq!(plan(Count::Changes, 3, Moment::Before), (false, None));
    assert_eq!(plan(Count::Changes, 3, Moment::After), (false, Some(512)));
    assert_eq!(plan(Count::Syncs, 1, Moment::Before), (false, None));
    assert_eq!(plan(Count::Syncs, 1, Moment::After), (false, Some(512)));
    assert_eq!(plan(Count::Changes, 4, Moment::Before), (true, Some(512)));
    assert_eq!(plan(Count::Syncs, 2, Moment::Before), (true, Some(512)));
}

#[test]
fn random_choices_reach_extremes_and_mixtures() {
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(0, 8));
    disk.write(&file, 0, &[sectors(1, 8)]).unwrap();
    let mut kept = BTreeSet::new();
    for seed in 0..200 {
        let mut cut = disk.clone();
        cut.power_cut(&mut RandomChoices::new(quipu_env::Rng::seed_from_u64(seed)));
        kept.insert(read(&mut cut, "f").unwrap().iter().step_by(SECTOR_BYTES).filter(|byte| **byte == 1).count());
    }
    assert_eq!(kept, (0..=8).collect());
}

#[test]
fn page_by_page_each_page_is_old_or_new_as_a_whole() {
    const PAGES: usize = 4;
    let page = BLOCK_BYTES / SECTOR_BYTES;
    let mut disk = disk();
    let file = put_durably(&mut disk, "f", sectors(0, PAGES * page));
    disk.write(&file, 0, &[sectors(1, PAGES * page)]).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut cut = disk.clone();
        cut.power_cut(&mut PageChoices::new(quipu_env::Rng::seed_from_u64(seed)));
        let bytes = read(&mut cut, "f").unwrap();
        let pages: Vec<u8> = bytes.chunks(BLOCK_BYTES).map(|page| page[0]).collect();
        assert!(bytes.chunks(BLOCK_BYTES).zip(&pages).all(|(page, fill)| page.iter().all(|byte| byte == fill)));
        seen.insert(pages);
    }
    assert_eq!(seen.len(), 1 << PAGES, "every combination");
}
