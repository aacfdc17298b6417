//! Pauses between attempts to connect: each twice as long as the one before, up to a maximum, give or take a fifth.

use core::time::Duration;

use quipu_env::Rng;
use rand::RngExt;

/// The pauses of one link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> Duration {
        let pause = self.base.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        jittered(pause, rng)
    }

    /// An attempt succeeded.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `pause`, give or take a fifth.
pub(crate) fn jittered(pause: Duration, rng: &mut Rng) -> Duration {
    pause.saturating_mul(rng.random_range(800..=1200)) / 1000
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum_give_or_take_a_fifth() {
        let mut rng = Rng::seed_from_u64(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for round in 0..2 {
            for expected_ms in [100, 200, 400, 800, 1000, 1000, 1000] {
                let pause = backoff.next(&mut rng).as_millis();
                assert!((expected_ms * 4 / 5..=expected_ms * 6 / 5).contains(&pause), "{round}: {pause} ms");
            }
            backoff.reset();
        }
    }
}
