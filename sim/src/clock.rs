//! The clocks of one machine: right, or set wrong, drifting, or standing.
//!
//! A pure machine over the run's time. Local time is what the machine takes for the time since the run began; both its clocks
//! follow it. Local time never goes back and never stands; the wall clock may do both.

use std::collections::BTreeMap;

/// The wall clock when a run begins: 2027-01-15 08:00:00 UTC.
const WALL_START_MS: i64 = 1_800_000_000_000;
const MILLION: u128 = 1_000_000;

/// See the module. Faults have numbers, by which they end.
#[derive(Default)]
pub(crate) struct NodeClock {
    /// When the rate last changed, in the run's time and in local time.
    origin: u64,
    local_origin: u64,
    /// Millionths by which local time is too fast.
    drifts: BTreeMap<u64, i64>,
    /// Milliseconds that the wall clock is ahead for good.
    pub(crate) offset_ms: i64,
    skews: BTreeMap<u64, i64>,
    /// What the wall clock shows while it stands.
    freezes: BTreeMap<u64, i64>,
}

impl NodeClock {
    /// Local nanoseconds that pass in a million.
    fn rate(&self) -> u128 {
        let drift: i64 = self.drifts.values().sum();
        u128::from(1_000_000_i64.saturating_add(drift).clamp(100_000, 10_000_000).unsigned_abs())
    }

    /// Local time, and whether it drifts.
    pub(crate) fn local(&self, now: u64) -> (u64, bool) {
        if self.drifts.is_empty() {
            return (self.local_origin + (now - self.origin), false);
        }
        let passed = u128::from(now - self.origin) * self.rate() / MILLION;
        (self.local_origin + u64::try_from(passed).expect("a run is shorter than 58 years"), true)
    }

    /// When local time will have come to `local`, as far as can be told now, in the run's time.
    pub(crate) fn run_time(&self, local: u64) -> u64 {
        let ahead = local.saturating_sub(self.local_origin);
        if self.drifts.is_empty() {
            return self.origin.saturating_add(ahead);
        }
        let passed = (u128::from(ahead) * MILLION).div_ceil(self.rate());
        self.origin.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX / 2))
    }

    /// The wall clock, and the kind of fault that it shows, if it does.
    pub(crate) fn wall(&self, now: u64) -> (i64, Option<&'static str>) {
        if let Some(stands_at) = self.freezes.values().next() {
            return (*stands_at, Some("clock-freeze"));
        }
        let (local, drifts) = self.local(now);
        let skew: i64 = self.skews.values().sum();
        let elapsed_ms = i64::try_from(local / 1_000_000).expect("a run is shorter than 584 years");
        let fault = match (skew, self.offset_ms, drifts) {
            (1.., _, _) | (..0, _, _) => Some("clock-skew"),
            (0, 1.., _) | (0, ..0, _) => Some("clock-step"),
            (0, 0, true) => Some("clock-drift"),
            (0, 0, false) => None,
        };
        (WALL_START_MS.saturating_add(elapsed_ms).saturating_add(self.offset_ms).saturating_add(skew), fault)
    }

    pub(crate) fn step(&mut self, by_ms: i64) {
        self.offset_ms = self.offset_ms.saturating_add(by_ms);
    }

    pub(crate) fn skew(&mut self, number: u64, by_ms: i64) {
        self.skews.insert(number, by_ms);
    }

    pub(crate) fn drift(&mut self, now: u64, number: u64, ppm: i64) {
        self.rebase(now);
        self.drifts.insert(number, ppm);
    }

    pub(crate) fn freeze(&mut self, now: u64, number: u64) {
        let stands_at = self.wall(now).0;
        self.freezes.insert(number, stands_at);
    }

    /// Ends what has that number.
    pub(crate) fn end(&mut self, now: u64, number: u64) {
        if self.drifts.contains_key(&number) {
            self.rebase(now);
            self.drifts.remove(&number);
        }
        self.skews.remove(&number);
        self.freezes.remove(&number);
    }

    fn rebase(&mut self, now: u64) {
        (self.origin, self.local_origin) = (now, self.local(now).0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn local_time_goes_on_evenly_at_whatever_rate() {
        let mut clock = NodeClock::default();
        clock.drift(10 * SECOND, 1, 500_000);
        assert_eq!(clock.local(10 * SECOND), (10 * SECOND, true));
        assert_eq!(clock.local(12 * SECOND).0, 13 * SECOND);
        assert_eq!(clock.run_time(13 * SECOND), 12 * SECOND);
        clock.drift(12 * SECOND, 2, -1_000_000);
        assert_eq!(clock.local(14 * SECOND).0, 14 * SECOND);
        clock.end(14 * SECOND, 1);
        clock.end(14 * SECOND, 2);
        assert_eq!(clock.local(15 * SECOND), (15 * SECOND, false));
        assert_eq!(clock.run_time(20 * SECOND), 20 * SECOND);
    }

    #[test]
    fn run_time_is_never_before_local_time_has_come() {
        let mut clock = NodeClock::default();
        for (number, ppm) in [(1, 7), (2, -123_457), (3, 333_333)] {
            clock.drift(number, number, ppm);
            for local in (0..5000).map(|step| 1000 + step * 777) {
                assert!(clock.local(clock.run_time(local)).0 >= local, "{ppm} {local}");
            }
        }
    }

    #[test]
    fn the_wall_clock_may_be_wrong_in_three_ways_at_once() {
        let mut clock = NodeClock::default();
        assert_eq!(clock.wall(SECOND), (WALL_START_MS + 1000, None));
        clock.step(-5000);
        assert_eq!(clock.wall(SECOND), (WALL_START_MS - 4000, Some("clock-step")));
        clock.skew(1, 100);
        assert_eq!(clock.wall(SECOND), (WALL_START_MS - 3900, Some("clock-skew")));
        clock.freeze(SECOND, 2);
        assert_eq!(clock.wall(9 * SECOND), (WALL_START_MS - 3900, Some("clock-freeze")));
        clock.end(9 * SECOND, 2);
        clock.end(9 * SECOND, 1);
        assert_eq!(clock.wall(9 * SECOND).0, WALL_START_MS + 4000);
    }
}
