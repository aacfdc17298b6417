//! Flipped bits: found, told of, never served, and confined to what they hit. And directories that must not be opened.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use quipu_base::{BrokerId, ClusterId, LeaderEpoch, Offset, Timestamp, TopicIdPartition};
use quipu_env::{Clock, Env};
use quipu_sim::{Node, NodeConfig, Sim, SimConfig, SimEnv, World};
use quipu_storage::{
    AppendError, Class, IdentityError, LogOptions, OpenError, ReadError, Store, StoreOptions, TailRead,
};

use crate::{
    driver::{DIR, Driver, History, bytes_of, small_options},
    model::partition,
};

fn simulate<F, S>(scenario: F)
where
    F: FnOnce(World) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    drop(Sim::new(7, SimConfig::default()).run(scenario));
}

async fn on<F, M, T>(node: &Node, main: F) -> T
where
    F: FnOnce(SimEnv) -> M,
    M: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    node.start(main).join().await.expect("the process comes to its end")
}

fn values(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![u8::try_from(index % 250).expect("small"); bytes]).collect()
}

/// Twenty batches of 500 bytes in partition 0, in segments of four, and some in the others; stopped cleanly.
async fn written(node: &Node, segment_bytes: u32) -> Arc<History> {
    let history = Arc::new(History::default());
    let kept = Arc::clone(&history);
    on(node, move |env| async move {
        let log_options = LogOptions { segment_bytes, ..LogOptions::default() };
        let mut driver = Driver::open(env, small_options(), log_options, history).await;
        for number in 0..20 {
            driver.append(0, 0, Some(1), &values(1, 500)).await;
            driver.append(3, 0, None, &values(1, 10)).await;
            if number == 10 {
                driver.acknowledge().await;
                driver.store.checkpoint().await.expect("a checkpoint");
            }
        }
        driver.append(1, 0, None, &values(2, 100)).await;
        driver.acknowledge().await;
        driver.store.close().await.expect("closes");
    })
    .await;
    kept
}

fn segment_files(node: &Node, log: usize) -> Vec<PathBuf> {
    let dir = PathBuf::from(format!("{DIR}/seg/{}", partition(log)));
    let names = node.with_disk(|disk| disk.list(&dir)).expect("the directory is there");
    names.iter().map(|name| dir.join(name)).collect()
}

fn flip(node: &Node, path: &Path, position: u64) {
    node.with_disk(|disk| disk.flip_bit(path, position, 3)).expect("the byte is there");
}

fn size(node: &Node, path: &Path) -> u64 {
    node.with_disk(|disk| disk.file_size(path)).expect("the file is there")
}

async fn open(env: &SimEnv) -> Result<Store<SimEnv>, OpenError> {
    Store::open(env.clone(), small_options()).await.map(|(store, _)| store)
}

/// Offsets that can be read in a log of single-record batches, and those at which damage is told of.
async fn readable(store: &Store<SimEnv>, log: usize) -> (Vec<i64>, Vec<i64>) {
    let log = store.log(partition(log));
    let offsets = log.offsets();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        match log.read(next, offsets.log_end, 1, true).await {
            Ok(read) => {
                for segment in read.segments {
                    let bytes = bytes_of::<SimEnv>(segment).await;
                    quipu_records::Batch::parse_checked(bytes).expect("what is served is whole");
                }
                good.push(next.0);
                next = read.next_offset;
            }
            Err(ReadError::Damaged { offset, .. }) => {
                assert!(offset <= next);
                bad.push(next.0);
                next = next.next();
            }
            Err(other) => panic!("offset {next}: {other}"),
        }
    }
    (good, bad)
}

#[test]
fn damage_in_a_sealed_segment_takes_its_block_only() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        drop(written(&node, 2400).await);
        let files = segment_files(&node, 0);
        assert!(files.len() >= 5, "{files:?}");
        // In the records of the third batch of the second segment; in the header of the first one of the third.
        let batch = size(&node, &files[1]) / 5;
        flip(&node, &files[1], 2 * batch + 200);
        flip(&node, &files[2], 3);
        on(&node, |env| async move {
            let store = open(&env).await.expect("opens");
            let (good, bad) = readable(&store, 0).await;
            assert_eq!(bad, [6, 8], "four batches in each segment, two blocks hit");
            assert_eq!(good.len(), 18);
            // A larger read ends before the damage.
            let log = store.log(partition(0));
            let read = log.read(Offset(4), Offset(20), 100_000, true).await.expect("two batches");
            assert_eq!(read.next_offset, Offset(6));
            let (good, bad) = readable(&store, 1).await;
            assert_eq!((good.len(), bad.len()), (1, 0), "another partition is not concerned");
        })
        .await;
    });
}

#[test]
fn every_flipped_bit_of_a_segment_is_found_or_does_no_harm() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        drop(written(&node, 2400).await);
        let file = segment_files(&node, 0).swap_remove(1);
        for position in (0..size(&node, &file)).step_by(7) {
            flip(&node, &file, position);
            on(&node, move |env| async move {
                let store = open(&env).await.expect("opens");
                let (good, bad) = readable(&store, 0).await;
                assert_eq!(good.len() + bad.len(), 20, "byte {position}");
                assert!(bad.iter().all(|offset| (4..8).contains(offset)), "byte {position}: {bad:?}");
                let producers = store.log(partition(0)).producers();
                assert_eq!(producers[0].batches.len(), 5);
            })
            .await;
            flip(&node, &file, position);
        }
        // Of the footer, nothing is needed but time.
        let footer = size(&node, &file) - 40;
        flip(&node, &file, footer);
        on(&node, |env| async move {
            let store = open(&env).await.expect("opens");
            assert_eq!(readable(&store, 0).await.1, [] as [i64; 0]);
        })
        .await;
    });
}

#[test]
fn damage_in_an_open_segment_takes_its_flush_only() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        drop(written(&node, 1 << 30).await);
        let file = segment_files(&node, 0).swap_remove(0);
        // In a batch header of the first flush, which was made after batch 11 at the latest: which batch it was can't be told.
        flip(&node, &file, 15);
        on(&node, |env| async move {
            let store = open(&env).await.expect("opens");
            let (good, bad) = readable(&store, 0).await;
            let flushed = i64::try_from(bad.len()).expect("small");
            assert!((1..=11).contains(&flushed));
            assert_eq!(bad, (0..flushed).collect::<Vec<_>>());
            assert_eq!(good, (flushed..20).collect::<Vec<_>>());
        })
        .await;
        flip(&node, &file, 15);
        // In its records: the block is known.
        flip(&node, &file, 100);
        on(&node, |env| async move {
            let store = open(&env).await.expect("opens");
            assert_eq!(readable(&store, 0).await.1, [0]);
        })
        .await;
    });
}

#[test]
fn damaged_metadata_stops_the_start() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        drop(written(&node, 1 << 30).await);
        let file = segment_files(&node, 3).swap_remove(0);
        flip(&node, &file, 300);
        on(&node, |env| async move {
            let error = open(&env).await.expect_err("metadata is damaged");
            assert_eq!(error.exit_status(), 65, "{error}");
            assert!(error.to_string().contains(&partition(3).to_string()), "{error}");
        })
        .await;
    });
}

/// Makes a store whose last frames are only in the WAL, and answers where the bytes of partition 0's newest batch are.
async fn killed(node: &Node) -> (PathBuf, u64) {
    on(node, |env| async move {
        let mut driver = Driver::open(env, small_options(), LogOptions::default(), Arc::default()).await;
        driver.append(1, 0, None, &values(1, 40)).await;
        driver.append(0, 0, None, &values(1, 40)).await;
        driver.acknowledge().await;
        driver.append(0, 0, None, &[vec![0xe7; 5000]]).await;
        driver.acknowledge().await;
        driver.append(1, 0, None, &values(1, 40)).await;
        driver.append(3, 0, None, &values(1, 40)).await;
        driver.acknowledge().await;
        // The last group is proven.
        driver.env.clock().sleep(core::time::Duration::from_millis(100)).await;
    })
    .await;
    let wal = PathBuf::from(format!("{DIR}/wal/0000"));
    let bytes = node.with_disk(|disk| disk.contents(&wal)).expect("the file is there");
    let at = bytes.windows(64).position(|window| window == [0xe7; 64]).expect("the batch is in the WAL");
    (wal, at as u64)
}

#[test]
fn a_bad_frame_takes_its_partition_offline_for_good() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        let (wal, at) = killed(&node).await;
        flip(&node, &wal, at);
        for checkpoint in [true, false] {
            on(&node, move |env| async move {
                let (store, _) = Store::open(env.clone(), small_options()).await.expect("opens");
                let log = store.log(partition(0));
                let fault = log.fault().expect("the partition is faulty");
                assert_eq!(fault.offset, Offset(1));
                assert!(matches!(log.read_tail(Offset(0), Offset(1), 100, true), TailRead::Faulty(_)));
                assert!(matches!(log.read(Offset(0), Offset(1), 100, true).await, Err(ReadError::Faulty(_))));
                let reservation = store.reserve(100, Class::Normal).await.expect("room");
                let batch = quipu_records::BatchBuilder::new();
                let mut batch = batch;
                let record = quipu_records::NewRecord { timestamp: Timestamp(0), key: None, value: None, headers: &[] };
                batch.push(&record).expect("fits");
                let batch = batch.build().expect("builds");
                let refused =
                    log.append(reservation, LeaderEpoch(0), batch.bytes(), batch.header(), env.clock().wall());
                assert!(matches!(refused, Err(AppendError::Faulty(_))));
                assert_eq!(readable(&store, 1).await.0, [0, 1], "another partition is not concerned");
                if checkpoint {
                    store.checkpoint().await.expect("a checkpoint");
                }
                store.close().await.expect("closes");
            })
            .await;
        }
        on(&node, |env| async move {
            let store = open(&env).await.expect("opens");
            let ticket = store.delete(partition(0));
            store.durable().wait_for(|durable| *durable >= ticket).await.expect("runs");
            assert!(store.log(partition(0)).fault().is_none(), "a deleted partition's fault goes with it");
        })
        .await;
    });
}

#[test]
fn a_manifest_that_is_damaged_or_gone_stops_the_start() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        drop(written(&node, 2400).await);
        let manifest = PathBuf::from(format!("{DIR}/manifest"));
        // One copy of the snapshot's record, then the other: heads end at 1024.
        flip(&node, &manifest, 1024 + 10);
        on(&node, |env| async move { drop(open(&env).await.expect("one copy is enough")) }).await;
        let bytes = node.with_disk(|disk| disk.contents(&manifest)).expect("the file is there");
        let second = bytes[1025..].windows(4).position(|window| window == b"QMrc").expect("the second copy");
        flip(&node, &manifest, 1025 + second as u64 + 10);
        on(&node, |env| async move {
            let error = open(&env).await.expect_err("no copy is left");
            assert!(error.exit_status() == 65 && error.to_string().contains("manifest"), "{error}");
        })
        .await;
        node.with_disk(|disk| disk.remove(&manifest)).expect("the file is there");
        on(&node, |env| async move {
            assert_eq!(open(&env).await.expect_err("it is gone").exit_status(), 65);
        })
        .await;
        let superblock = PathBuf::from(format!("{DIR}/superblock"));
        node.with_disk(|disk| disk.remove(&superblock)).expect("the file is there");
        on(&node, |env| async move {
            assert_eq!(open(&env).await.expect_err("it is gone, too").exit_status(), 65);
        })
        .await;
    });
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        on(&node, |env| async move {
            let store = open(&env).await.expect("opens");
            let held = open(&env).await.expect_err("it is in use");
            assert_eq!(held.exit_status(), 69, "{held}");
            assert!(matches!(held, OpenError::Held { pid: Some(_), .. }), "{held}");
            let before = store.identity().await;
            assert_eq!(before.cluster_id, None);
            store.set_cluster_id(ClusterId([1; 16])).await.expect("stored");
            store.set_broker_epoch(quipu_base::BrokerEpoch(5)).await.expect("stored");
            let other = store.set_cluster_id(ClusterId([2; 16])).await;
            assert!(matches!(other, Err(IdentityError::OtherCluster { .. })));
        })
        .await;
        on(&node, |env| async move {
            let options = StoreOptions { node_id: BrokerId(2), ..small_options() };
            let other = Store::open(env.clone(), options).await.expect_err("another node's");
            assert_eq!(other.exit_status(), 78, "{other}");
            let store = open(&env).await.expect("opens");
            let identity = store.identity().await;
            assert_eq!(identity.cluster_id, Some(ClusterId([1; 16])));
            assert_eq!(identity.broker_epoch, Some(quipu_base::BrokerEpoch(5)));
            assert_eq!(store.partitions(), [] as [TopicIdPartition; 0]);
        })
        .await;
    });
}
