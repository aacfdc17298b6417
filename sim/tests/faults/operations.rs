//! Operations of a disk that fail, lie, or do half.

use std::io;

use quipu_env::{Disk, Env, File, OpenOptions, SyncError};
use quipu_sim::{Node, NodeConfig, SimEnv, World, env::SimFile, fault::Fault};

use crate::kit::{assert_bit, begin, content, durable, forgetful, on, open, run};

fn rule() -> (String, String, u64, u64) {
    ("a".to_owned(), "/f".to_owned(), 0, 1)
}

/// What a machine does on a durable file of 8 KiB of ones, under a fault.
async fn under<T, F>(
    world: &World,
    config: NodeConfig,
    fault: Fault,
    work: impl FnOnce(SimEnv, SimFile) -> F + Send + 'static,
) -> (Node, T)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let node = world.node("a", config);
    let in_world = world.clone();
    let value = on(&node, |env| async move {
        let file = durable(&env, "/f", vec![1; 8192]).await;
        begin(&in_world, fault);
        work(env, file).await
    })
    .await;
    (node, value)
}

async fn write(file: &SimFile, position: u64, byte: u8) -> io::Result<Result<(), SyncError>> {
    file.write_sync(position, vec![vec![byte; 4096].into()]).await
}

/// The two halves of the file, each as its first byte.
async fn halves(env: SimEnv) -> (u8, u8) {
    let bytes = content(&env, "/f").await.expect("it is durable");
    (bytes[0], bytes[4096])
}

#[test]
fn a_failed_sync_is_told_once_and_the_bytes_are_gone() {
    let report = run(|world| async move {
        let (node, below, skip, times) = rule();
        let fault = Fault::SyncFails { node, below, skip, times };
        let (node, outcomes) = under(&world, forgetful(), fault, |_, file| async move {
            let first = write(&file, 0, 2).await.expect("the write goes well").is_err();
            (first, file.sync_data().await.is_ok())
        })
        .await;
        assert_eq!(outcomes, (true, true), "the page is clean: a second sync has nothing to do");
        node.power_cut();
        node.power_cut();
        on(&node, halves).await
    });
    // Chance has let some of it reach the device, or nothing.
    assert!(report.value.1 == 1, "{:?}", report.value);
    assert_bit(&report, "sync-fails");
}

#[test]
fn a_lying_sync_shows_when_the_power_goes() {
    let report = run(|world| async move {
        let (node, below, skip, times) = rule();
        let fault = Fault::SyncLies { node, below, skip, times };
        let (node, outcome) =
            under(&world, forgetful(), fault, |_, file| async move { write(&file, 0, 2).await }).await;
        assert!(matches!(outcome, Ok(Ok(()))));
        node.power_cut();
        on(&node, halves).await
    });
    assert_eq!(report.value, (1, 1));
    assert_bit(&report, "sync-lies");
}

#[test]
fn reads_and_writes_fail_as_often_as_told() {
    let report = run(|world| async move {
        let (node, below, skip, _) = rule();
        let fault = Fault::ReadFails { node, below, skip: skip + 1, times: 2 };
        let (_, outcomes) = under(&world, NodeConfig::default(), fault, |_, file| async move {
            let mut outcomes = Vec::new();
            for _ in 0..4 {
                outcomes.push(file.read_at(0, 10).await.is_ok());
            }
            outcomes
        })
        .await;
        outcomes
    });
    assert_eq!(report.value, [true, false, false, true]);
    assert_bit(&report, "read-fails");
    let report = run(|world| async move {
        let (node, below, skip, times) = rule();
        let fault = Fault::WriteFails { node, below, skip, times };
        let (_, outcomes) = under(&world, NodeConfig::default(), fault, |env, file| async move {
            let outcomes = (write(&file, 0, 2).await.is_ok(), write(&file, 4096, 3).await.is_ok());
            (outcomes, halves(env).await)
        })
        .await;
        outcomes
    });
    assert_eq!(report.value, ((false, true), (1, 3)));
    assert_bit(&report, "write-fails");
}

#[test]
fn a_short_read_is_read_on_and_may_see_what_has_changed_meanwhile() {
    for direct in [false, true] {
        let report = run(|world| async move {
            let (node, below, skip, _) = rule();
            let fault = Fault::ShortRead { node, below, skip, times: 3 };
            let (_, read) = under(&world, NodeConfig::default(), fault, move |env, _| async move {
                let options = OpenOptions { direct, ..OpenOptions::READ };
                let file = env.disk().open("/f".as_ref(), options).await.expect("open");
                (file.read_at(0, 8192).await.expect("read"), file.read_at(4096, 8192).await.expect("read"))
            })
            .await;
            read
        });
        assert_eq!(report.value, (vec![1; 8192].into(), vec![1; 4096].into()));
        assert_bit(&report, "short-read");
    }
}

#[test]
fn a_phantom_write_is_seen_until_the_page_cache_goes() {
    let report = run(|world| async move {
        let (node, below, skip, times) = rule();
        let fault = Fault::PhantomWrite { node, below, skip, times };
        let (node, seen) = under(&world, NodeConfig::default(), fault, |env, file| async move {
            write(&file, 0, 2).await.expect("write").expect("sync");
            write(&file, 4096, 3).await.expect("write").expect("sync");
            let seen = halves(env.clone()).await;
            file.forget_cached(0, 8192).await;
            (seen, halves(env).await)
        })
        .await;
        assert_eq!(seen, ((2, 3), (1, 3)));
        node.power_cut();
        on(&node, halves).await
    });
    assert_eq!(report.value, (1, 3), "the other write was kept");
    assert_bit(&report, "phantom-write");
}

#[test]
fn a_phantom_write_is_not_durable_and_a_later_one_is() {
    run(|world| async move {
        let (node, below, skip, times) = rule();
        let fault = Fault::PhantomWrite { node, below, skip, times };
        let inside = world.clone();
        let (node, ()) = under(&world, NodeConfig::default(), fault, |_, file| async move {
            write(&file, 0, 2).await.expect("write").expect("sync");
            // Before the process ends, with which the page cache may forget what it shows.
            let node = inside.node_named("a").expect("it runs this");
            assert!(!node.is_durable("/f".as_ref(), 0..4096) && node.is_durable("/f".as_ref(), 4096..8192));
        })
        .await;
        on(&node, |env| async move {
            let file = open(&env, "/f").await.expect("open");
            write(&file, 0, 5).await.expect("write").expect("sync");
        })
        .await;
        assert!(node.is_durable("/f".as_ref(), 0..8192));
        node.power_cut();
        assert_eq!(on(&node, halves).await, (5, 1));
    });
}

#[test]
fn a_misdirected_write_damages_another_place() {
    let report = run(|world| async move {
        let (node, below, skip, times) = rule();
        let fault = Fault::MisdirectedWrite { node, below, skip, times, by_blocks: 3 };
        let (node, seen) = under(&world, forgetful(), fault, |env, file| async move {
            write(&file, 0, 2).await.expect("write").expect("sync");
            halves(env).await
        })
        .await;
        assert_eq!(seen, (2, 1), "the page cache shows nothing of it");
        node.power_cut();
        on(&node, halves).await
    });
    assert_eq!(report.value, (1, 2));
    assert_bit(&report, "misdirected-write");
}
