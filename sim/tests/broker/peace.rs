//! Nothing fails: the broker runs in the world at all, and the same seed is the same run.

use quipu_sim::{Report, Sim, SimConfig, World, run_seeds};

use crate::{
    server::End,
    setup::{Setup, seeds},
    world::Stage,
};

/// Records acknowledged.
async fn peace(world: World) -> u64 {
    let stage = Stage::new(&world, Setup::draw(&world));
    let process = stage.server.start();
    let sent = stage
        .play(async {
            let end: End = process.ended().await;
            panic!("the broker ended: {end}");
        })
        .await;
    stage.stop_and_look_again(&sent).await;
    stage.scene.history.acknowledged_count()
}

fn run(seed: u64) -> Report<u64> {
    Sim::new(seed, SimConfig { keep_trace: true, ..SimConfig::default() }).run(peace)
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in [0, 1, 77] {
        let (once, again) = (run(seed), run(seed));
        let traces = (once.trace.expect("kept"), again.trace.expect("kept"));
        if let Some(at) = traces.0.iter().zip(&traces.1).position(|(left, right)| left != right) {
            panic!("seed {seed}: event {at} is {:?} once and {:?} another time", traces.0[at], traces.1[at]);
        }
        assert_eq!((once.hash, once.event_count, once.value), (again.hash, again.event_count, again.value));
        assert!(once.event_count > 500 && once.value >= 10, "{} events, {} records", once.event_count, once.value);
    }
}

#[test]
fn seeds_are_the_same_one_by_one_and_on_two_threads_and_differ_among_each_other() {
    let seeds = seeds(100..130);
    let hashes = |threads| {
        let reports = run_seeds(&seeds, &SimConfig::default(), threads, peace).expect("no run fails");
        reports.into_iter().map(|report| report.hash).collect::<Vec<_>>()
    };
    let one_by_one = hashes(1);
    assert_eq!(one_by_one, hashes(2));
    let mut distinct = one_by_one;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), seeds.len());
}
