//! Power cuts, kills and other trouble at random and at every place that the product has marked.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quipu_sim::{Down, PowerCut, Report, Sim, SimConfig, World, run_seeds};
use rand::RngExt;

use crate::{
    server::End,
    setup::{Setup, seeds},
    trouble::{CRASH_POINTS, Ends, Trouble, is_crash_or_stop},
    world::Stage,
};

/// What a run came to.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    acknowledged: u64,
    power_cuts: u64,
    kills: u64,
    stops: u64,
    /// Starts that were cut off.
    recovery_crashes: u64,
}

impl Tally {
    fn of(stage: &Stage, ends: &Ends) -> Self {
        Self {
            acknowledged: stage.scene.history.acknowledged_count(),
            power_cuts: ends.count(|end, _| matches!(end, End::Down(Down::PowerCut))),
            kills: ends.count(|end, _| matches!(end, End::Down(Down::Killed))),
            stops: ends.count(|end, _| matches!(end, End::Stopped)),
            recovery_crashes: ends.count(|_, was_ready| !was_ready),
        }
    }
}

fn sum(reports: &[Report<Tally>]) -> Tally {
    reports.iter().map(|report| report.value).fold(Tally::default(), |sum, one| Tally {
        acknowledged: sum.acknowledged + one.acknowledged,
        power_cuts: sum.power_cuts + one.power_cuts,
        kills: sum.kills + one.kills,
        stops: sum.stops + one.stops,
        recovery_crashes: sum.recovery_crashes + one.recovery_crashes,
    })
}

async fn turbulence(world: World) -> Tally {
    let stage = Stage::new(&world, Setup::draw(&world));
    let ends = Ends::default();
    let care = async {
        tokio::select! { biased;
            () = stage.keep_up(&ends, is_crash_or_stop) => {}
            () = stage.trouble() => {}
        }
    };
    let sent = stage.play(care).await;
    stage.stop_and_look_again(&sent).await;
    Tally::of(&stage, &ends)
}

#[test]
fn whatever_ends_the_broker_what_was_acknowledged_is_there_once_and_in_order() {
    let seeds = seeds(1000..1200);
    let reports = run_seeds(&seeds, &SimConfig::default(), 2, turbulence).expect("no run fails");
    let tally = sum(&reports);
    let enough = tally.acknowledged > 10_000
        && tally.power_cuts > 100
        && tally.kills > 30
        && tally.stops > 5
        && tally.recovery_crashes > 20;
    assert!(enough, "{tally:?}");
    let mut marks = BTreeMap::new();
    for (name, count) in reports.iter().flat_map(|report| &report.marks) {
        *marks.entry(*name).or_insert(0) += count;
    }
    for name in ["broker.fetch.parked", "broker.shard.released", "checkpoint.sealed", "manifest.replaced"] {
        assert!(marks.contains_key(name), "no run came to {name}: {marks:?}");
    }
}

#[test]
fn turbulence_is_the_same_every_time() {
    let seeds = seeds(2000..2020);
    let hashes = |threads| {
        let reports = run_seeds(&seeds, &SimConfig::default(), threads, turbulence).expect("no run fails");
        reports.into_iter().map(|report| report.hash).collect::<Vec<_>>()
    };
    assert_eq!(hashes(1), hashes(2));
}

/// Ends the process at one crash point again and again, with kills in between so that recovery is come to as well.
async fn at_crash_point(world: World, name: &'static str) -> Tally {
    let stage = Stage::new(&world, Setup::draw(&world));
    let ends = Ends::default();
    let mut rng = world.rng("crash point");
    let care = async {
        let strikes = async {
            for _ in 0..3 {
                stage.strike(Trouble::CrashPoint(name, rng.random_range(0..3), rng.random())).await;
                stage.world.sleep(Duration::from_micros(rng.random_range(0..60_000))).await;
                stage.strike(if rng.random() { Trouble::Kill } else { Trouble::PowerCut }).await;
            }
            core::future::pending::<()>().await;
        };
        // The first crash point is set before the first start.
        tokio::select! { biased;
            () = strikes => {}
            () = stage.keep_up(&ends, is_crash_or_stop) => {}
        }
    };
    let sent = stage.play(care).await;
    stage.stop_and_look_again(&sent).await;
    Tally::of(&stage, &ends)
}

#[test]
fn every_crash_point_is_come_to_and_survived() {
    for name in CRASH_POINTS {
        let seeds = seeds(3000..3008);
        let scenario = |world| at_crash_point(world, name);
        let reports = run_seeds(&seeds, &SimConfig::default(), 2, scenario);
        let reports = reports.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        let crashes: u64 = reports.iter().filter_map(|report| report.crash_points.get(name)).sum();
        assert!(crashes > 0, "{name}: no run came to it");
    }
}

/// Ends that follow each other closely: start after start is cut off.
async fn crash_loop(world: World) -> Tally {
    let stage = Stage::new(&world, Setup::draw(&world));
    let ends = Ends::default();
    let mut rng = world.rng("loop");
    let care = async {
        let strikes = async {
            for _ in 0..40 {
                stage.world.sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
                stage.strike(if rng.random_range(0..4) == 0 { Trouble::Kill } else { Trouble::PowerCut }).await;
            }
            core::future::pending::<()>().await;
        };
        tokio::select! { biased;
            () = stage.keep_up(&ends, is_crash_or_stop) => {}
            () = strikes => {}
        }
    };
    let sent = stage.play(care).await;
    stage.stop_and_look_again(&sent).await;
    Tally::of(&stage, &ends)
}

#[test]
fn an_acknowledgement_before_the_sync_is_found_by_what_crashes_leave() {
    let config = SimConfig { planted: BTreeSet::from(["broker.acknowledge-unsynced"]), ..SimConfig::default() };
    let found =
        seeds(1000..1010).into_iter().filter(|seed| Sim::new(*seed, config.clone()).try_run(turbulence).is_err());
    assert!(found.count() >= 5, "half of all runs find it");
}

#[test]
fn a_crash_loop_loses_nothing() {
    let seeds = seeds(4000..4020);
    let reports = run_seeds(&seeds, &SimConfig::default(), 2, crash_loop).expect("no run fails");
    assert!(sum(&reports).recovery_crashes > 20, "{:?}", sum(&reports));
}

/// The power goes at the moment at which a client has an acknowledgement, or a record, and takes all that was not synced.
async fn cut_at_acknowledgements(world: World) -> Tally {
    let setup = Setup { power_cut: PowerCut::LoseAll, ..Setup::draw(&world) };
    let mut stage = Stage::new(&world, setup);
    stage.without_latency();
    let (node, heard) = (stage.server.node.clone(), AtomicU64::new(0));
    let every = world.rng("witness").random_range(20..60);
    stage.scene.witness = Arc::new(move |_, _| {
        if heard.fetch_add(1, Ordering::Relaxed) % every == every - 1 {
            node.power_cut();
        }
    });
    let ends = Ends::default();
    stage.play(stage.keep_up(&ends, is_crash_or_stop)).await;
    Tally::of(&stage, &ends)
}

#[test]
fn who_has_an_acknowledgement_or_a_record_has_it_for_good() {
    let seeds = seeds(5000..5030);
    let reports = run_seeds(&seeds, &SimConfig::default(), 2, cut_at_acknowledgements).expect("no run fails");
    assert!(sum(&reports).power_cuts > 100, "{:?}", sum(&reports));
}
