//! Processes that end, wait, or are slow.

use core::time::Duration;

use quipu_env::{Clock, Disk, Env, File, Probe, ShardId};
use quipu_sim::{
    Down, NodeConfig, PowerCut, SimEnv,
    fault::{Fault, How, Moment, Place},
};
use rand::RngExt;

use crate::kit::{MILLISECOND, SECOND, assert_bit, begin, content, counts, forever, forgetful, on, open, run};

fn node() -> String {
    "a".to_owned()
}

async fn write_for_ever(env: SimEnv) {
    let mut rng = env.rng("names");
    loop {
        let file = open(&env, &format!("/{:x}", rng.random::<u64>())).await.expect("open");
        env.probe().crash_point("opened");
        file.write_at(0, vec![vec![1; 3000].into()]).await.expect("write");
        env.probe().crash_point("written");
        env.clock().sleep(MILLISECOND).await;
    }
}

#[test]
fn a_crash_loop_kills_each_process_that_is_started() {
    let report = run(|world| async move {
        let node = world.node("a", forgetful());
        drop(node.start(write_for_ever));
        world.sleep(SECOND).await;
        begin(&world, Fault::Kill { node: "a".to_owned(), down_ms: 100, times: 3, up_ms: 50 });
        for round in 0..3 {
            assert_eq!(node.wait_down().await, Down::Killed, "round {round}");
            world.sleep(SECOND / 10).await;
            drop(node.start(write_for_ever));
        }
        world.sleep(SECOND).await;
        assert!(node.is_up(), "three times only");
        begin(&world, Fault::Kill { node: "a".to_owned(), down_ms: 100, times: 9, up_ms: 50 });
        drop(node.start(write_for_ever));
        world.heal();
        world.sleep(SECOND).await;
        assert!(node.is_up(), "a healed loop is over");
    });
    assert_eq!(counts(&report, "kill"), (2, 4));
}

#[test]
fn a_kill_keeps_the_page_cache_and_a_power_cut_what_it_is_told_to() {
    let left = |fault: Fault| {
        let report = run(|world| async move {
            let machine = world.node("a", NodeConfig::default());
            drop(machine.start(write_for_ever));
            world.sleep(SECOND / 10).await;
            begin(&world, fault);
            assert!(!machine.is_up());
            on(&machine, |env| async move { env.disk().list("/".as_ref()).await.expect("list").len() }).await
        });
        let begun: u64 = ["kill", "power-cut"].iter().map(|kind| counts(&report, kind).1).sum();
        assert_eq!(begun, 1);
        report.value
    };
    let cut = |keep| Fault::PowerCut { node: node(), down_ms: 1, keep, torn_sectors: false, garbage_tails: false };
    assert!(left(Fault::Kill { node: node(), down_ms: 1, times: 1, up_ms: 0 }) > 10);
    let all = left(cut(PowerCut::KeepAll));
    assert!(all > 10);
    assert_eq!(left(cut(PowerCut::LoseAll)), 0);
    assert!((1..all).contains(&left(cut(PowerCut::Pages))), "each name by the toss of a coin");
}

#[test]
fn power_cuts_tear_sectors_leave_garbage_and_lose_names_only_if_told_to() {
    for (torn_sectors, garbage_tails) in [(true, true), (false, false)] {
        let report = run(|world| async move {
            let machine = world.node("a", NodeConfig::default());
            for _ in 0..30 {
                drop(machine.start(write_for_ever));
                world.sleep(SECOND / 20).await;
                let keep = PowerCut::Random;
                begin(&world, Fault::PowerCut { node: node(), down_ms: 1, keep, torn_sectors, garbage_tails });
            }
        });
        assert_eq!(counts(&report, "power-cut"), (30, 30));
        for lost in ["lost-sector", "lost-length", "lost-name"] {
            assert!(counts(&report, lost).1 > 10, "{lost}: {:?}", report.faults);
        }
        assert_eq!(counts(&report, "torn-sector").1 > 0, torn_sectors, "{:?}", report.faults);
        assert_eq!(counts(&report, "garbage-tail").1 > 0, garbage_tails, "{:?}", report.faults);
    }
}

#[test]
fn several_machines_may_lose_their_power_at_once() {
    run(|world| async move {
        let machines = ["a", "b", "c"].map(|name| world.node(name, forgetful()));
        for machine in &machines {
            drop(machine.start(|_| forever()));
        }
        for name in ["a", "b"] {
            let (keep, torn_sectors, garbage_tails) = (PowerCut::Random, true, true);
            begin(&world, Fault::PowerCut { node: name.to_owned(), down_ms: 1, keep, torn_sectors, garbage_tails });
        }
        assert_eq!(machines.map(|machine| machine.is_up()), [false, false, true]);
    });
}

#[test]
fn a_renamed_file_has_its_old_name_after_a_power_cut() {
    run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        drop(machine.start(|env| async move {
            drop(crate::kit::durable(&env, "/old", b"text".to_vec()).await);
            env.disk().rename("/old".as_ref(), "/new".as_ref()).await.expect("rename");
            forever().await;
        }));
        world.sleep(SECOND).await;
        let (keep, torn_sectors, garbage_tails) = (PowerCut::LoseAll, false, false);
        begin(&world, Fault::PowerCut { node: node(), down_ms: 1, keep, torn_sectors, garbage_tails });
        let found = on(&machine, |env| async move { (content(&env, "/old").await, content(&env, "/new").await) }).await;
        assert_eq!(found, (Some(b"text".to_vec()), None));
    });
}

#[test]
fn power_is_lost_in_recovery_from_its_loss_three_deep() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        let again =
            vec![Place::Disk { at: 4, moment: Moment::Before }, Place::Point { name: "opened".to_owned(), skip: 1 }];
        let fault =
            Fault::CrashAt { node: node(), point: "wri*".to_owned(), skip: 5, how: How::PowerCut, down_ms: 1, again };
        begin(&world, fault);
        for _ in 0..3 {
            assert_eq!(machine.start(write_for_ever).join().await, Err(Down::PowerCut));
        }
        drop(machine.start(write_for_ever));
        world.sleep(SECOND).await;
        assert!(machine.is_up());
    });
    assert_eq!(counts(&report, "crash-at"), (1, 3));
    assert_eq!((report.crash_points["written"], report.crash_points["opened"]), (1, 1));
    assert!(report.crash_points_passed["written"] > 6, "{:?}", report.crash_points_passed);
}

#[test]
fn a_crash_point_may_kill_and_is_forgotten_when_all_is_healed() {
    run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        let crash = || Fault::CrashAt {
            node: node(),
            point: "opened".to_owned(),
            skip: 0,
            how: How::Kill,
            down_ms: 1,
            again: Vec::new(),
        };
        begin(&world, crash());
        assert_eq!(machine.start(write_for_ever).join().await, Err(Down::Killed));
        begin(&world, crash());
        world.heal();
        drop(machine.start(write_for_ever));
        world.sleep(SECOND).await;
        assert!(machine.is_up());
    });
}

#[test]
fn the_power_goes_at_a_change_of_the_disk() {
    let report = run(|world| async move {
        let machine = world.node("a", forgetful());
        begin(&world, Fault::CrashAtDisk { node: node(), at: 7, moment: Moment::After, down_ms: 1, again: Vec::new() });
        assert_eq!(machine.start(write_for_ever).join().await, Err(Down::PowerCut));
    });
    assert_bit(&report, "crash-at-disk");
}

/// Ticks every 10 ms, by two tasks.
async fn tick(env: SimEnv) {
    for (shard, name) in [(ShardId(0), "tick.a"), (ShardId(1), "tick.b")] {
        let ticking = env.clone();
        drop(env.spawn(shard, name, async move {
            loop {
                ticking.probe().event(name, &[]);
                ticking.clock().sleep(10 * MILLISECOND).await;
            }
        }));
    }
    forever().await;
}

/// How often each of the two ticked in the second in which the fault lasts, and in the next.
fn ticks(fault: Fault) -> ([usize; 2], [usize; 2]) {
    let kind = fault.kind();
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        drop(machine.start(tick));
        world.sleep(SECOND).await;
        begin(&world, fault);
        world.sleep(2 * SECOND).await;
    });
    assert_bit(&report, kind);
    let count = |name: &str, second: u128| {
        let own = report.probe_events.iter().filter(|event| event.name == name);
        own.filter(|event| Duration::from_nanos(event.at).as_millis() / 1000 == second).count()
    };
    (["tick.a", "tick.b"].map(|name| count(name, 1)), ["tick.a", "tick.b"].map(|name| count(name, 2)))
}

#[test]
fn a_paused_process_does_nothing_and_a_stalled_task_alone() {
    let (during, after) = ticks(Fault::Pause { node: node(), lasts_ms: 1000 });
    assert_eq!(during, [0, 0]);
    assert!(after.iter().all(|count| *count > 90), "{after:?}");
    let (during, after) = ticks(Fault::StallTask { node: node(), task: "tick".to_owned(), index: 3, lasts_ms: 1000 });
    assert!(during[0] > 90 && during[1] == 0, "{during:?}");
    assert!(after.iter().all(|count| *count > 90), "{after:?}");
}

#[test]
fn a_slow_processor_makes_tasks_of_one_shard_wait_for_each_other() {
    let slow = |step_us| ticks(Fault::SlowCpu { node: node(), step_us, lasts_ms: 1000 });
    let (during, after) = slow(20_000);
    assert!(during.iter().all(|count| (30..=51).contains(count)), "{during:?}");
    assert!(after.iter().all(|count| *count > 90), "{after:?}");
}

#[test]
fn an_orderly_stop_is_the_scenarios_to_do() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        drop(machine.start(write_for_ever));
        begin(&world, Fault::Stop { node: node(), down_ms: 1 });
        world.sleep(SECOND / 10).await;
        assert!(machine.is_up());
    });
    assert_eq!(counts(&report, "stop"), (1, 0));
}

#[test]
fn a_new_process_is_not_paused_and_a_machine_remembers_that_it_is_slow() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        drop(machine.start(tick));
        begin(&world, Fault::Pause { node: node(), lasts_ms: 100_000 });
        world.sleep(SECOND).await;
        machine.kill();
        drop(machine.start(tick));
        world.sleep(SECOND).await;
    });
    assert!(report.probe_events.len() > 150, "{}", report.probe_events.len());
}
