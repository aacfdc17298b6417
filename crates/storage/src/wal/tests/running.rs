//! Without crashes.

use core::time::Duration;
use std::sync::Arc;

use quipu_env::{Clock, Env, Task as _};
use quipu_sim::{
    Down, Node, NodeConfig, PowerCut, Sim, SimConfig, SimEnv, World,
    disk::{Fault, FaultRule},
    fault::Fault as SimFault,
};

use super::kit::*;
use crate::wal::{Class, FrameKind, GroupSequence, ScanMode, WalFull, WalOptions, format::group_bytes};

fn on_node<F, T>(seed: u64, config: NodeConfig, main: impl FnOnce(SimEnv) -> F + Send) -> T
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let report = Sim::new(seed, SimConfig::default()).run(|world| async move {
        let node = world.node("a", config);
        node.start(main).join().await.unwrap()
    });
    report.value
}

#[test]
fn frames_come_back_in_order_after_a_clean_stop() {
    on_node(1, NodeConfig::default(), |env| async move {
        let mut expected = Vec::new();
        for life in 0..4_u64 {
            let recovered = scan(&env, ScanMode::Recover).await;
            assert_eq!(recovered.numbers(), expected);
            assert!(recovered.end.cut.is_empty() && recovered.end.damage.is_empty());
            let (wal, sink, superblock) = go_on(&env, recovered, options()).await;
            let numbers: Vec<u64> = (life * 100..life * 100 + 40).collect();
            for number in &numbers {
                let ticket = wal.submit(frame(*number, usize::try_from(*number % 700).unwrap()));
                if number % 3 == 0 {
                    wait_durable(&wal, ticket).await;
                }
            }
            stop(&env, wal, superblock).await;
            assert_eq!(sink.numbers(), numbers);
            expected.extend(numbers);
        }
    });
}

#[test]
fn groups_form_while_others_are_in_flight_and_a_proof_follows() {
    on_node(2, NodeConfig::default(), |env| async move {
        let (wal, sink, _superblock) = start(&env).await;
        let first = wal.submit(frame(0, 10));
        env.clock().sleep(Duration::from_micros(5)).await;
        let mut last = first;
        for number in 1..100 {
            last = wal.submit(frame(number, 10));
        }
        wait_durable(&wal, last).await;
        let groups: Vec<usize> = sink.groups.lock().unwrap().iter().map(|(_, frames)| frames.len()).collect();
        assert!(groups.len() < 5, "frames that come meanwhile share a group: {groups:?}");
        assert_eq!(groups.iter().sum::<usize>(), 100);
        // Then it goes quiet, and an empty group proves the last one.
        env.clock().sleep(Duration::from_millis(20)).await;
        let recovered = scan(&env, ScanMode::Inspect).await;
        let last = recovered.groups.last().unwrap();
        assert!(last.frames.is_empty() && last.synced_up_to == last.sequence.previous());
        let count = recovered.groups.len();
        env.clock().sleep(Duration::from_millis(200)).await;
        assert_eq!(scan(&env, ScanMode::Inspect).await.groups.len(), count, "a proof needs no proof");
    });
}

#[test]
fn it_goes_round_when_checkpoints_cover_it() {
    on_node(3, NodeConfig::default(), |env| async move {
        let (wal, sink, superblock) = start(&env).await;
        let mut number = 0;
        for round in 0..40 {
            let mut last = wal.last_ticket();
            for _ in 0..10 {
                let permit = wal.reserve_space(3000, Class::Normal).await.unwrap();
                last = wal.submit(frame(number, 2992));
                drop(permit);
                number += 1;
            }
            wait_durable(&wal, last).await;
            let (covered, _) = *sink.groups.lock().unwrap().last().unwrap();
            if round % 2 == 1 {
                write_covered(&env, covered).await;
                wal.recycle_below(covered.next());
                assert_eq!(wal.space().used, 0);
            }
        }
        assert!(wal.space().total == 4 * FILE_BYTES);
        stop(&env, wal, superblock).await;
        assert_eq!(sink.numbers().len(), 400);
        assert_eq!(scan(&env, ScanMode::Recover).await.numbers(), Vec::<u64>::new());
    });
}

#[test]
fn who_waits_for_space_gets_it_from_a_checkpoint() {
    on_node(4, NodeConfig::default(), |env| async move {
        let (wal, sink, _superblock) = start(&env).await;
        let writer = {
            let (wal, env) = (wal.clone(), env.clone());
            env.clone().spawn(quipu_env::ShardId(1), "producer", async move {
                for number in 0..200 {
                    let permit = wal.reserve_space(7008, Class::Normal).await.unwrap();
                    let ticket = wal.submit(frame(number, 7000));
                    drop(permit);
                    if number == 199 {
                        wait_durable(&wal, ticket).await;
                    }
                }
            })
        };
        let checkpoint = {
            let (wal, env, sink) = (wal.clone(), env.clone(), Arc::clone(&sink));
            env.clone().spawn(quipu_env::ShardId(1), "checkpoint", async move {
                loop {
                    wal.pressure().await;
                    let last = sink.groups.lock().unwrap().last().map(|(group, _)| *group);
                    if let Some(covered) = last {
                        write_covered(&env, covered).await;
                        wal.recycle_below(covered.next());
                    }
                    env.clock().sleep(Duration::from_micros(100)).await;
                    // Groups may have become durable since, with nobody to press for them.
                    let last = sink.groups.lock().unwrap().last().map(|(group, _)| *group);
                    if let Some(covered) = last {
                        wal.recycle_below(covered.next());
                    }
                }
            })
        };
        writer.join().await;
        checkpoint.abort();
        assert_eq!(sink.numbers(), (0..200).collect::<Vec<u64>>());
    });
}

#[test]
fn a_full_log_keeps_a_reserve_and_says_so() {
    on_node(5, NodeConfig::default(), |env| async move {
        let (wal, sink, _superblock) = start(&env).await;
        wal.set_stuck(true);
        let mut number = 0;
        let full = loop {
            match wal.reserve_space(4096, Class::Normal).await {
                Ok(permit) => {
                    wal.submit(frame(number, 4088));
                    drop(permit);
                    number += 1;
                }
                Err(full) => break full,
            }
        };
        assert_eq!(full, WalFull::DiskFull);
        assert!(number >= 8, "{number} frames fit");
        assert_eq!(
            wal.reserve_space(70_000, Class::Normal).await.unwrap_err(),
            WalFull::TooLong { payload_bytes: 70_000 }
        );
        let permit = wal.reserve_space(4096, Class::Reserve).await.unwrap();
        let ticket = wal.submit(frame(number, 4088));
        drop(permit);
        wait_durable(&wal, ticket).await;
        // Deletes and a checkpoint later, it goes on.
        wal.set_stuck(false);
        let (covered, _) = *sink.groups.lock().unwrap().last().unwrap();
        wal.recycle_below(covered.next());
        drop(wal.reserve_space(4096, Class::Normal).await.unwrap());
    });
}

#[test]
fn a_full_disk_stops_growth_and_growth_comes_back() {
    let mut config = NodeConfig::default();
    config.disk.capacity_bytes = Some(200 * 1024);
    let report = Sim::new(6, SimConfig::default()).run(|world| async move {
        let node = world.node("a", config);
        let process = node.start(|env| async move {
            let (wal, _sink, _superblock) = start(&env).await;
            wal.set_stuck(true);
            let mut permits = Vec::new();
            let full = loop {
                match wal.reserve_space(4096, Class::Normal).await {
                    Ok(permit) => permits.push(permit),
                    Err(full) => break full,
                }
            };
            assert_eq!(full, WalFull::DiskFull);
            assert_eq!(wal.space().total, FILE_BYTES, "it has no more than the first file");
            env.clock().sleep(Duration::from_secs(10)).await;
            // The disk is larger by now.
            permits.push(wal.reserve_space(4096, Class::Normal).await.unwrap());
            assert_eq!(wal.space().total, 4 * FILE_BYTES);
        });
        world.sleep(Duration::from_secs(3)).await;
        node.with_disk(|disk| disk.set_capacity(None));
        process.join().await
    });
    assert_eq!(report.value, Ok(()));
}

/// A log that needs another file while `trouble` keeps it from having one says so, goes on, and gets it later. What it then writes
/// there survives the power.
fn outlives(trouble: impl FnOnce(&World, &Node) + Send) {
    let frames = 24;
    let config = NodeConfig { power_cut: PowerCut::LoseAll, ..NodeConfig::default() };
    let report = Sim::new(12, SimConfig::default()).run(|world| async move {
        let node = world.node("a", config);
        let process = node.start(move |env| async move {
            let (wal, _sink, _superblock) = start(&env).await;
            env.clock().sleep(Duration::from_millis(20)).await;
            // No checkpoint frees anything: only another file helps.
            wal.set_stuck(true);
            let mut permits = Vec::new();
            let full = loop {
                match wal.reserve_space(4096, Class::Normal).await {
                    Ok(permit) => permits.push(permit),
                    Err(full) => break full,
                }
            };
            assert_eq!(full, WalFull::DiskFull);
            env.clock().sleep(Duration::from_secs(5)).await;
            let mut last = wal.last_ticket();
            permits.clear();
            for number in 0..frames {
                permits.push(wal.reserve_space(2048, Class::Normal).await.unwrap());
                last = wal.submit(frame(number, 2000));
                permits.clear();
            }
            wait_durable(&wal, last).await;
            assert!(wal.space().total > FILE_BYTES);
            core::future::pending::<()>().await;
        });
        world.sleep(Duration::from_millis(10)).await;
        trouble(&world, &node);
        world.sleep(Duration::from_secs(10)).await;
        assert!(node.is_up(), "{:?}", process.join().await);
        node.power_cut();
        node.start(|env| async move { scan(&env, ScanMode::Recover).await.numbers() }).join().await.unwrap()
    });
    assert_eq!(report.value, (0..frames).collect::<Vec<u64>>());
}

#[test]
fn descriptors_at_their_limit_stop_growth_and_nothing_else() {
    let few = |lasts_ms| SimFault::FewDescriptors { node: "a".into(), spare: 0, lasts_ms };
    outlives(|world, _| world.begin(&few(3000)).unwrap());
    // One is there when the file is made, and none when its directory is to be opened.
    outlives(|world, _| {
        let one = SimFault::FewDescriptors { node: "a".into(), spare: 1, lasts_ms: 3000 };
        world.begin(&one).unwrap();
    });
}

/// The file that lost its name is not given to the writer, and neither is another one under that name.
#[test]
fn a_file_whose_name_could_not_be_synced_is_made_anew() {
    // The new file's zeros are synced, then its directory.
    outlives(|_, node| node.inject(FaultRule::next(Fault::SyncFails).below("/data/wal").after(1)));
}

#[test]
fn long_frames_are_announced() {
    let megabyte = 1024 * 1024;
    let options = WalOptions { file_bytes: 64 * megabyte, total_bytes: 128 * megabyte, ..options() };
    on_node(7, NodeConfig::default(), |env| async move {
        let recovered = scan(&env, ScanMode::Recover).await;
        let (wal, sink, superblock) = go_on(&env, recovered, options).await;
        let mut last = wal.last_ticket();
        for (number, length) in [(0, 100), (1, 12 << 20), (2, 100), (3, 9 << 20), (4, 100)] {
            let permit = wal.reserve_space(length + 8, Class::Normal).await.unwrap();
            last = wal.submit(frame(number, length));
            drop(permit);
        }
        wait_durable(&wal, last).await;
        stop(&env, wal, superblock).await;
        assert_eq!(sink.numbers(), [0, 1, 2, 3, 4]);
        let recovered = scan(&env, ScanMode::Recover).await;
        assert_eq!(recovered.numbers(), [0, 1, 2, 3, 4]);
        let long = group_bytes(1, (12 << 20) + 8) as u64;
        let at = recovered.groups.iter().position(|group| group.length == long).expect("a group of its own");
        assert!(at >= 2 && recovered.groups[at - 2..at].iter().all(|group| group.frames.is_empty()));
    });
}

#[test]
fn a_failed_sync_stops_the_process() {
    for (fault, what) in [(Fault::SyncFails, "sync of"), (Fault::WriteFails, "write failed")] {
        let down = Sim::new(8, SimConfig::default()).run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            let process = node.start(|env| async move {
                let (wal, _sink, _superblock) = start(&env).await;
                let ticket = wal.submit(frame(0, 10));
                wait_durable(&wal, ticket).await;
                env.clock().sleep(Duration::from_millis(50)).await;
                let ticket = wal.submit(frame(1, 10));
                wait_durable(&wal, ticket).await;
            });
            world.sleep(Duration::from_millis(30)).await;
            node.inject(FaultRule::next(fault).below("/data/wal"));
            process.join().await.unwrap_err()
        });
        let Down::Halted { why, message } = down.value else { panic!("{:?}", down.value) };
        assert_eq!(why.exit_status(), 74);
        assert!(message.contains("/data/wal/0000") && message.contains(what), "{message}");
    }
}

#[test]
fn frames_without_payload_and_other_kinds_come_back() {
    on_node(9, NodeConfig::default(), |env| async move {
        let (wal, _sink, superblock) = start(&env).await;
        let mut frame = frame(3, 0);
        frame.kind = FrameKind::PartitionDelete;
        let ticket = wal.submit(frame);
        wait_durable(&wal, ticket).await;
        let last = stop(&env, wal, superblock).await;
        assert_eq!(last, GroupSequence(1), "a clean stop needs no proof in the log");
        let recovered = scan(&env, ScanMode::Recover).await;
        assert_eq!(recovered.groups[0].frames[0].kind, FrameKind::PartitionDelete);
        assert_eq!(recovered.superblock.synced_up_to, last);
    });
}
