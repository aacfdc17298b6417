//! Syncs that fail while names are made, and then a power cut: a name that a failed sync has lost is not brought back by the next
//! one, so whoever finds it after that must not rely on it. And names that a crash has left behind, which go sooner or later.

use core::time::Duration;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use quipu_env::{Disk, Env, File, OpenOptions};
use quipu_sim::{
    NodeConfig, PowerCut, Sim, SimConfig, SimEnv, World,
    disk::{Fault, FaultRule},
    fault::Fault as Trouble,
};
use quipu_storage::{LogOptions, Store};

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

/// Makes a file that no manifest has, in a partition's directory.
async fn leave_behind(env: SimEnv) {
    let mut driver = Driver::open(env.clone(), small_options(), LogOptions::default(), Arc::default()).await;
    driver.append(0, 0, Some(7), &[b"value".to_vec()]).await;
    driver.acknowledge().await;
    driver.store.checkpoint().await.expect("nothing is wrong");
    let dirs = env.disk().list(&segments()).await.expect("nothing is wrong");
    let left = segments().join(&dirs[0]).join("00000000000000000099.log");
    let file = env.disk().open(&left, OpenOptions::CREATE_NEW).await.expect("nothing is wrong");
    file.write_at(0, vec![b"left".as_slice().into()]).await.expect("nothing is wrong");
}

fn segments() -> PathBuf {
    Path::new(DIR).join("seg")
}

async fn names(env: &SimEnv) -> Vec<String> {
    let mut names = Vec::new();
    for dir in env.disk().list(&segments()).await.expect("nothing is wrong") {
        names.extend(env.disk().list(&segments().join(dir)).await.expect("nothing is wrong"));
    }
    names
}

#[test]
fn what_is_left_behind_goes_also_if_it_cannot_be_looked_for_at_first() {
    let scenario = |world: World| async move {
        let node = world.node("node", NodeConfig::default());
        node.start(leave_behind).join().await.expect("it ends by itself");
        let (own, clock) = (world.clone(), world.clone());
        let looked = node.start(move |env| async move {
            let (_store, _) = Store::open(env.clone(), small_options()).await.unwrap();
            own.begin(&Trouble::FewDescriptors { node: "node".to_owned(), spare: 0, lasts_ms: 500 }).unwrap();
            clock.sleep(Duration::from_millis(600)).await;
            assert_eq!(names(&env).await.len(), 2, "it could not be looked for");
            clock.sleep(Duration::from_secs(2)).await;
            assert_eq!(names(&env).await, ["00000000000000000000.log"]);
        });
        looked.join().await.expect("it ends by itself");
    };
    drop(Sim::new(1, SimConfig::default()).run(scenario));
}
