//! Time: monotonic for durations and deadlines, wall for what is told to people and stored in records.

use core::{
    fmt,
    future::Future,
    ops::{Add, Sub},
    pin::Pin,
    time::Duration,
};

use quipu_base::Timestamp;

/// A point on the monotonic clock: nanoseconds since an arbitrary moment before the process started. Never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since the clock's zero.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this point, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates after 584 years.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// Reads time and waits for it.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The future of [`Clock::sleep_until`].
    type Sleep: Sleep;

    /// The monotonic clock. Never goes back.
    fn now(&self) -> Instant;

    /// The wall clock. May step in either direction at any moment, so nothing may be timed by it.
    fn wall(&self) -> Timestamp;

    /// Ends at `deadline`, or at once if that has passed.
    fn sleep_until(&self, deadline: Instant) -> Self::Sleep;

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.sleep_until(self.now() + duration)
    }
}

/// A timer that can be set anew without being made anew.
pub trait Sleep: Future<Output = ()> + Send {
    /// Moves the deadline. A timer that has ended may be set again.
    fn reset(self: Pin<&mut Self>, deadline: Instant);
}
