//! Syncs that fail while names are made, and then a power cut: a name that a failed sync has lost is not brought back by the next
//! one, so whoever finds it after that must not rely on it.

use core::time::Duration;
use std::sync::Arc;

use quipu_sim::{
    NodeConfig, PowerCut, Sim, SimConfig, World,
    disk::{Fault, FaultRule},
};
use quipu_storage::LogOptions;

use crate::driver::{DIR, Driver, History, small_options};

/// Every sync of the first life and of the checkpoint in it, and some that never come.
const SYNCS: u64 = 60;

/// A life in which one sync fails, ended soon after that; one that goes on and is acknowledged; the power goes; one that looks.
async fn lives(world: World, skip: u64) {
    let config = NodeConfig { power_cut: PowerCut::LoseAll, ..NodeConfig::default() };
    let node = world.node("node", config);
    let history = Arc::new(History::default());
    let values = |tag: &str| vec![format!("{tag}-{}", "x".repeat(2000)).into_bytes()];
    node.inject(FaultRule::next(Fault::SyncFails).below(DIR).after(skip));
    for life in 0..3 {
        let history = Arc::clone(&history);
        let running = node.start(move |env| async move {
            let opened = Driver::try_open(env, small_options(), LogOptions::default(), history).await;
            // Only where the sync fails.
            let Ok(mut driver) = opened else { return assert_eq!(life, 0, "a start is refused") };
            for round in 0..12 {
                driver.append(0, 0, Some(7), &values(&format!("a{life}-{round}"))).await;
                driver.append(1, 0, None, &values(&format!("b{life}-{round}"))).await;
                driver.acknowledge().await;
            }
            let done = driver.store.checkpoint().await;
            assert!(done.is_ok() || life == 0, "{done:?}");
            core::future::pending::<()>().await;
        });
        world.sleep(Duration::from_millis(30)).await;
        if life == 1 {
            node.power_cut();
        } else {
            // Before what has failed is tried again.
            node.kill();
        }
        node.with_disk(quipu_sim::disk::DiskModel::clear_faults);
        drop(running.join().await);
    }
}

#[test]
fn names_that_a_failed_sync_has_lost_are_made_anew() {
    for skip in 0..SYNCS {
        for seed in 0..3 {
            let run = Sim::new(seed, SimConfig::default()).try_run(|world| lives(world, skip));
            if let Err(failure) = run {
                panic!("sync {skip} fails: {failure}");
            }
        }
    }
}
