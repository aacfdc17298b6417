//! One life of a WAL: open the directory, scan, go on, write; and a model of what it must find.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quipu_base::{BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};
use quipu_env::{Clock, Disk, Env, File, Instant, OpenOptions, ShardId};

use crate::{
    superblock::{self, Superblock},
    wal::{
        DurableFrame, Frame, FrameKind, GroupSequence, ScanEnd, ScanMode, ScanOptions, ScannedGroup, Scanner, Ticket,
        Wal, WalOptions, WalSink,
    },
};

pub(super) const FILE_BYTES: u64 = 64 * 1024;

pub(super) fn dir() -> PathBuf {
    PathBuf::from("/data")
}

pub(super) fn options() -> WalOptions {
    WalOptions { dir: dir(), file_bytes: FILE_BYTES, total_bytes: 4 * FILE_BYTES, direct: true, shard: ShardId(0) }
}

pub(super) fn partition(number: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId([7; 16]), partition: PartitionIndex(number) }
}

/// The payload of frame `number`: its number, then bytes that follow from it.
pub(super) fn payload(number: u64, length: usize) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..length as u64).map(|index| (number * 31 + index * 7).to_le_bytes()[0]));
    bytes.into()
}

/// Frame `number`; its partition follows from the number as well.
pub(super) fn frame(number: u64, length: usize) -> Frame {
    let mut body = payload(number, length);
    let head = body.split_to(3);
    Frame {
        partition: partition(i32::try_from(number % 5).unwrap()),
        kind: FrameKind::Append,
        leader_epoch: LeaderEpoch(4),
        base_offset: Offset(i64::try_from(number).unwrap()),
        head,
        body,
    }
}

/// The number of a frame that was read back, having compared all of it.
pub(super) fn check_frame(partition_of: TopicIdPartition, base_offset: Offset, bytes: &Bytes) -> u64 {
    let number = u64::from_le_bytes(*bytes.first_chunk().expect("frames have 8 bytes or more"));
    assert_eq!(*bytes, payload(number, bytes.len() - 8), "frame {number} is as it was written");
    assert_eq!(partition_of, partition(i32::try_from(number % 5).unwrap()));
    assert_eq!(base_offset.0, i64::try_from(number).unwrap());
    number
}

/// A group's frames, by their numbers.
type Group = (GroupSequence, Vec<(u64, Ticket)>);

/// Remembers which frames were reported durable, by group.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) groups: Mutex<Vec<Group>>,
}

impl WalSink for Sink {
    fn on_durable(&self, group: GroupSequence, group_bytes: usize, frames: Vec<DurableFrame>) {
        assert!(group_bytes.is_multiple_of(4096));
        if frames.is_empty() {
            return;
        }
        let numbers = frames.iter().map(|frame| {
            assert_eq!(frame.group, group);
            (check_frame(frame.partition, frame.base_offset, &frame.payload), frame.ticket)
        });
        let numbers = numbers.collect();
        let mut groups = self.groups.lock().unwrap();
        assert!(groups.last().is_none_or(|(last, _)| *last < group), "groups come in order");
        groups.push((group, numbers));
    }
}

impl Sink {
    pub(super) fn numbers(&self) -> Vec<u64> {
        let groups = self.groups.lock().unwrap();
        groups.iter().flat_map(|(_, frames)| frames.iter().map(|(number, _)| *number)).collect()
    }
}

/// What a scan found.
pub(super) struct Recovered {
    pub(super) superblock: Superblock,
    pub(super) groups: Vec<ScannedGroup>,
    pub(super) end: ScanEnd,
    pub(super) covered: GroupSequence,
}

impl Recovered {
    /// Numbers of the good frames, in order.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let frames = self.groups.iter().flat_map(|group| &group.frames).filter(|frame| !frame.bad);
        frames.map(|frame| check_frame(frame.partition, frame.base_offset, &frame.payload)).collect()
    }
}

pub(super) async fn scan<E: Env>(env: &E, mode: ScanMode) -> Recovered {
    env.disk().create_dir_all(&dir()).await.unwrap();
    env.disk().sync_dir(Path::new("/")).await.unwrap();
    let superblock = superblock::read(env.disk(), &dir()).await.unwrap();
    let superblock = superblock.unwrap_or_else(|| Superblock::new(BrokerId(1), DirectoryId([9; 16])));
    let covered = read_covered(env).await;
    let options = ScanOptions { dir: dir(), direct: true, mode };
    let mut scanner = Scanner::open(env.clone(), options, &superblock, covered).await.unwrap();
    let mut groups = Vec::new();
    while let Some(group) = scanner.next_group().await.unwrap() {
        assert!(group.sequence > covered);
        groups.push(group);
    }
    let end = scanner.finish().await.unwrap();
    Recovered { superblock, groups, end, covered }
}

/// Makes the end of the scan final and starts to write.
pub(super) async fn go_on<E: Env>(
    env: &E,
    recovered: Recovered,
    options: WalOptions,
) -> (Wal<E>, Arc<Sink>, Superblock) {
    let Recovered { mut superblock, end, .. } = recovered;
    end.resume.enter(&mut superblock);
    superblock::write(env.disk(), &dir(), &mut superblock).await.unwrap();
    let sink = Arc::new(Sink::default());
    let wal = Wal::start(env.clone(), options, end.resume, Arc::<Sink>::clone(&sink)).await.unwrap();
    (wal, sink, superblock)
}

pub(super) async fn start<E: Env>(env: &E) -> (Wal<E>, Arc<Sink>, Superblock) {
    let recovered = scan(env, ScanMode::Recover).await;
    go_on(env, recovered, options()).await
}

pub(super) async fn stop<E: Env>(env: &E, wal: Wal<E>, mut superblock: Superblock) -> GroupSequence {
    let last = wal.close().await;
    superblock.mark_clean(last);
    superblock::write(env.disk(), &dir(), &mut superblock).await.unwrap();
    last
}

pub(super) async fn wait_durable<E: Env>(wal: &Wal<E>, ticket: Ticket) {
    wal.durable().wait_for(|durable| *durable >= ticket).await.unwrap();
}

/// The stand-in for a checkpoint: a durable note of what it covers.
pub(super) async fn write_covered<E: Env>(env: &E, covered: GroupSequence) {
    // One that was given up on the way may still rename its own.
    let name = format!("covered.{}", env.clock().now().since(Instant::ZERO).as_nanos());
    let (new, path) = (dir().join(name), dir().join("covered"));
    let file = env.disk().open(&new, OpenOptions { truncate: true, ..OpenOptions::CREATE }).await.unwrap();
    file.write_sync(0, vec![covered.0.to_le_bytes().to_vec().into()]).await.unwrap().unwrap();
    env.disk().rename(&new, &path).await.unwrap();
    env.disk().sync_dir(&dir()).await.unwrap();
}

async fn read_covered<E: Env>(env: &E) -> GroupSequence {
    match env.disk().open(&dir().join("covered"), OpenOptions::READ).await {
        Ok(file) => GroupSequence(u64::from_le_bytes(*file.read_at(0, 8).await.unwrap().first_chunk().unwrap())),
        Err(_) => GroupSequence::NONE,
    }
}
