//! Directories whose files do not belong together: refused, and left as they are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use quipu_base::ClusterId;
use quipu_env::OpenOptions;
use quipu_sim::{Node, NodeConfig, Sim, SimConfig, SimEnv, World, disk::KeepAll};
use quipu_storage::{LogOptions, OpenError, Store, VerifyError, verify};

use crate::driver::{DIR, Driver, small_options};

fn simulate<F, S>(scenario: F)
where
    F: FnOnce(World) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    drop(Sim::new(7, SimConfig::default()).run(scenario));
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// A directory with something in every kind of file, of which all or only a part is in segments. Then the process ends.
async fn write(node: &Node, clean: bool) {
    write_with(node, clean, true).await;
}

async fn write_with(node: &Node, clean: bool, checkpoint: bool) {
    let process = node.start(move |env| async move {
        let options = LogOptions { segment_bytes: 1000, ..LogOptions::default() };
        let mut driver = Driver::open(env, small_options(), options, Arc::default()).await;
        for number in 0..10 {
            driver.append(number % 4, 0, None, &[vec![7; 500]]).await;
        }
        driver.acknowledge().await;
        if checkpoint {
            driver.store.checkpoint().await.expect("a checkpoint");
        }
        driver.append(0, 0, None, &[vec![8; 500]]).await;
        driver.acknowledge().await;
        driver.store.set_cluster_id(ClusterId([1; 16])).await.expect("stored");
        if clean {
            driver.store.close().await.expect("closes");
        }
    });
    process.join().await.expect("the process comes to its end");
}

fn contents(node: &Node, name: &str) -> Bytes {
    node.with_disk(|disk| disk.contents(&path(name))).expect("the file is there").into()
}

fn put(node: &Node, name: &str, bytes: &Bytes) {
    node.with_disk(|disk| {
        let options = OpenOptions { truncate: true, ..OpenOptions::CREATE };
        let file = disk.open(&path(name), options).expect("the file can be made");
        disk.write(&file, 0, std::slice::from_ref(bytes)).expect("there is room");
        disk.sync(&file, &mut KeepAll).expect("no fault is set");
        disk.close(file);
    });
}

async fn open(node: &Node) -> Result<(), OpenError> {
    let process = node.start(|env: SimEnv| async move { Store::open(env, small_options()).await.map(drop) });
    process.join().await.expect("the process comes to its end")
}

/// Every file of another directory in the place of the own one, after a clean stop and after a crash.
#[test]
fn files_of_another_directory_are_refused() {
    for clean in [true, false] {
        simulate(move |world| async move {
            let [own, other] = ["own", "other"].map(|name| world.node(name, NodeConfig::default()));
            write(&own, clean).await;
            write(&other, clean).await;
            for name in ["superblock", "manifest", "wal/0000"] {
                let right = contents(&own, name);
                let wrong = contents(&other, name);
                assert_ne!(right, wrong, "{name}: two directories have nothing in common");
                put(&own, name, &wrong);
                assert_refused(&own, &path(if name == "superblock" { "manifest" } else { name })).await;
                assert_eq!(contents(&own, name), wrong, "{name}: a refused directory is left as it is");
                put(&own, name, &right);
            }
            open(&own).await.expect("with its own files it opens");
        });
    }
}

async fn assert_refused(node: &Node, named: &Path) {
    let error = open(node).await.expect_err("its files do not belong together");
    assert_eq!(error.exit_status(), 78, "{error}");
    assert!(error.to_string().contains(&named.display().to_string()), "{error}");
    let verified = node.start(|env: SimEnv| async move { verify(&env, Path::new(DIR)).await });
    let error = verified.join().await.expect("the process comes to its end").expect_err("it cannot be read");
    assert_eq!(error.exit_status(), 78, "{error}");
    assert!(matches!(&error, VerifyError::Mixed { path } if path == named), "{error}");
}

/// The log is gone, or an empty file is in its place: nothing in it says that it held anything, but the superblock does. With its
/// log back the directory opens.
#[test]
fn a_log_that_is_gone_is_missed() {
    for checkpoint in [true, false] {
        simulate(move |world| async move {
            let node = world.node("node", NodeConfig::default());
            write_with(&node, false, checkpoint).await;
            let log = contents(&node, "wal/0000");
            let zeros = Bytes::from(vec![0; log.len()]);
            for spoil in [None, Some(zeros)] {
                let superblock = contents(&node, "superblock");
                match &spoil {
                    None => node.with_disk(|disk| disk.remove(&path("wal/0000"))).expect("the file is there"),
                    Some(zeros) => put(&node, "wal/0000", zeros),
                }
                let error = open(&node).await.expect_err("what was acknowledged is not there");
                assert_eq!(error.exit_status(), 65, "{error}");
                assert!(error.to_string().contains("wal"), "{error}");
                assert_eq!(contents(&node, "superblock"), superblock, "a refused directory is left as it is");
                put(&node, "wal/0000", &log);
            }
            open(&node).await.expect("with its log it opens");
        });
    }
}

/// After a clean stop nothing of the log is needed.
#[test]
fn a_log_that_is_covered_may_be_gone() {
    simulate(|world| async move {
        let node = world.node("node", NodeConfig::default());
        write(&node, true).await;
        node.with_disk(|disk| disk.remove(&path("wal/0000"))).expect("the file is there");
        open(&node).await.expect("the segments have it all");
    });
}
