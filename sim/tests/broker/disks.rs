//! Disks that are full, slow, or don't keep what they were told to.

use core::time::Duration;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quipu_env::Fatal;
use quipu_protocol::ErrorCode;
use quipu_sim::{
    Down, Node, Sim, SimConfig, World,
    disk::{DiskModel, Fault, FaultRule},
    run_seeds,
};
use rand::RngExt;

use crate::{
    server::End,
    setup::{DATA_DIR, Setup, seeds},
    trouble::{Ends, Trouble, is_crash_or_stop},
    world::Stage,
};

/// A setup that writes several times what the tail holds.
fn busy(world: &World) -> Setup {
    Setup { memory_tail_bytes: 64 * 1024, value_bytes_max: 2000, records_max: 8, batches: 30, ..Setup::draw(world) }
}

/// The disk gets full, and later there is room again.
async fn full_disk(world: World) {
    let stage = Stage::new(&world, busy(&world));
    let ends = Ends::default();
    let mut rng = world.rng("full");
    let care = async {
        let story = async {
            stage.server.ready().await;
            world.sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
            let left = rng.random_range(0..32) * 4096;
            stage.server.node.with_disk(|disk| {
                disk.set_capacity(Some(u64::MAX / 2));
                let (free, total) = disk.space();
                disk.set_capacity(Some(total - free + left));
            });
            while !stage.scene.was_refused(ErrorCode::KafkaStorageError) {
                world.sleep(Duration::from_millis(10)).await;
            }
            if rng.random() {
                // Even a crash finds its way back while there is no room.
                stage.strike(if rng.random() { Trouble::PowerCut } else { Trouble::Kill }).await;
            }
            world.sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
            stage.server.node.with_disk(|disk| disk.set_capacity(None));
            core::future::pending::<()>().await;
        };
        let may_end = |end: &End| is_crash_or_stop(end) || matches!(end, End::Refused { exit_status: 1, .. });
        tokio::select! { biased;
            () = stage.keep_up(&ends, may_end) => {}
            () = story => {}
        }
    };
    let sent = stage.play(care).await;
    stage.stop_and_look_again(&sent).await;
}

#[test]
fn a_full_disk_refuses_producers_until_there_is_room_and_loses_nothing() {
    let seeds = seeds(6000..6040);
    run_seeds(&seeds, &SimConfig::default(), 2, full_disk).expect("no run fails");
}

/// One sync of the write-ahead log fails. Answers how often the process stopped for it.
async fn failed_log_sync(world: World) -> u64 {
    let stage = Stage::new(&world, Setup::draw(&world));
    let ends = Ends::default();
    let mut rng = world.rng("sync");
    let after = rng.random_range(0..80);
    let log = Path::new(DATA_DIR).join("wal");
    stage.server.node.inject(FaultRule::next(Fault::SyncFails).below(log).after(after));
    let may_end = |end: &End| match end {
        End::Down(Down::Halted { why, message }) => {
            assert_eq!((*why, why.exit_status()), (Fatal::WalSync, 74), "{message}");
            assert!(message.contains("/wal"), "the message names the file: {message}");
            true
        }
        // It may fail where the first file is made.
        end => is_crash_or_stop(end) || matches!(end, End::Refused { exit_status: 1, .. }),
    };
    let care = async {
        tokio::select! { biased;
            () = stage.keep_up(&ends, may_end) => {}
            () = stage.trouble() => {}
        }
    };
    let sent = stage.play(care).await;
    stage.server.node.with_disk(DiskModel::clear_faults);
    stage.stop_and_look_again(&sent).await;
    ends.count(|end, _| matches!(end, End::Down(Down::Halted { .. })))
}

#[test]
fn a_failed_sync_of_the_log_stops_the_broker_and_loses_nothing() {
    let seeds = seeds(7000..7060);
    let reports = run_seeds(&seeds, &SimConfig::default(), 2, failed_log_sync).expect("no run fails");
    let halts: u64 = reports.iter().map(|report| report.value).sum();
    assert!(halts > 20, "{halts} of {} runs", seeds.len());
}

/// Syncs of segments fail: what they should have made durable is still in the log.
async fn failed_segment_syncs(world: World) {
    let stage = Stage::new(&world, busy(&world));
    let ends = Ends::default();
    let mut rng = world.rng("sync");
    let segments = Path::new(DATA_DIR).join("seg");
    for _ in 0..rng.random_range(1..4) {
        let rule = FaultRule::next(Fault::SyncFails).below(&segments);
        stage.server.node.inject(rule.after(rng.random_range(0..20)).times(rng.random_range(1..4)));
    }
    let care = async {
        tokio::select! { biased;
            () = stage.keep_up(&ends, is_crash_or_stop) => {}
            () = stage.trouble() => {}
        }
    };
    let sent = stage.play(care).await;
    stage.server.node.with_disk(DiskModel::clear_faults);
    stage.stop_and_look_again(&sent).await;
}

#[test]
fn failed_syncs_of_segments_are_survived() {
    let seeds = seeds(8000..8040);
    run_seeds(&seeds, &SimConfig::default(), 2, failed_segment_syncs).expect("no run fails");
}

/// The disk answers nothing for longer than clients wait, and nobody can reach the broker for a while.
async fn stalls(world: World) -> bool {
    let stage = Stage::new(&world, Setup::draw(&world));
    let ends = Ends::default();
    let mut rng = world.rng("stall");
    let care = async {
        let story = async {
            stage.server.ready().await;
            for _ in 0..3 {
                world.sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
                let duration = Duration::from_millis(rng.random_range(1_000..8_000));
                let stall = rng.random();
                stage.strike(if stall { Trouble::StalledDisk(duration) } else { Trouble::Unreachable(duration) }).await;
            }
            core::future::pending::<()>().await;
        };
        tokio::select! { biased;
            () = stage.keep_up(&ends, |_| false) => {}
            () = story => {}
        }
    };
    let sent = stage.play(care).await;
    stage.stop_and_look_again(&sent).await;
    stage.scene.was_refused(ErrorCode::RequestTimedOut)
}

#[test]
fn stalls_and_partitions_pass() {
    let seeds = seeds(9000..9030);
    let reports = run_seeds(&seeds, &SimConfig::default(), 2, stalls).expect("no run fails");
    assert!(reports.iter().any(|report| report.value), "no producer was told that it takes too long");
}

/// Asks the device itself: what a client has been told of would survive a power cut now.
async fn durable_when_told(world: World) -> u64 {
    let setup = Setup {
        wal_file_bytes: 64 * 1024,
        memory_tail_bytes: 64 * 1024,
        value_bytes_max: 20,
        batches: 10,
        ..Setup::draw(&world)
    };
    let mut stage = Stage::new(&world, setup);
    stage.without_latency();
    let (node, told) = (stage.server.node.clone(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&told);
    stage.scene.witness = Arc::new(move |partition, value| {
        assert!(is_durable(&node, value), "partition {partition}: {value:?} was told of and is not on the device");
        count.fetch_add(1, Ordering::Relaxed);
    });
    let ends = Ends::default();
    stage.play(stage.keep_up(&ends, |_| false)).await;
    told.load(Ordering::Relaxed)
}

/// Whether these bytes stand in some file of the data directory and would survive.
fn is_durable(node: &Node, bytes: &[u8]) -> bool {
    node.with_disk(|disk| {
        files(disk, Path::new(DATA_DIR)).iter().any(|path| {
            let contents = disk.contents(path).expect("it was listed");
            let positions = contents.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes);
            let ranges: Vec<u64> = positions.map(|(position, _)| position as u64).collect();
            ranges.iter().any(|start| disk.is_durable(path, *start..start + bytes.len() as u64))
        })
    })
}

fn files(disk: &DiskModel, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in disk.list(directory).expect("it is a directory") {
        let path = directory.join(name);
        match disk.list(&path) {
            Ok(_) => found.extend(files(disk, &path)),
            Err(_) => found.push(path),
        }
    }
    found
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    let config = SimConfig { planted: BTreeSet::from(["broker.acknowledge-unsynced"]), ..SimConfig::default() };
    for seed in seeds(10_000..10_004) {
        let failure = Sim::new(seed, config.clone()).try_run(durable_when_told).expect_err("the bug is found");
        assert!(failure.message.contains("is not on the device"), "{failure}");
    }
}

#[test]
fn what_a_client_is_told_of_is_on_the_device_at_that_moment() {
    let seeds = seeds(10_000..10_004);
    let reports = run_seeds(&seeds, &SimConfig::default(), 2, durable_when_told).expect("no run fails");
    assert!(reports.iter().all(|report| report.value > 10));
}
