//! Planted bugs, and how it is seen whether random schedules find them.

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use quipu_env::Probe;

/// Has at most one bug.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Planted(pub(super) Option<&'static str>);

impl Probe for Planted {
    fn event(&self, _name: &'static str, _fields: &[(&'static str, i64)]) {}

    fn sometimes(&self, _name: &'static str) {}

    fn buggify(&self, _name: &'static str) -> bool {
        false
    }

    fn planted(&self, name: &'static str) -> bool {
        self.0 == Some(name)
    }

    fn crash_point(&self, _name: &'static str) {}
}

/// Runs schedules until one fails. Whether one did.
pub(super) fn is_found<S: Strategy>(schedules: &S, cases: u32, run: impl Fn(S::Value)) -> bool {
    let config = Config { cases, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(schedules, |schedule| {
        run(schedule);
        Ok(())
    });
    match result {
        Ok(()) => false,
        Err(TestError::Fail(..)) => true,
        Err(error) => panic!("{error}"),
    }
}
