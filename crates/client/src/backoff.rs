//! Pauses before retries: each twice as long as the one before, up to a maximum, give or take a fifth (KIP-580).

use core::time::Duration;

use quipu_env::Rng;
use rand::RngExt;

/// The pauses of one thing that is tried again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The pause after this many failures, at least 1 of them.
    pub(crate) fn pause(self, failures: u32, rng: &mut Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let pause = self.base.saturating_mul(1 << doublings).min(self.max);
        pause.saturating_mul(rng.random_range(800..=1200)) / 1000
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum_give_or_take_a_fifth() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut rng = Rng::seed_from_u64(7);
        for (failures, expected_ms) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (u32::MAX, 1000)] {
            for _ in 0..50 {
                let pause = backoff.pause(failures, &mut rng).as_millis();
                assert!((expected_ms * 4 / 5..=expected_ms * 6 / 5).contains(&pause), "{failures}: {pause} ms");
            }
        }
    }
}
