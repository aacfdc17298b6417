//! The life of a store, short, with something of everything: segments sealed and open, batches that are only in the WAL, a moved
//! log start, a truncation, a deleted partition, producers with ids, every codec.

use std::path::{Path, PathBuf};

use quipu_base::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicIdPartition,
};
use quipu_records::{Batch, BatchBuilder, Codec, NewRecord};
use quipu_storage::{Class, LiveRange, Log, LogOptions, Store, StoreOptions, Ticket, verify};

use super::{Culprit, Logs, read_all, read_log};
use crate::world::{MemoryDisk, World};

/// A segment of the first partition that is full, with a footer.
pub(super) const SEALED_SEGMENT: &str = "seg/AQEBAQEBAQEBAQEBAQEBAQ-0/00000000000000000000.log";
const WAL_FILE_BYTES: u64 = 128 * 1024;

/// How a store ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// As it should: nothing is left to be recovered.
    Stopped,
    /// In the middle, with batches that are only in the WAL.
    CutOff,
}

/// A data directory, and what is in it.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) disk: MemoryDisk,
    pub(super) logs: Logs,
    /// What was in it before some of it was taken away again.
    pub(super) earlier: Logs,
    /// What of it is in use.
    pub(super) live: Vec<LiveRange>,
}

/// Settings of the store.
pub(super) fn options(path: &Path) -> StoreOptions {
    let mut options = StoreOptions::new(path, BrokerId(1));
    options.wal_file_bytes = WAL_FILE_BYTES;
    options.wal_total_bytes = 4 * WAL_FILE_BYTES;
    options.index_interval_bytes = 512;
    options
}

impl Directory {
    pub(super) fn make(ending: Ending) -> Self {
        let path = PathBuf::from("/data");
        let disk = MemoryDisk::default();
        let world = World::new(disk.clone());
        let earlier = world.run(live(&world, &path, ending));
        let copy = World::new(disk.copy());
        let logs = copy.run(read_all(&copy, &path, Culprit::Disk)).expect("a store opens what it has written");
        let count: usize = logs.values().map(|log| log.len()).sum();
        assert!(count > 15, "{count} batches are enough to lose some");
        // What is allocated ahead costs time and says nothing.
        let manifest = path.join("manifest");
        disk.cut(&manifest, (disk.bytes(&manifest).len() + 4096) as u64);
        let report = world.run(verify(&world, &path)).expect("a data directory");
        assert!(report.ok && report.cut.is_empty(), "{report:?}");
        Self { path, disk, logs, earlier, live: report.live }
    }
}

/// Answers what was in the logs before they were cut.
async fn live(world: &World, path: &Path, ending: Ending) -> Logs {
    let (store, _) = Store::open(world.clone(), options(path)).await.expect("a new directory");
    let partitions = [(1, 0), (1, 1), (2, 0), (3, 0)].map(|(topic, partition)| TopicIdPartition {
        topic_id: TopicId([topic; 16]),
        partition: PartitionIndex(partition),
    });
    let logs = partitions.map(|partition| store.log(partition));
    logs.iter().for_each(|log| log.set_options(LogOptions { segment_bytes: 2500, ..LogOptions::default() }));
    for round in 0..6 {
        for (index, log) in logs.iter().enumerate() {
            append(log, round, index).await;
        }
        if round == 2 {
            let ticket = append(&logs[0], round, 0).await;
            wait_for(&store, ticket).await;
            store.checkpoint().await.expect("a disk without faults");
        }
    }
    let ticket = append(&logs[0], 5, 0).await;
    wait_for(&store, ticket).await;
    let mut earlier = Logs::new();
    for log in &logs {
        earlier.insert(log.partition(), read_log(log, Culprit::Disk).await);
    }
    let start = logs[1].reserve(0, Class::Reserve).await.expect("room");
    logs[1].set_log_start(start, Offset(4)).expect("an offset in the log");
    let cut = logs[2].reserve(0, Class::Reserve).await.expect("room");
    logs[2].truncate(cut, Offset(9)).await.expect("an offset in the log");
    append(&logs[2], 5, 2).await;
    wait_for(&store, store.delete(partitions[3])).await;
    if ending == Ending::Stopped {
        store.close().await.expect("a disk without faults");
    }
    earlier
}

/// Waits until all up to `ticket` is durable.
async fn wait_for(store: &Store<World>, ticket: Ticket) {
    store.durable().wait_for(|durable| *durable >= ticket).await.expect("the WAL lives");
}

async fn append(log: &Log<World>, round: i32, index: usize) -> Ticket {
    let codec = Codec::ALL[index % Codec::ALL.len()];
    let batch = batch(codec, i64::try_from(index).expect("few"), round);
    let room = log.reserve(batch.bytes().len(), Class::Normal).await.expect("room");
    let epoch = LeaderEpoch(round / 3);
    let appended = log.append(room, epoch, batch.bytes(), batch.header(), Timestamp(1_704_067_200_000));
    appended.expect("a valid batch").ticket
}

fn batch(codec: Codec, producer: i64, round: i32) -> Batch {
    let mut builder = BatchBuilder::new().codec(codec, None);
    if producer % 2 == 1 {
        builder = builder.producer(ProducerId(producer), ProducerEpoch(0), Sequence(2 * round));
    }
    for number in 0..2 {
        let value: Vec<u8> = (0..400_i32).map(|at| (at * (7 + round + number)).to_le_bytes()[0]).collect();
        let timestamp = Timestamp(1_704_067_200_000 + i64::from(10 * round + number));
        builder.push(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] }).expect("a small record");
    }
    builder.build().expect("a small batch")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(directory: &Directory) -> Vec<Vec<i64>> {
        directory.logs.values().map(|log| log.keys().map(|offset| offset.0).collect()).collect()
    }

    #[test]
    fn both_directories_hold_the_same_and_something_of_everything() {
        let [stopped, cut_off] = [Ending::Stopped, Ending::CutOff].map(Directory::make);
        let all = [vec![0, 2, 4, 6, 8, 10, 12, 14], vec![4, 6, 8, 10], vec![0, 2, 4, 6, 8]];
        assert_eq!(offsets(&stopped), all);
        assert_eq!(offsets(&cut_off), all);
        let sealed = stopped.disk.bytes(&stopped.path.join(SEALED_SEGMENT));
        assert!(sealed.windows(8).any(|window| window == b"QuipuFtr"), "a footer");
        let segments = |directory: &Directory| {
            directory.disk.files().iter().filter(|file| file.starts_with(directory.path.join("seg"))).count()
        };
        assert!(segments(&cut_off) < segments(&stopped), "some batches are in the WAL only");
    }
}
