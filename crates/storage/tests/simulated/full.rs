//! Full disks, and memory that is used up: who waits, who is told, and that it ends.

use core::time::Duration;
use std::sync::Arc;

use quipu_env::{Clock, Env};
use quipu_sim::{NodeConfig, Sim, SimConfig, disk::DiskOptions};
use quipu_storage::{Class, LogOptions, StoreFull, StoreOptions};

use crate::{
    driver::{Driver, History, small_options},
    model::partition,
};

fn block(number: usize) -> Vec<Vec<u8>> {
    vec![vec![u8::try_from(number % 256).expect("a remainder"); 4000]]
}

/// Writes until told that the store is full.
async fn fill<E: Env>(driver: &mut Driver<E>, log: usize) -> usize {
    for number in 0..10_000 {
        if matches!(driver.store.reserve(4200, Class::Normal).await, Err(StoreFull)) {
            return number;
        }
        driver.append(log, 0, None, &block(number)).await;
    }
    panic!("the disk does not fill up");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let scenario = |world: quipu_sim::World| async move {
        let disk = DiskOptions { capacity_bytes: Some(3 << 20), ..DiskOptions::default() };
        let node = world.node("node", NodeConfig { disk, ..NodeConfig::default() });
        let history = Arc::new(History::default());
        let kept = Arc::clone(&history);
        let running = node.start(|env| async move {
            let mut driver = Driver::open(env, small_options(), LogOptions::default(), history).await;
            let first = fill(&mut driver, 0).await;
            assert!(first > 50, "{first} batches fitted");
            driver.acknowledge().await;
            assert!(driver.store.stats().is_stuck);
            // Reads go on, and a delete makes room.
            assert_eq!(driver.look().await[0].as_ref().expect("it has data").records.len(), first);
            driver.delete(0);
            driver.acknowledge().await;
            driver.env.clock().sleep(Duration::from_secs(10)).await;
            assert!(!driver.store.stats().is_stuck);
            let second = fill(&mut driver, 1).await;
            assert!(second > 50, "{second} batches fitted after the delete");
            // So does a log start.
            driver.acknowledge().await;
            driver.move_log_start(1, i64::try_from(second).expect("small") - 3).await;
            driver.acknowledge().await;
            driver.env.clock().sleep(Duration::from_secs(10)).await;
            let third = fill(&mut driver, 1).await;
            assert!(third > 20, "{third} batches fitted after the log start moved");
            driver.acknowledge().await;
        });
        running.join().await.expect("the process comes to its end");
        // Whatever the disk had no room for is found again, full as it is.
        let running = node.start(|env| async move {
            let driver = Driver::open(env, small_options(), LogOptions::default(), kept).await;
            assert!(driver.log(1).offsets().log_end.0 > 0);
            assert!(!driver.store.partitions().contains(&partition(0)));
        });
        running.join().await.expect("the process comes to its end");
    };
    drop(Sim::new(3, SimConfig::default()).run(scenario));
}

#[test]
fn producers_wait_while_checkpoints_make_room() {
    let scenario = |world: quipu_sim::World| async move {
        let node = world.node("node", NodeConfig::default());
        let running = node.start(|env| async move {
            let options = StoreOptions { tail_bytes: 64 * 1024, ..small_options() };
            let mut driver = Driver::open(env, options, LogOptions::default(), Arc::default()).await;
            let started = driver.env.clock().now();
            for number in 0..300 {
                driver.append(number % 3, 0, None, &block(number)).await;
                assert!(driver.store.stats().tail_bytes < 80 * 1024, "memory is bounded");
            }
            driver.acknowledge().await;
            // Far less than what one timed checkpoint after another would take.
            assert!(driver.env.clock().now().since(started) < Duration::from_secs(5));
        });
        running.join().await.expect("the process comes to its end");
    };
    drop(Sim::new(4, SimConfig::default()).run(scenario));
}
