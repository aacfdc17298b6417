//! Disks that rot, are full, slow, or exchanged.

use std::io::ErrorKind;

use quipu_env::{Disk, Env, File};
use quipu_sim::{Down, NodeConfig, fault::Fault};

use crate::kit::{MILLISECOND, SECOND, assert_bit, begin, content, counts, durable, forever, on, open, run, timed};

fn node() -> String {
    "a".to_owned()
}

#[test]
fn bits_rot_where_they_are_told_to() {
    let report = run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        on(&node, |env| async move {
            env.disk().create_dir_all("/d/e".as_ref()).await.expect("make");
            for path in ["/d/b", "/d/e/c", "/x"] {
                drop(durable(&env, path, vec![0; 4096]).await);
            }
        })
        .await;
        // The second file below /d, half way through it.
        let (below, file, place_ppm) = ("/d".to_owned(), 3, 500_000);
        begin(&world, Fault::BitRot { node: "a".to_owned(), below, file, place_ppm, bits: 2 });
        on(&node, |env| async move {
            let mut damaged: Vec<Vec<usize>> = Vec::new();
            for path in ["/d/b", "/d/e/c", "/x"] {
                let bytes = content(&env, path).await.expect("it is there");
                damaged.push(bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect());
            }
            damaged
        })
        .await
    });
    assert_eq!(report.value, [vec![], vec![2048, 2560], Vec::<usize>::new()]);
    assert_eq!(counts(&report, "bit-rot"), (1, 2));
}

#[test]
fn sectors_are_unreadable_until_they_are_written() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        on(&machine, |env| async move { drop(durable(&env, "/f", vec![1; 8192]).await) }).await;
        let (below, file, place_ppm) = ("/".to_owned(), 0, 0);
        begin(&world, Fault::Unreadable { node: node(), below, file, place_ppm, sectors: 2 });
        on(&machine, |env| async move {
            let file = open(&env, "/f").await.expect("open");
            let bad = file.read_at(0, 8192).await.is_err();
            let good = file.read_at(1024, 4096).await.is_ok();
            file.write_at(0, vec![vec![2; 1024].into()]).await.expect("write");
            (bad, good, file.read_at(0, 8192).await.is_ok())
        })
        .await
    });
    assert_eq!(report.value, (true, true, true));
    assert_bit(&report, "unreadable");
}

#[test]
fn a_full_disk_takes_little_and_then_again_everything() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        let in_world = world.clone();
        on(&machine, |env| async move {
            let file = durable(&env, "/f", vec![1; 4096]).await;
            begin(&in_world, Fault::FullDisk { node: node(), free_bytes: 8192, lasts_ms: 1000 });
            let space = env.disk().space("/".as_ref()).await.expect("space").0;
            let full = file.write_at(4096, vec![vec![1; 20_000].into()]).await.map_err(|error| error.kind());
            let named = open(&env, "/g").await.map(drop).map_err(|error| error.kind());
            quipu_env::Clock::sleep(env.clock(), SECOND).await;
            (space, full, named, file.write_at(4096, vec![vec![1; 20_000].into()]).await.is_ok())
        })
        .await
    });
    assert_eq!(report.value, (8192, Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull), true));
    assert_bit(&report, "full-disk");
}

#[test]
fn a_stalled_disk_answers_in_the_end_and_a_slow_one_late() {
    let took = |fault: Fault| {
        let kind = fault.kind();
        let report = run(|world| async move {
            let machine = world.node("a", NodeConfig::default());
            let in_world = world.clone();
            on(&machine, |env| async move {
                let file = durable(&env, "/f", vec![1; 4096]).await;
                begin(&in_world, fault);
                let slow = timed(&env, file.sync_data()).await.1;
                in_world.heal();
                (slow, timed(&env, file.sync_data()).await.1)
            })
            .await
        });
        assert_bit(&report, kind);
        let (slow, healed) = report.value;
        assert!(healed < 5 * MILLISECOND, "{kind}: {healed:?}");
        slow
    };
    let stalled = took(Fault::DiskStall { node: node(), lasts_ms: 3000 });
    assert!(stalled >= 3 * SECOND && stalled < 3 * SECOND + 5 * MILLISECOND, "{stalled:?}");
    let slow = took(Fault::SlowDisk { node: node(), factor: 1000, lasts_ms: 60_000 });
    assert!(slow >= 45 * MILLISECOND && slow < 2 * SECOND, "{slow:?}");
}

#[test]
fn a_wiped_disk_is_empty_and_works() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        let process = machine.start(|env| async move {
            drop(durable(&env, "/f", vec![1; 4096]).await);
            let _lock = env.disk().lock("/lock".as_ref()).await.expect("lock");
            forever().await;
        });
        world.sleep(SECOND).await;
        begin(&world, Fault::WipedDisk { node: node(), down_ms: 1 });
        assert_eq!(process.join().await, Err(Down::PowerCut));
        on(&machine, |env| async move {
            let left = env.disk().list("/".as_ref()).await.expect("list").len();
            let _lock = env.disk().lock("/lock".as_ref()).await.expect("lock");
            drop(durable(&env, "/f", vec![2; 10]).await);
            (left, content(&env, "/f").await)
        })
        .await
    });
    assert_eq!(report.value, (0, Some(vec![2; 10])));
    assert_bit(&report, "wiped-disk");
}

#[test]
fn a_stale_snapshot_knows_what_was_durable_when_the_fault_began() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        let in_world = world.clone();
        let process = machine.start(|env| async move {
            drop(durable(&env, "/before", vec![1; 10]).await);
            begin(&in_world, Fault::StaleSnapshot { node: node(), age_ms: 1000, down_ms: 1, new_id: false });
            drop(durable(&env, "/after", vec![2; 10]).await);
            forever().await;
        });
        assert_eq!(process.join().await, Err(Down::PowerCut));
        assert!(world.elapsed() >= SECOND);
        on(&machine, |env| async move { (content(&env, "/before").await, content(&env, "/after").await) }).await
    });
    assert_eq!(report.value, (Some(vec![1; 10]), None));
    assert_bit(&report, "stale-snapshot");
}
