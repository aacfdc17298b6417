//! Clocks that are wrong.

use core::time::Duration;

use quipu_env::{Clock, Env};
use quipu_sim::{NodeConfig, Report, SimEnv, fault::Fault};

use crate::kit::{MILLISECOND, SECOND, assert_bit, begin, counts, on, run};

/// Both clocks, in milliseconds: monotonic from the first reading on, and wall from the true start on.
async fn readings(env: SimEnv, pauses: Vec<Duration>) -> Vec<(i64, i64)> {
    let (begun, wall) = (env.clock().now(), env.clock().wall().0);
    let mut seen = Vec::new();
    for pause in pauses {
        env.clock().sleep(pause).await;
        let passed = i64::try_from((env.clock().now() - begun).as_millis()).expect("a short run");
        seen.push((passed, env.clock().wall().0 - wall));
    }
    seen
}

/// The readings after 1 s, 2 s and 3 s of the machine's own time, of which the fault begins right after the first.
fn read(fault: Fault) -> Report<Vec<(i64, i64)>> {
    run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        let process = node.start(|env| readings(env, vec![SECOND; 3]));
        world.sleep(1500 * MILLISECOND).await;
        begin(&world, fault);
        process.join().await.expect("the process returns")
    })
}

fn assert_near(seen: &[(i64, i64)], expected: &[(i64, i64)]) {
    let near = |seen: i64, expected: i64| (seen - expected).abs() <= 2;
    let all = seen.iter().zip(expected).all(|(seen, expected)| near(seen.0, expected.0) && near(seen.1, expected.1));
    assert!(all && seen.len() == expected.len(), "{seen:?}, not {expected:?}");
}

#[test]
fn the_wall_clock_steps_either_way_and_the_other_goes_on() {
    for by_ms in [-5_000_000, 7000] {
        let report = read(Fault::ClockStep { node: "a".to_owned(), by_ms });
        assert_near(&report.value, &[(1000, 1000), (2000, 2000 + by_ms), (3000, 3000 + by_ms)]);
        assert_bit(&report, "clock-step");
    }
}

#[test]
fn a_skewed_wall_clock_comes_right_again() {
    let report = read(Fault::ClockSkew { node: "a".to_owned(), by_ms: -700, lasts_ms: 1000 });
    assert_near(&report.value, &[(1000, 1000), (2000, 1300), (3000, 3000)]);
    assert_bit(&report, "clock-skew");
}

#[test]
fn a_frozen_wall_clock_jumps_to_the_true_time_in_the_end() {
    let report = read(Fault::ClockFreeze { node: "a".to_owned(), lasts_ms: 1000 });
    assert_near(&report.value, &[(1000, 1000), (2000, 1500), (3000, 3000)]);
    assert_bit(&report, "clock-freeze");
}

#[test]
fn a_drifting_machine_lives_faster_or_slower_and_its_timers_with_it() {
    for (ppm, takes_ms) in [(1_000_000, 5000), (-500_000, 20_000), (0, 10_000)] {
        let report = run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            begin(&world, Fault::ClockDrift { node: "a".to_owned(), ppm, lasts_ms: 1_000_000 });
            let begun = world.elapsed();
            let seen = on(&node, |env| readings(env, vec![10 * SECOND])).await;
            assert_near(&seen, &[(10_000, 10_000)]);
            (world.elapsed() - begun).as_millis()
        });
        assert!(report.value.abs_diff(takes_ms) < 5, "{ppm}: {} ms", report.value);
        assert_bit(&report, "clock-drift");
    }
}

#[test]
fn a_timer_that_was_set_before_the_drift_never_ends_too_early() {
    for ppm in [-500_000, 900_000] {
        let report = run(|world| async move {
            let node = world.node("a", NodeConfig::default());
            let process = node.start(|env| readings(env, vec![SECOND, SECOND]));
            for _ in 0..5 {
                world.sleep(300 * MILLISECOND).await;
                begin(&world, Fault::ClockDrift { node: "a".to_owned(), ppm, lasts_ms: 150 });
            }
            process.join().await.expect("the process returns")
        });
        for ((passed, _), least) in report.value.iter().zip([1000, 2000]) {
            assert!(*passed >= least && *passed < least + 1000, "{:?}", report.value);
        }
        assert_eq!(counts(&report, "clock-drift").0, 5);
    }
}
