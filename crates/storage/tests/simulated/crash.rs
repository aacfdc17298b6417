//! The power is cut at every change of the disk. After each cut the store must hold a prefix of what was submitted, with all that
//! was acknowledged; it goes on from there, and that must be kept, too.

use std::{path::Path, sync::Arc};

use quipu_env::Env;
use quipu_sim::{NodeConfig, Sim, SimConfig, crash::CrashTest, disk::LoseAll};
use quipu_storage::{LogOptions, StoreOptions};

use crate::driver::{Driver, History, small_options};

fn values(tag: &str, count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| format!("{tag}-{index}-{}", "x".repeat(bytes)).into_bytes()).collect()
}

fn rolling() -> LogOptions {
    LogOptions { segment_bytes: 1500, ..LogOptions::default() }
}

/// Everything once, in an order in which each thing meets each other one.
async fn life<E: Env>(env: E, history: Arc<History>) {
    let mut driver = Driver::open(env, small_options(), rolling(), history).await;
    for round in 0..3_i32 {
        driver.append(0, round, Some(7), &values(&format!("a{round}"), 2, 200)).await;
        driver.append(1, round, None, &values(&format!("b{round}"), 1, 900)).await;
        driver.append(0, round, Some(8), &values(&format!("c{round}"), 3, 100)).await;
    }
    driver.acknowledge().await;
    driver.store.checkpoint().await.expect("a checkpoint");
    driver.append(0, 3, Some(7), &values("d", 1, 300)).await;
    driver.append(3, 0, None, &values("meta", 1, 100)).await;
    driver.set_state(3, b"first").await;
    driver.acknowledge().await;
    // Into the tail, into the flushed part inside a batch, and on from there.
    driver.truncate(0, 15).await;
    driver.append(0, 4, Some(7), &values("e", 2, 100)).await;
    driver.acknowledge().await;
    driver.truncate(0, 9).await;
    driver.append(0, 5, Some(8), &values("f", 2, 400)).await;
    driver.append(2, 0, Some(9), &values("g", 2, 10)).await;
    driver.acknowledge().await;
    driver.move_log_start(0, 6).await;
    driver.move_log_start(1, 3).await;
    driver.store.checkpoint().await.expect("a checkpoint");
    driver.delete(2);
    driver.append(1, 5, Some(7), &values("h", 1, 800)).await;
    driver.append(3, 1, None, &values("meta", 2, 700)).await;
    driver.set_state(3, b"second").await;
    driver.acknowledge().await;
    driver.store.checkpoint().await.expect("a checkpoint");
    let mut driver = driver.reopen(small_options()).await;
    driver.append(0, 6, Some(7), &values("i", 2, 500)).await;
    driver.append(1, 6, None, &values("j", 1, 10)).await;
    driver.acknowledge().await;
    driver.move_log_start(1, 4).await;
    driver.truncate(0, 10).await;
    driver.delete(1);
    driver.acknowledge().await;
}

/// What every start after a cut does: look, go on, stop, look again.
async fn next_life<E: Env>(env: E, history: Arc<History>) {
    let mut driver = Driver::open(env, small_options(), rolling(), history).await;
    for log in [0, 1, 3] {
        driver.append(log, 100, Some(7), &values("next", 1, 50)).await;
    }
    driver.acknowledge().await;
    let offsets = driver.log(0).offsets();
    driver.truncate(0, offsets.log_end.0 - 1).await;
    driver.append(0, 101, Some(8), &values("last", 2, 600)).await;
    drop(driver.reopen(small_options()).await);
}

#[test]
fn every_change_of_the_disk_may_be_the_last() {
    let report = CrashTest::new(1).run(life, next_life);
    assert!(report.crashes > 500, "{report:?}");
    assert!(report.recovery_crashes > 50, "{report:?}");
}

/// A directory of which no level exists.
fn deep() -> StoreOptions {
    StoreOptions { directory: "/a/b/c".into(), ..small_options() }
}

async fn first_record<E: Env>(env: E, history: Arc<History>) {
    let mut driver = Driver::open(env, deep(), rolling(), history).await;
    driver.append(0, 0, Some(7), &values("first", 1, 50)).await;
    driver.acknowledge().await;
}

#[test]
fn a_new_directory_is_durable_with_every_level_above_it() {
    let report = CrashTest::new(2).run(first_record, first_record);
    assert!(report.crashes > 100, "{report:?}");
}

/// Levels that somebody made and did not sync: a process that was killed, or a script that started this one.
#[test]
fn levels_that_were_there_before_are_made_durable() {
    for made in ["/a", "/a/b", "/a/b/c"] {
        drop(Sim::new(3, SimConfig::default()).run(move |world| async move {
            let node = world.node("node", NodeConfig::default());
            node.with_disk(|disk| disk.create_dir_all(Path::new(made))).expect("there is room");
            let history = Arc::new(History::default());
            for _ in 0..2 {
                let process = node.start(|env| first_record(env, Arc::clone(&history)));
                process.join().await.expect("the process comes to its end");
                node.with_disk(|disk| disk.power_cut(&mut LoseAll));
            }
            assert_eq!(history.lock().acknowledged, 2, "both are found again");
        }));
    }
}
