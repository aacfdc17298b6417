//! A data directory that something has happened to: verified, opened, recovered and read to its end, in a world in memory.
//!
//! The directories are two, made once per process (see `history`): one of a store that was stopped, one of a store that was cut
//! off. An input is what one file is to be instead, or a list of small changes to any of them.
//!
//! Read `history` next, then `seal`.

mod history;
mod seal;

use core::fmt;
use std::{
    cell::OnceCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use quipu_base::{Offset, TopicIdPartition, limits::MIB};
use quipu_env::{File, Segment};
use quipu_records::{BatchHeader, Batches, header::CRC_FROM_POSITION};
use quipu_storage::{LiveRange, Log, ReadError, Store, VerifyReport, verify, wal::Affected};

use self::history::{Directory, Ending, options};
use crate::{
    Outcome, memory, refuse,
    world::{MemoryDisk, World},
};

/// Memory that opening and reading a directory may take: two pieces of the WAL, of 4 MiB each, the files themselves (each is
/// far below 1 MiB), and what is made of them. Nothing that a file says makes it more.
const MEMORY_BYTES_MAX: usize = 32 * MIB;
/// Read at a time.
const READ_BYTES: usize = 4096;
/// Offsets in a row that are tried although none can be read. More than any of the directories has.
const ERRORS_MAX: usize = 32;
/// CRC-32C finds any three flipped bits, at any distance up to 256 MiB.
const FLIPPED_BITS_SURELY_FOUND: u32 = 3;

/// Who has damaged a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Culprit {
    /// Its disk. Every checksum does its part, and all promises hold.
    Disk,
    /// Our own code, with good checksums over it. What is read may be nonsense, but there is no panic, no endless work and no
    /// endless memory.
    Code,
}

/// All batches of all partitions, by base offset.
type Logs = BTreeMap<TopicIdPartition, BTreeMap<Offset, Bytes>>;

/// The WAL's first file. The first byte: 0 as it is, 1 with its checksums made right.
pub fn wal(data: &[u8]) -> Outcome {
    replaced(Ending::CutOff, "wal/0000", data, seal::wal)
}

/// The manifest. The first byte: 0 as it is, 1 with its checksums made right.
pub fn manifest(data: &[u8]) -> Outcome {
    replaced(Ending::CutOff, "manifest", data, seal::manifest)
}

/// The superblock. The first byte: 0 as it is, 1 with its checksums made right.
pub fn superblock(data: &[u8]) -> Outcome {
    replaced(Ending::CutOff, "superblock", data, seal::superblock)
}

/// A sealed segment with its footer. The first byte: 0 as it is, 1 with its checksums made right.
pub fn segment(data: &[u8]) -> Outcome {
    replaced(Ending::Stopped, history::SEALED_SEGMENT, data, seal::segment)
}

fn replaced(ending: Ending, file: &str, data: &[u8], seal: fn(&mut Vec<u8>)) -> Outcome {
    let Some((mode, content)) = data.split_first() else { return Outcome::Refused };
    let mut content = content.to_vec();
    let culprit = if mode % 2 == 0 { Culprit::Disk } else { Culprit::Code };
    if culprit == Culprit::Code {
        seal(&mut content);
    }
    with_directory(ending, |directory| {
        let disk = directory.disk.copy();
        disk.replace(&directory.path.join(file), content);
        inspect(&disk, directory);
        let Some(logs) = open_and_read(&disk, directory, culprit) else { return Outcome::Refused };
        if culprit == Culprit::Disk {
            logs.values().flat_map(BTreeMap::values).for_each(check_checksum);
        }
        Outcome::Accepted
    })
}

/// Changes to any files of a directory. The first byte: 0 of the store that was stopped, 1 of the one that was cut off. Then
/// five bytes each: the file, the position in it, and the bits to flip, none of which cuts the file there.
pub fn directory(data: &[u8]) -> Outcome {
    let Some((ending, changes)) = data.split_first() else { return Outcome::Refused };
    let ending = if ending % 2 == 0 { Ending::Stopped } else { Ending::CutOff };
    with_directory(ending, |directory| {
        let disk = directory.disk.copy();
        let is_cut = change(&disk, changes);
        let flips = flips(&directory.disk, &disk);
        let is_judged = !is_cut && flips.iter().map(|flip| flip.bits).sum::<u32>() <= FLIPPED_BITS_SURELY_FOUND;
        let verdict = inspect(&disk, directory);
        let is_whole = verdict.as_ref().is_some_and(|report| report.ok && report.cut.is_empty());
        if is_judged {
            let live = flips.iter().find(|flip| directory.live.iter().any(|range| flip.is_in(range)));
            assert!(live.is_none() || !is_whole, "{live:?} is in use, and was not found: {verdict:?}");
        }
        let logs = open_and_read(&disk, directory, Culprit::Disk);
        if is_judged && is_whole {
            assert_eq!(logs.as_ref(), Some(&directory.logs), "what is whole is read whole");
        }
        let Some(logs) = logs else { return Outcome::Refused };
        logs.values().flat_map(BTreeMap::values).for_each(check_checksum);
        if is_judged {
            check_same(directory, &logs);
        }
        Outcome::Accepted
    })
}

/// Answers whether a file was cut.
fn change(disk: &MemoryDisk, changes: &[u8]) -> bool {
    let files = disk.files();
    let mut is_cut = false;
    for change in changes.chunks_exact(5) {
        let [file, high, middle, low, flip] = change.first_chunk().copied().unwrap_or_default();
        let path = &files[usize::from(file) % files.len()];
        let mut bytes = disk.bytes(path);
        if bytes.is_empty() {
            continue;
        }
        let position = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let at = position % bytes.len();
        if flip == 0 {
            disk.cut(path, at as u64);
            is_cut = true;
        } else {
            bytes[at] ^= flip;
            disk.replace(path, bytes);
        }
    }
    is_cut
}

/// A byte that is not what it was.
#[derive(Debug)]
struct Flip {
    file: PathBuf,
    position: u64,
    bits: u32,
}

impl Flip {
    fn is_in(&self, range: &LiveRange) -> bool {
        self.file.ends_with(&range.file) && (range.from..range.to).contains(&self.position)
    }
}

fn flips(before: &MemoryDisk, after: &MemoryDisk) -> Vec<Flip> {
    let mut flips = Vec::new();
    for file in before.files() {
        let (before, after) = (before.bytes(&file), after.bytes(&file));
        let byte = |bytes: &[u8], at| bytes.get(at).copied().unwrap_or(0);
        for at in 0..before.len().max(after.len()) {
            let bits = (byte(&before, at) ^ byte(&after, at)).count_ones();
            if bits > 0 {
                flips.push(Flip { file: file.clone(), position: at as u64, bits });
            }
        }
    }
    flips
}

/// What is read is what was written, at the end or, if the end of the WAL is lost, some time before.
fn check_same(directory: &Directory, read: &Logs) {
    for (partition, batches) in read {
        let at_some_time = [&directory.logs, &directory.earlier].map(|logs| logs.get(partition));
        for (offset, batch) in batches {
            let is_known = |log: &BTreeMap<Offset, Bytes>| log.get(offset) == Some(batch);
            assert!(at_some_time.into_iter().flatten().any(is_known), "{partition} at {offset}: {batch:?}");
        }
    }
}

fn check_checksum(batch: &Bytes) {
    let header = BatchHeader::parse(batch).expect("whole batches are read");
    assert_eq!(header.crc, quipu_base::checksum::crc32c(&batch[CRC_FROM_POSITION..]), "a damaged batch was read");
}

/// What `verify` says; none if it refuses.
fn inspect(disk: &MemoryDisk, directory: &Directory) -> Option<VerifyReport> {
    let world = World::new(disk.clone());
    let work = || world.run(verify(&world, &directory.path));
    match memory::at_most(MEMORY_BYTES_MAX, "verifying a directory", work) {
        Ok(report) => Some(report),
        Err(error) => {
            refuse(&error);
            None
        }
    }
}

/// All that can be read; none if the directory is refused.
fn open_and_read(disk: &MemoryDisk, directory: &Directory, culprit: Culprit) -> Option<Logs> {
    let world = World::new(disk.clone());
    let work = || world.run(read_all(&world, &directory.path, culprit));
    memory::at_most(MEMORY_BYTES_MAX, "opening and reading a directory", work)
}

async fn read_all(world: &World, path: &Path, culprit: Culprit) -> Option<Logs> {
    let (store, report) = match Store::open(world.clone(), options(path)).await {
        Ok(opened) => opened,
        Err(error) => {
            refuse(&error);
            return None;
        }
    };
    let faulty = |partition| store.log(partition).fault().is_some();
    let mut logs = Logs::new();
    for partition in store.partitions() {
        let damaged = report.damage.iter().any(|damage| damage.affected.concerns(&partition));
        // If it is known which frames were bad, one of them may be a state that a later frame says again: then nothing is lost.
        let is_spread = report.damage.iter().any(|damage| !matches!(damage.affected, Affected::Only(_)));
        assert!(!damaged || !is_spread || faulty(partition), "{partition} is damaged and served");
        logs.insert(partition, read_log(&store.log(partition), culprit).await);
    }
    Some(logs)
}

/// All batches that can be read, going on behind what can't.
async fn read_log(log: &Log<World>, culprit: Culprit) -> BTreeMap<Offset, Bytes> {
    let offsets = log.offsets();
    if log.fault().is_none() && culprit == Culprit::Disk {
        assert!(offsets.log_start <= offsets.durable_end && offsets.durable_end <= offsets.log_end, "{offsets:?}");
    }
    let mut batches = BTreeMap::new();
    let mut at = offsets.log_start;
    let mut errors = 0;
    while at < offsets.durable_end && errors < ERRORS_MAX {
        let read = match log.read(at, offsets.durable_end, READ_BYTES, true).await {
            Ok(read) => read,
            Err(error @ (ReadError::Faulty(_) | ReadError::Deleted)) => {
                refuse(&error);
                break;
            }
            Err(error) => {
                refuse(&error);
                errors += 1;
                at = at.next();
                continue;
            }
        };
        if read.next_offset <= at && culprit == Culprit::Code {
            break;
        }
        assert!(read.next_offset > at, "a read of what is there gets on: {at} of {offsets:?}, {read:?}");
        take_batches(bytes_of(read.segments).await, at, &mut batches);
        at = read.next_offset;
    }
    batches
}

/// Takes in what a read from `at` has given.
fn take_batches(bytes: Bytes, at: Offset, batches: &mut BTreeMap<Offset, Bytes>) {
    let mut whole = Batches::new(bytes);
    for batch in whole.by_ref() {
        let batch = batch.expect("whole batches are read");
        assert!(batch.header().next_offset() > at, "no batch lies below what was asked for");
        batches.insert(batch.header().base_offset, batch.into_bytes());
    }
    assert!(whole.rest().is_empty(), "whole batches are read");
}

async fn bytes_of<F: File>(segments: Vec<Segment<F>>) -> Bytes {
    let mut all = BytesMut::new();
    for segment in segments {
        match segment {
            Segment::Bytes(bytes) => all.extend_from_slice(&bytes),
            Segment::File { file, position, length } => {
                let bytes = file.read_at(position, length).await.expect("it has just been checked");
                all.extend_from_slice(&bytes);
            }
        }
    }
    all.freeze()
}

fn with_directory<T>(ending: Ending, work: impl FnOnce(&Directory) -> T) -> T {
    thread_local! {
        static STOPPED: OnceCell<Directory> = const { OnceCell::new() };
        static CUT_OFF: OnceCell<Directory> = const { OnceCell::new() };
    }
    let made = |cell: &OnceCell<Directory>| work(cell.get_or_init(|| Directory::make(ending)));
    match ending {
        Ending::Stopped => STOPPED.with(made),
        Ending::CutOff => CUT_OFF.with(made),
    }
}

/// Files of the directories as they are before anything happens to them, for the corpus: the target that takes each, and its
/// content.
#[must_use]
pub fn pristine_files() -> Vec<(&'static str, Vec<u8>)> {
    let file = |ending, name: &str| with_directory(ending, |made| made.disk.bytes(&made.path.join(name)));
    vec![
        ("wal", file(Ending::CutOff, "wal/0000")),
        ("manifest", file(Ending::CutOff, "manifest")),
        ("superblock", file(Ending::CutOff, "superblock")),
        ("segment", file(Ending::Stopped, history::SEALED_SEGMENT)),
    ]
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("path", &self.path).finish_non_exhaustive()
    }
}
