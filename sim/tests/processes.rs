//! How processes start and end, and what is left of them.

use core::{future::pending, time::Duration};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quipu_env::{Clock, Disk, Env, Fatal, File, OpenOptions, Probe, ShardId};
use quipu_sim::{
    Down, NodeConfig, PowerCut, Sim, SimConfig, SimEnv,
    disk::{Count, CrashPlan, Fault, FaultRule, Moment},
};
use rand::Rng as _;

const SECOND: Duration = Duration::from_secs(1);

fn sim(seed: u64) -> Sim {
    Sim::new(seed, SimConfig::default())
}

fn forgetful() -> NodeConfig {
    NodeConfig { power_cut: PowerCut::LoseAll, ..NodeConfig::default() }
}

/// A durable file and one that isn't; then waits for ever.
async fn write_two(env: SimEnv) {
    env.disk().create_dir_all(Path::new("/data")).await.expect("make");
    env.disk().sync_dir(Path::new("/")).await.expect("sync");
    for (name, durable) in [("/data/durable", true), ("/data/not", false)] {
        let file = env.disk().open(Path::new(name), OpenOptions::CREATE).await.expect("open");
        file.write_at(0, vec![Bytes::from_static(b"bytes")]).await.expect("write");
        if durable {
            file.sync_data().await.expect("sync");
            env.disk().sync_dir(Path::new("/data")).await.expect("sync");
        }
    }
    env.probe().event("written", &[("files", 2)]);
    pending::<()>().await;
}

async fn names(env: SimEnv) -> Vec<String> {
    env.disk().list(Path::new("/data")).await.expect("list")
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_a_kill_does_not() {
    let report = sim(1).run(|world| async move {
        let node = world.node("a", forgetful());
        let process = node.start(write_two);
        world.sleep(SECOND).await;
        assert!(node.is_up() && node.is_durable(Path::new("/data/durable"), 0..5));
        assert!(!node.is_durable(Path::new("/data/not"), 0..5));
        node.kill();
        assert_eq!(process.join().await, Err(Down::Killed));
        assert_eq!(node.start(names).join().await, Ok(vec!["durable".to_owned(), "not".to_owned()]));
        assert_eq!(node.wait_down().await, Down::Exited);
        node.power_cut();
        assert_eq!(node.start(names).join().await, Ok(vec!["durable".to_owned()]));
    });
    assert_eq!(report.probe_events.len(), 1);
    assert_eq!((report.probe_events[0].name, &report.probe_events[0].fields[..]), ("written", &[("files", 2)][..]));
}

#[test]
fn the_power_goes_at_the_chosen_operation_of_the_disk() {
    sim(2).run(|world| async move {
        let node = world.node("a", forgetful());
        // Make, sync, make, write: the third change is the first file's creation.
        node.crash_at_disk_operation(CrashPlan { count: Count::Changes, at: 2, moment: Moment::After });
        assert_eq!(node.start(write_two).join().await, Err(Down::PowerCut));
        assert_eq!(node.start(names).join().await, Ok(vec![]));
    });
}

/// Tells a probe when it is dropped.
struct TellsDrop(SimEnv, Arc<Mutex<u32>>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        self.0.probe().event("dropped", &[]);
        self.0.probe().sometimes("dropped");
        *self.1.lock().expect("not poisoned") += 1;
    }
}

#[test]
fn a_halt_ends_every_task_and_nothing_of_the_process_acts_any_more() {
    let drops = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&drops);
    let report = sim(3).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        let process = node.start(|env| async move {
            for shard in [ShardId(0), ShardId(1)] {
                let guard = TellsDrop(env.clone(), Arc::clone(&seen));
                let waiting = env.clone();
                drop(env.spawn(shard, "waits", async move {
                    waiting.clock().sleep(SECOND * 10).await;
                    waiting.probe().event("too late", &[]);
                    drop(guard);
                }));
            }
            let _guard = TellsDrop(env.clone(), seen);
            env.clock().sleep(SECOND).await;
            env.halt(Fatal::WalSync, "the sync of wal/1 failed");
        });
        let down = process.join().await;
        let halted = Down::Halted { why: Fatal::WalSync, message: "the sync of wal/1 failed".to_owned() };
        assert_eq!(down, Err(halted));
        world.sleep(SECOND * 20).await;
        assert!(!node.is_up());
        assert_eq!(node.start(|env| async move { env.shard_count() }).join().await, Ok(2));
    });
    assert_eq!(*drops.lock().expect("not poisoned"), 3, "every task was dropped");
    assert!(report.probe_events.is_empty() && report.marks.is_empty(), "{:?}", report.probe_events);
}

#[test]
fn a_crash_point_ends_the_process_where_it_stands() {
    let report = sim(4).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        node.crash_at("between", 2, Down::PowerCut);
        let work = |env: SimEnv| async move {
            for round in 0..5 {
                env.probe().event("round", &[("number", round)]);
                env.probe().crash_point("between");
            }
        };
        assert_eq!(node.start(work).join().await, Err(Down::PowerCut));
        assert_eq!(node.start(work).join().await, Ok(()));
    });
    let rounds: Vec<i64> = report.probe_events.iter().map(|event| event.fields[0].1).collect();
    assert_eq!(rounds, [0, 1, 2, 0, 1, 2, 3, 4]);
}

#[test]
fn a_panic_fails_the_run_and_tells_the_seed() {
    let failed = sim(5).try_run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        let process = node.start(|env| async move {
            drop(env.spawn(ShardId(1), "panics", async { panic!("an invariant is broken") }));
            pending::<()>().await;
        });
        process.join().await
    });
    let failure = failed.map(|_| ()).expect_err("it panicked");
    assert_eq!((failure.seed, &failure.message[..]), (5, "an invariant is broken"));
}

#[test]
fn a_run_without_end_fails() {
    let config = SimConfig { time_limit: SECOND, ..SimConfig::default() };
    let endless = Sim::new(6, config).try_run(|world| async move { world.sleep(SECOND * 3600).await });
    assert!(endless.expect_err("an hour is more than a second").message.contains("time limit"));
    let deadlocked = sim(6).try_run(|_| pending::<()>());
    assert!(deadlocked.expect_err("nothing can happen").message.contains("block forever"));
}

#[test]
fn clocks_are_a_process_or_a_nodes_own() {
    sim(7).run(|world| async move {
        let nodes = [world.node("a", NodeConfig::default()), world.node("b", NodeConfig::default())];
        let clocks = |env: SimEnv| async move {
            let (now, wall) = (env.clock().now(), env.clock().wall().0);
            env.clock().sleep(SECOND).await;
            (now, env.clock().now() - now, env.clock().wall().0 - wall, wall)
        };
        nodes[1].set_wall_offset_ms(-5000);
        let mut seen = Vec::new();
        for node in [&nodes[0], &nodes[0], &nodes[1]] {
            seen.push(node.start(clocks).join().await.expect("it returns"));
        }
        for (_, passed, wall_passed, _) in &seen {
            assert!(*passed >= SECOND && *passed < SECOND * 2, "{passed:?}");
            assert!((1000..1010).contains(wall_passed), "{wall_passed}");
        }
        let gap = seen[1].3 - seen[0].3;
        assert!((1000..1010).contains(&gap), "the wall clock goes on between processes: {gap}");
        let skewed = seen[2].3 - seen[1].3;
        assert!((-4000..-3990).contains(&skewed), "{skewed}");
        assert!(seen[0].0 != seen[1].0 && seen[0].0 + SECOND != seen[1].0, "each process has its own zero");
    });
}

#[test]
fn one_streams_draws_never_shift_anothers() {
    let draw = |others: bool| {
        let report = sim(8).run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            let process = node.start(move |env| async move {
                if others {
                    env.rng("other").next_u64();
                    env.rng("other").next_u64();
                }
                (env.rng("mine").next_u64(), env.rng("mine").next_u64())
            });
            process.join().await.expect("it returns")
        });
        report.value
    };
    assert_eq!(draw(false), draw(true));
    assert_ne!(draw(false).0, draw(false).1);
}

#[test]
fn a_paused_process_does_nothing_until_it_is_resumed() {
    let report = sim(9).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        drop(node.start(|env| async move {
            loop {
                env.probe().sometimes("tick");
                env.clock().sleep(Duration::from_millis(100)).await;
            }
        }));
        world.sleep(SECOND).await;
        node.pause();
        world.sleep(SECOND * 10).await;
        node.resume();
        world.sleep(SECOND).await;
    });
    let ticks = report.marks["tick"];
    assert!((18..=23).contains(&ticks), "{ticks}");
}

#[test]
fn bugs_and_oddities_are_switched_on_by_the_run() {
    let asked = |config: SimConfig, seed| {
        let report = Sim::new(seed, config).run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            let process = node.start(|env| async move {
                let odd = (0..200).filter(|_| env.probe().buggify("odd")).count();
                (env.probe().planted("bug"), env.probe().planted("another"), odd)
            });
            process.join().await.expect("it returns")
        });
        report.value
    };
    assert_eq!(asked(SimConfig::default(), 1), (false, false, 0));
    let config = SimConfig { planted: ["bug"].into(), buggify: true, ..SimConfig::default() };
    let odd: Vec<usize> = (0..40).map(|seed| asked(config.clone(), seed)).map(|answer| answer.2).collect();
    assert!(asked(config, 1).0);
    assert!(odd.contains(&0), "in most runs a place is switched off");
    assert!(odd.iter().any(|count| (20..80).contains(count)), "{odd:?}");
}

#[test]
fn a_failed_sync_keeps_the_path_as_it_was_given() {
    sim(10).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        node.inject(FaultRule::next(Fault::SyncFails).below("f"));
        let process = node.start(|env| async move {
            let file = env.disk().open(Path::new("./f"), OpenOptions::CREATE).await.expect("open");
            file.write_sync(0, vec![Bytes::from_static(b"x")]).await.expect("the write succeeds").err()
        });
        let error = process.join().await.expect("it returns").expect("the sync fails");
        assert_eq!(error.path, Path::new("./f"));
    });
}

#[test]
fn a_stalled_disk_answers_later() {
    sim(11).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        node.stall_disk(SECOND * 3);
        let process = node.start(|env| async move {
            let begun = env.clock().now();
            env.disk().list(Path::new("/")).await.expect("list");
            env.clock().now() - begun
        });
        let took = process.join().await.expect("it returns");
        assert!(took >= SECOND * 3 && took < SECOND * 4, "{took:?}");
    });
}

#[test]
fn nothing_of_a_run_outlives_it() {
    let held = Arc::new(());
    for ends_early in [false, true] {
        let inside = Arc::clone(&held);
        sim(12).run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            drop(node.start(|env| async move {
                let (timer, disk, forever) = (Arc::clone(&inside), Arc::clone(&inside), inside);
                let (waiting, reading) = (env.clone(), env.clone());
                drop(env.spawn(ShardId(1), "waits", async move {
                    waiting.clock().sleep(SECOND * 1000).await;
                    drop(timer);
                }));
                drop(env.spawn(ShardId(0), "reads", async move {
                    while reading.disk().list(Path::new("/")).await.is_ok() {}
                    drop(disk);
                }));
                pending::<()>().await;
                drop(forever);
            }));
            world.sleep(SECOND / 100).await;
            if ends_early {
                node.power_cut();
            }
        });
        assert_eq!(Arc::strong_count(&held), 1, "tasks of the run still hold something");
    }
}
